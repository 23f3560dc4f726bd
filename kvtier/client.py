"""What the layers above see of the storage tier.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

from mypy_extensions import mypyc_attr

from base.eager import Eager
from kvtier.messages import Batch, Lock, Reply, TxnMeta


class NotNow:
    """The class of NOT_NOW."""


NOT_NOW: Final[Any] = NotNow()
"""What ``get_now`` answers where the read takes a batch."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Kv(ABC):
    """The router as its callers know it; see ``kvtier.messages`` for the rules."""

    max_offset_us: int = 0
    """Bound of clock disagreement between nodes; 0 where the store is the whole cluster."""

    @abstractmethod
    def send(self, batch: Batch) -> Eager[Reply]:
        """Evaluates a batch; a Reply at once, or an awaitable of it where it must wait.

        Raises (or the awaitable raises) an error of ``base.errors``.
        """

    @abstractmethod
    def wait_durable(self, seq: int) -> Eager[None]:
        """Returns None at once if engine sequence ``seq`` is synced, else an awaitable; see Reply.unsynced."""

    @abstractmethod
    def now(self) -> int:
        """Returns a fresh HLC timestamp."""

    @abstractmethod
    def is_local(self, keys: list[bytes]) -> bool:
        """True if one batch can commit writes to these keys: their ranges are here alone, or are one range."""

    def get_now(self, key: bytes, ts: int, owner: bytes) -> Any:
        """Reads one key at ``ts`` as a batch of one plain Get would; bytes, None, or NOT_NOW with nothing done.

        NOT_NOW where the answer is not this store's alone, or must wait: for an intent, or for the
        sync of what it shows.  ``owner`` is the transaction's id, or b"".
        """
        return NOT_NOW

    def scan_now(self, start: bytes, end: bytes, reverse: bool, limit: int, ts: int, owner: bytes) -> Any:
        """Reads [start, end) at ``ts`` as a batch of one plain Scan would: (ScanResult, unsynced), or NOT_NOW.

        ``unsynced`` as in a Reply; ``limit`` 0 is as many rows as a batch may have.  NOT_NOW as ``get_now``, but
        for what waits for its sync.
        """
        return NOT_NOW

    def lock_now(self, key: bytes, txn: TxnMeta, strength: Lock) -> Any:
        """Locks a key and reads its newest value as a batch of one locking Get would; NOT_NOW as ``get_now``.

        Raises WriteTooOld, with the lock held, as that does.
        """
        return NOT_NOW
