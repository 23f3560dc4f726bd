"""Valid message streams with seeded damage: whatever happens, the node lives and no bug of ours is met."""

from __future__ import annotations

import asyncio
import random
import struct

import pytest

from node.process import Node
from tests.inprocess import Client, message, with_node
from tests.wire.frames import COPY_DONE, FLUSH, SYNC, Raw, bind, close, describe, execute, parse, query

STATEMENTS = (
    "SELECT 1", "SELECT $1::int + 1", "INSERT INTO t VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = excluded.b", "SELECT * FROM t", "BEGIN", "COMMIT",
    "ROLLBACK", "SAVEPOINT s", "SELECT $1::jsonb, $2::numeric, $3::timestamptz", "SELECT i FROM generate_series(1, 20) i", "COPY t FROM STDIN", "COPY t TO STDOUT",
    "DELETE FROM t WHERE a = $1", "SELECT 1/0", "SELECT ''", "", "DECLARE c CURSOR FOR SELECT * FROM t", "FETCH 2 FROM c", "SHOW ALL", "SELECT $1::text[]",
)  # fmt: skip
STREAM_MESSAGES = 12
STREAMS = 250


def valid_message(rng: random.Random) -> bytes:
    name = rng.choice(("", "", "a", "b"))
    kind = rng.randrange(11)
    if kind == 0:
        return query(rng.choice(STATEMENTS).replace("$1", "1").replace("$2", "'2'").replace("$3", "now()"))
    if kind in (1, 2):
        return parse(rng.choice(STATEMENTS), name, tuple(rng.choice((0, 23, 25, 999)) for _ in range(rng.randrange(3))))
    if kind in (3, 4):
        values = tuple(rng.choice((b"1", b"text", None, b"\0\0\0\1", b"{}")) for _ in range(rng.randrange(4)))
        return bind(
            values,
            portal=name,
            name=rng.choice(("", name)),
            formats=rng.choice(((), (0,), (1,))),
            results=rng.choice(((), (0,), (1,))),
        )
    if kind == 5:
        return describe(rng.choice("SP"), name)
    if kind == 6:
        return execute(name, rng.choice((0, 0, 1, 5)))
    if kind == 7:
        return close(rng.choice("SP"), name)
    if kind == 8:
        return rng.choice((message(b"d", b"5\tx\n"), COPY_DONE, message(b"f", b"no\0")))
    return rng.choice((SYNC, SYNC, FLUSH))


def damaged(rng: random.Random, data: bytes) -> bytes:
    """One small change: a byte, a length, a cut, a repetition."""
    body = bytearray(data)
    kind = rng.randrange(6)
    at = rng.randrange(len(body))
    if kind == 0:
        body[at] = rng.randrange(256)
    elif kind == 1:
        body[1:5] = struct.pack("!i", max(4, len(body) - 1 + rng.choice((-3, -1, 1, 9))))
    elif kind == 2 and len(body) > 6:
        del body[rng.randrange(5, len(body)) :]
        body[1:5] = struct.pack("!i", len(body) - 1)
    elif kind == 3:
        body[5:5] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
        body[1:5] = struct.pack("!i", len(body) - 1)
    elif kind == 4:
        return data + data
    else:
        body[0] = rng.choice(b"QPBDECSHXFdcfp")
    return bytes(body)


async def one_stream(node: Node, seed: int) -> None:
    rng = random.Random(seed)
    raw = await Raw(node).open()
    for _ in range(STREAM_MESSAGES):
        data = valid_message(rng)
        raw.send(damaged(rng, data) if rng.random() < 0.35 else data)
        await asyncio.sleep(0)
    raw.lose()


@pytest.mark.parametrize("seed", range(4))
def test_damaged_streams(seed: int) -> None:
    async def body(node: Node) -> None:
        witness = Client(node)
        await witness.until_ready()
        await witness.run("CREATE TABLE t (a int PRIMARY KEY, b text)")
        for number in range(STREAMS // 4):
            await one_stream(node, seed * 10_000 + number)
            assert await witness.run("SELECT 1") == ["?column?", "1", "(SELECT 1)"], number
        raw = await Raw(node).open()
        assert (await raw.answers(parse("SELECT count(*) >= 0 FROM t"), bind(), execute()))[2] == "D t"

    with_node(body)
