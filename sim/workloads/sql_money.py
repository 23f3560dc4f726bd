"""Money moved in the ways SQL has beside UPDATE, and totals of the past."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from sim.invariants import Violation
from sim.sqlclient import SqlConnection
from sim.streams import Draws
from sim.workloads.base import Client
from sim.workloads.sql import SqlBank

MOMENTS_MAX: Final = 32
"""Moments of the past that are remembered."""
ALL: Final = "SELECT id, balance FROM accounts"

Balances = dict[str, int]


def into_balances(rows: list[Any]) -> Balances:
    return dict(sorted({str(number): int(balance) for number, balance in rows}.items()))


class SqlAsOf(SqlBank):
    """What a transaction saw at its timestamp is what AS OF SYSTEM TIME shows of it ever after, over crashes too."""

    name = "sql-as-of"

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.moments: list[tuple[int, Balances]] = []

    async def operate(self, client: Client) -> None:
        rng = client.rng
        if rng.chance(0.4):
            await super().operate(client)
        elif rng.chance(0.5):
            await self._remember(client)
        elif rng.chance(0.6) and self.moments:
            await self._return(client)
        else:
            await self._look_back(client)

    async def _remember(self, client: Client) -> None:
        async def body(connection: SqlConnection) -> Balances:
            balances = into_balances(await connection.run(ALL))
            rows = await connection.run("SELECT cluster_logical_timestamp()")
            moment.append(int(rows[0][0] or 0))
            return balances

        moment: list[int] = []
        outcome = await self.session(client).transact("read", None, body, "repeatable read")
        if outcome.status == "ok":
            self.moments.append((moment[0], outcome.value))
            del self.moments[:-MOMENTS_MAX]

    async def _return(self, client: Client) -> None:
        rng = client.rng
        ts, balances = rng.pick(self.moments)
        style = rng.below(3)
        pauses = rng.chance(0.3)

        async def body(connection: SqlConnection) -> Balances:
            if style == 0:
                return into_balances(await connection.run(f"{ALL} AS OF SYSTEM TIME {ts}"))
            if style == 1:
                return into_balances(
                    await connection.run(f"{ALL} AS OF SYSTEM TIME '{ts:016x}' WHERE id >= $1::int", 0)
                )
            await connection.run(f"BEGIN AS OF SYSTEM TIME {ts}")
            half = await connection.run(f"{ALL} WHERE id < 3")
            if pauses:
                await self.world.sleep(self.world.dwell_seconds)
            other = await connection.run(f"{ALL} WHERE id >= 3")
            await connection.run("COMMIT")
            return into_balances([*half, *other])

        outcome = await self.session(client).transact("read", None, body, "")
        if outcome.status == "ok" and outcome.value != balances:
            raise Violation(
                "the past does not change",
                f"at {ts} there was {balances}, now there was {outcome.value}",
                (f"client{client.process}", str(ts)),
            )

    async def _look_back(self, client: Client) -> None:
        rng = client.rng
        moment = rng.pick(("'-10ms'", "'-100ms'", "'-1s'", "'-3s'", "follower_read_timestamp()"))
        table = f"accounts AS OF SYSTEM TIME {moment}"

        async def body(connection: SqlConnection) -> Balances:
            return into_balances(await connection.run(f"SELECT id, balance FROM {table}"))

        outcome = await self.session(client).transact("past", moment, body, "")
        total = sum(outcome.value.values()) if outcome.status == "ok" else 0
        # Before the table was filled there is nothing.
        if total not in (0, self.ACCOUNTS * 100):
            raise Violation("totals of the past are right", f"{moment}: {outcome.value}", (f"client{client.process}",))


class SqlTransfers(SqlBank):
    """Transfers by cursors, MERGE, joins, CTEs and temporary tables; totals by cursors, held ones too."""

    name = "sql-transfers"
    STYLES: ClassVar[int] = 5

    async def operate(self, client: Client) -> None:
        rng = client.rng
        if rng.chance(0.35):
            await self._read(client)
            return
        source = rng.below(self.ACCOUNTS)
        target = (source + 1 + rng.below(self.ACCOUNTS - 1)) % self.ACCOUNTS
        amount, style = 1 + rng.below(20), rng.below(self.STYLES)

        async def body(connection: SqlConnection) -> None:
            await self._transfer(connection, style, source, target, amount)

        await self.session(client).transact(
            "transfer", {"from": source, "to": target, "amount": amount}, body, self.mixed(client)
        )

    async def _transfer(self, connection: SqlConnection, style: int, source: int, target: int, amount: int) -> None:
        if style == 0:
            await connection.run(
                f"DECLARE c CURSOR FOR SELECT id FROM accounts WHERE id IN ({source}, {target}) ORDER BY id FOR UPDATE"
            )
            for _ in range(2):
                rows = await connection.run("FETCH c")
                delta = -amount if rows[0][0] == str(source) else amount
                await connection.run(f"UPDATE accounts SET balance = balance + {delta} WHERE CURRENT OF c")
            await connection.run("CLOSE c")
        elif style == 1:
            await connection.run(
                f"MERGE INTO accounts USING (VALUES ({source}, {-amount}), ({target}, {amount})) AS v (id, delta) "
                "ON accounts.id = v.id WHEN MATCHED THEN UPDATE SET balance = balance + v.delta "
                "WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.delta)"
            )
        elif style == 2:
            await connection.run(
                "UPDATE accounts SET balance = balance + v.delta FROM (VALUES ($1::int, $2::int), ($3::int, $4::int)) AS v (id, delta) "
                "WHERE accounts.id = v.id",
                source, -amount, target, amount,
            )  # fmt: skip
        elif style == 3:
            await connection.run(
                f"WITH taken AS (UPDATE accounts SET balance = balance - {amount} WHERE id = {source} RETURNING {amount} AS amount) "
                f"UPDATE accounts SET balance = balance + amount FROM taken WHERE id = {target}"
            )
        else:
            await connection.run(
                "CREATE TEMP TABLE IF NOT EXISTS moves (id int PRIMARY KEY, delta int) ON COMMIT DELETE ROWS"
            )
            await connection.run(f"INSERT INTO moves VALUES ({source}, {-amount}), ({target}, {amount})")
            await connection.run(
                "UPDATE accounts SET balance = balance + delta FROM moves WHERE moves.id = accounts.id"
            )

    async def _read(self, client: Client) -> None:
        rng = client.rng
        style = rng.below(4)
        level = self.mixed(client) if style != 2 else ""

        async def body(connection: SqlConnection) -> Balances:
            if style == 0:
                return await self._through_cursor(connection, rng)
            if style == 1:
                return await self._insensitively(connection, rng)
            if style == 2:
                return await self._after_commit(connection, rng)
            rows = await connection.run(f"WITH all_of AS MATERIALIZED ({ALL}) SELECT * FROM all_of ORDER BY id DESC")
            return into_balances(rows)

        await self.session(client).transact("read", None, body, level)

    async def _through_cursor(self, connection: SqlConnection, rng: Draws) -> Balances:
        """A cursor shows one snapshot at every level, however long it is read."""
        await connection.run(f"DECLARE c SCROLL CURSOR FOR {ALL} ORDER BY id")
        rows: list[Any] = []
        while len(rows) < self.ACCOUNTS:
            count = 1 + rng.below(3)
            page = await connection.run(f"FETCH {count} FROM c")
            rows += page
            if len(page) == count and rng.chance(0.2):
                again = await connection.run("FETCH RELATIVE 0 FROM c")
                if again != page[-1:]:
                    raise Violation("a cursor stays on its row", f"{again} after {page}")
            await self.world.sleep(rng.random() * self.world.dwell_seconds)
        await connection.run("CLOSE c")
        return into_balances(rows)

    async def _insensitively(self, connection: SqlConnection, rng: Draws) -> Balances:
        """A cursor does not see what its own transaction writes after it was opened (PostgreSQL's are insensitive)."""
        await connection.run(f"DECLARE c CURSOR FOR {ALL} ORDER BY id")
        first = await connection.run("FETCH c")
        await connection.run("SAVEPOINT a")
        await connection.run(f"UPDATE accounts SET balance = balance + 1000 WHERE id = {rng.below(self.ACCOUNTS)}")
        rest = await connection.run("FETCH ALL FROM c")
        await connection.run("ROLLBACK TO SAVEPOINT a")
        return into_balances([*first, *rest])

    async def _after_commit(self, connection: SqlConnection, rng: Draws) -> Balances:
        """A held cursor goes on after its transaction."""
        await connection.run("BEGIN")
        await connection.run(f"DECLARE h CURSOR WITH HOLD FOR {ALL} ORDER BY id")
        rows = await connection.run(f"FETCH {rng.below(3)} FROM h")
        await connection.run("COMMIT")
        await self.world.sleep(rng.random() * self.world.dwell_seconds)
        try:
            rows += await connection.run("FETCH ALL FROM h")
        finally:
            if not connection.lost:
                await connection.run("CLOSE h")
        return into_balances(rows)


__all__ = ["SqlAsOf", "SqlTransfers"]
