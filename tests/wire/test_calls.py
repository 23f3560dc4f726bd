"""A call (Bind, Describe, Execute, Sync in one piece) is answered as its messages are one by one.

The one-by-one way is the specification; ``wire.calls`` and ``sql.calls`` take the other.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

import pytest

from node.process import Node
from planner.exec.fast import EncodedRows
from sql.calls import CallPath
from sql.server import CONTROL_CHARS_MAX
from tests.inprocess import message, with_node
from tests.wire.frames import SYNC, Raw, bind, close, describe, execute, parse, query
from wire.calls import HEADS_MAX, TAILS_MAX, head_end, number_at, split_values

SCHEMA = """
CREATE TABLE t (id int PRIMARY KEY, n int, s text, u int UNIQUE, at timestamptz);
INSERT INTO t SELECT i, i % 3, 'row ' || i, 100 + i, '2024-01-01 00:00:00+00' FROM generate_series(1, 20) i;
INSERT INTO t VALUES (21, NULL, NULL, NULL, NULL)
"""
STATEMENTS = {
    "point": "SELECT n, s FROM t WHERE id = $1",
    "all": "SELECT * FROM t WHERE id = $1",
    "unique": "SELECT id, s FROM t WHERE u = $1",
    "divide": "SELECT 10 / n FROM t WHERE id = $1",
    "lock": "SELECT n FROM t WHERE id = $1 FOR UPDATE",
    "limit": "SELECT s FROM t WHERE id = $1 LIMIT $2",
    "nobody": "SELECT current_setting('timezone') FROM t WHERE id = $1",
    "two": "SELECT s FROM t WHERE id = $1 AND n = $2",
    "update": "UPDATE t SET n = n + $2 WHERE id = $1",
    "returning": "UPDATE t SET n = 0 WHERE id = $1 RETURNING id, s",
    "insert": "INSERT INTO t (id, n, u) VALUES ($1, $2, $1)",
    "delete": "DELETE FROM t WHERE id = $1",
    "range": "SELECT id FROM t WHERE id > $1 ORDER BY id LIMIT 3",
    "slow": "SELECT count(*) FROM t WHERE n = $1",
    "now": "SELECT id FROM t WHERE id = $1 AND at <= now()",
    "page": "SELECT id, s FROM t WHERE id >= $1",
    "begin": "BEGIN",
    "begin-rc": "START TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "begin-ro": "BEGIN READ ONLY",
    "commit": "COMMIT",
    "chain": "COMMIT AND CHAIN",
    "rollback": "ROLLBACK",
    "savepoint": "SAVEPOINT s",
    "release": "RELEASE SAVEPOINT s",
    "back": "ROLLBACK TO SAVEPOINT s",
    "show": "SHOW transaction_isolation",
}
CONTROLS = ("begin", "begin-rc", "begin-ro", "commit", "chain", "rollback", "savepoint", "release", "back", "show")
PARAMETERS = {"limit": 2, "two": 2, "update": 2, "insert": 2} | dict.fromkeys(CONTROLS, 0)
COMMANDS = (
    "BEGIN", "BEGIN", "BEGIN ISOLATION LEVEL READ COMMITTED", "BEGIN READ ONLY", "START TRANSACTION", "COMMIT", "COMMIT", "ROLLBACK",
    "RELEASE s", "SHOW transaction_isolation", "SHOW transaction_read_only", "SET extra_float_digits = 0", "SET LOCAL timezone = 'Asia/Tokyo'",
    "SET timezone = 'Europe/Oslo'", "SELECT 1/0", "CREATE INDEX ON t (n)", "SAVEPOINT s", "ROLLBACK TO s",
    "DECLARE c CURSOR WITH HOLD FOR SELECT id FROM t", "CLOSE ALL", "SET default_transaction_read_only = on", "RESET ALL",
    "SET default_transaction_isolation = 'read committed'",
)  # fmt: skip

ENDS = ("BEGIN", "COMMIT", "ROLLBACK")
Step = list[bytes]
"""Messages that belong together."""


def one_call(draw: random.Random) -> Step:
    """A call with odds of everything that drivers do and a few things they should not."""
    name = draw.choice(list(STATEMENTS) if draw.random() < 0.7 else CONTROLS)
    count = PARAMETERS.get(name, 1)
    values: list[bytes | None] = []
    is_binary = draw.random() < 0.3
    for _ in range(count if draw.random() < 0.97 else count + 1):
        number = draw.choice((*range(-1, 24), 105, 110))
        values.append(struct.pack("!i", number) if is_binary else b"%d" % number)
        if draw.random() < 0.06:
            values[-1] = draw.choice((None, b"", b"x", b" 7 ", b"99999999999"))
    formats = (1,) if is_binary else draw.choice(((), (0,), (0,) * len(values), (2,) if draw.random() < 0.1 else ()))
    results = draw.choice(((), (), (0,), (1,), (1, 1)))
    step = [bind(tuple(values), name=name, formats=formats, results=results)]
    if draw.random() < 0.6:
        step.append(describe())
    step.append(execute(rows=draw.choice((0, 0, 0, 0, 0, 1))))
    if draw.random() < 0.05:
        step.append(execute())
    return [*step, SYNC]


def plain(sql: str) -> str:
    """The statement with a comment after its first word, too long to be remembered as what begins or ends transactions."""
    first, _, rest = sql.partition(" ")
    return f"{first} /*{'-' * CONTROL_CHARS_MAX}*/ {rest or 'WORK' if first in ENDS else rest}"


def steps(seed: int, count: int, change: Callable[[str], str] = str) -> list[Step]:
    draw = random.Random(seed)
    texts = {name: change(sql) if name in CONTROLS else sql for name, sql in STATEMENTS.items()}
    found: list[Step] = [[query(SCHEMA)], [*[parse(sql, name) for name, sql in texts.items()], SYNC]]
    for _ in range(count):
        if draw.random() < 0.12:
            found.append([query(change(draw.choice(COMMANDS)))])
        elif draw.random() < 0.05:
            name = draw.choice(list(STATEMENTS))
            found.append([close(name=name), parse(texts[draw.choice(list(STATEMENTS))], name), SYNC])
        else:
            found.append(one_call(draw))
    return found


def answers(script: Sequence[Step], pieces: Callable[[Step], list[bytes]]) -> list[list[tuple[str, bytes]]]:
    """What a client sees that sends each step in these pieces."""
    found = []

    async def main(node: Node) -> None:
        raw = await Raw(node).open()
        for step in script:
            for piece in pieces(step):
                raw.send(piece)
            found.append(await raw.until("Z"))

    with_node(main)
    return found


def whole(step: Step) -> list[bytes]:
    return [b"".join(step)]


@pytest.mark.parametrize("seed", range(12))
def test_a_call_is_answered_as_its_messages_are(seed: int) -> None:
    script = steps(seed, 250)
    expected = answers(steps(seed, 250, plain), lambda step: step)
    actual = answers(script, whole)
    for step, one, other in zip(script, expected, actual):
        assert other == one, (seed, step)


def test_pipelined_calls_and_cut_ones(seed: int = 1) -> None:
    """Any cut of the stream gives the same answers: several calls in one piece, one call in two."""
    draw = random.Random(seed)
    script = steps(seed, 150)
    expected = answers(script, lambda step: step)

    def halves(step: Step) -> list[bytes]:
        data = b"".join(step)
        at = draw.randrange(len(data))
        return [data[:at], data[at:]]

    assert answers(script, halves) == expected
    found: list[tuple[str, bytes]] = []

    async def in_groups(node: Node) -> None:
        raw = await Raw(node).open()
        for group in [script[:1], script[1:2], *[script[i : i + 5] for i in range(2, len(script), 5)]]:
            raw.send(*[part for step in group for part in step])
            ends = 0
            while ends < len(group):
                taken = await raw.until("Z")
                ends += sum(kind == "Z" for kind, _ in taken)
                found.extend(taken)

    with_node(in_groups)
    assert found == [one for answer in expected for one in answer]


def test_the_short_way_is_taken() -> None:
    """The comparison above would also pass if no call were ever known."""
    taken: list[bytes | None] = []

    async def main(node: Node) -> None:
        raw = await Raw(node).open()
        for step in steps(0, 0):
            raw.send(*step)
            await raw.until("Z")
        session = raw.connection.session
        assert isinstance(session, CallPath)
        before = node.sql.statements
        call = [bind((b"5",), name="point"), describe(), execute(), SYNC]
        for _ in range(3):
            raw.send(*call)
            taken.append((await raw.until("Z"))[2][1])
        assert node.sql.statements == before + 3
        (head,) = raw.connection._calls.values()
        shape = head.shapes[0].call
        assert session.answer(shape, [b"5"]) == message(b"D", taken[0] or b"")
        assert session.answer(shape, [b"0"]) == b""
        raw.send(query("BEGIN"))
        await raw.until("Z")
        assert session.answer(shape, [b"5"]) is None
        rows = session.run_call(shape, [b"5"])
        assert isinstance(rows, EncodedRows)
        assert (rows.data, rows.count) == (message(b"D", taken[0] or b""), 1)
        assert session.run_call(shape, [b"five"]) is None
        for name, status in (("commit", "I"), ("begin", "T"), ("rollback", "I")):
            known = session.known_call(name, (), 0, ())
            assert known is not None and session.is_current(known)
            assert isinstance(session.run_call(known, []), EncodedRows)
            assert session.transaction_status == status
            assert session.run_call(known, []) is None, "twice it warns"

    with_node(main)
    assert taken[0] == taken[1] == taken[2]


def test_what_a_connection_remembers_is_bounded() -> None:
    async def main(node: Node) -> None:
        raw = await Raw(node).open()
        raw.send(*steps(0, 0)[0])
        await raw.until("Z")
        for i in range(HEADS_MAX + 10):
            raw.send(parse(STATEMENTS["point"], f"s{i}"), SYNC)
            await raw.until("Z")
            raw.send(bind((b"1",), name=f"s{i}"), execute(), SYNC)
            await raw.until("Z")
        assert len(raw.connection._calls) <= HEADS_MAX
        for results in ((), (0,), (1,), (0, 0), (1, 1), (0, 1)):
            for describes in (True, False):
                raw.send(
                    bind((b"1",), name="s5", results=results), *([describe()] if describes else []), execute(), SYNC
                )
                await raw.until("Z")
        assert all(len(head.shapes) <= TAILS_MAX for head in raw.connection._calls.values())

    with_node(main)


@pytest.mark.parametrize("cut", range(1, 40))
def test_no_prefix_of_a_bind_is_taken_for_one(cut: int) -> None:
    data = bind((b"12345", None), name="some", formats=(0, 0))[:cut]
    at = head_end(data, 0)
    if at:
        values = split_values(data, at, 2)
        if values is not None:
            assert values[:2] == [b"12345", None]


def test_numbers_are_unsigned() -> None:
    assert number_at(b"x\xff\xff\xff\xff", 1) == 0xFFFFFFFF
    assert number_at(b"\0\0\1\2", 0) == 258


# --- the simple protocol -----------------------------------------------------------------------

QUERIES = (
    "SELECT n, s FROM t WHERE id = {0}", "SELECT * FROM t WHERE id = {0}", "SELECT id FROM t WHERE u = {0}",
    "SELECT 10 / n FROM t WHERE id = {0}", "SELECT n FROM t WHERE id = {0} FOR UPDATE", "SELECT s FROM t WHERE id = {0} LIMIT {1}",
    "UPDATE t SET n = {1}, s = '{0}' WHERE id = {0}", "INSERT INTO t (id, n, u) VALUES ({0}, {1}, {0})", "DELETE FROM t WHERE id = {0}",
    "SELECT id FROM t WHERE id > {0} ORDER BY id LIMIT 3", "SELECT count(*) FROM t WHERE n = {1}", "SELECT count(*) FROM t",
    "SELECT s FROM t WHERE id = '{0}'", "SELECT s FROM t WHERE id = 'x{0}'", "SELECT {0} + n FROM t WHERE id = {1}", "SELECT s FROM t WHERE id = -{0}",
    "SELECT s FROM nowhere WHERE id = {0}", "SELECT at FROM t WHERE id = {0} AND at < 'now'", "SELECT n::numeric({1}0) FROM t WHERE id = {0}",
)  # fmt: skip


def queries(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        if draw.random() < 0.12:
            found.append(draw.choice(COMMANDS))
        else:
            found.append(draw.choice(QUERIES).format(draw.choice((*range(24), 105, 110)), draw.randrange(4)))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_query_of_a_known_shape_is_answered_as_it_stands(seed: int) -> None:
    """A comment keeps a statement from being recognized."""
    texts = queries(seed, 250)
    head: list[Step] = [[query(SCHEMA)]]
    usual = [plain(text) if text in COMMANDS else text + " -- plain" for text in texts]
    expected = answers([*head, *[[query(text)] for text in usual]], whole)
    actual = answers([*head, *[[query(text)] for text in texts]], whole)
    for text, one, other in zip(["", *texts], expected, actual):
        assert other == one, (seed, text)
