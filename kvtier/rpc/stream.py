"""One end of a stream: what both ends do alike.

The shell (gRPC, or the simulated network) owns a ``Wire`` per stream.  It calls ``take`` for what to
send and ``receive`` with what came; the stream calls ``wake`` when there is something to take again,
and ``close`` when it is over.  Each end beats, and gives the other up when it hears nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from kvtier.rpc.clocks import measure
from kvtier.rpc.conditions import Way
from kvtier.rpc.frames import BadPeer, Beat, Frame, Joiner, Part, decode_bundle
from kvtier.rpc.outbox import Outbox

if TYPE_CHECKING:
    from kvtier.rpc.transport import StreamTransport


class Wire(ABC):
    """The network's end of a stream; both calls are cheap and may be repeated."""

    @abstractmethod
    def wake(self) -> None:
        """``take`` has something, or ``wait_ns`` has changed."""

    @abstractmethod
    def close(self, why: str) -> None:
        """Ends the stream; what was taken and not yet sent may be lost."""


class Stream(ABC):
    """See the module docstring.

    Invariant: nothing that comes after ``close`` is looked at.
    """

    def __init__(self, home: StreamTransport, peer: int, channel_class: str, way: Way, outbox: Outbox) -> None:
        self.home = home
        self.peer = peer
        """Node id; 0 at the accepting end until the greeting."""
        self.channel_class = channel_class
        self.way = way
        self.outbox = outbox
        self.wire: Wire | None = None
        self.is_alive = True
        self.is_open = False
        """True once both ends know each other; data flows from here on."""
        self.heard_ns = home.clock.monotonic_ns()
        self.data_due_ns = 0
        """Data does not leave before this, where a stream is paced."""
        self._received = 0
        self._joiner = Joiner()
        self._echo_ns = 0
        self._echo_at_ns = 0

    # --- what the wire asks ------------------------------------------------------------

    def take(self) -> bytes | None:
        """Returns the next bundle to send, or None: then wait for ``wait_ns`` or to be woken."""
        if not self.is_alive or self.way.is_cut:
            return None
        now_ns = self.home.clock.monotonic_ns()
        bundle = self.outbox.take(now_ns, self.is_open and self.data_due_ns <= now_ns)
        if bundle is not None:
            self.home.counts["bundles_sent"] += 1
            self.home.counts["bytes_sent"] += len(bundle)
        return bundle

    def wait_ns(self) -> int | None:
        """Returns how long until something is due; None if nothing is queued that could leave."""
        if self.way.is_cut or not self.is_alive:
            return None
        due_ns = self.outbox.next_due_ns(self.is_open, self.data_due_ns)
        return None if due_ns is None else max(due_ns - self.home.clock.monotonic_ns(), 0)

    def receive(self, encoded: bytes) -> None:
        """Handles a bundle from the other end; one that breaks the protocol ends the stream, and it alone."""
        if not self.is_alive:
            return
        try:
            self._receive(encoded)
        except BadPeer as nonsense:
            self.home.note("bad message from a node", node=self.peer, stream=self.channel_class, why=str(nonsense))
            self.close(f"it broke the protocol: {nonsense}")
        except Exception as bug:
            self.home.on_bug(bug)
            self.close("internal error")

    def is_congested(self) -> bool:
        """True while the wire must not read on, because what it causes to be sent is not taken."""
        return False

    # --- life -------------------------------------------------------------------------

    def wake(self) -> None:
        """Tells the wire that there is something to take."""
        if self.wire is not None:
            self.wire.wake()

    def close(self, why: str) -> None:
        """Ends the stream, from whichever side; the first reason counts."""
        if not self.is_alive:
            return
        self.is_alive = False
        self.home.forget(self)
        if self.wire is not None:
            self.wire.close(why)
        self.on_closed(why)

    def control(self, frame: Frame) -> None:
        """Sends a small frame ahead of the data."""
        self.outbox.put_control(frame, self.home.clock.monotonic_ns() + self.way.delay_ns)
        self.wake()

    def beat(self, now_ns: int) -> None:
        """Gives a sign of life."""
        held_ns = now_ns - self._echo_at_ns if self._echo_ns else 0
        self.control(Beat(now_ns, self.home.clock.wall_ns(), self._echo_ns, held_ns))

    def _receive(self, encoded: bytes) -> None:
        frames = decode_bundle(encoded, self._received)
        self._received += 1
        self.home.counts["bundles_received"] += 1
        self.home.counts["bytes_received"] += len(encoded)
        self.heard_ns = self.home.clock.monotonic_ns()
        for frame in frames:
            kind = frame.__class__
            if kind is Part:
                assert isinstance(frame, Part)
                whole = self._joiner.add(frame)
                if whole is None:
                    continue
                frame = whole
            elif kind is Beat:
                assert isinstance(frame, Beat)
                self._on_beat(frame)
                continue
            elif self._joiner.is_amid():
                raise BadPeer(f"{kind.__name__} between the parts of a frame")
            self.on_frame(frame)
            if not self.is_alive:
                return

    def _on_beat(self, beat: Beat) -> None:
        if not self.is_open:
            raise BadPeer("beat before the greeting")
        self._echo_ns = beat.sent_ns
        self._echo_at_ns = self.heard_ns
        sample = measure(beat, self.heard_ns, self.home.clock.wall_ns())
        if sample is not None:
            self.home.clocks.note(self.peer, sample)

    @abstractmethod
    def on_frame(self, frame: Frame) -> None:
        """Handles a frame that is no beat and no part; raises BadPeer."""

    @abstractmethod
    def on_closed(self, why: str) -> None:
        """Whatever hung on this stream is over."""
