"""TPC-C while the cluster is broken: warehouses spread over the regions, terminals at home in each.

``meridian tpcc`` loads and runs it as processes of their own, against one node of every region.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import psycopg

from node.laptop.cluster import Laptop, LaptopError
from tpcc.checks import CheckResult, check_near
from tpcc.database import read_population
from tpcc.session import open_connection

RUN_SECONDS: Final = 24 * 3600
"""The end of the demo ends the run."""
STOP_SECONDS_MAX: Final = 120.0
REGIONS_SECONDS_MAX: Final = 60.0
DATABASE: Final = "tpcc"
SCALE_DIVISOR: Final = 100
"""A full warehouse is 100 MB, three times replicated."""
TERMINALS_PER_REGION: Final = 2


class TpccLoad:
    """The load and the run; raises LaptopError."""

    def __init__(self, laptop: Laptop, directory: Path) -> None:
        self._laptop = laptop
        self._output = directory / "tpcc"
        self._run: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Makes a database with the cluster's regions and loads a small warehouse for each."""
        regions = self._laptop.regions
        with psycopg.connect(self._laptop.first_up().dsn, autocommit=True) as connection:
            self._wait_for_regions(connection)
            names = ", ".join([_quoted(region) for region in regions])
            connection.execute(f"CREATE DATABASE {DATABASE} PRIMARY REGION {_quoted(regions[0])} REGIONS {names}")
        self._tpcc(
            "load", "--dsn", self._dsn(regions[0]), "--warehouses", str(len(regions)), "--partition-by-warehouse",
            "--processes", str(len(regions)), "--non-compliant-scale-divisor", str(SCALE_DIVISOR),
        ).wait()  # fmt: skip
        with open_connection(self._dsn(regions[0])) as connection:
            read_population(connection)

    def _wait_for_regions(self, connection: psycopg.Connection[Any]) -> None:
        """Until the node has heard of a node in every region."""
        deadline = time.monotonic() + REGIONS_SECONDS_MAX
        while True:
            known = [row[0] for row in connection.execute("SHOW REGIONS FROM CLUSTER").fetchall()]
            if all(region in known for region in self._laptop.regions):
                return
            if time.monotonic() > deadline:
                raise LaptopError(f"the cluster has nodes in {', '.join(known)} only")
            time.sleep(0.1)

    def start(self) -> None:
        """Lets terminals work until ``stop``; their lines go to a file."""
        regions = self._laptop.regions
        dsns = [word for region in regions for word in ("--dsn", self._dsn(region))]
        self._run = self._tpcc(
            "run", *dsns, "--partition-by-warehouse", "--connections", str(TERMINALS_PER_REGION * len(regions)),
            "--processes", "1", "--duration", str(RUN_SECONDS), "--ramp", "0", "--no-check", "--output", str(self._output),
        )  # fmt: skip

    def _tpcc(self, *arguments: str) -> subprocess.Popen[bytes]:
        self._output.mkdir(parents=True, exist_ok=True)
        with (self._output / f"{arguments[0]}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "node.cli", "tpcc", *arguments],
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the prompt.
            )

    def _dsn(self, region: str = "") -> str:
        return self._laptop.first_up(region).dsn.replace("/defaultdb", f"/{DATABASE}")

    def stop(self) -> str:
        """Ends the run; returns what it printed at its end, or that it had ended before."""
        run = self._run
        if run is None:
            return ""
        is_alive = run.poll() is None
        if is_alive:
            run.send_signal(signal.SIGINT)
            try:
                run.wait(timeout=STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                run.kill()
                run.wait()
        lines = (self._output / "run.log").read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if " of " not in line[:20]][-40:])

    def last_line(self) -> str:
        """Returns the last second of the run."""
        path = self._output / "run.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return lines[-1] if lines else "no second is over yet"

    def check(self) -> list[CheckResult]:
        """Checks the twelve conditions, also while the run goes on; raises psycopg.Error."""
        with open_connection(self._dsn()) as connection:
            return check_near(connection, read_population(connection), is_over=False)

    def require_alive(self) -> None:
        """Raises LaptopError if the run has ended by itself."""
        if self._run is not None and self._run.poll() is not None:
            raise LaptopError(f"the run of TPC-C has ended: {self.last_line()}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
