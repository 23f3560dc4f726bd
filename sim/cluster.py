"""A simulated cluster: how it comes to be, how it comes to rest, and what must hold in it all the while.

grow           the other nodes join the founder, one after the other, and every range gets its replicas
settle         every replica has applied everything
at any time    (``ClusterWatch``)
    leases             those of one range do not overlap in time (I-10), and never go back
    logs               one entry at (index, term), with one predecessor: log matching
    applied            what was applied at an index is the same everywhere
    replicas           equal at equal applied index, byte for byte
    closed             what a leaseholder has closed never goes back; followers serve no more than was promised
    promises           votes, acknowledged entries, support and closed timestamps (``sim.promises``)
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final
from zlib import crc32

from base.errors import MeridianError
from kvtier import mvcc
from kvtier.descriptors import VOTER
from kvtier.messages import Isolation, Lock
from kvtier.raft.messages import encode
from kvtier.replication.closing import LEAD_SECONDS_MAX
from kvtier.replication.liveness import ticks_of
from sim.invariants import Violation
from sim.promises import Promises

if TYPE_CHECKING:
    from kvtier.replication.group import Group
    from sim.process import Process
    from sim.world import World

REPLICAS: Final = 3
GROW_SECONDS: Final = 300.0
"""Bound of the time until every range has its replicas."""
POLL_SECONDS: Final = 0.1
PAGE_BYTES: Final = 1 << 30
GLANCE_SECONDS: Final = 0.05
"""Leases and promises are looked at this often: two leases overlap for a moment only."""
LOCKS_SECONDS: Final = 30.0
"""Bound of the time until a waiter gets the lock of a transaction that is no more."""
DIGESTS_MAX: Final = 32
"""Applied indexes of a range whose contents are remembered."""
COMPARED_MAX: Final = 6
"""Ranges whose replicas are compared in one check; the others take their turn."""


async def grow(world: World) -> None:
    """Lets every other node join, and waits for the replicas."""
    for process in world.processes[1:]:
        world.note("phase", f"{process.name} joins")
        await process.join(world.process)
        await process.open()
    bound = world.now + GROW_SECONDS
    while not _has_replicas(world):
        if world.now > bound:
            raise Violation(
                "ranges get their replicas",
                "; ".join([str(replica.descriptor) for replica in world.process.store.ranges.all()]),
            )
        await world.sleep(POLL_SECONDS)


def _has_replicas(world: World) -> bool:
    """True if every range has as many voters as it should, and nothing else."""
    target = min(REPLICAS, len(world.processes))
    found = False
    for process in world.running():
        for replica in process.store.ranges.all():
            found = True
            places = replica.descriptor.replicas
            if len(places) != target or any(place.kind != VOTER for place in places):
                return False
    return found


async def take_locks(world: World) -> None:
    """Takes every lock that is left: its holder may have died elsewhere, then whoever waits for it gets it."""
    for process in world.running():
        for key in list(process.store.state.locks.states):
            started = world.now
            taken = process.scope.spawn(_take_lock(process, key), "take lock").observe()
            while not taken.is_done():
                if world.now > started + LOCKS_SECONDS:
                    raise Violation("a lock that nobody holds gives way", f"{process.name}: {key!r}")
                await world.sleep(POLL_SECONDS)


async def _take_lock(process: Process, key: bytes) -> None:
    txn = process.coordinator.begin(Isolation.READ_COMMITTED)
    try:
        found = txn.get(key, Lock.EXCLUSIVE)
        if found is not None and not isinstance(found, bytes):
            await found
    except MeridianError as error:
        process.world.note(process.name, f"cannot lock {key!r}: {error!r}")
    ended = txn.rollback()
    if ended is not None:
        await ended


async def settle(world: World, bound: float) -> None:
    """Waits until every replica has applied everything."""
    while True:
        late = _late(world)
        if not late:
            return
        if world.now > bound:
            raise Violation("replicas catch up", late)
        await world.sleep(POLL_SECONDS)


def _late(world: World) -> str:
    """Returns a range whose replicas have not applied the same, or that nobody leads; "" if there is none."""
    indexes: dict[int, dict[str, int]] = {}
    led: dict[int, None] = {}
    for process in world.running():
        member = process.member
        assert member is not None, process.name
        for range_id, group in member.replication.groups.items():
            indexes.setdefault(range_id, {})[process.name] = group.applied_index
            if member.replication.holds_lease(group):
                led[range_id] = None
    for range_id, by_name in indexes.items():
        if range_id not in led or len(dict.fromkeys(by_name.values())) > 1:
            return f"range {range_id}: applied {by_name}, {'led' if range_id in led else 'not led'}"
    return ""


class ClusterWatch:
    """See the module docstring; remembers what it has seen of every range."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._entries: dict[int, dict[tuple[int, int], tuple[int, int]]] = {}
        """Range -> (index, term) -> (digest of the entry, term of the one before)."""
        self._applied: dict[int, dict[int, int]] = {}
        """Range -> index -> term of what was applied there."""
        self._digests: dict[int, dict[int, object]] = {}
        """Range -> applied index -> digest of the contents."""
        self._closed: dict[int, int] = {}
        """Range -> the highest timestamp that a leaseholder has closed."""
        self._seen: dict[tuple[str, int], int] = {}
        """(Node's life, range) -> index up to which its log was read."""
        self._turn = 0
        self.promises = Promises()
        if world.nodes is not None:
            world.nodes.tell = self.promises.hear

    def start(self) -> None:
        """Glances at what may be wrong for a moment only, from now on."""
        if self._world.nodes is not None:
            self._world.loop.watch(self._glance, GLANCE_SECONDS)

    def _glance(self) -> None:
        self.promises.check_heard()
        for process in self._world.processes:
            process.on_started = self.promises.check_restarted
        self.check_leases()
        for process in self._world.running():
            assert process.member is not None, process.name
            self.promises.check_support(process)
            for range_id, group in process.member.replication.groups.items():
                self.promises.check_follower(process, range_id, group)

    def check(self) -> None:
        """Looks at every node that runs."""
        world = self._world
        if world.nodes is None:
            return
        running = world.running()
        self.check_leases()
        for process in running:
            assert process.member is not None, process.name
            for range_id, group in process.member.replication.groups.items():
                if group.replica is not None:
                    group.check()
                    self._check_log(process, range_id, group)
        for process in running:
            assert process.member is not None, process.name
            for range_id, group in process.member.replication.groups.items():
                self._check_closed(process, range_id, group)
        self._check_replicas(running)

    # --- leases ---------------------------------------------------------------------

    def check_leases(self) -> None:
        """Of two nodes that believe to lead a range, the later one's lease begins above all that the earlier was told."""
        leading: dict[int, list[tuple[int, Group, Process]]] = {}
        for process in self._world.running():
            assert process.member is not None, process.name
            for range_id, group in process.member.replication.groups.items():
                if group.is_leading():
                    leading.setdefault(range_id, []).append((group.raft.term, group, process))
        for range_id, found in leading.items():
            if len(found) == 1:
                continue
            found.sort(key=lambda lease: lease[0])
            for (term, earlier, one), (later_term, later, other) in pairwise(found):
                # Asked as a client would: what it may serve up to, not what it has told so far.
                until = max(earlier.lease_end(), earlier.raft.lease_max)
                if term == later_term or later.lease_start <= until:
                    raise Violation(
                        "leases of a range do not overlap",
                        f"range {range_id}: {one.name} in term {term} until {until:x}, "
                        f"{other.name} in term {later_term} from {later.lease_start:x}",
                    )

    # --- logs -----------------------------------------------------------------------

    def _check_log(self, process: Process, range_id: int, group: Group) -> None:
        """Reads what was appended since the last look; a log that was cut is read again from its end."""
        assert process.member is not None, process.name
        replication = process.member.replication
        if replication.is_stalled or replication.snapshots.is_installing(range_id):
            return  # What the log says it has is not all written yet.
        log = group.log
        life = (process.scope.name, range_id)
        first, last = log.first_index(), log.last_index()
        start = max(first, self._seen.get(life, 0))
        entries = self._entries.setdefault(range_id, {})
        applied = self._applied.setdefault(range_id, {})
        previous = max(log.term(start - 1), 0)
        for entry in log.entries(start, last + 1, PAGE_BYTES) if start <= last else ():
            index = entry.index
            found = (crc32(encode(entry)), previous)
            if (index, entry.term) not in entries:
                self.promises.check_entry(range_id, entry)
            known = entries.setdefault((index, entry.term), found)
            if known[0] != found[0] or (known[1] and found[1] and known[1] != found[1]):
                raise Violation(
                    "log matching", f"range {range_id} index {index} term {entry.term}: {known} and {found}"
                )
            if index <= group.applied_index and applied.setdefault(index, entry.term) != entry.term:
                raise Violation(
                    "one entry is applied at an index",
                    f"range {range_id} index {index}: of terms {applied[index]} and {entry.term}",
                )
            previous = entry.term
        self._seen[life] = group.applied_index

    # --- closed timestamps ------------------------------------------------------------

    def _check_closed(self, process: Process, range_id: int, group: Group) -> None:
        closed = self._closed.get(range_id, 0)
        if group.is_leading():
            self._closed[range_id] = max(closed, group.closed())
        elif group.closed_here > closed:
            # Its leaseholder may have closed it since it was looked at, and died: never above any clock.
            latest = max([other.store.hlc.latest for other in self._world.running()])
            latest += ticks_of(LEAD_SECONDS_MAX) if group.leads else 0
            if group.closed_here > latest:
                raise Violation(
                    "followers serve what was closed",
                    f"{process.name} range {range_id}: {group.closed_here:x}, clocks at {latest:x}",
                )

    # --- contents ---------------------------------------------------------------------

    def _check_replicas(self, running: list[Process]) -> None:
        """Compares the contents of some ranges, by the index they have applied."""
        ranges = sorted({replica.range_id for process in running for replica in process.store.ranges.all()})
        if not ranges:
            return
        for step in range(min(COMPARED_MAX, len(ranges))):
            range_id = ranges[(self._turn + step) % len(ranges)]
            for process in running:
                self._compare(process, range_id)
        self._turn = (self._turn + COMPARED_MAX) % len(ranges)

    def _compare(self, process: Process, range_id: int) -> None:
        assert process.member is not None, process.name
        replica = process.store.ranges.get(range_id)
        group = process.member.replication.groups.get(range_id)
        if replica is None or group is None or group.replica is not replica:
            return
        digests = self._digests.setdefault(range_id, {})
        contents = (mvcc.checksum(process.engine, replica.start, replica.end), tuple(replica.counts()))
        known = digests.setdefault(group.applied_index, contents)
        if known != contents:
            raise Violation(
                "replicas are equal at equal applied index",
                f"{process.name} range {range_id} index {group.applied_index}: {contents} and {known}",
            )
        while len(digests) > DIGESTS_MAX:
            del digests[next(iter(digests))]
