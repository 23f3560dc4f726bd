"""Sessions without a client: what the node itself runs in SQL (clearing up, statistics).

They are the superuser's, speak to nobody, and are not among the server's sessions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from base.errors import InternalError, MeridianError
from base.typeio import IoSettings
from planner.schema import DatabaseDesc
from sql.api import ResultColumn, RowEncoder, Sink
from sql.catalog.state import SUPERUSER
from sql.session import Session

if TYPE_CHECKING:
    from sql.server import SqlServer

INTERNAL_PID = 0
"""No client's session has it."""


class QuietSink(Sink):
    """Takes everything and keeps nothing."""

    def __init__(self) -> None:
        self.full = False

    def encoder(self, columns: Sequence[ResultColumn], formats: Sequence[int], settings: IoSettings) -> RowEncoder:
        return lambda row: b""

    def describe(self, columns: Sequence[ResultColumn] | None, formats: Sequence[int] = ()) -> None: ...

    def rows(self, encoded: bytes, count: int) -> None: ...

    def complete(self, tag: str) -> None: ...

    def empty(self) -> None: ...

    def suspended(self) -> None: ...

    def notice(self, severity: str, error: MeridianError) -> None: ...

    def parameter_status(self, name: str, value: str) -> None: ...

    def notification(self, pid: int, channel: str, payload: str) -> None: ...

    def copy_in(self, overall_format: int, column_formats: Sequence[int]) -> None: ...

    def read_copy(self) -> Awaitable[bytes | None]:
        raise InternalError("a session without a client reads no COPY data")

    def end_copy(self) -> None: ...

    def copy_out(self, overall_format: int, column_formats: Sequence[int]) -> None: ...

    def copy_data(self, chunk: bytes) -> None: ...

    def copy_done(self) -> None: ...

    async def drain(self) -> None: ...

    def position(self) -> int:
        return 0

    def rewind(self, position: int) -> bool:
        return True


def internal_session(server: SqlServer, database: DatabaseDesc) -> Session:
    """Makes a session of the superuser in a database; its maker commits or rolls back its block, and drops it."""
    return Session(server, INTERNAL_PID, b"", server.catalog.state.roles[SUPERUSER], database, QuietSink())
