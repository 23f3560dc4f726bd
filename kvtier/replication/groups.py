"""All Raft groups of a store, in one loop.

    inbox, ticks, proposals --> step every group concerned
    pump:    Ready of every active group -> one engine batch ------> messages that need no sync
                                                 |                   committed entries: apply
                                                 v
                                             one sync (shared with all commits of the store)
                                                 |
                                                 v
                             messages that did need it, synced(mark)

Persist before send is ``kvtier.raft.ready``'s order; everything of one pump is in one batch and
under one sync.  Applying a committed entry is one engine batch with the applied index in it
(``kvtier.replication.applying``), so a crash repeats from where it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from base.errors import AmbiguousResult, NotLeaseholder, Overloaded, RangeUnavailable, StorageFailure
from base.hlc import EPOCH_UNIX_US, LOGICAL_BITS
from base.seams import Rng, Transport
from kvtier.descriptors import RangeDescriptor
from kvtier.engine.batch import OpBatch
from kvtier.raft.config import Config
from kvtier.raft.machine import Raft
from kvtier.raft.messages import ConfState, InstallSnapshot, Message, decode_message, encode
from kvtier.raft.ready import Ready
from kvtier.raft.storage import EngineLog, create, may_create, replica_id_of
from kvtier.raft.ticking import Ticker
from kvtier.replica import Replica
from kvtier.replication.applied import get_applied
from kvtier.replication.applying import Applier
from kvtier.replication.closing import Closing
from kvtier.replication.consistency import Consistency
from kvtier.replication.envelope import (
    CHANNEL,
    Closed,
    Envelope,
    Figures,
    Member,
    RaftItem,
    decode_envelope,
    encode_envelope,
)
from kvtier.replication.group import Group
from kvtier.replication.leaving import SILENT_SECONDS, ask_about_silent, merged_of, removed_of
from kvtier.replication.lives import SAVE_SECONDS, Lives
from kvtier.replication.members import add_first_member, place_on
from kvtier.replication.merging import Thawing, take_merged
from kvtier.replication.proposing import Proposals
from kvtier.replication.publishing import Publisher, RangeIds
from kvtier.replication.remote import RemoteStores
from kvtier.replication.removal import remove
from kvtier.replication.serving import Serving
from kvtier.replication.settings import ReplicationSettings
from kvtier.replication.snapshots import Snapshots, conf_of
from kvtier.replication.stores import GroupLiveness, clock_reading, open_liveness
from kvtier.replication.supporting import Supporting, nothing
from kvtier.store import Store

STALL_RETRY_SECONDS: Final = 0.005
"""Pause before writing is tried again on an engine that takes no writes."""
TRUNCATE_TICKS: Final = 10
PARTNERS_TICKS: Final = 100
GIVE_UP_SECONDS: Final = 15.0
"""After this it is told that a command waits for a quorum; several elections fit in."""
GROUPS_PER_TURN: Final = 256
"""Groups that are seen to before others may run, some 50 ms: when all groups of a node wake at once, heartbeats must
not wait behind them, or they would lose the support that they woke for."""
ITEMS_PER_ENVELOPE: Final = 512
"""Raft messages that are sent, and stepped, together."""
PUMPS_MAX: Final = 100
"""Rounds of one pump before others may run: a group that is never done is a bug, not a hang."""


class Replication:
    """See the module docstring."""

    def __init__(self, store: Store, transport: Transport, rng: Rng, settings: ReplicationSettings | None = None) -> None:  # fmt: skip
        self.store = store
        self.transport = transport
        self.rng = rng
        self.settings = settings if settings is not None else ReplicationSettings()
        self.node_id = store.identity.node_id
        self.groups: dict[int, Group] = {}
        self.lives = Lives(self)
        self.stores = open_liveness(store, self.settings)
        self.supporting = Supporting(self)
        self.proposals = Proposals(self)
        self.thawing = Thawing(self)
        self.confirm: Callable[[bytes], Awaitable[RangeDescriptor]] = _nobody
        """Set by who routes: the range of a key, as its leaseholder has just confirmed."""
        self.serving = Serving(store, self)
        self.applier = Applier(store, self)
        self.remote = RemoteStores(store, transport, lambda: self.is_open)
        self.snapshots = Snapshots(store, transport, self)
        self.members: Callable[[], list[int]] = list
        """The nodes of the cluster; those that share a range with this one are known anyway."""
        self.publisher = Publisher(store)
        self.range_ids = RangeIds(store)
        self.ticker = Ticker()
        self._active: dict[int, None] = {}
        self._outbox: dict[int, Envelope] = {}
        self._is_pump_due = False
        self.is_open = False
        """False just after a start: nothing is taken and nothing is said."""
        self._is_stopped = False
        self.is_stalled = False
        """The engine took no writes: nothing is asked of the machines until it has what they asked for."""
        self._cancel: list[Callable[[], None]] = []
        self.is_draining = False
        """This store is about to stop (``kvtier.replication.draining``)."""
        self.draining: dict[int, None] = {}
        """Other nodes of which the same is known."""
        self.own_figures = Figures()
        self.figures: dict[int, Figures] = {}
        """What other stores last said of themselves."""
        self.ticks = 0
        self.closing = Closing(self)
        self.consistency = Consistency(self)
        self.led: dict[int, Group] = {}
        """Groups whose lease began here and has not been seen to end."""
        self.proposing: dict[int, Group] = {}
        """Groups with commands under way, and some that had."""
        self._stirred: dict[int, None] = {}
        """Groups that had something to do since their logs were looked at."""
        self._partners: dict[int, None] = {}
        """Nodes that share a range with this one, when all groups were looked at, and since."""
        self._turns: list[int] = []
        self._turn = 0
        """Of ``next_groups``."""
        for replica in store.ranges.all():
            if replica_id_of(store.engine, replica.range_id):
                # The last replica that is left of several keeps its log.
                replica.set_logged()
        store.note_ranges()
        store.serve_replicated = self.serving.send
        store.leads = self.leads
        store.submit_logged = self.proposals.submit
        store.publish = self.publisher.enter_all
        store.change_replicas = lambda replica, op: add_first_member(self, replica, op)
        transport.on_message(CHANNEL, self._receive)
        transport.on_disconnect(self._on_disconnect)

    # --- life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Begins as soon as this node's wall clock has passed every timestamp it gave out before it stopped.

        Its clock was put above them (reliability 28), and others refuse timestamps from the future.
        """
        store = self.store
        self.snapshots.resume()
        ahead_us = (store.hlc.latest >> LOGICAL_BITS) + EPOCH_UNIX_US - store.clock.wall_ns() // 1000
        if ahead_us > 0:
            self._cancel.append(store.scheduler.call_later(ahead_us / 1e6, self._begin))
        else:
            self._begin()

    def _begin(self) -> None:
        """Opens the groups of the replicas that are here, and begins to tick."""
        if self._is_stopped:
            return
        self.is_open = True
        for replica in self.store.ranges.all():
            if not replica.is_alone:
                self.open_group(replica)
        self._every(self.settings.tick_seconds, self._tick)
        self._every(self.settings.support_heartbeat_seconds, self.supporting.ask)
        self._every(self.settings.closed_interval_seconds, self.closing.round)
        self._every(SAVE_SECONDS, self.lives.save)
        self.supporting.ask()

    def _every(self, seconds: float, action: Callable[[], None]) -> None:
        """Calls again and again until stopped."""
        place = len(self._cancel)
        self._cancel.append(lambda: None)

        def fire() -> None:
            if not self._is_stopped:
                self._cancel[place] = self.store.scheduler.call_later(seconds, fire)
                action()

        self._cancel[place] = self.store.scheduler.call_later(seconds, fire)

    def stop(self) -> None:
        """Ticks no more; the groups stay as they are."""
        self._is_stopped = True
        for cancel in self._cancel:
            cancel()

    def is_running(self) -> bool:
        """True from the creation until the stop, or the failure of the disk."""
        return not self._is_stopped and self.store.failure is None

    def open_group(self, replica: Replica) -> Group:
        """Begins the group of a replica whose range is here."""
        place = place_on(replica.descriptor, self.node_id)
        replica_id = replica_id_of(self.store.engine, replica.range_id) if place is None else place.replica_id
        group = self._make_group(replica.range_id, replica_id, conf_of(replica.descriptor))
        self.place(group, replica)
        if place is None:
            remove(self, group)  # The store ended between the entry that removed it and this.
        return group

    def place(self, group: Group, replica: Replica) -> None:
        """The group's range is this replica's from now on."""
        group.place(replica)
        self._partners.update(dict.fromkeys(group.nodes.values()))

    def _make_group(self, range_id: int, replica_id: int, conf: ConfState) -> Group:
        assert range_id not in self.groups, range_id
        engine = self.store.engine
        log = EngineLog(engine, range_id, lambda: self.snapshots.describe(group))
        applied_index, _ = get_applied(engine, range_id)
        liveness = GroupLiveness(self.stores, self.store)
        config = Config(
            replica_id,
            election_ticks=self.settings.election_ticks,
            heartbeat_ticks=self.settings.heartbeat_ticks,
        )
        raft = Raft(config, log, log.hard_state(), conf, applied_index, self.rng, liveness)
        group = Group(range_id, replica_id, raft, log, applied_index)
        group.heard_tick = self.ticks
        liveness.group = group
        self.groups[range_id] = group
        self.ticker.add(range_id, raft)
        self.activate(group)
        return group

    def group_of(self, replica: Replica) -> Group:
        """Returns the group of a replica that is here; NotLeaseholder while it is still being opened."""
        group = self.groups.get(replica.range_id)
        if group is None or group.replica is None:
            raise NotLeaseholder(replica.range_id)
        return group

    def holds_lease(self, group: Group) -> bool:
        """True if this store may answer for the range now."""
        return group.is_leading() and clock_reading(self.store) < group.lease_end()

    def leads(self, replica: Replica) -> bool:
        """True if this store sees to the range: its background work is done once."""
        group = self.groups.get(replica.range_id)
        return group is not None and self.holds_lease(group)

    # --- time ------------------------------------------------------------------------------

    def _tick(self) -> None:
        self.supporting.withdraw()
        self._wake_groups()
        for range_id in self.ticker.tick():
            self.activate(self.groups[range_id])
        self.ticks += 1
        if self.ticks % TRUNCATE_TICKS == 0:
            self._ask_about_silent()
            self._answer_late()
            self.thawing.look(self._stirred)
            self._truncate_logs()
        if self.ticks % PARTNERS_TICKS == 0:
            self._list_partners()
        self.pump_soon()

    def _answer_late(self) -> None:
        """Nobody waits for a quorum for ever."""
        before_tick = self.ticks - int(GIVE_UP_SECONDS / self.settings.tick_seconds)
        for group in list(self.proposing.values()):
            if group.proposals:
                group.answer_late(self.node_id, before_tick)
            else:
                del self.proposing[group.range_id]

    def _ask_about_silent(self) -> None:
        """Asks everybody about replicas that may have been removed without a word (reliability 62)."""
        asking = ask_about_silent(self, int(SILENT_SECONDS / self.settings.tick_seconds))
        if asking:
            for node_id in self.peers():
                self.envelope(node_id).asking.extend(asking)

    def next_groups(self, least: int, parts: int) -> list[Group]:
        """Returns some groups, other ones at every call until all had their turn."""
        if self._turn >= len(self._turns):
            self._turn, self._turns = 0, list(self.groups)
        count = max(least, len(self._turns) // parts + 1)
        turns = self._turns[self._turn : self._turn + count]
        self._turn += count
        return [self.groups[range_id] for range_id in turns if range_id in self.groups]

    def _take_removed(self, removed: list[Member]) -> None:
        """Destroys the replicas that are none any more."""
        for member in removed:
            group = self.groups.get(member.range_id)
            if group is not None and group.replica_id == member.replica_id:
                remove(self, group)

    def _wake_groups(self) -> None:
        """Wakes the groups that sleep because a store supports another, where that has changed (reliability 74)."""
        changed = self.stores.take_changed(clock_reading(self.store))
        if not changed:
            return
        woken: list[int] = []
        for range_id, group in self.groups.items():
            if any(node in changed for node in group.nodes.values()):
                woken.append(range_id)
                if group.bucket is not None:
                    self.closing.leave(group)
        self.ticker.wake(woken)

    def _truncate_logs(self) -> None:
        """Drops applied entries that no follower who answers still needs (reliability 68)."""
        if self.is_stalled:
            return  # Writes of the log keep their order.
        batch = OpBatch()
        stirred, self._stirred = self._stirred, {}
        for range_id in stirred:
            group = self.groups.get(range_id)
            if group is None:
                continue
            kept = self.settings.log_entries_max
            least = group.log.first_index() + kept + kept // 4
            if group.applied_index > least:
                last = min(group.raft.truncatable_to(), group.applied_index)
                if last > least:
                    group.log.truncate(batch, last - kept)
        if batch.ops:
            self._written(batch, [])

    def peers(self) -> list[int]:
        """Returns the other nodes of the cluster that are known, whether they share a range or not."""
        found = self._partners | dict.fromkeys(self.members())
        found.pop(self.node_id, None)
        return sorted(found)

    def _list_partners(self) -> None:
        """Forgets nodes that share no range with this one any more."""
        partners: dict[int, None] = {}
        for group in self.groups.values():
            partners.update(dict.fromkeys(group.nodes.values()))
        self._partners = partners

    def after_sync(self, then: Callable[[], None]) -> None:
        """Calls back when everything written so far is durable."""
        waiter = self.store.group.join(self.store.engine.write_seq())

        async def wait() -> None:
            try:
                await waiter.wait()
            except AmbiguousResult:
                return  # The sync failed: the store ends.
            then()

        self.store.scheduler.spawn(wait(), "raft sync")

    # --- messages ----------------------------------------------------------------------------

    def envelope(self, node_id: int) -> Envelope:
        found = self._outbox.get(node_id)
        if found is None:
            found = self._outbox[node_id] = Envelope(0, [], None, None, [], [], [], False, None, [])
        return found

    def flush(self) -> None:
        """Sends what has gathered, one envelope a node; several where one would keep its receiver's loop for long."""
        outbox, self._outbox = self._outbox, {}
        life = self.lives.own()
        for node_id, envelope in outbox.items():
            now = envelope.now = clock_reading(self.store)
            items = envelope.items
            envelope.items = items[:ITEMS_PER_ENVELOPE]
            envelope.life, envelope.heard = life, self.lives.heard(node_id)
            self.transport.send(node_id, CHANNEL, encode_envelope(envelope))
            for first in range(ITEMS_PER_ENVELOPE, len(items), ITEMS_PER_ENVELOPE):
                rest = Envelope(now, items[first : first + ITEMS_PER_ENVELOPE], life=life)
                self.transport.send(node_id, CHANNEL, encode_envelope(rest))

    def post(self, group: Group, messages: list[Message]) -> None:
        """Puts a group's messages into the envelopes of their nodes."""
        for message in messages:
            node_id = group.nodes.get(message.to)
            if node_id is None or node_id == self.node_id:
                continue
            if isinstance(message, InstallSnapshot):
                self.snapshots.send(group, node_id, message)
                continue
            self.envelope(node_id).items.append(RaftItem(group.range_id, encode(message)))

    def _receive(self, node_id: int, encoded: bytes) -> None:
        """Takes another store's envelope; raises what says that it is nonsense."""
        envelope = decode_envelope(encoded)
        store = self.store
        if not self.is_open:
            return
        store.hlc.observe(envelope.now, store.clock.wall_ns())
        if not self.lives.take(node_id, envelope.life, envelope.heard):
            return
        if envelope.heartbeat is not None:
            if envelope.figures is not None:
                self.figures[node_id] = envelope.figures
            if envelope.draining:
                self.draining[node_id] = None
            else:
                self.draining.pop(node_id, None)
            answer = self.stores.on_heartbeat(node_id, envelope.heartbeat)

            def reply() -> None:
                self.envelope(node_id).supported = answer
                self.flush()

            self.supporting.keep_epochs(reply)
        if envelope.supported is not None:
            self.stores.on_supported(node_id, envelope.supported)
            self.supporting.keep_epochs(nothing)
        for item in envelope.items:
            self._step(node_id, item.range_id, decode_message(item.message))
        for closed in envelope.closed:
            self._take_closed(closed)
        for digest in envelope.digests:
            self.consistency.take(node_id, digest)
        if envelope.idle is not None and not self.closing.take(node_id, envelope.idle):
            self.envelope(node_id).has_missed = True
        if envelope.has_missed:
            self.closing.leading.tell_whole(node_id)
        if envelope.asking:
            self.envelope(node_id).removed.extend(removed_of(self, envelope.asking))
            self.envelope(node_id).merged.extend(merged_of(self, envelope.asking))
        self._take_removed(envelope.removed)
        for merged in envelope.merged:
            take_merged(self, merged)
        self.pump_soon()

    def _step(self, node_id: int, range_id: int, message: Message) -> None:
        group = self.groups.get(range_id)
        if group is not None and message.to > group.replica_id:
            # A node has one replica of a range at a time: the one that is here was removed before this was added.
            remove(self, group)
            group = self.groups.get(range_id)
        if group is None:
            group = self._create(range_id, message)
        if group is None or message.to != group.replica_id:
            return
        if message.sender not in group.nodes:
            group.nodes[message.sender] = node_id
            self._partners[node_id] = None
        group.raft.step(message)
        if group.raft.lead == message.sender:
            group.heard_tick = self.ticks
        self.activate(group)

    def _create(self, range_id: int, message: Message) -> Group | None:
        """Begins a replica that has nothing yet; None if it was removed for good (reliability 62)."""
        if self.store.ranges.get(range_id) is not None:
            return None
        engine = self.store.engine
        if not may_create(engine, range_id, message.to):
            return None
        if replica_id_of(engine, range_id) != message.to:
            batch = OpBatch()
            create(engine, batch, range_id, message.to)
            if not self.write(batch):
                return None  # Whoever asks, asks again.
        return self._make_group(range_id, message.to, ConfState())

    def take_snapshot(self, node_id: int, range_id: int, message: InstallSnapshot) -> None:
        """Steps a snapshot whose image has arrived."""
        if not self.is_open:
            raise Overloaded("the store is being opened")
        self._step(node_id, range_id, message)
        self.pump_soon()

    def _take_closed(self, closed: Closed) -> None:
        group = self.groups.get(closed.range_id)
        if group is not None and group.replica is not None:
            group.heard_tick = self.ticks
            group.promise(closed.index, closed.ts)

    def _on_disconnect(self, node_id: int) -> None:
        """What was on its way to a node may be lost."""
        for group in self.groups.values():
            for replica_id, home in group.nodes.items():
                if home == node_id and replica_id != group.replica_id:
                    group.raft.report_unreachable(replica_id)
                    group.raft.wake()
                    self.activate(group)

    # --- the pump -------------------------------------------------------------------------------

    def activate(self, group: Group) -> None:
        """The group may have something to do."""
        self._active[group.range_id] = None
        self._stirred[group.range_id] = None
        self.ticker.touch(group.range_id)
        if group.bucket is not None:
            self.closing.leave(group)

    def forget(self, group: Group) -> None:
        """The group is no more."""
        del self.groups[group.range_id]
        self.ticker.remove(group.range_id)
        self._active.pop(group.range_id, None)
        self.led.pop(group.range_id, None)
        self.proposing.pop(group.range_id, None)
        self.closing.forget(group)
        self.snapshots.forget(group.range_id)

    def write(self, batch: OpBatch) -> bool:
        """Writes a batch; False if the engine takes no writes now, or never again: then the store has failed."""
        try:
            self.store.engine.write(batch)
        except Overloaded:
            return False
        except StorageFailure as failure:
            self.store.group.fail(failure)
            return False
        return True

    def pump_soon(self) -> None:
        """Pumps in the next tick of the loop, once for all that asks in this one."""
        if not self._is_pump_due and not self._is_stopped:
            self._is_pump_due = True
            self.store.scheduler.call_soon(self._pump)

    def _pump(self) -> None:
        self._is_pump_due = False
        if self.store.failure is not None or self._is_stopped:
            return
        pumped = 0
        for _ in range(PUMPS_MAX):
            if not self._active or self.is_stalled or pumped >= GROUPS_PER_TURN:
                break
            pumped += self._pump_once()
        self.flush()
        if self._active and not self.is_stalled:
            self.pump_soon()

    def _pump_once(self) -> int:
        """One Ready of every active group, or of GROUPS_PER_TURN; returns of how many.  See the module docstring."""
        active, self._active = self._active, {}
        if len(active) > GROUPS_PER_TURN:
            waiting = list(active)
            active = dict.fromkeys(waiting[:GROUPS_PER_TURN])
            self._active = dict.fromkeys(waiting[GROUPS_PER_TURN:])
        batch = OpBatch()
        work: list[tuple[Group, Ready]] = []
        for range_id in active:
            group = self.groups.get(range_id)
            if group is None or self.snapshots.is_installing(range_id) or not group.raft.has_ready():
                continue
            ready = group.raft.ready()
            work.append((group, ready))
            if ready.snapshot is not None:
                self.snapshots.mark(group, ready.snapshot, batch)
            group.log.write(batch, ready)
        self._written(batch, work)
        return len(active)

    def _written(self, batch: OpBatch, work: list[tuple[Group, Ready]]) -> None:
        """Writes what the Readys asked for, then does what comes after; again later if the engine is stalled."""
        if batch.ops and not self.write(batch):
            self.is_stalled = True
            self.store.scheduler.call_later(STALL_RETRY_SECONDS, lambda: self._unstall(batch, work))
            return
        later: list[tuple[Group, Ready]] = []
        for group, ready in work:
            if ready.snapshot is not None:
                self.snapshots.install(group, lambda done=(group, ready): self._installed(*done))  # type: ignore[misc]  # bound
            else:
                later.append((group, ready))
        self._carry_out(later)

    def _installed(self, group: Group, ready: Ready) -> None:
        """The image of a snapshot is in its place: the rest of its Ready."""
        self._carry_out([(group, ready)])
        self.pump_soon()

    def _carry_out(self, work: list[tuple[Group, Ready]]) -> None:
        """What comes after the writing of Readys."""
        unsynced = [(group, ready) for group, ready in work if ready.must_sync]
        for group, ready in work:
            self.post(group, ready.messages)
            group.queue.extend(ready.committed)
            if not ready.must_sync:
                self.post(group, ready.after_sync)
                if not group.raft.is_syncing():
                    # (If an earlier one still waits for its sync, that tells of both.)
                    group.raft.synced(ready.mark)
        if unsynced:
            self.after_sync(lambda: self._on_synced(unsynced))
        for group, _ in work:
            self.applier.run(group)
            if group.raft.has_ready():
                self.activate(group)

    def _unstall(self, batch: OpBatch, work: list[tuple[Group, Ready]]) -> None:
        self.is_stalled = False
        if self.store.failure is None:
            self._written(batch, work)
            self.pump_soon()

    def _on_synced(self, done: list[tuple[Group, Ready]]) -> None:
        """What had to be durable is: tell others, and the machines."""
        for group, ready in done:
            if self.groups.get(group.range_id) is not group:
                continue
            self.post(group, ready.after_sync)
            group.raft.synced(ready.mark)
            self.activate(group)
        self._pump()


async def _nobody(key: bytes) -> RangeDescriptor:
    raise RangeUnavailable(0)
