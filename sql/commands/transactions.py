"""BEGIN, COMMIT, ROLLBACK, savepoints, SET TRANSACTION, SET CONSTRAINTS, LOCK TABLE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import FeatureNotSupported, SqlError
from sql.asof import as_of_timestamp
from sql.commands import handles
from sql.controls import modes_of
from sql.ddl.naming import constraints_named
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session


@handles(ast.Begin)
async def begin(session: Session, statement: ast.Begin, portal: QueryPortal) -> None:
    as_of = statement.modes.as_of
    ts = as_of_timestamp(session, as_of) if as_of is not None else 0
    session.block.begin(modes_of(statement.modes))
    if ts:
        session.block.read_as_of(ts)
    session.sink.complete("START TRANSACTION" if statement.is_start else "BEGIN")


def _chained(session: Session) -> dict[str, str]:
    settings = session.settings
    return {
        "isolation": settings["transaction_isolation"],
        "read_only": settings["transaction_read_only"],
        "deferrable": settings["transaction_deferrable"],
    }


def _refuse_idle_chain(session: Session, chain: bool, command: str) -> None:
    if chain and session.transaction_status == "I":
        raise SqlError(f"{command} can only be used in transaction blocks", sqlstate="25P01")


def _warn_idle(session: Session) -> None:
    if session.transaction_status == "I":
        session.notice("WARNING", SqlError("there is no transaction in progress", sqlstate="25P01"))


@handles(ast.Commit)
async def commit(session: Session, statement: ast.Commit, portal: QueryPortal) -> None:
    _refuse_idle_chain(session, statement.chain, "COMMIT AND CHAIN")
    _warn_idle(session)
    modes = _chained(session)
    tag = await session.block.commit()
    if statement.chain:
        session.block.begin(modes)
    session.sink.complete(tag)


@handles(ast.Rollback)
async def rollback(session: Session, statement: ast.Rollback, portal: QueryPortal) -> None:
    _refuse_idle_chain(session, statement.chain, "ROLLBACK AND CHAIN")
    _warn_idle(session)
    modes = _chained(session)
    await session.block.rollback()
    if statement.chain:
        session.block.begin(modes)
    session.sink.complete("ROLLBACK")


@handles(ast.Savepoint)
async def savepoint(session: Session, statement: ast.Savepoint, portal: QueryPortal) -> None:
    session.block.savepoint(statement.name)
    session.sink.complete("SAVEPOINT")


@handles(ast.ReleaseSavepoint)
async def release(session: Session, statement: ast.ReleaseSavepoint, portal: QueryPortal) -> None:
    session.block.release(statement.name)
    session.sink.complete("RELEASE")


@handles(ast.RollbackToSavepoint)
async def rollback_to(session: Session, statement: ast.RollbackToSavepoint, portal: QueryPortal) -> None:
    session.block.rollback_to(statement.name)
    session.sink.complete("ROLLBACK")


@handles(ast.SetTransaction)
async def set_transaction(session: Session, statement: ast.SetTransaction, portal: QueryPortal) -> None:
    if statement.snapshot is not None:
        raise FeatureNotSupported("SET TRANSACTION SNAPSHOT is not supported")
    modes = modes_of(statement.modes)
    if statement.session:
        names = {"isolation": "default_transaction_isolation", "read_only": "default_transaction_read_only"}
        for key, value in modes.items():
            session.settings.set(names.get(key, "default_transaction_deferrable"), value)
    elif not session.is_in_block:
        session.notice("WARNING", SqlError("SET TRANSACTION can only be used in transaction blocks", sqlstate="25P01"))
    else:
        session.block.set_modes(modes)
        if statement.modes.as_of is not None:
            session.block.read_as_of(as_of_timestamp(session, statement.modes.as_of))
    session.sink.complete("SET")


@handles(ast.SetConstraints)
async def set_constraints(session: Session, statement: ast.SetConstraints, portal: QueryPortal) -> None:
    if not session.is_in_block:
        session.notice("WARNING", SqlError("SET CONSTRAINTS can only be used in transaction blocks", sqlstate="25P01"))
    if not statement.names:
        session.context.constraint_modes = {(0, ""): statement.deferred}
    for name in statement.names:
        for place in _deferrable(session, name, statement.deferred):
            session.context.constraint_modes[place] = statement.deferred
    if not statement.deferred:
        await session.run_deferred(is_commit=False)
    session.sink.complete("SET CONSTRAINTS")


def _deferrable(session: Session, name: ast.Name, is_deferred: bool) -> list[tuple[int, str]]:
    """Tables and names of the deferrable constraints that are meant: those in the first schema of the path with any."""
    view = session.view()
    if name.schema is not None and not view.schema_exists(name.schema):
        raise SqlError(f'schema "{name.schema}" does not exist', sqlstate="3F000")
    for schema in [name.schema] if name.schema is not None else view.effective_path():
        found = [
            (table.id, name.name, is_deferrable)
            for table in view.state.tables(view.database_id)
            if view.schema_name(table.schema_id) == schema
            for is_deferrable in constraints_named(table, name.name)
        ]
        if found:
            if is_deferred and not all(is_deferrable for _, _, is_deferrable in found):
                raise SqlError(f'constraint "{name.name}" is not deferrable', sqlstate="42809")
            return [(table_id, label) for table_id, label, is_deferrable in found if is_deferrable]
    raise SqlError(f'constraint "{name.name}" does not exist', sqlstate="42704")


@handles(ast.LockTable)
async def lock_table(session: Session, statement: ast.LockTable, portal: QueryPortal) -> None:
    if not session.is_in_block:
        raise SqlError("LOCK TABLE can only be used in transaction blocks", sqlstate="25P01")
    for name in statement.tables:
        table = session.view().table(name)
        if statement.mode not in ("ACCESS SHARE", "ROW SHARE"):
            exclusive = statement.mode != "ROW EXCLUSIVE"
            await session.block.lock_table(table.id, table.name, exclusive, statement.nowait)
    session.sink.complete("LOCK TABLE")
