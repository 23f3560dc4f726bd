"""Production alone: certificates, limits of gRPC, strangers, start-up and shutdown."""

from __future__ import annotations

import asyncio
import datetime
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from base.errors import AnswerLost, CallFailed, PeerUnavailable, QueryCanceled
from base.seams import MESSAGE_BYTES_MAX
from kvtier.rpc.frames import PROTOCOL_VERSION, Beat, Hello, Message, Open, Welcome, encode_bundle
from node import authority
from node.transport.security import Security, files_of
from node.transport.service import STREAM_METHOD, ask, open_channel
from tests.transport.test_contract import echo, reach
from tests.transport.worlds import CLUSTER, SETTINGS, SHORT_SILENCE, GrpcWorld, Inbox, World

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificates of a good cluster, and of everybody who must not get in."""
    place = tmp_path_factory.mktemp("certs")
    for name in ("good", "other", "elsewhere"):
        authority.create_ca(place / name, NOW)
    for name, hosts in (("good", ["127.0.0.1"]), ("other", ["127.0.0.1"]), ("elsewhere", ["10.1.2.3"])):
        authority.create_node(place / name, place / name / "ca.key", hosts, NOW)
    authority.create_client(place / "good", place / "good" / "ca.key", "alice", NOW)
    old = place / "expired"
    old.mkdir()
    for name in ("ca.crt", "ca.key"):
        shutil.copy(place / "good" / name, old / name)
    authority.create_node(old, old / "ca.key", ["127.0.0.1"], NOW - datetime.timedelta(days=10), days=5)
    return place


def secure(certs: Path) -> GrpcWorld:
    world = GrpcWorld()
    world.security = files_of(certs / "good")
    return world


def run(world: GrpcWorld, main: Callable[[GrpcWorld], Any]) -> None:
    world.run(main)  # type: ignore[arg-type]  # the world is the one that was given
    assert world.notes.bugs == []


def test_nodes_of_one_authority_talk(certs: Path) -> None:
    async def main(world: GrpcWorld) -> None:
        one, _two = await world.pair(register=echo)
        assert await one.call(2, "kv.echo", b"hello", 10) == b"hello"

    run(secure(certs), main)


def intruders(certs: Path) -> dict[str, Security]:
    ca = str(certs / "good" / "ca.crt")
    user = certs / "good" / "client.alice.crt"
    return {
        "a user's certificate": Security(ca, str(user), str(user.with_suffix(".key"))),
        "another authority": Security(ca, str(certs / "other" / "node.crt"), str(certs / "other" / "node.key")),
        "an expired certificate": Security(
            ca, str(certs / "expired" / "node.crt"), str(certs / "expired" / "node.key")
        ),
    }


@pytest.mark.parametrize("who", ["a user's certificate", "another authority", "an expired certificate"])
def test_no_other_certificate_gets_in(certs: Path, who: str) -> None:
    """reliability 4.2 (51), (52): neither a stream nor a question of a stranger."""
    security = intruders(certs)[who]

    async def main(world: GrpcWorld) -> None:
        one, two = await world.pair(register=echo)
        inbox = Inbox(world, two, "kv.x")
        intruder = world.make(3, security=security)
        intruder.send(2, "kv.x", b"intruder")
        raised = await world.outcome(intruder.call(2, "kv.echo", b"", 10))
        assert isinstance(raised, PeerUnavailable)
        two.on_stranger("join", answer_anything)  # type: ignore[attr-defined]
        raised = await world.outcome(ask(world.addresses[2], security, "join", b"", 10))
        assert isinstance(raised, PeerUnavailable | AnswerLost)
        assert inbox.got == []
        assert await one.call(2, "kv.echo", b"x", 10) == b"x"
        if who == "a user's certificate":
            assert "the certificate is not that of a node" in world.notes.text()

    run(secure(certs), main)


async def answer_anything(message: bytes) -> bytes:
    return b"welcome"


def test_no_certificate_and_no_tls(certs: Path) -> None:
    async def main(world: GrpcWorld) -> None:
        _one, two = await world.pair(register=echo)
        plain = world.make(3, security=Security())
        assert isinstance(await world.outcome(plain.call(2, "kv.echo", b"", 10)), PeerUnavailable)
        host, port = world.addresses[2].split(":")
        context = ssl.create_default_context(cafile=str(certs / "good" / "ca.crt"))
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        try:
            assert await reader.read(1000) == b""  # closed: no certificate was shown
        except (ssl.SSLError, ConnectionError) as refused:
            assert "certificate required" in str(refused).lower() or isinstance(refused, ConnectionError)
        writer.close()
        assert two.stats()["streams"] == 0

    run(secure(certs), main)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_tls_is_refused(certs: Path) -> None:
    async def main(world: GrpcWorld) -> None:
        await world.start(2)
        host, port = world.addresses[2].split(":")
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection(host, int(port), ssl=context_of(certs, version))
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            _reader, writer = await asyncio.open_connection(host, int(port), ssl=context_of(certs, version))
            assert writer.get_extra_info("cipher")[1] == version.name.replace("_", ".")
            writer.close()

    run(secure(certs), main)


def context_of(certs: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Returns a node's TLS that speaks one version alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_verify_locations(certs / "good" / "ca.crt")
    context.load_cert_chain(certs / "good" / "node.crt", certs / "good" / "node.key")
    context.minimum_version = context.maximum_version = version
    return context


def test_a_node_is_trusted_only_where_its_certificate_says_it_lives(certs: Path) -> None:
    async def main(world: GrpcWorld) -> None:
        world.security = files_of(certs / "elsewhere")
        one, _two = await world.pair(register=echo)
        assert isinstance(await world.outcome(one.call(2, "kv.echo", b"", 10)), PeerUnavailable)

    run(GrpcWorld(), main)


def test_a_users_certificate_cannot_serve(certs: Path) -> None:
    """An impostor that answers at a node's address with a certificate of the same authority."""
    user = certs / "good" / "client.alice.crt"

    async def main(world: GrpcWorld) -> None:
        one = await world.start(1)
        impostor = world.make(
            2, security=Security(str(certs / "good" / "ca.crt"), str(user), str(user.with_suffix(".key")))
        )
        impostor.on_call("kv.echo", lambda node_id, message: message)
        world.addresses[2] = f"127.0.0.1:{await impostor.listen('127.0.0.1:0')}"
        assert isinstance(await world.outcome(one.call(2, "kv.echo", b"", 10)), PeerUnavailable)

    run(secure(certs), main)


