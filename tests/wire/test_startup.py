"""What may come before a session: lengths, versions, options, other protocols (reliability 4.2, 1 to 10, 16, 46)."""

from __future__ import annotations

import struct

import pytest

from node.process import Node
from tests.inprocess import Client, message, with_node
from tests.wire.frames import Raw, field, query, special, startup
from wire.opening import ConnectionSettings

SSL, GSS, CANCEL = 80877103, 80877104, 80877102
GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    *[struct.pack("!i", length) + bytes(20) for length in (0, 1, 3, 4, 7, -1, -(1 << 31), 10_001, (1 << 31) - 1)],
    special(2 << 16, b"user\0root\0\0"),
    special((3 << 16) + 9999, b"user\0root"),
    special(4 << 16, b"user\0root\0\0"),
    special(0xFFFFFFFF, bytes(8)),
    startup(3 << 16, database="defaultdb"),
    special(3 << 16, b"user\0root\0database"),
    special(3 << 16, b"user\0\xff\xfe\0\0"),
    special(3 << 16, b"\0"),
    special(3 << 16),
    special(3 << 16, b"".join(b"k%d\0v\0" % i for i in range(10_000)) + b"\0"),
    startup(user="root", replication="true"),
    startup(user="root", replication="database"),
    startup(user="root", database="nowhere"),
    startup(user="nobody"),
    startup(user="root", options="-c no_such_parameter=1"),
    startup(user="root", options="--statement_timeout=abc"),
    special(SSL, b"extra"),
    special(CANCEL, b""),
    special(CANCEL, bytes(500)),
]


async def alive(node: Node, witness: Client) -> None:
    """The other session, and new ones, work."""
    assert await witness.run("SELECT 1") == ["?column?", "1", "(SELECT 1)"]
    other = Client(node)
    await other.until_ready()
    assert other.status == "I"
    other.close()


@pytest.mark.parametrize("data", GARBAGE, ids=[repr(data[:24]) + str(i) for i, data in enumerate(GARBAGE)])
def test_garbage_ends_in_an_error_or_a_close(data: bytes) -> None:
    async def body(node: Node) -> None:
        witness = Client(node)
        await witness.until_ready()
        raw = Raw(node)
        raw.send(data)
        found = raw.io.received
        assert raw.io.is_closed or found[:1] in (b"N", b"S") or b"Z" in found, bytes(found[:100])
        if found[:1] == b"E":
            fields = bytes(found[5:])
            assert field(fields, "S") == "FATAL"
            assert field(fields, "C")[:2] in ("08", "28", "3D", "42", "22", "0A"), field(fields, "C")
        raw.lose()
        await alive(node, witness)

    with_node(body)


def test_a_byte_at_a_time() -> None:
    async def body(node: Node) -> None:
        raw = Raw(node)
        for byte in startup() + query("SELECT 'slow'"):
            raw.send(bytes([byte]))
        kinds = [kind for kind, _ in await raw.until("D")]
        while "D" not in kinds:
            kinds += [kind for kind, _ in await raw.until("D")]

    with_node(body)


def test_a_newer_minor_version_is_negotiated_down() -> None:
    async def body(node: Node) -> None:
        raw = Raw(node)
        raw.send(special((3 << 16) + 2, b"user\0root\0database\0defaultdb\0_pq_.feature\0on\0\0"))
        found = await raw.until("Z")
        negotiated = [data for kind, data in found if kind == "v"]
        assert len(negotiated) == 1
        version, count = struct.unpack_from("!ii", negotiated[0])
        assert version & 0xFFFF0000 in (0, 3 << 16)
        assert count == 1
        assert found[-1][0] == "Z"

    with_node(body)


def test_tls_is_asked_for_once_and_nothing_is_smuggled() -> None:
    async def body(node: Node) -> None:
        raw = Raw(node)
        raw.send(special(GSS))
        assert bytes(raw.io.received) == b"N"
        raw.send(special(SSL))
        assert bytes(raw.io.received) == b"NN"
        raw.send(special(SSL))
        assert raw.io.is_closed or raw.io.received[2:3] == b"E"

    with_node(body)


def test_what_follows_a_request_for_tls_in_plain_is_not_believed() -> None:
    async def body(node: Node) -> None:
        raw = Raw(node)
        raw.send(special(SSL) + startup())
        # Without TLS on this node the answer is N and what follows is an ordinary, plain start.
        assert raw.io.received[:1] in (b"N", b"E")

    with_node(body)


def test_cancel_needs_the_key() -> None:
    async def body(node: Node) -> None:
        raw = Raw(node)
        raw.send(startup())
        key = next(data for kind, data in await raw.until("Z") if kind == "K")
        raw.send(query("SELECT pg_sleep(5)"))
        for wrong in (bytes(8), key[:4] + bytes(4), key[:4] + b"\xff" * 4, bytes(4) + key[4:]):
            attacker = Raw(node)
            attacker.send(special(CANCEL, wrong))
            assert attacker.io.is_closed
            assert not attacker.io.received
        assert raw.take() == []
        friend = Raw(node)
        friend.send(special(CANCEL, key))
        assert friend.io.is_closed
        assert [field(data, "C") for kind, data in await raw.until("Z") if kind == "E"] == ["57014"]
        late = Raw(node)
        late.send(special(CANCEL, key))
        raw.send(query("SELECT 1"))
        assert [kind for kind, _ in await raw.until("Z")] == ["T", "D", "C", "Z"]

    with_node(body)


def test_messages_before_authentication_are_refused() -> None:
    async def body(node: Node) -> None:
        witness = Client(node)
        await witness.until_ready()
        await witness.run("CREATE ROLE ann LOGIN PASSWORD 'x'")
        for first in (
            query("SELECT 1"),
            message(b"p", b"x" * 20),
            message(b"p", b"SCRAM-SHA-256\0\0\0\0\x01n"),
            message(b"p", bytes(1 << 20)),
        ):
            raw = Raw(node)
            raw.connection.settings = ConnectionSettings(False, False, False, b"secret")
            raw.send(startup(user="ann", database="defaultdb"), first)
            for _ in range(20):
                if raw.io.is_closed:
                    break
                await witness.run("SELECT 1")
            errors = [field(data, "C") for kind, data in raw.take() if kind == "E"]
            assert errors, bytes(raw.io.received[:50])
            assert errors[0][:2] in ("08", "28"), errors
            assert raw.io.is_closed
        await alive(node, witness)

    with_node(body)
