"""The four seams: everything that touches the world goes through one of these.

    Clock      wall and monotonic time, sleeping
    Rng        random bytes and numbers
    Engine     an ordered key-value store with column families
    Transport  messages to other nodes

Production hands in the system clock, OS randomness, RocksDB and gRPC; the
simulator hands in virtual time, a seed, a memory engine that forgets unsynced
writes at a crash, and a simulated network.  Nothing else in the project may call
``time``, ``random``, asyncio, threads, sockets, files or uuid; a test holds this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from base.eager import Eager, Suspended

T = TypeVar("T")

# Column families of a store (design.md section 4).  One WriteBatch across them is atomic.
CF_DATA: Final = 0
"""MVCC versions: user key + 8 bytes of inverted timestamp."""
CF_LOCK: Final = 1
"""Intents and replicated locks, by user key."""
CF_RAFT: Final = 2
"""Raft log and hard state."""
CF_LOCAL: Final = 3
"""Descriptors, transaction records, applied state, store identity."""
CF_NAMES: Final = ("data", "lock", "raft", "local")

CHANNEL_CLASSES: Final = ("raft", "kv", "snapshot")
"""Streams of one peer, by what they carry; liveness and closed timestamps ride with raft."""
MESSAGE_BYTES_MAX: Final = 16 << 20
"""Largest message, request or answer between nodes: four batches (reliability 56)."""


class Clock(ABC):
    """Time.  Two clocks, two names: monotonic to measure, wall to stamp."""

    @abstractmethod
    def wall_ns(self) -> int:
        """Nanoseconds since 1970; may step."""

    @abstractmethod
    def monotonic_ns(self) -> int:
        """Nanoseconds since some start; never goes back."""

    @abstractmethod
    def sleep(self, seconds: float) -> Awaitable[None]:
        """Suspends the calling coroutine."""


class Rng(ABC):
    """Randomness."""

    @abstractmethod
    def bytes(self, n: int) -> bytes:
        """Returns n random bytes (unpredictable in production)."""

    @abstractmethod
    def below(self, n: int) -> int:
        """Returns a uniform integer in [0, n)."""

    @abstractmethod
    def random(self) -> float:
        """Returns a uniform float in [0, 1)."""


class Waiter(ABC):
    """A one-shot event a coroutine can await; made by ``Scheduler.waiter``."""

    @abstractmethod
    def wake(self, value: Any = None) -> None:
        """Lets the awaiting coroutine go on with ``value``; later calls do nothing."""

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """Raises ``error`` in the awaiting coroutine; later calls do nothing."""

    @abstractmethod
    def is_done(self) -> bool:
        """True once woken, failed or cancelled."""

    @abstractmethod
    def wait(self) -> Awaitable[Any]:
        """Suspends until woken; returns the value."""


class Scheduler(ABC):
    """Tasks and timers of the one loop; cores get it handed in and never import asyncio."""

    @abstractmethod
    def waiter(self) -> Waiter:
        """Returns a fresh one-shot event."""

    @abstractmethod
    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Any:
        """Runs a coroutine as a task owned by the node; an unexpected exception stops the node."""

    def go_on(self, suspended: Suspended, name: str, ended: Callable[[BaseException | None], None]) -> None:
        """Drives a coroutine that was left waiting to its end and calls ``ended`` with its error, if any.

        Owned by the node as a task is; production drives it without one, which is cheaper.
        """
        self.spawn(_to_the_end(suspended, ended), name)

    @abstractmethod
    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Runs the callback once after a delay; returns a function that cancels it."""

    @abstractmethod
    def call_soon(self, callback: Callable[[], None]) -> None:
        """Runs the callback in the next tick."""

    @abstractmethod
    def run_blocking(self, function: Callable[[], T]) -> Awaitable[T]:
        """Runs a blocking call (a disk sync) off the loop; inline, with drawn delay, in simulation."""

    def watch(self, file: int, callback: Callable[[], None]) -> None:
        """Calls back in every tick in which this file (an eventfd) is readable, until ``unwatch``."""
        raise NotImplementedError("this scheduler has no files")

    def unwatch(self, file: int) -> None:
        """Ends ``watch``."""
        raise NotImplementedError("this scheduler has no files")


async def _to_the_end(suspended: Suspended, ended: Callable[[BaseException | None], None]) -> None:
    try:
        await suspended
    except BaseException as error:
        ended(error)
        raise
    ended(None)


class WriteBatch(ABC):
    """Puts and deletes over all families that become visible, and durable, together."""

    @abstractmethod
    def put(self, cf: int, key: bytes, value: bytes) -> None: ...

    @abstractmethod
    def delete(self, cf: int, key: bytes) -> None: ...

    @abstractmethod
    def delete_range(self, cf: int, lower: bytes, upper: bytes) -> None:
        """Deletes every key in [lower, upper)."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of operations."""


