"""The isolation levels by scripts: what each prevents, and what PostgreSQL lets through.

For the cases that a level prevents both servers must prevent them; those a level allows
must happen in PostgreSQL (so that the scripts can fail) and may happen in a node.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from .hermitage import CASES, FAILED_STATES, Case, Outcome, run_case
from .servers import SERVERS, Server, make_directory, missing_reason

LEVELS = ("serializable", "repeatable read", "read committed")

FAILS_IN_READ_COMMITTED = ("uniqueness by reading",)
"""Its second insert must fail: 23505."""


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    reason = missing_reason(request.param)
    if reason is not None:
        pytest.skip(reason)
    directory = make_directory("meridian-hermitage-")
    running = SERVERS[request.param](directory)
    running.start()
    yield running
    running.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(server: Server, case: Case, level: str):
    outcome = run_case(server.dsn, case, level)
    if level not in case.allowed:
        assert not case.happened(outcome), f"{case.story} {outcome}"
    elif server.name == "postgresql":
        assert case.happened(outcome), f"the script shows nothing: {outcome}"
    _check_failures(case, level, outcome)


def _check_failures(case: Case, level: str, outcome: Outcome) -> None:
    """Failures are serialization failures; READ COMMITTED has none; somebody always gets through."""
    assert outcome.committed, f"everybody failed: {outcome}"
    if level == "read committed":
        expected = ("23505",) if case.name in FAILS_IN_READ_COMMITTED else ()
    else:
        expected = (*FAILED_STATES, "23505")
    assert set(outcome.states.values()) <= set(expected), outcome
