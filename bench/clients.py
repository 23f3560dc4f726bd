"""pgbench, sysbench and the TPC-C runner, each against any server; every function returns a rate per second."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.servers import PG_BIN, Server

CLIENTS = 8


def run(command: list[str], **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
    return str(done.stdout + done.stderr)


def _pg_environment(server: Server, isolation: str) -> dict[str, str]:
    options = f"-c default_transaction_isolation={isolation.replace(' ', chr(92) + ' ')}"
    return {
        **os.environ,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGUSER": server.user,
        "PGSSLMODE": "disable",
        "PGOPTIONS": options,
    }


def pgbench_init(server: Server, scale: int) -> None:
    run([str(PG_BIN / "pgbench"), "-i", "-q", "-s", str(scale), "bench"], env=_pg_environment(server, "read committed"))


def pgbench(server: Server, script: str, mode: str, seconds: int, isolation: str = "read committed") -> float:
    """``script``: select-only, tpcb-like or simple-update; ``mode``: simple or prepared."""
    command = [
        str(PG_BIN / "pgbench"),
        "-n",
        "-b",
        script,
        "-M",
        mode,
        "-c",
        str(CLIENTS),
        "-j",
        "1",
        "-T",
        str(seconds),
        "--max-tries=100",
        "bench",
    ]
    text = run(command, env=_pg_environment(server, isolation))
    found = re.search(r"tps = ([0-9.]+)", text)
    assert found, text
    return float(found.group(1))


def sysbench_prepare(server: Server, tables: int, rows: int) -> None:
    run(["sysbench", "oltp_read_write", *_sysbench_options(server, tables, rows), "prepare"])


def sysbench(
    server: Server, test: str, tables: int, rows: int, seconds: int, isolation: str = "read committed"
) -> float:
    command = [
        "sysbench",
        test,
        *_sysbench_options(server, tables, rows),
        f"--threads={CLIENTS}",
        f"--time={seconds}",
        "--mysql-ignore-errors=all",
        "run",
    ]
    text = run(command, env=_pg_environment(server, isolation))
    found = re.search(r"transactions:\s+\d+\s+\(([0-9.]+) per sec", text)
    assert found, text
    return float(found.group(1))


def _sysbench_options(server: Server, tables: int, rows: int) -> list[str]:
    return [
        "--db-driver=pgsql", "--pgsql-host=127.0.0.1", f"--pgsql-port={server.port}", f"--pgsql-user={server.user}", "--pgsql-password=",
        "--pgsql-db=bench", f"--tables={tables}", f"--table-size={rows}",
    ]  # fmt: skip


def tpcc_load(server: Server, warehouses: int) -> None:
    run(
        [
            sys.executable,
            "-m",
            "node.cli",
            "tpcc",
            "load",
            "--dsn",
            server.dsn("tpcc"),
            "--warehouses",
            str(warehouses),
            "--drop",
        ]
    )


def tpcc(server: Server, seconds: int, isolation: str) -> dict[str, object]:
    """Returns the runner's result.json."""
    with tempfile.TemporaryDirectory() as directory:
        run(
            [sys.executable, "-m", "node.cli", "tpcc", "run", "--dsn", server.dsn("tpcc"), "--connections", str(CLIENTS), "--duration", str(seconds),
             "--isolation", isolation, "--output", directory]
        )  # fmt: skip
        return json.loads((Path(directory) / "result.json").read_text())  # type: ignore[no-any-return]
