"""The end of a stream that was dialed: greets, hands out messages, runs calls.

Which of two streams of the same peer and class is the newer one is decided without clocks.  Each welcome
carries an *epoch*, a counter of this process.  The dialing end has one attempt alive at a time, and sends
Open only in answer to a welcome: so of two streams that opened, the one with the higher epoch is
the one the peer made later, however late the other's Open arrives.  It replaces the other, of which nothing is
looked at any more (reliability 130, and a replayed stream, 4.2 (57), never opens).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import msgspec

from base.errors import MeridianError
from base.seams import CHANNEL_CLASSES, MESSAGE_BYTES_MAX
from kvtier.rpc.conditions import Way
from kvtier.rpc.frames import (
    CALL_MS_MAX,
    NOT_BEGUN,
    OVERLOADED,
    PROTOCOL_VERSION,
    RAISED,
    REASON_CHARS_MAX,
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

NONSENSE: Final = (MeridianError, ValueError, msgspec.MsgspecError)
"""What a handler raises about a message that makes no sense."""
PROTOCOL_VIOLATION: Final = "08P01"


class Running:
    """A call whose handler waits."""

    __slots__ = ("pending", "stop_timer", "task")

    def __init__(self, pending: Any, task: Any, stop_timer: Callable[[], None]) -> None:
        self.pending = pending
        """What the handler returned, until the task awaits it."""
        self.task = task
        self.stop_timer = stop_timer

    def cancel(self) -> None:
        """Stops the handler; one that has not begun never does."""
        self.stop_timer()
        self.task.cancel()
        if isinstance(self.pending, Coroutine):
            self.pending.close()


class Accepted(Stream):
    """See the module docstring."""

    def __init__(self, home: StreamTransport) -> None:
        outbox = Outbox(2 * home.settings.calls_running_max + 1, 1 << 62, lambda frame: True)
        super().__init__(home, 0, "", Way(), outbox)
        self.epoch = 0
        self.running: dict[int, Running] = {}
        self._is_greeted = False

    def take(self) -> bytes | None:
        encoded = super().take()
        if encoded is not None and self.home.is_draining:
            self.home.check_drained()
        return encoded

    def is_congested(self) -> bool:
        return self.outbox.bytes > self.home.settings.answer_bytes_max or len(self.outbox) >= (
            self.home.settings.calls_running_max
        )

    def on_frame(self, frame: Frame) -> None:
        if not self.is_open:
            self._greet(frame)
        elif frame.__class__ is Message:
            assert isinstance(frame, Message)
            self._on_message(frame)
        elif frame.__class__ is Call:
            assert isinstance(frame, Call)
            self._on_call(frame)
        elif isinstance(frame, Cancel):
            running = self.running.pop(frame.id, None)
            if running is not None:
                running.cancel()
        else:
            raise BadPeer(f"{type(frame).__name__} is not for the end that was dialed")

    # --- greeting ---------------------------------------------------------------------

    def _greet(self, frame: Frame) -> None:
        if isinstance(frame, Hello) and not self._is_greeted:
            self._on_hello(frame)
        elif isinstance(frame, Open) and self._is_greeted and frame.epoch == self.epoch:
            self.is_open = self.home.open_accepted(self)
        else:
            raise BadPeer(f"{type(frame).__name__} before the greeting")

    def _on_hello(self, hello: Hello) -> None:
        home = self.home
        reason = self._objection(hello)
        if reason is not None:
            home.note("refused a node", node=hello.source, why=reason)
            home.counts["refusals"] += 1
            self.control(Refusal(reason))
            return
        self._is_greeted = True
        self.peer = hello.source
        self.channel_class = hello.channel_class
        self.way = home.conditions.way(home.node_id, hello.source)
        self.epoch = home.next_epoch()
        self.control(Welcome(PROTOCOL_VERSION, home.cluster_id, home.node_id, self.epoch))

    def _objection(self, hello: Hello) -> str | None:
        home = self.home
        if hello.version != PROTOCOL_VERSION:
            return f"version {hello.version} of the protocol, this node speaks {PROTOCOL_VERSION}"
        if hello.cluster_id != home.cluster_id:
            return "this node belongs to another cluster"
        if hello.target != home.node_id:
            return f"this is node {home.node_id}, not node {hello.target}"
        if hello.source == home.node_id or hello.source <= 0:
            return f"this is node {home.node_id}, and node {hello.source} cannot be its peer"
        if hello.channel_class not in CHANNEL_CLASSES:
            return "no such class of channels"
        if home.is_draining:
            return "this node is stopping"
        return home.admit(hello.source)

    # --- messages and calls -------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        home = self.home
        handler = home.message_handlers[self.channel_class].get(message.channel)
        if handler is None:
            # A newer node may send what this one does not know.
            home.counts["unhandled"] += 1
            return
        home.counts["received"] += 1
        try:
            handler(self.peer, message.payload)
        except NONSENSE as nonsense:
            raise BadPeer(f"{message.channel}: {nonsense}") from None

    def _on_call(self, call: Call) -> None:
        home = self.home
        if call.id in self.running:
            raise BadPeer(f"two calls {call.id}")
        handler = home.call_handlers[self.channel_class].get(call.channel)
        if handler is None:
            self._reply(Failure(call.id, NOT_BEGUN, "", f"it does not serve {call.channel[:32]}"), 0)
        elif home.is_draining:
            self._reply(Failure(call.id, NOT_BEGUN, "", "it is stopping"), 0)
        elif len(self.running) >= home.settings.calls_running_max:
            self._reply(Failure(call.id, OVERLOADED, "", f"node {home.node_id} has too many calls running"), 0)
        else:
            home.counts["calls_served"] += 1
            self._begin(call, handler)

    def _begin(self, call: Call, handler: Callable[[int, bytes], Any]) -> None:
        """Answers at once if the handler does; else in a task."""
        home = self.home
        try:
            answer = handler(self.peer, call.payload)
        except Exception as error:
            self._reply(self._failure(call.id, error), 0)
            return
        if answer.__class__ is bytes:
            self._reply_with(call.id, answer)
            return
        task = home.scheduler.spawn(self._serve(call.id, answer), f"call {call.channel}")
        seconds = min(max(call.timeout_ms, 1), CALL_MS_MAX) / 1000
        stop_timer = home.scheduler.call_later(seconds, lambda: self._expire(call.id))
        self.running[call.id] = Running(answer, task, stop_timer)

    async def _serve(self, call_id: int, pending: Any) -> None:
        self.running[call_id].pending = None
        try:
            answer: bytes | None = await pending
            frame = None
        except Exception as error:
            answer = None
            frame = self._failure(call_id, error)
        running = self.running.pop(call_id, None)
        if running is not None:
            running.stop_timer()
        if not self.is_alive:
            return
        if answer is not None:
            self._reply_with(call_id, answer)
        else:
            assert frame is not None
            self._reply(frame, 0)

    def _failure(self, call_id: int, error: Exception) -> Failure:
        if isinstance(error, MeridianError):
            return Failure(call_id, RAISED, error.sqlstate, error.message[:REASON_CHARS_MAX])
        if isinstance(error, NONSENSE):
            self.home.note("nonsensical call from a node", node=self.peer, why=str(error))
            return Failure(call_id, RAISED, PROTOCOL_VIOLATION, str(error)[:REASON_CHARS_MAX])
        return Failure(call_id, RAISED, "XX000", f"internal error {self.home.on_bug(error)}")

    def _reply_with(self, call_id: int, answer: bytes) -> None:
        size = len(answer)
        if size > MESSAGE_BYTES_MAX:
            reason = f"answer of {size} bytes, at most {MESSAGE_BYTES_MAX} are allowed"
            self._reply(Failure(call_id, RAISED, "54000", reason), 0)
        else:
            self._reply(Answer(call_id, answer), size)

    def _reply(self, frame: Frame, size: int) -> None:
        home = self.home
        way = self.way
        if way.call_loss and home.rng.random() < way.call_loss:
            home.counts["lost_by_fault"] += 1
            return
        if isinstance(frame, Failure):
            size = 4 * len(frame.reason)
        due_ns = home.clock.monotonic_ns() + way.delay_ns if way.delay_ns else 0
        if not self.outbox.put(frame, size, due_ns):
            self.close("its answers are not taken")
            return
        self.wake()

    def _expire(self, call_id: int) -> None:
        running = self.running.pop(call_id, None)
        if running is not None:
            running.cancel()

    def on_closed(self, why: str) -> None:
        running, self.running = self.running, {}
        for call in running.values():
            call.cancel()
        self.outbox.clear()
        if self.is_open:
            self.home.note("stream from a node ended", node=self.peer, stream=self.channel_class, why=why)
            self.home.tell_disconnected(self.peer)
