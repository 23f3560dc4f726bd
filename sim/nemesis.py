"""The nemesis: makes the faults of a plan happen, and undoes them in time.

crash          power failure, some ticks after its time           restarted after a drawn time
crash-at-sync  power failure just before or after the next sync
sync-fails     the next sync fails: the node must die (reliability 5)
disk-full      writes fail for a while: it dies and cannot start
write-stall    writes are refused for a while
slow-disk      syncs take up to 300 times as long
pause          the process stops, time goes on
clock-jump     the wall clock steps, forwards or back            clock-drift  and runs wrong
split, merge   at a key of the workload, or one that was read lately
collect        garbage collection with next to no retention
reset          connections break                                 cancel  a statement is cancelled
cut-*          one direction of the network                      slow-reader  replies crawl
forget-reads   the timestamp cache gives up half of what it knows
abort          a transaction with intents is pushed to abort, as one in a deadlock is

In clusters each strikes one of the nodes, and there are more:

skew           a clock is off and drifts, within the offset that nodes allow each other
partition      a node is cut off     one-way   one direction of one link     partial   one link
loss           single messages vanish                slow-link   one direction takes up to 2 s more
transfer       a lease goes elsewhere                move        a replica is added or removed
drain          a node stops in order and comes back  rolling     one after the other
replace        a node joins and another is decommissioned (``sim.membership``)
cut-leader     a leaseholder hears nobody, or nobody hears it, for longer than its lease; clients reach it
crash-at-vote  power failure of a node as soon as it has voted, before the vote can be durable

Drawn only if it is named:

old-disk       a node comes back with an earlier state of its disk, as from a snapshot of a virtual machine
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Final

from base.errors import MeridianError
from base.hlc import LOGICAL_BITS, into_unix_us
from kvtier.descriptors import DATA_START
from kvtier.messages import ChangeReplicas, CollectGarbage, Members, Merge, Push, Split, TransferLease, TxnMeta
from sim.disk import AFTER, BEFORE
from sim.membership import ENOUGH_NODES, replace, restore, roll
from sim.plan import CLUSTER_KINDS, KINDS, MEMBER_KINDS, NAMED_KINDS, Fault

if TYPE_CHECKING:
    from kvtier.replica import Replica
    from kvtier.replication.group import Group
    from kvtier.rpc.conditions import Conditions
    from sim.process import Process
    from sim.transport import SimNodes
    from sim.world import World

PAUSE_SECONDS_MAX: Final = 10.0
JUMP_SECONDS_MAX: Final = 10.0
DRIFT_PPM_MAX: Final = 200_000
SKEW_SECONDS_MAX: Final = 0.06
"""Two clocks differ by twice this and what drift adds; a node stops itself at 0.2 s."""
DRIFT_PPM_SMALL: Final = 300
LOSS_MAX: Final = 0.5
CUT_FACTOR: Final = 4.0
TAKEOVER_SECONDS: Final = 3.0
"""Beyond its support, what an election takes at most, mostly."""
VOTE_SECONDS: Final = 10.0
"""A vote is waited for no longer than this."""
SLOW_LINK_SECONDS_MAX: Final = 2.0
NODE_SHIFT: Final = 20
"""The node is drawn from other bits than the rest."""
FIRST_KEY: Final = b"\x01"
"""The first range begins before every key that can be asked for."""
LATELY: Final = 20
"""Reads among which a place to split at is chosen."""
TICKS_MAX: Final = 60
"""A crash comes within so many ticks after its time: at any await of what is going on."""


class Nemesis:
    """See the module docstring; ``keys`` gives places to split at."""

    def __init__(self, world: World, keys: list[bytes]) -> None:
        self.world = world
        self.keys = keys
        self._strike: dict[str, Callable[[Fault], None]] = {
            kind: getattr(self, "_" + kind.replace("-", "_"))
            for kind in (*KINDS, *CLUSTER_KINDS, *MEMBER_KINDS, *NAMED_KINDS)
        }

    def start(self) -> None:
        """Sets a timer for every fault."""
        for fault in self.world.plan.faults:
            self.world.after(fault.at, lambda fault=fault: self.strike(fault))  # type: ignore[misc]  # the loop's value is bound

    def strike(self, fault: Fault) -> None:
        """Makes one fault happen."""
        world = self.world
        if world.is_calm:
            return
        world.faults_struck[fault.kind] = world.faults_struck.get(fault.kind, 0) + 1
        world.note("fault", str(fault))
        self._strike[fault.kind](fault)

    def heal(self) -> None:
        """Ends every fault that lasts, and gets the nodes up."""
        world = self.world
        if world.nodes is not None:
            self._heal_links(world.nodes)
        for process in world.processes:
            process.disk.slowness = 1.0
            process.disk.tail = 0.0
            process.disk.armed = 0
            process.is_full = process.is_stalled = False
            process.engine.faults.sync_fails = False
            process.apply_disk_faults()
        world.network.set_cut("requests", False)
        world.network.set_cut("replies", False)
        world.network.tail = 0.0
        for process in world.processes:
            process.hop.set_odds(0.0, 0.0)
            process.scope.resume()
            if world.nodes is None:
                self._set_clock_right(process)

    def _set_clock_right(self, process: Process) -> None:
        """A clock that was put back would stand still, in HLC time, for as long; now it runs again."""
        behind_ns = into_unix_us(process.store.hlc.latest) * 1000 - process.scope.clock.wall_ns()
        process.set_clock(process.clock_offset_ns + max(behind_ns, 0), 0)

    def _later(self, fault: Fault, undo: Callable[[], None]) -> None:
        self.world.after(fault.seconds, undo)

    def _longer(self, fault: Fault, undo: Callable[[], None]) -> None:
        """Of what must outlast leases and elections to show anything."""
        self.world.after(fault.seconds * CUT_FACTOR, undo)

    def _node(self, fault: Fault) -> Process:
        """Returns the node that a fault strikes."""
        processes = self.world.processes
        return processes[(fault.choice >> NODE_SHIFT) % len(processes)]

    def _other(self, fault: Fault) -> Process:
        """Returns another one."""
        processes = self.world.processes
        others = [process for process in processes if process is not self._node(fault)]
        return others[fault.choice % len(others)]

    # --- the process -----------------------------------------------------------------

    def _crash(self, fault: Fault) -> None:
        process = self._node(fault)
        process.is_silent = fault.choice % 3 == 0
        self._crash_in(process, 1 + fault.choice % TICKS_MAX, fault.seconds if self.world.nodes is not None else 0.0)

    def _crash_in(self, process: Process, ticks: int, down_seconds: float) -> None:
        if ticks <= 1:
            process.crash_soon("power failure", down_seconds)
        else:
            self.world.loop.main.call_soon(lambda: self._crash_in(process, ticks - 1, down_seconds))

    def _crash_at_sync(self, fault: Fault) -> None:
        self._node(fault).disk.armed = AFTER if fault.choice % 2 else BEFORE

    def _pause(self, fault: Fault) -> None:
        scope = self._node(fault).scope
        scope.pause()
        self.world.after(min(fault.seconds, PAUSE_SECONDS_MAX), scope.resume)

    # --- the disk --------------------------------------------------------------------

    def _sync_fails(self, fault: Fault) -> None:
        self._node(fault).engine.faults.sync_fails = True

    def _disk_full(self, fault: Fault) -> None:
        process = self._node(fault)
        self._set_full(process, True)
        self._later(fault, lambda: self._set_full(process, False))

    def _set_full(self, process: Process, is_full: bool) -> None:
        process.is_full = is_full
        process.apply_disk_faults()

    def _write_stall(self, fault: Fault) -> None:
        process = self._node(fault)
        self._set_stalled(process, True)
        self._later(fault, lambda: self._set_stalled(process, False))

    def _set_stalled(self, process: Process, is_stalled: bool) -> None:
        process.is_stalled = is_stalled
        process.apply_disk_faults()

    def _slow_disk(self, fault: Fault) -> None:
        disk = self._node(fault).disk
        disk.slowness = 1 + 300 * fault.amount
        self._later(fault, lambda: setattr(disk, "slowness", 1.0))

    # --- clocks ----------------------------------------------------------------------

    def _clock_jump(self, fault: Fault) -> None:
        process = self._node(fault)
        # Small steps and large ones are equally likely; so are both directions.
        size = JUMP_SECONDS_MAX * (1e-6 ** (1 - fault.amount)) * (1 if fault.choice % 2 else -1)
        process.set_clock(process.clock_offset_ns + int(size * 1e9), process.clock_drift_ppm)

    def _clock_drift(self, fault: Fault) -> None:
        process = self._node(fault)
        process.set_clock(process.clock_offset_ns, int(DRIFT_PPM_MAX * (2 * fault.amount - 1)))

    def _skew(self, fault: Fault) -> None:
        """Offset and drift, which together stay within what the nodes of a cluster allow each other."""
        seconds = SKEW_SECONDS_MAX * (2 * fault.amount - 1)
        drift_ppm = DRIFT_PPM_SMALL * (2 * (fault.choice % 1000) // 1000 - 1)
        self._node(fault).set_clock(int(seconds * 1e9), drift_ppm)

    # --- between nodes -----------------------------------------------------------------

    def _conditions(self) -> Conditions:
        assert self.world.nodes is not None, "one node alone"
        return self.world.nodes.conditions

    def _heal_links(self, nodes: SimNodes) -> None:
        nodes.conditions.heal_all()
        ids = [process.node_id for process in self.world.processes]
        for source in ids:
            for target in ids:
                if source != target:
                    nodes.conditions.set_extra_delay(source, target, 0.0)

    def _partition(self, fault: Fault) -> None:
        """One node, cut off from all others."""
        node_id = self._node(fault).node_id
        others = [process.node_id for process in self.world.processes if process.node_id != node_id]
        for other in others:
            self._conditions().partition(node_id, other)
        self._longer(fault, lambda: self._heal_pairs(node_id, others))

    def _heal_pairs(self, node_id: int, others: list[int]) -> None:
        for other in others:
            self._conditions().heal(node_id, other)

    def _one_way(self, fault: Fault) -> None:
        """What one node sends to another does not arrive; the answers would."""
        source, target = self._node(fault).node_id, self._other(fault).node_id
        self._conditions().cut(source, target)
        self._longer(fault, lambda: self._heal_pairs(source, [target]))

    def _partial(self, fault: Fault) -> None:
        """Two nodes do not hear each other; both hear the others."""
        one, other = self._node(fault).node_id, self._other(fault).node_id
        self._conditions().partition(one, other)
        self._longer(fault, lambda: self._heal_pairs(one, [other]))

    def _loss(self, fault: Fault) -> None:
        """Single messages vanish, in one direction; calls do not, because streams lose none and go on."""
        source, target = self._node(fault).node_id, self._other(fault).node_id
        self._conditions().set_loss(source, target, fault.amount * LOSS_MAX, with_calls=False)
        self._later(fault, lambda: self._conditions().set_loss(source, target, 0.0))

    def _slow_link(self, fault: Fault) -> None:
        source, target = self._node(fault).node_id, self._other(fault).node_id
        self._conditions().set_extra_delay(source, target, fault.amount**3 * SLOW_LINK_SECONDS_MAX)
        self._later(fault, lambda: self._conditions().set_extra_delay(source, target, 0.0))

    # --- members ---------------------------------------------------------------------

    def _drain(self, fault: Fault) -> None:
        """As by SIGTERM, or because another node was asked to see to it."""
        process, other = self._node(fault), self._other(fault)
        if fault.choice % 2 and other.is_ready:
            other.scope.spawn(_ask_to_drain(other, process.node_id), "drain")
        else:
            process.stop_soon()

    def _rolling(self, fault: Fault) -> None:
        self._operate(lambda: roll(self.world))

    def _replace(self, fault: Fault) -> None:
        leaves_first = len(self.world.processes) >= ENOUGH_NODES and fault.choice % 2 == 0
        self._operate(lambda: replace(self.world, self._node(fault), leaves_first))

    def _old_disk(self, fault: Fault) -> None:
        self._operate(lambda: restore(self.world, self._node(fault), fault.seconds * CUT_FACTOR))

    def _operate(self, what: Callable[[], Coroutine[None, None, None]]) -> None:
        """Begins what operators do, unless they are busy."""
        world = self.world
        if world.nodes is not None and all(task.is_done() for task in world.operations):
            world.operations.append(world.loop.main.spawn(what(), "operator"))

    def _cut_leader(self, fault: Fault) -> None:
        """Cuts off who leads a range of the workload, wholly or one way, until others have had time to lead it."""
        leader = self._leader_of(self.keys[fault.choice // 3 % len(self.keys)])
        cluster = self.world.plan.cluster
        if leader is None or cluster is None:
            return
        node_id = leader.node_id
        others = [process.node_id for process in self.world.processes if process.node_id != node_id]
        for other in others:
            if fault.choice % 3 != 1:
                self._conditions().cut(node_id, other)
            if fault.choice % 3 != 2:
                self._conditions().cut(other, node_id)
        seconds = cluster.replication.support_seconds + TAKEOVER_SECONDS * fault.amount + fault.seconds
        self.world.after(seconds, lambda: self._heal_pairs(node_id, others))

    def _leader_of(self, key: bytes) -> Process | None:
        """Returns the node that leads the range of a key; None if nobody does."""
        for process in self.world.running():
            replica = process.store.ranges.find(key)
            group = None if replica is None else self._groups(process).get(replica.range_id)
            if group is not None and group.is_leading():
                return process
        return None

    def _groups(self, process: Process) -> dict[int, Group]:
        return {} if process.member is None else process.member.replication.groups

    def _crash_at_vote(self, fault: Fault) -> None:
        process = self._node(fault)
        generation = process.generation
        votes: dict[int, tuple[int, int]] = {}

        def look() -> None:
            if process.generation != generation or not process.is_up or self.world.is_calm:
                end()
                return
            for range_id, group in self._groups(process).items():
                vote = group.raft.term, group.raft.vote
                if votes.setdefault(range_id, vote) != vote and group.raft.vote:
                    end()
                    process.is_silent = fault.choice % 2 == 0
                    process.crash_soon("it has voted", fault.seconds)
                    return
                votes[range_id] = vote

        end = self.world.loop.watch(look)
        self.world.after(VOTE_SECONDS, end)

    # --- ranges and versions -----------------------------------------------------------

    def _split(self, fault: Fault) -> None:
        self._node(fault).command(Split(self._place(fault)))

    def _place(self, fault: Fault) -> bytes:
        """Returns a key of the workload, or one that was read lately."""
        process = self._node(fault)
        lately = list(process.store.state.tscache._points)[-LATELY:] if process.is_up and fault.choice % 2 else []
        keys = [key for key in lately if key >= DATA_START] or self.keys
        return keys[fault.choice // 2 % len(keys)]

    def _merge(self, fault: Fault) -> None:
        process = self._node(fault)
        if process.is_up:
            ranges = process.store.ranges.all()
            if ranges:
                process.command(Merge(ranges[fault.choice % len(ranges)].start))

    def _transfer(self, fault: Fault) -> None:
        """The lease of a range goes to some node."""
        self._node(fault).command(TransferLease(self._key_of_a_range(fault), self._other(fault).node_id))

    def _move(self, fault: Fault) -> None:
        """A replica more, or one less: placement then takes one away, or makes up for it."""
        replica = self._range(fault)
        if replica is None:
            return
        here = [place.node_id for place in replica.descriptor.replicas]
        absent = [process.node_id for process in self.world.processes if process.node_id not in here]
        key = max(replica.start, FIRST_KEY)
        if absent:
            op = ChangeReplicas(key, absent[fault.choice % len(absent)], Members.ADD)
        else:
            op = ChangeReplicas(key, here[fault.choice % len(here)], Members.REMOVE)
        self._node(fault).command(op)

    def _range(self, fault: Fault) -> Replica | None:
        """Returns a range as some node knows it."""
        process = self._node(fault)
        ranges = process.store.ranges.all() if process.is_up else []
        return ranges[fault.choice % len(ranges)] if ranges else None

    def _key_of_a_range(self, fault: Fault) -> bytes:
        replica = self._range(fault)
        return self._place(fault) if replica is None else max(replica.start, FIRST_KEY)

    def _collect(self, fault: Fault) -> None:
        process = self._node(fault)
        if process.is_up:
            ago = int(fault.amount * 1e6) << LOGICAL_BITS
            threshold = process.store.hlc.latest - ago
            # Twice: the first call only raises the threshold.
            process.command(CollectGarbage(self.keys[0], self.keys[-1] + b"\xff", threshold))
            process.command(CollectGarbage(self.keys[0], self.keys[-1] + b"\xff", threshold))

    def _forget_reads(self, fault: Fault) -> None:
        process = self._node(fault)
        if process.is_up:
            process.store.state.tscache._rotate_points()
            process.store.state.tscache._rotate_spans()

    def _abort(self, fault: Fault) -> None:
        process = self.world.process
        if process.is_up:
            intents = process.store.state.intents
            found: list[TxnMeta] = [intent.txn for intent in intents.points.values()]
            found += [span.txn for span in intents.spans]
            found += [run.txn for run in intents.runs.all()]
            if found:
                pushee = found[fault.choice % len(found)]
                process.command(Push(pushee.anchor or self.keys[0], pushee, 0, True))

    # --- the network -----------------------------------------------------------------

    def _reset(self, fault: Fault) -> None:
        if fault.amount > 0.8:
            self.world.network.reset_all("reset")
        else:
            self.world.network.reset_one(fault.choice)

    def _cancel(self, fault: Fault) -> None:
        self.world.network.cancel_one(fault.choice)

    def _cut_requests(self, fault: Fault) -> None:
        self._cut("requests", fault)

    def _cut_replies(self, fault: Fault) -> None:
        self._cut("replies", fault)

    def _cut(self, way: str, fault: Fault) -> None:
        self.world.network.set_cut(way, True)
        self._later(fault, lambda: self.world.network.set_cut(way, False))

    def _slow_reader(self, fault: Fault) -> None:
        network = self.world.network
        before = network.tail
        network.tail = fault.amount
        self._later(fault, lambda: setattr(network, "tail", before))


async def _ask_to_drain(helper: Process, node_id: int) -> None:
    assert helper.member is not None, helper.name
    try:
        await helper.member.roster.drain(node_id)
    except MeridianError as problem:
        helper.world.note(helper.name, f"cannot ask node {node_id} to drain: {problem!r}")
