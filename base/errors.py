"""One closed family of errors; every error a client can see is one of these.

Each class carries the SQLSTATE PostgreSQL would report (PostgreSQL 15 manual,
Appendix A), the fields of an ErrorResponse message, and two properties the
retry rules need:

``retryable``      running the transaction again may succeed (class 40).
``deterministic``  the same command on the same state fails the same way, so
                   every replica that evaluates it agrees.

Assertions are for our bugs; these are for the world.
"""

from __future__ import annotations


class MeridianError(Exception):
    """An error with a SQLSTATE and the optional fields of an ErrorResponse."""

    sqlstate = "XX000"
    retryable = False
    deterministic = True

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str | None = None,
        detail: str | None = None,
        hint: str | None = None,
        position: int | None = None,
        schema: str | None = None,
        table: str | None = None,
        column: str | None = None,
        constraint: str | None = None,
        datatype: str | None = None,
        context: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if sqlstate is not None:
            self.sqlstate = sqlstate
        self.detail = detail
        self.hint = hint
        self.position = position
        """1-based character offset into the statement's text, or None."""
        self.schema = schema
        self.table = table
        self.column = column
        self.constraint = constraint
        self.datatype = datatype
        self.context = context
        """Where it happened, as COPY tells its line."""
        self.row: int | None = None
        """Which of the rows given to the statement it is about, from 0; None if not one row."""


def error(sqlstate: str, message: str, **fields: str | int | None) -> MeridianError:
    """Builds the error of a class that needs no name of its own: ``raise error("22012", ...)``."""
    return SqlError(message, sqlstate=sqlstate, **fields)  # type: ignore[arg-type]  # fields are checked by __init__


class SqlError(MeridianError):
    """A statement is wrong or a value does not fit; see the SQLSTATE."""


class FeatureNotSupported(SqlError):
    """Names a feature that is not built; never silently ignored."""

    sqlstate = "0A000"


class InternalError(MeridianError):
    """A bug of ours that a client met; the text carries an id, never a traceback."""

    sqlstate = "XX000"


# --- the storage tier's errors -------------------------------------------------


class KvError(MeridianError):
    """Base of what a range can answer instead of a result."""


class Retryable(KvError):
    """The transaction must run again (at the gateway if nothing was sent to the client)."""

    sqlstate = "40001"
    retryable = True

    def __init__(self, message: str, *, reason: str = "", key: bytes = b"", other_txn: bytes = b"") -> None:
        super().__init__(message)
        self.reason = reason
        """A stable word for tests and metrics: ``write_too_old``, ``read_conflict``..."""
        self.key = key
        self.other_txn = other_txn


class WriteTooOld(Retryable):
    """A newer committed version exists above the transaction's read timestamp."""

    def __init__(self, key: bytes, existing_ts: int) -> None:
        super().__init__("could not serialize access due to concurrent update", reason="write_too_old", key=key)
        self.existing_ts = existing_ts


class ReadConflict(Retryable):
    """A refresh found that a read is no longer what it was at the new timestamp."""

    def __init__(self, key: bytes, conflict_ts: int) -> None:
        super().__init__(
            "could not serialize access due to read/write dependencies among transactions",
            reason="read_conflict",
            key=key,
        )
        self.conflict_ts = conflict_ts


class Uncertain(Retryable):
    """A value lies in the reader's uncertainty interval; read again above it."""

    def __init__(self, key: bytes, value_ts: int) -> None:
        super().__init__("read within uncertainty interval", reason="uncertain", key=key)
        self.value_ts = value_ts


class TxnAborted(Retryable):
    """The transaction's record says ABORTED, or a pusher removed its intents."""

    def __init__(
        self, message: str = "transaction was aborted by a concurrent transaction", reason: str = "aborted"
    ) -> None:
        super().__init__(message, reason=reason)


class TxnRetry(Retryable):
    """Any other reason to restart; ``reason`` says which."""


class Deadlock(Retryable):
    """This transaction is the victim of a wait cycle (PostgreSQL: deadlock_detected)."""

    sqlstate = "40P01"

    def __init__(self, key: bytes, other_txn: bytes = b"") -> None:
        super().__init__("deadlock detected", reason="deadlock", key=key, other_txn=other_txn)


