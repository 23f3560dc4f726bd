"""What one store promises: reads, locks, one-phase commits, durability."""

from __future__ import annotations

import pytest

from base.errors import (
    AmbiguousResult,
    BelowGcThreshold,
    ConditionFailed,
    Deadlock,
    LockNotAvailable,
    Overloaded,
    QueryCanceled,
    ReadConflict,
    TxnRetry,
    Uncertain,
    WriteTooOld,
)
from kvtier.client import NOT_NOW
from kvtier.messages import (
    SKIPPED,
    Batch,
    Checksum,
    ConditionalPut,
    Delete,
    DeleteSpan,
    EndTxn,
    Get,
    Isolation,
    Lock,
    Put,
    Refresh,
    Reply,
    Scan,
    Wait,
    prefix_end,
)
from kvtier.runindex import Run
from kvtier.settings import StoreSettings
from tests.kvtier.kvcase import Case, k
from tests.kvtier.kvloop import Cancelled

READ_COMMITTED, REPEATABLE_READ = Isolation.READ_COMMITTED, Isolation.REPEATABLE_READ
EXCLUSIVE, SHARE = Lock.EXCLUSIVE, Lock.SHARE


# --- the fast path ---------------------------------------------------------------


def test_a_get_is_answered_at_once():
    """No coroutine, no future: the Reply itself."""
    case = Case()
    case.put(a=b"1")
    assert case.kv.send(Batch([Get(k("a"))])).__class__ is Reply
    assert case.kv.send(Batch([Get(k("a"), EXCLUSIVE)], txn=case.txn())).__class__ is Reply
    assert case.kv.send(Batch([Scan(k("a"), k("b"))])).__class__ is Reply


def test_a_read_without_a_batch_is_the_same_read():
    """Same value, same trace in the timestamp cache; NOT_NOW wherever a batch would say or do more."""
    case = Case()
    first = case.put(a=b"1", b=b"2", c=b"3")
    case.send(Delete(k("b")))
    case.send(DeleteSpan(k("c"), k("d")))
    for key in map(k, "abcd"):
        for ts in (first - 1, first, case.kv.now()):
            assert case.kv.get_now(key, ts, b"") == case.send(Get(key), ts=ts).results[0]
    ts = case.kv.now()
    assert case.kv.get_now(k("a"), ts, b"reader") == b"1"
    assert case.state.tscache.get_max(k("a")) == (ts, b"reader")


def test_a_read_without_a_batch_gives_up_without_a_trace():
    case = Case()
    case.put(a=b"1", b=b"1")
    ts = case.kv.now()
    before = case.state.tscache.get_max(k("a"))
    case.state.poison(b"t", ts)
    assert case.kv.get_now(k("a"), ts, b"t") is NOT_NOW
    case.state.poisoned.clear()
    case.state.gc_high = ts
    assert case.kv.get_now(k("a"), ts, b"") is NOT_NOW
    case.state.gc_high = 0
    written = case.kv.send(Batch([Put(k("b"), b"2")]))  # its sync has not begun
    assert case.kv.get_now(k("b"), case.kv.now(), b"") is NOT_NOW
    case.loop.finish(written)
    assert case.kv.get_now(k("b"), case.kv.now(), b"") == b"2"
    bulk = case.txn()
    case.state.intents.runs.add(Run(bulk, k("x"), k("z"), bulk.write_ts, bulk.write_ts, 1))
    assert case.kv.get_now(k("a"), ts, b"") is NOT_NOW, "there are rows written by bulk"
    case.state.intents.runs.remove(k("x"), bulk.id)
    case.send(Put(k("c"), b"2"), txn=case.txn())
    assert case.kv.get_now(k("a"), ts, b"") is NOT_NOW, "there are intents"
    assert case.state.tscache.get_max(k("a")) == before


