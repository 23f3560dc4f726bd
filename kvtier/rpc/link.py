"""The way to one peer in one class, over however many streams it takes.

    IDLE ----send, call----> DIALING ----welcome----> OPEN
      ^                         |                      |
      '------ backoff ------ WAITING <---- broken -----'

What is queued while dialing leaves when the stream opens.  When it fails to open, or breaks,
everything queued is dropped: messages of a protocol that repeats itself are better lost than late, and a
call that never left can go to another replica at once (reliability 41).  While waiting to dial again
everything is refused.  Waits double up to a second and are drawn at random below that.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from base.errors import AnswerLost, CallFailed, MessageTooLarge, Overloaded, PeerUnavailable
from base.seams import MESSAGE_BYTES_MAX
from kvtier.rpc.frames import (
    CALL_MS_MAX,
    NOT_BEGUN,
    OVERLOADED,
    PROTOCOL_VERSION,
    Answer,
    BadPeer,
    Call,
    Cancel,
    Failure,
    Frame,
    Hello,
    Message,
    Open,
    Refusal,
    Welcome,
)
from kvtier.rpc.outbox import Outbox
from kvtier.rpc.stream import Stream

if TYPE_CHECKING:
    from kvtier.rpc.transport import StreamTransport

DOUBLINGS_MAX: Final = 10
PACE_BURST_NS: Final = 20_000_000
"""A paced stream that was idle may send so much of its rate at once."""


class LinkState(Enum):
    """See the module docstring."""

    IDLE = 0
    DIALING = 1
    OPEN = 2
    WAITING = 3


class PendingCall:
    """A call that waits for its answer; awaiting it gives the answer, once."""

    __slots__ = ("_link", "_waiter", "id", "is_over", "is_sent", "stop_timer")

    def __init__(self, link: Link, call_id: int) -> None:
        self._link = link
        self._waiter = link.home.scheduler.waiter()
        self.id = call_id
        self.is_sent = False
        """True once it was handed to the network: from here on it may have happened."""
        self.is_over = False
        self.stop_timer: Callable[[], None] | None = None

    def end(self, answer: bytes | None, error: BaseException | None = None) -> None:
        """Gives the awaiter its answer or error; the first outcome counts."""
        if self.is_over:
            return
        self.is_over = True
        if self.stop_timer is not None:
            self.stop_timer()
        if error is None:
            self._waiter.wake(answer)
        else:
            self._waiter.fail(error)

    def __await__(self) -> Generator[Any, Any, bytes]:
        try:
            answer: bytes = yield from self._waiter.wait().__await__()
            return answer
        finally:
            if not self.is_over:
                self._link.give_up(self)


class Link:
    """See the module docstring.

    Invariant: ``stream`` is alive exactly while the state is DIALING or OPEN; every call in ``calls`` is
    either queued or was sent on that stream.
    """

    def __init__(self, home: StreamTransport, peer: int, channel_class: str) -> None:
        settings = home.settings
        self.home = home
        self.peer = peer
        self.channel_class = channel_class
        self.way = home.conditions.way(home.node_id, peer)
        self.outbox = Outbox(settings.queue_frames_max, settings.queue_bytes_max, self._admit)
        self.state = LinkState.IDLE
        self.stream: Dialed | None = None
        self.calls: dict[int, PendingCall] = {}
        self._call_id = 0
        self._failures = 0
        self._last_why = ""
        self._stop_backoff: Callable[[], None] | None = None

    # --- sending ----------------------------------------------------------------------

    def send(self, channel: str, message: bytes) -> bool:
        """Queues a message; False if it was dropped."""
        size = len(message)
        if size > MESSAGE_BYTES_MAX:
            raise MessageTooLarge(channel, size, MESSAGE_BYTES_MAX)
        home = self.home
        if self.state is LinkState.WAITING:
            home.counts["dropped"] += 1
            return False
        way = self.way
        if way.loss and home.rng.random() < way.loss:
            home.counts["lost_by_fault"] += 1
            return True
        due_ns = home.clock.monotonic_ns() + way.delay_ns if way.delay_ns else 0
        if not self.outbox.put(Message(channel, message), size, due_ns):
            home.counts["dropped"] += 1
            return False
        self._go()
        return True

    def call(self, channel: str, message: bytes, timeout_seconds: float) -> PendingCall:
        """Queues a request; its errors come out where it is awaited."""
        self._call_id += 1
        pending = PendingCall(self, self._call_id)
        size = len(message)
        if size > MESSAGE_BYTES_MAX:
            pending.end(None, MessageTooLarge(channel, size, MESSAGE_BYTES_MAX))
            return pending
        if self.state is LinkState.WAITING:
            pending.end(None, PeerUnavailable(self.peer, self._last_why))
            return pending
        home = self.home
        timeout_ms = min(max(int(timeout_seconds * 1000), 1), CALL_MS_MAX)
        way = self.way
        if way.call_loss and home.rng.random() < way.call_loss:
            pending.is_sent = True
        else:
            due_ns = home.clock.monotonic_ns() + way.delay_ns if way.delay_ns else 0
            if not self.outbox.put(Call(pending.id, channel, timeout_ms, message), size, due_ns):
                pending.end(None, PeerUnavailable(self.peer, "too much waits to be sent"))
                return pending
        self.calls[pending.id] = pending
        pending.stop_timer = home.scheduler.call_later(timeout_seconds, lambda: self._expire(pending))
        self._go()
        return pending

    def _go(self) -> None:
        if self.stream is None:
            self._dial()
        else:
            self.stream.wake()

    def _admit(self, frame: Frame) -> bool:
        """Asked for each frame as it leaves: calls that nobody waits for stay here."""
        if frame.__class__ is Call:
            assert isinstance(frame, Call)
            pending = self.calls.get(frame.id)
            if pending is None:
                return False
            pending.is_sent = True
        return True

    def _expire(self, pending: PendingCall) -> None:
        if self.calls.pop(pending.id, None) is None:
            return
        if pending.is_sent:
            pending.end(None, AnswerLost(self.peer, "the deadline has passed"))
        else:
            pending.end(None, PeerUnavailable(self.peer, "the deadline passed before the call could be sent"))

    def give_up(self, pending: PendingCall) -> None:
        """The caller is gone; if the peer has begun, it should stop."""
        pending.end(None)
        if self.calls.pop(pending.id, None) is not None and pending.is_sent and self.stream is not None:
            self.outbox.put(Cancel(pending.id), 0, 0)
            self.stream.wake()

    # --- the stream -------------------------------------------------------------------

    def _dial(self) -> None:
        home = self.home
        assert self.state is LinkState.IDLE, f"{self.state=}"
        self.state = LinkState.DIALING
        self.stream = Dialed(self)
        home.streams[self.stream] = None
        self.stream.control(Hello(PROTOCOL_VERSION, home.cluster_id, home.node_id, self.peer, self.channel_class))
        home.counts["dials"] += 1
        home.dialer.dial(self.stream)

    def on_open(self) -> None:
        """The peer welcomed us."""
        self.state = LinkState.OPEN
        self._failures = 0
        self._last_why = ""

    def on_broken(self, why: str) -> None:
        """The stream is over, or never came to be."""
        home = self.home
        was_open = self.state is LinkState.OPEN
        self.state = LinkState.WAITING
        self.stream = None
        if why != self._last_why:
            self._last_why = why
            home.note("no stream to a node", node=self.peer, stream=self.channel_class, why=why)
        home.counts["dropped"] += len(self.outbox.clear())
        calls, self.calls = self.calls, {}
        self._stop_backoff = home.scheduler.call_later(self._backoff_seconds(), self._end_backoff)
        for pending in calls.values():
            error = AnswerLost(self.peer, why) if pending.is_sent else PeerUnavailable(self.peer, why)
            pending.end(None, error)
        if was_open:
            home.tell_disconnected(self.peer)

    def _backoff_seconds(self) -> float:
        settings = self.home.settings
        longest = min(settings.backoff_seconds_min * 2.0**self._failures, settings.backoff_seconds_max)
        self._failures = min(self._failures + 1, DOUBLINGS_MAX)
        return longest * (0.5 + self.home.rng.random() / 2)

    def _end_backoff(self) -> None:
        self._stop_backoff = None
        self.state = LinkState.IDLE

    def on_answer(self, frame: Answer) -> None:
        """A call was answered; one that nobody waits for any more is forgotten."""
        pending = self.calls.pop(frame.id, None)
        if pending is not None:
            pending.end(frame.payload)

    def on_failure(self, frame: Failure) -> None:
        """A call was refused, or its handler raised."""
        pending = self.calls.pop(frame.id, None)
        if pending is None:
            return
        if frame.kind == NOT_BEGUN:
            pending.end(None, PeerUnavailable(self.peer, frame.reason))
        elif frame.kind == OVERLOADED:
            pending.end(None, Overloaded(frame.reason))
        else:
            pending.end(None, CallFailed(frame.reason, sqlstate=frame.sqlstate))

    def close(self, why: str) -> None:
        """Ends the stream and refuses everything from now on."""
        if self.stream is not None:
            self.stream.close(why)
        if self._stop_backoff is not None:
            self._stop_backoff()
            self._stop_backoff = None
        self.state = LinkState.WAITING
        self._last_why = why


class Dialed(Stream):
    """The end that dialed: sends messages and calls, gets answers."""

    def __init__(self, link: Link) -> None:
        super().__init__(link.home, link.peer, link.channel_class, link.way, link.outbox)
        self.link = link
        self._is_paced = link.channel_class == "snapshot"

    def take(self) -> bytes | None:
        encoded = super().take()
        if encoded is not None and self._is_paced:
            now_ns = self.home.clock.monotonic_ns()
            spent_ns = len(encoded) * 1_000_000_000 // self.home.settings.snapshot_bytes_per_second
            self.data_due_ns = max(self.data_due_ns, now_ns - PACE_BURST_NS) + spent_ns
        return encoded

    def on_frame(self, frame: Frame) -> None:
        if frame.__class__ is Answer:
            assert isinstance(frame, Answer)
            self.link.on_answer(frame)
        elif isinstance(frame, Failure):
            self.link.on_failure(frame)
        elif isinstance(frame, Welcome) and not self.is_open:
            self._on_welcome(frame)
        elif isinstance(frame, Refusal) and not self.is_open:
            self.close(f"it refused: {frame.reason}")
        else:
            raise BadPeer(f"{type(frame).__name__} is not for the end that dialed")

    def _on_welcome(self, welcome: Welcome) -> None:
        home = self.home
        if welcome.version != PROTOCOL_VERSION:
            self.close(f"it speaks version {welcome.version} of the protocol, this node {PROTOCOL_VERSION}")
        elif welcome.cluster_id != home.cluster_id:
            self.close("it belongs to another cluster")
        elif welcome.source != self.peer:
            self.close(f"node {welcome.source} answers at the address of node {self.peer}")
        else:
            self.is_open = True
            self.link.on_open()
            # Not delayed: data that is due already follows it.
            self.outbox.put_control(Open(welcome.epoch), 0)
            self.wake()

    def on_closed(self, why: str) -> None:
        self.link.on_broken(why)
