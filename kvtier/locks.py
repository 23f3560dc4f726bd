"""The lock table of a store: who holds which key, who waits, in which order.

    key -> LockState   holder(s), the newest committed version when it was locked, queue
    txn -> keys held   released together at the transaction's end

A request waits in its key's queue, first come first served.  Two things go before
the queue: a request of the holder itself, and a share holder that wants EXCLUSIVE
(everybody in the queue waits for it anyway).  When a lock is freed it is *given* to
the head of the queue (and, if that is SHARE, to the SHAREs right behind it) and only
those are woken (reliability 30), so nobody can slip in between wake-up and retry.

Non-locking readers that met an intent wait here too, with Lock.NONE: they hold up
nobody, get nothing, and are all woken when the holder goes.

Deadlocks: at the moment a request would wait, the waits-for graph over transactions is
walked from it.  A request waits for the holders that conflict with it and for the
conflicting requests ahead of it.  New edges appear only here (granting keeps the
direction of edges), so every cycle is found when it closes.  The victim has the lowest
priority, of those the youngest; ties fall by transaction id, so a run is repeatable.

Locks of this table are not replicated: they vanish with the lease (reliability 23).
Intents are held in ``kvtier.intents``; a key's intent shows up here as its holder
from the moment somebody waits for it.

Invariant: a LockState exists only while it has a holder, a queue or readers; the queue
is non-empty only while there is a conflicting holder.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final

from base.errors import Deadlock, LockTableFull
from base.seams import Scheduler, Waiter
from kvtier.messages import TxnMeta

LOCKS_MAX: Final = 1_000_000
"""Locks one store keeps in memory: about 300 bytes each."""
CYCLE_STEPS_MAX: Final = 100_000
"""Edges walked for one deadlock search; past it the request waits and lock_timeout decides."""

_NO_KEYS: Final[list[bytes]] = []

NONE: Final = 0
SHARE: Final = 1
EXCLUSIVE: Final = 2


class LockRequest:
    """One place in a queue."""

    __slots__ = ("is_granted", "key", "priority", "start_ts", "strength", "txn_id", "waiter")

    def __init__(self, key: bytes, txn: TxnMeta, strength: int, waiter: Waiter) -> None:
        self.key = key
        self.txn_id = txn.id
        self.priority = txn.priority
        self.start_ts = txn.start_ts or txn.read_ts
        self.strength = strength
        self.waiter = waiter
        self.is_granted = False


class LockState:
    """One locked key."""

    __slots__ = ("exclusive", "newest_size", "newest_ts", "queue", "readers", "sharers")

    def __init__(self, exclusive: bytes) -> None:
        self.exclusive = exclusive
        """The EXCLUSIVE holder's transaction, or b""."""
        self.newest_ts = -1
        """Newest committed version when the EXCLUSIVE holder read it; -1 if it has not."""
        self.newest_size = -1
        """Bytes of that version's value; -1 if the key was absent."""
        self.sharers: list[bytes] = []
        self.queue: list[LockRequest] = []
        self.readers: list[LockRequest] = []


