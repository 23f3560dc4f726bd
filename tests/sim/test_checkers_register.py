"""Registers: every anomaly by its name, what each source of version order adds, and a brute-force model."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest

from sim.checkers.register import check
from sim.histories import Op, pair
from tests.sim.stories import in_turn, mixed_run, run, serial_run, together


def at_once(*stories: str) -> list[Op]:
    return together(*stories, is_list=False)


def one_by_one(*stories: str, processes: int = 1_000) -> list[Op]:
    return in_turn(*stories, processes=processes, is_list=False)


ANOMALIES = {
    "circular information flow": (at_once("w x 1; r y 1", "w y 1; r x 1"), {"G1c"}),
    "read skew": (at_once("r x; r y 1", "w x 1; w y 1"), {"G-single"}),
    "read skew through writes that follow reads": (
        at_once("w x 1; w y 1", "r x 1; w x 2; w y 2", "r x 1; r y 2"),
        {"G-single"},
    ),
    "long fork": (at_once("w x 1", "w y 1", "r x 1; r y", "r x; r y 1"), {"G-nonadjacent"}),
    "write skew": (at_once("r x; w y 1", "r y; w x 1"), {"G2-item"}),
    "lost update": (at_once("w x 1", "r x 1; w x 2", "r x 1; w x 3"), {"lost-update", "G2-item"}),
    "aborted read": (at_once("fail: w x 1", "r x 1"), {"G1a"}),
    "intermediate read": (at_once("w x 1; w x 2", "r x 1"), {"G1b"}),
    "reads twice, differently": (at_once("w x 1", "w x 2", "r x 1; r x 2"), {"internal"}),
    "does not see its own write": (at_once("w x 1; r x"), {"internal"}),
    "sees its own write too early": (at_once("r x 1; w x 1"), {"future-read"}),
    "versions in a circle": (at_once("r x 1; w x 2", "r x 2; w x 1"), {"cyclic-versions", "G1c"}),
    "own write, then stale": (one_by_one("w x 1", "r x", processes=1), {"G-single-process"}),
    "stale read": (one_by_one("w x 1", "r x"), {"G-single-realtime"}),
    "reads the future": (one_by_one("r x 1", "w x 1"), {"G1c-realtime"}),
}


@pytest.mark.parametrize("name", ANOMALIES)
def test_each_anomaly_is_named_exactly(name: str):
    history, expected = ANOMALIES[name]
    verdict = check(history)
    assert verdict.valid is False
    assert set(verdict.anomalies) == expected, str(verdict)


@pytest.mark.parametrize(
    "history",
    [
        at_once("w x 1", "r x 1", "r x"),
        at_once("info: w x 1", "r x 1"),
        at_once("info: w x 1", "r x"),
        at_once("r x; w x 1; r x 1; w x 2; r x 2"),
        one_by_one("info: w x 1", "r x", "r x 1"),
        at_once("w x 1; w x 2", "r x 2"),
        [],
    ],
)
def test_good_histories(history: list[Op]):
    verdict = check(history, initial_values_known=True, linearizable_keys=True)
    assert verdict.valid is True, str(verdict)


def test_a_value_nobody_wrote_may_be_older_than_the_history():
    history = one_by_one("w x 2", "r x 3", "r x 2")
    assert check(history).valid is True
    assert list(check(history).permitted) == ["unwritten-read"]
    assert list(check(history, initial_values_known=True).anomalies) == ["unwritten-read"]


def test_linearizable_keys_order_versions_by_time():
    """1 was overwritten by 2, in time; without that promise nobody knows the order."""
    history = one_by_one("w x 1", "w x 2", "r x 1")
    assert check(history, "serializable").valid is True
    assert "cyclic-versions" in check(history, linearizable_keys=True).anomalies
    skew = one_by_one("w x 1; w y 1", "w x 2; w y 2") + []
    assert check(skew, linearizable_keys=True).valid is True


def test_linearizable_keys_find_skew():
    """T2 ran while T0 and T1 did, one after the other, and saw half of each."""
    history = at_once("r x 1; r y 2")
    inner = one_by_one("w x 1; w y 1", "w x 2; w y 2")
    merged = [history[0], *inner, history[1]]
    merged[1:5] = [Op(0, op.type, 100 + int(op.process), op.f, op.value) for op in inner]
    merged = [Op(index, op.type, op.process, op.f, op.value) for index, op in enumerate(merged)]
    assert check(merged).valid is True
    assert set(check(merged, linearizable_keys=True).anomalies) == {"G-single"}


def test_sequential_keys_order_versions_by_client():
    history = one_by_one("w x 1", "w x 2", "r x 2", "r x 1", processes=2)
    assert "cyclic-versions" not in check(history, "serializable").anomalies
    history = one_by_one("r x 1", "r x 2", "r x 1", processes=1) + []
    assert "cyclic-versions" in check(history, sequential_keys=True).anomalies


def test_a_repeated_write_cannot_be_judged():
    verdict = check(at_once("w x 1", "w x 1"))
    assert (verdict.valid, list(verdict.anomalies)) == ("unknown", ["duplicate-writes"])


@pytest.mark.parametrize("seed", range(20))
def test_a_correct_database_passes(seed: int):
    """Strictly serializable, so every promise may be assumed."""
    history = serial_run(Random(seed), 300, is_list=False)
    verdict = check(history, sequential_keys=True, linearizable_keys=True, initial_values_known=True)
    assert verdict.valid is True, str(verdict)


def is_serializable(history: list[Op]) -> bool:
    done = [transaction.value for transaction in pair(history).transactions]
    for order in permutations(done):
        state: dict = {}
        if all(run([[f, k, None if f == "r" else v] for f, k, v in mine], state) == mine for mine in order):
            return True
    return False


def test_never_accuses_a_serializable_history():
    """The method is sound; and complete enough to find most of what is wrong here."""
    wrong = found = 0
    for seed in range(400):
        history = mixed_run(Random(seed), 4, 2, is_list=False)
        valid = check(history, "serializable", initial_values_known=True).valid
        if is_serializable(history):
            assert valid is True, f"{seed=}"
        else:
            wrong += 1
            found += valid is False
    assert wrong > 100
    assert found > 0.7 * wrong