def test_a_scan_without_a_batch_is_the_same_scan():
    """Same rows, same resume key, same trace in the timestamp cache, whether they are read or kept."""
    case = Case()
    first = case.put(a=b"1", b=b"2", c=b"3", d=b"4")
    case.send(Delete(k("b")))
    for reverse in (False, True):
        for limit in (0, 1, 2):
            for ts in (first - 1, first, case.kv.now()):
                for _ in range(3):
                    page, unsynced = case.kv.scan_now(k("a"), k("d"), reverse, limit, ts, b"reader")
                    assert page == case.send(Scan(k("a"), k("d"), reverse, limit), ts=ts).results[0]
                    assert not unsynced
    assert len(case.state.engine.spans) == 3, "b and that it is gone, too"
    ts = case.kv.now()
    page, _ = case.kv.scan_now(k("a"), k("d"), False, 1, ts, b"reader")
    assert page.resume is not None
    assert case.state.tscache.get_max(k("a")) == (ts, b"reader")
    assert case.state.tscache.get_max(k("c"))[0] < ts, "was not read"
    case.send(DeleteSpan(k("c"), k("d")))
    assert case.kv.scan_now(k("a"), k("d"), False, 0, case.kv.now(), b"")[0].keys == [k("a")]
    written = case.kv.send(Batch([Put(k("b"), b"5")]))
    page, unsynced = case.kv.scan_now(k("a"), k("d"), False, 0, case.kv.now(), b"")
    assert page.values == [b"1", b"5"]
    assert unsynced > 0, "its sync has not begun"
    case.loop.finish(written)


def test_a_scan_without_a_batch_gives_up_without_a_trace():
    case = Case()
    case.put(a=b"1", b=b"1")
    ts = case.kv.now()
    before = case.state.tscache.get_max(k("a"))
    case.state.poison(b"t", ts)
    assert case.kv.scan_now(k("a"), k("c"), False, 0, ts, b"t") is NOT_NOW
    case.state.poisoned.clear()
    case.state.gc_high = ts
    assert case.kv.scan_now(k("a"), k("c"), False, 0, ts, b"") is NOT_NOW
    case.state.gc_high = 0
    case.send(Put(k("c"), b"2"), txn=case.txn())
    assert case.kv.scan_now(k("a"), k("c"), False, 0, ts, b"") is NOT_NOW, "there are intents"
    assert case.state.tscache.get_max(k("a")) == before


def test_what_is_locked_and_not_written_is_protected_up_to_the_commit():
    """Its refresh is left out: while the lock is held nobody can write it, and afterwards nobody may below us."""
    case = Case()
    case.put(a=b"1", b=b"1")
    txn = case.txn()
    for key in (k("a"), k("b")):
        case.get(key, txn, EXCLUSIVE)
    pushed_to = case.kv.now()
    assert case.send(Get(k("b")), ts=pushed_to).results == [b"1"]
    refreshes = [Refresh(key, prefix_end(key), txn.read_ts, 0, b"", True) for key in (k("a"), k("b"))]
    commit_ts = case.send(*refreshes, Put(k("b"), b"2", 1), EndTxn(True), txn=txn).write_ts
    assert commit_ts > pushed_to
    assert case.state.tscache.get_max(k("a"))[0] >= commit_ts


def test_a_lock_that_found_a_newer_version_does_not_replace_the_refresh():
    case = Case()
    case.put(a=b"1", b=b"1")
    txn = case.txn()
    assert case.get(k("a"), txn) == b"1"
    case.put(a=b"2")
    with pytest.raises(WriteTooOld):
        case.get(k("a"), txn, EXCLUSIVE)
    case.send(Get(k("b")), ts=case.kv.now())
    refresh = Refresh(k("a"), prefix_end(k("a")), txn.read_ts, 0, b"", True)
    with pytest.raises(ReadConflict):
        case.send(refresh, Put(k("b"), b"2", 1), EndTxn(True), txn=txn)


