"""Transactions with intents: visibility, pushes, records, parallel commit, recovery, cleanup."""

from __future__ import annotations

import msgspec
import pytest

from base.errors import ConditionFailed, LockNotAvailable, ReadConflict, TxnAborted, TxnRetry, WriteTooOld
from kvtier.messages import (
    Batch,
    ConditionalPut,
    Delete,
    DeleteSpan,
    EndTxn,
    Get,
    Heartbeat,
    Isolation,
    Lock,
    Push,
    Put,
    QueryIntent,
    Recover,
    Refresh,
    Reply,
    Scan,
    TxnMeta,
    TxnStatus,
    Wait,
    prefix_end,
)
from kvtier.settings import StoreSettings
from tests.kvtier.kvcase import Case, k

EXCLUSIVE = Lock.EXCLUSIVE


def begin(case: Case, isolation: Isolation = Isolation.SERIALIZABLE, **fields) -> TxnMeta:
    """A transaction that has chosen its anchor."""
    return case.txn(isolation, anchor=k("a"), **fields)


def write(case: Case, txn: TxnMeta, **rows: bytes) -> TxnMeta:
    """Writes intents; returns the transaction with its sequence and timestamp moved."""
    ops = [Put(k(name), value, txn.seq + n) for n, (name, value) in enumerate(rows.items(), 1)]
    reply = case.send(*ops, txn=txn)
    return msgspec.structs.replace(txn, seq=txn.seq + len(rows), write_ts=max(txn.write_ts, reply.write_ts))


def keys(*names: str) -> tuple[bytes, ...]:
    return tuple(k(name) for name in names)


# --- seeing --------------------------------------------------------------------------


def test_intents_are_seen_by_their_own_transaction_only():
    case = Case()
    case.put(a=b"0", c=b"0")
    txn = write(case, begin(case), a=b"1", b=b"1")
    assert case.get(k("a"), txn) == b"1"
    assert case.scan("a", "z", txn) == {"a": b"1", "b": b"1", "c": b"0"}
    assert case.scan("a", "z", txn, reverse=True, limit=2) == {"c": b"0", "b": b"1"}
    assert case.send(Get(k("a")), ts=txn.read_ts - 1).results == [b"0"]


def test_sequence_numbers_and_savepoints():
    """reliability 32"""
    case = Case()
    txn = begin(case)
    txn = write(case, txn, a=b"1")
    txn = write(case, txn, a=b"2")
    assert case.get(k("a"), txn) == b"2"
    assert case.get(k("a"), msgspec.structs.replace(txn, seq=1)) == b"1"
    rolled_back = msgspec.structs.replace(txn, ignored=((2, 2),))
    assert case.get(k("a"), rolled_back) == b"1"
    case.send(EndTxn(True, intents=keys("a")), txn=rolled_back)
    case.loop.run()
    assert case.get(k("a")) == b"1"


def test_a_deleted_span_hides_rows_from_its_own_transaction():
    case = Case()
    case.put(a=b"0", b=b"0")
    txn = write(case, begin(case), c=b"1")
    case.send(DeleteSpan(k("a"), k("d"), 2), txn=txn)
    txn = msgspec.structs.replace(txn, seq=2)
    txn = write(case, txn, b=b"2")
    assert case.get(k("a"), txn) is None
    assert case.scan("a", "z", txn) == {"b": b"2"}
    case.send(EndTxn(True, intents=keys("b", "c"), intent_spans=((k("a"), k("d")),)), txn=txn)
    case.loop.run()
    assert case.scan("a", "z") == {"b": b"2"}
    assert not case.state.intents


def test_others_wait_for_a_deleted_span():
    case = Case()
    case.put(b=b"0")
    txn = begin(case)
    case.send(DeleteSpan(k("a"), k("d"), 1), txn=txn)
    reader = case.start(Get(k("b")))
    writer = case.start(Put(k("c"), b"1"))
    assert not reader.done
    assert not writer.done
    case.send(EndTxn(True, intent_spans=((k("a"), k("d")),)), txn=msgspec.structs.replace(txn, seq=1))
    case.loop.run()
    assert reader.result.results == [None]
    assert case.get(k("c")) == b"1"


