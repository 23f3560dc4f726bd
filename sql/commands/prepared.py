"""PREPARE, EXECUTE, DEALLOCATE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import SqlError
from sql import commands
from sql.api import ResultColumn
from sql.commands import handles
from sql.parse import ParsedStatement
from sql.parse import statements as ast
from sql.portals import PreparedStatement, QueryPortal

if TYPE_CHECKING:
    from sql.session import Session


@handles(ast.Prepare)
async def prepare(session: Session, statement: ast.Prepare, portal: QueryPortal) -> None:
    if statement.name in session.statements:
        raise SqlError(f'prepared statement "{statement.name}" already exists', sqlstate="42P05")
    types = tuple(session.view().type_named(t)[0] for t in statement.types)
    inner = ParsedStatement(statement.statement, statement.text, statement.position)
    prepared = await session.prepare(statement.name, statement.text, inner, types)
    prepared.from_sql = True
    prepared.prepared_us = session.server.clock.wall_ns() // 1000
    session.statements[statement.name] = prepared
    session.sink.complete("PREPARE")


def _find(session: Session, name: str) -> PreparedStatement:
    prepared = session.statements.get(name)
    if prepared is None:
        raise SqlError(f'prepared statement "{name}" does not exist', sqlstate="26000")
    return prepared


def _columns(session: Session, statement: ast.Execute) -> tuple[ResultColumn, ...] | None:
    return _find(session, statement.name).columns


async def arguments(session: Session, statement: ast.Execute) -> tuple[PreparedStatement, tuple[object, ...]]:
    """Finds the statement EXECUTE names and computes its parameters."""
    prepared = _find(session, statement.name)
    if len(statement.args) != len(prepared.param_types):
        raise SqlError(
            f'wrong number of parameters for prepared statement "{statement.name}"',
            sqlstate="42601",
            detail=f"Expected {len(prepared.param_types)} parameters but got {len(statement.args)}.",
        )
    values = [await session.evaluate(arg, pg_type) for arg, pg_type in zip(statement.args, prepared.param_types)]
    return prepared, tuple(values)


@handles(ast.Execute, _columns)
async def execute(session: Session, statement: ast.Execute, portal: QueryPortal) -> None:
    prepared, values = await arguments(session, statement)
    await run_prepared(session, prepared, values, portal)


async def run_prepared(
    session: Session, prepared: PreparedStatement, values: tuple[object, ...], portal: QueryPortal
) -> None:
    """Runs a prepared statement with parameter values, in the result formats of ``portal``."""
    assert prepared.parsed is not None
    handler = commands.find(prepared.parsed.statement)
    if handler is not None:
        await handler(session, prepared.parsed.statement, portal)
        return
    entry = await session.current_entry(prepared)
    inner = QueryPortal("", prepared.parsed, entry, values, (), portal.formats)
    inner.must_describe = portal.must_describe
    await session.run_portal(inner, 0)


@handles(ast.Deallocate)
async def deallocate(session: Session, statement: ast.Deallocate, portal: QueryPortal) -> None:
    if statement.name is None:
        session.statements.clear()
        session.sink.complete("DEALLOCATE ALL")
        return
    _find(session, statement.name)
    del session.statements[statement.name]
    session.sink.complete("DEALLOCATE")