def test_renewed_certificates_need_no_restart(certs: Path, tmp_path: Path) -> None:
    """Both nodes move to a new authority: files in place, and the next connection uses them."""

    def put(name: str) -> None:
        for file in ("ca.crt", "node.crt", "node.key"):
            shutil.copy(certs / name / file, tmp_path / file)

    async def main(world: GrpcWorld) -> None:
        one, _two = await world.pair(register=echo)
        await one.call(2, "kv.echo", b"", 10)
        put("other")
        outsider = world.make(3, security=files_of(certs / "good"))
        assert isinstance(await world.outcome(outsider.call(2, "kv.echo", b"", 10)), PeerUnavailable)
        one.disconnect(2)
        await reach(world, one, 2)

    put("good")
    world = GrpcWorld()
    world.security = files_of(tmp_path)
    run(world, main)


def test_unreadable_certificates(tmp_path: Path, certs: Path) -> None:
    async def main(world: GrpcWorld) -> None:
        broken = world.make(1, security=files_of(tmp_path / "nothing"))
        with pytest.raises(OSError):
            await broken.listen("127.0.0.1:0")
        await world.start(2, register=echo)
        raised = await world.outcome(broken.call(2, "kv.echo", b"", 10))
        assert "cannot use this node's certificate" in str(raised)

    run(secure(certs), main)


def test_without_tls_only_loopback() -> None:
    async def main(world: GrpcWorld) -> None:
        transport = world.make(1)
        for address in ("0.0.0.0:0", "[::]:0", "example.com:0", ":0"):
            with pytest.raises(ValueError, match="loopback only"):
                await transport.listen(address)

    run(GrpcWorld(), main)


def test_a_port_that_is_taken() -> None:
    async def main(world: GrpcWorld) -> None:
        await world.start(1)
        with pytest.raises(OSError, match="cannot listen on"):
            await world.make(2).listen(world.addresses[1])

    run(GrpcWorld(), main)


# --- nonsense on the wire -----------------------------------------------------------------


HELLO = Hello(PROTOCOL_VERSION, CLUSTER, 7, 2, "kv")


async def greet(rpc: Any) -> int:
    """Opens a stream by hand as node 7; returns the number of the next bundle."""
    await rpc.write(encode_bundle(0, [HELLO]))
    _number, (welcome,) = msgspec.msgpack.decode(await rpc.read())
    await rpc.write(encode_bundle(1, [Open(welcome[4])]))
    return 2


def raw_bundle(number: int, *frames: Any) -> bytes:
    return msgspec.msgpack.encode([number, list(frames)])


