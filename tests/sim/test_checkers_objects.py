"""Checkers of one kind of object each: bank, counter, sets, queue, long fork, monotonic, order, predicates."""

from __future__ import annotations

import pytest

from sim.checkers import bank, counters, long_fork, monotonic, predicates, queue, sequential, sets
from sim.checkers.verdict import Verdict
from sim.histories import Op, Recorder
from tests.sim.stories import flat, together


def found(verdict: Verdict) -> tuple[object, list[str]]:
    return verdict.valid, sorted(verdict.anomalies)


def done(*calls: tuple[str, object, object] | tuple[str, object, object, str]) -> list[Op]:
    """One operation after another: (f, asked, answer[, fate])."""
    recorder = Recorder()
    for process, (f, asked, answer, *fate) in enumerate(calls):
        recorder.invoke(process, f, asked)
        recorder.add(fate[0] if fate else "ok", process, f, answer)
    return recorder.history


# -- bank -----------------------------------------------------------------------------------


def reads(*balances: dict) -> list[Op]:
    return done(*(("read", None, read) for read in balances))


@pytest.mark.parametrize(
    "history, anomalies",
    [
        (reads({"a": 5, "b": 5}, {"a": 3, "b": 7}), []),
        (reads({"a": 5, "b": 5}, {"a": 5, "b": 7}), ["wrong-total"]),
        (reads({"a": 5, "b": 5}, {"a": -1, "b": 11}), ["negative-value"]),
        (reads({"a": 5, "b": 5}, {"a": 5, "b": None}), ["nil-balance"]),
        (reads({"a": 5, "b": 5}, {"a": 5, "c": 5}), ["unexpected-key"]),
        (done(("transfer", {"from": 1, "to": 2, "amount": 3}, None)), []),
    ],
)
def test_bank(history: list[Op], anomalies: list[str]):
    assert found(bank.check(history)) == (not anomalies, anomalies)


def test_bank_options():
    assert bank.check(reads({"a": -1, "b": 11}), negative_allowed=True).valid is True
    assert bank.check(reads({"a": 5, "b": 5}), total=10).valid is True
    assert bank.check(reads({"a": 5, "b": 5}), total=11).valid is False


# -- counter --------------------------------------------------------------------------------


def test_counter_bounds():
    """1 is sure; 2 is running; 4 failed; 8 is unknown."""
    story = """
        0 invoke add 1
        0 ok add 1
        1 invoke add 2
        2 invoke add 4
        2 fail add 4
        3 invoke add 8
        3 info add 8
        4 invoke read
        4 ok read {}
        1 ok add 2
        5 invoke read
        5 ok read {}
    """
    for first in range(16):
        assert counters.check(flat(story.format(first, 3))).valid is (1 <= first <= 11)
    for second in range(16):
        assert counters.check(flat(story.format(1, second))).valid is (3 <= second <= 11)


def test_counter_goes_down_too():
    assert counters.check(done(("add", -3, -3), ("read", None, -3))).valid is True
    assert found(counters.check(done(("add", -3, -3), ("read", None, 0)))) == (False, ["out-of-bounds"])


# -- sets -----------------------------------------------------------------------------------

ADDED = [("add", 1, 1), ("add", 2, 2)]


@pytest.mark.parametrize(
    "calls, anomalies",
    [
        ([*ADDED, ("read", None, [2, 1])], []),
        ([*ADDED, ("read", None, [1])], ["lost"]),
        ([*ADDED, ("read", None, [1, 2, 3])], ["unexpected"]),
        ([*ADDED, ("read", None, [1, 2, 2])], ["duplicated"]),
        ([*ADDED, ("add", 3, 3, "info"), ("read", None, [1, 2, 3])], []),
        ([*ADDED, ("add", 3, 3, "info"), ("read", None, [1, 2])], []),
        ([("add", [0, 1], [0, 1]), ("read", None, [1])], ["lost", "unexpected"]),
        ([*ADDED, ("read", None, []), ("read", None, [1, 2])], []),
    ],
)
def test_set(calls: list, anomalies: list[str]):
    assert found(sets.check(done(*calls))) == (not anomalies, anomalies)


