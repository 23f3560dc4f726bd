"""A tiny store that keeps or breaks its promise: python -m tests.real.tiny_writer MODE DIRECTORY PORT.

It proves that the crash harness can see a lie.  A client sends lines ``w txn part:payload ..``
and gets ``ok``, or ``r`` and gets every row and then ``end``.  Rows are appended to one
log, a transaction as one checksummed line.

    synced     fdatasync before the answer
    unsynced   write() before the answer: survives kill -9, not a power loss
    buffered   answers before write(): does not even survive kill -9
    split      synced, but each row is a line of its own, with a pause between
    ignored    goes on after a failed sync as if nothing happened
"""

from __future__ import annotations

import os
import socketserver
import sys
import threading
import time
import zlib
from pathlib import Path

BUFFER_LINES = 40
SPLIT_SECONDS = 0.002


class Store:
    """The log and its rows."""

    def __init__(self, mode: str, directory: Path) -> None:
        self.mode = mode
        self.lock = threading.Lock()
        self.rows: list[str] = []
        self.buffer: list[bytes] = []
        directory.mkdir(exist_ok=True)
        path = directory / "log"
        size = self._recover(path)
        self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(self.file, size)
        os.lseek(self.file, 0, os.SEEK_END)

    def _recover(self, path: Path) -> int:
        """Takes the whole lines up to the first torn one; returns where they end."""
        size = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
            checksum, _, body = line.partition(b" ")
            if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(body):
                break
            size += len(line)
            self.rows += body.decode().split()
        return size

    def write(self, rows: list[str]) -> None:
        with self.lock:
            for group in [[row] for row in rows] if self.mode == "split" else [rows]:
                self._append(group)
            self.rows += rows

    def _append(self, rows: list[str]) -> None:
        body = " ".join(rows).encode() + b"\n"
        line = b"%08x " % zlib.crc32(body) + body
        if self.mode == "buffered":
            self.buffer.append(line)
            if len(self.buffer) < BUFFER_LINES:
                return
            line = b"".join(self.buffer)
            self.buffer = []
        os.write(self.file, line)
        if self.mode in ("synced", "split", "ignored"):
            try:
                os.fdatasync(self.file)
            except OSError:
                if self.mode != "ignored":
                    os._exit(1)
        if self.mode == "split":
            time.sleep(SPLIT_SECONDS)


def serve(mode: str, directory: Path, port: int) -> None:
    """Runs until killed."""
    store = Store(mode, directory)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                kind, *rows = line.decode().split()
                if kind == "w":
                    store.write(rows)
                    self.wfile.write(b"ok\n")
                else:
                    with store.lock:
                        self.wfile.write("".join(row + "\n" for row in store.rows).encode() + b"end\n")

    class Listener(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        request_queue_size = 64
        daemon_threads = True

    with Listener(("127.0.0.1", port), Handler) as listener:
        listener.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
