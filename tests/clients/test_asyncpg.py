"""asyncpg: binary in both directions, named statements, introspection of unknown types."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest

asyncpg = pytest.importorskip("asyncpg")

VALUES: list[tuple[str, Any]] = [
    ("bool", False),
    ("int2", 7),
    ("int4", -1),
    ("int8", 1 << 62),
    ("float4", 0.5),
    ("float8", 1e300),
    ("numeric", Decimal("-12345.678900")),
    ("text", "träge"),
    ("bytea", b"\x00\xff"),
    ("uuid", uuid.UUID(int=5)),
    ("date", dt.date(2024, 2, 29)),
    ("time", dt.time(1, 2, 3, 4)),
    ("timestamp", dt.datetime(1999, 12, 31, 23, 59, 59)),  # noqa: DTZ001  # a timestamp has none
    ("timestamptz", dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
    ("interval", dt.timedelta(days=5, seconds=3)),
    ("int4[]", [1, None, 2]),
    ("text[]", ["a", None]),
    ("jsonb", '{"a": 1}'),
    ("json", '{"a": 1}'),
]


def connected(dsn: str, body: Callable[[Any], Awaitable[None]]) -> None:
    """Runs a test body with a connection."""

    async def main() -> None:
        connection = await asyncpg.connect(**arguments(dsn))
        try:
            await body(connection)
        finally:
            await connection.close()

    asyncio.run(main())


def arguments(dsn: str) -> dict[str, Any]:
    found = dict(parse_qsl(dsn.replace(" ", "&")))
    return {"host": found["host"], "port": int(found["port"]), "user": found["user"], "database": found["dbname"]}


@pytest.mark.parametrize(("type_name", "value"), VALUES, ids=[name for name, _ in VALUES])
def test_values_round_trip(dsn: str, type_name: str, value: Any) -> None:
    async def body(connection: Any) -> None:
        assert await connection.fetchval(f"SELECT $1::{type_name}", value) == value
        assert await connection.fetchval(f"SELECT $1::{type_name}", None) is None

    connected(dsn, body)


def test_infinite_dates(dsn: str) -> None:
    async def body(connection: Any) -> None:
        assert await connection.fetchval("SELECT 'infinity'::date") == dt.date.max
        assert await connection.fetchval("SELECT 'infinity'::timestamp") == dt.datetime.max  # noqa: DTZ901
        assert await connection.fetchval("SELECT $1::date = 'infinity'", dt.date.max)

    connected(dsn, body)


def test_enums_rows_and_records(dsn: str) -> None:
    async def body(connection: Any) -> None:
        await connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE felt (k int, m mood, ms mood[])")
        await connection.execute("INSERT INTO felt VALUES ($1, $2, $3)", 1, "ok", ["sad", None])
        row = await connection.fetchrow("SELECT * FROM felt")
        assert dict(row) == {"k": 1, "m": "ok", "ms": ["sad", None]}
        whole = await connection.fetchval("SELECT felt FROM felt")
        assert tuple(whole) == (1, "ok", ["sad", None])
        assert tuple(await connection.fetchval("SELECT ROW(1, 'x'::text)")) == (1, "x")

    connected(dsn, body)


def test_prepared_statements_and_cursors(dsn: str) -> None:
    async def body(connection: Any) -> None:
        statement = await connection.prepare("SELECT i, i * $1::int AS product FROM generate_series(1, $2::int) i")
        assert [p.name for p in statement.get_parameters()] == ["int4", "int4"]
        assert [a.name for a in statement.get_attributes()] == ["i", "product"]
        assert len(await statement.fetch(3, 100)) == 100
        async with connection.transaction():
            rows = [row["product"] async for row in statement.cursor(2, 250, prefetch=20)]
            assert rows == [i * 2 for i in range(1, 251)]
            cursor = await connection.cursor("SELECT i FROM generate_series(1, 10) i")
            assert [r["i"] for r in await cursor.fetch(4)] == [1, 2, 3, 4]
            assert await cursor.forward(2) == 2
            assert (await cursor.fetchrow())["i"] == 7

    connected(dsn, body)


def test_copy_both_ways(dsn: str) -> None:
    async def body(connection: Any) -> None:
        await connection.execute("CREATE TABLE copied (a int, b text, c timestamptz, d numeric)")
        now = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
        records = [(i, f"r{i}", now, Decimal(i) / 8) for i in range(1000)] + [(None, None, None, None)]
        assert await connection.copy_records_to_table("copied", records=records) == "COPY 1001"
        rows = await connection.fetch("SELECT * FROM copied ORDER BY a")
        assert [tuple(row) for row in rows] == records
        out: list[bytes] = []

        async def keep(data: bytes) -> None:
            out.append(data)

        await connection.copy_from_query("SELECT a FROM copied WHERE a < 3 ORDER BY a", output=keep, format="csv")
        assert b"".join(out) == b"0\n1\n2\n"

    connected(dsn, body)


def test_executemany_transactions_and_errors(dsn: str) -> None:
    async def body(connection: Any) -> None:
        await connection.execute("CREATE TABLE many (k int PRIMARY KEY)")
        await connection.executemany("INSERT INTO many VALUES ($1)", [(i,) for i in range(300)])
        with pytest.raises(asyncpg.UniqueViolationError) as caught:
            await connection.executemany("INSERT INTO many VALUES ($1)", [(1000,), (1001,), (5,)])
        assert (caught.value.table_name, caught.value.constraint_name) == ("many", "many_pkey")
        assert await connection.fetchval("SELECT count(*) FROM many") == 300
        async with connection.transaction(isolation="serializable"):
            with pytest.raises(asyncpg.DivisionByZeroError):
                async with connection.transaction():
                    await connection.execute("SELECT 1/0")
            await connection.execute("DELETE FROM many")
        assert await connection.fetchval("SELECT count(*) FROM many") == 0

    connected(dsn, body)


def test_listeners_and_timeouts(dsn: str) -> None:
    async def body(connection: Any) -> None:
        heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        await connection.add_listener("chan", lambda _, pid, channel, payload: heard.put_nowait((channel, payload)))
        other = await asyncpg.connect(**arguments(dsn))
        await other.execute("NOTIFY chan, 'hello'")
        assert await asyncio.wait_for(heard.get(), 5) == ("chan", "hello")
        await other.close()
        with pytest.raises(asyncio.TimeoutError):
            await connection.fetch("SELECT pg_sleep(20)", timeout=0.3)
        assert await connection.fetchval("SELECT 1") == 1

    connected(dsn, body)


def test_a_pool_resets_what_it_takes_back(dsn: str) -> None:
    async def main() -> None:
        async with asyncpg.create_pool(**arguments(dsn), min_size=1, max_size=1) as pool:
            async with pool.acquire() as connection:
                await connection.execute("SET statement_timeout = '7s'")
                await connection.fetchval("SELECT pg_advisory_lock(1)")
            async with pool.acquire() as connection:
                assert await connection.fetchval("SHOW statement_timeout") == "0"
                assert await connection.fetchval("SELECT count(*) FROM pg_listening_channels()") == 0
            await asyncio.gather(*[pool.fetchval("SELECT $1::int", i) for i in range(20)])

    asyncio.run(main())


def test_introspection_of_a_schema_change(dsn: str) -> None:
    async def body(connection: Any) -> None:
        await connection.execute("CREATE TABLE growing (a int)")
        await connection.execute("INSERT INTO growing VALUES (1)")
        assert tuple(await connection.fetchrow("SELECT * FROM growing")) == (1,)
        other = await asyncpg.connect(**arguments(dsn))
        await other.execute("ALTER TABLE growing ADD COLUMN b int DEFAULT 2")
        await other.close()
        assert tuple(await connection.fetchrow("SELECT * FROM growing")) == (1, 2)

    connected(dsn, body)
