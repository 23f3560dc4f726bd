"""What a connection has to say, until it is sent: the Sink of its session.

Output collects in a buffer and goes to the socket when the client must see it: after ReadyForQuery, on Flush, when COPY
waits for data, or above OUTPUT_FLUSH_BYTES.  Until then ``rewind`` can take it back, which is how a statement is run again
after a conflict without the client noticing.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from base.errors import MeridianError, QueryCanceled
from base.seams import Scheduler, Waiter
from base.typeio import IoSettings
from planner.exec.fast import RowFormat
from sql.api import ResultColumn, RowEncoder, Sink
from wire import encode
from wire.io import ConnectionIo
from wire.rows import row_encoder, row_format

OUTPUT_FLUSH_BYTES: Final = 128 << 10
"""Output is handed to the socket at least this often."""
DESCRIPTIONS_MAX: Final = 1_000
"""RowDescriptions a connection keeps; then it begins anew."""
TAGS_MAX: Final = 1_000
_TAGS: dict[str, bytes] = {}
"""CommandComplete messages by tag; there are few."""


class Output(Sink):
    """The messages of one connection that are not yet sent."""

    def __init__(self, io: ConnectionIo, scheduler: Scheduler) -> None:
        self.io = io
        self.scheduler = scheduler
        self.state = "startup"
        """startup, auth, ready or closed."""
        self.full = False
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._sent = 0
        self._drain_waiter: Waiter | None = None
        self._descriptions: dict[int, tuple[Any, tuple[int, ...], bytes]] = {}

    def pause_writing(self) -> None:
        """The socket's buffer is above its high-water mark."""
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self._drain_waiter is not None:
            waiter, self._drain_waiter = self._drain_waiter, None
            waiter.wake()

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)

    def _flush(self) -> None:
        if self._out:
            self.io.write(b"".join(self._out) if len(self._out) > 1 else self._out[0])
            self._sent += self._out_bytes
            self._out.clear()
            self._out_bytes = 0

    def position(self) -> int:
        return self._sent + self._out_bytes

    def rewind(self, position: int) -> bool:
        if position < self._sent:
            return False
        excess = self._sent + self._out_bytes - position
        while excess > 0:
            last = self._out.pop()
            if len(last) > excess:
                last = last[: len(last) - excess]
                self._out.append(last)
                self._out_bytes -= excess
                return True
            excess -= len(last)
            self._out_bytes -= len(last)
        return True

    def encoder(self, columns: Sequence[ResultColumn], formats: Sequence[int], settings: IoSettings) -> RowEncoder:
        return row_encoder([column.type for column in columns], formats, settings)

    def row_format(
        self, columns: Sequence[ResultColumn], formats: Sequence[int], settings: IoSettings
    ) -> RowFormat | None:
        return row_format([column.type for column in columns], formats, settings)

    def describe(self, columns: Sequence[ResultColumn] | None, formats: Sequence[int] = ()) -> None:
        if columns is None:
            self._put(encode.NO_DATA)
            return
        kept = self._descriptions.get(id(columns))
        if kept is not None and kept[0] is columns and kept[1] == formats:
            self._put(kept[2])
            return
        data = encode.row_description(columns, formats)
        if len(self._descriptions) >= DESCRIPTIONS_MAX:
            self._descriptions.clear()
        self._descriptions[id(columns)] = (columns, tuple(formats), data)
        self._put(data)

    def rows(self, encoded: bytes, count: int) -> None:
        self._out.append(encoded)
        self._out_bytes += len(encoded)
        if self._out_bytes >= OUTPUT_FLUSH_BYTES:
            self._flush()

    def complete(self, tag: str) -> None:
        data = _TAGS.get(tag)
        if data is None:
            data = encode.command_complete(tag)
            if len(_TAGS) < TAGS_MAX:
                _TAGS[tag] = data
        self._out.append(data)
        self._out_bytes += len(data)

    def empty(self) -> None:
        self._put(encode.EMPTY_QUERY)

    def suspended(self) -> None:
        self._put(encode.PORTAL_SUSPENDED)

    def notice(self, severity: str, error: MeridianError) -> None:
        self._put(encode.notice_response(error, severity))

    def copy_out(self, overall_format: int, column_formats: Sequence[int]) -> None:
        self._put(encode.copy_response(b"H", overall_format, column_formats))

    def copy_data(self, chunk: bytes) -> None:
        self._put(encode.copy_data(chunk))
        if self._out_bytes >= OUTPUT_FLUSH_BYTES:
            self._flush()

    def copy_done(self) -> None:
        self._put(encode.COPY_DONE)

    async def drain(self) -> None:
        self._flush()
        if self.state == "closed":
            raise QueryCanceled("client connection lost")
        if self.full:
            self._drain_waiter = self.scheduler.waiter()
            await self._drain_waiter.wait()
