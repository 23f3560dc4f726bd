"""The router: from a batch to the ranges its keys are in.

    one store has everything          -> hand the batch over as it is
    one range                         -> address it, send it
    several, all alone in this store  -> writes that must be atomic: the store evaluates them whole
    several                           -> cut it, send the parts, put the results together

Cutting keeps the order of the operations.  A run of operations without a scan goes out
as one part per range, all at once where they go to other nodes, those that take locks one after the other beside
them; a scan walks its ranges one after the other, in its direction, with what is left of its limits, so that it
neither skips nor doubles a key at a border.
In a batch that is to be sent at once (``Batch.at_once``) scans are operations as any others: each is answered up to
the border of the range that it begins in, and tells its sender where to go on.
EndTxn is always a part of its own, sent last and only after every other part has answered
(reliability 9); the writes of the other parts are intents by then and it names them.

A part that was addressed by an outdated descriptor was not evaluated at all
(RangeMismatch) and is cut again with fresh descriptors.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from base.eager import Done, Eager, Suspended, run_eagerly
from base.errors import AmbiguousResult, InternalError, MeridianError, RangeMismatch, RangeUnavailable
from base.seams import Waiter
from kvtier.client import NOT_NOW, Kv
from kvtier.descriptors import KEY_MAX, RangeDescriptor, decode_descriptor
from kvtier.messages import (
    Batch,
    Checksum,
    CollectGarbage,
    ConditionalPut,
    Delete,
    DeleteSpan,
    EndTxn,
    Get,
    Lock,
    Op,
    Put,
    PutRun,
    Refresh,
    Reply,
    ResolveIntents,
    Scan,
    ScanResult,
    SettleRuns,
    Split,
    TxnMeta,
    prefix_end,
)
from kvtier.meta import lookup_span
from kvtier.rangecache import RangeCache
from kvtier.store import Store

ROUTE_ATTEMPTS_MAX: Final = 40
"""Times a part is cut again because ranges moved under it: some 15 seconds."""
ROUTE_ATTEMPTS_AT_ONCE: Final = 4
"""Of those without a pause: where a range has just been split or merged."""
ROUTE_PAUSE_SECONDS: Final = 0.01
ROUTE_PAUSE_SECONDS_MAX: Final = 0.5

LOST_MAX: Final = 1_000
"""Addresses remembered that nobody knew; past it the memory starts again from nothing."""
ENTRIES_SKIPPED_MAX: Final = 64
"""Meta entries that are read past one that nobody knew."""

PARTS_AT_ONCE: Final = 64
"""Parts of one batch that are under way together; more go one after the other behind them."""

Part = tuple[RangeDescriptor, list[tuple[int, Op]]]
"""A range, and the operations for it with their places in the batch."""
ReplicatedSend = Callable[[RangeDescriptor, Batch], Eager[Reply]]
"""Sends an addressed batch to whichever replica of the range answers it, here or elsewhere."""


class Router(Kv):
    """See the module docstring."""

    def __init__(self, store: Store, replicated: ReplicatedSend | None = None) -> None:
        self._store = store
        self._replicated = replicated
        self.cache = RangeCache()
        self.max_offset_us = 0 if replicated is None else store.hlc.max_offset_us
        self._route_always = store.settings.route_always
        self.first: RangeDescriptor | None = None
        """The range that holds META1 as others told of it; for nodes without a replica of it."""
        self.draw_range_id: Callable[[], Awaitable[int]] | None = None
        """Gives ids to new ranges where several stores make them; one store numbers its own."""
        self._lost: dict[int, int] = {}
        """Range -> its generation in an address under which nobody knew it."""
        self.mismatches = 0
        self.lookups = 0
        store.kv = self

    # --- Kv ---------------------------------------------------------------------

    def send(self, batch: Batch) -> Eager[Reply]:
        store = self._store
        if self.draw_range_id is not None and batch.ops[0].__class__ is Split:
            return self._split(batch, self.draw_range_id)
        if store.is_whole and not self._route_always:
            return store.send(batch)
        descriptor = self._cached_range(batch)
        if descriptor is not None and self._is_served_here(descriptor):
            batch.range_id = descriptor.range_id
            batch.generation = descriptor.generation
            try:
                return store.send(batch)
            except RangeMismatch as mismatch:
                batch.range_id = 0
                self._learn(descriptor, mismatch)
        coroutine = self._route(batch)
        outcome = run_eagerly(coroutine)
        if outcome.__class__ is Done:
            reply: Reply = outcome.value
            return reply
        return Suspended(coroutine, outcome)

    def get_now(self, key: bytes, ts: int, owner: bytes) -> Any:
        store = self._store
        if store.is_whole and not self._route_always and not self.max_offset_us:
            return store.get_now(key, ts, owner)
        return NOT_NOW

    def scan_now(self, start: bytes, end: bytes, reverse: bool, limit: int, ts: int, owner: bytes) -> Any:
        store = self._store
        if store.is_whole and not self._route_always and not self.max_offset_us:
            return store.scan_now(start, end, reverse, limit, ts, owner)
        return NOT_NOW

    def lock_now(self, key: bytes, txn: TxnMeta, strength: Lock) -> Any:
        store = self._store
        if store.is_whole and not self._route_always and not self.max_offset_us:
            return store.lock_now(key, txn, strength)
        return NOT_NOW

    def wait_durable(self, seq: int) -> Eager[None]:
        return self._store.group.wait(seq)

    def now(self) -> int:
        return self._store.now()

    def is_local(self, keys: list[bytes]) -> bool:
        store = self._store
        if store.is_whole:
            return True
        alone = True
        for key in keys:
            replica = store.ranges.find(key)
            if replica is None or not replica.is_alone:
                alone = False
        if alone or not keys:
            return True
        home = self.cache.find(keys[0])
        return home is not None and all(home.contains(key) for key in keys)

    def _is_served_here(self, descriptor: RangeDescriptor) -> bool:
        """True if this store answers for a range without asking any other."""
        replica = self._store.ranges.get(descriptor.range_id)
        return replica is not None and (replica.is_alone or self._replicated is None)

    async def _split(self, batch: Batch, draw: Callable[[], Awaitable[int]]) -> Reply:
        """A split with the new ranges' ids."""
        op = batch.ops[0]
        assert isinstance(op, Split), op
        first = op.range_id or await draw()
        more = tuple([(key, range_id or await draw()) for key, range_id in op.more])
        return await self._route(Batch([Split(op.key, first, op.is_sticky, more)], admission=batch.admission))

    # --- finding ranges ----------------------------------------------------------

    async def find(self, key: bytes) -> RangeDescriptor:
        """Returns the descriptor of a key's range, from the cache or the meta ranges."""
        found = self.cache.find(key)
        if found is not None:
            return found
        return await self._look_up(key)

    async def confirm(self, key: bytes) -> RangeDescriptor:
        """Returns the descriptor of a key's range, as its leaseholder has just read the key by it."""
        attempts = Attempts(self)
        while True:
            descriptor = await self.find(key)
            batch = Batch([Get(key)], range_id=descriptor.range_id, generation=descriptor.generation, admission=1)
            try:
                await self._deliver(descriptor, batch)
            except RangeMismatch as mismatch:
                await attempts.failed(descriptor, mismatch)
                continue
            return descriptor

    async def _look_up(self, key: bytes) -> RangeDescriptor:
        """Reads the meta ranges until they know the key's range.

        They are told of a split one half after the other: for a moment the entry that is found may be the
        right half's, although the key is in the left one (reliability 73).
        """
        attempts = Attempts(self)
        while True:
            descriptor = await self._read_entry(key)
            if self._lost.get(descriptor.range_id) == descriptor.generation:
                descriptor = await self._newer_entry(descriptor, key)
            if descriptor.contains(key):
                self.cache.insert(descriptor)
                return descriptor
            await attempts.failed(descriptor, RangeMismatch(()))

    async def _newer_entry(self, found: RangeDescriptor, key: bytes) -> RangeDescriptor:
        """Returns the entry of the range that has swallowed one that its replicas do not know; the same if there is none.

        Who merged it may have died before it withdrew the entry.
        """
        at = found.end
        for _ in range(ENTRIES_SKIPPED_MAX):
            if at >= KEY_MAX:
                break
            entry = await self._read_entry(at)
            if entry.contains(key) and entry.generation > found.generation:
                return entry
            at = entry.end
        return found

    async def _read_entry(self, key: bytes) -> RangeDescriptor:
        """Reads the first meta entry above a key; the descriptor of the first range is the store's to know."""
        self.lookups += 1
        start, end = lookup_span(key)
        first = self._first()
        if first.contains(key):
            return first
        if first.contains_span(start, end):
            home = first
        else:
            home = await self.find(start)
        scan_end = min(end, home.end)
        attempts = Attempts(self)
        while True:
            addressed = Batch([Scan(start, scan_end, limit=1)], range_id=home.range_id, generation=home.generation)
            try:
                reply = await self._deliver(home, addressed)
            except RangeMismatch as mismatch:
                await attempts.failed(home, mismatch)
                home = await self.find(start)
                scan_end = min(end, home.end)
                continue
            rows: ScanResult = reply.results[0]
            if rows.values:
                break
            if scan_end >= end:
                raise InternalError(f"no range holds key {key!r}")
            # The entry is in the next meta range: its key is the end of a range beyond this border.
            start = scan_end
            home = await self.find(start)
            scan_end = min(end, home.end)
        return decode_descriptor(rows.values[0])

    def _first(self) -> RangeDescriptor:
        """Returns the newest descriptor known of the range that holds META1; a replica of it here may lag."""
        here = self._store.ranges.find(b"")
        newest = None if here is None else here.descriptor
        for known in (self.cache.find(b""), self.first):
            if known is not None and (newest is None or known.generation > newest.generation):
                newest = known
        if newest is None:
            raise RangeMismatch(())
        return newest

    async def _find_before(self, end: bytes) -> RangeDescriptor:
        """Returns the descriptor of the range that holds the keys just below ``end``."""
        found = self.cache.find_before(end)
        if found is not None:
            return found
        # No key lies between ``end`` and its predecessor, so look from the left.
        descriptor = await self.find(end[:-1] if end[-1] == 0 else end[:-1] + bytes((end[-1] - 1,)) + b"\xff" * 8)
        while descriptor.end < end:
            descriptor = await self.find(descriptor.end)
        return descriptor

    def _learn(self, used: RangeDescriptor, mismatch: RangeMismatch) -> None:
        self.mismatches += 1
        self.cache.evict(used)
        if not mismatch.descriptors:
            if len(self._lost) >= LOST_MAX:
                self._lost.clear()
            self._lost[used.range_id] = used.generation
        for descriptor in mismatch.descriptors:
            if isinstance(descriptor, RangeDescriptor):
                self.cache.insert(descriptor)

    # --- sending -----------------------------------------------------------------

    async def _deliver(self, descriptor: RangeDescriptor, batch: Batch) -> Reply:
        """Sends an addressed batch to a replica."""
        if self._replicated is None or self._is_served_here(descriptor):
            reply = self._store.send(batch)
        else:
            reply = self._replicated(descriptor, batch)
        if reply.__class__ is not Reply:
            reply = await reply  # type: ignore[misc]  # not a Reply, so it is awaitable
        return reply

    async def _route(self, batch: Batch) -> Reply:
        attempts = Attempts(self)
        while True:
            descriptor = await self._single_range(batch)
            if descriptor is None:
                if _must_be_atomic(batch) and self._is_here(batch):
                    store_reply = self._store.send(batch)
                    if store_reply.__class__ is not Reply:
                        store_reply = await store_reply  # type: ignore[misc]  # as above
                    return store_reply
                return await self._send_parts(batch)
            addressed = msgspec.structs.replace(batch, range_id=descriptor.range_id, generation=descriptor.generation)
            try:
                return await self._deliver(descriptor, addressed)
            except RangeMismatch as mismatch:
                await attempts.failed(descriptor, mismatch)

    def _cached_range(self, batch: Batch) -> RangeDescriptor | None:
        """Returns the one range that holds all of a batch, if the cache knows it: the fast path of routing."""
        op = batch.ops[0]
        if len(batch.ops) == 1 and isinstance(op, Get):
            return self.cache.find(op.key)
        found: RangeDescriptor | None = None
        for op in batch.ops:
            for start, end in spans_of(op, batch.txn):
                if found is None:
                    found = self.cache.find(start)
                    if found is None:
                        return None
                if not found.contains_span(start, end or KEY_MAX):
                    return None
        return found

    async def _single_range(self, batch: Batch) -> RangeDescriptor | None:
        """Returns the one range that holds all of a batch, or None."""
        descriptor: RangeDescriptor | None = None
        for op in batch.ops:
            for start, end in spans_of(op, batch.txn):
                if descriptor is None:
                    descriptor = await self.find(start)
                if not descriptor.contains_span(start, end or KEY_MAX):
                    return None
        if descriptor is None:
            # Nothing but the end of a transaction that touched nothing.
            descriptor = await self.find(KEY_MAX[:-1] + b"\xfe")
        return descriptor

    def _is_here(self, batch: Batch) -> bool:
        """True if every range touched has its only replica in this store."""
        store = self._store
        if store.is_whole:
            return True
        return all(
            store.covers_alone(start, end or KEY_MAX) for op in batch.ops for start, end in spans_of(op, batch.txn)
        )

    async def _send_parts(self, batch: Batch) -> Reply:
        """Cuts a batch by ranges; see the module docstring."""
        return await _Assembly(self, batch).run()


