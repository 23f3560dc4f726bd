"""Store liveness: who supports whom, until when.  One heartbeat per pair of stores,
whatever the number of ranges (design.md section 6).

    requester A                                 supporter B
    Heartbeat(epoch, expiration)  ------------>  supports A at that epoch until expiration
    support_from(B) = expiration  <------------  Supported(epoch, expiration)

                                                 its clock passes the expiration: withdraws,
                                                 min_epoch(A) = epoch + 1, on disk, for ever
    epoch = min_epoch(A)          <------------  Supported(min_epoch, 0)   at the next heartbeat

Expirations are HLC timestamps and both sides read their own clocks, so neither their rates nor
their offsets matter: B does not withdraw before *its* HLC has passed the expiration, and
whoever hears of the withdrawal hears B's HLC with it.  A lease that ends at the smallest
expiration of a quorum is therefore over, by the clock of whoever takes the next one.

Invariants:
* Support that was given at (epoch, expiration) stands until the supporter's clock is past
  the expiration, also across the supporter's restart: what it has promised it may have
  forgotten, so for ``grace`` after a start it withdraws nothing and counts everybody as supported.
* An epoch once withdrawn is never supported again: ``min_epoch`` is synced before anybody acts on it.
* A store that restarts begins a new epoch, so support for its former life is worth nothing to it.

The shape is that of CockroachDB's store liveness (docs/tech-notes, "leader leases"), reliability 35, 37, 38, 40.
Pure: clock readings are handed in, what must be durable is handed out (``take_dirty``).
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from base.hlc import LOGICAL_BITS

PEERS_MAX: Final = 4_096
"""Stores of one cluster."""


class Heartbeat(Struct, array_like=True):
    """Asks for support of the sender at ``epoch`` until the HLC time ``expiration``."""

    epoch: int
    expiration: int


class Supported(Struct, array_like=True):
    """The support the sender gives; ``expiration`` 0: none at any epoch below ``epoch``."""

    epoch: int
    expiration: int


class Support:
    """What this store gives to one other."""

    __slots__ = ("epoch", "expiration", "is_ending", "min_epoch")

    def __init__(self, min_epoch: int) -> None:
        self.min_epoch = min_epoch
        self.epoch = 0
        self.expiration = 0
        """0: no support is given."""
        self.is_ending = False
        """Withdrawn, but that is not durable yet: counts as given."""


class StoreLiveness:
    """See the module docstring; ``peers`` are ids of other stores."""

    def __init__(self, store_id: int, epoch: int, min_epochs: dict[int, int], now: int, duration_seconds: float, grace_seconds: float) -> None:  # fmt: skip
        assert epoch > 0, epoch
        self.store_id = store_id
        self.epoch = epoch
        """Of this store; rises at a restart and when somebody withdrew."""
        self._duration = ticks_of(duration_seconds)
        self._grace_end = now + ticks_of(grace_seconds)
        self._given: dict[int, Support] = {peer: Support(least) for peer, least in min_epochs.items()}
        self._received: dict[int, int] = {}
        """Store -> expiration of its support at our epoch."""
        self._dirty: list[tuple[int, int]] = []
        self._standing: dict[int, bool] = {}
        """Store -> did its support of us stand when that was last looked at."""
        self._changed: dict[int, None] = {}
        self.withdrawals = 0

    # --- asking for support ---------------------------------------------------------

    def heartbeat(self, now: int) -> Heartbeat:
        """Returns what to send to every store now."""
        return Heartbeat(self.epoch, now + self._duration)

    def on_supported(self, store_id: int, supported: Supported) -> None:
        """Takes an answer: support until its expiration, or word that our epoch is over."""
        if supported.epoch > self.epoch:
            self.epoch = supported.epoch
            self._received.clear()
            self._dirty.append((self.store_id, self.epoch))
            self._changed.update(dict.fromkeys(self._standing))
        if supported.epoch == self.epoch and supported.expiration > self._received.get(store_id, 0):
            self._received[store_id] = supported.expiration

    def support_from(self, store_id: int) -> tuple[int, int]:
        """Returns (our epoch, HLC time until which that store supports us; 0 for not at all)."""
        return self.epoch, self._received.get(store_id, 0)

    def own_support(self, now: int) -> int:
        """Returns until when this store supports itself: for as long as it would ask others to."""
        return now + self._duration

    # --- giving support ---------------------------------------------------------------

    def on_heartbeat(self, store_id: int, asked: Heartbeat) -> Supported:
        """Supports a store as asked; the answer may leave only after ``take_dirty`` is durable."""
        given = self._given.get(store_id)
        if given is None:
            assert len(self._given) < PEERS_MAX, len(self._given)
            given = self._given[store_id] = Support(0)
        if asked.epoch < given.min_epoch or asked.epoch < given.epoch:
            return Supported(max(given.min_epoch, given.epoch), 0)
        if asked.epoch > given.epoch:
            self._changed[store_id] = None
            given.epoch = asked.epoch
            given.expiration = asked.expiration
            # A withdrawal that is still being written was of the store's former life.
            given.is_ending = False
        elif asked.expiration > given.expiration:
            given.expiration = asked.expiration
        return Supported(given.epoch, given.expiration)

    def support_for(self, store_id: int, now: int) -> tuple[int, bool]:
        """Returns (epoch, True) while this store stands by another: it may neither vote nor campaign against it.

        Epoch 0 with True: just after a start, what was promised is not known.
        """
        if store_id == self.store_id:
            return self.epoch, True
        given = self._given.get(store_id)
        if given is not None and given.expiration:
            return given.epoch, True
        return 0 if given is None else given.min_epoch, now < self._grace_end

    def is_known(self, store_id: int) -> bool:
        """True if that store has asked for support since this one started, and has it."""
        given = self._given.get(store_id)
        return given is not None and given.expiration > 0

    def given_epoch(self, store_id: int) -> int:
        """Returns the epoch at which a store is supported and will be for a while; 0 if not."""
        if store_id == self.store_id:
            return self.epoch
        given = self._given.get(store_id)
        return given.epoch if given is not None and given.expiration and not given.is_ending else 0

    def withdraw(self, now: int) -> list[tuple[int, int]]:
        """Begins to end support that has run out by our clock; returns the (store, epoch) concerned.

        It goes on counting as given until ``ended`` is told that ``take_dirty`` is durable.
        """
        ending: list[tuple[int, int]] = []
        for store_id, given in self._given.items():
            if given.expiration and not given.is_ending and now > given.expiration and now >= self._grace_end:
                given.is_ending = True
                given.min_epoch = given.epoch + 1
                self._dirty.append((store_id, given.min_epoch))
                ending.append((store_id, given.epoch))
        return ending

    def ended(self, withdrawn: list[tuple[int, int]]) -> None:
        """The withdrawal of these is durable: others may be voted for.  What they asked for since then stands."""
        for store_id, epoch in withdrawn:
            given = self._given[store_id]
            if given.epoch == epoch:
                given.expiration = 0
                given.is_ending = False
                self._changed[store_id] = None
        self.withdrawals += len(withdrawn)

    # --- what has changed ---------------------------------------------------------------

    def take_changed(self, now: int) -> list[int]:
        """Returns the stores whose support, given or had, has begun or ended since the last call."""
        for store_id, expiration in self._received.items():
            stands = now <= expiration
            if stands != self._standing.get(store_id, False):
                self._standing[store_id] = stands
                self._changed[store_id] = None
        changed, self._changed = self._changed, {}
        return list(changed)

    # --- what must be durable -----------------------------------------------------------

    def take_dirty(self) -> list[tuple[int, int]]:
        """Returns (store, epoch) to be written and synced: our own epoch, and least epochs of others."""
        dirty, self._dirty = self._dirty, []
        return dirty

    def check(self, now: int) -> None:
        """Asserts the invariants; for tests."""
        for store_id, given in self._given.items():
            assert not given.expiration or given.epoch >= given.min_epoch, (store_id, given.epoch, given.min_epoch)
        for store_id, expiration in self._received.items():
            assert expiration <= now + 2 * self._duration, (store_id, expiration, now)


def ticks_of(seconds: float) -> int:
    """Returns a duration in units of HLC timestamps."""
    return int(seconds * 1e6) << LOGICAL_BITS