def test_a_set_nobody_read_is_unknown():
    assert found(sets.check(done(*ADDED))) == ("unknown", ["never-read"])
    assert found(sets.check_full(done(*ADDED))) == ("unknown", ["never-read"])


@pytest.mark.parametrize(
    "calls, anomalies, stats",
    [
        ([*ADDED, ("read", None, [1, 2])], [], {"stable": 2, "lost": 0, "never-read": 0, "stale": 0}),
        ([*ADDED, ("read", None, [1])], ["lost"], {"stable": 1, "lost": 1}),
        ([*ADDED, ("read", None, [1, 2]), ("read", None, [1])], ["lost"], {"stable": 1, "lost": 1}),
        ([*ADDED, ("read", None, [1]), ("read", None, [1, 2])], [], {"stable": 2, "stale": 1}),
        ([*ADDED, ("read", None, [1, 2, 2])], ["duplicated"], {"stable": 2}),
        ([("add", 1, 1), ("read", None, [1]), ("add", 2, 2)], [], {"stable": 1, "never-read": 1}),
        ([*ADDED, ("add", 3, 3, "info"), ("read", None, [1, 2])], [], {"stable": 2, "never-read": 1}),
        ([*ADDED, ("add", 3, 3, "info"), ("read", None, [1, 2, 3]), ("read", None, [1, 2])], ["lost"], {"lost": 1}),
        ([*ADDED, ("add", 3, 3, "fail"), ("read", None, [1, 2, 3])], ["unexpected"], {}),
        ([*ADDED, ("read", None, [1, 2, 3])], [], {}),
    ],
)
def test_set_full(calls: list, anomalies: list[str], stats: dict[str, int]):
    verdict = sets.check_full(done(*calls))
    assert found(verdict) == (not anomalies, anomalies)
    assert verdict.stats.items() >= stats.items()


def test_set_full_options():
    stale = done(*ADDED, ("read", None, [1]), ("read", None, [1, 2]))
    assert found(sets.check_full(stale, linearizable=True)) == (False, ["stale"])
    assert list(sets.check_full(stale).permitted) == ["stale"]
    assert found(sets.check_full(done(*ADDED, ("read", None, [1, 2, 3])), initially_empty=True)) == (
        False,
        ["unexpected"],
    )


def test_an_element_may_be_missed_while_it_is_added():
    story = """
        0 invoke add 1
        1 invoke read
        1 ok read []
        0 ok add 1
        2 invoke read
        2 ok read [1]
    """
    verdict = sets.check_full(flat(story), linearizable=True)
    assert (verdict.valid, verdict.stats["stable"], verdict.stats["stale"]) == (True, 1, 0)


# -- queue ----------------------------------------------------------------------------------

QUEUED = [("enqueue", 1, 1), ("enqueue", 2, 2)]


@pytest.mark.parametrize(
    "calls, anomalies",
    [
        ([*QUEUED, ("dequeue", None, 2), ("dequeue", None, 1), ("dequeue", None, None)], []),
        ([*QUEUED, ("drain", None, [1, 2])], []),
        ([*QUEUED, ("dequeue", None, 1)], ["lost"]),
        ([*QUEUED, ("dequeue", None, 1, "info"), ("drain", None, [2])], []),
        ([*QUEUED, ("drain", None, [1, 2]), ("dequeue", None, 1)], ["duplicated"]),
        ([*QUEUED, ("drain", None, [1, 2, 3])], ["unexpected"]),
        ([("enqueue", 1, 1, "fail"), ("dequeue", None, 1)], ["unexpected"]),
        ([("enqueue", 1, 1, "info"), ("dequeue", None, 1)], []),
        ([("dequeue", None, 1), ("enqueue", 1, 1)], ["unexpected"]),
        ([("enqueue", [1, 2], [1, 2]), ("drain", 5, [1, 2])], []),
        ([("enqueue", [1, 2], [1, 2]), ("drain", 5, [2]), ("drain", 5, [])], ["lost"]),
        ([("enqueue", [1, 2], [1, 2]), ("drain", 2, None, "info"), ("drain", 5, [])], []),
        ([("enqueue", [1, 2], [1, 2]), ("drain", 1, None, "info"), ("drain", 5, [])], ["lost"]),
        ([("enqueue", [1, 2], [1, 2], "fail"), ("drain", 5, [2])], ["unexpected"]),
    ],
)
def test_queue(calls: list, anomalies: list[str]):
    assert found(queue.check(done(*calls))) == (not anomalies, anomalies)