def test_a_lock_without_a_batch_is_the_same_lock():
    case = Case()
    case.put(a=b"1")
    txn, other = case.txn(), case.txn()
    assert case.kv.lock_now(k("a"), txn, EXCLUSIVE) == b"1"
    assert case.kv.lock_now(k("b"), txn, SHARE) is None
    assert case.state.locks.keys_held(txn.id) == [k("a"), k("b")]
    assert case.state.locks.states[k("a")].newest_ts > 0
    assert case.state.tscache.get_max(k("a")) == (txn.read_ts, txn.id)
    assert case.kv.lock_now(k("a"), other, SHARE) is NOT_NOW, "held: who waits must send a batch"
    assert case.state.locks.keys_held(other.id) == []
    case.send(EndTxn(True), txn=txn)
    written = case.kv.send(Batch([Put(k("a"), b"2")]))
    assert case.kv.lock_now(k("a"), case.txn(), EXCLUSIVE) is NOT_NOW, "its sync has not ended"
    case.loop.finish(written)
    with pytest.raises(WriteTooOld):
        case.kv.lock_now(k("a"), other, EXCLUSIVE)
    assert case.state.locks.keys_held(other.id) == [k("a")], "the lock stays, so that the refresh is worth it"
    case.send(EndTxn(False), txn=other)
    weak = case.txn(READ_COMMITTED)
    case.put(a=b"3")
    assert case.kv.lock_now(k("a"), weak, EXCLUSIVE) == b"3"


def test_an_empty_commit_is_answered_at_once_and_frees_its_locks():
    case = Case()
    txn = case.txn()
    case.get(k("a"), txn, EXCLUSIVE)
    assert case.kv.send(Batch([EndTxn(True)], txn=txn)).__class__ is Reply
    assert len(case.state.locks) == 0


def test_reads_at_a_timestamp():
    case = Case()
    first = case.put(a=b"1", b=b"1")
    case.put(a=b"2")
    assert case.send(Get(k("a")), ts=first).results == [b"1"]
    assert case.get(k("a")) == b"2"
    assert case.scan("a", "z") == {"a": b"2", "b": b"1"}
    assert case.send(Scan(k("a"), k("z")), ts=first).results[0].values == [b"1", b"1"]
    assert case.send(Get(k("a")), ts=first - 1).results == [None]


def test_limits_and_resume_spans():
    case = Case()
    case.put(a=b"1", b=b"2", c=b"3")
    page = case.send(Scan(k("a"), k("z"), limit=2)).results[0]
    assert page.values == [b"1", b"2"]
    assert page.resume == prefix_end(k("b"))
    back = case.send(Scan(k("a"), k("z"), True, limit=2)).results[0]
    assert back.values == [b"3", b"2"]
    assert back.resume == k("b")
    both = case.send(Scan(k("a"), k("c")), Scan(k("c"), k("d")), keys_max=2).results
    assert (both[0].values, both[0].resume) == ([b"1", b"2"], None)
    assert (both[1].values, both[1].resume) == ([], k("c"))


def test_uncertainty():
    """A value that may have been written before we began, by a clock ahead of ours."""
    case = Case()
    txn = case.txn()
    ts = case.put(a=b"1")
    txn.uncertainty_limit = ts
    with pytest.raises(Uncertain):
        case.get(k("a"), txn)
    with pytest.raises(Uncertain):
        case.scan("a", "b", txn)
    txn.uncertainty_limit = ts - 1
    assert case.get(k("a"), txn) is None


# --- commit ----------------------------------------------------------------------


def test_commit_at_the_read_timestamp_if_nothing_is_in_the_way():
    case = Case()
    txn = case.txn()
    reply = case.send(Put(k("a"), b"1", 1), Delete(k("b"), 2), EndTxn(True), txn=txn)
    assert reply.write_ts == txn.read_ts
    assert case.get(k("a")) == b"1"


@pytest.mark.parametrize("isolation", [Isolation.SERIALIZABLE, REPEATABLE_READ])
def test_first_committer_wins(isolation: Isolation):
    case = Case()
    txn = case.txn(isolation)
    newer = case.put(a=b"theirs")
    with pytest.raises(WriteTooOld) as caught:
        case.send(Put(k("a"), b"mine", 1), EndTxn(True), txn=txn)
    assert caught.value.existing_ts == newer
    assert case.get(k("a")) == b"theirs"


