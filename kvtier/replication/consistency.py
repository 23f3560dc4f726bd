"""Consistency checks: are a range's replicas the same, byte for byte, where they have applied the same?

    leaseholder   puts a check into the log                          every ``consistency_seconds`` for each range
    each replica  applies it: opens iterators there and then, digests what they show a little at a time,
                  tells the leaseholder
    leaseholder   compares what arrives: equal, or a Mismatch, told loudly and remembered

The entry changes nothing, so all look at the state after the same entry, whenever each comes to it.  A store digests
DIGESTS_MAX ranges at a time; asked for another meanwhile it says nothing, and so does one whose message is lost: the range is
then compared with fewer replicas, and with all of them another time.  Nothing is repaired: which replica is right
is for a person to say (with three of them, most likely the two that agree).

The simulator compares the same things by the same digest after every story (``sim.cluster``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from base.errors import MeridianError
from kvtier import mvcc
from kvtier.change import Change
from kvtier.engine.batch import OpBatch
from kvtier.pace import Pace
from kvtier.replication.envelope import Digest
from kvtier.replication.group import Group

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication

SHARE_INVERSE: Final = 20
"""Digesting takes at most one part in so many of the loop's time."""
ANSWERS_SECONDS_MAX: Final = 600.0
"""How long replicas may take: what they digest is bounded by the size of a range."""
SILENT_SECONDS_MAX: Final = 30.0
"""How long the other replicas may take after the leaseholder's own is digested."""
DIGESTS_MAX: Final = 4
POLL_SECONDS: Final = 0.1
PAUSE_SECONDS_MIN: Final = 1.0
"""Between two checks."""
IDLE_SECONDS: Final = 60.0
"""Until it is looked again whether there is anything to check."""
MISMATCHES_MAX: Final = 100
"""Ranges that are remembered as differing."""


class Mismatch(Struct, frozen=True):
    """Replicas of a range that differ at one index: node -> (digest, counts)."""

    range_id: int
    index: int
    digests: tuple[tuple[int, str, tuple[int, ...]], ...]


