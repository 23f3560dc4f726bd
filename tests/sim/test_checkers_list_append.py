"""List-append: every anomaly by its name, good histories, mutations, and a brute-force model."""

from __future__ import annotations

import time
from itertools import permutations
from random import Random

import pytest

from sim.checkers.list_append import check
from sim.checkers.verdict import FORBIDDEN
from sim.histories import OK, Op, pair
from tests.sim.stories import in_turn, mixed_run, run, serial_run, together

WRITE_SKEW = together("r x; a y 1", "r y; a x 1")
READ_SKEW = together("r x; r y 1", "a x 1; a y 1")
LONG_FORK = together("a x 1", "a y 1", "r x 1; r y", "r x; r y 1")

ANOMALIES = {
    "dirty write": (together("a x 1; a y 1", "a x 2; a y 2", "r x 1 2; r y 2 1"), {"G0"}),
    "circular information flow": (together("a x 1; r y 1", "a y 1; r x 1"), {"G1c"}),
    "read skew": (READ_SKEW, {"G-single"}),
    "long fork": (LONG_FORK, {"G-nonadjacent"}),
    "write skew": (WRITE_SKEW, {"G2-item"}),
    "write skew of three": (together("r x; a y 1", "r y; a z 1", "r z; a x 1"), {"G2-item"}),
    "lost update": (together("r x; a x 1", "r x; a x 2", "r x 1 2"), {"lost-update", "G-single"}),
    "aborted read": (together("fail: a x 1", "r x 1"), {"G1a"}),
    "dirty update": (together("fail: a x 1", "a x 2", "r x 1 2"), {"G1a", "dirty-update"}),
    "intermediate read": (together("a x 1; a x 2", "r x 1", "r x 1 2"), {"G1b", "G-single"}),
    "reads twice, differently": (together("a x 1", "r x; r x 1"), {"internal", "G-single"}),
    "does not see its own append": (together("a x 1; r x"), {"internal"}),
    "sees its own append too early": (together("r x 1; a x 1"), {"future-read"}),
    "one element twice": (together("a x 1", "r x 1 1"), {"duplicate-elements"}),
    "two orders": (together("a x 1", "a x 2", "a x 3", "r x 1 2", "r x 1 3 2"), {"incompatible-order"}),
    "own appends in another order": (together("a x 1; a x 2", "r x 2 1"), {"incompatible-order", "G1b"}),
    "the first of two appends is gone": (
        together("a x 1; a x 2", "r x 2"),
        {"incompatible-order", "G-single"},
    ),
    "out of nowhere": (together("a x 1", "r x 1 7"), {"unwritten-read"}),
    "own write, then stale": (in_turn("a x 1", "r x", processes=1), {"G-single-process"}),
    "own writes in the wrong order": (in_turn("a x 1", "a x 2", "r x 2 1", processes=1), {"G0-process"}),
    "reads what it writes later": (in_turn("r x 1", "a x 1", processes=1), {"G1c-process"}),
    "stale read": (in_turn("a x 1", "r x"), {"G-single-realtime"}),
    "writes against time": (in_turn("a x 1", "a x 2", "r x 2 1"), {"G0-realtime"}),
    "reads the future": (in_turn("r x 1", "a x 1"), {"G1c-realtime"}),
    "acknowledged append is gone": (in_turn("a x 1", "r x 1", "r x"), {"G-single-realtime"}),
    "acknowledged append is gone below another": (in_turn("a x 1", "a x 2", "r x 2"), {"G0-realtime"}),
}


def session(*stories: str) -> list[Op]:
    """The last stories are one client's, in turn; the first runs all along, and so shows no order by time."""
    first, *rest = stories
    outer = together(first)
    inner = in_turn(*rest, processes=1)
    for op in inner:
        op.process = 7
    history = [outer[0], *inner, outer[1]]
    for index, op in enumerate(history):
        op.index = index
    return history


SESSIONS = {
    "read your writes": (session("r y", "a x 1", "r x"), {"G-single-process"}),
    "monotonic reads": (session("a x 1", "r x 1", "r x"), {"G-single-process"}),
    "monotonic writes": (session("r y 2; r x", "a x 1", "a y 2"), {"G-single-process"}),
    "monotonic writes, of one key": (session("r x 2 1", "a x 1", "a x 2"), {"G0-process"}),
    "writes follow reads": (session("a x 1", "r x 1", "a y 2", "r y 2; r x"), {"G-single-process"}),
}
"""The four session guarantees (Terry et al., 1994), each broken."""