def test_read_committed_writes_over_newer_versions():
    case = Case()
    txn = case.txn(READ_COMMITTED)
    newer = case.put(a=b"theirs")
    assert case.get(k("a"), txn, EXCLUSIVE) == b"theirs"
    reply = case.send(Put(k("a"), b"mine", 1), EndTxn(True), txn=txn)
    assert reply.write_ts > newer
    assert case.get(k("a")) == b"mine"


def test_a_write_goes_above_a_served_read():
    case = Case()
    txn = case.txn()
    read = case.send(Get(k("a")))
    reply = case.send(Put(k("a"), b"1", 1), EndTxn(True), txn=txn)
    assert reply.write_ts > read.ts
    assert case.send(Get(k("a")), ts=read.ts).results == [None]


def test_a_write_goes_above_a_served_scan():
    case = Case()
    txn = case.txn()
    read = case.send(Scan(k("a"), k("c")))
    assert case.send(Put(k("b"), b"1", 1), EndTxn(True), txn=txn).write_ts > read.ts


def test_its_own_read_does_not_push_a_transaction():
    case = Case()
    txn = case.txn()
    case.get(k("a"), txn)
    case.scan("a", "z", txn)
    assert case.send(Put(k("a"), b"1", 1), EndTxn(True), txn=txn).write_ts == txn.read_ts


def test_refresh_in_the_commit_batch_runs_at_the_commit_timestamp():
    """Write skew: both read what the other writes; the second to commit must fail."""
    case = Case()
    case.put(a=b"0", b=b"0")
    one, two = case.txn(), case.txn()
    for txn in (one, two):
        case.get(k("a"), txn)
        case.get(k("b"), txn)
    refresh = [Refresh(k("a"), prefix_end(k("a")), two.read_ts), Refresh(k("b"), prefix_end(k("b")), two.read_ts)]
    case.send(Refresh(k("a"), prefix_end(k("a")), one.read_ts), Put(k("b"), b"1", 1), EndTxn(True), txn=one)
    with pytest.raises(ReadConflict) as caught:
        case.send(*refresh, Put(k("a"), b"1", 1), EndTxn(True), txn=two)
    assert caught.value.key == k("b")


def test_a_refresh_sees_phantoms():
    """reliability 19"""
    case = Case()
    txn = case.txn()
    assert case.scan("a", "c", txn) == {}
    case.put(b=b"phantom")
    case.send(Get(k("x")))
    with pytest.raises(ReadConflict):
        case.send(Refresh(k("a"), k("c"), txn.read_ts), Put(k("x"), b"1", 1), EndTxn(True), txn=txn)


def test_a_refreshed_read_counts_at_the_commit_timestamp():
    """Or a third transaction could write between read and commit timestamp."""
    case = Case()
    txn = case.txn()
    other = case.txn()
    case.get(k("r"), txn)
    case.send(Get(k("w")))
    commit_ts = case.send(
        Refresh(k("r"), prefix_end(k("r")), txn.read_ts), Put(k("w"), b"1", 1), EndTxn(True), txn=txn
    ).write_ts
    assert commit_ts > other.read_ts
    assert case.send(Put(k("r"), b"1", 1), EndTxn(True), txn=other).write_ts > commit_ts


def test_a_lock_without_a_write_counts_at_the_commit_timestamp():
    case = Case()
    txn, other = case.txn(), case.txn()
    case.get(k("r"), txn, EXCLUSIVE)
    case.send(Get(k("w")))
    commit_ts = case.send(Put(k("w"), b"1", 1), EndTxn(True), txn=txn).write_ts
    assert case.send(Put(k("r"), b"1", 1), EndTxn(True), txn=other).write_ts > commit_ts


def test_no_forwarding_and_deadline():
    case = Case()
    txn = case.txn()
    case.send(Get(k("a")))
    with pytest.raises(TxnRetry) as caught:
        case.send(Put(k("a"), b"1", 1), EndTxn(True, can_forward=False), txn=txn)
    assert caught.value.reason == "cannot_forward"
    with pytest.raises(TxnRetry) as caught:
        case.send(Put(k("a"), b"1", 1), EndTxn(True, deadline=txn.read_ts + 1), txn=txn)
    assert caught.value.reason == "deadline"
    assert case.get(k("a")) is None


