"""Store liveness of a simulated group: who supports whom, at which epoch and until when.

A store's promises survive its crashes; what it knows of others' promises does not.  One
that restarts is supported again when the old promise has run out, at the next epoch.
Clocks are off by up to half the maximal offset each way.
"""

from __future__ import annotations

from kvtier.raft.liveness import Liveness

OFFSET_MAX = 2
SUPPORT_TICKS = 12


class Stores:
    """All promises of all stores, and the true time."""

    def __init__(self) -> None:
        self.now = 0
        self.offsets: dict[int, int] = {}
        self.given: dict[tuple[int, int], tuple[int, int]] = {}
        """(giver, supported) -> (epoch, until)."""
        self.had: dict[tuple[int, int], tuple[int, int]] = {}
        """(supported, giver) -> (epoch, until), as the supported store knows."""

    def clock(self, id: int) -> int:
        return self.now + self.offsets.get(id, 0)

    def heartbeat(self, id: int, giver: int, is_answered: bool) -> None:
        """Store ``id`` asks ``giver`` for support; the answer may be lost."""
        epoch, until = self.given.get((giver, id), (1, 0))
        if until and self.clock(giver) >= until + OFFSET_MAX:
            epoch, until = epoch + 1, 0
        known_epoch = self.had.get((id, giver), (0, 0))[0]
        if until and known_epoch != epoch and known_epoch >= 0 and (id, giver) not in self.had:
            # Restarted (or the first answer was lost): waits until the old promise is over.
            return
        until = max(until, self.clock(id) + SUPPORT_TICKS)
        self.given[giver, id] = (epoch, until)
        if is_answered:
            self.had[id, giver] = (epoch, until)

    def restart(self, id: int) -> None:
        """The store forgets what others promised it."""
        for pair in list(self.had):
            if pair[0] == id:
                del self.had[pair]


class StoreLiveness(Liveness):
    """What one store knows."""

    def __init__(self, stores: Stores, id: int) -> None:
        self.stores = stores
        self.id = id

    def supports(self, peer: int, epoch: int) -> bool:
        given, until = self.stores.given.get((self.id, peer), (0, 0))
        return given == epoch and self.stores.clock(self.id) < until + OFFSET_MAX

    def epoch_of(self, peer: int) -> int:
        epoch = self.stores.given.get((self.id, peer), (0, 0))[0]
        if peer == self.id and (self.id, self.id) not in self.stores.had:
            return 0
        return epoch if self.supports(peer, epoch) else 0

    def supported_until(self, peer: int, epoch: int) -> int:
        had, until = self.stores.had.get((self.id, peer), (0, 0))
        return until if had == epoch else 0

    def has_passed(self, until: int) -> bool:
        return self.stores.clock(self.id) >= until + OFFSET_MAX

    def is_certain(self, until: int) -> bool:
        # A giver counts until + OFFSET_MAX on its clock, which is ahead of ours by at most OFFSET_MAX.
        return self.stores.clock(self.id) < until
