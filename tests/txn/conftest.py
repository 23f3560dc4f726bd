"""Runs a test on the model of a store and on the real one."""

from __future__ import annotations

import pytest

from tests.txn.stories import STORES, World


@pytest.fixture(params=list(STORES))
def each_store(request):
    """Every World of the test is on this kind of store."""
    World.kind = request.param
    yield request.param
    World.kind = "model"