def test_conditional_put():
    case = Case()
    case.send(ConditionalPut(k("a"), b"1", None))
    with pytest.raises(ConditionFailed) as caught:
        case.send(ConditionalPut(k("a"), b"2", None), Put(k("b"), b"2"))
    assert caught.value.actual == b"1"
    assert case.get(k("b")) is None
    case.send(
        ConditionalPut(k("a"), b"2", b"1"), ConditionalPut(k("a"), None, b"2"), ConditionalPut(k("a"), b"3", None)
    )
    assert case.get(k("a")) == b"3"


def test_write_too_old_goes_before_condition_failed():
    """reliability 20"""
    case = Case()
    txn = case.txn()
    case.put(a=b"1")
    with pytest.raises(WriteTooOld):
        case.send(ConditionalPut(k("a"), b"2", None, 1), EndTxn(True), txn=txn)


def test_delete_span_and_writes_after_it():
    case = Case()
    before = case.put(a=b"1", b=b"2", z=b"3")
    case.send(Put(k("c"), b"gone"), DeleteSpan(k("a"), k("d")), Put(k("b"), b"new"))
    assert case.scan("a", "zz") == {"b": b"new", "z": b"3"}
    assert case.send(Scan(k("a"), k("d")), ts=before).results[0].values == [b"1", b"2"]
    case.crash()
    assert case.scan("a", "zz") == {"b": b"new", "z": b"3"}


def test_delete_span_of_a_transaction_conflicts_with_newer_rows_and_locks():
    case = Case()
    txn, holder = case.txn(), case.txn()
    case.put(b=b"1")
    with pytest.raises(WriteTooOld):
        case.send(DeleteSpan(k("a"), k("d"), 1), EndTxn(True), txn=txn)
    holder = case.refresh(holder)
    case.get(k("b"), holder, EXCLUSIVE)
    waiting = case.start(DeleteSpan(k("a"), k("d"), 1), EndTxn(True), txn=case.refresh(txn))
    assert not waiting.done
    case.send(EndTxn(False), txn=holder)
    case.loop.run()
    assert waiting.error is None
    assert case.get(k("b")) is None


def test_a_named_commit_happens_once():
    case = Case()
    one = case.send(Put(k("a"), b"1", 1), EndTxn(True, commit_key="order 7"), txn=case.txn())
    again = case.send(Put(k("a"), b"2", 1), EndTxn(True, commit_key="order 7"), txn=case.txn())
    assert again.write_ts == one.write_ts
    assert case.get(k("a")) == b"1"
    case.crash()
    assert case.send(EndTxn(True, commit_key="order 7"), txn=case.txn()).write_ts == one.write_ts


def test_the_name_of_a_commit_is_forgotten_in_the_end():
    case = Case(StoreSettings(outcome_seconds=60, gc_interval_seconds=1))
    first = case.send(Put(k("a"), b"1", 1), EndTxn(True, commit_key="x"), txn=case.txn())
    case.loop.time_ns += 120_000_000_000
    case.put(b=b"1")
    case.loop.run(10)
    again = case.send(Put(k("a"), b"2", 1), EndTxn(True, commit_key="x"), txn=case.txn())
    assert again.write_ts > first.write_ts
    assert case.get(k("a")) == b"2"


# --- locks -------------------------------------------------------------------------


def test_plain_reads_ignore_locks():
    case = Case()
    case.put(a=b"1")
    case.get(k("a"), case.txn(), EXCLUSIVE)
    assert case.get(k("a")) == b"1"
    assert case.scan("a", "b") == {"a": b"1"}


def test_a_locking_read_waits_and_then_says_write_too_old_holding_the_lock():
    case = Case()
    case.put(a=b"0")
    two, one = case.txn(), case.txn()
    assert case.get(k("a"), one, EXCLUSIVE) == b"0"
    waiting = case.start(Get(k("a"), EXCLUSIVE), txn=two)
    assert not waiting.done
    committed = case.send(Put(k("a"), b"1", 1), EndTxn(True), txn=one).write_ts
    case.loop.run()
    assert isinstance(waiting.error, WriteTooOld)
    assert waiting.error.existing_ts == committed
    assert case.state.locks.holds_exclusive(k("a"), two.id)
    two = case.refresh(two, committed)
    assert case.get(k("a"), two, EXCLUSIVE) == b"1"
    case.send(Put(k("a"), b"2", 1), EndTxn(True), txn=two)
    assert case.get(k("a")) == b"2"


