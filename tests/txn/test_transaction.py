"""One transaction at a time: what is sent, savepoints, retries, named commits, failures."""

from __future__ import annotations

from asyncio import CancelledError

import pytest

from base.errors import (
    AmbiguousResult,
    LockNotAvailable,
    MeridianError,
    ReadConflict,
    Retryable,
    SqlError,
    TxnAborted,
    WriteTooOld,
)
from kvtier.messages import EndTxn, Heartbeat, Lock, Reply, Wait
from tests.txn.stories import RC, RR, SER, Story, World, get, scan, update, value_of
from txn.settings import TxnSettings
from txn.term import Term


def sent(world) -> list[str]:
    """Names of the operations sent since the last call, one string a batch."""
    batches = [" ".join([type(op).__name__ for op in batch.ops]) for batch in world.kv.sent]
    world.kv.sent.clear()
    return batches


# --- what goes over the seam ------------------------------------------------------


def test_nothing_is_sent_before_it_must_be():
    """Beginning and buffered writes send nothing, reading one batch each, a read-only commit nothing."""
    world = World()
    world.kv.load(x=1)
    txn = world.begin()
    assert (txn.read_ts, txn.id, sent(world)) == (0, b"", [])
    assert txn.get(b"x") == b"1"
    assert (txn.id, sent(world)) == (b"", ["Get"])
    assert txn.commit() == txn.read_ts
    assert sent(world) == []


def test_one_phase_commit_is_one_batch():
    """Checks of the reads, the writes, the end: in this order, and no intent."""
    world = World()
    world.kv.load(x=1, y=2)
    txn = world.begin()
    txn.get(b"y", projection=b"\3")
    txn.get(b"x", Lock.EXCLUSIVE)
    txn.put(b"x", b"7")
    txn.delete(b"y")
    sent(world)
    world.run(value_of(txn.commit()))
    assert sent(world) == ["Refresh Refresh Put Delete EndTxn"]
    assert world.kv.newest() == {b"x": b"7"}
    world.kv.check_idle()


def test_parallel_commit_is_one_round():
    """Intents and STAGING record together; explicit commit and resolution after the answer."""
    world = World(settings=TxnSettings(force_intents=True))
    world.kv.load(x=1)
    txn = world.begin()
    txn.put(b"x", b"7")
    txn.put(b"y", b"8")
    world.run(value_of(txn.commit()))
    assert sent(world) == ["Put Put EndTxn"]
    world.loop.run_for(1)
    assert sent(world) == ["EndTxn", "ResolveIntents"]
    assert world.kv.newest() == {b"x": b"7", b"y": b"8"}


def test_locks_alone_are_released_by_one_batch():
    world = World()
    world.kv.load(x=1)
    for end in ("commit", "rollback"):
        txn = world.begin()
        txn.get(b"x", Lock.EXCLUSIVE)
        sent(world)
        getattr(txn, end)()
        assert sent(world) == ["EndTxn"]
        world.kv.check_idle()


def test_rollback_of_buffered_writes_sends_nothing():
    world = World()
    txn = world.begin()
    txn.put(b"x", b"1")
    assert txn.rollback() is None
    assert txn.rollback() is None
    assert sent(world) == []
    with pytest.raises(AssertionError, match="used after its end: aborted"):
        txn.get(b"x")


def test_get_many_asks_only_for_what_the_buffer_lacks():
    world = World()
    world.kv.load(a=1, b=2, c=3)
    txn = world.begin()
    txn.put(b"b", b"20")
    txn.delete(b"c")
    assert txn.get_many([b"a", b"b", b"c", b"d", b"a"]) == [b"1", b"20", None, None, b"1"]
    assert sent(world) == ["Get Get Get"]
    assert txn.get_many([b"b", b"c"]) == [b"20", None]
    assert txn.get_many([]) == []
    assert sent(world) == []


def test_single_statement_keeps_no_read_set():
    world = World()
    world.kv.load(a=1)
    txn = world.begin(single_statement=True)
    txn.get(b"a")
    txn.scan(b"a", b"z")
    assert not txn._reads
    with pytest.raises(AssertionError, match="no lock"):
        txn.get(b"a", Lock.EXCLUSIVE)
    with pytest.raises(AssertionError, match="read-only"):
        txn.put(b"a", b"1")


# --- read your writes -------------------------------------------------------------


