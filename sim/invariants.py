"""What must hold at every moment, and what must hold at rest.

at any time    ranges tile the key space and the meta entries say so; statistics equal a recount;
               lock table, intent index and timestamp cache agree with themselves; every intent
               on disk is in the index and the other way round
restarted      the clock is above every timestamp a client was given
at rest        no intent, no record, no lock, no waiter is left
served reads   a transaction's reads, read again at its commit timestamp, are the same
               (the serial order is the order of timestamps: a direct test of it)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.errors import BelowGcThreshold
from base.hlc import LOGICAL_BITS, TS_MAX
from base.seams import CF_DATA
from kvtier import mvcc
from kvtier.descriptors import DATA_START, KEY_MAX, META1, RangeDescriptor, decode_descriptor
from kvtier.messages import Batch, Get, Reply, Scan
from kvtier.meta import entry_keys
from kvtier.mvcc.intents import intents_in
from kvtier.mvcc.runs import stored_runs
from kvtier.mvcc.versions import SUFFIX, ts_of
from kvtier.state import StoreState

if TYPE_CHECKING:
    from sim.process import Process
    from sim.world import World

SERVED_MAX: Final = 400
"""Transactions whose reads are read again at the end; of more, a drawn sample."""


class Violation(Exception):
    """An invariant is broken: which, how, and what its story should mention."""

    def __init__(self, invariant: str, text: str, words: tuple[str, ...] = ()) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant
        self.text = text
        self.words = words


class Read:
    """One read of a committed transaction: the span it covered and the rows in it."""

    __slots__ = ("end", "rows", "start")

    def __init__(self, start: bytes, end: bytes, rows: dict[bytes, bytes]) -> None:
        self.start = start
        self.end = end
        self.rows = rows


class Served:
    """What one transaction read, when, and what it wrote itself."""

    __slots__ = ("reads", "ts", "who", "written", "written_spans")

    def __init__(
        self, who: str, ts: int, reads: list[Read], written: dict[bytes, None], spans: list[tuple[bytes, bytes]]
    ) -> None:
        self.who = who
        self.ts = ts
        self.reads = reads
        self.written = written
        self.written_spans = spans


def check_any_time(process: Process) -> None:
    """Everything that holds between two ticks."""
    state = process.store.state
    if process.member is None:
        check_ranges(state)
    check_statistics(state)
    state.locks.check()
    state.intents.check()
    check_intents(state)


def check_ranges(state: StoreState) -> None:
    """Ranges tile the key space, and the meta entries are theirs."""
    state.ranges.check()
    at = b""
    entries: dict[bytes, RangeDescriptor] = {}
    for replica in state.ranges.all():
        if replica.start != at:
            raise Violation("ranges tile the key space", f"gap or overlap at {at!r}: {replica.descriptor}")
        at = replica.end
        entries.update(dict.fromkeys(entry_keys(replica.descriptor), replica.descriptor))
    if at != KEY_MAX:
        raise Violation("ranges tile the key space", f"nothing covers the keys from {at!r}")
    rows = mvcc.scan(state.engine, META1, DATA_START, state.hlc.latest, False, 1 << 20, 0, state.tombstones, 0, False)
    found = dict(zip(rows[0], [decode_descriptor(value) for value in rows[1]]))
    if found != entries:
        raise Violation("meta entries describe the ranges", f"{found} instead of {entries}")


def check_statistics(state: StoreState) -> None:
    """Counted statistics equal a recount (reliability 116)."""
    for replica in state.ranges.all():
        if replica.is_estimate:
            continue
        counted = recount(state, replica.start, replica.end)
        if counted != replica.counts():
            raise Violation(
                "statistics equal a recount", f"{replica.descriptor}: {replica.counts()} but counted {counted}"
            )


def recount(state: StoreState, start: bytes, end: bytes) -> tuple[int, int, int, int]:
    """Returns (live_count, live_bytes, version_count, total_bytes) of a span, by reading all of it.

    ``kvtier.mvcc.survey`` counts the same and more; this is simpler, and done so often that it must be quick.
    """
    cuts = state.tombstones if state.tombstones.overlap(start, end) else None
    live_count = live_bytes = version_count = total_bytes = 0
    cursor = state.engine.point_iterator(CF_DATA)
    cursor.seek(start)
    step, key_of, value_of = cursor.next, cursor.key, cursor.value
    newest = b""
    while (found := key_of()) is not None:
        user = found[:-SUFFIX]
        if user >= end and end:
            break
        if user >= start:
            size = len(value_of() or b"")
            version_count += 1
            total_bytes += len(found) + size
            if user != newest:
                newest = user
                if size and (cuts is None or cuts.covering(user, TS_MAX) <= ts_of(found[-SUFFIX:])):
                    live_count += 1
                    live_bytes += len(user) + size
        step()
    cursor.status()
    return live_count, live_bytes, version_count, total_bytes


def check_intents(state: StoreState) -> None:
    """The index of intents is what is in the lock family."""
    stored = {key: intent.txn_id for key, intent in intents_in(state.engine, b"", b"")}
    indexed = {key: intent.txn.id for key, intent in state.intents.points.items()}
    if stored != indexed:
        raise Violation("the index holds the intents", f"stored {stored}, indexed {indexed}")
    runs = [(start, run.txn_id, run.end, run.write_ts, run.top_ts) for start, run in stored_runs(state.engine)]
    known = [(run.start, run.txn.id, run.end, run.write_ts, run.top_ts) for run in state.intents.runs.all()]
    if runs != known:
        raise Violation("the index holds the runs", f"stored {runs}, indexed {known}")


def check_restarted(process: Process) -> None:
    """A new generation's clock is above every timestamp a client was told (reliability 28).

    What other nodes stamped may be ahead of this one's clock, by the offset that clocks may have.
    """
    latest = process.store.now() + (process.max_offset_us << LOGICAL_BITS)
    if latest < process.served_ts:
        raise Violation("the clock never goes back", f"restarted at {latest:x}, a client has {process.served_ts:x}")
    check_any_time(process)


def check_rest(process: Process, with_locks: bool = True) -> str:
    """Returns what is left of transactions although nobody is active; "" if nothing."""
    state = process.store.state
    left = []
    if state.intents:
        left.append(f"intents {list(state.intents.points)[:5]} {[span.start for span in state.intents.spans][:5]}")
        left.append(f"runs {[run.start for run in state.intents.runs.all()][:5]}")
    if state.records:
        left.append(f"records {list(state.records.values())[:3]}")
    if state.locks.waiters():
        left.append(f"{state.locks.waiters()} waiters")
    if state.locks.states and with_locks:
        left.append(f"locks on {list(state.locks.states)[:5]}")
    return ", ".join(left)


async def check_served(world: World) -> int:
    """Reads every served read again at its timestamp; returns how many could still be compared."""
    compared = 0
    for number, served in enumerate(world.served):
        process = world.processes[number % len(world.processes)]
        for read in served.reads:
            again = await _read_again(process, read, served.ts)
            if again is None:
                continue
            compared += 1
            before = _without_own(read.rows, served)
            after = _without_own(again, served)
            if before != after:
                different = [key for key in sorted({**before, **after}) if before.get(key, b"") != after.get(key, b"")]
                raise Violation(
                    "reads hold at the commit timestamp",
                    f"{served.who} committed at {served.ts:x} and read {_show(before, different)}, "
                    f"but at that timestamp there is {_show(after, different)}",
                    (served.who, *[repr(key) for key in different[:3]]),
                )
    return compared


def _without_own(rows: dict[bytes, bytes], served: Served) -> dict[bytes, bytes]:
    return {
        key: value
        for key, value in rows.items()
        if key not in served.written and not any(start <= key < end for start, end in served.written_spans)
    }


def _show(rows: dict[bytes, bytes], keys: list[bytes]) -> str:
    return ", ".join([f"{key!r}={rows.get(key)!r:.60}" for key in keys[:4]])


async def _read_again(process: Process, read: Read, ts: int) -> dict[bytes, bytes] | None:
    """Returns the rows of a span at a timestamp, or None if they may have been collected."""
    rows: dict[bytes, bytes] = {}
    start: bytes | None = read.start
    try:
        if not read.end:
            reply = process.router.send(Batch([Get(read.start)], ts))
            if not isinstance(reply, Reply):
                reply = await reply
            return {} if reply.results[0] is None else {read.start: reply.results[0]}
        while start is not None:
            reply = process.router.send(Batch([Scan(start, read.end)], ts))
            if not isinstance(reply, Reply):
                reply = await reply
            page = reply.results[0]
            rows.update(zip(page.keys, page.values))
            start = page.resume
    except BelowGcThreshold:
        return None
    return rows
