"""Frames that wait for one direction of a stream.

    put      --> | data frames, in order, bounded in number and bytes | --take--> bundle
    control  --> | beats and the handshake: small, overtake the data  |

A frame may be due later than it was put: that is how a far region's latency is simulated, at the
sender and without reordering, because what is due earlier waits behind what was put before it.
``take`` returns at most one bundle, whatever the length of the queue.

Invariant: ``bytes`` is the sum of the sizes of what is queued; a frame that is being sent in parts counts
until its last part is taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from kvtier.rpc.frames import BUNDLE_BYTES_MAX, FRAME_OVERHEAD, Frame, Part, encode_bundle, encode_frame

CONTROL_FRAMES_MAX: Final = 64
"""Beats that may wait; a stream that is not taken from gets no more of them."""


class Outbox:
    """See the module docstring; ``is_wanted`` is asked for each data frame as it leaves."""

    __slots__ = (
        "_admit",
        "_control",
        "_data",
        "_number",
        "_part",
        "_part_size",
        "bytes",
        "bytes_max",
        "frames_max",
    )

    def __init__(self, frames_max: int, bytes_max: int, admit: Callable[[Frame], bool]) -> None:
        self.frames_max = frames_max
        self.bytes_max = bytes_max
        self.bytes = 0
        self._admit = admit
        self._data: deque[tuple[int, int, Frame]] = deque()
        self._control: deque[tuple[int, Frame]] = deque()
        self._number = 0
        self._part: memoryview | None = None
        self._part_size = 0

    def __len__(self) -> int:
        return len(self._data)

    def put(self, frame: Frame, size: int, due_ns: int) -> bool:
        """Queues a data frame of ``size`` payload bytes, to leave at ``due_ns`` or later; False if full."""
        size += FRAME_OVERHEAD
        if len(self._data) >= self.frames_max or (self.bytes + size > self.bytes_max and self.bytes):
            return False
        self.bytes += size
        self._data.append((due_ns, size, frame))
        return True

    def put_control(self, frame: Frame, due_ns: int) -> None:
        """Queues a small frame that overtakes data; forgets it if too many wait."""
        if len(self._control) < CONTROL_FRAMES_MAX:
            self._control.append((due_ns, frame))

    def next_due_ns(self, with_data: bool, data_due_ns: int = 0) -> int | None:
        """Returns when ``take`` will have something, data not before ``data_due_ns``; None if nothing is queued."""
        dues = [self._control[0][0]] if self._control else []
        if with_data and self._part is not None:
            dues.append(data_due_ns)
        elif with_data and self._data:
            dues.append(max(self._data[0][0], data_due_ns))
        return min(dues) if dues else None

    def take(self, now_ns: int, with_data: bool) -> bytes | None:
        """Returns the next bundle of what is due, or None; without data it holds control frames only."""
        frames: list[Frame] = []
        while self._control and self._control[0][0] <= now_ns:
            frames.append(self._control.popleft()[1])
        if with_data:
            self._take_data(now_ns, frames)
        if not frames:
            return None
        encoded = encode_bundle(self._number, frames)
        self._number += 1
        return encoded

    def _take_data(self, now_ns: int, frames: list[Frame]) -> None:
        if self._part is not None:
            frames.append(self._next_part())
            return
        data = self._data
        room = BUNDLE_BYTES_MAX
        while data:
            due_ns, size, frame = data[0]
            if due_ns > now_ns or (size > room and room < BUNDLE_BYTES_MAX):
                break
            data.popleft()
            if not self._admit(frame):
                self.bytes -= size
                continue
            if size > BUNDLE_BYTES_MAX:
                self._part = memoryview(encode_frame(frame))
                self._part_size = size
                frames.append(self._next_part())
                break
            self.bytes -= size
            frames.append(frame)
            room -= size

    def _next_part(self) -> Part:
        assert self._part is not None
        piece_bytes = BUNDLE_BYTES_MAX - FRAME_OVERHEAD
        piece, rest = self._part[:piece_bytes], self._part[piece_bytes:]
        if rest:
            self._part = rest
            return Part(False, piece)
        self._part = None
        self.bytes -= self._part_size
        return Part(True, piece)

    def clear(self) -> list[Frame]:
        """Forgets everything, for the next stream; returns the data frames that had not left."""
        dropped = [frame for _, _, frame in self._data]
        self._data.clear()
        self._control.clear()
        self._part = None
        self.bytes = 0
        self._number = 0
        return dropped

    def check(self) -> None:
        """Asserts the invariant of ``bytes``."""
        queued = sum(size for _, size, _ in self._data)
        if self._part is not None:
            queued += self._part_size
        assert self.bytes == queued, f"{self.bytes=} {queued=}"
