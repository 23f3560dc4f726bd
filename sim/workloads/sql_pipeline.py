"""Pipelines: several statements before one Sync, several Syncs in one go, and errors in the middle.

PostgreSQL's rules (protocol, section "Pipelining"), which every driver in pipeline mode relies on:

    P B E  P B E  P B E  S  P B E  S        what is sent at once
    ok     error  skipped   ok              what is answered: nothing between an error and the next Sync
    rolled back             committed       the statements before one Sync are one transaction

A block opened by BEGIN lasts over Syncs, and an error within it until ROLLBACK.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from sim.invariants import Violation
from sim.network import ConnectionLost, Refused
from sim.sqlclient import UNKNOWN_STATES, Answer, PipelineLost, SqlConnection, Step, failure_of
from sim.streams import Draws
from sim.workloads.base import Client, Outcome
from sim.workloads.sql import SqlWorkload

PAGE_ROWS: Final = 2
COMMITTED: Final = "ok"
ABSENT: Final = "fail"
UNKNOWN: Final = "info"


class Plan:
    """One segment: its statements, what each answers if all goes well, and the rows it leaves."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.steps: list[Step] = []
        self.wanted: list[bytes] = []
        """For each statement, the kinds of its messages; b"" is an error."""
        self.fails = False
        self.rows = 0
        """Of the table with this segment's number."""
        self.fate = UNKNOWN


def draw_segment(number: int, rng: Draws) -> Plan:
    """Draws the statements of one segment; one in four has an error in it."""
    plan = Plan(number)
    count = 1 + rng.below(5)
    wrong_at = rng.below(count) if rng.chance(0.25) else -1
    for at in range(count):
        if at == wrong_at:
            _add_wrong(plan, rng)
        else:
            _add_right(plan, rng)
    return plan


def _add_right(plan: Plan, rng: Draws) -> None:
    number, n, style = plan.number, plan.rows, rng.below(5)
    if style == 0 or not n:
        plan.rows += 1
        plan.steps.append(Step("INSERT INTO steps VALUES ($1::int, $2::int, 0)", number, n))
        plan.wanted.append(b"12C")
    elif style == 1:
        plan.rows += 1
        describe = rng.chance(0.5)
        plan.steps.append(Step(f"INSERT INTO steps VALUES ({number}, $1::int, 0) RETURNING n", n, describe=describe))
        plan.wanted.append(b"12TDC" if describe else b"12DC")
    elif style == 2:
        plan.steps.append(Step("UPDATE steps SET v = v + 1 WHERE s = $1::int", number))
        plan.wanted.append(b"12C")
    elif style == 3:
        plan.steps.append(Step("SELECT n FROM steps WHERE s = $1::int ORDER BY n", number))
        plan.wanted.append(b"12" + b"D" * n + b"C")
    else:
        # A portal read in pages: each but the last is suspended, even if it had the last row.
        pages = n // PAGE_ROWS + 1
        plan.steps.append(Step("SELECT n FROM steps WHERE s = $1::int", number, page=PAGE_ROWS, executes=pages))
        page = b"D" * PAGE_ROWS + b"s"
        plan.wanted.append(b"12" + page * (pages - 1) + b"D" * (n % PAGE_ROWS) + b"C")


def _add_wrong(plan: Plan, rng: Draws) -> None:
    number, style = plan.number, rng.below(4)
    if style == 0:
        step = Step("SELECT 1 / ($1::int - $1::int)", number)
    elif style == 1:
        step = Step("SELECT nothing FROM steps WHERE s = $1::int", number)
    elif style == 2:
        step = Step("INSERT INTO steps VALUES ($1::int, $2::int, 0), ($1::int, $2::int, 0)", number, 99)
    else:
        step = Step("SELECT $1::int", "no number")
    plan.fails = True
    plan.steps.append(step)
    plan.wanted.append(b"")


def judge_answers(plan: Plan, answers: list[Answer]) -> str:
    """Returns what is wrong with the answers of a segment, "" if nothing; sets its fate."""
    kinds = b"".join([kind for kind, _ in answers if kind not in b"NS"])
    if not kinds.endswith(b"Z"):
        return f"{kinds!r} has no ReadyForQuery"
    kinds = kinds[:-1]
    wanted = b"".join(plan.wanted)
    errors = [body for kind, body in answers if kind == b"E"]
    if not errors:
        plan.fate = COMMITTED
        if plan.fails:
            return f"{kinds!r}: the error is missing"
        return "" if kinds == wanted else f"{kinds!r} instead of {wanted!r}"
    if not kinds.endswith(b"E") or kinds.count(b"E") > 1:
        return f"{kinds!r}: something follows the error"
    done = kinds[:-1]
    # An error of the commit itself, at Sync, may leave its outcome open.
    plan.fate = UNKNOWN if done == wanted and failure_of(errors[-1]).sqlstate in (*UNKNOWN_STATES, "57014") else ABSENT
    if plan.fails and not wanted.startswith(done):
        # Before the statement that fails by itself, others may fail for other reasons.
        limit = b"".join(plan.wanted[: plan.wanted.index(b"")])
        if not done.startswith(limit) or done[len(limit) :] not in (b"1", b"12"):
            return f"{done!r} before the error instead of {limit!r}"
        return ""
    return "" if wanted.startswith(done) or plan.fails else f"{done!r} before an error is no beginning of {wanted!r}"


