"""Automatic ANALYZE: statistics follow the data, in the background, at a bounded cost.

    commit ── note(): changes per table ── over the threshold? ── due ── one table after the other, with pauses

The rule is PostgreSQL's (routine-vacuuming 25.1.3): a table is due after threshold + scale factor x rows changes since
its last ANALYZE.  Changes are counted per commit: rows as the executor counts them, one per statement where a compiled
plan wrote.  They are kept in memory; a restart forgets them, as it forgets nothing that would be due again soon.
In a cluster one node analyzes, and the others tell it what they have counted.

Bounds: one scan at a time; a page of it may take a tenth of the time, the rest is pause; a table rests between two scans
ten times as long as the first took, and as long as PostgreSQL's launcher sleeps.  While nothing is due there is neither task nor timer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from base.errors import MeridianError, StorageFailure
from kvtier.pace import Pace
from planner.access import table_access
from planner.schema import DatabaseDesc, TableDesc, TableStats
from planner.statistics import analyze_table
from sql.internal import internal_session

if TYPE_CHECKING:
    from sql.server import SqlServer
    from sql.session import Session

THRESHOLD_ROWS: Final = 50
SCALE_FACTOR: Final = 0.1
"""PostgreSQL's autovacuum_analyze_threshold and autovacuum_analyze_scale_factor."""
DELAY_SECONDS: Final = 1.0
"""From being due to the scan: a load that goes on is looked at once, not at every threshold it passes."""
SHARE_INVERSE: Final = 10
"""A scan takes at most one part in so many of the loop's time."""
REST_FACTOR: Final = 10
REST_SECONDS_MIN: Final = 60.0
"""PostgreSQL's autovacuum_naptime: a hot table is not scanned over and over."""
TABLES_MAX: Final = 100_000
"""Tables whose changes are counted; more are simply not noticed."""


class AutoStats:
    """The background statistics of one node."""

    def __init__(self, server: SqlServer) -> None:
        self.server = server
        self.changes: dict[int, int] = {}
        """Rows changed since the last ANALYZE, by table."""
        self.enough: dict[int, float] = {}
        """Changes up to which a table was found not to be due: not looked at again before."""
        self.due: dict[int, None] = {}
        self.rests_until_ns: dict[int, int] = {}
        self.analyzed_us: dict[int, int] = {}
        """When a table was last analyzed here, for pg_stat_user_tables."""
        self.hand_over: Callable[[int, int], bool] = lambda table_id, rows: False
        """Tells the node that analyzes of changed rows; False where that is this one."""
        self.running: Session | None = None
        self.running_table = 0
        """The table of ``running``."""
        self.is_waiting = False
        self.is_stopped = False
        self.analyses = 0

    # --- counting --------------------------------------------------------------

    def note(self, tables: Iterable[int], counted: dict[int, int], statements: int) -> None:
        """A transaction committed that wrote to these tables; ``counted`` rows where the executor told them."""
        changes = self.changes
        for table_id in tables:
            total = changes.get(table_id, 0) + counted.get(table_id, statements)
            changes[table_id] = total
            if total > self.enough.get(table_id, THRESHOLD_ROWS) and table_id not in self.due:
                self._test(table_id, total)

    def add(self, table_id: int, rows: int) -> None:
        """Another node's transactions changed so many rows."""
        total = self.changes[table_id] = self.changes.get(table_id, 0) + rows
        if total > THRESHOLD_ROWS and table_id not in self.due:
            self._test(table_id, total)

    def _test(self, table_id: int, total: int) -> None:
        if self.hand_over(table_id, total):
            self.changes.pop(table_id, None)
            return
        stats = self.server.catalog.stats.get(table_id)
        enough = THRESHOLD_ROWS + SCALE_FACTOR * (stats.rows if stats is not None else 0)
        if total <= enough:
            self.enough[table_id] = enough
            return
        if self.is_stopped or self.server.defaults["autovacuum"] != "on":
            return
        if len(self.changes) > TABLES_MAX:
            self.changes.clear()
            return
        self.due[table_id] = None
        self._wake(DELAY_SECONDS)

    def analyzed(self, table_id: int) -> None:
        """A table was analyzed, by whomever: counting starts anew, and a scan for the same has nothing more to find out."""
        if self.running is not None and self.running_table == table_id:
            self.running.context.canceled = True
        self.changes.pop(table_id, None)
        self.enough.pop(table_id, None)
        self.due.pop(table_id, None)
        self.analyzed_us[table_id] = self.server.clock.wall_ns() // 1000

    def forget(self, table_id: int) -> None:
        """A table is gone."""
        for kept in (self.changes, self.enough, self.due, self.rests_until_ns, self.analyzed_us):
            kept.pop(table_id, None)

    # --- scanning --------------------------------------------------------------

    def _wake(self, seconds: float) -> None:
        if not self.is_waiting:
            self.is_waiting = True
            self.server.scheduler.call_later(seconds, self._start)

    def _start(self) -> None:
        if self.is_stopped or not self.due:
            self.is_waiting = False
            return
        self.server.scheduler.spawn(self._run(), "automatic analyze")

    async def _run(self) -> None:
        """Analyzes what is due and rested; sets the timer for what still rests."""
        clock = self.server.clock
        for table_id in list(self.due):
            if self.is_stopped:
                break
            started_ns = clock.monotonic_ns()
            if self.rests_until_ns.get(table_id, 0) > started_ns:
                continue
            self.due.pop(table_id, None)
            self.changes.pop(table_id, None)
            self.enough.pop(table_id, None)
            await self._analyze(table_id)
            ended_ns = clock.monotonic_ns()
            rest_ns = max(REST_FACTOR * (ended_ns - started_ns), int(REST_SECONDS_MIN * 1e9))
            self.rests_until_ns[table_id] = ended_ns + rest_ns
        self.is_waiting = False
        if self.due and not self.is_stopped:
            soonest = min(self.rests_until_ns.get(table_id, 0) for table_id in self.due)
            self._wake(max(DELAY_SECONDS, (soonest - clock.monotonic_ns()) / 1e9))

    async def _analyze(self, table_id: int) -> None:
        server = self.server
        table = server.catalog.state.table_by_id(table_id)
        database = server.catalog.state.by_id.get(table.database_id) if table is not None else None
        if table is None or table.kind not in ("r", "m") or not isinstance(database, DatabaseDesc):
            self.forget(table_id)
            return
        if table.options.get("autovacuum_enabled") in ("false", "off", "0", "no"):
            return
        self.running = session = internal_session(server, database)
        self.running_table = table.id
        try:
            await self._scan(session, table)
        except StorageFailure:
            self.is_stopped = True
        except MeridianError:
            # A conflict, a shutdown, an overload: the table comes again when it has changed more.
            pass
        finally:
            self.running = None
            await session.block.rollback()

    async def _scan(self, session: Session, table: TableDesc) -> None:
        server = self.server
        pace = Pace(server.clock, SHARE_INVERSE)
        access = table_access(table, session.state().type_by_oid)
        stats: TableStats = await analyze_table(access, session.block.ensure(), session.context, pause=pace.rest)
        current = server.catalog.state.table_by_id(table.id)
        if current is None or self.is_stopped:
            return
        await server.save_stats(table.id, stats)
        self.analyses += 1
        self.analyzed_us[table.id] = server.clock.wall_ns() // 1000

    def stop(self) -> None:
        """Starts nothing more; a scan that runs ends at its next page."""
        self.is_stopped = True
        if self.running is not None:
            self.running.context.canceled = True