class LockNotAvailable(KvError):
    """NOWAIT met a lock, or ``lock_timeout`` passed."""

    sqlstate = "55P03"


class ConditionFailed(KvError):
    """A ConditionalPut found another value than expected; SQL turns it into 23505."""

    sqlstate = "23505"

    def __init__(self, key: bytes, actual: bytes | None) -> None:
        super().__init__("condition failed")
        self.key = key
        self.actual = actual


class AmbiguousResult(KvError):
    """A commit may or may not have happened; never retried by us."""

    sqlstate = "40003"
    deterministic = False


class RangeMismatch(KvError):
    """The batch was addressed with a stale descriptor; carries what the replica knows."""

    def __init__(self, descriptors: tuple[object, ...] = ()) -> None:
        super().__init__("range key mismatch")
        self.descriptors = descriptors


class NotLeaseholder(KvError):
    """Another replica holds the lease; ``leaseholder`` is its node id or None."""

    def __init__(self, range_id: int, leaseholder: int | None = None) -> None:
        super().__init__(f"not leaseholder of range {range_id}")
        self.range_id = range_id
        self.leaseholder = leaseholder


class RangeUnavailable(KvError):
    """No replica of a range answers as its leaseholder: a quorum is lost, or cannot be reached."""

    sqlstate = "57P03"
    deterministic = False

    def __init__(self, range_id: int) -> None:
        super().__init__(f"range {range_id} has no leaseholder that can be reached")
        self.range_id = range_id


class BelowGcThreshold(KvError):
    """A read at a timestamp whose versions may have been collected."""

    sqlstate = "22023"

    def __init__(self, ts: int, threshold: int) -> None:
        super().__init__(f"batch timestamp {ts} must be after replica GC threshold {threshold}")


class ClockTooFar(KvError):
    """A timestamp ahead of this node's clock by more than max_offset."""

    def __init__(self, ts: int, now: int) -> None:
        super().__init__(f"timestamp {ts} is too far ahead of {now}")


class ProposalDropped(KvError):
    """A replica did not take a proposal: nothing of it will happen; try again or elsewhere.

    ``reason`` is one of ``kvtier.raft.REASONS``; ``lead`` the replica to ask instead, 0 if unknown.
    """

    deterministic = False

    def __init__(self, reason: str, lead: int = 0) -> None:
        super().__init__(f"raft proposal dropped: {reason}")
        self.reason = reason
        self.lead = lead


class Overloaded(KvError):
    """Admission refused the work; nothing was done."""

    sqlstate = "53000"


class PeerUnavailable(KvError):
    """A call that was certainly not delivered to its node; nothing was done there."""

    sqlstate = "08006"
    deterministic = False

    def __init__(self, node_id: int, why: str) -> None:
        super().__init__(f"node {node_id} is unavailable: {why}")
        self.node_id = node_id


class AnswerLost(KvError):
    """A call that may have been delivered and got no answer: what it asked may have happened (reliability 131)."""

    sqlstate = "08006"
    deterministic = False

    def __init__(self, node_id: int, why: str) -> None:
        super().__init__(f"node {node_id} did not answer: {why}")
        self.node_id = node_id


class CallFailed(KvError):
    """The handler of a call raised an error on its node; the SQLSTATE and the message are that error's."""

    deterministic = False


class MessageTooLarge(KvError):
    """A message between nodes is above its limit; it was not sent."""

    sqlstate = "54000"

    def __init__(self, channel: str, size: int, limit: int) -> None:
        super().__init__(f"message of {size} bytes on {channel} is above the limit of {limit} bytes")


class LockTableFull(KvError):
    """The store's lock memory is used up."""

    sqlstate = "53200"

    def __init__(self, limit: int) -> None:
        super().__init__(
            "out of shared memory",
            detail=f"The store holds {limit} row locks, the most it can keep.",
            hint="Lock fewer rows in one transaction.",
        )


class QueryCanceled(MeridianError):
    """Cancel request, statement_timeout, or client gone."""

    sqlstate = "57014"


class StorageFailure(MeridianError):
    """The engine failed (full disk, failed sync, corruption); the node stops."""

    sqlstate = "58030"
    deterministic = False