def test_scans_see_the_buffer_in_both_directions():
    world = World()
    world.kv.load(a=1, c=3, e=5, g=7)
    txn = world.begin()
    txn.put(b"b", b"2")
    txn.delete(b"c")
    txn.put(b"e", b"50")
    assert world.run(scan(txn, "a", "z")) == [("a", 1), ("b", 2), ("e", 50), ("g", 7)]
    assert world.run(scan(txn, "a", "z", reverse=True)) == [("g", 7), ("e", 50), ("b", 2), ("a", 1)]
    assert world.run(scan(txn, "a", "z", limit=2)) == [("a", 1), ("b", 2)]
    txn.delete_span(b"a", b"f")
    assert world.run(scan(txn, "a", "z")) == [("g", 7)]
    assert world.run(scan(txn, "b", "d")) == []
    txn.put(b"d", b"4")
    assert world.run(scan(txn, "a", "z")) == [("d", 4), ("g", 7)]
    world.run(value_of(txn.commit()))
    assert world.kv.newest() == {b"d": b"4", b"g": b"7"}


def test_a_page_is_never_empty_before_the_end():
    """LIMIT 1 over rows that the transaction deleted goes on to the first that is left."""
    world = World()
    world.kv.load(**dict.fromkeys("abcdefgh", 1))
    txn = world.begin()
    for name in (b"a", b"b", b"c", b"d"):
        txn.delete(name)
    assert world.run(scan(txn, "a", "z", limit=1)) == [("e", 1)]
    for name in (b"h", b"g"):
        txn.delete(name)
    assert world.run(scan(txn, "a", "z", limit=1, reverse=True)) == [("f", 1)]


# --- savepoints -------------------------------------------------------------------

SAVEPOINTS = """
    T1 begin
    T1 put x 1
    T1 savepoint a
    T1 put x 2
    T1 put z 5
    {flush}
    T1 savepoint b
    T1 truncate a zzz
    T1 put y 3
    {flush}
    T1 scan a zzz           -> y=3
    # Back to b: the span deletion and y are gone.
    T1 rollback-to b
    T1 scan a zzz           -> x=2 y=20 z=5
    T1 put z 6
    T1 rollback-to b
    T1 get z                -> 5
    # Back to a, twice; then new writes.
    T1 rollback-to a
    T1 scan a zzz           -> x=1 y=20
    T1 put w 9
    {flush}
    T1 scan a zzz           -> w=9 x=1 y=20
    T1 rollback-to a
    T1 put y 4
    T1 scan a zzz           -> x=1 y=4
    T1 commit
"""


@pytest.mark.parametrize("flush", ["", "T1 flush"], ids=["buffered", "flushed"])
@pytest.mark.parametrize("level", [RC, RR, SER], ids=["rc", "rr", "ser"])
def test_savepoints(level, flush):
    """The same story with everything in the buffer, and with intents in the store (reliability 21, 32)."""
    story = Story(level).play(SAVEPOINTS.format(flush=flush))
    assert story.rows() == "x=1 y=4"


def test_reads_of_a_rolled_back_savepoint_are_still_checked():
    """reliability 18: what was seen there may have led to what was written after."""
    Story(SER).play("""
        T1 begin
        T1 savepoint a
        T1 get y            -> 20
        T1 rollback-to a
        T2 begin
        T2 update y 21
        T2 get z            -> ok
        T2 commit
        T1 put z 1
        T1 commit           -> 40001 read_conflict
    """)


def test_rolled_back_intervals_join():
    """A loop of savepoint and rollback after a flush keeps one interval, not thousands."""
    world = World()
    txn = world.begin()
    outer = txn.savepoint()
    for _ in range(50):
        token = txn.savepoint()
        txn.put(b"k", b"1")
        world.run(value_of(txn.flush()))
        txn.rollback_to(token)
    assert len(txn._meta.ignored) <= 50
    txn.rollback_to(outer)
    assert len(txn._meta.ignored) == 1
    assert world.run(get(txn, "k")) is None
    world.run(value_of(txn.commit()))
    world.loop.run_for(1)
    assert world.kv.newest() == {}


# --- flushing ---------------------------------------------------------------------


