"""TPC-C in small: the transactions of ``tpcc`` over simulated connections, and the twelve conditions of clause 3.3.2.

The bodies of ``tpcc.transactions`` are plain functions that call a session and wait.  Here nobody may wait, so a
body is run from its beginning with the answers it has had so far, until it asks for one more (``Unanswered``);
a body is a function of its input and its answers, the time apart, which ``_text`` replaces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, Final

from sim.invariants import Violation
from sim.loop import WALL_START_NS
from sim.sqlclient import CONFLICT, SqlConnection, SqlFailure, Step, failure_of, fields_of
from sim.workloads.base import Client
from sim.workloads.sql import SqlWorkload
from tpcc import population, schema
from tpcc.checks import list_conditions
from tpcc.inputs import CARDS, Kind, Typist
from tpcc.randomness import load_constants, run_constants
from tpcc.scale import Scale
from tpcc.session import Answer, Call, Session
from tpcc.transactions import BODIES, Ending, MissingRow

WAREHOUSES: Final = 2
SCALE: Final = Scale(items=12, customers=4, undelivered=2)
LOAD_SEED: Final = 7
"""One population for all seeds: what is drawn from the seed is what is done with it."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


class Unanswered(Exception):
    """The body wants to know more."""

    def __init__(self, calls: Sequence[Call]) -> None:
        super().__init__()
        self.calls = calls


class Replay(Session):
    """A session that knows the answers to a body's first batches."""

    def __init__(self, answers: list[list[Answer]]) -> None:
        self._answers = answers
        self._at = 0

    def batch(self, calls: Sequence[Call]) -> list[Answer]:
        if self._at == len(self._answers):
            raise Unanswered(calls)
        self._at += 1
        return self._answers[self._at - 1]

    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def connect(self) -> None: ...

    def close(self) -> None: ...

    @property
    def is_open(self) -> bool:
        return True


