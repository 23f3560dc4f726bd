"""What the layers above see of the storage tier.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from mypy_extensions import mypyc_attr

from base.eager import Eager
from kvtier.messages import Batch, Reply


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