# --- conflicts -----------------------------------------------------------------------


def test_a_reader_waits_for_a_serializable_writer():
    case = Case()
    txn = write(case, begin(case), a=b"1")
    reader = case.start(Get(k("a")))
    scanner = case.start(Scan(k("a"), k("b")))
    assert not reader.done
    assert not scanner.done
    case.send(EndTxn(True, intents=keys("a")), txn=txn)
    case.loop.run(1)
    assert reader.result.results == [b"1"]
    assert scanner.result.results[0].values == [b"1"]


@pytest.mark.parametrize("isolation", [Isolation.READ_COMMITTED, Isolation.REPEATABLE_READ])
def test_a_reader_pushes_a_weaker_writer_above_itself(isolation: Isolation):
    case = Case()
    txn = write(case, begin(case, isolation), a=b"1")
    reply = case.kv.send(Batch([Get(k("a"))]))
    assert reply.__class__ is not Reply
    reply = case.loop.finish(reply)
    assert reply.results == [None]
    commit_ts = case.send(EndTxn(True, intents=keys("a")), txn=txn).write_ts
    assert commit_ts > reply.ts
    case.loop.run()
    assert case.send(Get(k("a")), ts=reply.ts).results == [None]
    assert case.get(k("a")) == b"1"


def test_a_writer_waits_and_then_finds_the_newer_version():
    case = Case()
    late = begin(case)
    txn = write(case, begin(case), a=b"1")
    waiting = case.start(Put(k("a"), b"2", 1), txn=late)
    assert not waiting.done
    case.send(EndTxn(True, intents=keys("a")), txn=txn)
    case.loop.run()
    assert isinstance(waiting.error, WriteTooOld)


def test_locking_reads_meet_intents():
    case = Case()
    txn = write(case, begin(case), a=b"1")
    other = case.txn()
    with pytest.raises(LockNotAvailable):
        case.get(k("a"), other, EXCLUSIVE, Wait.NOWAIT)
    waiting = case.start(Get(k("a"), EXCLUSIVE), txn=case.txn(Isolation.READ_COMMITTED))
    case.send(EndTxn(False, intents=keys("a")), txn=txn)
    case.loop.run(1)
    assert waiting.result.results == [None]


def test_intents_and_locks_deadlock_together():
    case = Case()
    one = write(case, begin(case), a=b"1")
    two = begin(case)
    case.get(k("b"), two, EXCLUSIVE)
    waiting = case.start(Get(k("b"), EXCLUSIVE), txn=one)
    second = case.start(Get(k("a"), EXCLUSIVE), txn=two)
    assert second.done
    assert second.error.sqlstate == "40P01"
    case.send(EndTxn(False), txn=two)
    case.loop.run(1)
    assert waiting.error is None


def test_a_refresh_waits_for_the_intent_in_its_way():
    case = Case()
    reader = case.txn()
    case.get(k("b"), reader)
    txn = write(case, begin(case), b=b"1")
    case.send(Get(k("x")))
    commit = case.start(
        Refresh(k("b"), prefix_end(k("b")), reader.read_ts), Put(k("x"), b"1", 1), EndTxn(True), txn=reader
    )
    assert not commit.done
    case.send(EndTxn(True, intents=keys("b")), txn=txn)
    case.loop.run()
    assert isinstance(commit.error, ReadConflict)


# --- writing ---------------------------------------------------------------------------


def test_an_intent_goes_above_reads_and_says_so():
    case = Case()
    txn = begin(case)
    read = case.send(Get(k("a")))
    reply = case.send(Put(k("a"), b"1", 1), txn=txn)
    assert reply.write_ts > read.ts
    assert reply.unsynced