def test_read_committed_gets_the_newest_after_waiting():
    case = Case()
    case.put(a=b"0")
    one, two = case.txn(), case.txn(READ_COMMITTED)
    case.get(k("a"), one, EXCLUSIVE)
    waiting = case.start(Get(k("a"), EXCLUSIVE), txn=two)
    case.send(Put(k("a"), b"1", 1), EndTxn(True), txn=one)
    case.loop.run()
    assert waiting.result.results == [b"1"]


def test_a_missing_key_can_be_locked():
    """INSERT: two of the same key, the second waits and then finds the first."""
    case = Case()
    one, two = case.txn(READ_COMMITTED), case.txn(READ_COMMITTED)
    assert case.get(k("a"), one, EXCLUSIVE) is None
    waiting = case.start(Get(k("a"), EXCLUSIVE), txn=two)
    case.send(Put(k("a"), b"1", 1), EndTxn(True), txn=one)
    case.loop.run()
    assert waiting.result.results == [b"1"]


def test_nowait_and_skip():
    case = Case()
    case.put(a=b"1", b=b"2", c=b"3")
    case.get(k("b"), case.txn(), EXCLUSIVE)
    other = case.txn()
    with pytest.raises(LockNotAvailable, match="could not obtain lock on row"):
        case.get(k("b"), other, EXCLUSIVE, Wait.NOWAIT)
    assert case.get(k("b"), other, EXCLUSIVE, Wait.SKIP) is SKIPPED
    assert case.scan("a", "z", other, lock=EXCLUSIVE, wait=Wait.SKIP) == {"a": b"1", "c": b"3"}
    with pytest.raises(LockNotAvailable):
        case.scan("a", "z", other, lock=EXCLUSIVE, wait=Wait.NOWAIT)


def test_skip_locked_fills_its_limit_from_later_rows():
    """Job queues: ten workers, each takes one job nobody has."""
    case = Case()
    case.put(**{f"job{n:02}": b"%d" % n for n in range(40)})
    taken = [
        next(iter(case.scan("job", "joc", case.txn(), limit=1, lock=EXCLUSIVE, wait=Wait.SKIP))) for _ in range(30)
    ]
    assert taken == [f"job{n:02}" for n in range(30)]
    last = list(case.scan("job", "joc", case.txn(), limit=2, reverse=True, lock=EXCLUSIVE, wait=Wait.SKIP))
    assert last == ["job39", "job38"]


def test_a_locking_scan_locks_just_the_rows_it_returns():
    case = Case()
    case.put(a=b"1", b=b"2", c=b"3")
    txn = case.txn()
    page = case.send(Scan(k("a"), k("z"), limit=2, lock=EXCLUSIVE), txn=txn).results[0]
    assert page.resume == prefix_end(k("b"))
    assert case.state.locks.keys_held(txn.id) == [k("a"), k("b")]


def test_a_locking_scan_finds_phantoms_with_the_locks_held():
    case = Case()
    case.put(a=b"1")
    txn = case.txn()
    case.put(b=b"2")
    with pytest.raises(WriteTooOld):
        case.scan("a", "z", txn, lock=EXCLUSIVE)
    assert case.state.locks.keys_held(txn.id) == [k("a"), k("b")]
    assert case.scan("a", "z", case.refresh(txn), lock=EXCLUSIVE) == {"a": b"1", "b": b"2"}


def test_lock_timeout():
    case = Case()
    case.get(k("a"), case.txn(), EXCLUSIVE)
    late = case.start(Get(k("a"), EXCLUSIVE), txn=case.txn(lock_timeout_ms=50))
    case.loop.run()
    assert isinstance(late.error, LockNotAvailable)
    assert late.error.message == "canceling statement due to lock timeout"
    assert case.state.locks.waiters() == 0


