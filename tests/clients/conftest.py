"""One node for all client tests, one database for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.node_process import RunningNode, fresh_database, running_node


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node on RocksDB that trusts its clients; its log must hold no internal error at the end."""
    with running_node(tmp_path_factory.mktemp("node"), "--insecure") as running:
        yield running
        text = running.log.read_text()
        assert "internal error" not in text, text[text.index("internal error") :][:4000]


@pytest.fixture(scope="module")
def dsn(node: RunningNode, request: pytest.FixtureRequest) -> str:
    """An empty database named after the test module."""
    return fresh_database(node, request.module.__name__.rsplit(".", 1)[-1])