def test_the_bumped_timestamp_is_kept():
    """reliability 20: a second write below the first one's timestamp does not take it back."""
    case = Case()
    txn = begin(case)
    read = case.send(Get(k("a")))
    case.send(Put(k("a"), b"1", 1), txn=txn)
    case.send(Put(k("a"), b"2", 2), txn=txn)
    assert case.state.intents.points[k("a")].write_ts > read.ts


def test_conditional_puts_see_the_own_history_and_replays_pass():
    case = Case()
    txn = begin(case)
    first = Batch([ConditionalPut(k("a"), b"1", None, 1)], txn=txn)
    case.loop.finish(case.kv.send(first))
    case.loop.finish(case.kv.send(first))
    case.send(ConditionalPut(k("a"), b"2", b"1", 2), txn=msgspec.structs.replace(txn, seq=1))
    with pytest.raises(ConditionFailed):
        case.send(ConditionalPut(k("a"), b"3", b"1", 3), txn=msgspec.structs.replace(txn, seq=2))


# --- ending ----------------------------------------------------------------------------


def test_explicit_commit_resolves_and_then_drops_the_record():
    case = Case()
    txn = write(case, begin(case), a=b"1", b=b"2")
    reply = case.send(Put(k("c"), b"3", 3), Delete(k("d"), 4), EndTxn(True, intents=keys("a", "b")), txn=txn)
    assert not reply.staged
    case.loop.run()
    assert case.scan("a", "z") == {"a": b"1", "b": b"2", "c": b"3"}
    assert not case.state.records
    assert not case.state.intents
    assert not case.loop.timers


def test_parallel_commit():
    case = Case()
    txn = write(case, begin(case), a=b"1")
    staged = case.send(Put(k("b"), b"2", 2), EndTxn(True, in_flight=((k("a"), 1),)), txn=txn)
    assert staged.staged
    assert case.state.records[txn.id].status == TxnStatus.STAGING
    reader = case.start(Get(k("a")))
    assert not reader.done
    done = case.send(EndTxn(True, intents=keys("a", "b")), txn=txn)
    assert done.write_ts == staged.write_ts
    case.loop.run(1)
    assert reader.result.results == [b"1"]
    assert case.scan("a", "z") == {"a": b"1", "b": b"2"}


def test_rollback_removes_everything():
    case = Case()
    case.put(a=b"0")
    txn = write(case, begin(case), a=b"1", b=b"2")
    case.get(k("z"), txn, EXCLUSIVE)
    case.send(EndTxn(False, intents=keys("a", "b")), txn=txn)
    case.loop.run()
    assert case.scan("a", "zz") == {"a": b"0"}
    assert not case.state.intents
    assert len(case.state.locks) == 0
    assert not case.state.records


def test_rollback_finds_intents_the_coordinator_forgot():
    case = Case()
    txn = write(case, begin(case), a=b"1", b=b"2")
    case.send(EndTxn(False), txn=txn)
    case.loop.run()
    assert not case.state.intents


def test_a_second_commit_is_told_the_first_and_a_rollback_after_it_fails():
    """reliability 12"""
    case = Case()
    txn = write(case, begin(case), a=b"1")
    first = case.send(EndTxn(True, intents=keys("a")), txn=txn)
    assert case.send(EndTxn(True, intents=keys("a")), txn=txn).write_ts == first.write_ts
    case.loop.run()
    assert case.send(EndTxn(True, intents=keys("a")), txn=txn).write_ts == first.write_ts
    with pytest.raises(TxnRetry):
        case.send(EndTxn(False, intents=keys("a")), txn=txn)
    assert case.get(k("a")) == b"1"


def test_commit_goes_above_the_push_and_checks_its_reads_there():
    case = Case()
    txn = write(case, begin(case, Isolation.REPEATABLE_READ), a=b"1")
    pushed_to = case.send(Get(k("a"))).ts
    assert case.state.records[txn.id].write_ts > pushed_to
    with pytest.raises(TxnRetry):
        case.send(EndTxn(True, intents=keys("a"), can_forward=False), txn=txn)


