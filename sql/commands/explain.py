"""EXPLAIN [ANALYZE]: the plan as text or JSON, as PostgreSQL prints it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from base.errors import FeatureNotSupported, SqlError
from base.types import JSON, TEXT
from kvtier.messages import Isolation
from planner.explain_plan import explain, explain_json
from sql import commands
from sql.analyze import Analyzer
from sql.api import ResultColumn
from sql.commands import handles, send_rows
from sql.commands.prepared import arguments
from sql.parse import ParsedStatement
from sql.parse import statements as ast
from sql.portals import QueryPortal
from sql.regions.topology import region_of, require_region, zones_by_region
from sql.transactions import LEVELS

if TYPE_CHECKING:
    from kvtier.replication.crossings import Meter
    from sql.plancache import PlanEntry
    from sql.session import Session


def _columns(session: Session, statement: ast.Explain) -> tuple[ResultColumn, ...]:
    is_json = statement.options.get("format", "text") == "json"
    return (ResultColumn("QUERY PLAN", JSON if is_json else TEXT),)


def _on(statement: ast.Explain, option: str, default: str = "false") -> bool:
    return statement.options.get(option, default).lower() in ("true", "on", "1")


@handles(ast.Explain, _columns)
async def explain_statement(session: Session, statement: ast.Explain, portal: QueryPortal) -> None:
    style = statement.options.get("format", "text")
    if style not in ("text", "json"):
        raise FeatureNotSupported(f"EXPLAIN (FORMAT {style.upper()}) is not supported")
    inner = statement.statement
    if isinstance(inner, ast.CreateTableAs) and isinstance(inner.query, ast.Query):
        inner = inner.query
    if isinstance(inner, ast.DeclareCursor):
        inner = inner.query
    if isinstance(inner, ast.Execute):
        prepared, values = await arguments(session, inner)
        if prepared.entry is not None:
            await _show(session, statement, portal, await session.current_entry(prepared), values)
            return
    if commands.find(inner) is not None:
        raise SqlError("EXPLAIN takes a query or a statement that changes rows", sqlstate="42601")
    entry = await Analyzer(session).entry(ParsedStatement(inner, statement.text, statement.position), ())
    await _show(session, statement, portal, entry, ())


async def _show(
    session: Session, statement: ast.Explain, portal: QueryPortal, entry: PlanEntry, values: tuple[Any, ...]
) -> None:
    style = statement.options.get("format", "text")
    cursor, elapsed = None, 0
    if _on(statement, "analyze"):
        cursor, elapsed = await _run(session, entry, values)
    costs = _on(statement, "costs", "true")
    if style == "json":
        plan = explain_json(entry.plan, cursor)
        rows: list[tuple[Any, ...]] = [(json.dumps([{"Plan": plan}], indent=2),)]
    else:
        lines = explain(
            entry.plan, cursor, costs=costs, timing=_on(statement, "timing", "true"), verbose=_on(statement, "verbose")
        )
        if _on(statement, "wan") or "gateway" in statement.options:
            lines += _forecast(session, statement, entry)
        meter = session.block.meter
        if cursor is not None and meter is not None:
            lines += _crossings(meter)
        if cursor is not None and _on(statement, "summary", "true"):
            lines.append(f"Execution Time: {elapsed / 1e6:.3f} ms")
        rows = [(line,) for line in lines]
    send_rows(session, portal, _columns(session, statement), rows)
    session.sink.complete("EXPLAIN")


def _forecast(session: Session, statement: ast.Explain, entry: PlanEntry) -> list[str]:
    """What the statement needs of other regions, for clients of this node's region or of the one that GATEWAY names."""
    from sql.regions.wan import Forecast

    server = session.server
    gateway = statement.options.get("gateway") or region_of(server.locality)
    if not gateway:
        raise SqlError("this node is in no region", sqlstate="22023", hint="EXPLAIN (WAN, GATEWAY '<region>') ..")
    require_region(server.topology(), gateway)
    # A block has its own; a statement outside of one begins its transaction only when it runs.
    setting = "default_transaction_isolation" if session.block.status == "I" else "transaction_isolation"
    isolation = LEVELS[session.settings[setting]]
    forecast = Forecast(session.state(), gateway, server.rtt_ms, isolation == Isolation.SERIALIZABLE)
    forecast.add_plan(entry.plan)
    return forecast.lines()


def _crossings(meter: Meter) -> list[str]:
    """How often the statement waited for other regions, without its commit, which comes after this."""
    lines = [f"Cross-Region Round Trips: {meter.round_trips}"]
    if meter.regions:
        lines[0] += f" ({', '.join(f'{region}: {count}' for region, count in sorted(meter.regions.items()))})"
        lines.append(f"Cross-Region Time: {meter.waited_ns / 1e6:.3f} ms")
    return lines


async def _run(session: Session, entry: PlanEntry, values: tuple[Any, ...]) -> tuple[Any, int]:
    """Runs the plan to its end with counters."""
    clock = session.server.clock
    if len(zones_by_region(session.server.topology())) > 1:
        session.block.measure()
    probe = QueryPortal("", None, entry, values, (), ())
    begun = clock.monotonic_ns()
    await session.start_counted(probe, clock.monotonic_ns)
    while True:
        fetched = probe.cursor.fetch(0)
        rows = fetched if fetched.__class__ is list else await fetched
        if not rows:
            break
    return probe.cursor, clock.monotonic_ns() - begun
