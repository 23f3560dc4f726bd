"""SHOW NODES, and ALTER NODE id DRAIN | DECOMMISSION | RECOMMISSION: what operators ask of the cluster's nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.errors import SqlError
from base.types import BOOL, INT8, TEXT
from sql.api import ResultColumn
from sql.commands import handles, send_rows
from sql.parse.statements import NodeCommand
from sql.regions.topology import locality_text

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session

_COLUMNS: Final = (
    ResultColumn("node_id", INT8), ResultColumn("address", TEXT), ResultColumn("sql_address", TEXT), ResultColumn("locality", TEXT),
    ResultColumn("is_live", BOOL), ResultColumn("state", TEXT), ResultColumn("replicas", INT8), ResultColumn("leases", INT8),
)  # fmt: skip
_LEFT_COLUMNS: Final = (ResultColumn("node_id", INT8), ResultColumn("replicas", INT8))


def _columns(session: Session, statement: NodeCommand) -> tuple[ResultColumn, ...] | None:
    return {"show": _COLUMNS, "decommission": _LEFT_COLUMNS}.get(statement.action)


@handles(NodeCommand, _columns)
async def manage_nodes(session: Session, statement: NodeCommand, portal: QueryPortal) -> None:
    nodes, node_id = session.server.nodes, statement.node_id
    if statement.action == "show":
        rows = [
            (
                node.node_id, node.address, node.sql_address, locality_text(node.locality), node.is_live, node.state,
                node.replicas, node.leases,
            )
            for node in await nodes.status()
        ]  # fmt: skip
        send_rows(session, portal, _COLUMNS, rows)
        session.sink.complete("SHOW")
        return
    if not session.state().is_superuser(session.user):
        raise SqlError("must be superuser to manage nodes", sqlstate="42501")
    if statement.action == "decommission":
        left = await nodes.decommission(node_id)
        send_rows(session, portal, _LEFT_COLUMNS, [(node_id, left)])
    elif statement.action == "drain":
        await nodes.drain(node_id)
    else:
        await nodes.recommission(node_id)
    session.sink.complete("ALTER NODE")