def test_statement_deadline():
    case = Case()
    case.get(k("a"), case.txn(), EXCLUSIVE)
    late = Batch([Get(k("a"), EXCLUSIVE)], txn=case.txn(), deadline_ns=case.loop.wall_ns() + 5_000_000)
    with pytest.raises(QueryCanceled, match="statement timeout"):
        case.loop.finish(case.kv.send(late))
    assert case.state.locks.waiters() == 0


def test_a_cancelled_waiter_leaves_the_queue():
    case = Case()
    holder = case.txn()
    case.get(k("a"), holder, EXCLUSIVE)
    waiting = case.start(Get(k("a"), EXCLUSIVE), txn=case.txn())
    waiting.cancel()
    case.loop.run()
    assert isinstance(waiting.error, Cancelled)
    assert case.state.locks.waiters() == 0
    case.send(EndTxn(True), txn=holder)
    assert len(case.state.locks) == 0


def test_waiters_are_served_in_order():
    case = Case()
    case.put(a=b"0")
    holder = case.txn()
    case.get(k("a"), holder, EXCLUSIVE)
    waiters = [case.txn(READ_COMMITTED) for _ in range(5)]
    tasks = [case.start(Get(k("a"), EXCLUSIVE), txn=txn) for txn in waiters]
    case.send(EndTxn(True), txn=holder)
    for served in range(5):
        case.loop.settle()
        assert [task.done for task in tasks] == [n <= served for n in range(5)]
        case.send(EndTxn(True), txn=waiters[served])


def test_deadlock_between_commits_and_locks():
    """One waits with a locking read, the other with its commit."""
    case = Case()
    one, two = case.txn(READ_COMMITTED), case.txn(READ_COMMITTED)
    case.get(k("a"), one, EXCLUSIVE)
    case.get(k("b"), two, EXCLUSIVE)
    waiting = case.start(Get(k("b"), EXCLUSIVE), txn=one)
    with pytest.raises(Deadlock):
        case.send(Put(k("a"), b"1", 1), EndTxn(True), txn=two)
    case.send(EndTxn(False), txn=two)
    case.loop.run()
    assert waiting.error is None


def test_writes_outside_transactions_wait_for_locks():
    case = Case()
    txn = case.txn()
    case.get(k("a"), txn, EXCLUSIVE)
    waiting = case.start(Put(k("a"), b"2"))
    assert not waiting.done
    case.send(Put(k("a"), b"1", 1), EndTxn(True), txn=txn)
    case.loop.run()
    assert waiting.error is None
    assert case.get(k("a")) == b"2"
    assert len(case.state.locks) == 0


def test_lock_memory_is_bounded():
    case = Case(StoreSettings(locks_max=3))
    txn = case.txn()
    with pytest.raises(Exception, match="out of shared memory") as caught:
        case.send(*[Get(k(f"{n}"), EXCLUSIVE) for n in range(4)], txn=txn)
    assert caught.value.sqlstate == "53200"
    case.send(EndTxn(False), txn=txn)
    assert len(case.state.locks) == 0


# --- durability ----------------------------------------------------------------------


def test_a_commit_is_visible_at_once_and_says_what_it_waits_for():
    case = Case()
    waiting = case.start(Put(k("a"), b"1"))
    assert not waiting.done
    for reply in (case.kv.send(Batch([Get(k("a"))])), case.kv.send(Batch([Scan(k("a"), k("b"))]))):
        assert reply.unsynced
        assert case.kv.wait_durable(reply.unsynced) is not None
    assert case.kv.send(Batch([Get(k("b"))])).unsynced == 0
    case.loop.run(1)
    assert waiting.done
    reply = case.kv.send(Batch([Get(k("a"))]))
    assert (reply.results, reply.unsynced) == ([b"1"], 0)
    assert not case.state.unsynced


def test_a_span_deletion_is_a_dependency_of_every_key_in_it():
    case = Case()
    case.put(a=b"1")
    case.start(DeleteSpan(k("a"), k("b")))
    reply = case.kv.send(Batch([Get(k("a"))]))
    assert reply.results == [None]
    assert reply.unsynced