class _Assembly:
    """One batch that is sent in parts, and the reply that grows from theirs."""

    def __init__(self, router: Router, batch: Batch) -> None:
        self._router = router
        self._batch = batch
        self._txn = batch.txn
        self._ts = batch.ts or (router.now() if batch.txn is None else 0)
        self._keys_left = batch.keys_max
        self._bytes_left = batch.bytes_max
        self._is_exhausted = False
        self._reply = Reply([None] * len(batch.ops))
        self._written: list[bytes] = []
        self._written_spans: list[tuple[bytes, bytes]] = []

    async def run(self) -> Reply:
        """Sends everything in order."""
        run: list[tuple[int, Op]] = []
        for index, op in enumerate(self._batch.ops):
            if (op.__class__ is Scan and not self._batch.at_once) or op.__class__ is EndTxn:
                await self._send_run(run)
                run = []
                if isinstance(op, Scan):
                    self._reply.results[index] = await self._scan(op)
                elif isinstance(op, EndTxn):
                    await self._end(index, op)
            else:
                run.append((index, op))
        await self._send_run(run)
        return self._reply

    def _header(self, ops: list[Op]) -> Batch:
        """Returns a part with the batch's header, and the transaction as the parts so far moved it."""
        return msgspec.structs.replace(
            self._batch, ops=ops, ts=self._ts, txn=self._txn, keys_max=self._keys_left, bytes_max=self._bytes_left
        )

    async def _send(self, descriptor: RangeDescriptor, ops: list[Op]) -> Reply:
        part = self._header(ops)
        part.range_id = descriptor.range_id
        part.generation = descriptor.generation
        reply = await self._router._deliver(descriptor, part)
        total = self._reply
        total.ts = max(total.ts, reply.ts)
        total.unsynced = max(total.unsynced, reply.unsynced)
        total.staged = total.staged or reply.staged
        if reply.write_ts > total.write_ts:
            total.write_ts = reply.write_ts
            if self._txn is not None and reply.write_ts > self._txn.write_ts:
                self._txn = msgspec.structs.replace(self._txn, write_ts=reply.write_ts)
        return reply

    async def _send_run(self, run: list[tuple[int, Op]]) -> None:
        """Sends operations that wait for no other: per range one part, cut spans apart."""
        pending = run
        attempts = Attempts(self._router)
        while pending:
            parts: dict[int, tuple[RangeDescriptor, list[tuple[int, Op]]]] = {}
            for index, op in pending:
                for descriptor, piece in await self._cut(op):
                    place = descriptor.range_id
                    if isinstance(piece, CollectGarbage | Checksum):
                        place = -1 - len(parts)  # Alone in its batch, also where a merge has joined two pieces' ranges.
                    parts.setdefault(place, (descriptor, []))[1].append((index, piece))
            pending = []
            chains = self._chains(list(parts.values()))
            if len(chains) > 1:
                pending = await self._send_at_once(chains, attempts)
                continue
            for descriptor, ops in parts.values():
                try:
                    reply = await self._send(descriptor, [op for _, op in ops])
                except RangeMismatch as mismatch:
                    await attempts.failed(descriptor, mismatch)
                    pending.extend(ops)
                    continue
                for (index, op), result in zip(ops, reply.results):
                    self._note(index, op, result)

    def _chains(self, parts: list[Part]) -> list[list[Part]]:
        """Returns what may be under way together, each with parts that wait for each other.

        Parts that take locks go one after the other: two statements that take the same locks in the same order
        then never wait for each other in a circle.  Where all is here there is nothing to wait for.  Of what is to be
        sent at once, locks too, a circle is possible and somebody's to end (``kvtier.replication.holders``).
        """
        is_here = self._router._is_served_here
        if len(parts) < 2 or all([is_here(descriptor) for descriptor, _ in parts]):
            return [parts]
        is_ordered = [not self._batch.at_once and _takes_locks(ops) for _, ops in parts]
        locking = [part for part, waits in zip(parts, is_ordered) if waits]
        others = [part for part, waits in zip(parts, is_ordered) if not waits]
        free = [others[first::PARTS_AT_ONCE] for first in range(min(len(others), PARTS_AT_ONCE))]
        return [locking, *free] if locking else free

    async def _send_at_once(self, chains: list[list[Part]], attempts: Attempts) -> list[tuple[int, Op]]:
        """Sends chains of parts without waiting for one before the next; returns what must be cut again.

        Whatever becomes of one, all are waited for: nothing of a batch is still under way when its sender hears of it.
        """
        scheduler = self._router._store.scheduler
        waiters: list[Waiter] = []
        for chain in chains:
            waiter = scheduler.waiter()
            waiters.append(waiter)
            scheduler.spawn(self._try_chain(chain, waiter), "part of a batch")
        results = [await waiter.wait() for waiter in waiters]
        pending: list[tuple[int, Op]] = []
        failure: MeridianError | None = None
        for chain, outcomes in zip(chains, results):
            for (descriptor, ops), outcome in zip(chain, outcomes):
                if isinstance(outcome, RangeMismatch):
                    await attempts.failed(descriptor, outcome)
                    pending.extend(ops)
                elif isinstance(outcome, MeridianError):
                    if failure is None or isinstance(outcome, AmbiguousResult):
                        failure = outcome
                else:
                    for (index, op), result in zip(ops, outcome.results):
                        self._note(index, op, result)
        if failure is not None:
            raise failure
        return pending

    async def _try_chain(self, chain: list[Part], waiter: Waiter) -> None:
        """Wakes a waiter with the replies of parts or the errors that they raised; nothing follows a failure."""
        outcomes: list[Reply | MeridianError] = []
        try:
            for descriptor, ops in chain:
                try:
                    outcomes.append(await self._send(descriptor, [op for _, op in ops]))
                except RangeMismatch as mismatch:
                    outcomes.append(mismatch)
                except MeridianError as problem:
                    outcomes.append(problem)
                    break
        except BaseException as problem:
            waiter.fail(problem)
            raise
        waiter.wake(outcomes)

    def _note(self, index: int, op: Op, result: Any) -> None:
        """Takes one result in; pieces of one operation answer together."""
        if isinstance(op, Put | Delete | ConditionalPut):
            self._written.append(op.key)
        elif isinstance(op, DeleteSpan):
            self._written_spans.append((op.start, op.end))
        if isinstance(op, Checksum) and self._reply.results[index] is not None:
            digest, stats = self._reply.results[index]
            for name, value in result[1].items():
                stats[name] = stats.get(name, 0) + value
            self._reply.results[index] = (digest + result[0], stats)
            return
        if isinstance(op, Scan) and result.resume is None and op.end < self._end_of(index):
            result.resume = op.end
        self._reply.results[index] = result

    def _end_of(self, index: int) -> bytes:
        op = self._batch.ops[index]
        assert isinstance(op, Scan), op
        return op.end or KEY_MAX

    async def _cut(self, op: Op) -> list[tuple[RangeDescriptor, Op]]:
        """Returns the pieces of an operation with their ranges, in key order."""
        router = self._router
        if isinstance(op, ResolveIntents):
            return await self._cut_resolve(op)
        if isinstance(op, Refresh) and op.to_ts == 0 and _has_end(self._batch):
            return []  # Checked at the end, when the commit timestamp is known.
        if isinstance(op, DeleteSpan | Refresh | CollectGarbage | Checksum):
            pieces: list[tuple[RangeDescriptor, Op]] = []
            start = op.start
            end = op.end or KEY_MAX
            while start < end:
                descriptor = await router.find(start)
                border = min(end, descriptor.end)
                pieces.append((descriptor, msgspec.structs.replace(op, start=start, end=border)))
                start = border
            return pieces
        (start, _) = spans_of(op, self._txn)[0]
        descriptor = await router.find(start)
        if isinstance(op, Scan):
            return [(descriptor, msgspec.structs.replace(op, end=min(op.end or KEY_MAX, descriptor.end)))]
        return [(descriptor, op)]

    async def _cut_resolve(self, op: ResolveIntents) -> list[tuple[RangeDescriptor, Op]]:
        found: dict[int, tuple[RangeDescriptor, list[bytes], list[tuple[bytes, bytes]]]] = {}
        for key in op.keys:
            descriptor = await self._router.find(key)
            found.setdefault(descriptor.range_id, (descriptor, [], []))[1].append(key)
        for start, end in op.spans:
            while start < end:
                descriptor = await self._router.find(start)
                border = min(end, descriptor.end)
                found.setdefault(descriptor.range_id, (descriptor, [], []))[2].append((start, border))
                start = border
        return [
            (descriptor, msgspec.structs.replace(op, keys=tuple(keys), spans=tuple(spans)))
            for descriptor, keys, spans in found.values()
        ]

    async def _scan(self, op: Scan) -> ScanResult:
        """Walks a scan's ranges with what is left of the limits."""
        total = ScanResult([], [])
        start, end = op.start, op.end or KEY_MAX
        rows_left = op.limit
        attempts = Attempts(self._router)
        while start < end:
            if self._is_exhausted or (op.limit and rows_left == 0):
                total.resume = end if op.reverse else start
                return total
            descriptor = await (self._router._find_before(end) if op.reverse else self._router.find(start))
            lower, upper = max(start, descriptor.start), min(end, descriptor.end)
            piece = msgspec.structs.replace(op, start=lower, end=upper, limit=rows_left)
            try:
                reply = await self._send(descriptor, [piece])
            except RangeMismatch as mismatch:
                await attempts.failed(descriptor, mismatch)
                continue
            part: ScanResult = reply.results[0]
            total.keys.extend(part.keys)
            total.values.extend(part.values)
            rows_left = rows_left - len(part.keys) if op.limit else 0
            self._spend(part)
            if part.resume is not None:
                total.resume = part.resume
                return total
            if op.reverse:
                end = lower
            else:
                start = upper
        return total

    def _spend(self, part: ScanResult) -> None:
        """Takes a part's rows off the batch's limits."""
        self._keys_left -= len(part.keys)
        if self._bytes_left:
            self._bytes_left -= sum([len(key) for key in part.keys]) + sum([len(value) for value in part.values])
            if self._bytes_left <= 0:
                self._is_exhausted = True
                self._bytes_left = 1
        if self._keys_left <= 0:
            self._is_exhausted = True
            self._keys_left = 1

    async def _end(self, index: int, end: EndTxn) -> None:
        """Sends the end of the transaction, after checking reads the writes moved it past."""
        txn = self._txn
        assert txn is not None, "EndTxn outside a transaction"
        if end.commit and txn.write_ts > txn.read_ts:
            await self._refresh(txn)
            self._txn = txn = msgspec.structs.replace(txn, read_ts=txn.write_ts)
        done = msgspec.structs.replace(
            end,
            intents=end.intents + tuple(self._written),
            intent_spans=end.intent_spans + tuple(self._written_spans),
            can_forward=end.can_forward and not any(isinstance(op, Refresh) for op in self._batch.ops),
        )
        attempts = Attempts(self._router)
        while True:
            descriptor = await self._router.find(txn.anchor or (self._written or [KEY_MAX[:-1] + b"\xfe"])[0])
            if not txn.anchor and self._written:
                self._txn = txn = msgspec.structs.replace(txn, anchor=self._written[0])
            try:
                reply = await self._send(descriptor, [done])
            except RangeMismatch as mismatch:
                await attempts.failed(descriptor, mismatch)
                continue
            self._reply.results[index] = reply.results[0]
            return

    async def _refresh(self, txn: TxnMeta) -> None:
        """Checks the batch's own refreshes at the timestamp the writes ended up at."""
        for op in self._batch.ops:
            if isinstance(op, Refresh) and op.to_ts == 0:
                check = msgspec.structs.replace(op, to_ts=txn.write_ts)
                await self._router._route(Batch([check], txn=txn))


