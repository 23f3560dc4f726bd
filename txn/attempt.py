"""Identity, timestamps and read set of a transaction, and how it talks to the store.

    read_ts      what it reads at; taken at the first read, moved up only by a refresh that
                 proved that every read so far is the same at the new timestamp
    meta         what ranges are told of it; made when something is locked or written (or
                 when clocks disagree: a read then has an uncertainty interval)
    reads        what to check when the timestamp moves (``txn.spans``)

Conflicts of one operation are met here, in place::

    WriteTooOld   a lock was got, but the newest version is above read_ts
    Uncertain     a value may have been committed before we began
        SERIALIZABLE     refresh all reads to now, send the operation again
        READ COMMITTED   the same over the reads of this statement; where that fails
                         the statement runs again (``retry_statement``)
        REPEATABLE READ  the snapshot never moves: WriteTooOld goes to the client

An answer may show data whose sync is under way; ``_unsynced`` remembers the latest, and
nothing is confirmed to the client before that is durable.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

from base.eager import Eager
from base.errors import ReadConflict, Retryable, TxnRetry, Uncertain, WriteTooOld
from base.faults import fault
from base.hlc import EPOCH_UNIX_US, LOGICAL_BITS
from kvtier.messages import Batch, Isolation, Lock, Op, Refresh, Reply, Routing, TxnMeta
from kvtier.replication.closing import LEAD_SECONDS_MAX
from kvtier.replication.liveness import ticks_of
from txn.buffer import WriteBuffer
from txn.spans import ReadSpans, point_end
from txn.term import Term
from txn.transaction import Txn

if TYPE_CHECKING:
    from txn.coordinator import Coordinator

LEASEHOLDER: Final = Routing.LEASEHOLDER
PRESENT: Final = Routing.PRESENT
"""A name, because mypyc takes a class attribute's initial value only from a literal or a constant."""

OPEN: Final = 0
COMMITTING: Final = 1
"""The batch that ends it was sent; only its answer may change the state."""
COMMITTED: Final = 2
ABORTED: Final = 3
AMBIGUOUS: Final = 4
"""Nobody here knows; never retried, never aborted by us."""

SCANS_BYTES_MAX: Final = 4 << 20
"""Of what one range answers to several scans at once: a quarter of the largest message between nodes."""

STATE_NAMES: Final = ("open", "committing", "committed", "aborted", "ambiguous")


