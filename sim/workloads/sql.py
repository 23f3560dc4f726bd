"""Workloads over the PostgreSQL protocol: the whole node, statements as applications write them."""

from __future__ import annotations

from typing import Any, ClassVar

from sim.checkers import bank, list_append, mixed, sets
from sim.invariants import Violation
from sim.sqlclient import SqlConnection, SqlFailure, SqlSession
from sim.workloads.base import LEVELS, MODELS, Client, Outcome, Workload
from sim.workloads.sql_objects import check_references, draw_statements


class SqlWorkload(Workload):
    """Statements to set up, a session per client."""

    is_sql = True
    isolations: ClassVar[tuple[str, ...]] = ("serializable", "repeatable read", "read committed")
    schema: ClassVar[tuple[str, ...]] = ()

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._sessions: dict[int, SqlSession] = {}
        self.level: str = world.plan.isolation
        self.last = Client(world, world.plan.clients)
        self.final = SqlSession(self.last)

    def session(self, client: Client) -> SqlSession:
        """Returns the client's session, made at its first use."""
        found = self._sessions.get(client.number)
        if found is None:
            found = self._sessions[client.number] = SqlSession(client)
        return found

    def mixed(self, client: Client) -> str:
        """Returns a level at least as strong as the run's."""
        if client.rng.chance(0.7):
            return self.level
        return client.rng.pick([name for name in LEVELS if LEVELS[name] >= LEVELS[self.level]])

    def split_keys(self) -> list[bytes]:
        """Places in the key space of tables; where exactly does not matter."""
        return [bytes((number,)) for number in range(16, 240, 7)]

    async def set_up(self) -> None:
        connection = SqlConnection(self.world, "setup")
        await connection.open()
        connection.insists = True
        for statement in self.schema:
            await connection.run(statement)
        await self.fill(connection)
        connection.close()

    async def fill(self, connection: SqlConnection) -> None:
        """Loads rows."""

    async def must_sql(self, body: Any) -> Any:
        """Runs a last transaction that nothing may stop."""
        outcome = await self.final.transact("final", None, body)
        if outcome.status != "ok":
            raise Violation("a calm transaction succeeds", f"{outcome.status} {outcome.error}")
        return outcome.value


class SqlBank(SqlWorkload):
    """Transfers by UPDATE, totals by SELECT; balances are CHECKed."""

    name = "sql-bank"
    schema = ("CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0))",)
    ACCOUNTS: ClassVar[int] = 6

    async def fill(self, connection: SqlConnection) -> None:
        rows = ", ".join([f"({number}, 100)" for number in range(self.ACCOUNTS)])
        await connection.run(f"INSERT INTO accounts VALUES {rows}")

    async def operate(self, client: Client) -> None:
        rng = client.rng
        session = self.session(client)
        if rng.chance(0.3):
            style = rng.below(2)

            async def read(connection: SqlConnection) -> dict[str, int]:
                return await _balances(connection, style)

            await session.transact("read", None, read, self.mixed(client))
            return
        source, target, amount = rng.below(self.ACCOUNTS), rng.below(self.ACCOUNTS), 1 + rng.below(20)
        style = rng.below(3)

        async def transfer(connection: SqlConnection) -> None:
            if style == 0:
                await connection.run(f"UPDATE accounts SET balance = balance - {amount} WHERE id = {source}")
                await connection.run(f"UPDATE accounts SET balance = balance + {amount} WHERE id = {target}")
            elif style == 1:
                await connection.run(
                    "UPDATE accounts SET balance = balance - $1::int WHERE id = $2::int", amount, source
                )
                await connection.run(
                    "UPDATE accounts SET balance = balance + $1::int WHERE id = $2::int", amount, target
                )
            else:
                await connection.run(
                    f"SELECT balance FROM accounts WHERE id IN ({source}, {target}) ORDER BY id FOR UPDATE"
                )
                await connection.run(
                    f"UPDATE accounts SET balance = balance + CASE WHEN id = {source} THEN {-amount} ELSE {amount} END "
                    f"WHERE id IN ({source}, {target}) AND {source} <> {target}"
                )

        await session.transact(
            "transfer", {"from": source, "to": target, "amount": amount}, transfer, self.mixed(client)
        )

    async def finish(self) -> None:
        async def read(connection: SqlConnection) -> dict[str, int]:
            return await _balances(connection, 0)

        await self.final.transact("read", None, read)

    def check(self) -> None:
        self.judge(bank.check(self.world.history.history, self.ACCOUNTS * 100))


