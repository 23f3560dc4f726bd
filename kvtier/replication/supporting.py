"""A store's own heartbeats, and its promises to others: nothing is said before it is durable.

    ask         our epoch is on disk, the disk moves   ->  a heartbeat to every node
    withdraw    support of another ran out             ->  written down, synced, then withdrawn

Every epoch that leaves this store, given or taken, was synced before (reliability 38).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvtier.engine.batch import OpBatch
from kvtier.replication.stores import clock_reading, put_epochs

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication


class Supporting:
    """See the module docstring."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._store = replication.store
        self._ending: list[tuple[int, int]] = []
        """Stores, and their epochs, whose support has run out here, which is not yet written down."""
        self._unkept: list[tuple[int, int]] = []
        """Epochs that the engine could not take yet."""
        self._epochs_seq = 0
        """The engine sequence that the last epochs were written at."""
        self._syncs_seen = 0
        self._syncs_seen_ns = replication.store.clock.monotonic_ns()

    def ask(self) -> None:
        """Sends the heartbeats of this store, unless its disk is stuck or does not know its epoch yet."""
        if not self.keep_epochs(nothing) or not self._are_epochs_kept() or self._is_disk_stuck():
            return
        asked = self._replication.stores.heartbeat(clock_reading(self._store))
        for node_id in self._replication.peers():
            envelope = self._replication.envelope(node_id)
            envelope.heartbeat = asked
            envelope.draining = self._replication.is_draining
            envelope.figures = self._replication.own_figures
        self._replication.flush()

    def withdraw(self) -> None:
        """Ends support that ran out, once that is durable."""
        self._ending.extend(self._replication.stores.withdraw(clock_reading(self._store)))
        if self._ending:
            ended = self._ending
            if self.keep_epochs(lambda: self._replication.stores.ended(ended)):
                self._ending = []

    def keep_epochs(self, then: Callable[[], None]) -> bool:
        """Calls back once all epochs are durable; False if the engine takes no writes: nothing will happen."""
        self._unkept.extend(self._replication.stores.take_dirty())
        if self._unkept:
            batch = OpBatch()
            put_epochs(batch, self._unkept)
            if not self._replication.write(batch):
                return False
            self._unkept = []
            self._epochs_seq = self._store.engine.write_seq()
        if self._are_epochs_kept():
            then()
        else:
            self._replication.after_sync(then)
        return True

    def _are_epochs_kept(self) -> bool:
        """True if every epoch that was told or promised is durable (reliability 38)."""
        return not self._unkept and self._store.group.synced_seq >= self._epochs_seq

    def _is_disk_stuck(self) -> bool:
        """True if one sync has taken longer than support lasts: others shall take over (reliability 40)."""
        group = self._store.group
        now_ns = self._store.clock.monotonic_ns()
        if group.syncs != self._syncs_seen or not group.is_syncing():
            self._syncs_seen = group.syncs
            self._syncs_seen_ns = now_ns
        return now_ns - self._syncs_seen_ns > self._replication.settings.support_seconds * 1e9


def nothing() -> None:
    """What happens where nobody waits for epochs to be kept."""
