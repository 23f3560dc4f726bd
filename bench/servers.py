"""The two servers under test, each in a temporary directory on loopback, both durable."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

PG_BIN = Path("/usr/lib/postgresql/15/bin")
START_SECONDS_MAX = 60.0


class Missing(Exception):
    """Something the benchmark needs is not installed."""


def require_tools() -> None:
    """Raises Missing, naming the Debian packages."""
    for path, package in ((PG_BIN / "postgres", "postgresql"), (PG_BIN / "pgbench", "postgresql")):
        if not path.exists():
            raise Missing(f"{path} is missing: install the Debian package {package}")
    if shutil.which("sysbench") is None:
        raise Missing("sysbench is missing: install the Debian package sysbench")


def _wait(dsn: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        try:
            psycopg.connect(dsn, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.2)
    raise RuntimeError("the server did not answer in time")


class Server:
    """A running server."""

    name = ""
    user = ""
    port = 0
    process: subprocess.Popen[bytes]

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"bench-{self.name}-"))

    def dsn(self, database: str) -> str:
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def sql(self, statement: str, database: str | None = None) -> None:
        with psycopg.connect(self.dsn(database or self.database), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]  # our own text

    database = "postgres"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM if self.name == "meridian" else signal.SIGINT)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class Postgres(Server):
    """PostgreSQL 15: shared_buffers 2 GB, fsync on, everything else as installed."""

    name = "postgresql"
    user = "postgres"

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        as_user: dict[str, object] = {}
        if os.getuid() == 0:
            # PostgreSQL refuses to run as root; the package made this user.
            account = pwd.getpwnam("postgres")
            os.chown(self.directory, account.pw_uid, account.pw_gid)
            as_user = {"user": "postgres", "group": account.pw_gid, "extra_groups": []}
        data = self.directory / "data"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": self.directory}
        subprocess.run(
            [PG_BIN / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--locale=C", "-E", "UTF8"],
            check=True,
            **quiet,
            **as_user,
        )  # type: ignore[call-overload]
        options = [
            "-c",
            "shared_buffers=2GB",
            "-c",
            "fsync=on",
            "-c",
            "max_wal_size=8GB",
            "-k",
            str(self.directory),
            "-p",
            str(port),
        ]
        self.process = subprocess.Popen([PG_BIN / "postgres", "-D", data, *options], **quiet, **as_user)  # type: ignore[call-overload]
        _wait(self.dsn("postgres"), self.process)


class Meridian(Server):
    """One node on an embedded store; from the compiled tree if it was built."""

    name = "meridian"
    user = "root"

    def __init__(self, port: int, compiled: bool) -> None:
        super().__init__()
        self.port = port
        environment = dict(os.environ)
        if compiled:
            environment |= {"PYTHONPATH": str(Path("build/compiled").absolute()), "PYTHONSAFEPATH": "1"}
        log = (self.directory / "log").open("wb")
        command = [
            sys.executable,
            "-m",
            "node.cli",
            "start",
            "--insecure",
            "--store",
            str(self.directory / "store"),
            "--listen",
            f"127.0.0.1:{port}",
            "--http",
            "",
        ]
        self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        _wait(self.dsn("postgres"), self.process)
