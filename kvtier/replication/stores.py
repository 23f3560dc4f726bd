"""Store liveness over a store's engine and clock, and as the machines of its groups see it.

local family   b"v" + store id 8 B  ->  epoch 8 B     of this store: its own; of others: the least we support
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.seams import CF_LOCAL
from kvtier.engine.batch import OpBatch
from kvtier.opening import local_rows
from kvtier.raft.liveness import Liveness
from kvtier.replication.liveness import StoreLiveness
from kvtier.replication.settings import ReplicationSettings
from kvtier.store import Store

if TYPE_CHECKING:
    from kvtier.replication.group import Group

EPOCH_PREFIX: Final = b"v"


def open_liveness(store: Store, settings: ReplicationSettings) -> StoreLiveness:
    """Begins a new epoch of this store, durably, and loads what others are owed."""
    own = store.identity.store_id
    epochs = {int.from_bytes(key, "big"): int.from_bytes(value, "big") for key, value in local_rows(store.engine, EPOCH_PREFIX)}  # fmt: skip
    epoch = epochs.pop(own, 0) + 1
    batch = OpBatch()
    put_epochs(batch, [(own, epoch)])
    store.engine.write(batch)
    store.engine.sync()
    grace = settings.support_seconds + store.hlc.max_offset_us / 1e6
    return StoreLiveness(own, epoch, epochs, clock_reading(store), settings.support_seconds, grace)


def put_epochs(batch: OpBatch, epochs: list[tuple[int, int]]) -> None:
    """Writes epochs by store."""
    for store_id, epoch in epochs:
        batch.put(CF_LOCAL, EPOCH_PREFIX + store_id.to_bytes(8, "big"), epoch.to_bytes(8, "big"))


def clock_reading(store: Store) -> int:
    """Returns the store's clock for what is compared or told, not served.

    Unlike ``Store.now`` it needs no bound on disk, so a stalled engine cannot refuse it, least of all in
    the middle of a machine's step.
    """
    return store.hlc.now(store.clock.wall_ns())


class GroupLiveness(Liveness):
    """``kvtier.raft.liveness.Liveness`` of one group: replica ids stand for the stores they are in."""

    def __init__(self, stores: StoreLiveness, store: Store) -> None:
        self._stores = stores
        self._store = store
        self.group: Group | None = None

    def _node(self, peer: int) -> int:
        """Returns the store of a replica; 0, that is nobody's, for one that is not known here."""
        assert self.group is not None, peer
        if peer == self.group.replica_id:
            return self._stores.store_id
        return self.group.nodes.get(peer, 0)

    def supports(self, peer: int, epoch: int) -> bool:
        current, is_supported = self._stores.support_for(self._node(peer), self._store.hlc.latest)
        # After a start the epoch promised may be one that is not known any more: it stands for a while.
        return is_supported and (current == epoch or (current <= epoch and not self._stores.is_known(self._node(peer))))

    def epoch_of(self, peer: int) -> int:
        return self._stores.given_epoch(self._node(peer))

    def supported_until(self, peer: int, epoch: int) -> int:
        node = self._node(peer)
        if node == self._stores.store_id:
            return self._stores.own_support(self._store.hlc.latest)
        current, until = self._stores.support_from(node)
        return until if current == epoch else 0

    def has_passed(self, until: int) -> bool:
        return clock_reading(self._store) > until
