"""Servers as processes: started, killed and started again on the same directory."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).parents[2]
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0
POSTGRES_BINARIES = Path("/usr/lib/postgresql/15/bin")


class ServerFailed(Exception):
    """The server did not come up; the message ends with its log."""


class Server:
    """A server process on its own directory and port; ``environment`` is added to ours."""

    name = ""
    user = ""
    database = ""
    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path, environment: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.environment = environment or {}
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user={self.user} dbname={self.database} sslmode=disable"

    @property
    def store(self) -> Path:
        """The directory whose files a crash may damage."""
        return self.directory / "store"

    def command(self) -> list[str]:
        raise NotImplementedError

    def prepare(self) -> None:
        """Makes what the first start needs."""

    def spawn_options(self) -> dict[str, Any]:
        return {}

    def spawn(self) -> None:
        """Starts the process."""
        if self.process is None:
            self.prepare()
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.spawn_options(),
            )

    def start(self) -> None:
        """Starts the process and waits until it answers."""
        self.spawn()
        assert self.process is not None, f"{self.name} was spawned"
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"{self.name} did not start:\n{self.log_tail()}")
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            psycopg.connect(self.dsn, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def log_tail(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-3_000:]

    def kill(self) -> None:
        """SIGKILL to the process and all it started, at once, as on power loss."""
        assert self.process is not None, f"{self.name} was never started"
        if self.process.poll() is None:
            # Nothing may start children, or notice that its parent died, in between.
            self.process.send_signal(signal.SIGSTOP)
        doomed = descendants(self.process.pid)
        self.process.kill()
        for pid in doomed:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        while any(is_running(pid) for pid in doomed):
            time.sleep(0.005)

    def stop(self) -> int:
        """Asks it to end; returns its exit status."""
        assert self.process is not None, f"{self.name} was never started"
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.wait()


class Meridian(Server):
    """One node on an embedded store."""

    name, user, database = "meridian", "root", "defaultdb"

    def command(self) -> list[str]:
        options = ["--insecure", "--store", str(self.store), "--listen", f"127.0.0.1:{self.port}", "--http", ""]
        return [sys.executable, "-m", "node.cli", "start", *options]


class Postgres(Server):
    """A private PostgreSQL 15 that syncs as it should."""

    name, user, database = "postgresql", "postgres", "postgres"
    stop_signal = signal.SIGINT  # "fast": SIGTERM waits for the clients.

    def prepare(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.directory, "postgres", "postgres")
        options = ["-D", str(self.store), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run(
            [str(POSTGRES_BINARIES / "initdb"), *options],
            check=True,
            capture_output=True,
            cwd=self.directory,
            **self.spawn_options(),
        )

    def spawn_options(self) -> dict[str, Any]:
        return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "shared_buffers": "32MB",
            # Recovery in place would trust pages that a failed sync left clean but unwritten.
            "restart_after_crash": "off",
            "max_connections": 60,
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [str(POSTGRES_BINARIES / "postgres"), "-D", str(self.store), *settings]


SERVERS: dict[str, type[Server]] = {"meridian": Meridian, "postgresql": Postgres}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _status(pid: int) -> tuple[str, int]:
    """Returns (state, parent) of a process; state Z or X is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "X", 0
    return fields[0], int(fields[1])


def is_running(pid: int) -> bool:
    return _status(pid)[0] not in "ZX"


def descendants(root: int) -> list[int]:
    """Returns the processes below one, parents before their children."""
    parents = {
        pid: _status(pid)[1] for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    }
    found = [root]
    for parent in found:
        found += [pid for pid in parents if parents[pid] == parent]
    return found[1:]


@cache
def missing_reason(name: str) -> str | None:
    """Returns why this server cannot run here, or None; a node is tried once."""
    if name == "postgresql":
        if not (POSTGRES_BINARIES / "initdb").exists():
            return "PostgreSQL 15 is not installed"
        if os.geteuid() == 0 and not _has_user("postgres"):
            return "PostgreSQL refuses to run as root, and there is no user postgres"
        return None
    directory = Path(tempfile.mkdtemp(prefix="meridian-probe-"))
    server = Meridian(directory)
    try:
        server.start()
        server.stop()
    except ServerFailed as problem:
        return f"no node can be started: {str(problem)[-300:]}"
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return None


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def make_directory(prefix: str) -> Path:
    """Returns a fresh directory that a server of another user may enter."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    directory.chmod(0o755)
    return directory
