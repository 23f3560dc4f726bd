"""Bugs of replication: leases, the log, closed timestamps, replicas (reliability 2.B to 2.D and 3.3)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from base.seams import CF_LOCK
from kvtier.latches import LatchTable
from kvtier.messages import Batch, Put
from kvtier.raft import leading, leases, transfer
from kvtier.raft.messages import AppendReply, Message, TimeoutNow, Vote, VoteReply
from kvtier.replication import applying, stores, supporting
from kvtier.replication.applying import Applier
from kvtier.replication.envelope import Heard, Life
from kvtier.replication.group import Group
from kvtier.replication.groups import Replication
from kvtier.replication.image import RangeImage
from kvtier.replication.liveness import StoreLiveness
from kvtier.replication.lives import Lives
from kvtier.replication.serving import Serving
from kvtier.tscache import TimestampCache
from planner.schema import SequenceDesc
from sim.mutants.registry import Replacement, cluster_mutant
from sql.catalog.keys import sequence_key
from sql.sequences import BLOCK_MIN, STATE, Sequences
from txn.attempt import Attempt
from txn.commit import Committer

FAR: Final = 1 << 62


# --- leases ------------------------------------------------------------------------


@cluster_mutant
def lease_served_after_expiry() -> list[Replacement]:
    """A leader that has heard of no other goes on serving, whatever the clock says (36)."""
    return [
        (Group, "lease_end", lambda self: FAR),
        (leases, "has_support", lambda core: True),
        (leading, "has_quorum", lambda core: True),
    ]


@cluster_mutant
def lease_begins_unprotected() -> list[Replacement]:
    """A new leaseholder writes below what the one before has served (39)."""

    class Blind(TimestampCache):
        def add_span(self, start: bytes, end: bytes, ts: int, owner: bytes) -> None:
            return

    right = Applier._maybe_begin_lease

    def wrong(self: Applier, group: Group, term: int) -> None:
        state = self._store.state
        cache, state.tscache = state.tscache, Blind()
        try:
            right(self, group, term)
        finally:
            state.tscache = cache

    return [(Applier, "_maybe_begin_lease", wrong)]


@cluster_mutant
def transfer_keeps_lease() -> list[Replacement]:
    """Who hands leadership over goes on serving until it hears of the next term (35)."""

    def wrong(core: Any) -> None:
        to = core.transferee
        if to and core.matches.get(to, 0) == core.log.last_index():
            core.messages.append(TimeoutNow(core.id, to, core.term))

    return [(transfer, "maybe_hand_over", wrong)]


@cluster_mutant
def support_withdrawn_early() -> list[Replacement]:
    """A store takes its support back although it has promised it for longer (37)."""
    right = StoreLiveness.withdraw

    def wrong(self: StoreLiveness, now: int) -> list[tuple[int, int]]:
        return right(self, now + self._duration // 3)

    return [(StoreLiveness, "withdraw", wrong)]


@cluster_mutant
def withdrawal_not_kept() -> list[Replacement]:
    """What a store has promised others, or withdrawn, is forgotten by a restart (38)."""
    return [
        (supporting, "put_epochs", lambda batch, epochs: None),
        (stores, "put_epochs", lambda batch, epochs: None),
    ]


# --- the log -----------------------------------------------------------------------


def _told_early(kinds: tuple[type[Message], ...]) -> list[Replacement]:
    """Messages of these kinds leave when what they rest on is written, and do not wait for its sync."""
    right = Replication._carry_out

    def wrong(self: Replication, work: Any) -> None:
        for group, ready in work:
            self.post(group, [message for message in ready.after_sync if isinstance(message, kinds)])
            ready.after_sync = [message for message in ready.after_sync if not isinstance(message, kinds)]
        right(self, work)

    return [(Replication, "_carry_out", wrong)]


@cluster_mutant
def entries_told_before_sync() -> list[Replacement]:
    """A replica acknowledges entries that a power failure can still take (51)."""
    return _told_early((AppendReply,))


@cluster_mutant
def votes_told_before_sync() -> list[Replacement]:
    """A replica votes, and may vote again for another after a power failure (50)."""
    return _told_early((Vote, VoteReply))


@cluster_mutant
def applied_index_apart() -> list[Replacement]:
    """The applied index is not written with what was applied (52)."""
    return [(applying, "put_applied", lambda batch, range_id, index, term: None)]


@cluster_mutant
def latches_dropped_early() -> list[Replacement]:
    """A command is evaluated while another on the same keys is not applied yet (31)."""
    right = LatchTable.acquire
    return [(LatchTable, "acquire", lambda self, spans: right(self, []))]


# --- closed timestamps ---------------------------------------------------------------


@cluster_mutant
def closed_not_kept() -> list[Replacement]:
    """A leaseholder writes below what it has closed (43)."""
    return [(Serving, "_above_closed", lambda self, group, batch, kinds: batch)]


@cluster_mutant
def closed_before_applied() -> list[Replacement]:
    """A follower serves at a closed timestamp before it has applied what was in the log then (42)."""

    def wrong(self: Group, index: int, ts: int) -> None:
        self.closed_here = max(self.closed_here, ts)

    return [(Group, "promise", wrong)]


@cluster_mutant
def followers_read_above_closed() -> list[Replacement]:
    """A follower serves reads at any timestamp."""

    def wrong(self: Serving, group: Group, replica: Any, batch: Batch) -> Any:
        closed, group.closed_here = group.closed_here, FAR
        try:
            return right(self, group, replica, batch)
        finally:
            group.closed_here = closed

    right = Serving._follow
    return [(Serving, "_follow", wrong)]


@cluster_mutant
def commits_moved_above_closed() -> list[Replacement]:
    """Commits that write nothing are moved above closed timestamps, too; ours, found by seed 20 of sql-sequence."""

    def wrong(self: Serving, group: Group, batch: Batch, kinds: int) -> Batch:
        closed, txn = group.closed(), batch.txn
        if txn is None or txn.write_ts > closed:
            return batch
        return msgspec.structs.replace(batch, txn=msgspec.structs.replace(txn, write_ts=closed + 1))

    return [(Serving, "_above_closed", wrong)]


# --- replicas ------------------------------------------------------------------------


@cluster_mutant
def snapshot_loses_intents() -> list[Replacement]:
    """A snapshot brings versions and no intents (69)."""
    right = RangeImage._operations

    def wrong(self: RangeImage) -> Any:
        return (operation for operation in right(self) if operation[1] != CF_LOCK)

    return [(RangeImage, "_operations", wrong)]


@cluster_mutant
def uncertainty_ignored() -> list[Replacement]:
    """A reader takes the clocks of all nodes for equal (30)."""
    right = Attempt._start

    def wrong(self: Attempt) -> int:
        ts = right(self)
        self._ensure_meta(b"").uncertainty_limit = 0
        return ts

    return [(Attempt, "_start", wrong)]


@cluster_mutant
def replaced_replica_stays() -> list[Replacement]:
    """A replica that was removed and added again unheard stays what it was; ours, found by seed 5 of bank."""
    right = Replication._step

    def wrong(self: Replication, node_id: int, range_id: int, message: Any) -> None:
        group = self.groups.get(range_id)
        if group is None or message.to == group.replica_id:
            right(self, node_id, range_id, message)

    return [(Replication, "_step", wrong)]


@cluster_mutant
def old_disk_welcome() -> list[Replacement]:
    """A store that comes back with an earlier state of its disk takes part again."""

    def wrong(self: Lives, node_id: int, life: Life | None, told: Heard | None) -> bool:
        if life is not None:
            heard = self._heard.setdefault(node_id, Heard(life.id, 0))
            heard.durable = max(heard.durable, life.durable)
        return True

    return [(Lives, "take", wrong)]


@cluster_mutant
def sequences_not_claimed() -> list[Replacement]:
    """Every node takes the blocks of a sequence as if it were alone; ours, found by seed 2 of sql-sequence."""

    async def wrong(self: Sequences, id: int, desc: SequenceDesc, name: str) -> None:
        state = await self._load(id, desc)
        value = self._following(state, desc, name)
        state.last, state.is_called = value - desc.increment, True
        state.ceiling = value + BLOCK_MIN * desc.increment
        await self._send(Put(sequence_key(id), STATE.pack(state.ceiling, True)))

    return [(Sequences, "_claim_shared", wrong)]


# --- ahead of the clock -------------------------------------------------------------


@cluster_mutant
def commit_wait_skipped() -> list[Replacement]:
    """A write ahead of the clock is told of before readers would see it (46)."""
    return [(Committer, "_confirm", lambda self: self.commit_ts)]


@cluster_mutant
def lead_begins_unprotected() -> list[Replacement]:
    """A new leaseholder of a range that leads begins at its clock, below what the one before has promised (46)."""
    return [(applying, "LEAD_SECONDS_MAX", 0.0)]
