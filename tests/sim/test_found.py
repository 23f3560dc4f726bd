"""What the simulator found, small: each was a failing seed first (docs/simulation.md)."""

from __future__ import annotations

from typing import Any

import pytest

from base.errors import Overloaded, StorageFailure
from base.hlc import Hlc
from kvtier import mvcc
from kvtier.engine.memory import MemoryEngine
from kvtier.messages import Batch, EndTxn, Lock, Put, Reply, Split, TxnMeta
from kvtier.router import Router
from kvtier.store import Store
from planner.schema import SequenceDesc
from sim.loop import Loop
from sim.plan import Fault, Plan, draw_plan
from sim.run import play
from sql.sequences import Sequences
from txn.coordinator import Coordinator
from txn.settings import TxnSettings


class Node:
    """A store and a coordinator on virtual time."""

    def __init__(self, **settings: Any) -> None:
        self.loop = Loop(0)
        scope = self.loop.main
        self.deaths: list[BaseException] = []
        self.engine = MemoryEngine()
        self.store = Store(self.engine, scope.clock, scope, self.loop.rng, Hlc(), on_fatal=self.deaths.append)
        self.coordinator = Coordinator(self.store, scope.clock, scope, self.loop.rng, TxnSettings(**settings))

    def get(self, eager: Any) -> Any:
        async def main() -> Any:
            return await eager

        return self.loop.run(main()) if hasattr(eager, "__await__") else eager

    def send(self, *ops: Any, txn: TxnMeta | None = None) -> Reply:
        return self.get(self.store.send(Batch(list(ops), txn=txn)))


def test_a_refreshed_scan_of_a_prefix_protects_all_its_keys():
    """Seed 8: [p, end of p) looked like the point p, and the refreshed scan protected that key alone."""
    node = Node()
    node.send(Put(b"job/1", b"1"))
    scanner = node.coordinator.begin()
    node.get(scanner.scan(b"job/", b"job0"))
    # A later read of the key it writes moves its commit, so the scan is refreshed.
    node.send(Put(b"other", b"0"))
    reader = node.coordinator.begin()
    node.get(reader.get(b"mine"))
    scanner.put(b"mine", b"1")
    commit_ts = node.get(scanner.commit())
    assert commit_ts > scanner.read_ts
    assert node.store.state.tscache.get_max(b"job/1")[0] >= commit_ts


def test_a_locking_scan_meets_a_row_that_is_still_an_intent():
    """Seed 12: a row inserted by a committed transaction was missed until its intent was resolved."""
    node = Node()
    node.send(Put(b"row/1", b"1"))
    now = node.store.now()
    writer = TxnMeta(b"w" * 16, read_ts=now, write_ts=now, anchor=b"row/2", start_ts=now, seq=1)
    node.store.settings.resolve_delay_seconds = 10.0
    node.send(Put(b"row/2", b"2", 1), EndTxn(True, in_flight=((b"row/2", 1),)), txn=writer)
    node.send(EndTxn(True, intents=(b"row/2",)), txn=writer)
    assert b"row/2" in node.store.state.intents.points
    later = node.coordinator.begin()
    page = node.get(later.scan(b"row/", b"row0", lock=Lock.EXCLUSIVE))
    assert page.keys == [b"row/1", b"row/2"]


def test_a_full_disk_ends_the_node_whoever_notices():
    """Seed 2: the clock's bound could not be written, and the node went on over a dead engine."""
    node = Node()
    node.engine.faults.disk_full = True
    node.loop.now_ns += 60_000_000_000
    with pytest.raises(StorageFailure):
        node.store.now()
    assert len(node.deaths) == 1


def test_span_deletions_that_overlap_are_resolved_together():
    """Seed 49: resolving [3, 5) took [4, 6) off the disk and left it in the index; its readers spun for ever."""
    node = Node()
    writer = node.coordinator.begin()
    for start, end in ((b"row/4", b"row/6"), (b"row/3", b"row/5")):
        node.get(writer.delete_span(start, end))
        node.get(writer.flush())
    node.get(writer.commit())
    node.loop.run_for(10)
    assert not node.store.state.intents.spans
    assert not node.store.state.records


def test_a_compiled_write_that_waited_flushes_before_it_answers():
    """Seed 2 of the SQL workloads: the flush's coroutine was taken for the rows."""
    plan = Plan(2, "sql-fk", seconds=3.0)
    plan.knobs.hop_delay = 0.3
    plan.txn.buffer_bytes_max = 1
    assert play(plan).failure == ""


def test_locks_are_released_after_a_write_stall():
    """Found by a run of every fault: a rollback that the stalled disk refused left its locks for ever."""
    node = Node()
    holder = node.coordinator.begin()
    node.get(holder.get(b"row", Lock.EXCLUSIVE))
    holder.put(b"row", b"1")
    node.get(holder.flush())
    node.engine.faults.write_stalls = True
    released = holder.rollback()
    node.loop.run_for(1.0)
    assert node.store.state.locks.states
    node.engine.faults.write_stalls = False
    node.get(released)
    node.loop.run_for(1.0)
    assert not node.store.state.locks.states


def test_a_sequence_claims_nothing_while_the_disk_refuses():
    """Seed 23 of the SQL workloads: a block was used although its claim could not be written."""
    node = Node()
    sequences = Sequences(node.store)
    desc = SequenceDesc()
    node.get(sequences.load(7, desc))
    node.engine.faults.write_stalls = True
    with pytest.raises(Overloaded):
        sequences.refill(7, desc, "s")
    assert sequences.try_next(7, desc, "s") is None
    node.engine.faults.write_stalls = False
    claimed = sequences.refill(7, desc, "s")
    assert claimed is not None
    assert claimed[0] == 1
    node.get(claimed[1])
    assert sequences.try_next(7, desc, "s") == 2