@pytest.mark.parametrize("seed", range(10))
def test_a_crash_keeps_commits_whole(seed: int):
    """What was acknowledged is there; of the rest each transaction is there or not."""
    case = Case()
    for n in range(3):
        case.put(**dict.fromkeys("abc", b"%d" % n))
    for n in range(3, 8):
        case.start(*[Put(k(name), b"%d" % n) for name in "abc"])
    case.crash(seed)
    rows = case.scan("a", "d")
    assert len(set(rows.values())) == 1
    assert int(rows["a"]) >= 2


def test_a_failed_sync_is_ambiguous_and_fatal():
    case = Case()
    case.engine.faults.sync_fails = True
    with pytest.raises(AmbiguousResult):
        case.put(a=b"1")
    assert len(case.fatal) == 1
    with pytest.raises(Exception):
        case.put(a=b"2")


def test_a_write_stall_leaves_no_trace():
    case = Case()
    txn = case.txn()
    case.get(k("a"), txn, EXCLUSIVE)
    case.engine.faults.write_stalls = True
    with pytest.raises(Overloaded):
        case.send(Put(k("a"), b"1", 1), EndTxn(True), txn=txn)
    case.engine.faults.write_stalls = False
    assert case.get(k("a")) is None
    assert case.state.locks.holds_exclusive(k("a"), txn.id)
    case.send(Put(k("a"), b"1", 1), EndTxn(True), txn=txn)
    assert case.get(k("a")) == b"1"


def test_timestamps_never_go_back_over_a_restart():
    """reliability 28: not even if the wall clock does."""
    case = Case()
    issued = max(case.kv.now(), case.put(a=b"1"))
    case.loop.time_ns -= 3_600_000_000_000
    case.crash()
    assert case.kv.now() > issued
    assert case.put(a=b"2") > issued


def test_a_restart_protects_the_reads_before_it():
    case = Case()
    old = case.txn()
    read = case.send(Get(k("a")))
    case.crash()
    assert case.send(Put(k("a"), b"1", 1), EndTxn(True), txn=old).write_ts > read.ts


# --- garbage ---------------------------------------------------------------------------


def test_garbage_is_collected_and_reads_below_the_threshold_refused():
    """One timer while there is garbage, none when it has gone."""
    case = Case(StoreSettings(gc_seconds=10, gc_interval_seconds=1, gc_min_bytes=1))
    first = case.put(a=b"1" * 100)
    for n in range(5):
        case.put(a=b"%d" % n * 100)
    replica = case.state.replica_of(k("a"))
    before = replica.version_count
    case.loop.run(5)
    assert case.send(Get(k("a")), ts=first).results == [b"1" * 100]
    case.loop.run(100)
    assert case.get(k("a")) == b"4" * 100
    with pytest.raises(BelowGcThreshold):
        case.send(Get(k("a")), ts=first)
    with pytest.raises(BelowGcThreshold):
        case.send(Scan(k("a"), k("b")), ts=first)
    assert case.state.replica_of(k("a")).version_count == before - 5
    assert not case.loop.timers, "idle costs nothing"


def test_range_tombstones_go_with_what_they_hide():
    case = Case(StoreSettings(gc_seconds=10, gc_interval_seconds=1, gc_min_bytes=1))
    case.put(**{f"{n:05}": b"x" for n in range(6_000)})
    case.send(DeleteSpan(k("0"), k("9")))
    assert len(case.state.tombstones) == 1
    case.loop.run(200)
    assert len(case.state.tombstones) == 0
    replica = case.state.replica_of(k("a"))
    assert replica.live_count < 10
    assert replica.stats() == case.send(Checksum(b"", b"")).results[0][1]


def test_retention_can_be_longer_for_some():
    case = Case(StoreSettings(gc_seconds=10, gc_interval_seconds=1, gc_min_bytes=1))
    case.store.cleanup.retention_of = lambda start, end: 3_000.0
    first = case.put(a=b"1")
    case.put(a=b"2")
    case.loop.run(1_000)
    assert case.send(Get(k("a")), ts=first).results == [b"1"]
