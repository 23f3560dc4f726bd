"""Workloads under concurrency, per isolation level: what must hold holds, and the harness has teeth.

Against PostgreSQL this proves the harness: SERIALIZABLE is clean, REPEATABLE READ shows
write skew, READ COMMITTED shows more.  Against a node it proves the node.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from random import Random

import pytest

from .clients import Run, Workload, run_workload
from .servers import SERVERS, Server, make_directory, missing_reason
from .workloads import G2, MODELS, WORKLOADS, Bank, ListAppend, LongFork, Set

SECONDS = 1.0
SERIALIZABLE, REPEATABLE_READ, READ_COMMITTED = MODELS


def running(name: str) -> Iterator[Server]:
    """Yields a fresh server, or skips with the reason."""
    reason = missing_reason(name)
    if reason is not None:
        pytest.skip(reason)
    directory = make_directory(f"meridian-{name}-")
    fresh = SERVERS[name](directory)
    fresh.start()
    yield fresh
    fresh.stop()
    shutil.rmtree(directory, ignore_errors=True)


OK_MIN = 20
"""Transactions a history must hold to say something."""
SECONDS_MAX = 20.0


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each kind of server in turn."""
    yield from running(request.param)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    yield from running("postgresql")


def judged(server: Server, workload: Workload, level: str, clients: int = 8, seed: int = 1) -> Run:
    """Runs and checks; the history must hold work and no hang."""
    seconds = SECONDS
    while True:
        run = run_workload(server.dsn, workload, level, clients, seconds, seed)
        if run.count("ok") >= OK_MIN or seconds >= SECONDS_MAX:
            break
        # A slow machine needs longer to do something worth judging.
        seconds *= 3
    assert run.hangs == []
    assert run.count("ok") >= OK_MIN, f"{run.errors=}"
    verdict = workload.check(run.history, level)
    assert verdict.valid is True, f"{verdict}\n{run.errors=}"
    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKLOADS)
def test_serializable(server: Server, name: str):
    judged(server, WORKLOADS[name](), SERIALIZABLE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["list-append", "rw-register", "bank", "long-fork", "register", "set", "queue"])
def test_repeatable_read_is_snapshot_isolation(server: Server, name: str):
    workload = Bank(balance=1_000) if name == "bank" else WORKLOADS[name]()
    judged(server, workload, REPEATABLE_READ)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["list-append", "rw-register", "register", "set", "queue"])
def test_read_committed_keeps_its_promises(server: Server, name: str):
    """No dirty, aborted or intermediate read; and no serialization failure (PostgreSQL 13.2.1)."""
    run = judged(server, WORKLOADS[name](), READ_COMMITTED)
    assert "40001" not in run.errors


@pytest.mark.slow
def test_appends_made_by_the_client_are_not_lost(server: Server):
    """SELECT, then UPDATE to the new whole: lost updates are prevented from REPEATABLE READ on."""
    for level in (SERIALIZABLE, REPEATABLE_READ):
        judged(server, ListAppend(client_side=True), level, seed=2)


@pytest.mark.slow
def test_many_connections(server: Server):
    judged(server, ListAppend(keys=12), SERIALIZABLE, clients=32, seed=3)


def shown(server: Server, workload: Workload, level: str, judge_as: str) -> set[str]:
    """Runs until the checker of a stronger level finds something; returns what."""
    for seed in range(10):
        run = run_workload(server.dsn, workload, level, 8, 1.0, seed)
        verdict = workload.check(run.history, judge_as)
        if verdict.valid is False:
            return set(verdict.anomalies)
    return set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "make, level, expected",
    [
        (ListAppend, REPEATABLE_READ, {"G2-item"}),
        (G2, REPEATABLE_READ, {"G2"}),
        (ListAppend, READ_COMMITTED, {"G-single", "G2-item", "internal", "G-nonadjacent"}),
        (lambda: ListAppend(client_side=True), READ_COMMITTED, {"incompatible-order"}),
        (Bank, READ_COMMITTED, {"wrong-total"}),
        (LongFork, READ_COMMITTED, {"long-fork"}),
        (G2, READ_COMMITTED, {"G2"}),
    ],
)
def test_the_harness_has_teeth(postgres: Server, make: type[Workload], level: str, expected: set[str]):
    """On PostgreSQL, levels below SERIALIZABLE let through what their definition says."""
    assert shown(postgres, make(), level, SERIALIZABLE) & expected


def test_requests_are_reproducible():
    """The same seed asks the same."""
    for make in WORKLOADS.values():
        one, other = make(), make()
        first, second = Random(5), Random(5)
        assert [one.next(first, 0) for _ in range(50)] == [other.next(second, 0) for _ in range(50)]
    assert Set.name in WORKLOADS
