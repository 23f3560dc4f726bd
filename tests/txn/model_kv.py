"""A slow, honest store in memory: the semantics of ``kvtier.messages``, as plainly as possible.

    versions     key -> [(ts, value | None), ...] ascending
    tombstones   [(ts, start, end)]: hides versions below ts
    locks        key -> {txn id: strength}; queues in order of arrival
    intents      key -> Intent with the history of one transaction's writes
    reads        every timestamp a key or span was read at, and by whom
    records      transaction id -> status, for those that staged, committed or aborted

One batch is one tick, except with ``boundaries``: then a batch is cut at them and the
parts are evaluated one by one, in drawn order with drawn delays, as ranges on several nodes
would do.  Fails batches on demand (``fail_next``) to test what the client side makes of it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from base.errors import (
    ConditionFailed,
    Deadlock,
    LockNotAvailable,
    ReadConflict,
    TxnAborted,
    TxnRetry,
    Uncertain,
    WriteTooOld,
)
from base.hlc import Hlc
from kvtier.client import Kv
from kvtier.messages import (
    SKIPPED,
    Batch,
    ConditionalPut,
    Delete,
    DeleteSpan,
    EndTxn,
    Get,
    Heartbeat,
    Isolation,
    Lock,
    Put,
    Refresh,
    Reply,
    ResolveIntents,
    Scan,
    ScanResult,
    TxnMeta,
    TxnStatus,
    Wait,
)


class Blocked(Exception):
    """Internal: the batch must wait for other transactions at a key."""

    def __init__(self, key: bytes, strength: Lock) -> None:
        self.key = key
        self.strength = strength


@dataclass(eq=False)
class Request:
    """A batch waiting at a key."""

    key: bytes
    txn_id: bytes
    strength: Lock
    waiter: Any


@dataclass
class Intent:
    txn_id: bytes
    epoch: int
    ts: int
    history: list[tuple[int, bytes | None]]

    def value(self, seq: int, ignored: tuple[tuple[int, int], ...]) -> tuple[bool, bytes | None]:
        """(is there one, newest value numbered up to ``seq`` and not rolled back)."""
        for number, value in reversed(self.history):
            if number <= seq and not any(first <= number <= last for first, last in ignored):
                return True, value
        return False, None


@dataclass
class Record:
    status: TxnStatus
    ts: int = 0
    in_flight: tuple[tuple[bytes, int], ...] = ()
    ignored: tuple[tuple[int, int], ...] = ()


@dataclass
class ModelKv(Kv):
    scheduler: Any
    clock: Any
    rng: Any
    max_offset_us: int = field(default_factory=int)
    """No default in the class: a compiled caller reads the attribute of ``Kv``."""
    boundaries: tuple[bytes, ...] = ()
    versions: dict[bytes, list[tuple[int, bytes | None]]] = field(default_factory=dict)
    tombstones: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    locks: dict[bytes, dict[bytes, Lock]] = field(default_factory=dict)
    waiting: list[Request] = field(default_factory=list)
    intents: dict[bytes, Intent] = field(default_factory=dict)
    point_reads: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    span_reads: list[tuple[bytes, bytes, int, bytes]] = field(default_factory=list)
    records: dict[bytes, Record] = field(default_factory=dict)
    fail_next: list[Any] = field(default_factory=list)
    """Functions (batch) -> exception | None, asked before (``before=True``) or after evaluation."""
    sent: list[Batch] = field(default_factory=list)
    """Every batch, for golden tests."""
    sync_seconds: float = 0.0
    """A commit answers this much later, as a disk sync makes it."""
    deadlocks: int = 0

    def __post_init__(self) -> None:
        self.hlc = Hlc(self.max_offset_us)

    # --- Kv -----------------------------------------------------------------------

    def now(self) -> int:
        return self.hlc.now(self.clock.wall_ns())

    def wait_durable(self, seq: int):
        return None if seq <= 0 else self.clock.sleep(0.001)

    def is_local(self, keys: list[bytes]) -> bool:
        return len({self._range_of(key) for key in keys}) <= 1

    def send(self, batch: Batch):
        self.sent.append(batch)
        parts = self._cut(batch)
        if len(parts) > 1:
            return self._send_parts(batch, parts)
        ends = isinstance(batch.ops[-1], EndTxn) and batch.ops[-1].commit
        try:
            self._maybe_fail(batch, True)
            reply = self._evaluate(batch)
            self._maybe_fail(batch, False)
        except Blocked as blocked:
            return self._send_blocking(batch, blocked)
        if ends and self.sync_seconds:
            return self._answer_later(reply)
        return reply

    async def _answer_later(self, reply: Reply) -> Reply:
        await self.clock.sleep(self.sync_seconds)
        return reply

    def _maybe_fail(self, batch: Batch, before: bool) -> None:
        for failing in list(self.fail_next):
            error = failing(batch, before)
            if error is not None:
                self.fail_next.remove(failing)
                raise error

    # --- ranges -------------------------------------------------------------------

    def _range_of(self, key: bytes) -> int:
        return bisect_right(self.boundaries, key)

    def _cut(self, batch: Batch) -> list[Batch]:
        if not self.boundaries:
            return [batch]
        parts: dict[int, list[int]] = {}
        for index, op in enumerate(batch.ops):
            if isinstance(op, EndTxn):
                key = batch.txn.anchor
            elif isinstance(op, ResolveIntents):
                key = b""
            else:
                key = getattr(op, "key", None) or op.start
            parts.setdefault(self._range_of(key), []).append(index)
        self._places = parts
        return [
            Batch([batch.ops[i] for i in indexes], batch.ts, batch.txn, batch.keys_max) for indexes in parts.values()
        ]

    async def _send_parts(self, batch: Batch, parts: list[Batch]) -> Reply:
        """As a router does: all parts are tried, then the first error is raised."""
        places = list(self._places.values())
        order = list(range(len(parts)))
        for i in range(len(order) - 1, 0, -1):
            j = self.rng.below(i + 1)
            order[i], order[j] = order[j], order[i]
        merged = Reply([None] * len(batch.ops))
        error: Exception | None = None
        tasks = [(index, self.scheduler.spawn(self._send_part(parts[index]), "part")) for index in order]
        for _, task in tasks:
            task.observe()
        for index, task in tasks:
            try:
                reply = await task
            except Exception as failure:
                error = error or failure
                continue
            for place, result in zip(places[index], reply.results):
                merged.results[place] = result
            merged.ts = max(merged.ts, reply.ts)
            merged.write_ts = max(merged.write_ts, reply.write_ts)
            merged.staged = merged.staged or reply.staged
        if error is not None:
            raise error
        return merged

    async def _send_part(self, part: Batch) -> Reply:
        await self.clock.sleep(self.rng.below(5) / 1000)
        reply = self.send_whole(part)
        return reply if isinstance(reply, Reply) else await reply

    def send_whole(self, batch: Batch):
        try:
            self._maybe_fail(batch, True)
            reply = self._evaluate(batch)
            self._maybe_fail(batch, False)
            return reply
        except Blocked as blocked:
            return self._send_blocking(batch, blocked)

    # --- waiting ------------------------------------------------------------------

    async def _send_blocking(self, batch: Batch, blocked: Blocked) -> Reply:
        txn_id = batch.txn.id if batch.txn else b""
        request = Request(blocked.key, txn_id, blocked.strength, None)
        self.waiting.append(request)
        stop_timer = None
        if batch.txn and batch.txn.lock_timeout_ms:
            timeout = LockNotAvailable("canceling statement due to lock timeout")
            stop_timer = self.scheduler.call_later(
                batch.txn.lock_timeout_ms / 1000, lambda: request.waiter.fail(timeout)
            )
        try:
            while True:
                request.key, request.strength = blocked.key, blocked.strength
                self._check_deadlock(request)
                request.waiter = self.scheduler.waiter()
                await request.waiter.wait()
                try:
                    return self._evaluate(batch, request)
                except Blocked as again:
                    if again.key != request.key:  # to the end of the other key's queue
                        self.waiting.remove(request)
                        self.waiting.append(request)
                        self._wake(request.key)
                    blocked = again
        finally:
            self.waiting.remove(request)
            if stop_timer:
                stop_timer()
            self._wake(request.key)

    def _wake(self, key: bytes) -> None:
        for request in self.waiting:
            if request.key == key and request.waiter is not None:
                request.waiter.wake()

    def _blockers(self, key: bytes, txn_id: bytes, strength: Lock, before: Request | None) -> list[bytes]:
        """Other transactions in the way: holders, then conflicting requests ahead in the queue."""
        found = []
        intent = self.intents.get(key)
        if intent is not None and intent.txn_id != txn_id:
            found.append(intent.txn_id)
        if strength == Lock.NONE:
            return found
        holders = self.locks.get(key, {})
        for holder, held in holders.items():
            if holder != txn_id and Lock.EXCLUSIVE in (held, strength):
                found.append(holder)
        if txn_id in holders:
            return found
        for request in self.waiting:
            if request is before:
                break
            if request.key == key and request.txn_id != txn_id and request.strength != Lock.NONE:
                if Lock.EXCLUSIVE in (request.strength, strength):
                    found.append(request.txn_id)
        return found

    def _check_deadlock(self, request: Request) -> None:
        seen, todo = [], [request]
        while todo:
            current = todo.pop()
            for blocker in self._blockers(current.key, current.txn_id, current.strength, current):
                if blocker == request.txn_id:
                    self.deadlocks += 1
                    raise Deadlock(request.key, current.txn_id)
                if blocker not in seen:
                    seen.append(blocker)
                    todo += [other for other in self.waiting if other.txn_id == blocker]

    # --- evaluation ---------------------------------------------------------------

    def _evaluate(self, batch: Batch, request: Request | None = None) -> Reply:
        """Everything in one tick; changes nothing but locks if it raises."""
        txn = batch.txn
        ts = batch.ts or self.now()
        self.hlc.forward(ts)
        if txn is not None:
            record = self.records.get(txn.id)
            ends = any(isinstance(op, (EndTxn, ResolveIntents)) for op in batch.ops)
            if record is not None and record.status == TxnStatus.ABORTED and not ends:
                raise TxnAborted()
        writes = [op for op in batch.ops if isinstance(op, (Put, Delete, DeleteSpan, ConditionalPut))]
        end = batch.ops[-1] if isinstance(batch.ops[-1], EndTxn) else None
        write_ts = max(ts, txn.write_ts if txn else 0)
        for op in writes:
            write_ts = max(write_ts, self._admit(op, txn, request))
        if end is not None:
            self._check_end(end, txn, write_ts)
        for op in writes:
            self._check_write(op, txn)
        results = [self._read(op, txn, ts, write_ts, request) for op in batch.ops]
        reply = Reply(results, ts)
        if writes or end is not None:
            reply.write_ts = self._apply(writes, end, txn, write_ts, reply)
        return reply

    def _admit(self, op: Any, txn: TxnMeta, request: Request | None) -> int:
        """Waits for others' locks; returns the lowest timestamp the write may have."""
        if isinstance(op, DeleteSpan):
            for key in sorted({*self.locks, *self.intents}):
                if op.start <= key < op.end and self._foreign(key, txn.id, request):
                    raise Blocked(key, Lock.EXCLUSIVE)
            return self._read_floor(op.start, op.end, txn.id)
        if self._foreign(op.key, txn.id, request):
            raise Blocked(op.key, Lock.EXCLUSIVE)
        return max(self._newest_ts(op.key) + 1, self._read_floor(op.key, op.key + b"\0", txn.id))

    def _foreign(self, key: bytes, txn_id: bytes, request: Request | None) -> bool:
        self._recover(key)
        return bool(self._blockers(key, txn_id, Lock.EXCLUSIVE, request))

    def _read_floor(self, start: bytes, end: bytes, txn_id: bytes) -> int:
        """One above the latest read of the span; at it if the reader was the writer."""
        floor = 0
        for key, (ts, owner) in self.point_reads.items():
            if start <= key < end:
                floor = max(floor, ts if owner == txn_id else ts + 1)
        for lower, upper, ts, owner in self.span_reads:
            if lower < end and start < upper:
                floor = max(floor, ts if owner == txn_id else ts + 1)
        return floor

    def _check_write(self, op: Any, txn: TxnMeta) -> None:
        """A committed version above the read timestamp makes the write too old (reliability 20: before the condition)."""
        if isinstance(op, DeleteSpan):
            keys = [key for key in self.versions if op.start <= key < op.end]
        else:
            keys = [op.key]
        for key in keys:
            newest = self._newest_ts(key)
            if newest > txn.read_ts and txn.isolation != Isolation.READ_COMMITTED:
                raise WriteTooOld(key, newest)
        if isinstance(op, ConditionalPut):
            actual = self._visible(op.key, 1 << 64)
            if actual != op.expected:
                raise ConditionFailed(op.key, actual)

    def _check_end(self, end: EndTxn, txn: TxnMeta, write_ts: int) -> None:
        record = self.records.get(txn.id)
        if not end.commit:
            return
        if record is not None and record.status == TxnStatus.ABORTED:
            raise TxnAborted()
        if write_ts > txn.write_ts and not end.can_forward:
            raise TxnRetry("the commit timestamp was pushed", reason="cannot_forward")
        if end.deadline and write_ts >= end.deadline:
            raise TxnRetry("commit deadline exceeded", reason="deadline")

    # --- reads --------------------------------------------------------------------

    def _read(self, op: Any, txn: TxnMeta | None, ts: int, write_ts: int, request: Request | None) -> Any:
        if isinstance(op, Get):
            return self._get(op, txn, ts, request)
        if isinstance(op, Scan):
            return self._scan(op, txn, ts, request)
        if isinstance(op, Refresh):
            self._refresh(op, txn, op.to_ts or write_ts)
        elif isinstance(op, Heartbeat):
            record = self.records.get(txn.id)
            return record.status if record else TxnStatus.PENDING
        elif isinstance(op, ResolveIntents):
            self._resolve(op)
        return None

    def _note_read(self, start: bytes, end: bytes | None, ts: int, owner: bytes) -> None:
        if end is not None:
            self.span_reads.append((start, end, ts, owner))
            return
        known, known_owner = self.point_reads.get(start, (0, b""))
        if ts > known:
            self.point_reads[start] = (ts, owner)
        elif ts == known and owner != known_owner:
            self.point_reads[start] = (ts, b"")

    def _get(self, op: Get, txn: TxnMeta | None, ts: int, request: Request | None) -> Any:
        if op.lock:
            if not self._lock(op.key, op.lock, op.wait, txn, request):
                return SKIPPED
        value = self._value(op.key, txn, ts)
        self._note_read(op.key, None, ts, txn.id if txn else b"")
        return value

    def _lock(self, key: bytes, lock: Lock, wait: Wait, txn: TxnMeta, request: Request | None) -> bool:
        """Takes a lock and checks that what it protects is what is read; False: skip the row."""
        self._recover(key)
        if self._blockers(key, txn.id, lock, request):
            if wait == Wait.SKIP:
                return False
            if wait == Wait.NOWAIT:
                raise LockNotAvailable("could not obtain lock on row")
            raise Blocked(key, lock)
        held = self.locks.setdefault(key, {})
        held[txn.id] = max(lock, held.get(txn.id, Lock.NONE))
        newest = self._newest_ts(key)
        if newest > txn.read_ts:
            raise WriteTooOld(key, newest)
        return True

    def _value(self, key: bytes, txn: TxnMeta | None, ts: int) -> bytes | None:
        self._recover(key)
        intent = self.intents.get(key)
        if intent is not None:
            if txn is not None and intent.txn_id == txn.id:
                if intent.epoch == txn.epoch:
                    found, value = intent.value(txn.seq, txn.ignored)
                    if found:
                        return value
            elif intent.ts <= max(ts, txn.uncertainty_limit if txn else 0):
                raise Blocked(key, Lock.NONE)
        if txn is not None and txn.uncertainty_limit:
            for version_ts in self._timestamps(key):
                if ts < version_ts <= txn.uncertainty_limit:
                    raise Uncertain(key, version_ts)
        return self._visible(key, ts)

    def _timestamps(self, key: bytes) -> list[int]:
        stamps = [ts for ts, _ in self.versions.get(key, ())]
        stamps += [ts for ts, start, end in self.tombstones if start <= key < end]
        return stamps

    def _newest_ts(self, key: bytes) -> int:
        return max(self._timestamps(key), default=0)

    def _visible(self, key: bytes, ts: int) -> bytes | None:
        hidden = max((at for at, start, end in self.tombstones if start <= key < end and at <= ts), default=-1)
        for version_ts, value in reversed(self.versions.get(key, ())):
            if version_ts <= ts:
                return value if version_ts >= hidden else None
        return None

    def _scan(self, op: Scan, txn: TxnMeta | None, ts: int, request: Request | None) -> ScanResult:
        keys = sorted({key for key in (*self.versions, *self.intents) if op.start <= key < op.end})
        if op.reverse:
            keys.reverse()
        found: list[bytes] = []
        values: list[bytes] = []
        resume = None
        for key in keys:
            if op.limit and len(found) == op.limit:
                resume = found[-1] if op.reverse else found[-1] + b"\0"
                break
            newer = op.lock and self._newest_ts(key) > txn.read_ts
            value = None if newer and op.lock else self._value(key, txn, ts)
            if op.lock and (newer or value is not None or self._foreign_intent(key, txn.id)):
                if not self._lock(key, op.lock, op.wait, txn, request):
                    continue
            if value is not None:
                found.append(key)
                values.append(value)
        start = op.start if resume is None or not op.reverse else resume
        end = op.end if resume is None or op.reverse else resume
        self._note_read(start, end, ts, txn.id if txn else b"")
        return ScanResult(found, values, resume)

    def _foreign_intent(self, key: bytes, txn_id: bytes) -> bool:
        return key in self.intents and self.intents[key].txn_id != txn_id

    def _refresh(self, op: Refresh, txn: TxnMeta | None, to_ts: int) -> None:
        own = txn.id if txn else b""
        for key in sorted({key for key in (*self.versions, *self.intents) if op.start <= key < op.end}):
            self._recover(key)
            if self._foreign_intent(key, own) and self.intents[key].ts <= to_ts:
                raise ReadConflict(key, self.intents[key].ts)
            for ts in self._timestamps(key):
                if op.from_ts < ts <= to_ts and self._visible(key, op.from_ts) != self._visible(key, to_ts):
                    raise ReadConflict(key, ts)
        self._note_read(op.start, op.end, to_ts, own)

    # --- writes -------------------------------------------------------------------

    def _apply(self, writes: list[Any], end: EndTxn | None, txn: TxnMeta, write_ts: int, reply: Reply) -> int:
        if end is None:
            self._write_intents(writes, txn, write_ts)
            return write_ts
        if not end.commit:
            self._abort(end, txn)
            return 0
        record = self.records.get(txn.id)
        if record is not None and record.status == TxnStatus.COMMITTED:
            self._release(txn.id)
            return record.ts
        if not end.in_flight and not end.intents and not end.intent_spans:
            for op in sorted(writes, key=lambda op: not isinstance(op, DeleteSpan)):
                self._commit_version(op, write_ts)
            self._release(txn.id)
            return write_ts
        self._write_intents(writes, txn, write_ts)
        if end.in_flight:
            self.records[txn.id] = Record(TxnStatus.STAGING, write_ts, end.in_flight, txn.ignored)
            reply.staged = True
        else:
            self.records[txn.id] = Record(TxnStatus.COMMITTED, write_ts, (), txn.ignored)
        self._release(txn.id)
        return write_ts

    def _write_intents(self, writes: list[Any], txn: TxnMeta, ts: int) -> None:
        for op in writes:
            if isinstance(op, DeleteSpan):
                mine = [key for key in self.intents if self.intents[key].txn_id == txn.id]
                for key in sorted({key for key in (*self.versions, *mine) if op.start <= key < op.end}):
                    self._write_intent(key, None, op.seq, txn, ts)
                self._note_read(op.start, op.end, ts, txn.id)
            else:
                self._write_intent(op.key, getattr(op, "value", None), op.seq, txn, ts)

    def _write_intent(self, key: bytes, value: bytes | None, seq: int, txn: TxnMeta, ts: int) -> None:
        intent = self.intents.get(key)
        if intent is None or intent.epoch != txn.epoch:
            intent = Intent(txn.id, txn.epoch, ts, [])
            self.intents[key] = intent
        assert intent.txn_id == txn.id, key
        intent.ts = max(intent.ts, ts)
        if all(number != seq for number, _ in intent.history):
            intent.history.append((seq, value))
            intent.history.sort(key=lambda item: item[0])

    def _commit_version(self, op: Any, ts: int) -> None:
        if isinstance(op, DeleteSpan):
            self.tombstones.append((ts, op.start, op.end))
            return
        versions = self.versions.setdefault(op.key, [])
        if versions and versions[-1][0] == ts:
            versions.pop()
        assert not versions or versions[-1][0] < ts, f"{op.key!r}: {versions[-1][0]} >= {ts}"
        versions.append((ts, getattr(op, "value", None)))

    def _recover(self, key: bytes) -> None:
        """Finishes a staging or finished transaction whose intent is met here."""
        intent = self.intents.get(key)
        record = self.records.get(intent.txn_id) if intent else None
        if record is None:
            return
        if record.status == TxnStatus.STAGING:
            for other, seq in record.in_flight:
                found = self.intents.get(other)
                if found is None or found.txn_id != intent.txn_id or found.ts > record.ts:
                    return
                if all(number != seq for number, _ in found.history):
                    return
            record.status = TxnStatus.COMMITTED
        if record.status == TxnStatus.COMMITTED:
            self._finish_intent(key, record.ts, record.ignored)
        elif record.status == TxnStatus.ABORTED:
            del self.intents[key]
            self._wake(key)

    def _finish_intent(self, key: bytes, commit_ts: int, ignored: tuple[tuple[int, int], ...]) -> None:
        intent = self.intents.pop(key)
        found, value = intent.value(1 << 62, ignored)
        if found:
            self._commit_version(Put(key, value) if value is not None else Delete(key), commit_ts)
        self._wake(key)

    def _resolve(self, op: ResolveIntents) -> None:
        keys = list(op.keys)
        for start, end in op.spans:
            keys += [key for key in {**self.intents, **self.locks} if start <= key < end]
        for key in sorted(set(keys)):
            intent = self.intents.get(key)
            if intent is not None and intent.txn_id == op.txn.id:
                if op.status == TxnStatus.COMMITTED:
                    self._finish_intent(key, op.commit_ts, op.txn.ignored)
                else:
                    del self.intents[key]
                    self._wake(key)
            if op.txn.id in self.locks.get(key, {}):
                self._unlock(key, op.txn.id)

    def _abort(self, end: EndTxn, txn: TxnMeta) -> None:
        record = self.records.get(txn.id)
        if record is not None and record.status == TxnStatus.COMMITTED:
            return
        if record is not None or end.intents or end.intent_spans:
            self.records[txn.id] = Record(TxnStatus.ABORTED)
        for key in [key for key, intent in self.intents.items() if intent.txn_id == txn.id]:
            self._recover(key)
        self._release(txn.id)

    def _release(self, txn_id: bytes) -> None:
        for key in [key for key, holders in self.locks.items() if txn_id in holders]:
            self._unlock(key, txn_id)

    def _unlock(self, key: bytes, txn_id: bytes) -> None:
        del self.locks[key][txn_id]
        if not self.locks[key]:
            del self.locks[key]
        self._wake(key)

    # --- for tests ----------------------------------------------------------------

    def load(self, **rows: int) -> None:
        """Commits rows outside any transaction: load(x=10)."""
        ts = self.now()
        for key, value in rows.items():
            self._commit_version(Put(key.encode(), b"%d" % value), ts)

    def newest(self) -> dict[bytes, bytes]:
        """Committed rows, after finishing what may be finished."""
        for key in list(self.intents):
            self._recover(key)
        assert not self.intents, f"intents left: {self.intents}"
        rows = {key: self._visible(key, 1 << 64) for key in sorted(self.versions)}
        return {key: value for key, value in rows.items() if value is not None}

    def check_idle(self) -> None:
        """No lock, intent or waiter is left."""
        assert not self.locks, f"locks left: {self.locks}"
        assert not self.waiting, f"waiters left: {self.waiting}"
        self.newest()
