"""Bulk writes: seconds, microseconds of server CPU a row, and the growth of the server's memory.

    python -m bench.bulk [--tree pure|compiled] [--rows 1000000] [--port 26399] TEST..

    copy         COPY of rows (id int8 PRIMARY KEY, v text of 20 bytes) into an empty table
    copy-new     CREATE TABLE and the same COPY in one transaction
    copy-csv     as csv
    select       INSERT .. SELECT generate_series
    index        CREATE INDEX on the rows of "copy"
    unique       COPY into a table with a second, unique index in another order
    pgbench      pgbench -i at --scale (100,000 rows each)
    tpcc         meridian tpcc load of one warehouse
    points       a prepared point SELECT over the rows of "copy" against one over 10,000 rows
    ranges       the same over 1,000 ranges against one
    delete       DELETE of a tenth of the rows of "copy"
    truncate     TRUNCATE of "copy" and the same COPY in one transaction
    drop         DROP TABLE of "copy", and the minute after it

Each line ends with what another session met meanwhile, that asks for one row a hundred times a second: its median and
longest wait.  CPU is that of the server's process with all its threads (compactions, too); memory is the peak of resident memory over what
the idle server had.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from bench.servers import PG_BIN, Meridian

BLOCK_ROWS = 5_000
"""Rows of one CopyData message."""
SMALL_ROWS = 10_000
POINT_ROUNDS = 9
RANGES = 1_000


PROBES_A_SECOND = 100
AFTER_DROP_SECONDS = 60


class Bystander:
    """Another session, and how long it waits for a row."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.execute("CREATE TABLE bystander (id int8 PRIMARY KEY)")
        self._connection.execute("INSERT INTO bystander SELECT generate_series(1, 1000)")
        self._waits: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._connection.cursor() as cursor:
            while not self._is_over.wait(1 / PROBES_A_SECOND):
                started = time.monotonic()
                cursor.execute("SELECT id FROM bystander WHERE id = %s", (len(self._waits) % 1000 + 1,), prepare=True)
                self._waits.append(time.monotonic() - started)

    def waits(self) -> str:
        """Returns what it met since it was asked last."""
        waits, self._waits = self._waits, []
        if not waits:
            return "no wait"
        return f"others wait {statistics.median(waits) * 1e3:.1f} ms, at most {max(waits) * 1e3:.0f} ms"

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._connection.close()


class Meter:
    """What a test cost the server."""

    def __init__(self, server: Meridian) -> None:
        self.pid = server.process.pid
        self.bystander = Bystander(server.dsn("postgres"))
        self.idle_kb = self._memory_kb("VmRSS")

    def _memory_kb(self, field: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field + ":")))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def measure(self, name: str, rows: int, run: Callable[[], None]) -> None:
        self.bystander.waits()
        cpu, started = self.cpu_seconds(), time.monotonic()
        run()
        cpu, seconds = self.cpu_seconds() - cpu, time.monotonic() - started
        grown_mb = (self._memory_kb("VmHWM") - self.idle_kb) / 1024
        print(
            f"{name:10} {rows:10} rows {seconds:8.1f} s {cpu / rows * 1e6:7.2f} us/row +{grown_mb:.0f} MB;",
            self.bystander.waits(),
            flush=True,
        )


def blocks(rows: int, separator: str = "\t") -> Iterator[bytes]:
    """Rows (id, 20 bytes of text) in order of id."""
    line = f"%d{separator}value %014d\n"
    for first in range(1, rows + 1, BLOCK_ROWS):
        yield "".join([line % (i, i) for i in range(first, min(first + BLOCK_ROWS, rows + 1))]).encode()