class SqlPipeline(SqlWorkload):
    """Segments are answered message by message as the protocol says, and leave all of their rows or none."""

    name = "sql-pipeline"
    isolations: ClassVar[tuple[str, ...]] = ("serializable",)
    schema = ("CREATE TABLE steps (s int, n int, v int NOT NULL, PRIMARY KEY (s, n))",)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.plans: list[Plan] = []
        self._connections: dict[int, SqlConnection] = {}

    async def operate(self, client: Client) -> None:
        rng = client.rng
        plans = []
        for _ in range(1 + rng.below(3)):
            plans.append(draw_segment(len(self.plans), rng))
            self.plans.append(plans[-1])
        in_block = rng.chance(0.2)
        world, process = self.world, client.process
        numbers = [plan.number for plan in plans]
        world.record("invoke", process, "pipeline", numbers)
        outcome = await self._run(client, plans, in_block)
        world.record(
            outcome.status, process, "pipeline", [f"{plan.number} {plan.fate}" for plan in plans], outcome.error
        )
        client.note(outcome)
        if outcome.error == "refused":
            await world.sleep(0.05)

    async def _run(self, client: Client, plans: list[Plan], in_block: bool) -> Outcome:
        segments = [plan.steps for plan in plans]
        if in_block:
            segments = [[Step("BEGIN")], *segments, [Step("COMMIT")]]
        try:
            connection = await self._connected(client)
            answers = await connection.pipeline(segments)
        except Refused:
            for plan in plans:
                plan.fate = ABSENT
            return Outcome("fail", error="refused")
        except ConnectionLost as lost:
            if not in_block and isinstance(lost, PipelineLost):
                self._judge(plans, lost.answered)
            return Outcome("info", error=str(lost))
        if in_block:
            self._judge_block(plans, answers)
        else:
            self._judge(plans, answers)
        is_sure = all([plan.fate != UNKNOWN for plan in plans])
        return Outcome("ok" if is_sure else "info")

    async def _connected(self, client: Client) -> SqlConnection:
        connection = self._connections.get(client.number)
        if connection is None or connection.lost:
            connection = SqlConnection(self.world, f"client{client.number}")
            await connection.open()
            self._connections[client.number] = connection
        return connection

    def _judge(self, plans: list[Plan], answers: list[list[Answer]]) -> None:
        for plan, answer in zip(plans, answers):
            self._object(plan, judge_answers(plan, answer))
            status = answer[-1][1]
            if status != b"I":
                self._object(plan, f"the session is in state {status!r} after Sync")

    def _object(self, plan: Plan, wrong: str) -> None:
        if wrong:
            steps = "; ".join([step.sql for step in plan.steps])
            raise Violation("a pipeline is answered as the protocol says", f"{wrong} for {steps}", (f"[{plan.number}",))

    def _judge_block(self, plans: list[Plan], answers: list[list[Answer]]) -> None:
        """In a block the first error fails what follows, too, and COMMIT rolls back."""
        bodies = answers[1:-1]
        failed = _has_error(answers[0])
        for plan, answer in zip(plans, bodies):
            if failed and not _has_error(answer):
                self._object(plan, "a failed block goes on")
            if not failed:
                self._object(plan, judge_answers(plan, answer))
            failed = failed or _has_error(answer)
        end = answers[-1]
        tag = b"".join([body for kind, body in end if kind == b"C"])
        if end[-1][1] != b"I":
            self._object(plans[-1], f"the session is in state {end[-1][1]!r} after COMMIT, which answered {end}")
        if failed and _has_error(answers[0]):
            # BEGIN itself was cancelled: the segments were transactions of their own.
            return
        fate = COMMITTED if tag == b"COMMIT\0" else ABSENT if tag == b"ROLLBACK\0" else UNKNOWN
        if failed and fate == COMMITTED:
            self._object(plans[-1], "a failed block was committed")
        for plan in plans:
            plan.fate = fate

    async def finish(self) -> None:
        async def look(connection: SqlConnection) -> list[Any]:
            return [
                list(row) for row in await connection.run("SELECT s, count(*), min(n), max(n) FROM steps GROUP BY s")
            ]

        self.found = {int(row[0]): [int(value) for value in row[1:]] for row in await self.must_sql(look)}

    def check(self) -> None:
        for plan in self.plans:
            whole = [plan.rows, 0, plan.rows - 1] if plan.rows else None
            found = self.found.get(plan.number)
            possible: tuple[Any, ...] = (whole, None)
            if plan.fate == COMMITTED:
                possible = (whole,)
            elif plan.fate == ABSENT or plan.fails:
                possible = (None,)
            if found not in possible:
                raise Violation(
                    "a segment is there whole or not at all",
                    f"segment {plan.number} ({plan.fate}): {found}, could be {possible}",
                    (f"[{plan.number}", f" {plan.number},", f"'{plan.number} "),
                )


def _has_error(answer: list[Answer]) -> bool:
    return any([kind == b"E" for kind, _ in answer])