def test_a_named_commit_with_intents_happens_once():
    case = Case()
    first = begin(case)
    write(case, first, a=b"1")
    staged = case.send(EndTxn(True, in_flight=((k("a"), 1),), commit_key="order 7"), txn=first)
    second = write(case, case.txn(anchor=k("b")), b=b"2")
    with pytest.raises(TxnRetry):
        case.send(EndTxn(True, intents=keys("b"), commit_key="order 7"), txn=second)
    case.send(EndTxn(True, intents=keys("a"), commit_key="order 7"), txn=first)
    again = case.send(Put(k("c"), b"2", 2), EndTxn(True, intents=keys("b"), commit_key="order 7"), txn=second)
    assert again.write_ts == staged.write_ts
    one_phase = case.send(Put(k("d"), b"3", 1), EndTxn(True, commit_key="order 7"), txn=case.txn())
    assert one_phase.write_ts == staged.write_ts
    case.loop.run()
    assert case.scan("a", "z") == {"a": b"1"}
    assert not case.state.intents


# --- abandoned ---------------------------------------------------------------------------


def test_an_abandoned_writer_without_record_is_aborted():
    case = Case(StoreSettings(txn_expiry_seconds=5))
    case.put(a=b"0")
    txn = write(case, begin(case), a=b"1")
    reader = case.start(Get(k("a")))
    case.loop.run(30)
    assert reader.result.results == [b"0"]
    assert not case.state.intents
    with pytest.raises(TxnAborted):
        case.send(Put(k("b"), b"1", 2), txn=txn)
    with pytest.raises(TxnAborted):
        case.send(EndTxn(True, intents=keys("a")), txn=txn)
    assert case.get(k("b")) is None


def test_a_poisoned_transaction_must_not_read_its_missing_writes():
    """reliability 15"""
    case = Case()
    txn = write(case, begin(case), a=b"1")
    case.start(Get(k("a")))
    case.loop.run(30)
    with pytest.raises(TxnAborted):
        case.get(k("a"), txn)
    with pytest.raises(TxnAborted):
        case.scan("a", "b", txn)
    case.crash()
    with pytest.raises(TxnAborted):
        case.get(k("a"), txn)


def test_a_heartbeat_keeps_a_transaction_alive():
    case = Case(StoreSettings(txn_expiry_seconds=5))
    txn = write(case, begin(case), a=b"1")
    reader = case.start(Get(k("a")))
    for _ in range(10):
        case.loop.run(2)
        case.loop.time_ns += 1_000_000_000
        assert case.send(Heartbeat(txn.anchor, case.kv.now()), txn=txn).results == [TxnStatus.PENDING]
    assert not reader.done
    case.send(EndTxn(True, intents=keys("a")), txn=txn)
    case.loop.run(1)
    assert reader.result.results == [b"1"]


def test_abandoned_intents_go_without_anybody_asking():
    case = Case(StoreSettings(txn_expiry_seconds=5))
    write(case, begin(case), a=b"1")
    case.loop.run(60)
    assert not case.state.intents
    assert not case.loop.timers


@pytest.mark.parametrize("is_complete", [True, False])
def test_recovery_of_an_abandoned_staging_transaction(is_complete: bool):
    """reliability 11: committed if every write is there, else the missing one is prevented."""
    case = Case(StoreSettings(txn_expiry_seconds=5))
    case.put(a=b"0")
    txn = write(case, begin(case), a=b"1")
    in_flight = ((k("a"), 1),) if is_complete else ((k("a"), 1), (k("b"), 2))
    case.send(EndTxn(True, in_flight=in_flight), txn=txn)
    reader = case.start(Get(k("a")))
    case.loop.run(60)
    assert reader.result.results == [b"1" if is_complete else b"0"]
    assert not case.state.intents
    assert not case.state.records
    if not is_complete:
        with pytest.raises(TxnAborted):
            case.send(Put(k("b"), b"2", 2), txn=txn)


