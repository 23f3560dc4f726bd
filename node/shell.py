"""``meridian sql``: a small prompt over psycopg; psql is the full one."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.table import Table
from rich.text import Text

ROWS_SHOWN_MAX: Final = 10_000


def run(dsn: str, statements: Sequence[str]) -> int:
    """Runs the statements, or a prompt if there are none; returns the exit code."""
    connection = connect_or_exit(dsn)
    console = Console()
    with connection:
        connection.add_notice_handler(
            lambda diagnostic: console.print(f"{diagnostic.severity}: {diagnostic.message_primary}", markup=False)
        )
        if statements:
            return 0 if all([execute(connection, statement, console) for statement in statements]) else 1
        return _prompt(connection, console)


def connect_or_exit(dsn: str) -> psycopg.Connection[Any]:
    """Connects, or says why not and ends the command."""
    try:
        return _connect(dsn)
    except psycopg.Error as problem:
        text = str(problem).strip().splitlines()[-1]
        print(f"meridian: cannot connect: {text}", file=sys.stderr)
        print(f"  {_hint(text)}", file=sys.stderr)
        raise SystemExit(1) from None


def _connect(dsn: str) -> psycopg.Connection[Any]:
    """Connects; asks for the password where one is needed, none was given, and somebody can type it."""
    try:
        return psycopg.connect(dsn, autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as problem:
        if "no password supplied" not in str(problem) or not sys.stdin.isatty():
            raise
    password = getpass.getpass("Password: ")
    return psycopg.connect(dsn, password=password, autocommit=True, prepare_threshold=None)


def _hint(text: str) -> str:
    if "password" in text:
        return "Give the password in the connection string, in PGPASSWORD, or in ~/.pgpass."
    if "refused" in text or "No such file" in text or "timeout" in text:
        return "Is a node running there?  Start one with: meridian start"
    return "--dsn takes a connection string: postgresql://user:password@host:port/database?sslmode=require"


def _prompt(connection: psycopg.Connection[Any], console: Console) -> int:
    try:
        import readline  # noqa: F401  # line editing, where the platform has it
    except ImportError:
        pass
    console.print("MeridianDB SQL prompt.  End statements with ;  Leave with \\q.")
    pending = ""
    while True:
        mark = {psycopg.pq.TransactionStatus.INTRANS: "*", psycopg.pq.TransactionStatus.INERROR: "!"}.get(
            connection.info.transaction_status, ""
        )
        try:
            line = input(f"{connection.info.dbname}{mark}{'-' if pending else '='}> ")
        except EOFError:
            return 0
        except KeyboardInterrupt:
            pending = ""
            print()
            continue
        if line.strip() in ("\\q", "quit", "exit"):
            return 0
        pending += line + "\n"
        if pending.rstrip().endswith(";"):
            execute(connection, pending, console)
            pending = ""


def execute(connection: psycopg.Connection[Any], statement: str, console: Console) -> bool:
    """Runs one statement and shows its result or its error."""
    try:
        cursor = connection.execute(statement)  # the user's own text
    except psycopg.Error as problem:
        console.print(
            f"{problem.diag.severity or 'ERROR'}: {problem.diag.message_primary or problem}", style="red", markup=False
        )
        for label, text in (
            ("DETAIL", problem.diag.message_detail),
            ("HINT", problem.diag.message_hint),
            ("SQLSTATE", problem.sqlstate),
        ):
            if text:
                console.print(f"{label}: {text}", markup=False)
        return False
    if cursor.description is not None:
        _show(cursor, console)
    else:
        console.print(cursor.statusmessage or "", markup=False)
    return True


def _show(cursor: psycopg.Cursor[Any], console: Console) -> None:
    table = Table()
    for column in cursor.description or ():
        table.add_column(Text(column.name))
    rows = cursor.fetchmany(ROWS_SHOWN_MAX)
    for row in rows:
        table.add_row(*[Text("NULL" if value is None else str(value)) for value in row])
    console.print(table)
    shown = "" if len(rows) == cursor.rowcount else f"; the first {len(rows)} are shown"
    console.print(f"({cursor.rowcount} row{'' if cursor.rowcount == 1 else 's'}{shown})")
