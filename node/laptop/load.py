"""A bank that works while the cluster is broken: one client per region moves money, and the sum must stay."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from typing import Any, Final

import psycopg

from node.laptop.cluster import Laptop, LaptopError

ACCOUNTS: Final = 60
START: Final = 1000
PAUSE_SECONDS: Final = 0.02
CONNECT_SECONDS_MAX: Final = 3
STATEMENT_MS_MAX: Final = 5000
LATENCIES_KEPT: Final = 1000
"""Per region: enough for percentiles of the last while."""


class Teller(threading.Thread):
    """Moves money in one region, through whichever of its nodes is up."""

    def __init__(self, bank: Bank, region: str) -> None:
        super().__init__(name=f"bank {region}", daemon=True)
        self.bank = bank
        self.region = region
        self.rng = random.Random(region)  # noqa: S311  # which accounts, nothing secret
        self.moved = self.retried = self.unknown = self.failed = 0
        self.last_ok = 0.0
        self.longest_gap = 0.0
        self.latencies: deque[float] = deque(maxlen=LATENCIES_KEPT)

    def run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self.bank.is_stopped.is_set():
            try:
                if connection is None:
                    connection = self._connect()
                self._move(connection)
            except (psycopg.Error, LaptopError) as problem:
                self._note(problem)
                if connection is not None and (
                    connection.closed or not isinstance(problem, psycopg.errors.SerializationFailure)
                ):
                    connection.close()
                    connection = None
            self.bank.is_stopped.wait(PAUSE_SECONDS)
        if connection is not None:
            connection.close()

    def _connect(self) -> psycopg.Connection[Any]:
        dsn = self.bank.laptop.first_up(self.region).dsn
        return psycopg.connect(
            dsn,
            connect_timeout=CONNECT_SECONDS_MAX,
            autocommit=True,
            options=f"-c statement_timeout={STATEMENT_MS_MAX}",
        )

    def _move(self, connection: psycopg.Connection[Any]) -> None:
        source, target = self.rng.sample(range(ACCOUNTS), 2)
        began = time.monotonic()
        with connection.transaction():
            connection.execute("UPDATE bank.account SET balance = balance - 1 WHERE id = %s", (source,))
            connection.execute("UPDATE bank.account SET balance = balance + 1 WHERE id = %s", (target,))
        now = time.monotonic()
        self.latencies.append(now - began)
        self.moved += 1
        if self.last_ok:
            self.longest_gap = max(self.longest_gap, now - self.last_ok)
        self.last_ok = now

    def _note(self, problem: Exception) -> None:
        state = getattr(problem, "sqlstate", None)
        if state == "40001":
            self.retried += 1
        elif state == "40003":
            self.unknown += 1
        else:
            self.failed += 1


class Bank:
    """The tables, and a teller per region."""

    def __init__(self, laptop: Laptop) -> None:
        self.laptop = laptop
        self.is_stopped = threading.Event()
        self.tellers = [Teller(self, region) for region in laptop.regions]

    def create(self) -> None:
        """Makes the accounts; raises psycopg.Error."""
        with psycopg.connect(self.laptop.first_up().dsn, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA IF NOT EXISTS bank")
            connection.execute("CREATE TABLE IF NOT EXISTS bank.account (id int PRIMARY KEY, balance int NOT NULL)")
            connection.execute(
                f"INSERT INTO bank.account SELECT g, {START} FROM generate_series(0, {ACCOUNTS - 1}) g ON CONFLICT DO NOTHING"
            )

    def start(self) -> None:
        """Opens for business."""
        for teller in self.tellers:
            teller.start()

    def stop(self) -> None:
        """Closes; a transaction under way ends first."""
        self.is_stopped.set()
        for teller in self.tellers:
            if teller.is_alive():
                teller.join(timeout=STATEMENT_MS_MAX / 1000)

    def total(self) -> tuple[int, int]:
        """Returns (what all accounts hold, what they must hold); raises psycopg.Error."""
        with psycopg.connect(
            self.laptop.first_up().dsn, autocommit=True, connect_timeout=CONNECT_SECONDS_MAX
        ) as connection:
            row = connection.execute("SELECT sum(balance)::int FROM bank.account").fetchone()
        assert row is not None, "sum gives one row"
        return int(row[0]), ACCOUNTS * START

    def rows(self) -> list[tuple[str, ...]]:
        """Returns per region: moved, retried (40001), unknown (40003), failed, median ms, longest gap s."""
        found = []
        for teller in self.tellers:
            ordered = sorted(teller.latencies)
            median = f"{ordered[len(ordered) // 2] * 1000:.0f}" if ordered else "-"
            counts = (teller.moved, teller.retried, teller.unknown, teller.failed)
            found.append((teller.region, *map(str, counts), median, f"{teller.longest_gap:.1f}"))
        return found