class Attempt(Txn):
    """The base of ``Transaction``: fields and sending.

    Class attributes are the initial values, so that beginning sets only what differs.

    Invariant: meta.read_ts == read_ts <= meta.write_ts whenever a batch is sent.
    """

    isolation: Isolation
    read_ts: int = 0
    is_read_only: bool = True
    commit_ts: int = 0
    single_store: bool = True
    """No clock but ours and no lock that could be lost: one store is the whole cluster."""

    _state: int = OPEN
    _is_plain: bool = True
    """True while a plain get needs nothing but the store: direct, and nothing written."""
    _is_direct: bool = True
    """True while a read may be sent as it is: open, nothing flushed, usual routing, one store."""
    _tracks: bool = True
    """False where no read will ever be checked again: a single read-only statement, AS OF."""
    _may_write: bool = True
    """False for a single read-only statement and for AS OF: no lock, no write."""
    _is_fixed: bool = False
    """AS OF: the timestamp was given and never moves."""
    _is_deferrable: bool = False
    _routing: Routing = LEASEHOLDER
    _staleness_floor: int = 0
    _first_ts: int = 0
    _floor_ts: int = 0
    """Lowest read timestamp of the next snapshot: above the conflict that ended the last one."""
    _priority: int = 1
    _lock_timeout_ms: int = 0
    _meta: TxnMeta | None = None
    _name: bytes = b""
    """Its id, where that was asked for before there was a snapshot."""
    _buffer: WriteBuffer | None = None
    _seq: int = 0
    _is_locked: bool = False
    _is_flushed: bool = False
    _unsynced: int = 0
    _failure: Retryable | None = None
    """Found by a heartbeat; raised by the next call."""
    meter: Any = None
    """Counts the batches that go to other regions (``kvtier.replication.crossings``); None if nobody asks."""
    _metered: list[bytes] | None = None
    """Identities under which it counts."""
    _term: Term | None = None
    """Bounds everything this attempt reads and commits; None where the node is alone."""

    def __init__(self, coordinator: Coordinator, isolation: Isolation) -> None:
        self._coordinator = coordinator
        self._send = coordinator.send
        self.isolation = isolation
        self._reads = ReadSpans()
        self._points = self._reads.points
        self._validations: dict[bytes, int] = {}
        """Key -> timestamp from which it must not have changed at commit, in every isolation level."""
        self._lock_keys: dict[bytes, None] = {}
        self._lock_spans: list[tuple[bytes, bytes]] = []
        """Where locks may be held in other stores; empty if ``single_store``."""
        self._held: list[tuple[bytes, bytes]] = []
        """Spans where nobody else writes (``hold_span``)."""
        self._intent_keys: dict[bytes, None] = {}
        self._intent_spans: list[tuple[bytes, bytes]] = []

    def watch(self, meter: Any) -> None:
        """Has a meter count from now on; until ``unwatch``."""
        self.meter = meter
        if self._meta is not None:
            self._count_as(self._meta.id)
        elif self._is_fixed and not self._staleness_floor:
            self._ensure_meta(b"")

    def _count_as(self, txn_id: bytes) -> None:
        self._coordinator.meters[txn_id] = self.meter
        if self._metered is None:
            self._metered = []
        self._metered.append(txn_id)

    def unwatch(self) -> None:
        """Has nobody count any more."""
        for txn_id in self._metered or ():
            self._coordinator.meters.pop(txn_id, None)
        self._metered = None
        self.meter = None

    @property
    def id(self) -> bytes:
        """16 random bytes, or b"" while nothing was locked or written."""
        return b"" if self._meta is None else self._meta.id

    @property
    def state(self) -> str:
        """``open``, ``committing``, ``committed``, ``aborted`` or ``ambiguous``."""
        return STATE_NAMES[self._state]

    # --- timestamps -------------------------------------------------------------

    def _start(self) -> int:
        """Takes the read timestamp of a new snapshot."""
        kv = self._coordinator.kv
        ts = kv.now()
        if ts < self._floor_ts:
            ts = self._floor_ts
        if not self._first_ts:
            self._first_ts = ts
        self._set_read_ts(ts)
        if not self.single_store:
            self._ensure_meta(b"").uncertainty_limit = ts + (kv.max_offset_us << LOGICAL_BITS)
        return ts

    def _set_read_ts(self, ts: int) -> None:
        term = self._term
        if term is not None and ts >= term.until:
            raise TxnRetry("the node's lease on the catalog has run out", reason="catalog_lease")
        self.read_ts = ts
        meta = self._meta
        if meta is not None:
            meta.read_ts = ts
            if meta.write_ts < ts:
                meta.write_ts = ts

    def _ensure_meta(self, anchor: bytes) -> TxnMeta:
        """Returns what ranges are told; ``anchor`` b"" is not a lock or write yet."""
        meta = self._meta
        if meta is None:
            ts = self.read_ts or self._start()
            if self._meta is not None:  # _start made it
                return self._ensure_meta(anchor)
            meta = TxnMeta(
                self._name or self._coordinator.rng.bytes(16),
                self.isolation,
                read_ts=ts,
                write_ts=ts,
                priority=self._priority,
                anchor=anchor,
                lock_timeout_ms=self._lock_timeout_ms,
                start_ts=self._first_ts,
            )
            self._meta = meta
            if self.meter is not None:
                self._count_as(meta.id)
        elif not meta.anchor:
            meta.anchor = anchor
        return meta

    def identity(self) -> TxnMeta:
        """Returns by what ranges know it, or will; takes no snapshot yet."""
        if self._meta is not None:
            return self._meta
        if not self._name:
            self._name = self._coordinator.rng.bytes(16)
        return TxnMeta(self._name)

    @property
    def known_as(self) -> bytes:
        """The id that ranges may know it by; b"" for one that has asked none."""
        return self._name if self._meta is None else self._meta.id

    # --- what is ahead of the clock -------------------------------------------------

    def _wall_us(self) -> int:
        return self._coordinator.clock.wall_ns() // 1000 - EPOCH_UNIX_US

    def _is_ahead(self, ts: int) -> bool:
        """True for the timestamp of something that was written to a GLOBAL table, and is not to be seen yet."""
        return not self.single_store and ts > self._coordinator.kv.now()

    async def _wait_until_past(self, ts: int) -> None:
        """Nothing is read ahead of the clock: other nodes would still read, and write, below it."""
        while self._is_ahead(ts):
            await self._coordinator.clock.sleep(((ts >> LOGICAL_BITS) - self._wall_us() + 1) / 1e6)

    # --- sending ----------------------------------------------------------------

    def _leave_fast_path(self) -> None:
        self._is_plain = False
        self._is_direct = False

    def _check_open(self) -> None:
        assert self._state <= COMMITTING, f"used after its end: {self.state}"
        if self._failure is not None:
            raise self._failure

    def _batch(self, ops: list[Op], at_once: bool = False) -> Batch:
        ts = 0 if self._staleness_floor else self.read_ts or self._start()
        meta = self._meta
        if meta is not None:
            meta.seq = self._seq
        routing = self._routing
        if not self.single_store and not self._is_flushed:
            routing = PRESENT  # (Intents of our own are where the lease is.)
        floor = self._staleness_floor
        if at_once:
            return Batch(ops, ts, meta, bytes_max=SCANS_BYTES_MAX, routing=routing, staleness_floor=floor, at_once=True)
        return Batch(ops, ts, meta, routing=routing, staleness_floor=floor)

    def _perform(self, ops: list[Op], key: bytes, lock: Lock, at_once: bool = False) -> Eager[Reply]:
        """Sends operations at the read timestamp; refreshes and sends again where a conflict allows it."""
        self._check_open()
        if lock:
            self._note_lock(key)
        if self._is_deferrable and not self.read_ts:
            return self._perform_deferred(ops, key, lock, at_once)
        try:
            reply = self._send(self._batch(ops, at_once))
        except (WriteTooOld, Uncertain) as conflict:
            return self._perform_again(ops, conflict, at_once)
        if isinstance(reply, Reply):
            self._note_reply(reply)
            return reply
        return self._settle(reply, ops, at_once)

    async def _settle(self, pending: Awaitable[Reply], ops: list[Op], at_once: bool = False) -> Reply:
        try:
            reply = await pending
        except (WriteTooOld, Uncertain) as conflict:
            return await self._perform_again(ops, conflict, at_once)
        self._note_reply(reply)
        return reply

    async def _perform_again(self, ops: list[Op], conflict: Retryable, at_once: bool = False) -> Reply:
        """Moves the read timestamp above a conflict and repeats, a bounded number of times."""
        for _ in range(self._coordinator.settings.refreshes_max):
            if not await self._advance(conflict):
                break
            try:
                reply = self._send(self._batch(ops, at_once))
                if not isinstance(reply, Reply):
                    reply = await reply
            except (WriteTooOld, Uncertain) as again:
                conflict = again
                continue
            self._note_reply(reply)
            return reply
        raise conflict

    async def _perform_deferred(self, ops: list[Op], key: bytes, lock: Lock, at_once: bool) -> Reply:
        """DEFERRABLE: waits out the uncertainty interval before the first read instead of restarting for it."""
        kv = self._coordinator.kv
        ts = kv.now()
        await self._coordinator.clock.sleep(kv.max_offset_us / 1e6)
        self._floor_ts = ts
        self._is_deferrable = False
        reply = self._perform(ops, key, lock, at_once)
        return reply if isinstance(reply, Reply) else await reply

    def _note_reply(self, reply: Reply) -> None:
        if reply.unsynced > self._unsynced:
            self._unsynced = reply.unsynced
        meta = self._meta
        if meta is not None and reply.write_ts > meta.write_ts:
            meta.write_ts = reply.write_ts
        if self._staleness_floor:
            # Bounded staleness: the first answer fixes the snapshot of all others.
            self._staleness_floor = 0
            self._routing = Routing.NEAREST
            self.read_ts = reply.ts

    def _note_lock(self, key: bytes) -> None:
        """Remembers, before anything is sent, that there may be locks to release."""
        assert self._may_write, "a single read-only statement takes no lock"
        if not self._is_locked or not self.single_store:
            self._ensure_meta(key)
            self._is_locked = True
            if not self.single_store:
                self._lock_keys[key] = None
                self._start_heartbeat()

    # --- refresh ----------------------------------------------------------------

    def refresh_to(self, ts: int) -> Eager[bool]:
        if ts <= self.read_ts:
            return True
        if self._is_fixed or self.isolation == Isolation.REPEATABLE_READ:
            return False
        return self._move_later(ts) if self._is_ahead(ts) else self._move_to(ts)

    async def _move_later(self, ts: int) -> bool:
        await self._wait_until_past(ts)
        moved = self._move_to(ts)
        return moved if isinstance(moved, bool) else await moved

    async def _advance(self, conflict: Retryable) -> bool:
        """Moves the read timestamp above a conflict of one operation, if that is allowed."""
        if self._is_fixed or not self._tracks:
            return False
        conflict_ts = conflict_ts_of(conflict)
        if self._is_ahead(conflict_ts):
            await self._wait_until_past(conflict_ts)
        if isinstance(conflict, WriteTooOld) and self.isolation == Isolation.REPEATABLE_READ:
            return False
        moved = self._move_to(max(conflict_ts, self._coordinator.kv.now()))
        return moved if isinstance(moved, bool) else await moved

    def _move_to(self, ts: int) -> Eager[bool]:
        """Checks every read from read_ts to ``ts``, in one batch; moves there if all are unchanged."""
        ops = self._reads.into_ops(self.read_ts, ts)
        for key, from_ts in self._validations.items():
            ops.append(Refresh(key, point_end(key), from_ts, ts, b"", True))
        if not ops:
            self._set_read_ts(ts)
            return True
        self._coordinator.counts["refreshes"] += 1
        if fault("txn.refresh.fails"):
            return False
        try:
            reply = self._send(self._batch(ops))
        except ReadConflict:
            return False
        if isinstance(reply, Reply):
            self._note_moved(reply, ts)
            return True
        return self._finish_move(reply, ts)

    async def _finish_move(self, pending: Awaitable[Reply], ts: int) -> bool:
        try:
            reply = await pending
        except ReadConflict:
            return False
        self._note_moved(reply, ts)
        return True

    def _note_moved(self, reply: Reply, ts: int) -> None:
        """Every read and validation was found unchanged up to ``ts``."""
        self._note_reply(reply)
        self._set_read_ts(ts)
        for key in self._validations:
            self._validations[key] = ts

    # --- spans held ---------------------------------------------------------------

    def hold_span(self, start: bytes, end: bytes) -> Eager[bool]:
        if self._is_fixed:
            return True
        self._held.append((start, end))
        return self._show_all(start, end) if self.read_ts or not self.single_store else True

    async def _show_all(self, start: bytes, end: bytes) -> bool:
        """True if the snapshot, moved if need be, shows all that was written in a span."""
        if not self.single_store:
            await self._pass_what_is_ahead(start, end)
        if not self.read_ts:
            return True
        now = self._coordinator.kv.now()
        try:
            reply = self._send(self._batch([Refresh(start, end, self.read_ts, now, is_held=True)]))
            if not isinstance(reply, Reply):
                await reply
        except ReadConflict:
            moved = self.refresh_to(now)
            return moved if isinstance(moved, bool) else await moved
        return True

    async def _pass_what_is_ahead(self, start: bytes, end: bytes) -> None:
        """Waits for what was written ahead of the clock by somebody who did not wait for it: a client that left."""
        while True:
            now = self._coordinator.kv.now()
            check = Refresh(start, end, now, now + ticks_of(LEAD_SECONDS_MAX), is_held=True)
            try:
                reply = self._send(Batch([check], now))
                if not isinstance(reply, Reply):
                    await reply
            except ReadConflict as ahead:
                await self._wait_until_past(ahead.conflict_ts)
            else:
                return

    def _is_held(self, start: bytes, end: bytes) -> bool:
        return bool(self._held) and any([lower <= start and end <= upper for lower, upper in self._held])

    # --- extra reads of the session ---------------------------------------------

    def has_read(self, start: bytes, end: bytes) -> bool:
        """True if the commit depends on something in [start, end): reads to be checked, and locks."""
        if any([start <= key < end for key in self._validations]) or self._reads.overlaps(start, end):
            return True
        return any([start <= key < end for key in self._lock_keys])

    def is_lapsed(self) -> bool:
        """True if the attempt belongs to a term that is over: table locks it took are worth nothing."""
        return self._term is not None and self._term is not self._coordinator.term

    def add_read(self, key: bytes, projection: bytes = b"") -> None:
        """Adds a key the session read elsewhere (a descriptor in its cache) to the read set."""
        if self._tracks:
            if not self.read_ts:
                self._start()
            self._reads.add_point(key, projection)

    def add_validation(self, key: bytes) -> None:
        """The key must not change from now until the commit timestamp, whatever the isolation level."""
        ts = self.read_ts or self._start()
        self._validations.setdefault(key, ts)

    def _start_heartbeat(self) -> None:
        """Shows from now on that the owner of locks and intents lives."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What monitoring shows of an open transaction."""
        return {
            "id": self.id.hex(),
            "state": self.state,
            "isolation": self.isolation.name,
            "read_ts": self.read_ts,
            "buffered_bytes": 0 if self._buffer is None else self._buffer.bytes,
            "is_flushed": self._is_flushed,
            "has_locks": self._is_locked,
        }


def conflict_ts_of(conflict: Retryable) -> int:
    """Returns the timestamp of what stood in the way, 0 if that was no value."""
    if isinstance(conflict, WriteTooOld):
        return conflict.existing_ts
    return conflict.value_ts if isinstance(conflict, Uncertain) else 0
