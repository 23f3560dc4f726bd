"""Durability: write, kill -9 at a random moment, restart, compare; over and over.

    python -m tests.real.crash --cycles 200
    python -m tests.real.crash --cycles 200 --power-loss --sync-errors
    python -m tests.real.crash --target postgresql

A cycle: workers write transactions of several rows; the server is killed; with
``--power-loss`` its files lose what was not synced; it is started again (and sometimes
killed while it recovers); then every row is compared with what the workers were told::

    acknowledged        all rows are there, as written                    else: lost, changed
    refused             none is there                                     else: appeared
    unknown             all or none; and what it was found to be it stays else: torn, came back
    progress            is at least the worker's last acknowledged transaction, and its rows exist

``--tears`` says how unsynced ends may look (power_loss.TEARS); by default any of them may.

With ``--sync-errors`` some cycles make a sync fail instead: whoever goes on as if it
had not is caught by the power loss that follows.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psycopg

from . import power_loss
from .servers import ServerFailed, make_directory
from .targets import TARGETS, Contents, MaybeWritten, NotWritten, Target, Writer, make_target, parts_of, payload_of

LOAD_SECONDS_MIN = 0.1
LOAD_SECONDS_MAX = 1.0
EARLY_KILL_CHANCE = 0.2
EARLY_KILL_SECONDS_MAX = 0.6
SYNC_ERROR_CHANCE = 0.3
DEATH_SECONDS_MAX = 3.0
FULL_CHECK_CYCLES = 20
PROBLEMS_MAX = 20


@dataclass
class Told:
    """What the workers know of every transaction."""

    acknowledged: dict[int, int] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)
    unknown: dict[int, int] = field(default_factory=dict)
    settled: dict[int, bool] = field(default_factory=dict)
    """Of the unknown: whether they were found."""
    next_transaction: int = 0

    def take(self) -> int:
        self.next_transaction += 1
        return self.next_transaction - 1


@dataclass
class Report:
    """The outcome of a number of cycles."""

    cycles: int = 0
    problems: list[str] = field(default_factory=list)
    acknowledged: int = 0
    unknown: int = 0
    lost_bytes: int = 0
    sync_errors: int = 0
    deaths: int = 0
    recovery_seconds_max: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.cycles} cycles, {self.acknowledged} transactions acknowledged, {self.unknown} of unknown outcome",
            f"{self.lost_bytes} unsynced bytes lost, {self.deaths} ends after {self.sync_errors} failed syncs, slowest start {self.recovery_seconds_max:.1f} s",
            f"{len(self.problems)} problems" + ("" if self.problems else ": none"),
        ]
        return "\n".join(lines + self.problems[:PROBLEMS_MAX])


class Harness:
    """One target through its cycles."""

    def __init__(
        self,
        target: Target,
        workers: int,
        seed: int,
        disk: power_loss.Disk | None,
        sync_errors: bool,
        tears: tuple[str, ...],
    ) -> None:
        self.target = target
        self.workers = workers
        self.rng = Random(seed)
        self.disk = disk
        self.sync_errors = sync_errors
        self.tears = tears
        self.told = Told()
        self.report = Report()
        if disk is not None:
            target.server.environment |= disk.environment()

    async def run(self, cycles: int) -> Report:
        server = self.target.server
        server.start()
        try:
            await self.target.create(self.workers)
            for cycle in range(cycles):
                first = (
                    0
                    if cycle % FULL_CHECK_CYCLES == FULL_CHECK_CYCLES - 1 or cycle == cycles - 1
                    else self.told.next_transaction
                )
                await self._load_and_kill()
                try:
                    self._restart()
                except ServerFailed as problem:
                    self.report.problems.append(f"cycle {cycle}: {problem}")
                    break
                await self._compare(first)
                self.report.cycles = cycle + 1
                if self.report.problems:
                    break
        finally:
            server.stop()
        self.report.acknowledged, self.report.unknown = len(self.told.acknowledged), len(self.told.unknown)
        return self.report

    async def _load_and_kill(self) -> None:
        server = self.target.server
        tasks = [asyncio.create_task(self._work(worker)) for worker in range(self.workers)]
        await asyncio.sleep(self.rng.uniform(LOAD_SECONDS_MIN, LOAD_SECONDS_MAX))
        if self.disk is not None and self.sync_errors and self.rng.random() < SYNC_ERROR_CHANCE:
            await self._fail_sync(self.disk)
        server.kill()
        await asyncio.gather(*tasks)

    async def _fail_sync(self, disk: power_loss.Disk) -> None:
        """Makes the next sync fail, and lets the server go on as long as it dares."""
        disk.fail_syncs(1)
        self.report.sync_errors += 1
        process = self.target.server.process
        assert process is not None, "the server runs"
        deadline = time.monotonic() + DEATH_SECONDS_MAX
        while process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self.report.deaths += process.poll() is not None

    async def _work(self, worker: int) -> None:
        """Writes until the server is gone."""
        try:
            writer = await self.target.connect()
        except (OSError, psycopg.OperationalError):
            return  # Killed before it began.
        try:
            while await self._write(writer, worker):
                pass
        finally:
            await writer.close()

    async def _write(self, writer: Writer, worker: int) -> bool:
        transaction = self.told.take()
        try:
            await writer.write(worker, transaction)
        except MaybeWritten:
            self.told.unknown[transaction] = worker
            return False
        except NotWritten as problem:
            self.told.refused[transaction] = worker
            return "could not serialize" in str(problem)
        self.told.acknowledged[transaction] = worker
        return True

    def _restart(self) -> None:
        """Damages the files if asked to, and starts the server, sometimes only at the second try."""
        server = self.target.server
        self._lose_power()
        if self.rng.random() < EARLY_KILL_CHANCE:
            server.spawn()
            time.sleep(self.rng.random() * EARLY_KILL_SECONDS_MAX)
            server.kill()
            self._lose_power()
        begin = time.monotonic()
        server.start()
        self.report.recovery_seconds_max = max(self.report.recovery_seconds_max, time.monotonic() - begin)

    def _lose_power(self) -> None:
        if self.disk is not None:
            self.report.lost_bytes += self.disk.lose_power(self.rng, self.tears).bytes

    async def _compare(self, first: int) -> None:
        contents, progress = await self.target.read(first)
        found = compare(self.told, contents, progress, first)
        self.report.problems += [f"cycle {self.report.cycles}: {problem}" for problem in found]


def compare(told: Told, contents: Contents, progress: dict[int, int], first: int) -> list[str]:
    """Returns what contradicts the workers' knowledge of transactions from ``first`` on."""
    problems = []
    for transaction in range(first, told.next_transaction):
        rows = contents.get(transaction, {})
        expected = {part: payload_of(transaction, part) for part in range(parts_of(transaction))}
        if transaction in told.acknowledged and rows != expected:
            what = "lost" if not rows else "torn or changed"
            problems.append(
                f"transaction {transaction} was acknowledged and is {what}: {sorted(rows)} of {len(expected)} rows"
            )
        elif transaction in told.refused and rows:
            problems.append(f"transaction {transaction} was refused and appeared: {sorted(rows)}")
        elif transaction in told.unknown:
            problems += _compare_unknown(told, transaction, rows, expected)
    problems += [
        f"transaction {stranger} was never written" for stranger in contents if stranger >= told.next_transaction
    ]
    return problems + _compare_progress(told, contents, progress, first)