def test_a_queue_that_was_not_drained_has_lost_nothing():
    assert queue.check(done(*QUEUED), drained=False).valid is True


# -- long fork ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stories, expected",
    [
        (("w x 1", "w y 1", "r x 1; r y", "r x 1; r y 1", "r x; r y"), (True, [])),
        (("w x 1", "w y 1", "r x 1; r y", "r x; r y 1"), (False, ["long-fork"])),
        (("w x 1", "w y 1", "w z 1", "r x 1; r y; r z 1", "r y 1; r x"), (False, ["long-fork"])),
        (("w x 1", "w y 1", "r x 1; r y", "r x; r z 1"), (True, [])),
        (("w x 1", "w x 2", "r x 1"), ("unknown", ["multiple-writes"])),
        (("w x 1", "r x 1", "r x 2"), ("unknown", ["distinct-values"])),
    ],
)
def test_long_fork(stories: tuple[str, ...], expected: tuple):
    assert found(long_fork.check(together(*stories, is_list=False))) == expected


# -- monotonic ------------------------------------------------------------------------------


def test_monotonic_per_process():
    story = """
        0 invoke read
        0 ok read 3
        1 invoke read
        1 ok read 1
        0 invoke read
        0 ok read {}
    """
    assert monotonic.check(flat(story.format(3))).valid is True
    assert found(monotonic.check(flat(story.format(2)))) == (False, ["nonmonotonic-process"])
    assert found(monotonic.check(flat(story.format(None)))) == (False, ["nonmonotonic-process"])
    assert found(monotonic.check(flat(story.format(3)), across=True)) == (False, ["nonmonotonic"])


def test_monotonic_across_allows_concurrent_reads():
    story = """
        0 invoke read
        1 invoke read
        0 ok read {"x": 3, "y": 1}
        1 ok read {"x": 2, "y": 2}
    """
    assert monotonic.check(flat(story), across=True).valid is True


def test_monotonic_transactions():
    history = flat('0 invoke txn\n0 ok txn [["r", "x", 2], ["w", "y", 1]]\n0 invoke txn\n0 ok txn [["r", "x", 1]]')
    assert found(monotonic.check(history)) == (False, ["nonmonotonic-process"])


# -- order of writes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subkeys, anomalies",
    [
        (["2", "1", "0"], []),
        ([None, None, "0"], []),
        ([None, None, None], []),
        ([None, "1", None], ["trailing-null"]),
        (["2", None, "0"], ["trailing-null"]),
    ],
)
def test_sequential(subkeys: list, anomalies: list[str]):
    assert found(sequential.check(done(("read", ["k", None], ["k", subkeys])))) == (not anomalies, anomalies)


def test_comments():
    """2 began after 1 had ended; 3 ran beside both."""
    story = """
        0 invoke write 1
        3 invoke write 3
        0 ok write 1
        1 invoke write 2
        4 invoke read
        4 ok read {}
        1 ok write 2
        3 ok write 3
    """
    good = ([], [1], [3], [1, 2], [1, 3], [1, 2, 3])
    bad = ([2], [2, 3])
    assert [sequential.check_comments(flat(story.format(seen))).valid for seen in good] == [True] * len(good)
    assert [found(sequential.check_comments(flat(story.format(seen)))) for seen in bad] == [
        (False, ["causal-reverse"])
    ] * 2


# -- predicates -----------------------------------------------------------------------------


def test_predicates():
    """Of two inserts for one key one may be told ok."""
    assert (
        predicates.check(
            done(("insert", [1, 1], [1, 1]), ("insert", [1, 2], [1, 2], "fail"), ("insert", [2, 3], [2, 3]))
        ).valid
        is True
    )
    assert found(predicates.check(done(("insert", [1, 1], [1, 1]), ("insert", [1, 2], [1, 2])))) == (False, ["G2"])