class SqlTpcc(SqlWorkload):
    """The five transactions at every level; the conditions hold in every snapshot."""

    name = "sql-tpcc"

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.conditions = list_conditions(SCALE)
        self.constants = load_constants(LOAD_SEED)
        self.has_foreign_keys = self.rng.chance(0.3)

    async def set_up(self) -> None:
        connection = SqlConnection(self.world, "setup")
        await connection.open()
        for name, columns in schema.TABLES.items():
            await connection.run(f"CREATE TABLE {name} ({columns})")
        while not await self._load(connection):
            pass
        for statement in schema.INDEXES.values():
            await connection.run(statement)
        if self.has_foreign_keys:
            for statement in schema.FOREIGN_KEYS.values():
                await connection.run(statement)
        connection.close()

    async def _load(self, connection: SqlConnection) -> bool:
        """Loads all tables in one transaction; False if it met a conflict and must be run again."""
        recipe = population.Recipe(LOAD_SEED, WAREHOUSES, datetime(2026, 1, 1, tzinfo=UTC), self.constants, SCALE)
        await connection.run("BEGIN")
        try:
            for part in population.list_parts(WAREHOUSES, SCALE):
                for table, lines in population.make_lines(part, recipe).items():
                    await connection.copy_in(
                        f"COPY {table} FROM STDIN", ["".join([f"{line}\n" for line in lines]).encode()]
                    )
            await connection.run("COMMIT")
        except SqlFailure as failure:
            if failure.sqlstate != CONFLICT:
                raise
            if connection.status != "I":
                await connection.run("ROLLBACK")
            return False
        return True

    async def operate(self, client: Client) -> None:
        rng = client.rng
        if rng.chance(0.04):
            await self._check_conditions(client)
            return
        dice = Random(rng.below(1 << 60))
        kind = dice.choices(list(CARDS), list(CARDS.values()))[0] if rng.chance(0.6) else dice.choice(list(CARDS))
        constants = run_constants(LOAD_SEED, self.constants.last_name)
        typist = Typist(dice, SCALE, constants, WAREHOUSES, tuple(range(1, WAREHOUSES + 1)), 1 + rng.below(10))
        entry = typist.enter(kind)
        is_pipelined = rng.chance(0.5)

        async def body(connection: SqlConnection) -> list[Any]:
            ending = await self._run(connection, kind, entry, is_pipelined)
            if ending.is_rollback:
                raise SqlFailure("", "rolled back as the standard demands")
            return list(entry)

        await self.session(client).transact(kind.value, list(entry), body, self.mixed(client))

    async def _run(self, connection: SqlConnection, kind: Kind, entry: Any, is_pipelined: bool) -> Ending:
        answers: list[list[Answer]] = []
        while True:
            try:
                return BODIES[kind](Replay(answers), entry)
            except Unanswered as asked:
                if is_pipelined and len(asked.calls) > 1:
                    answers.append(await self._pipeline(connection, asked.calls))
                else:
                    answers.append([await self._call(connection, sql, values) for sql, values in asked.calls])
            except MissingRow as missing:
                raise Violation(
                    "rows of the population are there", f"{kind} {entry}: {missing}", (kind.value,)
                ) from None

    async def _call(self, connection: SqlConnection, sql: str, values: Sequence[object]) -> Answer:
        rows = await connection.run(sql, *[self._text(value) for value in values])
        return _into_answer(rows, connection.tag)

    async def _pipeline(self, connection: SqlConnection, calls: Sequence[Call]) -> list[Answer]:
        """All calls before one Sync."""
        steps = [Step(sql, *[self._text(value) for value in values]) for sql, values in calls]
        answers: list[Answer] = []
        rows: list[tuple[str | None, ...]] = []
        for kind, message in (await connection.pipeline([steps]))[0]:
            if kind == b"D":
                rows.append(tuple([None if field is None else field.decode() for field in fields_of(message)]))
            elif kind == b"C":
                answers.append(_into_answer(rows, message[:-1].decode()))
                rows = []
            elif kind == b"E":
                raise failure_of(message)
        return answers

    def _text(self, value: object) -> str:
        """Returns a parameter; of times the simulated one."""
        if isinstance(value, datetime):
            return (EPOCH + timedelta(microseconds=(WALL_START_NS + self.world.loop.now_ns) // 1000)).isoformat()
        return str(value)

    async def _check_conditions(self, client: Client) -> None:
        async def body(connection: SqlConnection) -> list[str]:
            return await self._violated(connection)

        outcome = await self.session(client).transact(
            "check", None, body, client.rng.pick(("serializable", "repeatable read"))
        )
        self._judge(outcome.value if outcome.status == "ok" else [])

    async def _violated(self, connection: SqlConnection) -> list[str]:
        wrong = []
        for condition in self.conditions:
            rows = await connection.run(condition.sql)
            if rows:
                wrong.append(f"{condition.clause} {condition.rule}: {rows[:3]}")
        return wrong

    def _judge(self, wrong: list[str]) -> None:
        if wrong:
            raise Violation("the conditions of TPC-C hold", "; ".join(wrong), ("check",))

    async def finish(self) -> None:
        self._judge(await self.must_sql(self._violated))
        names = {Kind.NEW_ORDER: ("orders", "o_id > 4"), Kind.PAYMENT: ("history", "h_amount <> 10")}
        self.counted: dict[str, int] = {}
        for kind, (table, condition) in names.items():

            async def count(
                connection: SqlConnection, sql: str = f"SELECT count(*) FROM {table} WHERE {condition}"
            ) -> int:
                return int((await connection.run(sql))[0][0] or 0)

            self.counted[kind.value] = await self.must_sql(count)

    def check(self) -> None:
        """What was acknowledged is there, and no more than could be."""
        for name, counted in self.counted.items():
            fates = [op.type for op in self.world.history.history if op.f == name and op.type != "invoke"]
            least, most = fates.count("ok"), fates.count("ok") + fates.count("info")
            if not least <= counted <= most:
                raise Violation(
                    "acknowledged transactions are there", f"{counted} of {name}, told {least} to {most}", (name,)
                )


def _into_answer(rows: list[Any], tag: str) -> Answer:
    return Answer([tuple([_load(field) for field in row]) for row in rows], int(tag.rpartition(" ")[2] or 0))


def _load(field: str | None) -> Any:
    """Returns a number for what looks like one: what is text besides is not computed with."""
    if field is None or not NUMBER.fullmatch(field):
        return field
    return Decimal(field) if "." in field else int(field)