@pytest.mark.parametrize("seed", [1, 2, 9])
def test_a_dropped_index_is_emptied_after_its_catalog_is_published(seed: int):
    """Readers by the old catalog found the index without its entries while the DROP waited for its sync."""
    plan = Plan(seed, "sql-ddl", seconds=5.0)
    plan.knobs.sync_seconds = 0.05
    plan.txn.buffer_bytes_max = 600
    assert play(plan).failure == ""


def test_a_rollback_is_not_cancelled():
    """Seed 23: a cancel request that met a waiting ROLLBACK was told to the client as an internal error."""
    plan = Plan(1, "sql-sequence", seconds=3.0)
    plan.faults = [Fault(0.02 * number, "cancel", choice=number * 7919) for number in range(1, 140)]
    plan.faults.append(Fault(1.0, "write-stall", seconds=1.0))
    plan.knobs.latency_seconds = 0.018
    plan.knobs.hop_delay = 0.3
    plan.knobs.think_seconds = 0.02
    plan.txn.force_intents = True
    plan.txn.buffer_bytes_max = 1
    plan.txn.flush_bytes_max = 200
    assert play(plan).failure == ""


def test_an_idle_client_hears_that_its_node_is_lost():
    """Seed 38: a client that was thinking when the node died sent BEGIN into the old connection, and waited."""
    plan = Plan(1, "sql-bank", seconds=2.0, clients=2)
    plan.knobs.think_seconds = 0.5
    plan.knobs.timeout_seconds = 60.0
    plan.faults = [Fault(1.5, "crash")]
    result = play(plan)
    assert result.failure == "", result.text
    assert result.virtual_seconds < 20


def test_a_restart_gives_no_timestamp_out_again():
    """Seed 1145: reads above the bound on disk were served at once, and the next start began at that bound."""
    node = Node()
    given = node.store.now()
    for _ in range(3):
        engine = node.engine.crash(node.loop.rng)
        node.engine = engine
        # The wall clock of the new start is an hour late.
        node.loop.main.clock.offset_ns -= 3_600_000_000_000
        node.store = Store(engine, node.loop.main.clock, node.loop.main, node.loop.rng, Hlc())
        again = node.store.now()
        assert again > given
        given = again


def test_reads_do_not_run_ahead_of_the_clocks_bound():
    """Reliability 28: nothing is written for an hour, so no commit's sync keeps the bound either."""
    node = Node()
    for _ in range(60):
        node.loop.run_for(0.7)
        given = node.store.state.now()
    engine = node.engine.crash(node.loop.rng)
    node.loop.main.clock.offset_ns -= 3_600_000_000_000
    assert Store(engine, node.loop.main.clock, node.loop.main, node.loop.rng, Hlc()).now() > given


def test_a_statement_that_runs_again_begins_at_its_beginning():
    """Seed 12 of 60 virtual seconds: its second attempt went on with a cursor that the first had not opened."""
    plan = Plan(12, "sql-ddl", seconds=3.0, clients=8)
    plan.knobs.think_seconds = 0.03
    plan.knobs.sync_seconds = 0.02
    plan.txn.refreshes_max = 0
    assert play(plan).failure == ""


def test_collecting_goes_on_over_a_range_that_was_split():
    """Seed 164 of 60 virtual seconds: a span of two ranges was sent as one, and the refusal ended the node."""
    node = Node()
    node.store.settings.route_always = True
    Router(node.store)
    for number in range(4):
        node.send(Put(b"row/1", b"%d" % number))
        node.send(Put(b"row/7", b"%d" % number))
    node.send(Split(b"row/5"))
    node.store.settings.gc_seconds = 0.0
    node.loop.run_for(1.0)
    node.loop.run(node.store.cleanup.collect(b"row/", b"row0"))
    state = node.store.state
    assert mvcc.stats(state.engine, b"row/", b"row0", state.tombstones).version_count == 2


def test_asking_for_an_outcome_leaves_no_lock():
    """Seed 5 of 60 virtual seconds: whoever asked while the commit was under way was given its lock, and kept it."""
    node = Node(force_intents=True)
    node.store.settings.resolve_delay_seconds = 0.0
    txn = node.coordinator.begin()
    txn.set_commit_key("name")
    txn.put(b"row", b"1")

    async def main() -> tuple[Any, str]:
        committed = node.loop.main.spawn(awaited(txn.commit()), "commit")
        while not node.store.state.intents.points:
            await node.loop.main.clock.sleep(0.0)
        asked = await node.coordinator.outcome("name")
        return await committed, asked

    assert node.loop.run(main())[1] == "committed"
    node.loop.run_for(5.0)
    assert not node.store.state.locks.states


async def awaited(eager: Any) -> Any:
    return await eager if hasattr(eager, "__await__") else eager


def test_a_block_whose_commit_is_refused_is_over():
    """Seed 1 of 3 virtual seconds: COMMIT met the stalled disk at once, and left the session in a failed block."""
    plan = Plan(1, "sql-pipeline", seconds=3.0, clients=6)
    plan.faults = [Fault(0.5 * number, "write-stall", 0.2) for number in range(1, 6)]
    plan.knobs.think_seconds = 0.02
    assert play(plan).failure == ""


def test_a_schema_change_of_unknown_outcome_is_looked_up():
    """Seed 37: CREATE INDEX had committed, the node did not know, and wrote rows past it until its next life."""
    assert play(draw_plan(37, ("sql-ddl",), seconds=20.0)).failure == ""
