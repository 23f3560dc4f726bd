"""The Transport seam over streams, without a network: ``StreamTransport``.

    send, call --> Link (peer, class) --> Dialed =====wire====> Accepted --> handlers
                         ^                   ^                      |
                         '---- answers ------'======================'

Everything here is a state machine over the seams; a ``Dialer`` makes wires.  Production has gRPC
(``node.transport``), the simulator a network of its own (``sim.transport``), and both run the same code and the
same tests from here up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Final

from base.eager import Eager
from base.seams import CHANNEL_CLASSES, Clock, Rng, Scheduler, Transport, Waiter
from kvtier.rpc.accepted import Accepted
from kvtier.rpc.clocks import ClockMonitor
from kvtier.rpc.conditions import Conditions
from kvtier.rpc.link import Dialed, Link
from kvtier.rpc.settings import STREAMS_GREETING_MAX, RpcSettings
from kvtier.rpc.stream import Stream

CHANNEL_CHARS_MAX: Final = 32
COUNTERS: Final = (
    "sent", "received", "dropped", "unhandled", "lost_by_fault", "calls", "calls_served", "dials", "refusals",
    "bundles_sent", "bundles_received", "bytes_sent", "bytes_received",
)  # fmt: skip


StrangerHandler = Callable[[bytes], Awaitable[bytes]]
"""Answers somebody who has no id yet."""


class Dialer(ABC):
    """Makes the wires of streams to other nodes."""

    @abstractmethod
    def dial(self, stream: Dialed) -> None:
        """Starts to connect: sets ``stream.wire``, now or later, and closes the stream if that fails."""


class Callbacks:
    """What a transport tells its node; each may be left as it is."""

    def __init__(
        self,
        note: Callable[..., None] = lambda event, **fields: None,
        on_bug: Callable[[BaseException], str] = lambda bug: "",
        on_stray: Callable[[str], None] = lambda why: None,
        admit: Callable[[int], str | None] = lambda node_id: None,
    ) -> None:
        self.note = note
        """Logs an event with fields."""
        self.on_bug = on_bug
        """A handler raised what it must not; returns the reference that the caller is told."""
        self.on_stray = on_stray
        """This node's clock is wrong, and why that is sure: it must stop serving."""
        self.admit = admit
        """Asked about each node that greets: None, or why it is refused (it was decommissioned)."""


