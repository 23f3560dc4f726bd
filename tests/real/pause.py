"""A server that stands still: SIGSTOP and SIGCONT under load, as a live migration or a full disk cache does.

    python -m tests.real.pause --pauses 20

Workers write over connections that stay open for the whole run; the server is stopped for a while and goes
on, over and over.  Then:

    sessions    every worker has its first connection still, and no statement met an error but a conflict
    writes      all rows of acknowledged transactions are there, none of refused ones (``tests.real.crash``)
    clock       the timestamps one session is given only grow, and behind a pause by about its length
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
from random import Random

import psycopg

from .crash import Told, compare
from .servers import make_directory
from .targets import MaybeWritten, NotWritten, Target, make_target

PAUSE_SECONDS_MIN = 0.05
PAUSE_SECONDS_MAX = 1.5
BETWEEN_SECONDS_MAX = 0.6
CLOCK_TICKS_PER_SECOND = 1_000_000 << 12
"""An HLC timestamp is microseconds, shifted by its logical part (``base.hlc``)."""


@dataclass
class Report:
    """The outcome of a number of pauses."""

    pauses: int = 0
    paused_seconds: float = 0.0
    acknowledged: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = f"{self.pauses} pauses of {self.paused_seconds:.1f} s in all, {self.acknowledged} transactions acknowledged, {self.refused} refused"
        return "\n".join(
            [head, f"{len(self.problems)} problems" + ("" if self.problems else ": none"), *self.problems[:20]]
        )


class Harness:
    """One server through its pauses."""

    def __init__(self, target: Target, workers: int, seed: int) -> None:
        self.target = target
        self.workers = workers
        self.rng = Random(seed)
        self.told = Told()
        self.report = Report()
        self.is_over = False

    async def run(self, pauses: int) -> Report:
        server = self.target.server
        server.start()
        try:
            await self.target.create(self.workers)
            tasks = [asyncio.create_task(self._work(worker)) for worker in range(self.workers)]
            await asyncio.sleep(BETWEEN_SECONDS_MAX)
            async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as watch:
                for _ in range(pauses):
                    await self._pause(watch)
            self.is_over = True
            await asyncio.gather(*tasks)
            contents, progress = await self.target.read(0)
            self.report.problems += compare(self.told, contents, progress, 0)
        finally:
            server.stop()
        self.report.acknowledged, self.report.refused = len(self.told.acknowledged), len(self.told.refused)
        return self.report

    async def _pause(self, watch: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        process = self.target.server.process
        assert process is not None, "the server runs"
        before = await _clock(watch)
        seconds = self.rng.uniform(PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX)
        begin = time.monotonic()
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            process.send_signal(signal.SIGCONT)
        after = await _clock(watch)
        spent = time.monotonic() - begin
        moved = (after - before) / CLOCK_TICKS_PER_SECOND
        # The clock is read before the pause begins and after it has ended, so it moved at least as long.
        if not seconds * 0.99 <= moved <= spent + 1.0:
            self.report.problems.append(
                f"the clock moved {moved:.3f} s over a pause of {seconds:.3f} s that took {spent:.3f} s"
            )
        self.report.pauses += 1
        self.report.paused_seconds += seconds
        await asyncio.sleep(self.rng.random() * BETWEEN_SECONDS_MAX)

    async def _work(self, worker: int) -> None:
        writer = await self.target.connect()
        try:
            while not self.is_over:
                transaction = self.told.take()
                try:
                    await writer.write(worker, transaction)
                except MaybeWritten as problem:
                    self.told.unknown[transaction] = worker
                    self.report.problems.append(f"worker {worker} lost its session: {problem}")
                    return
                except NotWritten as problem:
                    self.told.refused[transaction] = worker
                    if "could not serialize" not in str(problem):
                        self.report.problems.append(f"worker {worker} was refused: {problem}")
                        return
                else:
                    self.told.acknowledged[transaction] = worker
        finally:
            await writer.close()


async def _clock(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> int:
    cursor = await connection.execute("SELECT cluster_logical_timestamp()")
    row = await cursor.fetchone()
    assert row is not None, "one row"
    return int(str(row[0]))


def run_pauses(pauses: int, workers: int = 6, seed: int = 1) -> Report:
    """Runs pauses against a fresh server and removes it."""
    directory = make_directory("meridian-pause-")
    try:
        return asyncio.run(Harness(make_target("meridian", directory), workers, seed).run(pauses))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main(arguments: Sequence[str]) -> int:
    """Runs as asked; the exit status is 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.pause", description="Stop a server and let it go on.")
    parser.add_argument("--pauses", type=int, default=20)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}")
    report = run_pauses(options.pauses, options.workers, options.seed)
    print(report)
    return bool(report.problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
