"""What a log carries is enough: a second store that applies the commands is equal to the first.

The first store sees transfers in every way a store knows, audits, vanishing clients, span
deletions, splits, merges and garbage collection; the second sees only bytes.
"""

from __future__ import annotations

import msgspec
import pytest

from base.errors import RangeMismatch, SqlError
from base.seams import CF_DATA, CF_LOCAL, CF_LOCK
from kvtier.administration import RangeChange
from kvtier.change import Change
from kvtier.command import change_of, decode_command, encode_command, range_change_of
from kvtier.engine import MemoryEngine
from kvtier.messages import Batch, CollectGarbage, Delete, DeleteSpan, Merge, Put, Split
from kvtier.opening import HLC_BOUND_KEY
from kvtier.store import Store
from tests.kvtier.kvcase import Case, k
from tests.kvtier.test_bank import ACCOUNTS, Bank, run, settle

FAMILIES = (CF_DATA, CF_LOCK, CF_LOCAL)


def contents(store: Store, cf: int) -> dict[bytes, bytes]:
    """Everything in one family but the store's own clock."""
    iterator = store.engine.iterator(cf)
    iterator.seek(b"")
    found = {}
    while iterator.valid():
        found[iterator.key()] = iterator.value()
        iterator.next()
    iterator.close()
    found.pop(HLC_BOUND_KEY, None)
    return found


def memory(store: Store) -> dict[str, object]:
    """What a store knows beside its engine, as far as replicas share it."""
    state = store.state
    return {
        "ranges": [(replica.state(), replica.counts(), replica.is_estimate) for replica in state.ranges.all()],
        "swept": [(replica.swept_threshold, replica.swept_to) for replica in state.ranges.all()],
        "intents": {key: (intent.txn.id, intent.seq) for key, intent in state.intents.points.items()},
        "spans": [(span.txn.id, span.start, span.end, span.seq) for span in state.intents.spans],
        "runs": [(run.txn.id, run.start, run.end, run.write_ts, run.top_ts) for run in state.intents.runs.all()],
        "records": dict(state.records),
        "tombstones": (state.tombstones.starts, state.tombstones.records()),
        "poisoned": list(state.poisoned),
        "gc_high": state.gc_high,
    }


class Follower:
    """A store that begins as another's copy and then sees only its commands."""

    def __init__(self, leader: Case) -> None:
        self.case = Case()
        self.case.engine = MemoryEngine()
        batch = self.case.engine.batch()
        for cf in FAMILIES:
            for key, value in contents(leader.store, cf).items():
                batch.put(cf, key, value)
        self.case.engine.write(batch)
        self.case.open()
        self.leader = leader
        self.commands = 0
        self.bytes = 0
        leader.store.on_change = self.take

    def take(self, change: Change, ranges: RangeChange | None) -> None:
        encoded = encode_command(change, ranges)
        self.commands += 1
        self.bytes += len(encoded)
        self.apply(encoded)

    def apply(self, encoded: bytes) -> None:
        store = self.case.store
        command = decode_command(encoded)
        change = change_of(command, store.state)
        ranges = range_change_of(command, change, store.state)
        if ranges is None:
            store.apply(change)
        else:
            store.apply_ranges(ranges)

    def check(self) -> None:
        ours, theirs = self.case.store, self.leader.store
        for cf in FAMILIES:
            assert contents(ours, cf) == contents(theirs, cf), cf
        assert memory(ours) == memory(theirs)
        self.case.check()


async def disturb(bank: Bank, rounds: int) -> None:
    """Splits, merges, deletes spans and raises garbage thresholds while money moves."""
    begin = bank.case.kv.now() - 50_000_000
    for round_ in range(rounds):
        await bank.case.loop.sleep(bank.draw.random() * 0.01)
        at = k(f"acc{bank.draw.randrange(ACCOUNTS):02}")
        other = k(f"x{bank.draw.randrange(ACCOUNTS):02}")
        ops = [
            [Split(at)],
            [Merge(at)],
            [Put(other, b"%d" % round_)],
            [Delete(other)],
            [DeleteSpan(k("x"), other)],
            [CollectGarbage(k("a"), k("z"), begin + round_)],
        ][bank.draw.randrange(6)]
        try:
            await bank.send(*ops)
        except SqlError:
            pass  # The last range has no right neighbour.


def collect(case: Case) -> None:
    """Removes all old versions."""
    at: bytes | None = k("a")
    threshold = case.kv.now()
    while at is not None:
        at = case.send(CollectGarbage(at, k("z"), threshold)).results[0]


@pytest.mark.parametrize("seed", range(8))
def test_a_follower_is_equal(seed: int):
    bank = Bank(seed)
    follower = Follower(bank.case)
    disturber = bank.case.loop.start(disturb(bank, 60))
    run(bank, clients=8, transfers=12)
    follower.check()
    settle(bank)
    assert disturber.done
    assert disturber.error is None
    collect(bank.case)
    follower.check()
    assert follower.commands > 100


def test_equal_changes_give_equal_bytes():
    """Two stores that evaluate the same requests write the same log."""
    logs: list[list[bytes]] = []
    for _ in range(2):
        case = Case()
        log: list[bytes] = []
        case.store.on_change = lambda change, ranges, log=log: log.append(encode_command(change, ranges))
        case.put(a=b"1", b=b"2")
        txn = case.txn(anchor=k("a"))
        case.send(Put(k("a"), b"3", 1), txn=txn)
        case.send(Split(k("b")))
        logs.append(log)
    assert logs[0] == logs[1]
    assert len(logs[0]) == 3


def test_a_change_that_is_refused_does_not_happen():
    """A log that cannot take a command keeps it from being applied."""
    case = Case()

    def refuse(change: Change, ranges: RangeChange | None) -> None:
        raise RangeMismatch(())

    case.store.on_change = refuse
    with pytest.raises(RangeMismatch):
        case.store.send(Batch([Put(k("a"), b"1")]))
    case.store.on_change = None
    assert case.get(k("a")) is None


@pytest.mark.parametrize("bad", [b"", b"\xc1", b"\x90", b"\x91\x01", b"\x92\x90\xa1x"])
def test_malformed_commands_are_refused(bad: bytes):
    with pytest.raises(msgspec.MsgspecError):
        decode_command(bad)


def test_a_command_names_its_ranges():
    """A command of a range that is not here is an error, not a silent nothing."""
    leader, other = Case(), Case()
    log: list[bytes] = []
    leader.store.on_change = lambda change, ranges: log.append(encode_command(change, ranges))
    leader.send(Split(k("m")))
    leader.put(n=b"1")
    with pytest.raises(RangeMismatch):
        change_of(decode_command(log[1]), other.state)


def test_a_small_commit_is_small():
    """One key: its version, the statistics, the key once more for readers who wait."""
    case = Case()
    log: list[bytes] = []
    case.store.on_change = lambda change, ranges: log.append(encode_command(change, ranges))
    case.put(a=b"1")
    assert len(log[0]) < 150
    assert decode_command(log[0]).ops
