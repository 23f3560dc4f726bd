"""Frontend messages, right and wrong, and a raw connection to an in-process node."""

from __future__ import annotations

import asyncio
import struct
from typing import Final

from node.process import Node
from tests.inprocess import PipeIo, message

PROTOCOL_3_0: Final = 3 << 16
SYNC: Final = message(b"S", b"")
FLUSH: Final = message(b"H", b"")
TERMINATE: Final = message(b"X", b"")
COPY_DONE: Final = message(b"c", b"")


def startup(code: int = PROTOCOL_3_0, **options: str) -> bytes:
    """A startup packet; without options user root, database defaultdb."""
    options = options or {"user": "root", "database": "defaultdb"}
    body = b"".join(name.encode() + b"\0" + value.encode() + b"\0" for name, value in options.items()) + b"\0"
    return special(code, body)


def special(code: int, body: bytes = b"") -> bytes:
    return struct.pack("!iI", len(body) + 8, code) + body


def query(sql: str) -> bytes:
    return message(b"Q", sql.encode() + b"\0")


def parse(sql: str, name: str = "", types: tuple[int, ...] = ()) -> bytes:
    return message(
        b"P", name.encode() + b"\0" + sql.encode() + b"\0" + struct.pack(f"!H{len(types)}I", len(types), *types)
    )


def bind(
    values: tuple[bytes | None, ...] = (),
    *,
    portal: str = "",
    name: str = "",
    formats: tuple[int, ...] = (),
    results: tuple[int, ...] = (),
) -> bytes:
    parts = [portal.encode() + b"\0" + name.encode() + b"\0", struct.pack(f"!H{len(formats)}h", len(formats), *formats)]
    parts.append(struct.pack("!H", len(values)))
    for value in values:
        parts.append(struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value)
    parts.append(struct.pack(f"!H{len(results)}h", len(results), *results))
    return message(b"B", b"".join(parts))


def describe(kind: str = "P", name: str = "") -> bytes:
    return message(b"D", kind.encode() + name.encode() + b"\0")


def execute(portal: str = "", rows: int = 0) -> bytes:
    return message(b"E", portal.encode() + b"\0" + struct.pack("!i", rows))


def close(kind: str = "S", name: str = "") -> bytes:
    return message(b"C", kind.encode() + name.encode() + b"\0")


class Raw:
    """A connection that sends any bytes and reads whole messages."""

    def __init__(self, node: Node) -> None:
        self.io = PipeIo()
        self.connection = node.connect(self.io)

    def send(self, *parts: bytes) -> None:
        if not self.io.is_closed:
            self.connection.data_received(b"".join(parts))

    def lose(self) -> None:
        """The socket is gone."""
        self.connection.connection_lost()

    async def open(self) -> Raw:
        """Starts a session as root."""
        self.send(startup())
        kinds = [kind for kind, _ in await self.until("Z")]
        assert kinds[0] == "R", kinds
        assert kinds[-1] == "Z", kinds
        return self

    async def until(self, last: str, seconds: float = 10.0) -> list[tuple[str, bytes]]:
        """Returns the messages up to one of a kind in ``last``, or to the end of the connection."""
        found: list[tuple[str, bytes]] = []
        async with asyncio.timeout(seconds):
            while True:
                taken = self.take()
                found += taken
                if any(kind in last for kind, _ in taken) or self.io.is_closed:
                    return found
                self.io.arrived.clear()
                await self.io.arrived.wait()

    def take(self) -> list[tuple[str, bytes]]:
        """Returns the whole messages that are there."""
        found, buffer, at = [], self.io.received, 0
        while len(buffer) - at >= 5:
            length = int.from_bytes(buffer[at + 1 : at + 5], "big")
            if len(buffer) - at < length + 1:
                break
            found.append((chr(buffer[at]), bytes(buffer[at + 5 : at + 1 + length])))
            at += length + 1
        del buffer[:at]
        return found

    async def settle(self, seconds: float = 10.0) -> list[tuple[str, bytes]]:
        """Sends Sync and returns all up to its ReadyForQuery."""
        self.send(SYNC)
        return await self.until("Z", seconds)

    async def answers(self, *parts: bytes) -> list[str]:
        """Sends, syncs, and returns what came as short texts."""
        self.send(*parts)
        return [short(kind, body) for kind, body in await self.settle()]


def field(body: bytes, code: str) -> str:
    for part in body.split(b"\0"):
        if part[:1] == code.encode():
            return part[1:].decode()
    return ""


def short(kind: str, body: bytes) -> str:
    """``E 42601``, ``C SELECT 1``, ``Z I``, ``D 2`` (columns), or the kind alone."""
    if kind in "EN":
        return f"{kind} {field(body, 'C')}"
    if kind == "C":
        return f"C {body[:-1].decode()}"
    if kind == "Z":
        return f"Z {body.decode()}"
    if kind == "D":
        return "D " + "|".join(values(body))
    return kind


def values(body: bytes) -> list[str]:
    found, at = [], 2
    for _ in range(int.from_bytes(body[:2], "big")):
        length = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4
        found.append("NULL" if length < 0 else body[at : at + length].decode("utf-8", "replace"))
        at += max(length, 0)
    return found
