"""Statements over spans of rows, and the writes of sysbench, for ``bench.inprocess``.

The table is sysbench's; a span has SPAN_ROWS rows, and every statement is prepared.

    range         SELECT c .. WHERE id BETWEEN $1 AND $2
    range-sum     SELECT sum(k) of the same rows
    range-order   SELECT c .. ORDER BY c
    range-distinct  SELECT DISTINCT c .. ORDER BY c
    range-txn     the plain range in a transaction that has written to it
    range-10, range-1000  other lengths
    count         SELECT count(*) of the whole table, per row
    sum           SELECT sum(k) of the whole table, per row
    filter        SELECT count(*) .. WHERE k % 10 = 0, per row
    rows          SELECT * of the whole table, per row
    index-update  BEGIN, UPDATE of an indexed column, COMMIT
    write-only    the transaction of oltp_write_only: two UPDATEs, DELETE, INSERT
    read-write    the transaction of oltp_read_write: ten points, the four ranges, then as write-only
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from bench import inprocess

ROWS = 20_000
SPAN_ROWS = 100
POINTS = 10
C = "-".join([f"{i * 7919:011d}" for i in range(10)])
PAD = "-".join([f"{i * 104729:011d}" for i in range(5)])

SCHEMA = (
    "CREATE TABLE sbtest1 (id int PRIMARY KEY, k int NOT NULL DEFAULT 0, c char(120) NOT NULL DEFAULT '',"
    " pad char(60) NOT NULL DEFAULT '')",
    f"INSERT INTO sbtest1 SELECT i, i * 7919 % {ROWS}, lpad((i * 7919 % {ROWS})::text, 11, '0') || '{C[11:]}', '{PAD}'"
    f" FROM generate_series(1, {ROWS}) i",
    "CREATE INDEX k_1 ON sbtest1 (k)",
    "ANALYZE sbtest1",
)
STATEMENTS = {
    b"point": b"SELECT c FROM sbtest1 WHERE id = $1",
    b"range": b"SELECT c FROM sbtest1 WHERE id BETWEEN $1 AND $2",
    b"range-sum": b"SELECT SUM(k) FROM sbtest1 WHERE id BETWEEN $1 AND $2",
    b"range-order": b"SELECT c FROM sbtest1 WHERE id BETWEEN $1 AND $2 ORDER BY c",
    b"range-distinct": b"SELECT DISTINCT c FROM sbtest1 WHERE id BETWEEN $1 AND $2 ORDER BY c",
    b"count": b"SELECT count(*) FROM sbtest1",
    b"sum": b"SELECT sum(k) FROM sbtest1",
    b"filter": b"SELECT count(*) FROM sbtest1 WHERE k % 10 = 0",
    b"rows": b"SELECT * FROM sbtest1",
    b"update-k": b"UPDATE sbtest1 SET k = k + 1 WHERE id = $1",
    b"update-c": b"UPDATE sbtest1 SET c = $1 WHERE id = $2",
    b"delete": b"DELETE FROM sbtest1 WHERE id = $1",
    b"insert": b"INSERT INTO sbtest1 (id, k, c, pad) VALUES ($1, $2, '%s', '%s')" % (C.encode(), PAD.encode()),
}

Test = Callable[[int], Awaitable[None]]


async def prepare(client: Any, driver: inprocess.Driver) -> dict[str, Test]:
    """Makes and fills the table; returns the tests by name."""
    for sql in SCHEMA:
        answer = await client.run(sql)
        assert not any(line.startswith("ERROR") for line in answer), answer
    for name, text in STATEMENTS.items():
        await driver.later(inprocess.parse(name, text) + inprocess.message(b"S", b""))
    ranges = Ranges(driver)
    tests: dict[str, Test] = {
        name: partial(ranges.span, name.encode(), SPAN_ROWS)
        for name in ("range", "range-sum", "range-order", "range-distinct")
    }
    tests |= {f"range-{length}": partial(ranges.span, b"range", length) for length in (10, 1000)}
    tests["range-txn"] = ranges.written
    tests |= {name: partial(ranges.whole, name.encode()) for name in ("count", "sum", "filter", "rows")}
    tests |= {"index-update": ranges.index_update, "write-only": ranges.write_only, "read-write": ranges.read_write}
    return tests


class Ranges:
    """The statements, sent through a driver."""

    def __init__(self, driver: inprocess.Driver) -> None:
        self._now = driver.now
        self._later = driver.later

    async def span(self, name: bytes, length: int, i: int) -> None:
        """One statement over a span."""
        first = 1 + i * 7919 % (ROWS - length)
        self._now(inprocess.call(name, first, first + length - 1))

    async def whole(self, name: bytes, i: int) -> None:
        """One statement over the table."""
        await self._later(inprocess.call(name))

    async def written(self, i: int) -> None:
        """A range in a transaction that has changed one of its rows."""
        first = 1 + i * 7919 % (ROWS - SPAN_ROWS)
        self._now(inprocess.call(b"begin"))
        self._now(inprocess.call(b"update-c", 1, first + SPAN_ROWS // 2))
        self._now(inprocess.call(b"range", first, first + SPAN_ROWS - 1))
        await self._later(inprocess.call(b"rollback"))

    async def index_update(self, i: int) -> None:
        self._now(inprocess.call(b"begin"))
        self._now(inprocess.call(b"update-k", 1 + i * 7919 % ROWS))
        await self._later(inprocess.call(b"commit"))

    async def write_only(self, i: int) -> None:
        self._now(inprocess.call(b"begin"))
        self._writes(i)
        await self._later(inprocess.call(b"commit"))

    def _writes(self, i: int) -> None:
        key = 1 + i * 7919 % ROWS
        self._now(inprocess.call(b"update-k", key))
        self._now(inprocess.call(b"update-c", i, 1 + i * 31 % ROWS))
        self._now(inprocess.call(b"delete", 1 + i * 127 % ROWS))
        self._now(inprocess.call(b"insert", 1 + i * 127 % ROWS, i))

    async def read_write(self, i: int) -> None:
        self._now(inprocess.call(b"begin"))
        for point in range(POINTS):
            self._now(inprocess.call(b"point", 1 + (i * POINTS + point) * 7919 % ROWS))
        for name in (b"range", b"range-sum", b"range-order", b"range-distinct"):
            await self.span(name, SPAN_ROWS, i)
        self._writes(i)
        await self._later(inprocess.call(b"commit"))