async def _balances(connection: SqlConnection, style: int) -> dict[str, int]:
    if style == 0:
        rows = await connection.run("SELECT id, balance FROM accounts ORDER BY id")
        return {str(number): int(balance or 0) for number, balance in rows}
    # The same snapshot by aggregates: the sum says all, the rest is padding for the checker.
    rows = await connection.run("SELECT sum(balance), count(*) FROM accounts")
    total, count = rows[0]
    return {"0": int(total or 0), **{str(number): 0 for number in range(1, int(count or 0))}}


class SqlAppend(SqlWorkload):
    """List-append over an array column and over text; upserts and UPDATE .. RETURNING."""

    name = "sql-append"
    schema = ("CREATE TABLE lists (k int PRIMARY KEY, items text NOT NULL, n int NOT NULL DEFAULT 0)",)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.appended = 0
        self.levels: dict[int, str] = {}
        """Index of an invocation -> the level of its transaction."""

    async def operate(self, client: Client) -> None:
        rng = client.rng
        first = self.appended // 40
        ops: list[list[Any]] = []
        for _ in range(1 + rng.below(4)):
            key = first + rng.below(4)
            if rng.chance(0.5):
                ops.append(["r", key, None])
            else:
                self.appended += 1
                ops.append(["append", key, self.appended])
        is_extended = rng.chance(0.5)
        has_savepoints = rng.chance(0.3)

        async def body(connection: SqlConnection) -> list[list[Any]]:
            return await _run_micros(connection, ops, is_extended, has_savepoints)

        level = self.level_for(client)
        self.levels[len(self.world.history.history)] = level
        await self.session(client).transact("txn", ops, body, level)

    def level_for(self, client: Client) -> str:
        return self.mixed(client)

    async def finish(self) -> None:
        ops = [["r", key, None] for key in range(self.appended // 40 + 4)]

        async def body(connection: SqlConnection) -> list[list[Any]]:
            return await _run_micros(connection, ops, False, False)

        await self.final.transact("txn", ops, body)

    def check(self) -> None:
        self.judge(list_append.check(self.world.history.history, MODELS[self.level]))
        self.judge(mixed.check(self.world.history.history, self.levels))


class SqlLevels(SqlAppend):
    """List-append with every level beside every other: each keeps its own promises."""

    name = "sql-levels"
    isolations: ClassVar[tuple[str, ...]] = ("read committed",)

    def level_for(self, client: Client) -> str:
        return client.rng.pick(list(LEVELS))

    def check(self) -> None:
        self.judge(mixed.check(self.world.history.history, self.levels))


async def _run_micros(
    connection: SqlConnection, ops: list[list[Any]], is_extended: bool, has_savepoints: bool
) -> list[list[Any]]:
    done: list[list[Any]] = []
    for f, key, element in ops:
        if has_savepoints:
            await connection.run("SAVEPOINT a")
            await connection.run(f"UPDATE lists SET items = items || ',999999999' WHERE k = {key}")
            await connection.run("ROLLBACK TO SAVEPOINT a")
        if f == "r":
            if is_extended:
                rows = await connection.run("SELECT items FROM lists WHERE k = $1::int", key)
            else:
                rows = await connection.run(f"SELECT items FROM lists WHERE k = {key}")
            items = [int(item) for item in (rows[0][0] or "").split(",")] if rows else []
            done.append([f, key, items])
        else:
            if has_savepoints and element % 2:
                await connection.run("SAVEPOINT b")
            await _append(connection, key, element)
            if has_savepoints and element % 2:
                await connection.run("RELEASE SAVEPOINT b")
            done.append([f, key, element])
    return done


async def _append(connection: SqlConnection, key: int, element: int) -> None:
    """Appends by an upsert, by MERGE, or by UPDATE and INSERT where there is no row yet."""
    if element % 3 == 0:
        await connection.run(
            f"MERGE INTO lists USING (VALUES ({key}, '{element}')) AS v (k, item) ON lists.k = v.k "
            "WHEN MATCHED THEN UPDATE SET items = lists.items || ',' || v.item, n = lists.n + 1 "
            "WHEN NOT MATCHED THEN INSERT (k, items) VALUES (v.k, v.item)"
        )
    elif element % 3 == 1:
        await connection.run(f"UPDATE lists SET items = items || ',{element}', n = n + 1 WHERE k = {key}")
        if connection.tag == "UPDATE 0":
            await connection.run(f"INSERT INTO lists (k, items) VALUES ({key}, '{element}')")
    else:
        await connection.run(
            f"INSERT INTO lists (k, items) VALUES ({key}, '{element}') "
            f"ON CONFLICT (k) DO UPDATE SET items = lists.items || ',' || excluded.items, n = lists.n + 1"
        )


class SqlIndex(SqlWorkload):
    """Secondary index churn: a scan of the table and scans by its indexes must agree."""

    name = "sql-index"
    schema = (
        "CREATE TABLE items (id int PRIMARY KEY, a int, b text, c int)",
        "CREATE INDEX items_a ON items (a)",
        "CREATE INDEX items_bc ON items (b, c)",
    )

    async def operate(self, client: Client) -> None:
        rng = client.rng
        session = self.session(client)
        if rng.chance(0.25):
            await self._compare(session, client)
            return
        row, a, b, c = rng.below(15), rng.below(8), f"b{rng.below(4)}", rng.below(5)
        statement = rng.pick(
            (
                f"INSERT INTO items VALUES ({row}, {a}, '{b}', {c}) ON CONFLICT (id) DO UPDATE SET a = {a}, b = '{b}'",
                f"UPDATE items SET a = {a} WHERE id = {row}",
                f"UPDATE items SET b = '{b}', c = {c} WHERE a = {a}",
                f"UPDATE items SET a = NULL WHERE b = '{b}' AND c = {c}",
                f"DELETE FROM items WHERE id = {row}",
                f"DELETE FROM items WHERE a = {a} AND c = {c}",
                f"UPDATE items SET id = id + 15 WHERE id = {row}",
                f"UPDATE items SET id = id - 15 WHERE id = {row + 15}",
            )
        )

        async def change(connection: SqlConnection) -> None:
            await connection.run(statement)

        await session.transact("change", statement, change, self.mixed(client) if rng.chance(0.5) else "")

    async def _compare(self, session: SqlSession, client: Client) -> None:
        async def read(connection: SqlConnection) -> list[Any]:
            return await _views(connection)

        outcome = await session.transact("compare", None, read, client.rng.pick(("serializable", "repeatable read")))
        self._judge_views(outcome, client)

    def _judge_views(self, outcome: Outcome, client: Client) -> None:
        if outcome.status == "ok":
            table, by_a, by_b = outcome.value
            if not table == by_a == by_b:
                raise Violation(
                    "indexes agree with the table",
                    f"table {table}\nby a  {by_a}\nby b  {by_b}",
                    (f"client{client.process}",),
                )

    async def finish(self) -> None:
        outcome = await self.final.transact("compare", None, _views)
        self._judge_views(outcome, self.last)

    def check(self) -> None:
        """Every comparison was checked as it was made."""


async def _views(connection: SqlConnection) -> list[Any]:
    table = [list(row) for row in await connection.run("SELECT id, a, b, c FROM items ORDER BY id")]
    by_a = []
    for row in await connection.run("SELECT DISTINCT a FROM items"):
        condition = "a IS NULL" if row[0] is None else f"a = {row[0]}"
        by_a += [list(found) for found in await connection.run(f"SELECT id, a, b, c FROM items WHERE {condition}")]
    by_b = []
    for row in await connection.run("SELECT DISTINCT b FROM items"):
        condition = "b IS NULL" if row[0] is None else f"b = '{row[0]}'"
        by_b += [list(found) for found in await connection.run(f"SELECT id, a, b, c FROM items WHERE {condition}")]
    key = _by_id
    return [table, sorted(by_a, key=key), sorted(by_b, key=key)]


def _by_id(row: list[Any]) -> int:
    return int(row[0])


class SqlUnique(SqlWorkload):
    """Claims of unique names by several clients: a name has one owner, an acknowledged one keeps it."""

    name = "sql-unique"
    schema = ("CREATE TABLE claims (id int PRIMARY KEY, name text UNIQUE, owner int NOT NULL)",)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.claims = 0

    async def operate(self, client: Client) -> None:
        rng = client.rng
        self.claims += 1
        number = self.claims
        name = f"n{number // 3 + rng.below(2)}"
        style = rng.below(3)

        async def claim(connection: SqlConnection) -> Any:
            if style == 0:
                await connection.run(f"INSERT INTO claims VALUES ({number}, '{name}', {client.number})")
            elif style == 1:
                await connection.run(
                    f"INSERT INTO claims VALUES ({number}, '{name}', {client.number}) ON CONFLICT (name) DO NOTHING"
                )
                if connection.tag.endswith(" 0"):
                    return ["taken", number]
            else:
                await connection.run(f"INSERT INTO claims VALUES ({number}, NULL, {client.number})")
                await connection.run(f"UPDATE claims SET name = '{name}' WHERE id = {number}")
            return [name, number]

        await self.session(client).transact("claim", [name, number], claim, self.mixed(client))

    async def finish(self) -> None:
        async def read(connection: SqlConnection) -> list[Any]:
            return [list(row) for row in await connection.run("SELECT id, name FROM claims ORDER BY id")]

        self.rows = await self.must_sql(read)

    def check(self) -> None:
        names = [row[1] for row in self.rows if row[1] is not None]
        if len(names) != len(dict.fromkeys(names)):
            raise Violation("unique names are unique", f"{sorted(names)}")
        present = {int(row[0]): row[1] for row in self.rows}
        for op in self.world.history.history:
            if (
                op.type == "ok"
                and op.f == "claim"
                and op.value[0] != "taken"
                and present.get(op.value[1]) != op.value[0]
            ):
                raise Violation(
                    "an acknowledged claim stays", f"{op.value} is {present.get(op.value[1])}", (op.value[0],)
                )
            if op.type == "fail" and op.f == "claim" and op.value[1] in present:
                raise Violation("a failed claim left nothing", f"{op.value} {op.error}", (op.value[0],))


class SqlForeign(SqlWorkload):
    """Parents deleted under children that are added: no child without parent, at every level."""

    name = "sql-fk"
    schema = (
        "CREATE TABLE parents (id int PRIMARY KEY, note text)",
        "CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents (id) {action})",
    )

    async def set_up(self) -> None:
        action = self.rng.pick(("", "ON DELETE CASCADE", "ON DELETE SET NULL"))
        self.statements = [statement.replace("{action}", action) for statement in self.schema]
        connection = SqlConnection(self.world, "setup")
        await connection.open()
        for statement in self.statements:
            await connection.run(statement)
        connection.close()

    async def operate(self, client: Client) -> None:
        rng = client.rng
        parent, child = rng.below(6), rng.below(20)
        statement = rng.pick(
            (
                f"INSERT INTO parents VALUES ({parent}, 'p') ON CONFLICT DO NOTHING",
                f"INSERT INTO children VALUES ({child}, {parent}) ON CONFLICT (id) DO UPDATE SET parent = {parent}",
                f"UPDATE children SET parent = {parent} WHERE id = {child}",
                f"DELETE FROM parents WHERE id = {parent}",
                f"DELETE FROM children WHERE id = {child}",
            )
        )

        async def change(connection: SqlConnection) -> None:
            await connection.run(statement)

        await self.session(client).transact("change", statement, change, self.mixed(client) if rng.chance(0.5) else "")
        if rng.chance(0.1):
            await self._look(client)

    async def _look(self, client: Client) -> None:
        outcome = await self.session(client).transact("look", None, _orphans, "repeatable read")
        self._judge_orphans(outcome)

    def _judge_orphans(self, outcome: Outcome) -> None:
        if outcome.status == "ok" and outcome.value:
            raise Violation("no child without parent", f"{outcome.value}", ("children",))

    async def finish(self) -> None:
        self._judge_orphans(await self.final.transact("look", None, _orphans))

    def check(self) -> None:
        """Orphans were looked for all along."""


async def _orphans(connection: SqlConnection) -> list[Any]:
    rows = await connection.run(
        "SELECT c.id, c.parent FROM children c LEFT JOIN parents p ON p.id = c.parent "
        "WHERE c.parent IS NOT NULL AND p.id IS NULL"
    )
    return [list(row) for row in rows]


class SqlSequence(SqlWorkload):
    """Serial keys: never given out twice, over crashes too; rows acknowledged stay."""

    name = "sql-sequence"
    schema = ("CREATE TABLE rows (id bigserial PRIMARY KEY, element int NOT NULL)", "CREATE SEQUENCE plain CACHE 3")

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.added = 0
        self.given: dict[int, str] = {}

    async def operate(self, client: Client) -> None:
        rng = client.rng
        if rng.chance(0.3):
            await self._next(client)
            return
        if rng.chance(0.2):

            async def read(connection: SqlConnection) -> list[int]:
                return [int(row[0] or 0) for row in await connection.run("SELECT element FROM rows ORDER BY element")]

            await self.session(client).transact("read", None, read, self.mixed(client))
            return
        self.added += 1
        element = self.added

        async def insert(connection: SqlConnection) -> None:
            await connection.run(f"INSERT INTO rows (element) VALUES ({element}) RETURNING id")

        await self.session(client).transact("add", element, insert, self.mixed(client) if rng.chance(0.5) else "")

    async def _next(self, client: Client) -> None:
        async def draw(connection: SqlConnection) -> int:
            return int((await connection.run("SELECT nextval('plain')"))[0][0] or 0)

        outcome = await self.session(client).transact("nextval", None, draw, "")
        if outcome.status == "ok":
            who = f"client{client.process}"
            if outcome.value in self.given:
                raise Violation(
                    "a sequence repeats nothing", f"{outcome.value} to {self.given[outcome.value]} and {who}", (who,)
                )
            self.given[outcome.value] = who

    async def finish(self) -> None:
        async def read(connection: SqlConnection) -> list[int]:
            return [int(row[0] or 0) for row in await connection.run("SELECT element FROM rows ORDER BY element")]

        await self.final.transact("read", None, read)

    def check(self) -> None:
        self.judge(sets.check_full(self.world.history.history, linearizable=True))
        self.judge(sets.check(self.world.history.history))


class SqlDdl(SqlWorkload):
    """Columns and indexes come and go while rows are written: every view of the table agrees.

    So do, in some runs, other objects that refer to each other (``sim.workloads.sql_objects``).
    """

    name = "sql-ddl"
    isolations: ClassVar[tuple[str, ...]] = ("serializable",)
    schema = ("CREATE TABLE things (id int PRIMARY KEY, a int NOT NULL DEFAULT 0)",)

    async def operate(self, client: Client) -> None:
        rng = client.rng
        session = self.session(client)
        share = self.world.plan.knobs.objects
        if share and rng.chance(share):
            await self._change_objects(client)
            return
        number = rng.below(3)
        if rng.chance(0.15):
            statement = rng.pick(
                (
                    f"ALTER TABLE things ADD COLUMN IF NOT EXISTS x{number} int DEFAULT {number}",
                    f"ALTER TABLE things DROP COLUMN IF EXISTS x{number}",
                    f"CREATE INDEX IF NOT EXISTS things_a{number} ON things (a)",
                    f"DROP INDEX IF EXISTS things_a{number}",
                    f"CREATE TABLE IF NOT EXISTS other{number} (id int PRIMARY KEY)",
                    f"DROP TABLE IF EXISTS other{number}",
                )
            )
        else:
            row, a = rng.below(20), rng.below(5)
            statement = rng.pick(
                (
                    f"INSERT INTO things (id, a) VALUES ({row}, {a}) ON CONFLICT (id) DO UPDATE SET a = excluded.a",
                    f"UPDATE things SET a = {a} WHERE id = {row}",
                    f"DELETE FROM things WHERE id = {row}",
                )
            )

        async def change(connection: SqlConnection) -> None:
            await connection.run(statement)

        await session.transact("change", statement, change, "serializable" if rng.chance(0.3) else "")
        if rng.chance(0.15):
            await self._look(session)

    async def _change_objects(self, client: Client) -> None:
        rng = client.rng
        statements = draw_statements(rng)

        async def change(connection: SqlConnection) -> None:
            for statement in statements:
                await connection.run(statement)

        is_alone = len(statements) == 1 and rng.chance(0.7)
        level = "" if is_alone else rng.pick(("serializable", "repeatable read", "read committed"))
        await self.session(client).transact("objects", statements, change, level)
        check_references(self.world)

    async def _look(self, session: SqlSession) -> None:
        outcome = await session.transact("look", None, _by_every_way, "serializable")
        if outcome.status == "ok":
            table, by_index, columns = outcome.value
            if table != by_index:
                raise Violation("every way to a row agrees", f"table {table}, by a {by_index}", ("things",))
            for name, values in columns.items():
                wrong = [value for value in values if value != name[1:]]
                if name.startswith("x") and wrong:
                    raise Violation("a new column has its default", f"{name}: {values}", (name,))

    async def finish(self) -> None:
        await self._look(self.final)
        check_references(self.world)

    def check(self) -> None:
        """Views were compared all along."""


async def _by_every_way(connection: SqlConnection) -> list[Any]:
    names = [
        str(row[0])
        for row in await connection.run(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'things'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
    ]
    table = [list(row) for row in await connection.run("SELECT id, a FROM things ORDER BY id")]
    by_index: list[Any] = []
    for value in range(5):
        by_index += [list(row) for row in await connection.run(f"SELECT id, a FROM things WHERE a = {value}")]
    columns = {}
    for name in names[2:]:
        columns[name] = [row[0] for row in await connection.run(f"SELECT {name} FROM things")]
    return [table, sorted(by_index, key=_by_id), columns]


class SqlOrders(SqlWorkload):
    """TPC-C in tiny: new orders, payments and deliveries, and its consistency conditions 1 to 4."""

    name = "sql-orders"
    isolations: ClassVar[tuple[str, ...]] = ("serializable", "repeatable read")
    schema = (
        "CREATE TABLE warehouse (w_id int PRIMARY KEY, w_ytd int NOT NULL)",
        "CREATE TABLE district (w_id int, d_id int, d_ytd int NOT NULL, d_next int NOT NULL, PRIMARY KEY (w_id, d_id))",
        "CREATE TABLE orders (w_id int, d_id int, o_id int, lines int NOT NULL, PRIMARY KEY (w_id, d_id, o_id))",
        "CREATE TABLE new_order (w_id int, d_id int, o_id int, PRIMARY KEY (w_id, d_id, o_id))",
        "CREATE TABLE order_line (w_id int, d_id int, o_id int, l_id int, amount int, PRIMARY KEY (w_id, d_id, o_id, l_id))",
    )

    async def fill(self, connection: SqlConnection) -> None:
        await connection.run("INSERT INTO warehouse VALUES (1, 0), (2, 0)")
        await connection.run("INSERT INTO district VALUES (1, 1, 0, 1), (1, 2, 0, 1), (2, 1, 0, 1), (2, 2, 0, 1)")

    async def operate(self, client: Client) -> None:
        rng = client.rng
        w, d, amount, lines = 1 + rng.below(2), 1 + rng.below(2), 1 + rng.below(100), 1 + rng.below(4)
        kind = rng.below(10)
        if kind < 4:
            body = self._new_order(w, d, lines)
        elif kind < 8:
            body = self._payment(w, d, amount)
        elif kind < 9:
            body = self._delivery(w, d)
        else:
            outcome = await self.session(client).transact("check", None, _conditions, "repeatable read")
            self._judge_conditions(outcome)
            return
        await self.session(client).transact(
            ("order", "pay", "deliver")[min(kind // 4, 2)], [w, d], body, self.mixed(client)
        )

    def _new_order(self, w: int, d: int, lines: int) -> Any:
        async def body(connection: SqlConnection) -> None:
            rows = await connection.run(
                "UPDATE district SET d_next = d_next + 1 WHERE w_id = $1::int AND d_id = $2::int RETURNING d_next - 1",
                w,
                d,
            )
            order = rows[0][0]
            await connection.run(f"INSERT INTO orders VALUES ({w}, {d}, {order}, {lines})")
            await connection.run(f"INSERT INTO new_order VALUES ({w}, {d}, {order})")
            values = ", ".join([f"({w}, {d}, {order}, {line}, {line * 10})" for line in range(lines)])
            await connection.run(f"INSERT INTO order_line VALUES {values}")

        return body

    def _payment(self, w: int, d: int, amount: int) -> Any:
        async def body(connection: SqlConnection) -> None:
            await connection.run("UPDATE warehouse SET w_ytd = w_ytd + $1::int WHERE w_id = $2::int", amount, w)
            await connection.run(f"UPDATE district SET d_ytd = d_ytd + {amount} WHERE w_id = {w} AND d_id = {d}")

        return body

    def _delivery(self, w: int, d: int) -> Any:
        async def body(connection: SqlConnection) -> None:
            rows = await connection.run(f"SELECT min(o_id) FROM new_order WHERE w_id = {w} AND d_id = {d}")
            if rows[0][0] is not None:
                await connection.run(f"DELETE FROM new_order WHERE w_id = {w} AND d_id = {d} AND o_id = {rows[0][0]}")

        return body

    def _judge_conditions(self, outcome: Outcome) -> None:
        if outcome.status == "ok" and outcome.value:
            raise Violation("TPC-C 3.3.2", "; ".join(outcome.value), ("check",))

    async def finish(self) -> None:
        self._judge_conditions(await self.final.transact("check", None, _conditions))

    def check(self) -> None:
        """The conditions were checked all along."""


async def _conditions(connection: SqlConnection) -> list[str]:
    """Consistency conditions 1 to 4 of TPC-C (clause 3.3.2)."""
    wrong = []
    for text, query in (
        (
            "1: w_ytd is the sum of d_ytd",
            "SELECT w.w_id FROM warehouse w WHERE w_ytd <> (SELECT sum(d_ytd) FROM district d WHERE d.w_id = w.w_id)",
        ),
        (
            "2: d_next - 1 is the highest order",
            "SELECT d.w_id, d.d_id FROM district d WHERE d_next - 1 <> "
            "(SELECT coalesce(max(o_id), 0) FROM orders o WHERE o.w_id = d.w_id AND o.d_id = d.d_id)",
        ),
        (
            "3: new orders have no gaps",
            "SELECT w_id, d_id FROM new_order GROUP BY w_id, d_id HAVING max(o_id) - min(o_id) + 1 <> count(*)",
        ),
        (
            "4: order lines are counted",
            "SELECT d.w_id, d.d_id FROM district d WHERE (SELECT coalesce(sum(lines), 0) FROM orders o "
            "WHERE o.w_id = d.w_id AND o.d_id = d.d_id) <> (SELECT count(*) FROM order_line l "
            "WHERE l.w_id = d.w_id AND l.d_id = d.d_id)",
        ),
    ):
        rows = await connection.run(query)
        if rows:
            wrong.append(f"{text}: {rows}")
    return wrong


class SqlModel(SqlWorkload):
    """Random statements of one process on rows of its own, against a dictionary."""

    name = "sql-model"
    schema = ("CREATE TABLE model (owner int, id int, v int, t text, PRIMARY KEY (owner, id))",)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.possible: dict[int, list[dict[int, tuple[str | None, str | None]]]] = {}

    async def operate(self, client: Client) -> None:
        owner = client.process
        rng = client.rng
        possible = self.possible.setdefault(owner, [{}])
        script = [(rng.below(7), rng.below(10), rng.below(100)) for _ in range(1 + rng.below(5))]
        states: list[dict[int, tuple[str | None, str | None]]] = []

        async def body(connection: SqlConnection) -> None:
            before = await _read_model(connection, owner)
            states[:] = [before]
            state = dict(before)
            for kind, row, value in script:
                sql = _model_statement(owner, kind, row, value)
                await connection.run(sql)
                state = _model_apply(state, kind, row, value)
                if value % 3 == 0:
                    found = await _read_model(connection, owner)
                    if found != state:
                        raise Violation(
                            "rows are what the statements made them", f"after {sql}: {found}, not {state}", (sql,)
                        )
            states.append(state)

        outcome = await self.session(client).transact("script", script, body, self.mixed(client))
        if states and states[0] not in possible:
            raise Violation(
                "a block is what was committed", f"{owner}: {states[0]}, could be {possible}", (f"client{owner}",)
            )
        if outcome.status == "ok":
            self.possible[owner] = [states[1]]
        elif outcome.status == "info":
            applied = []
            for state in possible:
                for kind, row, value in script:
                    state = _model_apply(state, kind, row, value)
                applied.append(state)
            self.possible[owner] = possible + applied

    async def finish(self) -> None:
        for owner, possible in sorted(self.possible.items()):

            async def body(connection: SqlConnection, owner: int = owner) -> None:
                self.found = await _read_model(connection, owner)

            await self.must_sql(body)
            if self.found not in possible:
                raise Violation(
                    "a block is what was committed", f"{owner}: {self.found}, could be {possible}", (f"client{owner}",)
                )

    def check(self) -> None:
        """Checked as it happened."""


async def _read_model(connection: SqlConnection, owner: int) -> dict[int, tuple[str | None, str | None]]:
    rows = await connection.run(f"SELECT id, v, t FROM model WHERE owner = {owner} ORDER BY id")
    return {int(row[0] or 0): (row[1], row[2]) for row in rows}


def _model_statement(owner: int, kind: int, row: int, value: int) -> str:
    return (
        f"INSERT INTO model VALUES ({owner}, {row}, {value}, 't{value}') ON CONFLICT (owner, id) DO NOTHING",
        f"INSERT INTO model VALUES ({owner}, {row}, {value}, NULL) ON CONFLICT (owner, id) DO UPDATE SET v = model.v + {value}",
        f"UPDATE model SET v = v + {value} WHERE owner = {owner} AND id >= {row}",
        f"UPDATE model SET t = coalesce(t, 'x') || '{value}', v = NULL WHERE owner = {owner} AND id = {row}",
        f"DELETE FROM model WHERE owner = {owner} AND id = {row}",
        f"DELETE FROM model WHERE owner = {owner} AND v > {value}",
        f"DELETE FROM model WHERE owner = {owner} AND id BETWEEN {row} AND {row + 2}",
    )[kind]


def _model_apply(
    before: dict[int, tuple[str | None, str | None]], kind: int, row: int, value: int
) -> dict[int, tuple[str | None, str | None]]:
    state = dict(before)
    if kind == 0:
        state.setdefault(row, (str(value), f"t{value}"))
    elif kind == 1:
        old = state.get(row)
        state[row] = (str(value), None) if old is None else (_plus(old[0], value), old[1])
    elif kind == 2:
        state = {key: (_plus(old[0], value), old[1]) if key >= row else old for key, old in state.items()}
    elif kind == 3:
        if row in state:
            state[row] = (None, (state[row][1] or "x") + str(value))
    elif kind == 4:
        state.pop(row, None)
    elif kind == 5:
        state = {key: old for key, old in state.items() if old[0] is None or int(old[0]) <= value}
    else:
        state = {key: old for key, old in state.items() if not row <= key <= row + 2}
    return dict(sorted(state.items()))


def _plus(number: str | None, value: int) -> str | None:
    return None if number is None else str(int(number) + value)


__all__ = ["SqlFailure", "SqlWorkload"]
