"""What every operator shares: the plan-time Operator, the run-time Stream, and the Run.

    PhysicalPlan --open--> Cursor --fetch--> root Stream --next--> child Streams ...

An ``Operator`` is immutable after planning and shared by every execution of a cached
plan; whatever changes lives in its ``Stream`` or in the ``Run``.  A stream gives
batches: lists of at most BATCH_ROWS row tuples, then the empty list for ever.  There is
one await per batch, never one per row.

The *frame* of a run is a list: the statement's parameters first, then hidden slots
that the planner numbered: values of outer columns (correlation) and subplan runners.
Compiled expressions read it as their parameters.

Invariant: a stream never changes a batch it was given; it may keep it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from base.eager import Done, Suspended, run_eagerly
from base.errors import error
from planner.context import ExecContext, NeedsAwait
from planner.expr import Expr
from txn.transaction import Txn

BATCH_ROWS: Final = 1024
"""Most rows in a batch."""
WAITS_PER_ROW_MAX: Final = 10_000
"""How often one row's expressions may ask to wait before we call it a bug."""
TUPLE_BYTES: Final = 56
DATUM_BYTES: Final = 48
"""Estimated memory of a row tuple and of each datum (CPython 3.11, 64 bit)."""

Row = tuple[Any, ...]
Rows = list[Row]
RowsFunction = Callable[[Rows, Any, ExecContext], Rows]
"""A compiled projection or filter over a batch: (rows, frame, ctx) -> rows."""
ScalarFunction = Callable[[Row, Any, ExecContext], Any]
"""A compiled expression over one row."""


class Counter:
    """What EXPLAIN ANALYZE knows of one operator; times in nanoseconds of the given clock."""

    __slots__ = ("batches", "loops", "nanoseconds", "rows", "startup")

    def __init__(self) -> None:
        self.rows = 0
        self.loops = 0
        self.nanoseconds = 0
        self.startup = -1
        self.batches = 0
        """KV batches sent by the operator itself."""


class Run:
    """One execution of a plan."""

    __slots__ = ("affected", "at_end", "checks", "clock", "counters", "ctes", "ctx", "frame", "held", "trips", "txn")

    def __init__(self, txn: Txn, frame: list[Any], ctx: ExecContext, clock: Callable[[], int] | None = None) -> None:
        self.txn = txn
        self.frame = frame
        self.ctx = ctx
        self.affected = 0
        self.ctes: dict[int, Any] = {}
        """CTE buffers of this run by id(Cte)."""
        self.clock = clock
        self.counters: dict[int, Counter] | None = None if clock is None else {}
        """By id(Operator); kept only for EXPLAIN ANALYZE."""
        self.trips = 0
        """KV batches of this run; operators add one per call."""
        self.at_end: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """Cascades to run at the end of the statement, in order; they may add more."""
        self.checks: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """Constraint checks to run after all cascades."""
        self.held: dict[bytes, bytes | None] | None = None
        """Writes of data-modifying CTEs, kept back so that no part of the statement sees another's."""

    def put(self, key: bytes, value: bytes) -> None:
        """Writes through the transaction, or holds it back."""
        if self.held is None:
            self.txn.put(key, value)
        else:
            self.held[key] = value

    def delete(self, key: bytes) -> None:
        if self.held is None:
            self.txn.delete(key)
        else:
            self.held[key] = None

    async def put_run(self, keys: list[bytes], values: list[bytes], is_distinct: bool = False) -> int:
        """Writes new rows by bulk where that is possible; returns how many, from the first on."""
        if self.held is not None:
            return 0
        self.trips += 1
        done = self.txn.put_run(keys, values, is_distinct)
        return done if isinstance(done, int) else await done

    async def release(self) -> None:
        """Hands writes held back to the transaction."""
        held, self.held = self.held, None
        for key, value in (held or {}).items():
            if value is None:
                self.txn.delete(key)
            else:
                self.txn.put(key, value)
        await self.flush()

    async def flush(self) -> None:
        """Sends buffered writes if there are too many."""
        if self.txn.needs_flush:
            waiting = self.txn.flush()
            if waiting is not None:
                await waiting

    async def breathe(self) -> None:
        """Between two batches: ends a statement that was cancelled, and lets others have their turn."""
        self.ctx.check_interrupt()
        turn = self.ctx.end_turn()
        if turn is not None:
            await turn

    async def finish_statement(self) -> None:
        """Runs the end-of-statement work; cascades may add more."""
        if self.held is not None:
            return
        while self.at_end or self.checks:
            queue = self.at_end or self.checks
            await queue.pop(0)()
            self.ctx.check_interrupt()

    def open(self, operator: Operator) -> Stream:
        """Opens an operator, counted if asked."""
        if self.counters is None:
            return operator.open(self)
        counter = self.counters.setdefault(id(operator), Counter())
        counter.loops += 1
        return Counted(operator.open(self), counter, self)


