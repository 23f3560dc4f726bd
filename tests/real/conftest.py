"""What tests of several real nodes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.nodes import Nodes


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Nodes to start; what still runs at the end is killed."""
    found = Nodes(tmp_path)
    yield found
    for node in found.running.values():
        node.process.kill()
        node.process.wait()
