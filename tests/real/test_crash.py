"""Durability: the harness sees the lies of the tiny writer, and finds none in the servers."""

from __future__ import annotations

import pytest

from . import power_loss
from .crash import Told, compare, run_cycles
from .servers import missing_reason
from .targets import parts_of, payload_of

CYCLES = 6
SERVER_CYCLES = 3
"""Few, for every start takes seconds; ``python -m tests.real.crash`` runs hundreds."""


def needs_shim() -> None:
    reason = power_loss.missing_reason()
    if reason is not None:
        pytest.skip(reason)


def rows(transaction: int, count: int | None = None) -> dict[int, str]:
    return {part: payload_of(transaction, part) for part in range(parts_of(transaction) if count is None else count)}


def told(**fates: int) -> Told:
    """Transaction 3, of four rows, had this fate."""
    known = Told(next_transaction=4)
    for fate in fates:
        getattr(known, fate)[3] = 0
    return known


@pytest.mark.parametrize(
    "fate, found, problem",
    [
        ("acknowledged", rows(3), None),
        ("acknowledged", {}, "lost"),
        ("acknowledged", rows(3, 2), "torn or changed"),
        ("acknowledged", rows(3) | {1: "other"}, "torn or changed"),
        ("refused", {}, None),
        ("refused", rows(3, 1), "appeared"),
        ("unknown", {}, None),
        ("unknown", rows(3), None),
        ("unknown", rows(3, 3), "torn"),
    ],
)
def test_comparison(fate: str, found: dict[int, str], problem: str | None):
    problems = compare(told(**{fate: 1}), {3: found} if found else {}, {}, 3)
    assert len(problems) == (problem is not None)
    assert problem is None or problem in problems[0]


def test_an_unknown_outcome_must_stay_as_it_was_found():
    """Neither may a write come back after a second crash, nor may it go."""
    for before, after in (({}, {3: rows(3)}), ({3: rows(3)}, {})):
        known = told(unknown=1)
        assert compare(known, before, {}, 3) == []
        assert len(compare(known, after, {}, 3)) == 1


def test_progress_is_compared():
    """The worker's row and the rows of its transactions commit together."""
    known = told(acknowledged=1)
    assert compare(known, {3: rows(3)}, {0: 3}, 3) == []
    assert "but 3 is there" in compare(known, {3: rows(3)}, {0: 2}, 3)[0]
    assert any("not there" in problem for problem in compare(told(unknown=1), {}, {0: 3}, 3))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["synced", "unsynced"])
def test_kill_spares_what_the_kernel_has(mode: str):
    report = run_cycles(f"tiny-{mode}", CYCLES)
    assert report.problems == []
    assert report.acknowledged > 100


@pytest.mark.slow
@pytest.mark.parametrize("mode, problem", [("buffered", "lost"), ("split", "torn")])
def test_kill_catches(mode: str, problem: str):
    """Answers before write(), and transactions of several records."""
    report = run_cycles(f"tiny-{mode}", 3 * CYCLES)
    assert any(problem in found for found in report.problems)


@pytest.mark.slow
def test_power_loss_spares_what_was_synced():
    needs_shim()
    report = run_cycles("tiny-synced", 2 * CYCLES, with_power_loss=True, sync_errors=True)
    assert report.problems == []
    assert report.acknowledged > 100


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["unsynced", "ignored"])
def test_power_loss_catches(mode: str):
    """Answers before the sync, and going on after one that failed."""
    needs_shim()
    report = run_cycles(f"tiny-{mode}", 3 * CYCLES, with_power_loss=True, sync_errors=True)
    assert any("lost" in found for found in report.problems)
    assert report.lost_bytes > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["meridian", "postgresql"])
@pytest.mark.parametrize("with_power_loss", [False, True], ids=["kill", "power loss"])
def test_servers_keep_what_they_acknowledge(name: str, with_power_loss: bool):
    reason = missing_reason(name)
    if reason is not None:
        pytest.skip(reason)
    if with_power_loss:
        needs_shim()
    tears = power_loss.TEARS if name == "meridian" else ("cut",)
    report = run_cycles(
        name, SERVER_CYCLES, with_power_loss=with_power_loss, sync_errors=with_power_loss, seed=7, tears=tears
    )
    assert report.problems == []
    assert report.acknowledged > 20
