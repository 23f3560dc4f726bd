"""Golden scripts of tests/scripts/postgres: their answers are PostgreSQL's.

``tests.test_golden`` runs them on a node; here PostgreSQL 15 runs them and must say the same, each in a database of its own.
REWRITE=1 writes what PostgreSQL said into the scripts: that is how they are made.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import psycopg
import pytest

from tests.inprocess import message, query, render
from tests.test_golden import blocks, read_block

SCRIPTS = sorted((Path(__file__).parent / "scripts" / "postgres").glob("*.txt"))
READ_BYTES = 65_536
SECONDS_MAX = 60.0


class SocketClient:
    """One session with PostgreSQL over its socket, simple protocol, answers rendered as those of a node."""

    def __init__(self, dsn: str, database: str) -> None:
        place = dict(part.split("=") for part in dsn.split())
        self.socket = socket.create_connection((place["host"], int(place["port"])), SECONDS_MAX)
        body = struct.pack("!i", 3 << 16) + f"user\0{place['user']}\0database\0{database}\0\0".encode()
        self.socket.sendall(struct.pack("!i", len(body) + 4) + body)
        self.buffer = bytearray()
        self.until_ready()

    def until_ready(self) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        while True:
            while len(self.buffer) >= 5 and len(self.buffer) > (length := int.from_bytes(self.buffer[1:5], "big")):
                found.append((chr(self.buffer[0]), bytes(self.buffer[5 : length + 1])))
                del self.buffer[: length + 1]
                if found[-1][0] == "Z":
                    return found
            received = self.socket.recv(READ_BYTES)
            assert received, "the server closed the connection"
            self.buffer += received

    def run(self, sql: str, data: list[str]) -> list[str]:
        self.socket.sendall(query(sql, data))
        return render(self.until_ready())

    def close(self) -> None:
        self.socket.sendall(message(b"X", b""))
        self.socket.close()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_postgres_says_the_same(path: Path, postgres_oracle: str) -> None:
    database = f"golden_{path.stem}"
    with psycopg.connect(postgres_oracle, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {database}".encode())
        admin.execute(f"CREATE DATABASE {database}".encode())
        admin.execute(f"ALTER DATABASE {database} SET default_transaction_isolation = serializable".encode())
    clients: dict[str, SocketClient] = {}
    seen: list[str] = []
    for block in blocks(path.read_text()):
        kept, session, action, sql, data = read_block(block)
        assert action in ("", ">"), "a script of this directory runs one statement after the other"
        if action and session not in clients:
            clients[session] = SocketClient(postgres_oracle, database)
        seen.append("\n".join(kept + (clients[session].run(sql, data) if action else [])))
    for client in clients.values():
        client.close()
    text = "\n\n".join(seen) + "\n"
    if os.environ.get("REWRITE") == "1":
        path.write_text(text)
    assert text == path.read_text()
