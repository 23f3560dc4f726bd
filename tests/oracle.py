"""A private PostgreSQL 15 to compare with: an empty cluster under a temporary directory, on a free port.

Nothing is synced to disk and no one else can see it; it ends with the test session.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BINARIES = ("/usr/lib/postgresql/15/bin", "/usr/pgsql-15/bin", "/opt/homebrew/opt/postgresql@15/bin")
START_SECONDS_MAX = 30


def find_binaries() -> Path | None:
    """Returns the directory of initdb and postgres 15, or None."""
    found = [Path(directory) for directory in BINARIES if (Path(directory) / "initdb").exists()]
    if found:
        return found[0]
    initdb = shutil.which("initdb")
    if initdb is None:
        return None
    version = subprocess.run([initdb, "--version"], capture_output=True, text=True, check=True).stdout
    return Path(initdb).resolve().parent if " 15." in version else None


def missing_reason() -> str | None:
    """Returns why there can be no oracle here, or None."""
    if find_binaries() is None:
        return "PostgreSQL 15 is not installed"
    if os.geteuid() == 0 and not _has_postgres_user():
        return "PostgreSQL refuses to run as root, and there is no user postgres"
    return None


def _has_postgres_user() -> bool:
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_postgres() -> Iterator[str]:
    """Yields the DSN of a fresh server."""
    binaries = find_binaries()
    assert binaries is not None, "ask missing_reason() first"
    owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    home = Path(tempfile.mkdtemp(prefix="meridian-oracle-"))
    try:
        if owner:
            shutil.chown(home, "postgres", "postgres")
        cluster = home / "data"
        initdb = [
            binaries / "initdb",
            "-D",
            cluster,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]
        subprocess.run(initdb, check=True, capture_output=True, cwd=home, **owner)
        port = _free_port()
        options = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off", "full_page_writes": "off",
            "synchronous_commit": "off", "autovacuum": "off", "shared_buffers": "16MB", "timezone": "UTC", "max_connections": 20,
        }  # fmt: skip
        command = [binaries / "postgres", "-D", cluster]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (home / "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, **owner)
        try:
            _wait_until_ready(server, port, home / "log")
            yield f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text(errors="replace")) from None
            time.sleep(0.05)