@pytest.mark.parametrize("name", SESSIONS)
def test_each_session_guarantee(name: str):
    history, expected = SESSIONS[name]
    assert set(check(history, "strong-session-serializable").anomalies) == expected
    assert check(history, "serializable").valid is True


@pytest.mark.parametrize("name", ANOMALIES)
def test_each_anomaly_is_named_exactly(name: str):
    history, expected = ANOMALIES[name]
    verdict = check(history)
    assert verdict.valid is False
    assert set(verdict.anomalies) == expected, str(verdict)


@pytest.mark.parametrize("name", ANOMALIES)
def test_every_anomaly_is_explained(name: str):
    """Each explanation names transactions of the history, and says their operations or elements."""
    history, _ = ANOMALIES[name]
    begins = {op.index for op in history if op.type == "invoke"}
    for explanations in check(history).anomalies.values():
        for explanation in explanations:
            assert explanation.transactions
            assert set(explanation.transactions) <= begins
            assert f"T{explanation.transactions[0]}" in explanation.text


def test_an_explanation_reads_like_a_proof():
    assert (
        str(check(READ_SKEW))
        == """\
valid: False
G-single:
  T0 = r x [], r y [1]
  T1 = append x 1, append y 1
    T0 -rw-> T1: it read x as [], without 1 of T1
    T1 -wr-> T0: it read 1 at the end of y, appended by T1"""
    )


@pytest.mark.parametrize("name", ANOMALIES)
def test_a_model_forbids_what_it_should(name: str):
    """Under each model the same anomalies are found, and judged by the model's table."""
    history, expected = ANOMALIES[name]
    for model, forbidden in FORBIDDEN.items():
        verdict = check(history, model)
        assert verdict.valid is not bool(expected & set(forbidden)), f"{model}: {verdict}"


def test_models_are_ordered():
    """Write skew separates snapshot isolation from serializable, staleness separates strict from it."""
    models = ["read-uncommitted", "read-committed", "snapshot-isolation", "serializable", "strict-serializable"]
    tale = {
        "dirty write": [False, False, False, False, False],
        "aborted read": [True, False, False, False, False],
        "read skew": [True, True, False, False, False],
        "lost update": [True, True, False, False, False],
        "write skew": [True, True, True, False, False],
        "stale read": [True, True, True, True, False],
    }
    for name, valid in tale.items():
        assert [check(ANOMALIES[name][0], model).valid for model in models] == valid, name


def test_permitted_anomalies_are_reported_apart():
    verdict = check(WRITE_SKEW, "snapshot-isolation")
    assert (verdict.valid, list(verdict.permitted)) == (True, ["G2-item"])


@pytest.mark.parametrize(
    "history",
    [
        together("info: a x 1", "r x 1"),
        together("info: a x 1", "r x"),
        together("info: a x 1", "a x 2", "r x 1 2"),
        in_turn("info: a x 1", "r x", "r x 1"),
        in_turn("info: a x 1", "r x"),
        together("fail: r x 9"),
        together("r x; a x 1; r x 1; a x 2; r x 1 2"),
        together("a x 1; r x 5 1", "a x 5"),
        together("a x 1; a x 2", "r x 1 2"),
        [],
    ],
)
def test_unknown_outcomes_and_own_appends_are_no_anomalies(history: list[Op]):
    assert check(history).valid is True


def test_an_unknown_outcome_that_was_read_counts():
    """T1 saw the info append of x and not that of y, both of one transaction."""
    verdict = check(together("info: a x 1; a y 1", "r x 1; r y"))
    assert set(verdict.anomalies) == {"G-single"} or verdict.valid is True
    verdict = check(together("info: a x 1; a y 1", "r x 1; r y", "r y 1"))
    assert set(verdict.anomalies) == {"G-single"}


def test_a_workload_that_repeats_itself_cannot_be_judged():
    verdict = check(together("a x 1", "a x 1", "r x 1"))
    assert (verdict.valid, list(verdict.anomalies)) == ("unknown", ["duplicate-appends"])


@pytest.mark.parametrize("seed", range(20))
def test_a_correct_database_passes(seed: int):
    verdict = check(serial_run(Random(seed), 300))
    assert verdict.valid is True, str(verdict)
    assert verdict.permitted == {}


def reads_of(history: list[Op]) -> list[tuple[Op, list]]:
    """All reads of committed transactions that touch their key once."""
    found = []
    for op in history:
        if op.type == "ok":
            names = [name for _, name, _ in op.value]
            found += [
                (op, operation) for operation in op.value if operation[0] == "r" and names.count(operation[1]) == 1
            ]
    return found