class Consistency:
    """One store's checks; see the module docstring."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._digesting = 0
        self._answers: dict[int, dict[int, dict[int, Digest]]] = {}
        """Range that is being checked from here -> index -> node -> what it told."""
        self._silent_from_ns = 0
        """When those that have not answered by then will not."""
        self._turns: list[int] = []
        self._is_stopped = False
        self.mismatches: dict[int, Mismatch] = {}
        """By range, the latest of each."""
        self.on_mismatch: Callable[[Mismatch], None] = lambda mismatch: None
        """Told of every mismatch."""
        self.checked = 0
        self.differed = 0

    # --- every replica --------------------------------------------------------------------

    def begin(self, group: Group, index: int) -> None:
        """A check has been applied: what is here now is digested."""
        replica = group.replica
        leader = self._replication.node_id if group.is_leading() else group.leader_node()
        if self._digesting == DIGESTS_MAX or replica is None or leader is None or not self._replication.is_running():
            return
        self._digesting += 1
        if leader == self._replication.node_id and group.range_id in self._answers:
            self._answers[group.range_id].setdefault(index, {})
        store = self._replication.store
        whole = mvcc.SpanDigest(store.engine, replica.start, replica.end)
        counts = replica.counts()
        store.scheduler.spawn(self._digest(group.range_id, index, leader, whole, counts), "digest range")

    async def _digest(
        self, range_id: int, index: int, leader: int, whole: mvcc.SpanDigest, counts: tuple[int, int, int, int]
    ) -> None:
        replication = self._replication
        pace = Pace(replication.store.clock, SHARE_INVERSE)
        try:
            while not whole.advance():
                await pace.rest()
                if not replication.is_running():
                    return
        finally:
            self._digesting -= 1
            whole.close()
        digest = Digest(range_id, index, whole.digest(), counts)
        if leader == replication.node_id:
            self._silent_from_ns = replication.store.clock.monotonic_ns() + int(SILENT_SECONDS_MAX * 1e9)
            self.take(leader, digest)
        else:
            replication.envelope(leader).digests.append(digest)
            replication.flush()

    # --- the leaseholder -------------------------------------------------------------------

    def take(self, node_id: int, digest: Digest) -> None:
        """A replica tells what it has."""
        answers = self._answers.get(digest.range_id)
        if answers is not None:
            answers.setdefault(digest.index, {})[node_id] = digest

    async def check(self, group: Group) -> bool | None:
        """Compares the replicas of a range that is led here; None if fewer than two could be compared."""
        replication = self._replication
        store = replication.store
        replica = group.replica
        if replica is None or group.range_id in self._answers or not replication.holds_lease(group):
            return None
        answers = self._answers[group.range_id] = {}
        try:
            change = Change(OpBatch())
            change.is_check = True
            applied = store.submit_logged(replica, change)
            if applied is not None:
                await applied
            deadline_ns = store.clock.monotonic_ns() + int(ANSWERS_SECONDS_MAX * 1e9)
            replicas = 1 + len(group.followers())
            while replication.is_running() and self._is_awaited(answers, replicas, deadline_ns):
                await store.clock.sleep(POLL_SECONDS)
        except MeridianError:
            return None  # The lease has moved, or nobody can be asked: another time.
        finally:
            del self._answers[group.range_id]
        return self._compare(group.range_id, answers)

    def _is_awaited(self, answers: dict[int, dict[int, Digest]], replicas: int, deadline_ns: int) -> bool:
        """True while another replica may still tell something: once this one is through, for SILENT_SECONDS_MAX."""
        own = self._replication.node_id
        now_ns = self._replication.store.clock.monotonic_ns()
        if now_ns >= deadline_ns or not answers:
            return False
        if any(len(told) == replicas for told in answers.values()):
            return False
        return not any(own in told for told in answers.values()) or now_ns < self._silent_from_ns

    def _compare(self, range_id: int, answers: dict[int, dict[int, Digest]]) -> bool | None:
        compared = [(index, told) for index, told in answers.items() if len(told) > 1]
        if not compared:
            return None
        self.checked += 1
        for index, told in compared:
            if len({(digest.digest, digest.counts) for digest in told.values()}) > 1:
                found = tuple([(node_id, told[node_id].digest.hex(), told[node_id].counts) for node_id in sorted(told)])
                mismatch = Mismatch(range_id, index, found)
                self.differed += 1
                if len(self.mismatches) < MISMATCHES_MAX or range_id in self.mismatches:
                    self.mismatches[range_id] = mismatch
                self.on_mismatch(mismatch)
                return False
        self.mismatches.pop(range_id, None)
        return True

    async def check_all(self) -> dict[str, int]:
        """Checks every range that is led here, now; returns how many were equal, differed or could not be compared."""
        found = {"equal": 0, "different": 0, "skipped": 0}
        for group in list(self._replication.led.values()):
            if self._replication.groups.get(group.range_id) is group:
                outcome = await self.check(group)
                found["skipped" if outcome is None else "equal" if outcome else "different"] += 1
        return found

    async def run(self) -> None:
        """Checks one range after the other, each every ``consistency_seconds``, until stopped."""
        replication = self._replication
        seconds = replication.settings.consistency_seconds
        while seconds > 0 and not self._is_stopped and replication.store.failure is None:
            ranges = len(replication.led)
            await replication.store.clock.sleep(max(seconds / ranges, PAUSE_SECONDS_MIN) if ranges else IDLE_SECONDS)
            if not self._turns:
                self._turns = list(replication.led)
            group = replication.led.get(self._turns.pop(0)) if self._turns else None
            if group is not None:
                await self.check(group)

    def stop(self) -> None:
        """Checks nothing more."""
        self._is_stopped = True