class StreamTransport(Transport):
    """See the module docstring; ``start`` it once the dialer can dial, ``close`` it at the end."""

    def __init__(
        self,
        node_id: int,
        cluster_id: bytes,
        dialer: Dialer,
        clock: Clock,
        rng: Rng,
        scheduler: Scheduler,
        settings: RpcSettings | None = None,
        conditions: Conditions | None = None,
        callbacks: Callbacks | None = None,
    ) -> None:
        self.node_id = node_id
        self.cluster_id = cluster_id
        self.dialer = dialer
        self.clock = clock
        self.rng = rng
        self.scheduler = scheduler
        self.settings = settings if settings is not None else RpcSettings()
        self.conditions = conditions if conditions is not None else Conditions()
        callbacks = callbacks if callbacks is not None else Callbacks()
        self.note = callbacks.note
        self.on_bug = callbacks.on_bug
        self.admit = callbacks.admit
        self.on_stray = callbacks.on_stray
        self.clocks = ClockMonitor(round(self.settings.max_offset_seconds * 1e9))
        self.message_handlers: dict[str, dict[str, Callable[[int, bytes], None]]] = {
            name: {} for name in CHANNEL_CLASSES
        }
        self.call_handlers: dict[str, dict[str, Callable[[int, bytes], Eager[bytes]]]] = {
            name: {} for name in CHANNEL_CLASSES
        }
        self.strangers: dict[str, StrangerHandler] = {}
        self.counts: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.streams: dict[Stream, None] = {}
        """Every stream that is alive, dialed and accepted."""
        self.is_draining = False
        self.is_closed = False
        self._links: dict[tuple[int, str], Link] = {}
        self._routes: dict[tuple[int, str], Link] = {}
        self._accepted: dict[tuple[int, str], Accepted] = {}
        self._disconnect_handlers: list[Callable[[int], None]] = []
        self._epoch = 0
        self._drained: Waiter | None = None
        self._stop_beats: Callable[[], None] | None = None
        self._beat_due_ns = 0
        self.conditions.watch(self.on_conditions)

    # --- the seam ---------------------------------------------------------------------

    def send(self, node_id: int, channel: str, message: bytes) -> bool:
        link = self._routes.get((node_id, channel)) or self._route(node_id, channel)
        self.counts["sent"] += 1
        return link.send(channel, message)

    def call(self, node_id: int, channel: str, message: bytes, timeout_seconds: float) -> Awaitable[bytes]:
        link = self._routes.get((node_id, channel)) or self._route(node_id, channel)
        self.counts["calls"] += 1
        return link.call(channel, message, timeout_seconds)

    def on_message(self, channel: str, handler: Callable[[int, bytes], None]) -> None:
        handlers = self.message_handlers[class_of(channel)]
        assert channel not in handlers, f"{channel=}"
        handlers[channel] = handler

    def on_call(self, channel: str, handler: Callable[[int, bytes], Eager[bytes]]) -> None:
        handlers = self.call_handlers[class_of(channel)]
        assert channel not in handlers, f"{channel=}"
        handlers[channel] = handler

    def on_disconnect(self, handler: Callable[[int], None]) -> None:
        self._disconnect_handlers.append(handler)

    def on_stranger(self, channel: str, handler: StrangerHandler) -> None:
        """Registers who answers what nodes ask that may talk to this one, but have no id or cluster yet."""
        assert channel not in self.strangers, f"{channel=}"
        self.strangers[channel] = handler

    def _route(self, node_id: int, channel: str) -> Link:
        assert node_id != self.node_id, f"{node_id=} is this node"
        assert node_id > 0, f"{node_id=}"
        key = (node_id, class_of(channel))
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = Link(self, *key)
            if self.is_closed:
                link.close("this node is stopping")
        self._routes[node_id, channel] = link
        return link

    # --- life -------------------------------------------------------------------------

    async def listen(self, address: str) -> int:
        """Opens the port for other nodes, if the wires need one (0: they do not), and begins to beat."""
        self.start()
        return 0

    async def stop(self) -> None:
        """Ends every stream, and what carried them."""
        self.close()

    def start(self) -> None:
        """Begins to beat."""
        self._beat_due_ns = self.clock.monotonic_ns() + round(self.settings.beat_seconds * 1e9)
        self._stop_beats = self.scheduler.call_later(self.settings.beat_seconds, self._beat)

    def disconnect(self, node_id: int, why: str = "it left the cluster") -> None:
        """Ends all streams with a peer and forgets it; a later send dials it afresh."""
        for stream in list(self.streams):
            if stream.peer == node_id:
                stream.close(why)
        for key in [key for key in self._links if key[0] == node_id]:
            self._links.pop(key).close(why)
        self._routes = {route: link for route, link in self._routes.items() if link.peer != node_id}
        self.clocks.forget(node_id)

    def is_connected(self, node_id: int, channel_class: str) -> bool:
        """True while the stream to a peer is open."""
        link = self._links.get((node_id, channel_class))
        return link is not None and link.stream is not None and link.stream.is_open

    def begin_drain(self) -> Awaitable[None]:
        """Begins no call of others any more; await it for the end of those that run."""
        self.is_draining = True
        self._drained = self.scheduler.waiter()
        self.check_drained()
        return self._drained.wait()

    def check_drained(self) -> None:
        """Ends the wait for a drain once nothing runs."""
        if self._drained is not None and self.running_calls() == 0:
            self._drained.wake()

    def running_calls(self) -> int:
        """Returns how many calls of others wait for their answer or for it to be sent."""
        return sum([len(stream.running) + len(stream.outbox) for stream in self._accepted.values()])

    def close(self) -> None:
        """Ends every stream; calls fail, sends are refused."""
        self.is_closed = self.is_draining = True
        if self._stop_beats is not None:
            self._stop_beats()
            self._stop_beats = None
        self.conditions.unwatch(self.on_conditions)
        for link in self._links.values():
            link.close("this node is stopping")
        for stream in list(self.streams):
            stream.close("this node is stopping")

    # --- what streams ask ----------------------------------------------------------------

    def accept(self) -> Accepted | None:
        """Returns the near end of a stream that somebody dialed; None: too many have not greeted, refuse it."""
        greeting = sum([1 for stream in self.streams if isinstance(stream, Accepted) and not stream.is_open])
        if self.is_closed or greeting >= STREAMS_GREETING_MAX:
            return None
        stream = Accepted(self)
        self.streams[stream] = None
        return stream

    def next_epoch(self) -> int:
        """Returns the number of the next welcome."""
        self._epoch += 1
        return self._epoch

    def open_accepted(self, stream: Accepted) -> bool:
        """Lets a stream replace the older one of its peer and class; False if it is itself the older."""
        key = (stream.peer, stream.channel_class)
        current = self._accepted.get(key)
        if current is not None and current.epoch > stream.epoch:
            stream.close("a later stream is open")
            return False
        if current is not None:
            current.close("a later stream was opened")
        self._accepted[key] = stream
        return True

    def forget(self, stream: Stream) -> None:
        """A stream is over."""
        self.streams.pop(stream, None)
        key = (stream.peer, stream.channel_class)
        if self._accepted.get(key) is stream:
            del self._accepted[key]

    def tell_disconnected(self, node_id: int) -> None:
        """Tells the handlers that something may be lost."""
        for handler in self._disconnect_handlers:
            handler(node_id)

    # --- beats -------------------------------------------------------------------------

    def _beat(self) -> None:
        """Beats on every stream, gives up those that are silent, and judges the clock."""
        settings = self.settings
        now_ns = self.clock.monotonic_ns()
        late_ns = now_ns - self._beat_due_ns
        if late_ns > settings.beat_seconds * 1e9:
            # This node stood still: what the others sent meanwhile has not been read yet.
            for stream in self.streams:
                stream.heard_ns += late_ns
        silence_ns = round(settings.silence_seconds * 1e9)
        for stream in list(self.streams):
            if now_ns - stream.heard_ns > silence_ns:
                stream.close(f"nothing was heard for {settings.silence_seconds:g} s")
            elif stream.is_open:
                stream.beat(now_ns)
        self.check_drained()
        verdict = self.clocks.verdict(now_ns)
        if verdict is not None:
            self.on_stray(verdict)
        if not self.is_closed:
            self.start()

    def on_conditions(self) -> None:
        """Wakes every stream: what could not leave perhaps can."""
        for stream in self.streams:
            stream.wake()

    # --- figures -----------------------------------------------------------------------

    def stats(self) -> dict[str, int]:
        """Returns counters and sizes for metrics, by stable names."""
        return {
            **self.counts,
            "streams": len(self.streams),
            "queued_frames": sum([len(link.outbox) for link in self._links.values()]),
            "queued_bytes": sum([link.outbox.bytes for link in self._links.values()]),
            "calls_waiting": sum([len(link.calls) for link in self._links.values()]),
            "calls_running": self.running_calls(),
        }

    def peers(self) -> list[dict[str, Any]]:
        """Returns what is known of each peer: offset of its clock in ms, its error, round trip."""
        offsets = self.clocks.offsets(self.clock.monotonic_ns())
        return [
            {
                "node_id": node_id,
                "offset_ms": offset.offset_ns / 1e6,
                "error_ms": offset.error_ns / 1e6,
                "rtt_ms": offset.error_ns * 2 / 1e6,
            }
            for node_id, offset in offsets.items()
        ]


def class_of(channel: str) -> str:
    """Returns the class of a channel's streams."""
    name = channel.partition(".")[0]
    assert name in CHANNEL_CLASSES, f"{channel=}"
    assert len(channel) <= CHANNEL_CHARS_MAX, f"{channel=}"
    return name
