"""psycopg 3: every way it has to talk."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from ipaddress import ip_address
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import dict_row, namedtuple_row
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

VALUES: list[tuple[str, Any]] = [
    ("bool", True),
    ("int2", -32768),
    ("int4", 2147483647),
    ("int8", -9223372036854775808),
    ("float8", 0.1),
    ("float8", float("inf")),
    ("float4", 1.5),
    ("numeric", Decimal("123456789012345678901234567890.0000000001")),
    ("numeric", Decimal("0.00")),
    ("text", "naïve \U0001f600 'quoted' \\ back"),
    ("varchar(5)", "abcde"),
    ("bytea", bytes(range(256))),
    ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    ("date", dt.date(1, 1, 1)),
    ("date", dt.date(9999, 12, 31)),
    ("time", dt.time(23, 59, 59, 999999)),
    ("timestamp", dt.datetime(2024, 2, 29, 12, 34, 56, 789012)),  # noqa: DTZ001  # a timestamp has none
    ("timestamptz", dt.datetime(2024, 2, 29, 12, 34, 56, tzinfo=dt.UTC)),
    ("interval", dt.timedelta(days=-3, hours=5, microseconds=7)),
    ("jsonb", {"a": [1, 2.5, None, "x"], "b": {}}),
    ("inet", ip_address("2001:db8::1")),
    ("int4[]", [1, None, 3]),
    ("text[]", ["a,b", 'quo"te', "", "NULL", None]),
    ("int8[]", [[1, 2], [3, 4]]),
    ("numeric[]", [Decimal("1.10"), Decimal("NaN")]),
    ("uuid[]", [uuid.UUID(int=0)]),
    ("int4[]", []),
]


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as opened:
        yield opened


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize(("type_name", "value"), VALUES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(VALUES)])
def test_values_round_trip(connection: psycopg.Connection[Any], type_name: str, value: Any, binary: bool) -> None:
    parameter = Jsonb(value) if type_name == "jsonb" else value
    marker = "%b" if binary else "%t"
    with connection.cursor(binary=binary) as cursor:
        row = cursor.execute(
            f"SELECT {marker}::{type_name}, {marker}::{type_name} IS NULL".encode(), (parameter, None)
        ).fetchone()
    if isinstance(value, Decimal) or (isinstance(value, list) and value and isinstance(value[0], Decimal)):
        assert str(row[0]) == str(value)
    else:
        assert row[0] == value
    assert row[1] is True


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_infinite_dates_are_sent_and_compared(connection: psycopg.Connection[Any], binary: bool) -> None:
    with connection.cursor(binary=binary) as cursor:
        cursor.execute(
            "SELECT 'infinity'::date > '9999-12-31'::date, '-infinity'::timestamptz < now(), 'infinity'::date::text"
        )
        assert cursor.fetchone() == (True, True, "infinity")
        with pytest.raises(psycopg.DataError, match="too large"):
            cursor.execute("SELECT 'infinity'::date").fetchone()


def test_prepared_statements_live_in_the_session(connection: psycopg.Connection[Any]) -> None:
    for i in range(8):
        assert connection.execute("SELECT %s::int4 + 1", (i,), prepare=True).fetchone() == (i + 1,)
    names = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert names == (1,)


def test_a_prepared_statement_outlives_a_change_of_its_table(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE changing (a int)")
    connection.execute("INSERT INTO changing VALUES (1)")
    query = "SELECT a FROM changing WHERE a = %s"
    assert connection.execute(query, (1,), prepare=True).fetchone() == (1,)
    connection.execute("ALTER TABLE changing ADD COLUMN b text DEFAULT 'x'")
    assert connection.execute(query, (1,), prepare=True).fetchone() == (1,)


def test_pipeline_sends_before_it_reads(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE piped (k int PRIMARY KEY, v text)")
    with connection.pipeline() as pipeline, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO piped VALUES (%s, %s)", [(i, str(i)) for i in range(200)])
        results = [connection.execute("SELECT v FROM piped WHERE k = %s", (i,)) for i in range(50)]
        pipeline.sync()
        assert [result.fetchone()[0] for result in results] == [str(i) for i in range(50)]


def test_an_error_in_a_pipeline_aborts_up_to_the_sync(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE piped_error (k int PRIMARY KEY)")
    with pytest.raises(errors.UniqueViolation), connection.pipeline():
        connection.execute("INSERT INTO piped_error VALUES (1)")
        connection.execute("INSERT INTO piped_error VALUES (1)")
        connection.execute("INSERT INTO piped_error VALUES (2)")
    assert connection.execute("SELECT count(*) FROM piped_error").fetchone() == (0,)


COPIED = [(i, f"row\t{i}\\\n", Decimal(i) / 4, None if i % 3 else dt.date(2024, 1, 1)) for i in range(500)]


@pytest.mark.parametrize("form", ["text", "binary", "csv"])
def test_copy_in_and_out(connection: psycopg.Connection[Any], form: str) -> None:
    connection.execute("DROP TABLE IF EXISTS copied")
    connection.execute("CREATE TABLE copied (a int PRIMARY KEY, b text, c numeric, d date)")
    types = ("int4", "text", "numeric", "date")
    with connection.cursor() as cursor:
        if form == "csv":
            with cursor.copy("COPY copied FROM STDIN (FORMAT csv)") as copy:
                for a, b, c, d in COPIED:
                    copy.write(f'{a},"{b}",{c},{d or ""}\n')
        else:
            with cursor.copy(f"COPY copied FROM STDIN (FORMAT {form})".encode()) as copy:
                copy.set_types(types)
                for row in COPIED:
                    copy.write_row(row)
        assert cursor.rowcount == len(COPIED)
        assert cursor.execute("SELECT * FROM copied ORDER BY a").fetchall() == COPIED
        if form != "csv":
            with cursor.copy(f"COPY (SELECT * FROM copied ORDER BY a) TO STDOUT (FORMAT {form})".encode()) as copy:
                copy.set_types(types)
                assert list(copy.rows()) == COPIED


def test_copy_reports_the_line_that_is_wrong(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE copy_wrong (a int)")
    with pytest.raises(errors.InvalidTextRepresentation) as caught, connection.cursor() as cursor:
        with cursor.copy("COPY copy_wrong FROM STDIN") as copy:
            copy.write("1\n2\nthree\n")
    assert caught.value.diag.context == 'COPY copy_wrong, line 3, column a: "three"'
    assert connection.execute("SELECT count(*) FROM copy_wrong").fetchone() == (0,)


def test_copy_can_be_given_up_by_the_client(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE copy_failed (a int)")
    with pytest.raises(RuntimeError), connection.cursor() as cursor, cursor.copy("COPY copy_failed FROM STDIN") as copy:
        copy.write_row((1,))
        raise RuntimeError("the client's own trouble")
    assert connection.execute("SELECT count(*) FROM copy_failed").fetchone() == (0,)


def test_server_side_cursors(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():
        with connection.cursor("plain") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT i FROM generate_series(1, 1000) i")
            assert [row[0] for row in cursor] == list(range(1, 1001))
        with connection.cursor("scrolling", scrollable=True) as cursor:
            cursor.execute("SELECT i FROM generate_series(1, 10) i")
            assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
            cursor.scroll(-2)
            assert cursor.fetchone() == (2,)
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("SELECT 7")
        assert cursor.fetchall() == [(7,)]


def test_transactions_and_savepoints(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE accounts (id int PRIMARY KEY, balance int)")
    with connection.transaction():
        connection.execute("INSERT INTO accounts VALUES (1, 100)")
        with pytest.raises(errors.UniqueViolation), connection.transaction():
            connection.execute("INSERT INTO accounts VALUES (1, 200)")
        connection.execute("INSERT INTO accounts VALUES (2, 50)")
        with connection.transaction(force_rollback=True):
            connection.execute("DELETE FROM accounts")
    with pytest.raises(ZeroDivisionError), connection.transaction():
        connection.execute("DELETE FROM accounts")
        raise ZeroDivisionError
    assert connection.execute("SELECT * FROM accounts ORDER BY id").fetchall() == [(1, 100), (2, 50)]


def test_a_failed_block_refuses_all_but_its_end(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        with pytest.raises(errors.DivisionByZero):
            connection.execute("SELECT 1/0")
        with pytest.raises(errors.InFailedSqlTransaction):
            connection.execute("SELECT * FROM not_there")
        connection.rollback()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_constraint_errors_carry_names(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE named (id int PRIMARY KEY, age int NOT NULL CHECK (age > 0))")
    connection.execute("INSERT INTO named VALUES (1, 1)")
    with pytest.raises(errors.UniqueViolation) as unique:
        connection.execute("INSERT INTO named VALUES (1, 1)")
    diag = unique.value.diag
    assert (diag.schema_name, diag.table_name, diag.constraint_name) == ("public", "named", "named_pkey")
    assert diag.message_detail == "Key (id)=(1) already exists."
    with pytest.raises(errors.CheckViolation) as check:
        connection.execute("INSERT INTO named VALUES (2, 0)")
    assert check.value.diag.constraint_name == "named_age_check"
    with pytest.raises(errors.NotNullViolation) as null:
        connection.execute("INSERT INTO named (id) VALUES (3)")
    assert null.value.diag.column_name == "age"


def test_notifications_arrive(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as listener, psycopg.connect(dsn, autocommit=True) as sender:
        listener.execute("LISTEN news")
        sender.execute("NOTIFY news, 'first'")
        sender.execute("SELECT pg_notify('news', 'second')")
        arrived = [(n.channel, n.payload, n.pid) for n in listener.notifies(timeout=5, stop_after=2)]
        pid = sender.info.backend_pid
        assert arrived == [("news", "first", pid), ("news", "second", pid)]


def test_cancel_stops_the_statement_not_the_session(connection: psycopg.Connection[Any]) -> None:
    timer = threading.Timer(0.3, connection.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(30)")
    timer.join()
    assert time.monotonic() - started < 10
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_statement_timeout(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SET statement_timeout = '100ms'")
    with pytest.raises(errors.QueryCanceled, match="statement timeout"):
        connection.execute("SELECT pg_sleep(30)")


def test_large_results_and_values(connection: psycopg.Connection[Any]) -> None:
    rows = connection.execute("SELECT i, repeat('x', 100) FROM generate_series(1, 50000) i").fetchall()
    assert len(rows) == 50000
    assert rows[-1] == (50000, "x" * 100)
    big = "y" * 8_000_000
    assert connection.execute("SELECT %s::text", (big,)).fetchone() == (big,)
    assert connection.execute("SELECT length(%b::bytea)", (b"z" * 8_000_000,)).fetchone() == (8_000_000,)


def test_streaming_reads_row_by_row(connection: psycopg.Connection[Any]) -> None:
    with connection.cursor() as cursor:
        assert sum(row[0] for row in cursor.stream("SELECT i FROM generate_series(1, 5000) i")) == 12_502_500


def test_enums_are_found_and_loaded(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    info = EnumInfo.fetch(connection, "mood")
    assert info is not None
    assert list(info.labels) == ["sad", "ok"]
    register_enum(info, connection)
    assert connection.execute("SELECT 'ok'::mood, ARRAY['sad']::mood[]").fetchone()[0].name == "ok"


def test_row_factories_and_rowcount(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE counted (a int, b text)")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO counted VALUES (%s, %s) RETURNING a", [(1, "x"), (2, "y")], returning=True)
        assert cursor.rowcount == 2 or cursor.rowcount == 1
        assert cursor.execute("UPDATE counted SET a = a + 1").rowcount == 2
    with connection.cursor(row_factory=dict_row) as cursor:
        assert cursor.execute("SELECT * FROM counted ORDER BY a").fetchone() == {"a": 2, "b": "x"}
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        assert cursor.execute("SELECT a, b FROM counted ORDER BY a DESC").fetchone().b == "y"


def test_result_columns_name_their_table(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE described (a int, b varchar(7))")
    result = connection.execute("SELECT b, a, a + 1 FROM described").pgresult
    assert result is not None
    oid = connection.execute("SELECT 'described'::regclass::oid").fetchone()[0]
    assert [(result.ftable(i), result.ftablecol(i)) for i in range(3)] == [(oid, 2), (oid, 1), (0, 0)]
    assert result.fmod(0) == 11


def test_ranges_are_refused_plainly(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.Error):
        connection.execute("SELECT %s::int4range", (Range(1, 2),))
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_unknown_database_and_role_say_so(node: Any) -> None:
    with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
        psycopg.connect(node.dsn("nowhere"))
    with pytest.raises(psycopg.OperationalError, match='role "nobody" does not exist'):
        psycopg.connect(node.dsn(user="nobody"))


def test_startup_options_and_reported_parameters(dsn: str) -> None:
    with psycopg.connect(
        dsn, application_name="tests", options="-c statement_timeout=5s -c timezone=Asia/Tokyo"
    ) as connection:
        status = connection.info.parameter_status
        assert (status("application_name"), status("TimeZone"), status("server_encoding")) == (
            "tests",
            "Asia/Tokyo",
            "UTF8",
        )
        assert connection.execute("SHOW statement_timeout").fetchone() == ("5s",)
        connection.execute("SET TimeZone = 'UTC'")
        assert status("TimeZone") == "UTC"
        assert connection.info.server_version // 10000 == 15