def _compare_unknown(told: Told, transaction: int, rows: dict[int, str], expected: dict[int, str]) -> list[str]:
    if rows and rows != expected:
        return [f"transaction {transaction} of unknown outcome is torn: {sorted(rows)} of {len(expected)} rows"]
    settled = told.settled.setdefault(transaction, bool(rows))
    if settled is not bool(rows):
        return [
            f"transaction {transaction} was {'there' if settled else 'absent'} after an earlier crash and is not any more"
        ]
    return []


def _compare_progress(told: Told, contents: Contents, progress: dict[int, int], first: int) -> list[str]:
    """The worker's row was written by the last transaction of it that is there."""
    problems = []
    latest: dict[int, int] = {}
    for transaction in sorted(contents):
        worker = told.acknowledged.get(transaction, told.unknown.get(transaction))
        if worker is not None:
            latest[worker] = transaction
    for worker, transaction in progress.items():
        if transaction >= first and transaction not in contents:
            problems.append(f"progress of worker {worker} is {transaction}, whose rows are not there")
        if latest.get(worker, -1) > transaction:
            problems.append(f"progress of worker {worker} is {transaction}, but {latest[worker]} is there")
    return problems


def run_cycles(
    name: str,
    cycles: int,
    workers: int = 8,
    seed: int = 1,
    with_power_loss: bool = False,
    sync_errors: bool = False,
    tears: tuple[str, ...] = power_loss.TEARS,
    keep: Path | None = None,
) -> Report:
    """Runs cycles against a fresh target and removes it; after problems its files are copied to ``keep``."""
    directory = make_directory("meridian-crash-")
    try:
        target = make_target(name, directory)
        disk = None
        if with_power_loss:
            scratch = directory / "shim"
            scratch.mkdir()
            disk = power_loss.Disk(target.server.store, scratch)
        report = asyncio.run(Harness(target, workers, seed, disk, sync_errors, tears).run(cycles))
        if report.problems and keep is not None:
            shutil.copytree(directory, keep)
        return report
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main(arguments: Sequence[str]) -> int:
    """Runs as asked; the exit status is 1 if anything was lost."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.real.crash", description="Kill a server over and over and look for lost writes."
    )
    parser.add_argument("--target", choices=TARGETS, default="meridian")
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--power-loss", action="store_true", help="lose what was not synced")
    parser.add_argument("--sync-errors", action="store_true", help="make syncs fail now and then (with --power-loss)")
    parser.add_argument(
        "--tears",
        nargs="+",
        choices=power_loss.TEARS,
        default=list(power_loss.TEARS),
        help="how the end of an unsynced file may look",
    )
    parser.add_argument("--keep", type=Path, help="copy the files here after a problem")
    options = parser.parse_args(arguments)
    reason = power_loss.missing_reason() if options.power_loss else None
    if reason is not None:
        print(f"no power loss: {reason}", file=sys.stderr)
        return 2
    # Ended from outside, the server must still be stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    print(f"seed {options.seed}", flush=True)
    tears = tuple(options.tears)
    report = run_cycles(
        options.target,
        options.cycles,
        options.workers,
        options.seed,
        options.power_loss,
        options.sync_errors,
        tears,
        options.keep,
    )
    print(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