NONSENSE = {
    "no msgpack": b"\xff" * 100,
    "nothing": b"",
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "wrong number": raw_bundle(9),
    "negative number": raw_bundle(-1),
    "unknown frame": raw_bundle(2, [99, 1, 2]),
    "nested deeply": b"\x92\x02" + b"\x91" * 100_000,
    "an array of 2^32": b"\x92\x02\xdd\xff\xff\xff\xff",
    "bytes of 2^32": b"\x92\x02\x91\x93\x05\xa1x\xc6\xff\xff\xff\xff",
    "an extension": b"\x92\x02\x91\x93\x05\xa1x\xc7\x01\x01x",
    "a beat of floats": raw_bundle(2, [4, 1.5, 1, 1, 1]),
    "an answer": raw_bundle(2, [7, 1, b""]),
    "a second greeting": raw_bundle(2, [0, 1, CLUSTER, 7, 2, "kv"]),
    "a part of a part": raw_bundle(2, [10, True, msgspec.msgpack.encode([10, True, b""])]),
    "a call that runs twice": raw_bundle(2, [6, 1, "kv.never", 1000, b""], [6, 1, "kv.never", 1000, b""]),
    "a message amid parts": raw_bundle(2, [10, False, b"x"], [5, "kv.x", b""]),
}


@pytest.mark.parametrize("what", list(NONSENSE))
def test_nonsense_ends_the_stream_and_harms_nobody(what: str) -> None:
    """reliability 4.2 (56): bounded decoding, one line in the log, others unaffected."""

    async def main(world: GrpcWorld) -> None:
        one, two = await world.pair(register=echo)
        inbox = Inbox(world, two, "kv.x")

        async def never(node_id: int, message: bytes) -> bytes:
            await world.scheduler.waiter().wait()
            return b""

        two.on_call("kv.never", never)
        channel = open_channel(world.addresses[2], Security())
        rpc = channel.stream_stream(STREAM_METHOD)()
        await greet(rpc)
        await rpc.write(NONSENSE[what])
        while (await rpc.read()) is not grpc.aio.EOF:
            pass
        await channel.close()
        assert "bad message from a node {'node': 7" in world.notes.text()
        assert inbox.got == []
        assert await one.call(2, "kv.echo", b"x", 10) == b"x"

    run(GrpcWorld(), main)


def test_nothing_is_heard_before_the_greeting() -> None:
    early = [Message("kv.x", b"early"), Beat(1, 1, 0, 0), Open(1)]

    async def main(world: GrpcWorld) -> None:
        two = await world.start(2)
        inbox = Inbox(world, two, "kv.x")
        for frame in early:
            channel = open_channel(world.addresses[2], Security())
            rpc = channel.stream_stream(STREAM_METHOD)()
            await rpc.write(encode_bundle(0, [frame]))
            assert await rpc.read() is grpc.aio.EOF
            await channel.close()
        assert inbox.got == []
        assert two.stats()["streams"] == 0

    run(GrpcWorld(), main)


def test_an_oversized_message_ends_its_stream() -> None:
    """Both ends have a limit (reliability 125), far below what gRPC would allow."""

    async def main(world: GrpcWorld) -> None:
        one, _two = await world.pair(register=echo)
        channel = grpc.aio.insecure_channel(world.addresses[2])
        rpc = channel.stream_stream(STREAM_METHOD)()
        await greet(rpc)
        await rpc.write(bytes(1 << 20))
        assert await rpc.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await channel.close()
        assert await one.call(2, "kv.echo", b"x", 10) == b"x"

    run(GrpcWorld(), main)


def test_endless_parts_are_bounded() -> None:
    """reliability 4.2 (55): parts that never end are given up at the largest message."""

    async def main(world: GrpcWorld) -> None:
        two = await world.start(2)
        channel = open_channel(world.addresses[2], Security())
        rpc = channel.stream_stream(STREAM_METHOD)()
        number = await greet(rpc)
        try:
            for number in range(number, number + 400):
                await rpc.write(raw_bundle(number, [10, False, bytes(100_000)]))
        except (asyncio.InvalidStateError, grpc.RpcError):
            pass
        # How many the sender could write before it heard of the end says nothing; how many were taken does.
        assert two.stats()["bytes_received"] < MESSAGE_BYTES_MAX + 1_000_000
        assert "frame of more than" in world.notes.text()
        await channel.close()

    run(GrpcWorld(), main)


def test_a_method_that_does_not_exist() -> None:
    async def main(world: GrpcWorld) -> None:
        await world.start(2)
        channel = open_channel(world.addresses[2], Security())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/meridian.Node/Everything")(b"")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        await channel.close()

    run(GrpcWorld(), main)