def test_query_intent_prevents_what_is_not_there():
    case = Case()
    txn = write(case, begin(case), a=b"1")
    assert case.send(QueryIntent(k("a"), txn, 1)).results == [True]
    assert case.send(QueryIntent(k("a"), txn, 7)).results == [False]
    assert case.send(QueryIntent(k("b"), txn, 2)).results == [False]
    assert case.send(Put(k("b"), b"2", 2), txn=txn).write_ts > txn.write_ts


def test_recovery_leaves_a_transaction_that_staged_again():
    case = Case()
    txn = write(case, begin(case), a=b"1")
    case.send(EndTxn(True, in_flight=((k("a"), 1),)), txn=txn)
    again = msgspec.structs.replace(txn, write_ts=case.kv.now())
    case.send(EndTxn(True, in_flight=((k("a"), 1),)), txn=again)
    assert case.send(Recover(txn.anchor, txn, False)).results == [TxnStatus.STAGING]


def test_an_aborting_push_wins_over_a_transaction_without_record():
    """reliability 14: the missing record must not be written afterwards."""
    case = Case()
    txn = write(case, begin(case), a=b"1")
    assert case.send(Push(txn.anchor, txn, 0, True)).results[0].status == TxnStatus.ABORTED
    case.loop.run()
    with pytest.raises(TxnAborted):
        case.send(EndTxn(True, intents=keys("a")), txn=txn)
    assert case.send(Heartbeat(txn.anchor, case.kv.now()), txn=txn).results == [TxnStatus.ABORTED]


def test_nobody_comes_back_over_a_restart():
    """A record that may have been forgotten is not written anew."""
    case = Case()
    txn = begin(case)
    case.crash()
    with pytest.raises(TxnAborted) as caught:
        case.send(EndTxn(True, intents=keys("a")), txn=txn)
    assert caught.value.reason == "possible_replay"


# --- crashes -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_crash_in_the_middle_of_a_commit_is_all_or_nothing(seed: int):
    """Cut anywhere between staging and resolution: the rows appear together or not at all."""
    case = Case(StoreSettings(txn_expiry_seconds=1))
    case.put(a=b"0", b=b"0")
    txn = write(case, begin(case), a=b"1")
    acknowledged = case.start(Put(k("b"), b"1", 2), EndTxn(True, in_flight=((k("a"), 1),)), txn=txn)
    for _ in range(seed):
        if not case.loop.tick():
            case.loop.advance()
    if acknowledged.done:
        case.start(EndTxn(True, intents=keys("a", "b")), txn=txn)
        for _ in range(seed % 3):
            case.loop.tick()
    was_acknowledged = acknowledged.done
    case.crash(seed)
    case.loop.run(60)
    rows = case.scan("a", "c")
    assert rows in ({"a": b"1", "b": b"1"}, {"a": b"0", "b": b"0"})
    assert not was_acknowledged or rows["a"] == b"1"
    assert not case.state.intents


def test_intents_survive_a_restart():
    """Their transaction does not: it could not write its record any more."""
    case = Case()
    txn = write(case, begin(case), a=b"1")
    case.put(z=b"1")
    case.crash()
    assert list(case.state.intents.points) == [k("a")]
    assert case.get(k("a"), txn) == b"1"
    assert case.get(k("a")) is None
    assert not case.state.intents
    with pytest.raises(TxnAborted):
        case.get(k("a"), txn)


def test_a_transaction_with_a_record_survives_a_restart():
    case = Case()
    txn = write(case, begin(case), a=b"1")
    case.send(Heartbeat(txn.anchor, case.kv.now()), txn=txn)
    case.put(z=b"1")
    case.crash()
    reader = case.start(Get(k("a")))
    assert not reader.done
    case.send(EndTxn(True, intents=keys("a")), txn=txn)
    case.loop.run(1)
    assert reader.result.results == [b"1"]
