"""The ExecContext of a session: what running functions may ask."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

from base.errors import QueryCanceled, SqlError
from base.typeio import IoSettings
from base.types import PgType
from planner.context import ExecContext, NeedsAwait
from planner.schema import TableDesc
from sql.regions.topology import region_of

if TYPE_CHECKING:
    from sql.session import Session

TURN_NS: Final = 5_000_000
"""How long a statement may keep the loop: a few batches of a scan."""
PG_EPOCH_US: Final = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970: what timestamptz datums count from."""


class SessionContext(ExecContext):
    """One per session, changed from statement to statement."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._slept = False
        self._statement_time = 0
        self._transaction_time = 0
        self.user = session.user
        self.session_user = session.user
        self.database = session.database
        self.region = region_of(session.server.locality)
        self.search_path: tuple[str, ...] = ("public",)
        self.timezone = "UTC"
        self.canceled = False
        self.deadline_ns = 0
        self.turn_ns = 0
        """When the statement's turn on the loop began, as far as it has asked; 0 until then."""
        self.memory_used = 0
        self.memory_limit = 0
        self.deferred: list[Any] = []
        """Constraint checks to run at commit (or SET CONSTRAINTS .. IMMEDIATE)."""
        self.constraint_modes: dict[tuple[int, str], bool] = {}
        """SET CONSTRAINTS of this transaction: table and name (0 and "" are ALL) to whether it is deferred."""
        self.changes: dict[int, int] = {}
        """Rows that this transaction wrote, by table, where not a compiled plan did."""
        self.currvals: dict[int, int] = {}
        self.last_sequence = 0
        self._seeded: float | None = None

    @property
    def statement_time(self) -> int:  # type: ignore[override]  # read once, where a statement asks
        """Start of the statement; taken when it is first asked for within it."""
        if not self._statement_time:
            self._statement_time = self.clock_time()
        return self._statement_time

    @property
    def transaction_time(self) -> int:
        """Start of the transaction: of its first statement that asked, at the latest."""
        if not self._transaction_time:
            self._transaction_time = self.statement_time
        return self._transaction_time

    @transaction_time.setter
    def transaction_time(self, value: int) -> None:
        self._transaction_time = value

    def begin_statement(self, statement_timeout_ms: int) -> None:
        """Starts the statement's time and its deadline."""
        if self.session.block.meter is not None:
            self.session.block.meter.restart(self.session.max_wan_hops)
        self._statement_time = 0
        self.turn_ns = 0
        self.deadline_ns = (
            self.session.server.clock.monotonic_ns() + statement_timeout_ms * 1_000_000 if statement_timeout_ms else 0
        )

    def now_us(self) -> int:
        """What 'now' means in date and time input: the start of the transaction."""
        return self.transaction_time

    def clock_time(self) -> int:
        return self.session.server.clock.wall_ns() // 1000 - PG_EPOCH_US

    def random(self) -> float:
        if self._seeded is not None:
            # A linear congruential step (Knuth, MMIX): only repeatability after setseed() is promised.
            state = (int(self._seeded) * 6364136223846793005 + 1442695040888963407) % 2**64
            self._seeded = float(state >> 11)
            return (state >> 11) / 2**53
        return self.session.server.rng.random()

    def set_seed(self, seed: float) -> None:
        if not -1 <= seed <= 1:
            raise SqlError(f"setseed parameter {seed:g} is out of allowed range [-1,1]", sqlstate="22023")
        self._seeded = float(int((seed + 1) * 2**51))

    def random_bytes(self, n: int) -> bytes:
        return self.session.server.rng.bytes(n)

    def setting(self, name: str) -> str | None:
        return self.session.setting(name)

    def set_setting(self, name: str, value: str, is_local: bool) -> str:
        return self.session.set_parameter(name, value, is_local)

    def schema_name(self, schema_id: int) -> str | None:
        return self.session.view().schema_name(schema_id)

    def catalog(self) -> Any:
        return self.session.view()

    @property
    def io(self) -> IoSettings:
        """How values are read and printed, with names for the reg* types."""
        return self.session.literal_io()

    def sleep(self, seconds: float) -> Awaitable[Any] | None:
        if self._slept:
            self._slept = False
            return None
        return self._sleep(seconds)

    async def _sleep(self, seconds: float) -> None:
        await self.session.server.clock.sleep(seconds)
        self._slept = True

    def cursor_key(self, cursor: str, table_oid: int) -> tuple[Any, ...]:
        portal = self.session.portals.get(cursor)
        if portal is None or not portal.created_us:
            raise SqlError(f'cursor "{cursor}" does not exist', sqlstate="34000")
        if portal.is_held:
            raise SqlError(f'cursor "{cursor}" is held from a previous transaction', sqlstate="24000")
        places = portal.entry.statement.keys.get(table_oid) if portal.entry is not None else None
        if places is None:
            table = self.session.state().table_by_id(table_oid)
            name = table.name if table is not None else "?"
            raise SqlError(f'cursor "{cursor}" is not a simply updatable scan of table "{name}"', sqlstate="24000")
        if portal.current is None:
            raise SqlError(f'cursor "{cursor}" is not positioned on a row', sqlstate="24000")
        return tuple([portal.current[place] for place in places])

    # --- sequences -------------------------------------------------------------

    def _sequence(self, oid: int) -> TableDesc:
        desc = self.session.state().table_by_id(oid)
        if desc is None:
            raise SqlError(f"could not open relation with OID {oid}", sqlstate="42P01")
        if desc.sequence is None:
            raise SqlError(f'"{desc.name}" is not a sequence', sqlstate="42809")
        return desc

    def nextval(self, sequence_oid: int) -> int:
        desc = self._sequence(sequence_oid)
        assert desc.sequence is not None
        sequences = self.session.server.sequences
        value = sequences.try_next(sequence_oid, desc.sequence, desc.name)
        if value is None:
            claimed = sequences.refill(sequence_oid, desc.sequence, desc.name)
            if claimed is None:
                raise NeedsAwait(sequences.claim(sequence_oid, desc.sequence, desc.name))
            value = claimed[0]
            self.session.block.wait_for(claimed[1])
        self.currvals[sequence_oid] = value
        self.last_sequence = sequence_oid
        return value

    def currval(self, sequence_oid: int) -> int:
        desc = self._sequence(sequence_oid)
        if sequence_oid not in self.currvals:
            raise SqlError(f'currval of sequence "{desc.name}" is not yet defined in this session', sqlstate="55000")
        return self.currvals[sequence_oid]

    def setval(self, sequence_oid: int, value: int, is_called: bool) -> int:
        desc = self._sequence(sequence_oid)
        assert desc.sequence is not None
        done = self.session.refilled.pop(-sequence_oid, None)
        if done != value:
            raise NeedsAwait(self._setval(sequence_oid, desc, value, is_called))
        if is_called:
            self.currvals[sequence_oid] = value
        return value

    async def _setval(self, oid: int, desc: TableDesc, value: int, is_called: bool) -> None:
        assert desc.sequence is not None
        self.session.refilled[-oid] = await self.session.server.sequences.set_value(
            oid, value, is_called, desc.sequence, desc.name
        )

    def lastval(self) -> int:
        if self.last_sequence not in self.currvals:
            raise SqlError("lastval is not yet defined in this session", sqlstate="55000")
        return self.currvals[self.last_sequence]

    # --- limits ----------------------------------------------------------------

    def check_interrupt(self) -> None:
        if self.canceled:
            self.canceled = False
            raise QueryCanceled("canceling statement due to user request")
        if self.deadline_ns and self.session.server.clock.monotonic_ns() > self.deadline_ns:
            self.deadline_ns = 0
            raise QueryCanceled("canceling statement due to statement timeout")

    def end_turn(self) -> Awaitable[None] | None:
        now_ns = self.session.server.clock.monotonic_ns()
        if not self.turn_ns:
            self.turn_ns = now_ns  # Short statements never look at the clock.
        return self._rest() if now_ns - self.turn_ns > TURN_NS else None

    async def _rest(self) -> None:
        clock = self.session.server.clock
        await clock.sleep(0)
        self.turn_ns = clock.monotonic_ns()
        self.check_interrupt()

    def memory(self, delta_bytes: int) -> None:
        self.memory_used += delta_bytes
        if self.memory_used > self.memory_limit > 0 and delta_bytes > 0:
            raise SqlError(
                "out of memory",
                sqlstate="53200",
                detail=f"The statement holds {self.memory_used} bytes; its limit is {self.memory_limit}.",
            )

    def count_changes(self, table_oid: int, rows: int) -> None:
        self.changes[table_oid] = self.changes.get(table_oid, 0) + rows

    def notice(self, severity: str, message: str) -> None:
        self.session.notice(severity, SqlError(message, sqlstate="00000" if severity != "WARNING" else "01000"))

    def type_by_oid(self, oid: int) -> PgType | None:
        return self.session.state().type_by_oid(oid)

    def is_deferred(self, table_id: int, name: str, initially_deferred: bool) -> bool:
        """Whether a deferrable constraint waits for the commit in this transaction."""
        modes = self.constraint_modes
        return modes.get((table_id, name), modes.get((0, ""), initially_deferred)) if modes else initially_deferred

    def defer(self, check: Any) -> None:
        """Queues a constraint check for the end of the transaction."""
        self.deferred.append(check)