@pytest.mark.parametrize("level", [RC, RR, SER], ids=["rc", "rr", "ser"])
def test_a_transaction_larger_than_its_buffer(level):
    """Flushed parts are seen by the transaction, by nobody else, and commit together."""
    world = World(settings=TxnSettings(buffer_bytes_max=2_000, flush_bytes_max=500))
    world.kv.load(k005=1, zz=1)

    async def main():
        txn, other = world.begin(level), world.begin(level)
        txn.begin_statement()
        for row in range(200):
            txn.put(b"k%03d" % row, b"%d" % row)
            if txn.needs_flush:
                await value_of(txn.flush())
        await value_of(txn.flush())
        assert await scan(txn, "k000", "k999") == [(f"k{row:03d}", row) for row in range(200)]
        assert await get(other, "zz") == 1
        txn.delete(b"k100")
        assert len(await scan(txn, "k000", "k999")) == 199
        await value_of(txn.commit())
        await value_of(other.commit())

    world.run(main())
    world.loop.run_for(1)
    assert len(world.kv.newest()) == 200
    world.kv.check_idle()


def test_rollback_removes_flushed_intents():
    world = World()
    world.kv.load(x=1)

    async def main():
        txn = world.begin()
        txn.put(b"x", b"2")
        txn.delete_span(b"y", b"z")
        await value_of(txn.flush())
        await value_of(txn.rollback())

    world.run(main())
    assert world.kv.newest() == {b"x": b"1"}
    world.kv.check_idle()


def test_heartbeats_keep_a_record_and_tell_of_an_abort():
    """Every second from the first intent on; an ABORTED record fails the next call (reliability 16)."""
    world = World()
    txn = world.begin()

    async def main():
        txn.put(b"x", b"2")
        await value_of(txn.flush())
        sent(world)
        await world.scope.clock.sleep(3.5)
        assert sent(world) == ["Heartbeat"] * 3
        world.kv.fail_next.append(lambda batch, before: TxnAborted() if isinstance(batch.ops[0], Heartbeat) else None)
        await world.scope.clock.sleep(1)
        with pytest.raises(TxnAborted) as caught:
            txn.get(b"x")
        assert await value_of(txn.restart(caught.value))
        txn.put(b"x", b"3")
        await value_of(txn.commit())
        await world.scope.clock.sleep(10)

    world.run(main())
    assert world.kv.newest() == {b"x": b"3"}
    assert not any(isinstance(batch.ops[0], Heartbeat) for batch in world.kv.sent[-3:])


# --- retries ----------------------------------------------------------------------


def test_restart_keeps_locks_and_forgets_the_rest():
    """After a lost race the second attempt cannot lose the same key again."""
    story = Story(SER).play("""
        T1 begin
        T1 get y            -> 20
        T2 begin
        T2 update y 21
        T2 commit
    """)
    world, txn = story.world, story.sessions["T1"].txn
    world.run(update(txn, "x", lambda value: value + 1))

    async def main():
        with pytest.raises(WriteTooOld) as caught:
            await update(txn, "y", lambda value: value + 1)
        identity = txn.id
        assert txn.restart(caught.value) is True
        assert (txn.id, txn.read_ts, bool(txn._buffer), txn.is_read_only) == (identity, 0, False, True)
        assert world.kv.locks[b"x"] == {identity: Lock.EXCLUSIVE}
        await update(txn, "x", lambda value: value + 1)
        await update(txn, "y", lambda value: value + 1)
        await value_of(txn.commit())

    world.run(main())
    assert story.rows() == "x=11 y=22"


def test_restarts_are_bounded_and_need_a_retryable():
    world = World(settings=TxnSettings(restarts_max=2))
    txn = world.begin()
    assert txn.restart(SqlError("division by zero")) is False
    assert txn.restart(WriteTooOld(b"k", 1)) is True
    assert world.run(value_of(txn.restart(WriteTooOld(b"k", 1)))) is True
    assert txn.restart(WriteTooOld(b"k", 1)) is False


def test_a_deadlock_victim_lets_go():
    """The victim's locks are free before it waits for its next attempt."""
    world = World()
    world.kv.load(x=1, y=1)

    async def mover(source, target):
        txn = world.begin()
        while True:
            try:
                await update(txn, source, lambda value: value - 1)
                await world.scope.clock.sleep(0.01)
                await update(txn, target, lambda value: value + 1)
                return await value_of(txn.commit())
            except Retryable as error:
                assert await value_of(txn.restart(error))

    async def main():
        for task in [world.scope.spawn(mover("x", "y"), "one"), world.scope.spawn(mover("y", "x"), "two")]:
            await task

    world.run(main())
    assert world.kv.deadlocks == 1
    assert world.kv.newest() == {b"x": b"1", b"y": b"1"}
    world.kv.check_idle()


