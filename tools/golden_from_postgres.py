"""Writes golden scripts with PostgreSQL's answers, or compares them: the oracle of tests/scripts.

    python -m tools.golden_from_postgres HOST PORT USER [--write] [SCRIPT ...]

Every script runs in a fresh database.  Without --write, differences are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import struct
from collections.abc import Sequence
from pathlib import Path

from tests.inprocess import query, render
from tests.test_golden import SCRIPTS, blocks, read_block


class TcpClient:
    """The protocol client of the in-process tests, over a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, host: str, port: int, user: str, database: str) -> TcpClient:
        reader, writer = await asyncio.open_connection(host, port)
        client = cls(reader, writer)
        body = struct.pack("!i", 3 << 16) + f"user\0{user}\0database\0{database}\0\0".encode()
        writer.write(struct.pack("!i", len(body) + 4) + body)
        await client.until_ready()
        return client

    async def until_ready(self) -> list[tuple[str, bytes]]:
        found = []
        while True:
            head = await self.reader.readexactly(5)
            body = await self.reader.readexactly(int.from_bytes(head[1:], "big") - 4)
            found.append((chr(head[0]), body))
            if head[:1] == b"Z":
                return found

    def send(self, sql: str, data: Sequence[str] = ()) -> None:
        self.writer.write(query(sql, data))

    async def run(self, sql: str) -> list[str]:
        self.send(sql)
        return render(await self.until_ready())


async def run_script(text: str, arguments: argparse.Namespace) -> str:
    admin = await TcpClient.connect(arguments.host, arguments.port, arguments.user, "postgres")
    await admin.run("DROP DATABASE IF EXISTS golden")
    await admin.run("CREATE DATABASE golden")
    clients: dict[str, TcpClient] = {}
    seen = []
    for lines in blocks(text):
        kept, session, action, sql, data = read_block(lines)
        if action:
            if session not in clients:
                clients[session] = await TcpClient.connect(arguments.host, arguments.port, arguments.user, "golden")
            client = clients[session]
            if action != "<":
                client.send(sql, data)
            if action == "&":
                await asyncio.sleep(0.1)
            else:
                kept += render(await client.until_ready())
        seen.append("\n".join(kept))
    for client in clients.values():
        client.writer.close()
    return "\n\n".join(seen) + "\n"


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("user")
    parser.add_argument("scripts", nargs="*")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_intermixed_args()
    for path in [Path(s) for s in arguments.scripts] or SCRIPTS:
        text = path.read_text()
        answer = await run_script(text, arguments)
        if arguments.write:
            path.write_text(answer)
        else:
            print(
                "".join(
                    difflib.unified_diff(answer.splitlines(True), text.splitlines(True), "postgres", str(path), n=1)
                )
            )


if __name__ == "__main__":
    asyncio.run(main())