class Tests:
    """The tests by name; each makes what it needs."""

    def __init__(self, server: Meridian, arguments: argparse.Namespace) -> None:
        self.server = server
        self.rows: int = arguments.rows
        self.scale: int = arguments.scale
        self.meter = Meter(server)
        self.connection = psycopg.connect(server.dsn("postgres"), autocommit=True)

    def _execute(self, *statements: str) -> None:
        for statement in statements:
            self.connection.execute(statement.encode())

    def _copy(self, table: str, rows: int, options: str = "", separator: str = "\t") -> None:
        with self.connection.cursor().copy(f"COPY {table} FROM STDIN {options}".encode()) as copy:
            for block in blocks(rows, separator):
                copy.write(block)

    def _made(self) -> None:
        """Makes table "big" unless it is there."""
        if not self.connection.execute("SELECT 1 FROM pg_class WHERE relname = 'big'").fetchall():
            self._execute("CREATE TABLE big (id int8 PRIMARY KEY, v text)")
            self.meter.measure("copy", self.rows, lambda: self._copy("big", self.rows))

    def copy(self) -> None:
        self._made()

    def copy_new(self) -> None:
        self._execute("BEGIN", "CREATE TABLE new (id int8 PRIMARY KEY, v text)")

        def run() -> None:
            self._copy("new", self.rows)
            self._execute("COMMIT")

        self.meter.measure("copy-new", self.rows, run)

    def copy_csv(self) -> None:
        self._execute("CREATE TABLE csv (id int8 PRIMARY KEY, v text)")
        self.meter.measure("copy-csv", self.rows, lambda: self._copy("csv", self.rows, "(FORMAT csv)", ","))

    def select(self) -> None:
        self._execute("CREATE TABLE sel (id int8 PRIMARY KEY)")
        insert = f"INSERT INTO sel SELECT generate_series(1, {self.rows})"
        self.meter.measure("select", self.rows, lambda: self._execute(insert))

    def index(self) -> None:
        self._made()
        self.meter.measure("index", self.rows, lambda: self._execute("CREATE INDEX big_v ON big (v)"))

    def unique(self) -> None:
        self._execute("CREATE TABLE uniq (id int8 PRIMARY KEY, v text)", "CREATE UNIQUE INDEX ON uniq (reverse(v))")
        self.meter.measure("unique", self.rows, lambda: self._copy("uniq", self.rows))

    def pgbench(self) -> None:
        command = [PG_BIN / "pgbench", "-i", "-q", "-s", str(self.scale), self.server.dsn("postgres")]
        self.meter.measure("pgbench", self.scale * 100_000, lambda: subprocess.run(command, check=True) and None)

    def tpcc(self) -> None:
        command = [sys.executable, "-m", "node.cli", "tpcc", "load", "--warehouses", "1", "--dsn"]
        command.append(self.server.dsn("postgres"))
        self.meter.measure("tpcc", 599_000, lambda: subprocess.run(command, check=True) and None)

    def points(self) -> None:
        self._made()
        self._execute("CREATE TABLE small (id int8 PRIMARY KEY, v text)")
        self._copy("small", SMALL_ROWS)
        self._compare("small", SMALL_ROWS, "big", self.rows)

    def ranges(self) -> None:
        for table in ("one_range", "many_ranges"):
            self._execute(f"CREATE TABLE {table} (id int8 PRIMARY KEY, v text)")
            self._copy(table, 10 * SMALL_ROWS)
        step = 10 * SMALL_ROWS // RANGES
        places = ", ".join([f"({step * i})" for i in range(1, RANGES)])
        self._execute(f"ALTER TABLE many_ranges SPLIT AT VALUES {places}")
        self._compare("one_range", 10 * SMALL_ROWS, "many_ranges", 10 * SMALL_ROWS)

    def delete(self) -> None:
        self._made()
        rows = self.rows // 10
        self.meter.measure("delete", rows, lambda: self._execute(f"DELETE FROM big WHERE id <= {rows}"))

    def truncate(self) -> None:
        self._made()

        def run() -> None:
            self._execute("BEGIN", "TRUNCATE big")
            self._copy("big", self.rows)
            self._execute("COMMIT")

        self.meter.measure("truncate", self.rows, run)

    def drop(self) -> None:
        self._made()
        self.meter.measure("drop", self.rows, lambda: self._execute("DROP TABLE big"))
        self.meter.measure("after drop", self.rows, lambda: time.sleep(AFTER_DROP_SECONDS))

    def _compare(self, few: str, few_rows: int, many: str, many_rows: int) -> None:
        """Alternates rounds over two tables and prints the least CPU of each, and their ratio."""
        best = {few: float("inf"), many: float("inf")}
        for _ in range(POINT_ROUNDS):
            for table, rows in ((few, few_rows), (many, many_rows)):
                best[table] = min(best[table], self._point_us(table, rows))
        ratio = best[many] / best[few]
        print(f"{few} {best[few]:.1f} us, {many} {best[many]:.1f} us a point SELECT: {ratio:.2f} times", flush=True)

    def _point_us(self, table: str, rows: int) -> float:
        cpu, count = self.meter.cpu_seconds(), 10_000
        with self.connection.cursor() as cursor:
            query = f"SELECT v FROM {table} WHERE id = %s".encode()
            for i in range(count):
                cursor.execute(query, (1 + i * 7919 % rows,), prepare=True)
        return (self.meter.cpu_seconds() - cpu) / count * 1e6


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tree", choices=("pure", "compiled"), default="pure")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--scale", type=int, default=10)
    parser.add_argument("--port", type=int, default=26399)
    parser.add_argument("tests", nargs="+")
    arguments = parser.parse_args()
    server = Meridian(arguments.port, arguments.tree == "compiled")
    try:
        tests = Tests(server, arguments)
        for name in arguments.tests:
            getattr(tests, name.replace("-", "_"))()
        tests.meter.bystander.stop()
        tests.connection.close()
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
