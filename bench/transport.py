"""What a message between nodes costs: gRPC beside a plain TCP stream that carries the same bundles.

    python -m bench.transport [--rounds 5] [--tls]

Two transports in one process, so the figures are CPU of both ends and all threads together, in microseconds.
Only the wire differs: streams, frames and calls are ``kvtier.rpc`` in both.  The two alternate; the least of all
rounds counts, since whatever else runs on the machine only adds.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import ssl
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from kvtier.rpc.link import Dialed
from kvtier.rpc.stream import Stream, Wire
from kvtier.rpc.transport import Dialer, StreamTransport
from node import authority
from node.transport.security import Security, files_of
from node.transport.service import GrpcTransport
from node.world import LoopScheduler, SystemClock, SystemRng, run

CLUSTER: Final = b"bench"
SMALL: Final = bytes(200)
LARGE: Final = bytes(4 << 20)
TICKS: Final = 200
BURST: Final = 100
LARGE_MESSAGES: Final = 16
HIGH_WATER: Final = 256 << 10


class TcpWire(asyncio.Protocol, Wire):
    """A bundle is | length 4B | bytes |; the transport's buffer is the backpressure."""

    def __init__(self, stream: Stream, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._loop = loop
        self._transport: Any = None
        self._buffer = bytearray()
        self._is_woken = False
        self._is_paused = False

    def connection_made(self, transport: Any) -> None:
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._transport = transport
        self._stream.wire = self
        self.wake()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= 4:
            end = start + 4 + int.from_bytes(buffer[start : start + 4], "big")
            if len(buffer) < end:
                break
            self._stream.receive(bytes(buffer[start + 4 : end]))
            start = end
        del buffer[:start]

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self.wake()

    def wake(self) -> None:
        if not self._is_woken and self._transport is not None:
            self._is_woken = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._is_woken = False
        while not self._is_paused:
            bundle = self._stream.take()
            if bundle is None:
                return
            self._transport.writelines((len(bundle).to_bytes(4, "big"), bundle))

    def close(self, why: str) -> None:
        if self._transport is not None:
            self._transport.close()


class TcpDialer(Dialer):
    """Connects to one address."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tls: ssl.SSLContext | None) -> None:
        self._loop = loop
        self._tls = tls
        self.port = 0
        self._task: Any = None

    def dial(self, stream: Dialed) -> None:
        connecting = self._loop.create_connection(
            lambda: TcpWire(stream, self._loop), "127.0.0.1", self.port, ssl=self._tls
        )
        self._task = self._loop.create_task(connecting)


Pair = tuple[StreamTransport, StreamTransport, Callable[[], Coroutine[Any, Any, None]]]


async def grpc_pair(scheduler: LoopScheduler, certs: Path | None) -> Pair:
    addresses: dict[int, str] = {}
    security = Security() if certs is None else files_of(certs)
    nodes = [
        GrpcTransport(at, CLUSTER, addresses.get, security, SystemClock(), SystemRng(), scheduler) for at in (1, 2)
    ]
    for node in nodes:
        addresses[node.node_id] = f"127.0.0.1:{await node.listen('127.0.0.1:0')}"

    async def stop() -> None:
        for node in nodes:
            await node.stop()

    return nodes[0], nodes[1], stop


async def tcp_pair(scheduler: LoopScheduler, certs: Path | None) -> Pair:
    loop = scheduler.loop
    ours, theirs = (None, None) if certs is None else _contexts(certs)
    dialer = TcpDialer(loop, ours)
    one, two = [StreamTransport(at, CLUSTER, dialer, SystemClock(), SystemRng(), scheduler) for at in (1, 2)]

    def accept() -> TcpWire:
        stream = two.accept()
        assert stream is not None
        return TcpWire(stream, loop)

    server = await loop.create_server(accept, "127.0.0.1", 0, ssl=theirs)
    dialer.port = server.sockets[0].getsockname()[1]

    async def stop() -> None:
        one.close()
        two.close()
        server.close()
        await asyncio.sleep(0.05)

    return one, two, stop


def _contexts(certs: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    found = []
    for purpose in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
        context = ssl.SSLContext(purpose)
        context.load_verify_locations(certs / "ca.crt")
        context.load_cert_chain(certs / "node.crt", certs / "node.key")
        context.verify_mode = ssl.CERT_REQUIRED
        found.append(context)
    return found[0], found[1]


async def measure(make: Any, scheduler: LoopScheduler, certs: Path | None) -> dict[str, float]:
    """Returns figures by name for one kind of wire."""
    one, two, stop = await make(scheduler, certs)
    loop = scheduler.loop
    left = 0
    arrived = loop.create_future()

    def count(node_id: int, message: bytes) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            arrived.set_result(None)

    two.on_message("kv.x", count)
    two.on_call("kv.echo", lambda node_id, message: message)
    for _ in range(20):
        await one.call(2, "kv.echo", SMALL, 10)

    async def send(ticks: int, burst: int, payload: bytes) -> tuple[float, float]:
        nonlocal left, arrived
        begin, begin_wall = time.process_time(), time.perf_counter()
        for _ in range(ticks):
            left, arrived = burst, loop.create_future()
            for _ in range(burst):
                assert one.send(2, "kv.x", payload)
            await arrived
        return time.process_time() - begin, time.perf_counter() - begin_wall

    figures = {
        "us per message, 1 a tick": (await send(TICKS, 1, SMALL))[0] / TICKS * 1e6,
        "us per message, 10 a tick": (await send(TICKS, 10, SMALL))[0] / TICKS / 10 * 1e6,
        "us per message, 100 a tick": (await send(TICKS, BURST, SMALL))[0] / TICKS / BURST * 1e6,
    }
    begin = time.process_time()
    shortest = 1.0
    for _ in range(TICKS):
        begin_wall = time.perf_counter()
        await one.call(2, "kv.echo", SMALL, 10)
        shortest = min(shortest, time.perf_counter() - begin_wall)
    figures["us per call"] = (time.process_time() - begin) / TICKS * 1e6
    figures["us of wall time per call, the shortest"] = shortest * 1e6
    begin = time.process_time()
    for _ in range(10):
        calls = [one.call(2, "kv.echo", SMALL, 10) for _ in range(BURST)]
        for call in calls:
            await call
    figures["us per call, 100 at once"] = (time.process_time() - begin) / 10 / BURST * 1e6
    cpu, wall = await send(LARGE_MESSAGES // 4, 4, LARGE)
    megabytes = LARGE_MESSAGES * len(LARGE) / 1e6
    figures["ms of CPU per 4 MB"] = cpu / LARGE_MESSAGES * 1e3
    figures["s of wall time per GB, 4 MB each"] = wall / megabytes * 1e3
    await stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    best: dict[str, dict[str, float]] = {"grpc": {}, "tcp": {}}
    with tempfile.TemporaryDirectory() as place:
        certs = None
        if options.tls:
            certs = Path(place)
            now = datetime.datetime.now(datetime.UTC)
            authority.create_ca(certs, now)
            authority.create_node(certs, certs / "ca.key", ["127.0.0.1"], now)
        for _ in range(options.rounds):
            for name, make in (("grpc", grpc_pair), ("tcp", tcp_pair)):
                for what, value in run(lambda scheduler, make=make: measure(make, scheduler, certs)).items():
                    best[name][what] = min(best[name].get(what, value), value)
    print(f"| {'TLS' if options.tls else 'no TLS'} | gRPC | TCP | ratio |")
    print("| --- | --- | --- | --- |")
    for what, value in best["grpc"].items():
        print(f"| {what} | {value:.2f} | {best['tcp'][what]:.2f} | {value / best['tcp'][what]:.1f} |")


if __name__ == "__main__":
    main()
