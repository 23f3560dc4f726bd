"""LISTEN, UNLISTEN, NOTIFY."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sql.commands import handles
from sql.notify import queue
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session


@handles(ast.Listen)
async def listen(session: Session, statement: ast.Listen, portal: QueryPortal) -> None:
    session.block.ensure()
    session.pending_listens.append((True, statement.channel))
    session.sink.complete("LISTEN")


@handles(ast.Unlisten)
async def unlisten(session: Session, statement: ast.Unlisten, portal: QueryPortal) -> None:
    session.block.ensure()
    session.pending_listens.append((False, statement.channel))
    session.sink.complete("UNLISTEN")


@handles(ast.Notify)
async def notify(session: Session, statement: ast.Notify, portal: QueryPortal) -> None:
    queue(session.pending_notifications, statement.channel, statement.payload)
    session.block.ensure()
    session.sink.complete("NOTIFY")
