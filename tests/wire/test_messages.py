"""The extended protocol's rules and what breaks them (reliability 4.2, 18 to 35)."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable

import pytest

from node.process import Node
from tests.inprocess import Client, message, with_node
from tests.wire.frames import COPY_DONE, FLUSH, SYNC, Raw, bind, close, describe, execute, field, parse, query, short


def session(body: Callable[[Raw, Client], Awaitable[None]]) -> None:
    """Runs a body with a raw session and a witness whose session must be unaffected."""

    async def main(node: Node) -> None:
        witness = Client(node)
        await witness.until_ready()
        raw = await Raw(node).open()
        await body(raw, witness)
        assert await witness.run("SELECT 1") == ["?column?", "1", "(SELECT 1)"]
        newcomer = await Raw(node).open()
        assert await newcomer.answers(parse("SELECT 2"), bind(), execute()) == ["1", "2", "D 2", "C SELECT 1", "Z I"]

    with_node(main)


FATAL = [
    b"\0" + struct.pack("!i", 4),
    b"~" + struct.pack("!i", 4),
    b"\xff" + struct.pack("!i", 100) + bytes(96),
    *[b"Q" + struct.pack("!i", length) for length in (0, 1, 3, -1, -(1 << 31), (1 << 31) - 1)],
    b"S" + struct.pack("!i", 2),
]


@pytest.mark.parametrize("data", FATAL, ids=[repr(data[:5]) for data in FATAL])
def test_broken_framing_ends_the_session(data: bytes) -> None:
    async def body(raw: Raw, witness: Client) -> None:
        raw.send(data)
        errors = [(field(text, "S"), field(text, "C")) for kind, text in raw.take() if kind == "E"]
        assert errors == [("FATAL", "08P01")]
        assert raw.io.is_closed

    session(body)


WRONG: list[tuple[str, bytes, str]] = [
    ("Parse without anything", message(b"P", b""), "08P01"),
    ("Parse without its query's end", message(b"P", b"\0SELECT 1"), "08P01"),
    ("Parse with too few types", message(b"P", b"\0SELECT 1\0" + struct.pack("!H", 3)), "08P01"),
    ("Parse with 65,535 types", message(b"P", b"\0SELECT 1\0" + struct.pack("!H", 65535) + bytes(8)), "08P01"),
    ("Parse with trailing bytes", message(b"P", b"\0SELECT 1\0\0\0junk"), "08P01"),
    ("Parse with an unknown type", parse("SELECT $1", types=(999_999,)), "42704"),
    ("Parse of two statements", parse("SELECT 1; SELECT 2"), "42601"),
    ("Parse with a syntax error", parse("SELEC 1"), "42601"),
    ("Parse with invalid UTF-8", message(b"P", b"\0SELECT '\xff'\0\0\0"), "22021"),
    ("Bind to nothing", bind(name="absent"), "26000"),
    ("Bind with too few values", parse("SELECT $1::int") + bind(), "08P01"),
    ("Bind with too many values", parse("SELECT 1") + bind((b"1",)), "08P01"),
    (
        "Bind with three formats for two",
        parse("SELECT $1::int, $2::int") + bind((b"1", b"2"), formats=(0, 0, 0)),
        "08P01",
    ),
    ("Bind with format 2", parse("SELECT $1::int") + bind((b"1",), formats=(2,)), "22023"),
    ("Bind with result format 7", parse("SELECT 1") + bind(results=(7,)) + execute(), "22023"),
    ("Bind with two result formats for one", parse("SELECT 1") + bind(results=(0, 0)), "08P01"),
    (
        "Bind with length -2",
        parse("SELECT $1::text") + message(b"B", b"\0\0\0\0\0\1" + struct.pack("!i", -2) + b"\0\0"),
        "08P01",
    ),
    (
        "Bind with a huge length",
        parse("SELECT $1::text") + message(b"B", b"\0\0\0\0\0\1" + struct.pack("!i", (1 << 31) - 1) + b"x\0\0"),
        "08P01",
    ),
    ("Bind cut short", parse("SELECT $1::text") + message(b"B", b"\0\0\0"), "08P01"),
    ("Bind of a wrong text", parse("SELECT $1::int") + bind((b"x",)), "22P02"),
    ("Bind of a short binary", parse("SELECT $1::int") + bind((b"\0\0",), formats=(1,)), "08P01"),
    ("Bind of invalid UTF-8", parse("SELECT $1::text") + bind((b"\xff",)), "22021"),
    ("Bind of a zero byte", parse("SELECT $1::text") + bind((b"a\0b",)), "22021"),
    (
        "Bind twice to a portal",
        parse("SELECT 1", "s") + bind(portal="p", name="s") + bind(portal="p", name="s"),
        "42P03",
    ),
    ("Describe of nothing", describe("S", "absent"), "26000"),
    ("Describe of no portal", describe("P", "absent"), "34000"),
    ("Describe of another kind", describe("X"), "08P01"),
    ("Close of another kind", close("X"), "08P01"),
    ("Execute of no portal", execute("absent"), "34000"),
    ("Execute cut short", message(b"E", b"\0\0"), "08P01"),
    ("Function call", message(b"F", bytes(10)), "0A000"),
]


@pytest.mark.parametrize(("data", "sqlstate"), [(d, s) for _, d, s in WRONG], ids=[name for name, _, _ in WRONG])
def test_a_wrong_message_fails_and_the_session_goes_on_after_sync(data: bytes, sqlstate: str) -> None:
    async def body(raw: Raw, witness: Client) -> None:
        answers = await raw.answers(data, parse("SELECT 'skipped'"), bind(), execute())
        assert [answer for answer in answers if answer[0] == "E"] == [f"E {sqlstate}"]
        assert not any(answer.startswith("D") for answer in answers), answers
        assert answers[-1] == "Z I"
        assert await raw.answers(parse("SELECT 7"), bind(), execute()) == ["1", "2", "D 7", "C SELECT 1", "Z I"]

    session(body)


def test_a_named_statement_is_defined_once_the_unnamed_as_often_as_wanted() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        assert await raw.answers(parse("SELECT 1", "s"), parse("SELECT 2", "s")) == ["1", "E 42P05", "Z I"]
        assert await raw.answers(parse("SELECT 1"), bind(), parse("SELECT 2"), execute(), bind(), execute()) == [
            "1", "2", "1", "D 1", "C SELECT 1", "2", "D 2", "C SELECT 1", "Z I",
        ]  # fmt: skip
        assert await raw.answers(close("S", "s"), close("S", "never"), parse("SELECT 3", "s"), bind(name="s"), execute()) == [
            "3", "3", "1", "2", "D 3", "C SELECT 1", "Z I",
        ]  # fmt: skip

    session(body)


def test_portals_suspend_at_their_row_limit() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        answers = await raw.answers(
            parse("SELECT i FROM generate_series(1, 5) i"),
            bind(portal="p"),
            execute("p", 2),
            execute("p", 2),
            execute("p", 2),
            execute("p", 2),
        )
        assert answers == ["1", "2", "D 1", "D 2", "s", "D 3", "D 4", "s", "D 5", "C SELECT 1", "C SELECT 0", "Z I"]
        assert await raw.answers(execute("p")) == ["E 34000", "Z I"]

    session(body)


def test_row_limits_beyond_reason() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        for limit in (-1, -(1 << 31), (1 << 31) - 1):
            answers = await raw.answers(parse("SELECT 1"), bind(), execute("", limit))
            assert answers == ["1", "2", "D 1", "C SELECT 1", "Z I"], limit

    session(body)


def test_a_suspended_portal_ends_with_its_transaction() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        assert (await raw.answers(query("BEGIN")))[0] == "C BEGIN"
        raw.take()
        raw.send(parse("SELECT i FROM generate_series(1, 9) i"), bind(portal="p"), execute("p", 1))
        assert "s" in [kind for kind, _ in await raw.settle()]
        raw.send(query("COMMIT"))
        await raw.until("Z")
        assert await raw.answers(execute("p", 1)) == ["E 34000", "Z I"]

    session(body)


def test_a_portal_of_a_dropped_table_does_not_crash() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        await witness.run("CREATE TABLE t (a int)")
        await witness.run("INSERT INTO t SELECT generate_series(1, 100)")
        await raw.answers(parse("SELECT a FROM t", "s"))
        await witness.run("DROP TABLE t")
        answers = await raw.answers(bind(name="s"), execute())
        assert [answer for answer in answers if answer[0] == "E"] == ["E 42P01"]

    session(body)


def test_flush_shows_what_is_ready_without_a_sync() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        raw.send(parse("SELECT 1"), FLUSH)
        assert [kind for kind, _ in await raw.until("1")] == ["1"]
        raw.send(bind(), describe(), execute(), FLUSH)
        assert [kind for kind, _ in await raw.until("C")] == ["2", "T", "D", "C"]
        assert [kind for kind, _ in await raw.settle()] == ["Z"]

    session(body)


def test_a_pipeline_is_one_transaction_up_to_its_sync() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        await witness.run("CREATE TABLE t (a int PRIMARY KEY)")
        insert = parse("INSERT INTO t VALUES ($1)", "insert")
        one, two = bind((b"1",), name="insert") + execute(), bind((b"2",), name="insert") + execute()
        assert await raw.answers(insert, one, two, one) == [
            "1",
            "2",
            "C INSERT 0 1",
            "2",
            "C INSERT 0 1",
            "2",
            "E 23505",
            "Z I",
        ]
        assert await witness.run("SELECT count(*) FROM t") == ["count", "0", "(SELECT 1)"]
        raw.send(one, SYNC, one, SYNC, two, SYNC)
        found: list[str] = []
        while found.count("Z I") < 3:
            found += [short(kind, data) for kind, data in await raw.until("Z")]
        assert found == ["2", "C INSERT 0 1", "Z I", "2", "E 23505", "Z I", "2", "C INSERT 0 1", "Z I"]
        assert await witness.run("SELECT count(*) FROM t") == ["count", "2", "(SELECT 1)"]

    session(body)


def test_errors_in_a_block_wait_for_rollback() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        assert await raw.answers(parse("BEGIN"), bind(), execute()) == ["1", "2", "C BEGIN", "Z T"]
        assert await raw.answers(parse("SELECT 1/0"), bind(), execute()) == ["1", "2", "E 22012", "Z E"]
        assert await raw.answers(parse("SELECT * FROM absent")) == ["E 25P02", "Z E"]
        assert await raw.answers(parse("ROLLBACK"), bind(), execute()) == ["1", "2", "C ROLLBACK", "Z I"]

    session(body)


def test_empty_statements() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        for sql in ("", ";;;", "-- only a comment", "/* and /* nested */ */"):
            raw.send(query(sql))
            assert [short(kind, data) for kind, data in await raw.until("Z")] == ["I", "Z I"], sql
            if sql != ";;;":
                assert await raw.answers(parse(sql), bind(), describe(), execute()) == ["1", "2", "n", "I", "Z I"], sql

    session(body)


def test_ten_thousand_empty_queries_in_one_go() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        raw.send(query("") * 10_000)
        ready = 0
        while ready < 10_000:
            ready += sum(kind == "Z" for kind, _ in await raw.until("Z"))
        assert ready == 10_000

    session(body)


def test_query_texts_no_client_should_send() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        cases = [
            (b"SELECT 1", "08P01"),  # no end of the string
            (b"SELECT '\xc0\x80'\0", "22021"),
            (b"SELECT '\xed\xa0\x80'\0", "22021"),
            (b"\xef\xbb\xbfSELECT 1\0", "42601"),
            (b"SELECT " + b"(" * 5000 + b"1" + b")" * 5000 + b"\0", "54001"),
            (b"SELECT " + b"x" * 1_000_000 + b"\0", "42703"),
        ]
        for text, sqlstate in cases:
            raw.send(message(b"Q", text))
            found = [short(kind, data) for kind, data in await raw.until("Z")]
            assert found == [f"E {sqlstate}", "Z I"], (text[:20], found)

    session(body)


def test_copy_in_and_its_misuse() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        await witness.run("CREATE TABLE c (a int)")
        start = query("COPY c FROM STDIN")

        async def ends(*parts: bytes) -> list[str]:
            raw.send(*parts)
            return [short(kind, data) for kind, data in await raw.until("Z")]

        data = message(b"d", b"1\n2\n")
        assert await ends(start, data, COPY_DONE) == ["G", "C COPY 2", "Z I"]
        assert await ends(start, FLUSH, SYNC, data, COPY_DONE) == ["G", "C COPY 2", "Z I"]
        assert await ends(start, message(b"d", b"1"), message(b"d", b"2\n3"), COPY_DONE) == ["G", "C COPY 2", "Z I"]
        assert await ends(start, data, message(b"f", b"enough\0")) == ["G", "E 57014", "Z I"]
        assert await ends(start, message(b"d", b"x\n"), data, COPY_DONE) == ["G", "E 22P02", "Z I"]
        assert await ends(start, message(b"d", b"1\t2\n"), COPY_DONE) == ["G", "E 22P04", "Z I"]
        assert await ends(
            query("COPY c FROM STDIN (FORMAT binary)"), message(b"d", b"PGCOPX\n" + bytes(20)), COPY_DONE
        ) == ["G", "E 22P04", "Z I"]
        raw.send(data, COPY_DONE, message(b"f", b"late\0"))
        assert await raw.answers() == ["Z I"]
        assert await witness.run("SELECT count(*), sum(a) FROM c") == ["count|sum", "6|21", "(SELECT 1)"]

    session(body)


def test_another_message_inside_copy_ends_it() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        await witness.run("CREATE TABLE c (a int)")
        raw.send(query("COPY c FROM STDIN"), message(b"d", b"1\n"), query("SELECT 1"))
        found = [short(kind, data) for kind, data in await raw.until("Z")]
        assert found[:2] == ["G", "E 08P01"]
        assert await witness.run("SELECT count(*) FROM c") == ["count", "0", "(SELECT 1)"]

    session(body)


def test_copy_by_the_extended_protocol() -> None:
    async def body(raw: Raw, witness: Client) -> None:
        await witness.run("CREATE TABLE c (a int)")
        data = message(b"d", b"1\n2\n")
        # As pg8000 and psycopg do it: the Sync of the Execute is read, and ignored, inside the COPY.
        raw.send(parse("COPY c FROM STDIN"), bind(), execute(), SYNC)
        assert [kind for kind, _ in await raw.until("G")] == ["1", "2", "G"]
        raw.send(data, COPY_DONE, SYNC)
        assert [short(kind, body) for kind, body in await raw.until("Z")] == ["C COPY 2", "Z I"]
        assert await raw.answers(parse("COPY c TO STDOUT"), bind(), execute()) == [
            "1",
            "2",
            "H",
            "d",
            "d",
            "c",
            "C COPY 2",
            "Z I",
        ]

    session(body)


def test_a_client_lost_in_the_middle_of_anything() -> None:
    async def body(node: Node) -> None:
        witness = Client(node)
        await witness.until_ready()
        await witness.run("CREATE TABLE t (a int PRIMARY KEY)")
        whole = (
            parse("INSERT INTO t VALUES ($1)")
            + bind((b"1",))
            + execute()
            + parse("COPY t FROM STDIN")
            + bind()
            + execute()
            + message(b"d", b"2\n")
        )
        for length in range(0, len(whole), 7):
            raw = await Raw(node).open()
            raw.send(whole[:length])
            raw.lose()
        raw = await Raw(node).open()
        raw.send(query("SELECT pg_sleep(60)"))
        raw.lose()
        assert await witness.run("SELECT count(*) FROM t") == ["count", "0", "(SELECT 1)"]
        assert await witness.run("INSERT INTO t VALUES (1)") == ["(INSERT 0 1)"]

    with_node(body)
