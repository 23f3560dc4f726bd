"""Store liveness as the machine sees it: promises of support between stores, with epochs.

Stores, not ranges, heartbeat each other.  A store *supports* another at an epoch until
a time; support that has been withdrawn at an epoch is never given at that epoch again,
so "supports (peer, epoch)" goes from true to false once.  A leader asks its followers to
promise support (Fortify); one that promised neither votes nor campaigns as long as its
store supports the leader's at the promised epoch.  A quorum of promises is a lease, that
lasts until the time a quorum of stores supports us: kept alive by one heartbeat per pair
of stores, for any number of ranges.  After CockroachDB's leader leases (their RFC and
issue 123847).

    leader's store L                      follower's store F
       | ----- heartbeat (epoch 4) ----->    |  F supports L at 4 until t
       | <---- support until t ----------    |
    range:  Fortify ------------------->     lead_epoch = 4, durable
            <------------- FortifyReply 4    no vote while supports(L, 4)

Times are whatever the store's clock counts in; the machine only compares, and asks
whether one has passed.  Peers are replica ids of the group; the store knows whose store
that is.  A store that restarts asks for support at a new epoch, but keeps what it
promised to others.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Liveness(ABC):
    """What a replica's store knows of support, given and had."""

    @abstractmethod
    def supports(self, peer: int, epoch: int) -> bool:
        """Do we support the peer's store at this epoch now?  Once false, false for ever."""

    @abstractmethod
    def epoch_of(self, peer: int) -> int:
        """The epoch at which we support the peer's store now; 0: we do not."""

    @abstractmethod
    def supported_until(self, peer: int, epoch: int) -> int:
        """Until when the peer's store promised to support ours at this epoch; 0: not at this epoch.

        Does not go back for one epoch.  Of ourselves: as long as we please.
        """

    @abstractmethod
    def has_passed(self, until: int) -> bool:
        """Is that time surely over, on every clock within the maximal offset?"""

    def is_certain(self, until: int) -> bool:
        """Is that time surely still to come, on every clock within the maximal offset?

        What ``lease_reads`` asks: between this and ``has_passed`` nobody can say.  False
        is always a right answer, and makes such a read take a round of heartbeats.
        """
        return False