def test_statement_retry_undoes_only_the_statement():
    """READ COMMITTED: its earlier statements stay, the statement's own writes go, the snapshot is new."""
    world = World()
    world.kv.load(x=1, y=1)
    txn = world.begin(RC)
    txn.begin_statement()
    txn.put(b"a", b"1")
    txn.begin_statement()
    first = txn.read_ts or (world.run(get(txn, "x")) and txn.read_ts)
    txn.put(b"b", b"2")
    assert txn.retry_statement(ReadConflict(b"x", 5)) is True
    assert world.run(get(txn, "b")) is None
    assert world.run(get(txn, "a")) == 1
    assert world.run(get(txn, "x")) == 1
    assert txn.read_ts > first
    assert txn.retry_statement(TxnAborted()) is False
    assert world.begin(SER).retry_statement(ReadConflict(b"x", 5)) is False


def test_a_named_savepoint_outlives_the_statements_after_it():
    """READ COMMITTED forgets how to undo earlier statements only while nobody may ask for it."""
    world = World()
    txn = world.begin(RC)
    txn.begin_statement()
    txn.put(b"a", b"1")
    txn.begin_statement()
    txn.put(b"a", b"2")
    token = txn.savepoint()
    for value in (b"3", b"4"):
        txn.begin_statement()
        txn.put(b"a", value)
    txn.rollback_to(token)
    assert world.run(get(txn, "a")) == 2
    assert txn.retry_statement(ReadConflict(b"x", 5)) is True
    assert world.run(get(txn, "a")) == 2


def test_read_committed_reruns_a_statement_whose_reads_are_stale():
    """It read y, then had to wait for x: where y has changed meanwhile it runs again on one snapshot."""
    world = World()
    world.kv.load(x=1, y=1)
    seen = []

    async def statement(txn):
        txn.begin_statement()
        while True:
            try:
                before = await get(txn, "y")
                await world.scope.clock.sleep(0.01)
                seen.append((before, await get(txn, "x", Lock.EXCLUSIVE)))
                return
            except Retryable as error:
                assert await value_of(txn.retry_statement(error))

    async def main():
        reader, writer = world.begin(RC), world.begin(RC)
        task = world.scope.spawn(statement(reader), "reader")
        await world.scope.clock.sleep(0.005)
        writer.begin_statement()
        await update(writer, "x", lambda _: 2)
        await update(writer, "y", lambda _: 2)
        await value_of(writer.commit())
        await task
        await value_of(reader.commit())

    world.run(main())
    assert seen == [(2, 2)]


# --- validation and deadlines -------------------------------------------------------


@pytest.mark.parametrize("level", [RC, RR, SER], ids=["rc", "rr", "ser"])
@pytest.mark.parametrize("intents", [False, True], ids=["one-phase", "intents"])
def test_validated_keys_must_not_change(level, intents):
    """A descriptor that changes under a writer makes its commit fail at every level."""
    world = World(settings=TxnSettings(force_intents=intents))
    world.kv.load(descriptor=1)

    async def main():
        txn = world.begin(level)
        txn.begin_statement()
        txn.add_validation(b"descriptor")
        assert await get(txn, "x") is None
        txn.put(b"x", b"1")
        other = world.begin()
        await update(other, "descriptor", lambda value: value + 1)
        assert await get(other, "x") is None
        await value_of(other.commit())
        await world.scope.clock.sleep(0.1)
        with pytest.raises(ReadConflict) as caught:
            await value_of(txn.commit())
        assert caught.value.key == b"descriptor"
        await value_of(txn.rollback())

    world.run(main())
    world.kv.check_idle()


def test_add_read_is_checked_at_serializable():
    world = World()
    world.kv.load(d=1)
    txn = world.begin()
    txn.add_read(b"d")
    other = world.begin()
    world.run(update(other, "d", lambda value: 2))
    world.run(get(other, "x"))
    world.run(value_of(other.commit()))
    txn.put(b"x", b"1")
    with pytest.raises(ReadConflict):
        txn.commit()


