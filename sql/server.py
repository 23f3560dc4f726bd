"""What all sessions of a node share, and the door to new ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from base.eager import Eager
from base.errors import SqlError
from base.hlc import LOGICAL_BITS, LOGICAL_MASK
from base.seams import Clock, Rng, Scheduler
from kvtier.client import Kv
from planner.functions.registry import Registry
from planner.schema import TableStats
from sql import commands
from sql.advisory import AdvisoryLocks
from sql.agreement.node import Agreement
from sql.api import Server, SessionApi, Sink
from sql.autostats import AutoStats
from sql.catalog.cache import Catalog
from sql.catalog.changes import Change
from sql.catalog.keys import stats_key
from sql.catalog.state import Desc, RoleDesc, spans_gone
from sql.controls import Control, control_of
from sql.notify import Notifications
from sql.parse.shapes import Shapes
from sql.pgcatalog.storedtext import PrintedTexts
from sql.plancache import PlanCache
from sql.regions.topology import Locality, NodePlace, NodesApi, RangePlace
from sql.sequences import Sequences
from sql.session import Session
from sql.tablelocks import TableLocks
from txn.point import PointReader

CONNECTIONS_MAX: Final = 500
RESERVED_CONNECTIONS: Final = 3
"""Left for superusers when all others are taken, as superuser_reserved_connections."""
PID_MAX: Final = 2**31 - 1
CONTROLS_MAX: Final = 1_000
"""Texts of controls remembered; then it begins anew."""
CONTROL_CHARS_MAX: Final = 100
CANCEL_KEY_BYTES: Final = 4
"""Protocol 3.0 has room for a 32-bit key."""


async def _no_ranges(start: bytes, end: bytes) -> list[RangePlace]:
    return []


class SqlServer(Server):
    """One node's SQL layer."""

    def __init__(
        self,
        kv: Kv,
        coordinator: Any,
        catalog: Catalog,
        registry: Registry,
        clock: Clock,
        rng: Rng,
        scheduler: Scheduler,
        defaults: dict[str, str],
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        commands.load()
        self.kv = kv
        self.coordinator = coordinator
        self.catalog = catalog
        self.registry = registry
        self.clock = clock
        self.rng = rng
        self.scheduler = scheduler
        self.defaults = defaults
        self.connections_max = connections_max
        self.sequences = Sequences(kv)
        self.table_locks = TableLocks(scheduler)
        self.plans = PlanCache()
        self.printed = PrintedTexts()
        self.autostats = AutoStats(self)
        self.shapes = Shapes()
        self.reader = PointReader(kv)
        self.notifications = Notifications()
        self.advisory_locks = AdvisoryLocks(scheduler)
        self.sessions: dict[int, Session] = {}
        self.controls: dict[str, Control] = {}
        """By their texts."""
        self.started_us = clock.wall_ns() // 1000
        self.statements = 0
        """Statements run since start, for metrics."""
        self.retries = 0
        """Transactions and statements run again after a 40001 without the client being told."""
        self.stored_bytes: Callable[[], int] = lambda: 0
        """Set by the node: size of the store."""
        self.describe_ranges: Callable[[bytes, bytes], Awaitable[list[RangePlace]]] = _no_ranges
        """Set by the node: the ranges that overlap a span."""
        self.locality: Locality = ()
        """Of this node; set by it."""
        self.topology: Callable[[], list[NodePlace]] = lambda: [NodePlace(0, self.locality)]
        """Set by the node: the nodes of the cluster."""
        self.agreement: Agreement | None = None
        """Set by a node that is one of several: how they agree on the catalog."""
        self.rtt_ms: Callable[[str, str], float | None] = lambda one, other: 0.0 if one == other else None
        """Set by the node: round trips between regions, as far as they are known."""
        self.nodes = NodesApi()
        """Set by the node: what operators ask of nodes."""
        self._last_pid = 0
        self._last_rowid_us = 0

    def scram_secret(self, user: str) -> Eager[str | None]:
        role = self.catalog.state.roles.get(user)
        if role is None or not role.can_login or not role.secret:
            return None
        return role.secret

    def open_session(self, user: str, database: str, options: dict[str, str], sink: Sink) -> Eager[SessionApi]:
        state = self.catalog.state
        role = state.roles.get(user)
        if role is None:
            raise SqlError(f'role "{user}" does not exist', sqlstate="28000")
        if not role.can_login:
            raise SqlError(f'role "{user}" is not permitted to log in', sqlstate="28000")
        limit = self.connections_max - (0 if role.superuser else RESERVED_CONNECTIONS)
        if len(self.sessions) >= limit:
            raise SqlError("sorry, too many clients already", sqlstate="53300")
        if 0 <= role.connection_limit <= sum(s.user == user for s in self.sessions.values()):
            raise SqlError(f'too many connections for role "{user}"', sqlstate="53300")
        desc = state.database(database)
        if desc is None:
            raise SqlError(f'database "{database}" does not exist', sqlstate="3D000")
        session = Session(self, self._new_pid(), self.rng.bytes(CANCEL_KEY_BYTES), role, desc, sink)
        session.apply_startup_options({**desc.settings, **role.settings, **options})
        self.sessions[session.pid] = session
        return session

    def cancel(self, pid: int, key: bytes) -> None:
        session = self.sessions.get(pid)
        if session is not None and session.cancel_key == key:
            session.cancel()

    def parameter_statuses(self, session: SessionApi) -> list[tuple[str, str]]:
        assert isinstance(session, Session)
        return session.settings.reported()

    def remember_control(self, text: str, statement: object) -> None:
        """Learns that a text is a control, so that it need not be parsed again."""
        control = control_of(statement)
        if control is None or len(text) > CONTROL_CHARS_MAX:
            return
        if len(self.controls) >= CONTROLS_MAX:
            self.controls.clear()
        self.controls[text] = control

    def kv_bytes(self) -> int:
        """Bytes the store holds, for pg_database_size."""
        return self.stored_bytes()

    def agree(self, agreement: Agreement) -> None:
        """Makes this the SQL layer of one of several nodes."""
        self.agreement = self.sequences.agreement = agreement
        self.autostats.hand_over = agreement.hand_over

    async def save_stats(self, table_id: int, stats: TableStats) -> None:
        """Keeps what ANALYZE found; plans made before are made again, on all nodes."""
        if self.agreement is None:
            await self.catalog.save_stats(table_id, stats)
        else:
            row = (stats_key(table_id), msgspec.msgpack.encode(stats))
            await self.agreement.change(Change(stats=(table_id,)), [row])
            self.catalog.stats[table_id] = stats
            self.agreement.keeper.tell_all()
        self.plans.forget_table(table_id)

    def unique_rowid(self) -> int:
        """Returns a number that no node gives twice: a timestamp, in a cluster with the node in its last bits."""
        ts = self.kv.now()
        if self.agreement is None:
            return ts
        # A microsecond each: a burst runs ahead of the clock, never further than a restart takes.
        self._last_rowid_us = max(self._last_rowid_us + 1, ts >> LOGICAL_BITS)
        return self._last_rowid_us << LOGICAL_BITS | (self.agreement.node_id & LOGICAL_MASK)

    def publish(
        self,
        descs: Mapping[int, Desc | None],
        roles: Mapping[str, RoleDesc | None],
        ts: int,
        publisher: Session | None = None,
    ) -> None:
        """Makes a committed change of the catalog what everybody here plans with.

        Transactions that depend on what the new descriptors do not keep any more cannot commit.
        """
        spans = spans_gone(self.catalog.state, descs)
        self.catalog.publish(descs, roles, ts)
        if spans:
            for session in self.sessions.values():
                if session is not publisher:
                    session.block.spoil(spans)

    def forget(self, session: Session) -> None:
        """Called by a session that closes."""
        self.sessions.pop(session.pid, None)

    def _new_pid(self) -> int:
        while True:
            self._last_pid = self._last_pid % PID_MAX + 1
            if self._last_pid not in self.sessions:
                return self._last_pid
