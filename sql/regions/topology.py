"""The nodes of the cluster and the regions they are in, as SQL sees them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from base.errors import SqlError
from planner.schema import DatabaseDesc

if TYPE_CHECKING:
    from sql.session import Session

Locality = tuple[tuple[str, str], ...]
"""Tiers from the widest: (("region", "eu-west"), ("zone", "a"))."""


class NodePlace(NamedTuple):
    """One node of the cluster."""

    node_id: int
    locality: Locality
    is_live: bool = True


class NodeStatus(NamedTuple):
    """One node as an operator sees it."""

    node_id: int
    address: str
    """host:port for other nodes."""
    sql_address: str
    locality: Locality
    is_live: bool
    state: str
    """active, draining, decommissioning, decommissioned."""
    replicas: int
    leases: int | None
    """None where the node does not say."""


class RangePlace(NamedTuple):
    """Where one range is."""

    range_id: int
    start: bytes
    end: bytes
    size_bytes: int | None
    """None where no replica of it is here to count."""
    leaseholder: int | None
    """None while nobody holds the lease, or says so in time."""
    voters: tuple[int, ...]
    non_voters: tuple[int, ...] = ()


class NodesApi:
    """What the node answers about the nodes of the cluster and does with them; alone, as here, nothing."""

    async def status(self) -> list[NodeStatus]:
        """Returns every node, by id."""
        return []

    async def drain(self, node_id: int) -> None:
        """Lets a node hand everything over and stop."""
        raise SqlError("this node is not part of a cluster", sqlstate="55000")

    async def decommission(self, node_id: int) -> int:
        """Begins to send a node away, or goes on; returns the replicas it still has, 0 once it is gone."""
        raise SqlError("this node is not part of a cluster", sqlstate="55000")

    async def recommission(self, node_id: int) -> None:
        """Takes back a node that is being sent away."""
        raise SqlError("this node is not part of a cluster", sqlstate="55000")


def region_of(locality: Locality) -> str:
    """Returns the region, "" if none was named."""
    return dict(locality).get("region", "")


def zone_of(locality: Locality) -> str:
    """Returns the tier below the region, "" if there is none: zone, az, rack, whatever it is called."""
    below = [value for key, value in locality if key != "region"]
    return below[0] if below else ""


def locality_text(locality: Locality) -> str:
    """Returns a locality as ``--locality`` takes it."""
    return ",".join(f"{key}={value}" for key, value in locality)


def zones_by_region(nodes: Iterable[NodePlace]) -> dict[str, tuple[str, ...]]:
    """Returns the regions that nodes are in, sorted, each with the names of its zones."""
    found: dict[str, dict[str, None]] = {}
    for node in nodes:
        region = region_of(node.locality)
        if region:
            zones = found.setdefault(region, {})
            if zone_of(node.locality):
                zones[zone_of(node.locality)] = None
    return {region: tuple(sorted(found[region])) for region in sorted(found)}


def require_region(nodes: Iterable[NodePlace], region: str) -> None:
    """Raises 42704 for a region that no node is in."""
    known = zones_by_region(nodes)
    if region not in known:
        hint = (
            f"Regions of the cluster: {', '.join(known)}."
            if known
            else "Start nodes with --locality region=.. to give the cluster regions."
        )
        raise SqlError(f'region "{region}" does not exist', sqlstate="42704", detail="No node is in it.", hint=hint)


def own_database(session: Session) -> DatabaseDesc:
    """Returns the session's database."""
    desc = session.state().by_id[session.database_id]
    assert isinstance(desc, DatabaseDesc), desc
    return desc
