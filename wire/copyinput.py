"""What a client sends while COPY reads: CopyData in a queue, and its end.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from collections.abc import Sequence
from typing import Final

from base.errors import MeridianError, QueryCanceled, SqlError
from base.seams import Scheduler, Waiter
from wire import encode, frontend
from wire.io import ConnectionIo
from wire.output import Output

MESSAGE_BYTES_MAX: Final = 64 << 20
"""Largest message of a logged-in client; a larger one is refused before it is read."""
COPY_QUEUE_BYTES_MAX: Final = 4 << 20
COPY_DATA: Final = 100
COPY_IN_KINDS: Final = b"dcfHS"
_LENGTH: Final = struct.Struct("!I")


class CopyInput(Output):
    """The input buffer of one connection, and the queue of its COPY."""

    def __init__(self, io: ConnectionIo, scheduler: Scheduler) -> None:
        super().__init__(io, scheduler)
        self._input = bytearray()
        self._reading_paused = False
        self._copy: list[bytes | MeridianError | None] | None = None
        self._copy_bytes = 0
        self._copy_waiter: Waiter | None = None

    @abstractmethod
    def _next_message(self) -> bool:
        """Handles one whole message of the input buffer; False if there is none."""

    def copy_in(self, overall_format: int, column_formats: Sequence[int]) -> None:
        self._put(encode.copy_response(b"G", overall_format, column_formats))
        self._copy = []
        self._copy_bytes = 0
        self._flush()

    async def read_copy(self) -> bytes | None:
        assert self._copy is not None
        if not self._copy:
            self._process_copy_input()
        while not self._copy:
            self._copy_waiter = self.scheduler.waiter()
            await self._copy_waiter.wait()
            self._copy_waiter = None
        item = self._copy.pop(0)
        if isinstance(item, MeridianError):
            self.end_copy()
            raise item
        if item is None:
            self.end_copy()
            return None
        self._copy_bytes -= len(item)
        self._resume_reading()
        return item

    def _resume_reading(self) -> None:
        """Reads on if a COPY's queue was what reading had paused for."""
        if self._reading_paused and self._copy_bytes <= COPY_QUEUE_BYTES_MAX // 2:
            self._reading_paused = False
            self.io.resume_reading()

    def _process_copy_input(self) -> None:
        """Takes what already waits in the input buffer, up to the queue's bound."""
        while self._reads_copy() and self._copy_bytes < COPY_QUEUE_BYTES_MAX:
            if not self._take_copy_data() and not self._next_message():
                return

    def _take_copy_data(self) -> bool:
        """Queues the whole CopyData messages at the head of the input buffer as one; False if there is none.

        libpq sends a message for every row; their borders mean nothing.
        """
        buffer = self._input
        parts: list[bytearray] = []
        at, size, length_of = 0, len(buffer), _LENGTH.unpack_from
        while size - at >= 5 and buffer[at] == COPY_DATA:
            (length,) = length_of(buffer, at + 1)
            end = at + 1 + length
            if end > size or length < 4 or length > MESSAGE_BYTES_MAX:
                break
            parts.append(buffer[at + 5 : end])
            at = end
        if not parts:
            return False
        del buffer[:at]
        self._copy_message(COPY_DATA, b"".join(parts))
        return True

    def _reads_copy(self) -> bool:
        """True while messages are a COPY's: what follows its end (the Sync above all) is not."""
        copy = self._copy
        return copy is not None and (not copy or copy[-1].__class__ is bytes)

    def end_copy(self) -> None:
        """A COPY is over, or the session gave up on it: what the client still sends of it is dropped."""
        self._copy = None
        self._copy_bytes = 0
        self._resume_reading()

    def _copy_message(self, kind: int, body: bytes) -> None:
        assert self._copy is not None
        if kind == COPY_DATA:
            self._copy.append(body)
            self._copy_bytes += len(body)
            if self._copy_bytes > COPY_QUEUE_BYTES_MAX and not self._reading_paused:
                self._reading_paused = True
                self.io.pause_reading()
        elif kind == 99:
            self._copy.append(None)
        elif kind == 102:
            reason, _ = frontend.text_at(body, 0)
            self._copy.append(QueryCanceled(f"COPY from stdin failed: {reason}"))
        elif kind not in COPY_IN_KINDS:
            self._copy.append(
                SqlError(f"unexpected message type 0x{kind:02X} during COPY from stdin", sqlstate="08P01")
            )
        if self._copy_waiter is not None and self._copy:
            self._copy_waiter.wake()
