"""DECLARE, FETCH, MOVE, CLOSE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from base.errors import SqlError
from kvtier.messages import Isolation
from sql.analyze import Analyzer
from sql.api import ResultColumn
from sql.commands import handles
from sql.parse import ParsedStatement
from sql.parse import statements as ast
from sql.portals import QueryPortal

if TYPE_CHECKING:
    from sql.session import Session


@handles(ast.DeclareCursor)
async def declare(session: Session, statement: ast.DeclareCursor, portal: QueryPortal) -> None:
    if not session.is_in_block and not statement.hold:
        raise SqlError("DECLARE CURSOR can only be used in transaction blocks", sqlstate="25P01")
    if statement.name in session.portals:
        raise SqlError(f'cursor "{statement.name}" already exists', sqlstate="42P03")
    parsed = ParsedStatement(statement.query, statement.text, statement.position)
    entry = await Analyzer(session).cursor_entry(parsed)
    formats = (1,) if statement.binary else ()
    cursor = QueryPortal(statement.name, parsed, entry, portal.params, (), formats)
    cursor.is_holdable = statement.hold
    session.has_holdable = session.has_holdable or statement.hold
    locks = statement.query.tree.args.get("locks")
    if statement.scroll and locks:
        text = "DECLARE SCROLL CURSOR ... FOR UPDATE is not supported"
        raise SqlError(text, sqlstate="0A000", detail="Scrollable cursors must be READ ONLY.")
    cursor.is_scroll = statement.scroll is not False and not locks
    cursor.created_us = session.server.clock.wall_ns() // 1000
    await session.start_portal(cursor)
    session.portals[statement.name] = cursor
    session.has_cursors = True
    if session.block.ensure().isolation is Isolation.READ_COMMITTED:
        # The next statement moves the snapshot, and the cursor keeps its own.
        await cursor.settle()
    session.sink.complete("DECLARE CURSOR")


def _find(session: Session, name: str) -> QueryPortal:
    cursor = session.portals.get(name)
    if cursor is None:
        raise SqlError(f'cursor "{name}" does not exist', sqlstate="34000")
    return cursor


def _columns(session: Session, statement: ast.Fetch) -> tuple[ResultColumn, ...] | None:
    return None if statement.is_move else _find(session, statement.cursor).columns


@handles(ast.Fetch, _columns)
async def fetch(session: Session, statement: ast.Fetch, portal: QueryPortal) -> None:
    cursor = _find(session, statement.cursor)
    assert cursor.entry is not None
    rows = await _fetch(cursor, statement)
    _stand(cursor, statement, rows)
    if portal.must_describe:
        portal.columns = cursor.columns
        session.announce(portal)
    if not statement.is_move and cursor.columns is not None:
        formats = portal.formats or cursor.formats
        encode = session.sink.encoder(cursor.columns, formats, session.io)
        for start in range(0, len(rows), 1024):
            batch = rows[start : start + 1024]
            if cursor.entry.statement.keys:
                # Behind the columns are keys that only WHERE CURRENT OF wants.
                batch = [row[: len(cursor.columns)] for row in batch]
            session.sink.rows(b"".join([encode(row) for row in batch]), len(batch))
            if session.sink.full:
                await session.sink.drain()
    session.sink.complete(f"{'MOVE' if statement.is_move else 'FETCH'} {len(rows)}")


def _stand(cursor: QueryPortal, statement: ast.Fetch, rows: list[tuple[Any, ...]]) -> None:
    """Remembers the row that the cursor stands on now; None before the first and after the last."""
    if cursor.rows is not None:
        at = cursor.position
        cursor.current = cursor.rows[at - 1] if 1 <= at <= len(cursor.rows) else None
    else:
        # Going forward: fewer rows than were asked for means that the end was passed.
        is_short = statement.count is None or len(rows) < statement.count
        cursor.current = rows[-1] if rows and not is_short else None


async def _fetch(cursor: QueryPortal, statement: ast.Fetch) -> list[tuple[Any, ...]]:
    """``cursor.position`` is the row the cursor stands on, counted from 1; 0 is before the first."""
    direction, count = statement.direction, statement.count
    if cursor.rows is None and direction == "forward" and (count is None or count > 0):
        return await _forward(cursor, count)
    if not cursor.is_scroll and not (direction == "forward" and (count is None or count > 0)):
        raise SqlError(
            "cursor can only scan forward",
            sqlstate="55000",
            hint="Declare it with SCROLL option to enable backward scan.",
        )
    await _materialise(cursor)
    assert cursor.rows is not None
    return _scrolled(cursor, cursor.rows, direction, count)


async def _forward(cursor: QueryPortal, count: int | None) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    at_end = False
    while count is None or len(rows) < count:
        batch = await cursor.next_rows(0 if count is None else count - len(rows))
        if not batch:
            at_end = True
            break
        rows.extend(batch)
    if cursor.is_scroll:
        cursor.seen = cursor.seen + rows
    cursor.position += len(rows) + (1 if at_end else 0)
    return rows


async def _materialise(cursor: QueryPortal) -> None:
    if cursor.rows is None:
        await cursor.materialise()


def _scrolled(
    cursor: QueryPortal, rows: list[tuple[Any, ...]], direction: str, count: int | None
) -> list[tuple[Any, ...]]:
    size, here = len(rows), cursor.position
    if direction in ("absolute", "relative"):
        assert count is not None
        target = here + count if direction == "relative" else count if count >= 0 else size + 1 + count
        cursor.position = min(max(target, 0), size + 1)
        return [rows[cursor.position - 1]] if 1 <= cursor.position <= size and target == cursor.position else []
    if count is not None and count < 0:
        direction, count = ("backward" if direction == "forward" else "forward"), -count
    if count == 0:
        return [rows[here - 1]] if 1 <= here <= size else []
    if direction == "forward":
        stop = size if count is None else min(here + count, size)
        result = rows[here:stop]
        cursor.position = size + 1 if count is None or here + count > size else here + count
        return result
    start = 0 if count is None else max(here - 1 - count, 0)
    result = rows[start : max(here - 1, 0)][::-1]
    cursor.position = 0 if count is None or here - count < 1 else here - count
    return result


@handles(ast.CloseCursor)
async def close(session: Session, statement: ast.CloseCursor, portal: QueryPortal) -> None:
    if statement.name is None:
        for name in list(session.portals):
            if session.portals[name] is not portal:
                session.close_portal(name)
        session.sink.complete("CLOSE CURSOR ALL")
        return
    _find(session, statement.name)
    session.close_portal(statement.name)
    session.sink.complete("CLOSE CURSOR")