class EngineIterator(ABC):
    """A point-in-time view of one family, from the moment it was made.

    Position with seek, then read ``key()``/``value()`` while ``valid()``.  After the
    end of iteration ``check()`` raises StorageFailure if it stopped for an error.
    Bounds are [lower, upper) and hold for both directions.
    """

    @abstractmethod
    def seek(self, key: bytes) -> None:
        """Moves to the first key >= max(key, lower)."""

    @abstractmethod
    def seek_for_prev(self, key: bytes) -> None:
        """Moves to the last key <= key that is inside the bounds."""

    @abstractmethod
    def next(self) -> None: ...

    @abstractmethod
    def prev(self) -> None: ...

    @abstractmethod
    def valid(self) -> bool: ...

    @abstractmethod
    def key(self) -> bytes: ...

    @abstractmethod
    def value(self) -> bytes: ...

    @abstractmethod
    def check(self) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Releases what it pins; further use is a bug."""


class Engine(ABC):
    """An ordered key-value store with the four families above.

    ``write`` makes a batch visible at once but not durable; ``sync`` makes durable
    everything written before it was called (one fdatasync, off the loop).  A failed
    write or sync raises StorageFailure and the process must end.  A write that the
    engine cannot take now (write stall) raises ``Overloaded``; nothing was written.
    """

    @abstractmethod
    def batch(self) -> WriteBatch: ...

    @abstractmethod
    def write(self, batch: WriteBatch) -> None: ...

    @abstractmethod
    def get(self, cf: int, key: bytes) -> bytes | None: ...

    @abstractmethod
    def iterator(self, cf: int, lower: bytes = b"", upper: bytes | None = None) -> EngineIterator: ...

    @abstractmethod
    def sync(self) -> None:
        """Blocking; call it through ``Scheduler.run_blocking``."""

    @abstractmethod
    def write_seq(self) -> int:
        """Number of batches written since open; iterators made before it moved are stale."""

    @abstractmethod
    def compact(self) -> None:
        """Blocking; reclaims space of deleted keys."""

    @abstractmethod
    def stats(self) -> dict[str, int]:
        """Sizes and counters for metrics, by stable names."""

    @abstractmethod
    def close(self) -> None: ...


class Transport(ABC):
    """Messages between nodes: ordered per (peer, class), unreliable, never blocking.

    A channel is a name like ``raft.msg``; the part before the dot is its *class*, one of
    ``CHANNEL_CLASSES``.  Each ordered pair of nodes has one stream per class, so a snapshot
    never delays a heartbeat.  What is sent to a peer in one class arrives in order, at most
    once, or not at all: after a stream broke, what was sent on it before is never delivered
    behind what is sent on the next one.  Messages to this node itself are a bug of the caller.

    Handlers run on the loop, in the order of arrival, and must not block it.  One that raises a
    MeridianError, a ValueError or an error of msgspec says that the peer sent nonsense: the
    stream is closed with a line in the log.  Anything else is a bug of ours.

    Outcomes of ``call``, for whoever must know whether something may have happened::

        PeerUnavailable   not delivered: the peer is away, the queue was full, or the deadline passed first
        AnswerLost        handed to the network and not answered: it may have happened, or still may
        CallFailed        the peer's handler raised an error; the SQLSTATE is that error's
        Overloaded        the peer has too many calls running; it did not begin this one
        MessageTooLarge   request or answer is above ``MESSAGE_BYTES_MAX``
    """

    @abstractmethod
    def send(self, node_id: int, channel: str, message: bytes) -> bool:
        """Queues a message; False if it was dropped: the peer is away or its bounded queue is full."""

    @abstractmethod
    def on_message(self, channel: str, handler: Callable[[int, bytes], None]) -> None:
        """Registers the one receiver of a channel's messages: (from node, message)."""

    @abstractmethod
    def call(self, node_id: int, channel: str, message: bytes, timeout_seconds: float) -> Awaitable[bytes]:
        """Sends a request at once; await its answer (see above for the errors) within the timeout.

        Whoever is cancelled while waiting cancels the peer's handler too, at its next wait.
        """

    @abstractmethod
    def on_call(self, channel: str, handler: Callable[[int, bytes], Eager[bytes]]) -> None:
        """Registers the one that answers a channel's calls: (from node, request) to an answer, now or awaited.

        A handler that waits runs in a task of its own; it is cancelled when the caller gives up,
        its deadline passes or the stream breaks, which undoes nothing (reliability 127).
        """

    @abstractmethod
    def on_disconnect(self, handler: Callable[[int], None]) -> None:
        """Adds a callback (node id): a stream to this peer broke, and what was under way may be lost."""