def test_commit_deadline():
    """reliability 81: a commit past the lease of what it was planned with is refused."""
    world = World()
    txn = world.begin()
    txn.put(b"x", b"1")
    txn.set_deadline(world.kv.now())
    with pytest.raises(Retryable) as caught:
        txn.commit()
    assert caught.value.reason == "deadline"


@pytest.mark.parametrize("level", [RC, RR, SER], ids=["rc", "rr", "ser"])
def test_nothing_is_read_or_committed_past_the_term(level):
    """What ran while the node's lease on the catalog held does not outlive it; a new attempt gets the new term."""
    world = World(max_offset_us=1_000)
    world.kv.load(x=1)
    world.coordinator.term = Term(world.kv.now() + (5 << 20))

    async def main():
        reader, writer, late = world.begin(level), world.begin(level), world.begin(level)
        for txn in (reader, writer, late):
            txn.begin_statement()
        assert await get(reader, "x") == 1
        assert await get(writer, "x") == 1
        writer.put(b"y", b"1")
        reader.put(b"z", b"1")
        await value_of(reader.commit())
        await world.scope.clock.sleep(10.0)
        if level != RC:  # Commits at its snapshot, however late: nothing has moved it.
            assert await value_of(writer.commit()) < world.coordinator.term.until
        else:
            with pytest.raises(Retryable):
                await value_of(writer.commit())
        with pytest.raises(Retryable) as caught:
            await get(late, "x")
        assert caught.value.reason == "catalog_lease"
        assert not await value_of(late.retry_statement(caught.value))
        world.coordinator.term = Term(world.kv.now() + (500 << 20))
        assert late.is_lapsed()
        assert await value_of(late.restart(caught.value))
        assert not late.is_lapsed()
        assert await get(late, "x") == 1
        late.put(b"w", b"1")
        await value_of(late.commit())
        await value_of(writer.rollback())

    world.run(main())
    assert (b"y" in world.kv.newest()) == (level != RC)
    assert b"w" in world.kv.newest()


# --- named transactions -------------------------------------------------------------


@pytest.mark.parametrize("intents", [False, True], ids=["one-phase", "intents"])
def test_exactly_once_by_name(intents):
    """The second commit under one name succeeds without effect; the outcome can be asked for."""
    world = World(settings=TxnSettings(force_intents=intents))
    world.kv.load(x=0)

    async def attempt(name):
        txn = world.begin()
        txn.set_commit_key(name)
        await update(txn, "x", lambda value: value + 1)
        try:
            await value_of(txn.commit())
        finally:
            await value_of(txn.rollback())

    async def main():
        await attempt("transfer-1")
        await attempt("transfer-1")
        assert await world.coordinator.outcome("transfer-1") == "committed"
        # Asked before it committed: then it never will.
        assert await world.coordinator.outcome("transfer-2") == "aborted"
        with pytest.raises(TxnAborted, match="inquiry"):
            await attempt("transfer-2")
        assert await world.coordinator.outcome("transfer-2") == "aborted"

    world.run(main())
    world.loop.run_for(1)
    assert world.kv.newest()[b"x"] == b"1"
    world.kv.check_idle()


# --- ambiguity and cancellation -----------------------------------------------------


def lose(ends: bool):
    """Loses the answer of the batch that commits, before or after the store evaluated it."""

    def failing(batch, before):
        is_end = isinstance(batch.ops[-1], EndTxn) and batch.ops[-1].commit
        return AmbiguousResult("connection lost") if is_end and before == ends else None

    return failing


@pytest.mark.parametrize("intents", [False, True], ids=["one-phase", "intents"])
@pytest.mark.parametrize("before", [True, False], ids=["not-applied", "applied"])
def test_a_lost_answer_is_ambiguous_and_never_retried(before, intents):
    """reliability 6: whether or not it was applied, COMMIT answers 40003 and nothing is sent again."""
    world = World(settings=TxnSettings(force_intents=intents))
    world.kv.load(x=0)

    async def main():
        txn = world.begin()
        txn.set_commit_key("t")
        await update(txn, "x", lambda value: value + 1)
        world.kv.fail_next.append(lose(before))
        with pytest.raises(AmbiguousResult) as caught:
            await value_of(txn.commit())
        assert (caught.value.sqlstate, txn.state) == ("40003", "ambiguous")
        assert txn.restart(caught.value) is False
        count = len(world.kv.sent)
        assert txn.rollback() is None
        assert len(world.kv.sent) == count
        if not intents:
            # The client's way out: the name tells.
            assert await world.coordinator.outcome("t") == ("aborted" if before else "committed")

    world.run(main())


