"""Stores that come back with an old disk are noticed, and end.

What a store has told others (votes, entries it holds, support) was durable before, so it comes back with at least
as much on its disk.  Unless somebody gives it an earlier state of that disk, a snapshot of a virtual machine say:
then it has forgotten votes, and entries that were counted, and with it the others could lose what they committed.

So every envelope says how much of the sender's disk is durable, in which life, and how much was there when that
life began; the receiver remembers the most that it was told, and says so in its own::

    life A   durable 120   ----->   A, 120
    (the disk goes back to 90)
    life B   began at 90   ----->   90 < 120: nothing of it is taken
             90 < 120      <-----   "A, 120"
    it writes that down and ends; it never starts again: decommission it, and let a new node join

    local family   b"l" + node id 8 B   ->   Heard                b"o"   ->   why this store must not start

If nobody was told anything since, nothing of it was promised, and nothing can be noticed.  Not noticed either: what a
store has told some others less than a heartbeat before, where it meets only the rest; what was told in the last
SAVE_SECONDS, where all who heard it have restarted, too; a range that is nowhere else, or a node that is alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from base.errors import StorageFailure
from base.seams import CF_LOCAL
from kvtier.engine.batch import OpBatch
from kvtier.opening import local_rows
from kvtier.replication.envelope import Heard, Life

if TYPE_CHECKING:
    from kvtier.replication.groups import Replication

HEARD_PREFIX: Final = b"l"
OLD_KEY: Final = b"o"
SAVE_SECONDS: Final = 5.0
"""What was heard is written down this often, with no sync of its own."""
ENDED_MAX: Final = 8
"""Lives of a node of which a late message is known to be late."""


class OldDisk(StorageFailure):
    """The disk is in an earlier state than it was in."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Heard)


class Lives:
    """See the module docstring."""

    def __init__(self, replication: Replication) -> None:
        """Raises OldDisk if this store was told before that its disk is old."""
        self._replication = replication
        engine = self._engine = replication.store.engine
        reason = engine.get(CF_LOCAL, OLD_KEY)
        if reason is not None:
            raise OldDisk(reason.decode())
        self._life = int.from_bytes(replication.rng.bytes(7), "big") + 1
        self._heard: dict[int, Heard] = {
            int.from_bytes(key, "big"): _decoder.decode(value) for key, value in local_rows(engine, HEARD_PREFIX)
        }
        self._ended: dict[int, list[int]] = {}
        self._unsaved: dict[int, None] = {}

    def own(self) -> Life:
        """Returns what goes with every envelope; nothing in it was told that is not durable."""
        return Life(self._life, self._engine.opened_at(), self._engine.durable())

    def heard(self, node_id: int) -> Heard | None:
        """Returns what another node has told of its disk; None if it has told nothing."""
        return self._heard.get(node_id)

    def take(self, node_id: int, life: Life | None, told: Heard | None) -> bool:
        """False if nothing that comes with this is to be taken; ``told``: what the sender has heard of this store."""
        if told is not None and told.life != self._life and told.durable > self._engine.opened_at():
            self._end(node_id)
            return False
        if life is None:
            return True
        heard = self._heard.get(node_id)
        if heard is None:
            heard = self._heard[node_id] = Heard(life.id, 0)
        elif life.id != heard.life:
            ended = self._ended.setdefault(node_id, [])
            if life.id in ended:
                return False
            if life.began < heard.durable:
                self._replication.envelope(node_id)  # So that it hears what was heard of it.
                self._replication.pump_soon()
                return False
            ended.append(heard.life)
            del ended[:-ENDED_MAX]
            heard.life = life.id
        if life.durable > heard.durable:
            heard.durable = life.durable
            self._unsaved[node_id] = None
        return True

    def save(self) -> None:
        """Writes down what was heard since the last time."""
        if not self._unsaved:
            return
        batch = OpBatch()
        for node_id in self._unsaved:
            batch.put(CF_LOCAL, HEARD_PREFIX + node_id.to_bytes(8, "big"), _encoder.encode(self._heard[node_id]))
        if self._replication.write(batch):
            self._unsaved = {}

    def _end(self, node_id: int) -> None:
        """Another node has heard more than this store's disk has: it ends for good."""
        reason = (
            f"node {node_id} knows of a later state of this disk: it was restored from an earlier one; "
            f"decommission node {self._replication.node_id} and let a new one join"
        )
        batch = OpBatch()
        batch.put(CF_LOCAL, OLD_KEY, reason.encode())
        if self._replication.write(batch):
            self._engine.sync()  # It waits for the disk here: nothing more is to be done.
        self._replication.store.fail(OldDisk(reason))
