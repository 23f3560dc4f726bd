"""Replays what real clients send against PostgreSQL 15 and against a MeridianDB node, and compares.

    python tests/clients/replay.py CORPUS_DIR [--postgres DSN] [--meridian DSN] [--only FILE] [--show]

A corpus file is a JSON list of statements in the order one client sent them.  Each file runs in a database of its own with
the same schema on both sides (``schema.sql`` beside this file).  Values of parameters are chosen by type: a name becomes
``parent``, an OID the one of ``parent``.  Two answers agree when both fail with the same SQLSTATE, or both succeed with the
same columns and the same rows, up to order where the statement asks for none, OIDs of user objects and the time of day.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
from psycopg.pq import ExecStatus

SCHEMA: Final = Path(__file__).with_name("schema.sql")
USER_OID: Final = re.compile(r"(?<![\d.])(1[6-9]\d{3}|[2-9]\d{4})(?![\d.])")
LOOKUP: Final = re.compile(r"\^\(([a-z0-9_]+)\)\$")
BY_TYPE: Final = {
    16: "true", 20: "1", 21: "1", 23: "1", 700: "1", 701: "1", 1700: "1", 114: "{}", 3802: "{}", 1082: "2024-01-01", 1114: "2024-01-01",
    1184: "2024-01-01", 1028: "{%(oid)s}", 26: "%(oid)s", 2205: "parent", 2206: "int4", 4089: "public", 1009: "{parent}", 1003: "{parent}",
    1015: "{parent}", 1007: "{1}", 1016: "{1}", 1005: "{1}", 2950: "00000000-0000-0000-0000-000000000001", 17: "\\x01",
}  # fmt: skip
SUCCESS: Final = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.EMPTY_QUERY)


LEGITIMATE: Final = re.compile(
    r"show transaction isolation level|current_setting\('jit'\)|FROM pg_(catalog\.)?pg_database\b", re.I
)
"""Statements whose answer is the server's own: the default isolation level, its databases."""


