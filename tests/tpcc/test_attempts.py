"""What is tried again, what is not, and how it is counted: with a session that fails as told."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import psycopg
import pytest
from psycopg import errors

from tpcc import statements as sql
from tpcc.attempts import ATTEMPTS_MAX, Runner, Verdict, judge
from tpcc.inputs import Kind, StockLevel
from tpcc.metrics import TypeCounts
from tpcc.session import Answer, Call, Session

ENTRY = StockLevel(1, 1, 15)


class FailingSession(Session):
    """Answers a Stock-Level; raises the next of its failures at each statement it belongs to."""

    def __init__(self, *failures: tuple[str, Exception], closes: bool = False) -> None:
        self.failures = list(failures)
        self.closes = closes
        self.log: list[str] = []
        self.open = True

    def _meet(self, moment: str) -> None:
        self.log.append(moment)
        if self.failures and self.failures[0][0] == moment:
            self.open = not self.closes
            raise self.failures.pop(0)[1]

    def begin(self) -> None:
        self._meet("begin")

    def batch(self, calls: Sequence[Call]) -> list[Answer]:
        self._meet("read" if calls[0][0] == sql.GET_NEXT_ORDER else "count")
        return [Answer([(3_001,)], 1) for _ in calls]

    def commit(self) -> None:
        self._meet("commit")

    def rollback(self) -> None:
        self._meet("rollback")

    def connect(self) -> None:
        self.open = True

    def close(self) -> None:
        self.open = False

    @property
    def is_open(self) -> bool:
        return self.open


class Attempted:
    """A transaction run on a failing session, with what was told of it."""

    def __init__(self, session: FailingSession) -> None:
        self.errors: list[tuple[str, str]] = []
        self.slept: list[float] = []
        self.session = session
        runner = Runner(session, Random(1), self.slept.append, lambda _, state, text: self.errors.append((state, text)))
        self.counts = runner.run(Kind.STOCK_LEVEL, ENTRY)


def test_committed_at_once() -> None:
    attempted = Attempted(FailingSession())
    assert attempted.counts == TypeCounts(committed=1)
    assert attempted.session.log == ["begin", "read", "count", "commit"]


def test_serialization_failures_are_run_again() -> None:
    failures = [("read", errors.SerializationFailure()), ("commit", errors.SerializationFailure())]
    attempted = Attempted(FailingSession(*failures))
    assert attempted.counts == TypeCounts(committed=1, serialization_failures=2, met_40001=1)
    assert attempted.session.log == [
        "begin", "read", "rollback", "begin", "read", "count", "commit", "rollback", "begin", "read", "count", "commit",
    ]  # fmt: skip
    assert attempted.errors == []
    assert len(attempted.slept) == 2


def test_deadlocks_are_counted_apart() -> None:
    attempted = Attempted(FailingSession(("count", errors.DeadlockDetected())))
    assert attempted.counts == TypeCounts(committed=1, deadlocks=1)


def test_unknown_completion_is_never_run_again() -> None:
    attempted = Attempted(FailingSession(("commit", errors.StatementCompletionUnknown("who knows"))))
    assert attempted.counts == TypeCounts(ambiguous=1)
    assert attempted.session.log.count("begin") == 1
    assert attempted.errors == [("40003", "who knows")]


def test_connection_lost_in_commit_is_ambiguous() -> None:
    attempted = Attempted(FailingSession(("commit", psycopg.OperationalError("gone")), closes=True))
    assert attempted.counts == TypeCounts(ambiguous=1)
    assert attempted.session.log.count("begin") == 1
    assert "rollback" not in attempted.session.log


def test_connection_lost_before_commit_is_a_failure() -> None:
    attempted = Attempted(FailingSession(("count", psycopg.OperationalError("gone")), closes=True))
    assert attempted.counts == TypeCounts(failed=1)
    assert attempted.errors == [("", "gone")]


def test_other_errors_are_told_not_retried() -> None:
    attempted = Attempted(FailingSession(("read", errors.UndefinedTable("no such table"))))
    assert attempted.counts == TypeCounts(failed=1)
    assert attempted.errors == [("42P01", "no such table")]
    assert attempted.session.log == ["begin", "read", "rollback"]


def test_retries_end() -> None:
    attempted = Attempted(FailingSession(*[("read", errors.SerializationFailure()) for _ in range(ATTEMPTS_MAX + 1)]))
    assert attempted.counts == TypeCounts(exhausted=1, serialization_failures=ATTEMPTS_MAX, met_40001=1)
    assert max(attempted.slept) <= 0.1


def test_rollback_that_fails_closes_the_session() -> None:
    failures = [("read", errors.UndefinedTable()), ("rollback", psycopg.OperationalError())]
    attempted = Attempted(FailingSession(*failures))
    assert attempted.counts == TypeCounts(failed=1)
    assert not attempted.session.is_open


@pytest.mark.parametrize(
    ("sqlstate", "is_committing", "is_open", "verdict"),
    [
        ("40001", True, True, Verdict.RETRY),
        ("40P01", False, True, Verdict.RETRY),
        ("40003", False, True, Verdict.AMBIGUOUS),
        ("08007", True, True, Verdict.AMBIGUOUS),
        (None, True, False, Verdict.AMBIGUOUS),
        ("57P01", True, False, Verdict.AMBIGUOUS),
        (None, False, False, Verdict.FAILED),
        ("23505", True, True, Verdict.FAILED),
    ],
)
def test_verdicts(sqlstate: str | None, is_committing: bool, is_open: bool, verdict: Verdict) -> None:
    assert judge(sqlstate, is_committing, is_open) is verdict
