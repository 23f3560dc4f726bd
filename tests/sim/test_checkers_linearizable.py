"""Linearizability of one object, with a brute-force model beside it."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest

from sim.checkers import linearizable
from sim.checkers.linearizable import (
    IMPOSSIBLE,
    check,
    check_mutex,
    check_transactions,
    explain_operations,
    step_register,
)
from sim.histories import FAIL, INFO, NEVER, OK, Op, Recorder, Transaction, pair
from tests.sim.stories import flat

GOOD = {
    "in turn": """
        0 invoke write 1
        0 ok write 1
        1 invoke read
        1 ok read 1
    """,
    "a read may see a concurrent write or not": """
        0 invoke write 1
        1 invoke read
        1 ok read None
        2 invoke read
        2 ok read 1
        0 ok write 1
    """,
    "compare and set": """
        0 invoke write 1
        0 ok write 1
        1 invoke cas [1, 2]
        2 invoke cas [2, 3]
        2 ok cas [2, 3]
        1 ok cas [1, 2]
        3 invoke cas [1, 9]
        3 fail cas [1, 9]
        3 invoke read
        3 ok read 3
    """,
    "an unknown write may happen late": """
        0 invoke write 1
        0 info write 1
        1 invoke read
        1 ok read None
        1 invoke read
        1 ok read 1
    """,
    "or never": """
        0 invoke write 1
        1 invoke read
        1 ok read None
    """,
    "an unknown read says nothing": """
        0 invoke read
        0 info read 77
    """,
}

BAD = {
    "stale": """
        0 invoke write 1
        0 ok write 1
        1 invoke read
        1 ok read None
    """,
    "goes back": """
        0 invoke write 1
        1 invoke read
        1 ok read 1
        2 invoke read
        2 ok read None
        0 ok write 1
    """,
    "from nowhere": """
        0 invoke read
        0 ok read 5
    """,
    "failed write is seen": """
        0 invoke write 1
        0 fail write 1
        1 invoke read
        1 ok read 1
    """,
    "two win one compare and set": """
        0 invoke cas [None, 1]
        1 invoke cas [None, 2]
        0 ok cas [None, 1]
        1 ok cas [None, 2]
    """,
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories(name: str):
    assert check(flat(GOOD[name])).valid is True


@pytest.mark.parametrize("name", BAD)
def test_bad_histories(name: str):
    verdict = check(flat(BAD[name]))
    assert (verdict.valid, list(verdict.anomalies)) == (False, ["nonlinearizable"])


def test_the_explanation_names_what_cannot_be_placed():
    verdict = check(flat(BAD["stale"]))
    text = "no order of the operations: two values were in the register at once: T0 write 1, T2 read None"
    assert verdict.anomalies["nonlinearizable"][0].text == text
    again = check(flat(BAD["stale"] + "\n9 invoke cas [1, 1]\n9 ok cas [1, 1]"))
    assert again.anomalies["nonlinearizable"][0].text == "no order of the operations explains T2: process 1 read None"


def test_keys_are_apart():
    """Each key alone is good; read as one object the history is not."""
    story = """
        0 invoke write ["x", 1]
        0 ok write ["x", 1]
        1 invoke read ["y", None]
        1 ok read ["y", None]
        1 invoke read ["x", None]
        1 ok read ["x", 1]
    """
    verdict = check(flat(story), keyed=True)
    assert (verdict.valid, verdict.stats["keys"]) == (True, 2)
    assert check(flat(story)).valid is False


def test_transactions_of_one_operation():
    story = """
        0 invoke txn [["w", "x", 1]]
        0 ok txn [["w", "x", 1]]
        1 invoke txn [["r", "x", None]]
        1 ok txn [["r", "x", {}]]
    """
    assert check_transactions(flat(story.format(1))).valid is True
    assert check_transactions(flat(story.format(None))).valid is False


def test_mutex():
    story = """
        0 invoke acquire
        0 ok acquire
        1 invoke acquire
        {}
        0 invoke release
        0 ok release
        1 {} acquire
    """
    assert check_mutex(flat(story.format("", "ok"))).valid is True
    assert check_mutex(flat(story.format("2 invoke acquire", "ok"))).valid is True
    two = """
        0 invoke acquire
        0 ok acquire
        1 invoke acquire
        1 ok acquire
    """
    assert check_mutex(flat(two)).valid is False
    assert check_mutex(flat("0 invoke release\n0 ok release")).valid is False


def drawn(rng: Random, count: int) -> list[Op]:
    """A random history of a register: overlapping operations, results true or false."""
    recorder, running, state, process = Recorder(), {}, None, 0
    while process < count or running:
        if process < count and (not running or rng.random() < 0.6):
            f = rng.choice(["read", "write", "cas"])
            value = {"read": None, "write": rng.randint(1, 3), "cas": [rng.randint(1, 3), rng.randint(1, 3)]}[f]
            running[process] = (f, value)
            recorder.invoke(process, f, value)
            process += 1
            continue
        one = rng.choice(list(running))
        f, value = running.pop(one)
        fate = rng.choice(["ok", "ok", "ok", "ok", "info", "fail"])
        if f == "read" and fate == "ok":
            value = rng.choice([None, 1, 2, 3]) if rng.random() < 0.2 else state
        elif f == "write" and fate != "fail":
            state = value
        elif f == "cas" and fate == "ok":
            state = value[1]
        recorder.add(fate, one, f, value)
    return recorder.history


def is_linearizable(history: list[Op]) -> bool:
    """Tries every order of every choice of the unknown operations."""
    operations = [
        t for t in pair(history).transactions if t.status != FAIL and not (t.status == INFO and t.f == "read")
    ]
    unknown = [t for t in operations if t.status == INFO]
    for mask in range(1 << len(unknown)):
        chosen = [t for t in operations if t.status == OK or mask >> unknown.index(t) & 1]
        if any(_fits(order) for order in permutations(chosen)):
            return True
    return False


def _fits(order: tuple[Transaction, ...]) -> bool:
    state, latest = None, -1
    for operation in order:
        # Nothing that begins after another's end may come before it.
        latest = max(latest, operation.began)
        if operation.ended != NEVER and operation.ended < latest:
            return False
        state = step_register(state, operation)
        if state is IMPOSSIBLE:
            return False
    return True


@pytest.mark.parametrize("block", range(4))
def test_agrees_with_trying_every_order(block: int):
    outcomes = {True: 0, False: 0}
    for seed in range(block * 100, block * 100 + 100):
        history = drawn(Random(seed), 5)
        expected = is_linearizable(history)
        outcomes[expected] += 1
        assert check(history).valid is expected, f"{seed=}"
    assert min(outcomes.values()) >= 10


def drawn_unique(rng: Random, count: int) -> list[Op]:
    """Reads and unique writes that overlap; some reads answer what they should not."""
    recorder, running, state, process = Recorder(), {}, None, 0
    while process < count or running:
        if process < count and (not running or rng.random() < 0.6):
            f = rng.choice(["read", "write"])
            running[process] = f
            recorder.invoke(process, f, process if f == "write" else None)
            process += 1
            continue
        one = rng.choice(list(running))
        f = running.pop(one)
        fate = rng.choice(["ok", "ok", "ok", "ok", "info", "fail"])
        value = one if f == "write" else state
        if f == "write" and fate != "fail" and rng.random() < 0.9:
            state = one
        if f == "read" and rng.random() < 0.2:
            value = rng.choice([None, *range(count)])
        recorder.add(fate, one, f, value)
    return recorder.history


def test_zones_agree_with_the_search():
    """Two methods on one history of unique writes; the search has been compared with every order above."""
    outcomes = {True: 0, False: 0}
    for seed in range(3_000):
        history = drawn_unique(Random(seed), 7)
        paired = pair(history)
        operations = [t for t in paired.transactions if t.status == OK or (t.status == INFO and t.f == "write")]
        expected = explain_operations(operations, paired.events, None, step_register)[0]
        outcomes[expected is True] += 1
        assert check(history).valid is expected, f"{seed=}"
    assert min(outcomes.values()) >= 500


def test_a_long_history_of_one_register():
    """5,000 operations of 8 clients: the memory keeps the search near linear."""
    rng, recorder, state, running = Random(3), Recorder(), None, {}
    for number in range(5_000):
        process = number % 8
        if process in running:
            f, value = running.pop(process)
            if f == "write":
                state = value
            recorder.ok(process, f, state if f == "read" else value)
        running[process] = (rng.choice(["read", "write"]), number)
        f, value = running[process]
        recorder.invoke(process, f, value if f == "write" else None)
    assert check(recorder.history).valid is True


def test_the_search_is_bounded(monkeypatch):
    """Many concurrent writes that nobody read: past the limit the answer is unknown, not an endless run."""
    monkeypatch.setattr(linearizable, "STATES_MAX", 1_000)
    recorder = Recorder()
    for process in range(14):
        recorder.invoke(process, "write", process)
    for process in range(14):
        recorder.ok(process, "write", process)
    recorder.invoke(20, "cas", [99, 100])
    recorder.ok(20, "cas", [99, 100])
    verdict = check(recorder.history)
    assert (verdict.valid, list(verdict.anomalies)) == ("unknown", ["unfinished"])