def ended_before(history: list[Op], reader: Op, name: object, element: int) -> bool:
    """Tells if the append ended before the reader began."""
    transactions = pair(history).transactions
    began = next(transaction.began for transaction in transactions if transaction.ended == reader.index)
    writer = next(transaction for transaction in transactions if ["append", name, element] in transaction.value)
    return writer.status == OK and writer.ended < began


def mutate_stale(rng: Random, history: list[Op]) -> bool:
    """A read misses an append that was over before it began."""
    for op, operation in rng.sample(reads_of(history), len(reads_of(history))):
        if operation[2] and ended_before(history, op, operation[1], operation[2][-1]):
            operation[2] = operation[2][:-1]
            return True
    return False


def mutate_drop(rng: Random, history: list[Op]) -> bool:
    """An append that was seen, and has successors, disappears from one read."""
    for _, operation in rng.sample(reads_of(history), len(reads_of(history))):
        if operation[2] and len(operation[2]) > 2:
            operation[2] = operation[2][:1] + operation[2][2:]
            return True
    return False


def mutate_duplicate(rng: Random, history: list[Op]) -> bool:
    for _, operation in rng.sample(reads_of(history), len(reads_of(history))):
        if operation[2]:
            operation[2] = [*operation[2], operation[2][-1]]
            return True
    return False


def mutate_swap(rng: Random, history: list[Op]) -> bool:
    """Two reads of one key, one over before the other's news were even begun, trade places."""
    reads = rng.sample(reads_of(history), len(reads_of(history)))
    transactions = pair(history).transactions
    for early, one in reads:
        for _, other in reads:
            if one[1] != other[1] or len(other[2] or []) <= len(one[2] or []):
                continue
            writer = next(t for t in transactions if ["append", one[1], other[2][-1]] in t.value)
            if writer.began > early.index:
                one[2], other[2] = other[2], one[2]
                return True
    return False


def mutate_phantom(rng: Random, history: list[Op]) -> bool:
    """A failed append is seen."""
    failed = [
        operation
        for t in pair(history).transactions
        if t.status == 2
        for operation in t.value
        if operation[0] == "append"
    ]
    for _, name, element in failed:
        for _, operation in reads_of(history):
            if operation[1] == name:
                operation[2] = [*(operation[2] or []), element]
                return True
    return False


@pytest.mark.parametrize("mutate", [mutate_stale, mutate_drop, mutate_duplicate, mutate_swap, mutate_phantom])
def test_mutations_of_good_histories_are_found(mutate):
    applied = 0
    for seed in range(12):
        rng = Random(seed)
        history = serial_run(rng, 200)
        if mutate(rng, history):
            applied += 1
            assert check(history).valid is False, f"{mutate.__name__} {seed=}"
    assert applied >= 8


def is_serializable(history: list[Op]) -> bool:
    """Tries every order: the slow and honest model."""
    done = [transaction.value for transaction in pair(history).transactions]
    for order in permutations(done):
        state: dict = {}
        if all(run([[f, k, None if f == "r" else v] for f, k, v in mine], state) == _normal(mine) for mine in order):
            return True
    return False


def _normal(mine: list) -> list:
    return [[f, key, value or None] if f == "r" else [f, key, value] for f, key, value in mine]


@pytest.mark.parametrize("block", range(4))
def test_agrees_with_trying_every_order(block: int):
    """With a last transaction that reads everything, the method is exact."""
    outcomes = {True: 0, False: 0}
    for seed in range(block * 100, block * 100 + 100):
        history = mixed_run(Random(seed), 4, 2)
        expected = is_serializable(history)
        outcomes[expected] += 1
        verdict = check(history, "serializable")
        assert verdict.valid is expected, f"{seed=} {verdict}"
    assert min(outcomes.values()) >= 10


def test_a_large_wrong_history_is_judged_in_bounded_time():
    """Without isolation most transactions are in one component."""
    history = mixed_run(Random(5), 2_000, 50)
    begin = time.process_time()
    verdict = check(history)
    assert verdict.valid is False
    assert time.process_time() - begin < 10


@pytest.mark.slow
def test_speed():
    """The goal is 20,000 transactions a second (reliability 3.2, H1); a loaded machine may take four times as long."""
    history = serial_run(Random(1), 50_000, processes=16, keys=64, per_key=64)
    begin = time.process_time()
    assert check(history).valid is True
    assert 50_000 / (time.process_time() - begin) > 5_000