class Attempts:
    """How often one batch was sent to where a range is no more; the directory may lag behind for a while."""

    __slots__ = ("_count", "_router")

    def __init__(self, router: Router) -> None:
        self._router = router
        self._count = 0

    async def failed(self, used: RangeDescriptor, mismatch: RangeMismatch) -> None:
        """Learns from a wrong address, pauses if it is not the first; RangeUnavailable once it were too many."""
        self._router._learn(used, mismatch)
        self._count += 1
        if self._count > ROUTE_ATTEMPTS_MAX:
            raise RangeUnavailable(used.range_id) from mismatch
        if self._count > ROUTE_ATTEMPTS_AT_ONCE:
            pause = ROUTE_PAUSE_SECONDS * 2 ** min(self._count - ROUTE_ATTEMPTS_AT_ONCE, 10)
            await self._router._store.clock.sleep(min(pause, ROUTE_PAUSE_SECONDS_MAX))


def spans_of(op: Op, txn: TxnMeta | None) -> list[tuple[bytes, bytes]]:
    """Returns the spans an operation touches; [] for an EndTxn without anchor."""
    if isinstance(op, PutRun):
        return [(op.keys[0], prefix_end(op.keys[-1]))]
    if isinstance(op, Scan | DeleteSpan | SettleRuns | Refresh | CollectGarbage | Checksum):
        return [(op.start, op.end)] if op.start < (op.end or KEY_MAX) else []
    if isinstance(op, ResolveIntents):
        return [(key, prefix_end(key)) for key in op.keys] + list(op.spans)
    if isinstance(op, EndTxn):
        anchor = txn.anchor if txn is not None else b""
        return [(anchor, prefix_end(anchor))] if anchor else []
    return [(op.key, prefix_end(op.key))]


def _must_be_atomic(batch: Batch) -> bool:
    """True if a batch holds writes that have to appear together at its end, or what cannot be cut."""
    for op in batch.ops:
        if isinstance(op, EndTxn | PutRun | SettleRuns):
            return True
        if batch.txn is None and isinstance(op, Put | Delete | ConditionalPut | DeleteSpan):
            return True
    return False


def _takes_locks(ops: list[tuple[int, Op]]) -> bool:
    return any([op.__class__ is Get and op.lock != 0 for _, op in ops])


def _has_end(batch: Batch) -> bool:
    return isinstance(batch.ops[-1], EndTxn)