@dataclass
class Answer:
    """What one server said to one statement."""

    sqlstate: str = ""
    message: str = ""
    columns: tuple[tuple[str, int], ...] = ()
    rows: list[tuple[str | None, ...]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Difference:
    """One statement the servers disagree on."""

    file: str
    number: int
    statement: str
    kind: str
    """fails, succeeds, sqlstate, columns or rows."""
    detail: str


class Server:
    """One side: runs statements over libpq and normalises answers."""

    def __init__(self, dsn: str, database: str) -> None:
        self.connection = psycopg.connect(dsn, dbname=database, autocommit=True)
        self.pq = self.connection.pgconn
        self.oids: dict[str, str] = {}
        """OID text captured -> OID here."""
        self.parent = ""

    def load(self, schema: str) -> None:
        for statement in schema.split(";\n"):
            if statement.strip():
                self.connection.execute(statement.encode())
        self.parent = self._oid("parent")

    def _oid(self, name: str) -> str:
        row = self.connection.execute("select oid from pg_class where relname = %s limit 1", (name,)).fetchone()
        return str(row[0]) if row is not None else "0"

    def learn(self, captured: str, name: str) -> None:
        """The captured OID stands for the relation of this name."""
        self.oids[captured] = self._oid(name)

    def run(self, statement: str, types: tuple[int, ...]) -> Answer:
        """Runs one statement with parameters of the types given."""
        text = USER_OID.sub(lambda m: self.oids.get(m[0], self.parent), statement)
        started = time.perf_counter()
        if types:
            values = [(BY_TYPE.get(t, "parent") % {"oid": self.parent}).encode() for t in types]
            result = self.pq.exec_params(text.encode(), values, param_types=types)
        else:
            result = self.pq.exec_(text.encode())
        seconds = time.perf_counter() - started
        if result.status in (ExecStatus.COPY_IN, ExecStatus.COPY_OUT):
            self._end_copy(result.status)
            return Answer(seconds=seconds)
        if result.status not in SUCCESS:
            return Answer(_text(result.error_field(67)), _text(result.error_field(77)), seconds=seconds)
        columns = tuple((_text(result.fname(i)), result.ftype(i)) for i in range(result.nfields))
        rows = [
            tuple(None if (v := result.get_value(r, c)) is None else v.decode() for c in range(result.nfields))
            for r in range(result.ntuples)
        ]
        return Answer(columns=columns, rows=rows, seconds=seconds)

    def parameter_types(self, statement: str) -> tuple[int, ...]:
        """Asks the server what types the parameters have."""
        result = self.pq.prepare(b"replayed", statement.encode())
        if result.status not in SUCCESS:
            return ()
        described = self.pq.describe_prepared(b"replayed")
        types = tuple(described.param_type(i) for i in range(described.nparams))
        self.pq.exec_(b"DEALLOCATE replayed")
        return types

    def _end_copy(self, status: ExecStatus) -> None:
        if status == ExecStatus.COPY_IN:
            self.pq.put_copy_end()
        else:
            while self.pq.get_copy_data(0)[0] > 0:
                pass
        while self.pq.get_result() is not None:
            pass

    def in_failed_block(self) -> bool:
        return int(self.pq.transaction_status) == 3


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()


def _shown(value: str | None) -> str:
    """A value without what may differ between two servers: OIDs of user objects, clock readings, random UUIDs."""
    if value is None:
        return "NULL"
    value = re.sub(r"^PostgreSQL 15.*", "<version>", value)
    value = re.sub(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d(:\d\d)?)?", "<time>", value)
    value = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", "<uuid>", value)
    value = re.sub(r"(?<![\d.])([1-9]\d{4,9})(?![\d.])", lambda m: "<oid>" if int(m[0]) >= 10000 else m[0], value)
    return value.replace("postgres", "root").replace("pg_database_owner", "root")


def compare(statement: str, expected: Answer, actual: Answer) -> tuple[str, str] | None:
    """Returns (kind, detail) of the disagreement, or None."""
    if expected.sqlstate or actual.sqlstate:
        if expected.sqlstate == actual.sqlstate:
            return None
        if not expected.sqlstate:
            return "fails", f"{actual.sqlstate} {actual.message}"
        kind = "sqlstate" if actual.sqlstate else "succeeds"
        return kind, f"expected {expected.sqlstate} {expected.message}, got {actual.sqlstate} {actual.message}"
    ours = [(name, type_oid if type_oid < 10000 else 0) for name, type_oid in actual.columns]
    theirs = [(name, type_oid if type_oid < 10000 else 0) for name, type_oid in expected.columns]
    if ours != theirs:
        return "columns", f"expected {theirs}, got {ours}"
    left = sorted("|".join(map(_shown, row)) for row in expected.rows)
    right = sorted("|".join(map(_shown, row)) for row in actual.rows)
    if left == right:
        return None
    missing = [row for row in left if row not in right]
    extra = [row for row in right if row not in left]
    return "rows", f"missing {len(missing)} {missing[:3]}, extra {len(extra)} {extra[:3]}"


class Replay:
    """Both servers, one database per corpus file."""

    def __init__(self, postgres: str, meridian: str) -> None:
        self.dsns = {"postgres": postgres, "meridian": meridian}
        self.slowest: list[tuple[float, str, int]] = []
        self.count = 0

    def file(self, name: str, statements: list[str]) -> Iterator[Difference]:
        """Replays one client's statements."""
        database = "replay_" + re.sub(r"\W", "_", name).lower()
        schema = SCHEMA.read_text()
        for dsn in self.dsns.values():
            with psycopg.connect(dsn, autocommit=True) as admin:
                admin.execute(f"DROP DATABASE IF EXISTS {database}".encode())
                admin.execute(f"CREATE DATABASE {database}".encode())
        postgres, meridian = (Server(self.dsns[side], database) for side in ("postgres", "meridian"))
        for server in (postgres, meridian):
            server.load(schema)
        looked_up = ""
        for number, statement in enumerate(statements):
            for captured in USER_OID.findall(statement):
                if looked_up and captured not in postgres.oids:
                    postgres.learn(captured, looked_up)
                    meridian.learn(captured, looked_up)
            if found := LOOKUP.search(statement):
                looked_up = found[1]
            difference = self._one(name, number, statement, postgres, meridian)
            if difference is not None:
                yield difference
        postgres.connection.close()
        meridian.connection.close()

    def _one(self, name: str, number: int, statement: str, postgres: Server, meridian: Server) -> Difference | None:
        theirs = postgres.parameter_types(statement) if "$1" in statement else ()
        ours = meridian.parameter_types(statement) if "$1" in statement else ()
        expected, actual = postgres.run(statement, theirs), meridian.run(statement, ours or theirs)
        self.count += 1
        self.slowest.append((actual.seconds, name, number))
        found = None if LEGITIMATE.search(statement) else compare(statement, expected, actual)
        if postgres.in_failed_block() != meridian.in_failed_block():  # keep the two in step
            for server in (postgres, meridian):
                server.pq.exec_(b"ROLLBACK")
        return None if found is None else Difference(name, number, statement, *found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--postgres", default="host=127.0.0.1 port=55432 user=postgres dbname=postgres")
    parser.add_argument("--meridian", default="host=127.0.0.1 port=26257 user=root dbname=defaultdb")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--show", action="store_true", help="print the statements")
    options = parser.parse_args()
    replay = Replay(options.postgres, options.meridian)
    for path in sorted(options.corpus.glob("*.json")):
        statements = json.loads(path.read_text())
        if (options.only and path.stem not in options.only) or not _is_corpus(statements):
            continue
        before = replay.count
        differences = list(replay.file(path.stem, statements))
        print(f"== {path.stem}: {replay.count - before} statements, {len(differences)} differ")
        for d in differences:
            print(f"  {d.file}#{d.number} {d.kind}: {d.detail[:600]}")
            if options.show:
                print("      " + d.statement.strip().replace("\n", "\n      ")[:3000])
    print("slowest:", [(f"{s * 1000:.0f} ms", f, n) for s, f, n in sorted(replay.slowest, reverse=True)[:12]])


def _is_corpus(statements: object) -> bool:
    return isinstance(statements, list) and bool(statements) and all(isinstance(s, str) for s in statements)


if __name__ == "__main__":
    main()
