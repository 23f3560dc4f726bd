"""Runs a transaction to its end: what is tried again, and what must not be.

| the attempt ended in | where | then |
| --- | --- | --- |
| 40001, 40P01 | anywhere | ROLLBACK, wait, again with the same input |
| 40003, 08007 | anywhere | ambiguous: counted, never again |
| lost connection | in COMMIT | ambiguous: counted, never again |
| lost connection | before COMMIT | failed: nothing was committed; connect anew |
| anything else | anywhere | failed: counted with its text |

To run an ambiguous transaction again might book it twice (reliability 33).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Final

import psycopg

from tpcc.inputs import Input, Kind
from tpcc.metrics import TypeCounts
from tpcc.session import Session
from tpcc.transactions import BODIES, Ending, MissingRow

ATTEMPTS_MAX: Final = 100
BACKOFF_SECONDS_MIN: Final = 0.001
BACKOFF_SECONDS_MAX: Final = 0.1

SERIALIZATION_FAILURE: Final = "40001"
DEADLOCK_DETECTED: Final = "40P01"
COMPLETION_UNKNOWN: Final = ("40003", "08007")


class Verdict(Enum):
    RETRY = "retry"
    AMBIGUOUS = "ambiguous"
    FAILED = "failed"


OnError = Callable[[Kind, str, str], None]
"""Called with type, SQLSTATE (or nothing) and text."""


def judge(sqlstate: str | None, is_committing: bool, is_open: bool) -> Verdict:
    """Returns what may be done about an error."""
    if sqlstate in (SERIALIZATION_FAILURE, DEADLOCK_DETECTED):
        return Verdict.RETRY
    if sqlstate in COMPLETION_UNKNOWN or (is_committing and not is_open):
        return Verdict.AMBIGUOUS
    return Verdict.FAILED


class Runner:
    """Runs transactions of one terminal."""

    def __init__(self, session: Session, rng: Random, sleep: Callable[[float], object], on_error: OnError) -> None:
        self._session = session
        self._rng = rng
        self._sleep = sleep
        self._on_error = on_error

    def run(self, kind: Kind, entry: Input) -> TypeCounts:
        """Returns the counts of one transaction, without latency."""
        counts = TypeCounts()
        for attempt in range(ATTEMPTS_MAX):
            if self._attempt(kind, entry, counts):
                break
            self._sleep(self._backoff_seconds(attempt))
        else:
            counts.exhausted = 1
        counts.met_40001 = int(counts.serialization_failures > 0)
        return counts

    def _attempt(self, kind: Kind, entry: Input, counts: TypeCounts) -> bool:
        """Runs the body once; answers whether the transaction has an outcome."""
        is_committing = False
        try:
            self._session.begin()
            ending = BODIES[kind](self._session, entry)
            is_committing = not ending.is_rollback
            self._end(ending)
        except MissingRow as missing:
            counts.failed = 1
            self._on_error(kind, "", str(missing))
            self._roll_back()
            return True
        except psycopg.Error as failure:
            return self._fail(kind, failure, is_committing, counts)
        counts.committed = int(not ending.is_rollback)
        counts.rolled_back = int(ending.is_rollback)
        counts.deliveries_skipped = ending.deliveries_skipped
        return True

    def _end(self, ending: Ending) -> None:
        if ending.is_rollback:
            self._session.rollback()
        else:
            self._session.commit()

    def _fail(self, kind: Kind, failure: psycopg.Error, is_committing: bool, counts: TypeCounts) -> bool:
        verdict = judge(failure.sqlstate, is_committing, self._session.is_open)
        self._roll_back()
        if verdict is Verdict.RETRY:
            if failure.sqlstate == DEADLOCK_DETECTED:
                counts.deadlocks += 1
            else:
                counts.serialization_failures += 1
            # Where the server closed the connection as well, the retry would only find it closed.
            if self._session.is_open:
                return False
        self._on_error(kind, failure.sqlstate or "", str(failure) or type(failure).__name__)
        if verdict is Verdict.AMBIGUOUS:
            counts.ambiguous = 1
        else:
            counts.failed = 1
        return True

    def _roll_back(self) -> None:
        """Leaves no transaction open; a connection that cannot even roll back is closed."""
        if not self._session.is_open:
            return
        try:
            self._session.rollback()
        except psycopg.Error:
            self._session.close()

    def _backoff_seconds(self, attempt: int) -> float:
        """Exponential with full jitter."""
        ceiling = min(BACKOFF_SECONDS_MIN * (1 << attempt), BACKOFF_SECONDS_MAX)
        return self._rng.random() * ceiling