def test_one_that_connects_and_says_nothing_is_given_up() -> None:
    async def main(world: GrpcWorld) -> None:
        two = await world.start(2, SHORT_SILENCE)
        channel = open_channel(world.addresses[2], Security())
        rpc = channel.stream_stream(STREAM_METHOD)()
        assert await rpc.read() is grpc.aio.EOF
        await channel.close()
        assert two.stats()["streams"] == 0

    run(GrpcWorld(), main)


# --- strangers, addresses, start-up ---------------------------------------------------------


def test_questions_of_nodes_without_an_id(certs: Path) -> None:
    async def main(world: GrpcWorld) -> None:
        two: Any = await world.start(2)

        async def join(message: bytes) -> bytes:
            if message == b"no":
                raise QueryCanceled("not you")
            return b"node 9, " + message

        two.on_stranger("join", join)
        address, security = world.addresses[2], world.security
        assert await ask(address, security, "join", b"please", 10) == b"node 9, please"
        raised = await world.outcome(ask(address, security, "join", b"no", 10))
        assert isinstance(raised, CallFailed)
        assert (raised.sqlstate, raised.message) == ("57014", "not you")
        assert isinstance(await world.outcome(ask(address, security, "leave", b"", 10)), PeerUnavailable)
        assert isinstance(await world.outcome(ask("127.0.0.1:1", security, "join", b"", 10)), PeerUnavailable)

    run(secure(certs), main)


def test_addresses_are_looked_up_at_every_attempt() -> None:
    async def main(world: GrpcWorld) -> None:
        one, two = await world.pair(register=echo)
        right = world.addresses.pop(2)
        raised = await world.outcome(one.call(2, "kv.echo", b"", 10))
        assert "its address is not known" in str(raised)
        world.addresses[2] = world.addresses[1]
        raised = await world.outcome(when_free(world, one))
        assert "cannot be its peer" in str(raised) or "this is node 1" in str(raised)
        world.addresses[2] = right
        await reach(world, one, 2)
        await world.stop(two)
        three = await world.start(3, register=echo)
        world.addresses[2] = world.addresses[3]
        while "this is node 3, not node 2" not in str(await world.outcome(when_free(world, one))):
            await world.clock.sleep(0.01)
        assert three.counts["refusals"] >= 1

    run(GrpcWorld(), main)


async def when_free(world: World, transport: Any) -> bytes:
    """Calls once the transport dials again."""
    dials = transport.counts["dials"]
    while True:
        outcome = await world.outcome(transport.call(2, "kv.echo", b"", 10))
        if transport.counts["dials"] > dials:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        await world.clock.sleep(0.01)


def test_memory_is_bounded_while_a_peer_stands_still(certs: Path) -> None:
    """A receiver that reads nothing: HTTP/2 windows fill, then the queue, then sends are refused (reliability 126)."""
    settings = msgspec.structs.replace(SETTINGS, queue_bytes_max=1 << 20, silence_seconds=30.0)

    async def main(world: GrpcWorld) -> None:
        one = await world.start(1, settings)
        stalled = world.scheduler.waiter()

        async def take_nothing(_: Any, rpc: Any) -> None:
            await rpc.read()
            await rpc.write(encode_bundle(0, [Welcome(PROTOCOL_VERSION, CLUSTER, 2, 1)]))
            await stalled.wait()

        server = grpc.aio.server()
        method = grpc.stream_stream_rpc_method_handler(take_nothing)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("meridian.Node", {"Stream": method}),))
        world.addresses[2] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        taken = refused = 0
        while refused < 100:
            if one.send(2, "kv.x", bytes(50_000)):
                taken += 1
            else:
                refused += 1
            await world.clock.sleep(0)
        assert one.stats()["queued_bytes"] <= 1 << 20
        assert taken * 50_000 < 32 << 20, "the windows of HTTP/2 and the queue, not more"
        stalled.wake()
        await server.stop(0)

    run(GrpcWorld(), main)


def test_a_single_node_does_not_import_grpc() -> None:
    """gRPC is for nodes with peers: one node starts without its time and memory."""
    code = "import sys, node.start, node.process, node.cli; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_process_with_streams_ends_in_order() -> None:
    """No thread, task or warning of grpc.aio outlives the loop: the interpreter exits by itself, silently."""
    code = """
from tests.transport.worlds import GrpcWorld
from tests.transport.test_contract import echo
async def main(world):
    one, two = await world.pair(register=echo)
    assert await one.call(2, "kv.echo", b"x", 10) == b"x"
    one.send(2, "kv.echo", b"under way")
GrpcWorld().run(main)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
