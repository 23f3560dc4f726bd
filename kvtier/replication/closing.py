"""Closed timestamps: where nothing will be written any more, so that every replica may read.

    leaseholder   closes now - lag: from here on no command is evaluated that writes at or below
    follower      serves reads there once it has applied what was in the log at that moment

A command under way was evaluated before the promise and is in the log before it, so the promise
names the last index of the log (reliability 42).  Intents may lie below; a reader that
meets one asks the leaseholder (reliability 43, 44).

Ranges of GLOBAL tables are closed ahead of the clock, so that every replica answers reads of now, with their whole
uncertainty.  What is written there gets a timestamp above what is closed, and its transaction is told of only
when the clock of its coordinator has passed that (``txn.commit``).  Clocks do not follow such timestamps: a reader
who meets one waits for it (``txn.attempt``), so nothing is ever read ahead of the reader's clock.

    closed or marked ahead of the clock   <= clock of the leaseholder + LEAD_SECONDS_MAX
    the next leaseholder                  its clock is past that one's: it begins that much above its own

That the range leads is in its descriptor, put there by its log before the first such promise, and taken away after
the last one has passed.  A range that does not lead can be marked ahead, too: a transaction that writes to both checks there
that what it read stays as it is until its commit.  Its lease is not handed over before the clock has passed the mark; one
that ends without that ends above it.

A range that is written is closed by itself, in every round; those that sleep are closed together, in one round of
IDLE_ROUNDS (``kvtier.replication.idle``), so that a round costs what the ranges in use cost, however many there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvtier.replication.envelope import Closed
from kvtier.replication.group import Group
from kvtier.replication.idle import Heard, Idle, Leading
from kvtier.replication.liveness import ticks_of
from kvtier.replication.stores import clock_reading

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication


LEAD_SECONDS_MAX: Final = 1.2
"""The lead of another range's leaseholder, and the offset of its clock: what any leaseholder lets itself be moved to."""
IDLE_ROUNDS: Final = 5
"""With rounds of 0.2 s, followers of idle ranges serve what is 3 to 4 s old."""


class Closing:
    """What this store closes, and what others have closed for it."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self.leading = Leading(replication.node_id, replication.stores.epoch)
        self._awake: dict[int, Group] = {}
        """Groups that lead and are in no bucket."""
        self._heard: dict[int, Heard] = {}
        self._rounds = 0

    # --- leaseholders -------------------------------------------------------------------

    def begin(self, group: Group) -> None:
        """A lease begins."""
        self._awake[group.range_id] = group

    def leave(self, group: Group) -> None:
        """The group wakes: from now on it is closed by itself."""
        self.leading.leave(group)
        self._awake[group.range_id] = group

    def forget(self, group: Group) -> None:
        """The group is no more."""
        self.leading.leave(group)
        self._awake.pop(group.range_id, None)

    def round(self) -> None:
        """Advances what the leaseholders here have closed, and tells their followers."""
        replication = self._replication
        now = clock_reading(replication.store)
        target = now - ticks_of(replication.settings.closed_lag_seconds)
        ahead = now + ticks_of(replication.settings.closed_lead_seconds)
        self._rounds += 1
        is_idle_round = self._rounds % IDLE_ROUNDS == 0
        for group in list(self._awake.values()):
            if not group.leased_term:
                del self._awake[group.range_id]
            elif group.replica is not None and not group.replica.merging:
                # (Whoever takes a frozen range in will have to respect what it closed.)
                leads = group.leads and not group.is_ending_lead
                self._close(group, ahead if leads else target, now, is_idle_round and not group.leads)
        if is_idle_round:
            self.leading.close(target, now)
            for node_id in self.leading.peers(replication.peers()):
                message = self.leading.message(node_id)
                if message is not None:
                    replication.envelope(node_id).idle = message
        replication.flush()

    def _close(self, group: Group, target: int, now: int, may_enter: bool) -> None:
        """Closes one group that is awake, or lets it in where the idle ones are."""
        if not group.is_leading() or target <= group.closed_ts or now >= group.lease_end():
            return
        if may_enter and group.raft.is_quiesced and not group.proposals and self.leading.enter(group):
            del self._awake[group.range_id]
            return
        group.closed_ts = target
        index = group.raft.log.last_index()
        group.promise(index, target)
        closed = Closed(group.range_id, group.raft.term, index, target)
        for node_id in group.followers():
            self._replication.envelope(node_id).closed.append(closed)

    # --- followers ----------------------------------------------------------------------

    def take(self, node_id: int, idle: Idle) -> bool:
        """Takes what a peer says of its idle ranges; False if something before it was missed."""
        heard = self._heard.get(node_id)
        if heard is None:
            heard = self._heard[node_id] = Heard()
        gone = heard.take(idle, self._replication.ticks)
        if gone is None:
            return False
        for range_id, index, closed_ts in gone:
            group = self._replication.groups.get(range_id)
            if group is not None and group.replica is not None:
                group.promise(index, closed_ts)
        return True

    def closed_here(self, group: Group) -> int:
        """Returns up to where a replica may be read, whoever leads its range."""
        for heard in self._heard.values():
            member = heard.members.get(group.range_id)
            if member is not None and member[1] <= group.applied_index:
                group.closed_here = max(group.closed_here, member[0].closed_ts)
        if group.bucket is not None:
            group.closed_here = max(group.closed_here, group.bucket.closed_ts)
        return group.closed_here

    def heard_tick(self, group: Group) -> int:
        """Returns the tick at which its leader was heard of last."""
        for heard in self._heard.values():
            if group.range_id in heard.members:
                group.heard_tick = max(group.heard_tick, heard.tick)
        return group.heard_tick