class LockTable:
    """See the module docstring."""

    def __init__(self, scheduler: Scheduler, limit: int = LOCKS_MAX) -> None:
        self._scheduler = scheduler
        self._limit = limit
        self.states: dict[bytes, LockState] = {}
        """Read by the evaluator's fast paths; changed only here."""
        self._held: dict[bytes, list[bytes]] = {}
        self._waiting: dict[bytes, list[LockRequest]] = {}
        self.deadlocks = 0

    # --- taking -----------------------------------------------------------------

    def acquire(self, key: bytes, txn_id: bytes, strength: int) -> bool:
        """Takes a lock if nothing is in its way; False leaves everything as it was."""
        state = self.states.get(key)
        if state is None:
            if len(self.states) >= self._limit:
                raise LockTableFull(self._limit)
            if strength == EXCLUSIVE:
                state = LockState(txn_id)
            else:
                state = LockState(b"")
                state.sharers.append(txn_id)
            self.states[key] = state
            self._note_held(txn_id, key)
            return True
        if state.exclusive:
            return state.exclusive == txn_id
        return self._acquire_shared(state, key, txn_id, strength)

    def _acquire_shared(self, state: LockState, key: bytes, txn_id: bytes, strength: int) -> bool:
        """Takes a lock that has no EXCLUSIVE holder."""
        if strength == SHARE:
            if txn_id in state.sharers:
                return True
            if state.queue:
                return False
            state.sharers.append(txn_id)
            self._note_held(txn_id, key)
            return True
        if not state.sharers and not state.queue:
            state.exclusive = txn_id
            self._note_held(txn_id, key)
            return True
        if state.sharers == [txn_id]:
            state.sharers.clear()
            state.exclusive = txn_id
            return True
        return False

    def _note_held(self, txn_id: bytes, key: bytes) -> None:
        held = self._held.get(txn_id)
        if held is None:
            self._held[txn_id] = [key]
        else:
            held.append(key)

    def blocks(self, key: bytes, txn_id: bytes) -> bool:
        """True if a write of ``txn_id`` must wait: another holds the key or is ahead in its queue."""
        state = self.states.get(key)
        if state is None or state.exclusive == txn_id:
            return False
        if state.exclusive or state.queue:
            return state.sharers != [txn_id]
        return bool(state.sharers) and state.sharers != [txn_id]

    def other_holder(self, key: bytes, txn_id: bytes) -> bytes:
        """Returns a transaction in the way of ``txn_id`` at a key, or b""."""
        state = self.states.get(key)
        if state is None:
            return b""
        if state.exclusive and state.exclusive != txn_id:
            return state.exclusive
        for sharer in state.sharers:
            if sharer != txn_id:
                return sharer
        for request in state.queue:
            if request.txn_id != txn_id:
                return request.txn_id
        return b""

    def show_intent(self, key: bytes, holder: bytes) -> None:
        """Makes an intent's transaction the visible holder, so that others can queue behind it."""
        state = self.states.get(key)
        if state is None:
            self.states[key] = LockState(holder)
            self._note_held(holder, key)
            return
        assert not state.sharers or state.sharers == [holder], (key, holder)
        if state.exclusive != holder:
            assert not state.exclusive, (key, holder, state.exclusive)
            if not state.sharers:
                self._note_held(holder, key)
            state.sharers.clear()
            state.exclusive = holder

    def holds_exclusive(self, key: bytes, txn_id: bytes) -> bool:
        """True if the transaction holds the key EXCLUSIVE."""
        state = self.states.get(key)
        return state is not None and state.exclusive == txn_id

    def held_by(self, txn_id: bytes) -> list[bytes]:
        """Returns the table's own list of a transaction's keys: to be read at once."""
        return self._held.get(txn_id, _NO_KEYS)

    def keys_held(self, txn_id: bytes) -> list[bytes]:
        """Returns the keys a transaction holds, in the order it took them."""
        return list(self._held.get(txn_id, ()))

    def shown_in(self, start: bytes, end: bytes, txn_id: bytes) -> list[bytes]:
        """Returns the keys of [start, end) a transaction holds EXCLUSIVE.  NB: linear in its locks."""
        return [key for key in self.held_by(txn_id) if start <= key < end and self.holds_exclusive(key, txn_id)]

    def blocked_key(self, start: bytes, end: bytes, txn_id: bytes) -> bytes | None:
        """Returns a key of [start, end) that another transaction holds.  NB: linear in the locks of all others."""
        for holder, keys in self._held.items():
            if holder != txn_id:
                for key in keys:
                    if start <= key < end and self.blocks(key, txn_id):
                        return key
        return None

    # --- waiting ----------------------------------------------------------------

    def enqueue(self, key: bytes, txn: TxnMeta, strength: int) -> LockRequest:
        """Puts a request into the key's queue; raises Deadlock if this transaction is the victim of a cycle.

        The key must be locked (by another).  Await ``request.waiter.wait()``, then try again; call
        ``cancel`` if the wait is given up.
        """
        state = self.states[key]
        request = LockRequest(key, txn, strength, self._scheduler.waiter())
        if strength == NONE:
            state.readers.append(request)
        elif txn.id in state.sharers:
            ahead = 0
            while ahead < len(state.queue) and state.queue[ahead].txn_id in state.sharers:
                ahead += 1
            state.queue.insert(ahead, request)
        else:
            state.queue.append(request)
        self._waiting.setdefault(txn.id, []).append(request)
        self._break_cycles(request)
        return request

    def cancel(self, request: LockRequest) -> None:
        """Leaves the queue; a lock given meanwhile stays with its transaction."""
        self._forget_waiting(request)
        state = self.states.get(request.key)
        if state is None or request.is_granted:
            return
        if request in state.queue:
            state.queue.remove(request)
        if request in state.readers:
            state.readers.remove(request)
        self._grant(request.key, state)

    def _forget_waiting(self, request: LockRequest) -> None:
        requests = self._waiting.get(request.txn_id)
        if requests is not None and request in requests:
            requests.remove(request)
            if not requests:
                del self._waiting[request.txn_id]

    # --- freeing ----------------------------------------------------------------

    def release_txn(self, txn_id: bytes) -> None:
        """Frees everything a transaction holds."""
        held = self._held.pop(txn_id, None)
        if held is None:
            return
        states = self.states
        for key in held:
            state = states.get(key)
            if state is None:
                continue
            if state.exclusive == txn_id:
                state.exclusive = b""
                state.newest_ts = -1
            elif txn_id in state.sharers:
                state.sharers.remove(txn_id)
            else:
                continue
            if state.queue or state.readers or state.sharers:
                self._grant(key, state)
            else:
                del states[key]

    def release_key(self, key: bytes, txn_id: bytes) -> None:
        """Frees one key of a transaction (its intent was resolved)."""
        state = self.states.get(key)
        if state is None:
            return
        if state.exclusive == txn_id:
            state.exclusive = b""
            state.newest_ts = -1
        elif txn_id in state.sharers:
            state.sharers.remove(txn_id)
        else:
            return
        held = self._held.get(txn_id)
        if held is not None and key in held:
            held.remove(key)
            if not held:
                del self._held[txn_id]
        self._grant(key, state)

    def drop_span(self, start: bytes, end: bytes) -> None:
        """Forgets all locks of [start, end) and lets the waiters try elsewhere: the lease has gone."""
        for key in [key for key in self.states if start <= key < end]:
            state = self.states.pop(key)
            for holder in [state.exclusive, *state.sharers]:
                held = self._held.get(holder)
                if held is not None:
                    held.remove(key)
                    if not held:
                        del self._held[holder]
            for request in [*state.queue, *state.readers]:
                self._forget_waiting(request)
                request.waiter.wake()

    def wake_all(self, key: bytes) -> None:
        """Lets every waiter of a key look again (a pushed holder, a moved range)."""
        state = self.states.get(key)
        if state is not None:
            self._wake_readers(state)

    def _wake_readers(self, state: LockState) -> None:
        readers = state.readers
        state.readers = []
        for request in readers:
            self._forget_waiting(request)
            request.waiter.wake()

    def _grant(self, key: bytes, state: LockState) -> None:
        """Gives a key to those at the head of its queue that are compatible with its holders."""
        if not state.exclusive:
            self._wake_readers(state)
            queue = state.queue
            while queue:
                request = queue[0]
                if request.strength == EXCLUSIVE:
                    if state.sharers and state.sharers != [request.txn_id]:
                        break
                    was_held = bool(state.sharers)
                    state.sharers.clear()
                    state.exclusive = request.txn_id
                else:
                    was_held = request.txn_id in state.sharers
                    if not was_held:
                        state.sharers.append(request.txn_id)
                if not was_held:
                    self._note_held(request.txn_id, key)
                del queue[0]
                request.is_granted = True
                self._forget_waiting(request)
                request.waiter.wake()
                if state.exclusive:
                    break
        self._grant_to_holder(state)
        if not state.exclusive and not state.sharers and not state.queue and not state.readers:
            self.states.pop(key, None)

    def _grant_to_holder(self, state: LockState) -> None:
        """Wakes requests of the EXCLUSIVE holder itself: one transaction may wait twice for a key."""
        if state.exclusive:
            for request in [request for request in state.queue if request.txn_id == state.exclusive]:
                state.queue.remove(request)
                request.is_granted = True
                self._forget_waiting(request)
                request.waiter.wake()

    # --- deadlocks --------------------------------------------------------------

    def _blockers(self, request: LockRequest) -> list[bytes]:
        """Returns the transactions a waiting request waits for."""
        state = self.states.get(request.key)
        if state is None:
            return []
        found: list[bytes] = []
        if state.exclusive and state.exclusive != request.txn_id:
            found.append(state.exclusive)
        if request.strength == NONE:
            return found
        if request.strength == EXCLUSIVE:
            found.extend([sharer for sharer in state.sharers if sharer != request.txn_id])
        for ahead in state.queue:
            if ahead is request:
                break
            if ahead.txn_id != request.txn_id and (ahead.strength == EXCLUSIVE or request.strength == EXCLUSIVE):
                found.append(ahead.txn_id)
        return found

    def _find_cycle(self, origin: LockRequest) -> list[LockRequest]:
        """Returns the requests of a cycle through ``origin``, or [] if there is none."""
        path: list[LockRequest] = [origin]
        branches: list[list[bytes]] = [self._blockers(origin)]
        seen: dict[bytes, None] = {}
        steps = 0
        while path:
            if not branches[-1]:
                path.pop()
                branches.pop()
                continue
            blocker = branches[-1].pop(0)
            steps += 1
            if blocker == origin.txn_id:
                return path
            if blocker in seen or steps > CYCLE_STEPS_MAX:
                continue
            seen[blocker] = None
            requests = self._waiting.get(blocker)
            if requests:
                path.append(requests[0])
                branches.append([txn_id for request in requests for txn_id in self._blockers(request)])
        return []

    def dependents(self, txn_id: bytes) -> list[bytes]:
        """Returns the transactions that wait here for one, directly or through others."""
        found: list[bytes] = []
        targets = {txn_id: None}
        steps = 0
        is_growing = True
        while is_growing and steps < CYCLE_STEPS_MAX:
            is_growing = False
            for waiter, requests in self._waiting.items():
                steps += 1
                if waiter in targets:
                    continue
                if any(blocker in targets for request in requests for blocker in self._blockers(request)):
                    targets[waiter] = None
                    found.append(waiter)
                    is_growing = True
        return found

    def _break_cycles(self, origin: LockRequest) -> None:
        """Fails victims until ``origin`` is in no cycle; raises Deadlock if it is the victim itself."""
        while True:
            cycle = self._find_cycle(origin)
            if not cycle:
                return
            self.deadlocks += 1
            victim = cycle[0]
            for request in cycle[1:]:
                if (request.priority, -request.start_ts, request.txn_id) < (
                    victim.priority,
                    -victim.start_ts,
                    victim.txn_id,
                ):
                    victim = request
            other = next((request.txn_id for request in cycle if request.txn_id != victim.txn_id), b"")
            failure = Deadlock(victim.key, other)
            self.cancel(victim)
            if victim is origin:
                raise failure
            victim.waiter.fail(failure)

    # --- checking ---------------------------------------------------------------

    def __len__(self) -> int:
        """Number of locked keys."""
        return len(self.states)

    def waiters(self) -> int:
        """Number of requests waiting."""
        return sum([len(requests) for requests in self._waiting.values()])

    def check(self) -> None:
        """Asserts the invariants; for tests."""
        for key, state in self.states.items():
            assert state.exclusive or state.sharers, (key, "no holder")
            assert not (state.exclusive and state.sharers), (key, "two kinds of holder")
            if state.queue and not state.exclusive:
                head = state.queue[0]
                assert head.strength == EXCLUSIVE, (key, "a share waits behind shares")
                assert state.sharers != [head.txn_id], (key, "an upgrade waits for nobody")
            for request in [*state.queue, *state.readers]:
                assert not request.is_granted, key
                assert request in self._waiting.get(request.txn_id, ()), key
            for holder in [state.exclusive] if state.exclusive else state.sharers:
                assert self._held[holder].count(key) == 1, (key, holder, self._held[holder])