def test_cancel_while_waiting_for_a_lock():
    """The queue forgets it, rollback frees what it held."""
    story = Story(SER).play("""
        T1 begin
        T2 begin
        T2 lock y           -> 20
        T1 lock x           -> 10
        T2 lock x           -> waits
        T2 cancel           -> cancelled
        T1 update y 0       -> waits
        T2 rollback
        T1 ...
        T1 commit
    """)
    assert story.rows() == "x=10 y=0"


def test_lock_timeout():
    world = World()
    world.kv.load(x=1)
    holder, waiter = world.begin(), world.begin(lock_timeout_ms=50)
    world.run(get(holder, "x", Lock.EXCLUSIVE))
    with pytest.raises(LockNotAvailable, match="lock timeout"):
        world.run(get(waiter, "x", Lock.EXCLUSIVE))
    assert 50_000_000 <= world.loop.now_ns < 60_000_000
    holder.rollback()
    waiter.rollback()
    world.kv.check_idle()


@pytest.mark.parametrize("intents", [False, True], ids=["one-phase", "intents"])
@pytest.mark.parametrize("multi", [False, True], ids=["one-store", "ranges"])
def test_cancellation_anywhere_leaves_no_lock(intents, multi):
    """Cancels at every step of a transaction in turn (reliability 133): all or nothing, and nothing held."""
    outcomes = set()
    for cancel_after in range(1, 60):
        ranges = {"max_offset_us": 1000, "boundaries": (b"m",)} if multi else {}
        world = World(seed=cancel_after, settings=TxnSettings(force_intents=intents), sync_seconds=0.002, **ranges)
        world.kv.load(a=1, z=1)
        world.loop.run_for(0.01)

        async def victim(world=world):
            txn = world.begin()
            try:
                await update(txn, "a", lambda value: value + 1)
                await world.scope.clock.sleep(0.001)
                await update(txn, "z", lambda value: value + 1)
                await value_of(txn.flush()) if intents else None
                txn.put(b"k", b"1")
                await value_of(txn.commit())
            finally:
                txn.rollback()

        async def holder(world=world):
            txn = world.begin()
            await get(txn, "z", Lock.EXCLUSIVE)
            await world.scope.clock.sleep(0.004)
            await value_of(txn.rollback())

        world.scope.spawn(holder(), "holder")
        task = world.scope.spawn(victim(), "victim").observe()
        for _ in range(cancel_after):
            if not task.is_done():
                world.loop.step()
        task.cancel()
        world.loop.run_for(20)
        assert task.error is None or isinstance(task.error, CancelledError), repr(task.error)
        world.kv.check_idle()
        rows = world.kv.newest()
        assert rows in ({b"a": b"1", b"z": b"1"}, {b"a": b"2", b"z": b"2", b"k": b"1"}), (cancel_after, rows)
        outcomes.add((len(rows), task.error is None))
    assert (2, False) in outcomes
    assert (3, True) in outcomes


# --- several ranges, clocks that disagree ---------------------------------------------


def test_weaker_levels_prove_their_locks_at_commit():
    """reliability 23: a lock lost with its range's lease is no excuse under READ COMMITTED."""
    world = World(max_offset_us=1000, boundaries=(b"m",))
    world.kv.load(a=1)
    world.loop.run_for(0.01)

    async def main():
        txn = world.begin(RC)
        txn.begin_statement()
        assert await get(txn, "a", Lock.EXCLUSIVE) == 1
        world.kv.locks.clear()  # The lease moved.
        other = world.begin(RC)
        other.begin_statement()
        await update(other, "a", lambda value: 5)
        await value_of(other.commit())
        txn.begin_statement()
        txn.put(b"z", b"1")
        with pytest.raises(ReadConflict):
            await value_of(txn.commit())
        await value_of(txn.rollback())

    world.run(main())
    world.loop.run_for(1)
    world.kv.check_idle()


