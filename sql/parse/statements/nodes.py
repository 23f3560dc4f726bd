"""The statements about nodes of the cluster, as parsed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class NodeCommand:
    """SHOW NODES; ALTER NODE id DRAIN | DECOMMISSION | RECOMMISSION."""

    action: str
    """show, drain, decommission, recommission."""
    node_id: int = 0
