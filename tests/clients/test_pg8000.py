"""pg8000: the extended protocol with a Flush after every message."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

dbapi = pytest.importorskip("pg8000.dbapi")
native = pytest.importorskip("pg8000.native")


@pytest.fixture
def connection(dsn: str, node: Any) -> Iterator[Any]:
    opened = native.Connection("root", host="127.0.0.1", port=node.port, database="test_pg8000")
    yield opened
    opened.close()


def test_values_round_trip(connection: Any) -> None:
    values: list[Any] = [
        True, 5, 1 << 40, 2.5, Decimal("1.50"), "text", b"\x00\x01", dt.date(2024, 1, 2), dt.datetime(2024, 1, 2, 3, 4, 5),  # noqa: DTZ001
        dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC), uuid.UUID(int=9), [1, 2, None], ["a", "b,c"],
    ]  # fmt: skip
    types = [
        "bool",
        "int4",
        "int8",
        "float8",
        "numeric",
        "text",
        "bytea",
        "date",
        "timestamp",
        "timestamptz",
        "uuid",
        "int4[]",
        "text[]",
    ]
    for value, type_name in zip(values, types):
        assert connection.run(f"SELECT CAST(:v AS {type_name})", v=value) == [[value]]


def test_statements_columns_and_errors(connection: Any) -> None:
    connection.run("CREATE TABLE t (a int PRIMARY KEY, b text)")
    prepared = connection.prepare("INSERT INTO t VALUES (:a, :b) RETURNING a")
    assert [prepared.run(a=i, b=str(i)) for i in range(3)] == [[[0]], [[1]], [[2]]]
    prepared.close()
    connection.run("SELECT a AS first, b FROM t ORDER BY a")
    assert [column["name"] for column in connection.columns] == ["first", "b"]
    with pytest.raises(native.DatabaseError) as caught:
        connection.run("INSERT INTO t VALUES (1, 'again')")
    assert caught.value.args[0]["C"] == "23505"
    assert connection.run("SELECT count(*) FROM t") == [[3]]


def test_dbapi_transactions_and_copy(node: Any, dsn: str) -> None:
    import io

    with dbapi.connect("root", host="127.0.0.1", port=node.port, database="test_pg8000") as opened:
        cursor = opened.cursor()
        cursor.execute("CREATE TABLE copied (a int, b text)")
        cursor.execute("COPY copied FROM STDIN", stream=io.BytesIO(b"1\tx\n2\ty\n"))
        out = io.BytesIO()
        cursor.execute("COPY copied TO STDOUT", stream=out)
        assert out.getvalue() == b"1\tx\n2\ty\n"
        opened.rollback()
        with pytest.raises(dbapi.DatabaseError):
            cursor.execute("SELECT * FROM copied")
        opened.rollback()