def test_uncertainty_moves_the_snapshot():
    """A value within max_offset above our clock may be older than we are: read again above it."""
    world = World(max_offset_us=500_000)
    txn = world.begin()
    world.kv.load(x=1)
    txn.get(b"y")
    other = world.begin()
    other.put(b"x", b"2")
    world.run(value_of(other.commit()))
    first = txn.read_ts
    assert world.run(get(txn, "x")) == 2
    assert txn.read_ts > first


def test_commit_wait():
    """reliability 27: a timestamp ahead of our clock is confirmed when its time has come."""
    world = World(max_offset_us=500_000)
    future = world.kv.now() + (300_000 << 12)
    world.kv.point_reads[b"x"] = (future, b"somebody")
    txn = world.begin()
    txn.put(b"x", b"1")
    commit_ts = world.run(value_of(txn.commit()))
    assert commit_ts > future
    assert world.loop.now_ns >= 300_000_000


def test_unsynced_answers_are_confirmed_when_durable():
    """A read-only transaction that saw an unsynced write waits for the sync at its commit."""
    world = World()
    txn = world.begin()
    txn._send = lambda batch: Reply([b"1"], batch.ts, 0, 7)
    assert txn.get(b"x") == b"1"
    before = world.loop.now_ns
    assert world.run(value_of(txn.commit())) == txn.read_ts
    assert world.loop.now_ns > before


def test_as_of_reads_the_past_without_identity():
    world = World()
    world.kv.load(x=1)
    past = world.kv.now()
    world.kv.load(x=2)
    txn = world.begin(as_of_ts=past)
    assert world.run(get(txn, "x")) == 1
    assert world.run(scan(txn, "a", "z")) == [("x", 1)]
    assert (txn.id, txn.refresh_to(past + 1), txn.restart(TxnAborted())) == (b"", False, False)
    assert txn.commit() == past


def test_skip_locked_queue_workers_do_not_conflict():
    """Eight workers drain a queue at SERIALIZABLE: each job once, no error."""
    world = World(explore=True, seed=3)
    world.kv.load(**{f"job{number:02d}": number for number in range(24)})
    done = []

    async def worker():
        while True:
            txn = world.begin()
            page = await value_of(txn.scan(b"job", b"jop", limit=1, lock=Lock.EXCLUSIVE, wait=Wait.SKIP))
            if not page.keys:
                await value_of(txn.rollback())
                return
            await world.scope.clock.sleep(0.001)
            txn.delete(page.keys[0])
            await value_of(txn.commit())
            done.append(page.keys[0])

    async def main():
        for task in [world.scope.spawn(worker(), "worker") for _ in range(8)]:
            await task

    world.run(main())
    assert sorted(done) == [b"job%02d" % number for number in range(24)]
    world.kv.check_idle()


def test_every_conflict_says_why():
    """reason and key of what a client will see in DETAIL."""
    world = World()
    world.kv.load(x=1)
    txn = world.begin(RR)
    world.run(get(txn, "y"))
    other = world.begin()
    world.run(update(other, "x", lambda value: 2))
    world.run(get(other, "y"))
    world.run(value_of(other.commit()))
    with pytest.raises(MeridianError) as caught:
        world.run(update(txn, "x", lambda value: 3))
    error = caught.value
    assert (error.sqlstate, error.reason, error.key) == ("40001", "write_too_old", b"x")
    assert str(error) == "could not serialize access due to concurrent update"


def test_a_lock_given_while_a_failing_commit_waited_is_released(monkeypatch):
    """The store gives a blind write the key it queued for; after the commit fails, the next end frees it."""
    monkeypatch.setattr(World, "kind", "store")
    world = World()
    world.kv.load(x=1, y=1)

    async def main():
        txn, holder = world.begin(), world.begin()
        assert await get(txn, "y") == 1
        await update(holder, "x", lambda value: value + 1)
        await update(holder, "y", lambda value: value + 1)
        txn.put(b"x", b"9")
        task = world.scope.spawn(value_of(txn.commit()), "commit").observe()
        await world.scope.clock.sleep(0.01)
        await value_of(holder.commit())
        with pytest.raises(Retryable) as caught:
            await task
        assert await value_of(txn.restart(caught.value))
        assert await get(txn, "y") == 2
        await value_of(txn.commit())

    world.run(main())
    world.loop.run_for(1)
    world.kv.check_idle()
    assert world.kv.newest() == {b"x": b"2", b"y": b"2"}
