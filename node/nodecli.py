"""``meridian node``: what an operator does with the nodes of a cluster, over SQL."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    import psycopg

LOCAL_DSN: Final = "postgresql://root@127.0.0.1:26257/defaultdb?sslmode=prefer"
POLL_SECONDS: Final = 1.0

app = typer.Typer(no_args_is_help=True, help="Show, drain and decommission the nodes of a cluster.")

Dsn = Annotated[str, typer.Option("--dsn", "--url", help="Connection string of any node, as a superuser.")]
Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="The node, by its id.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return only when it is done.")]


def _connect(dsn: str) -> psycopg.Connection[Any]:
    from node.shell import connect_or_exit

    return connect_or_exit(dsn)


def _run(connection: psycopg.Connection[Any], statement: str) -> list[tuple[Any, ...]]:
    """Returns the rows of a statement; what it raises ends the command."""
    import psycopg

    try:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description is not None else []
    except psycopg.Error as problem:
        typer.echo(f"meridian: {problem.diag.message_primary or problem}", err=True)
        for more in (problem.diag.message_detail, problem.diag.message_hint):
            if more:
                typer.echo(f"  {more}", err=True)
        raise typer.Exit(1) from None


@app.command()
def status(dsn: Dsn = LOCAL_DSN) -> None:
    """Show every node: where it is, how it is, and what it has."""
    with _connect(dsn) as connection:
        rows = _run(connection, "SHOW NODES")
    titles = ("id", "address", "sql address", "locality", "live", "state", "replicas", "leases")
    texts = [titles, *[tuple([_text(value) for value in row]) for row in rows]]
    widths = [max([len(row[place]) for row in texts]) for place in range(len(titles))]
    for row in texts:
        typer.echo("  ".join([text.ljust(width) for text, width in zip(row, widths)]).rstrip())


def _text(value: object) -> str:
    return "-" if value is None else ("yes" if value else "no") if isinstance(value, bool) else str(value)


@app.command()
def drain(node_id: Id, dsn: Dsn = LOCAL_DSN, wait: Wait = False) -> None:
    """Let a node hand its leases over, end its clients' transactions, and stop."""
    with _connect(dsn) as connection:
        _run(connection, f"ALTER NODE {node_id} DRAIN")
        while wait and any(row[0] == node_id and row[4] for row in _run(connection, "SHOW NODES")):
            time.sleep(POLL_SECONDS)


@app.command()
def decommission(node_id: Id, dsn: Dsn = LOCAL_DSN, wait: Wait = False) -> None:
    """Move all replicas off a node, then take it out of the cluster for good."""
    with _connect(dsn) as connection:
        shown = None
        while True:
            [(_, left)] = _run(connection, f"ALTER NODE {node_id} DECOMMISSION")
            if left != shown:
                typer.echo(
                    f"node {node_id}: {left} replicas left" if left else f"node {node_id} is decommissioned; stop it"
                )
                shown = left
                sys.stdout.flush()
            if not left or not wait:
                return
            time.sleep(POLL_SECONDS)


@app.command()
def recommission(node_id: Id, dsn: Dsn = LOCAL_DSN) -> None:
    """Take back a node that is being decommissioned."""
    with _connect(dsn) as connection:
        _run(connection, f"ALTER NODE {node_id} RECOMMISSION")