class Operator(ABC):
    """Base of physical operators.  ``columns`` as in planner.nodes; ``rows`` and costs are estimates."""

    columns: tuple[int, ...]
    rows: float = 1.0
    startup_cost: float = 0.0
    cost: float = 0.0
    order: tuple[tuple[int, bool, bool], ...] = ()
    """Known output order: (column id, descending, nulls first)."""
    is_single: bool = False
    """Gives at most one row."""

    def children(self) -> tuple[Operator, ...]:
        return ()

    @abstractmethod
    def open(self, run: Run) -> Stream: ...

    @abstractmethod
    def title(self) -> str:
        """The operator's line of EXPLAIN."""

    def details(self) -> list[tuple[str, Any]]:
        """(label, value) lines below the title; values are text, expressions or lists of them."""
        return []

    def estimate(self, rows: float, cost: float, startup: float = 0.0) -> None:
        self.rows = rows
        self.cost = cost
        self.startup_cost = startup


class Stream(ABC):
    """One opened operator."""

    @abstractmethod
    async def next(self) -> Rows:
        """The next batch; [] at the end, and ever after."""

    def close(self) -> None:  # noqa: B027  # most streams hold nothing
        """Releases what is held; no further use."""


class Buffered(Stream):
    """A stream that makes all its rows at once, then hands them out in batches."""

    def __init__(self) -> None:
        self.ready: Rows | None = None
        self.position = 0

    @abstractmethod
    async def fill(self) -> Rows: ...

    async def next(self) -> Rows:
        if self.ready is None:
            self.ready = await self.fill()
        start = self.position
        self.position = start + BATCH_ROWS
        if start == 0 and len(self.ready) <= BATCH_ROWS:
            batch, self.ready = self.ready, []
            return batch
        return self.ready[start : start + BATCH_ROWS]


class Counted(Stream):
    """Counts what passes, for EXPLAIN ANALYZE."""

    def __init__(self, stream: Stream, counter: Counter, run: Run) -> None:
        self.stream = stream
        self.counter = counter
        self.run = run

    async def next(self) -> Rows:
        clock = self.run.clock
        assert clock is not None
        before, trips = clock(), self.run.trips
        batch = await self.stream.next()
        counter = self.counter
        counter.nanoseconds += clock() - before
        counter.batches += self.run.trips - trips
        if counter.startup < 0:
            counter.startup = counter.nanoseconds
        counter.rows += len(batch)
        return batch

    def close(self) -> None:
        self.stream.close()


async def drain(stream: Stream, run: Run) -> Rows:
    """Reads a stream to its end into one list, accounting for its memory."""
    rows = await stream.next()
    if len(rows) < BATCH_ROWS:
        more = await stream.next() if rows else rows
        if not more:
            return rows
        rows = rows + more
    else:
        rows = list(rows)
    account(run.ctx, rows)
    while True:
        batch = await stream.next()
        if not batch:
            return rows
        account(run.ctx, batch)
        run.ctx.check_interrupt()
        rows += batch


def row_bytes(rows: Rows) -> int:
    """Estimated memory of a batch, from its first row's shape."""
    if not rows:
        return 0
    first = rows[0]
    size = TUPLE_BYTES + DATUM_BYTES * len(first)
    for datum in first:
        if datum.__class__ is str or datum.__class__ is bytes:
            size += len(datum)
    return size * len(rows)


def account(ctx: ExecContext, rows: Rows) -> None:
    """Tells the context of rows kept."""
    if rows:
        ctx.memory(row_bytes(rows))


async def evaluate(function: RowsFunction, rows: Rows, run: Run) -> Rows:
    """Applies a compiled batch function; where it must wait, waits and goes on row by row."""
    try:
        return function(rows, run.frame, run.ctx)
    except NeedsAwait as need:
        await need.awaitable
    out: Rows = []
    for row in rows:
        out += await _evaluate_row(function, row, run)
    return out


async def _evaluate_row(function: RowsFunction, row: Row, run: Run) -> Rows:
    for _ in range(WAITS_PER_ROW_MAX):
        try:
            return function([row], run.frame, run.ctx)
        except NeedsAwait as need:
            await need.awaitable
    raise AssertionError(f"expression waited {WAITS_PER_ROW_MAX} times")


async def evaluate_scalar(function: ScalarFunction, row: Row, run: Run) -> Any:
    """Evaluates one compiled expression on one row, waiting where it must."""
    for _ in range(WAITS_PER_ROW_MAX):
        try:
            return function(row, run.frame, run.ctx)
        except NeedsAwait as need:
            await need.awaitable
    raise AssertionError(f"expression waited {WAITS_PER_ROW_MAX} times")


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine as far as it goes: its value, or a ``Suspended`` to await."""
    step = run_eagerly(coroutine)
    if step.__class__ is Done:
        return step.value
    return Suspended(coroutine, step)


async def settle(value: Awaitable[Any]) -> Any:
    """Awaits an Eager that turned out not to be there yet."""
    return await value


def int_argument(value: Any, what: str, sqlstate: str) -> int | None:
    """LIMIT and OFFSET values: None for NULL, else a count that must not be negative."""
    if value is None:
        return None
    if value < 0:
        raise error(sqlstate, f"{what} must not be negative")
    return int(value)


ExprList = tuple[Expr, ...]
