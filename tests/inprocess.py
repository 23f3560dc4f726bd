"""A whole node in this process, on the memory engine, and a small protocol client that prints like psql -A.

Golden scripts use it: what a client sees, without sockets.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kvtier.engine.memory import MemoryEngine
from node.process import Node, NodeSettings
from node.world import LoopScheduler, SystemClock, SystemRng
from wire.io import ConnectionIo


def take_messages(buffer: bytearray, found: list[tuple[str, bytes]]) -> bool:
    """Moves whole messages from the buffer to ``found``, up to ReadyForQuery; True if that came."""
    while len(buffer) >= 5:
        length = int.from_bytes(buffer[1:5], "big")
        if len(buffer) < length + 1:
            break
        found.append((chr(buffer[0]), bytes(buffer[5 : length + 1])))
        del buffer[: length + 1]
        if found[-1][0] == "Z":
            return True
    return False


class PipeIo(ConnectionIo):
    """The client's end is a buffer."""

    def __init__(self) -> None:
        self.peer = "pipe"
        self.is_loopback = True
        self.is_tls = False
        self.certificate = b""
        self.received = bytearray()
        self.is_closed = False
        self.arrived = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.received += data
        self.arrived.set()

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    async def start_tls(self) -> None:
        raise OSError("no TLS on a pipe")

    def close(self) -> None:
        self.is_closed = True
        self.arrived.set()

    abort = close


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def query(sql: str, data: Sequence[str] = ()) -> bytes:
    """A Query message, followed by the data of its COPY; outside of COPY servers ignore that."""
    parts = [message(b"Q", sql.encode() + b"\0")]
    if data:
        parts += [message(b"d", line.encode() + b"\n") for line in data]
        parts.append(message(b"c", b""))
    return b"".join(parts)


class Client:
    """One session, simple protocol."""

    def __init__(self, node: Node, user: str = "root", database: str = "defaultdb") -> None:
        self.io = PipeIo()
        self.connection = node.connect(self.io)
        body = struct.pack("!i", 3 << 16) + f"user\0{user}\0database\0{database}\0\0".encode()
        self.connection.data_received(struct.pack("!i", len(body) + 4) + body)
        self.status = ""

    async def until_ready(self, seconds: float = 20.0) -> list[tuple[str, bytes]]:
        """Returns the messages up to ReadyForQuery (or the connection's end)."""
        found: list[tuple[str, bytes]] = []
        async with asyncio.timeout(seconds):
            while True:
                if take_messages(self.io.received, found):
                    self.status = found[-1][1].decode()
                    return found
                if self.io.is_closed:
                    return found
                self.io.arrived.clear()
                await self.io.arrived.wait()

    def send(self, sql: str, data: Sequence[str] = ()) -> None:
        """Sends a Query, and the lines a COPY FROM STDIN in it reads."""
        self.connection.data_received(query(sql, data))

    async def run(self, sql: str) -> list[str]:
        """Runs a Query and returns what psql -A -t would show, errors as ``ERROR sqlstate: message``."""
        self.send(sql)
        return render(await self.until_ready())

    def close(self) -> None:
        self.connection.data_received(message(b"X", b""))


def render(messages: list[tuple[str, bytes]]) -> list[str]:
    """Lines for rows, command tags, errors and notices."""
    lines: list[str] = []
    for kind, body in messages:
        if kind == "T":
            lines.append("|".join(_names(body)))
        elif kind == "D":
            lines.append("|".join(_fields(body)) or "(empty)")
        elif kind == "C":
            lines.append(f"({body[:-1].decode()})")
        elif kind == "d":
            lines.append("~ " + body.decode().rstrip("\n"))
        elif kind in "EN":
            lines.extend(_report(kind, body))
        elif kind == "A":
            lines.append("NOTIFY " + body[4:-1].decode().replace("\0", " "))
    return lines


def _names(body: bytes) -> list[str]:
    names, at = [], 2
    for _ in range(int.from_bytes(body[:2], "big")):
        end = body.index(b"\0", at)
        names.append(body[at:end].decode())
        at = end + 19
    return names


def _fields(body: bytes) -> list[str]:
    fields, at = [], 2
    for _ in range(int.from_bytes(body[:2], "big")):
        length = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4
        if length < 0:
            fields.append("NULL")
        else:
            fields.append(body[at : at + length].decode())
            at += length
    return fields


def _report(kind: str, body: bytes) -> list[str]:
    fields = {chr(part[0]): part[1:].decode() for part in body.split(b"\0") if part}
    word = "ERROR" if kind == "E" else fields["S"]
    lines = [f"{word} {fields['C']}: {fields['M']}" if kind == "E" else f"{word}: {fields['M']}"]
    if "D" in fields:
        # Which transaction it was differs from run to run.
        fields["D"] = re.sub(r"committed at \d+", "committed at <time>", fields["D"])
        lines += [f"DETAIL: {line}" for line in fields["D"].splitlines()]
    if "H" in fields:
        lines.append(f"HINT: {fields['H']}")
    if "W" in fields:
        lines += [f"CONTEXT: {line}" for line in fields["W"].splitlines()]
    return lines


async def start_node(scheduler: LoopScheduler, **settings: Any) -> Node:
    """Returns an open node on a fresh memory engine."""
    bugs: list[str] = []
    node = Node(
        MemoryEngine(),
        SystemClock(),
        SystemRng(),
        scheduler,
        NodeSettings(insecure=True, **settings),
        log_bug=lambda _, text: bugs.append(text),
    )
    node.bugs = bugs  # type: ignore[attr-defined]  # what tests look at when a bug of ours was met
    await node.open()
    return node


def with_node(body: Callable[[Node], Awaitable[None]], **settings: Any) -> None:
    """Runs a test body against a node."""
    from node.world import run

    async def main(scheduler: LoopScheduler) -> None:
        node = await start_node(scheduler, **settings)
        await body(node)
        assert node.bugs == [], "\n".join(node.bugs)  # type: ignore[attr-defined]

    run(main)
