"""COPY in and out, in every format: a batch is there whole or not at all, whatever becomes of the connection."""

from __future__ import annotations

import csv
import io
import struct
from typing import Any, ClassVar, Final

from sim.checkers import sets
from sim.histories import Op
from sim.invariants import Violation
from sim.sqlclient import SqlConnection
from sim.streams import Draws
from sim.workloads.base import Client
from sim.workloads.sql import SqlWorkload

ROWS_MAX: Final = 60
BATCHES_MAX: Final = 240
"""Batches of one run: the invariants recount the whole store, over and over."""
BLOCK_BATCHES: Final = 30
"""Batches that are read and checked together: a set of its own, so that long runs stay linear."""
MOMENTS_MAX: Final = 8
_COUNTS: Final = "SELECT batch, count(*) FROM {table} WHERE {where} GROUP BY batch ORDER BY batch"
FORMATS: Final = ("text", "csv", "binary")
BINARY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TEXTS: Final = ("plain", "", "tab\tand\nline", 'quote "and", comma', "back\\slash", "\\N", "ünï", None)
"""Values that each format has to escape in its own way."""

CopyRow = tuple[int, int, str | None]
"""(batch, n, t)."""


def text_of(batch: int, n: int) -> str | None:
    """Returns the text of a row; rows can be told from each other, so that mixed ones are seen."""
    text = TEXTS[(batch * 7 + n) % len(TEXTS)]
    return None if text is None else f"{text}{batch}/{n}" if text else text


def rows_of(batch: int, count: int) -> list[CopyRow]:
    return [(batch, n, text_of(batch, n)) for n in range(count)]


def into_data(rows: list[CopyRow], form: str) -> bytes:
    """Returns rows as COPY FROM takes them."""
    if form == "text":
        return "".join([f"{batch}\t{n}\t{_escape(t)}\n" for batch, n, t in rows]).encode()
    if form == "csv":
        return "".join([f"{batch},{n},{'' if t is None else _quote(t)}\n" for batch, n, t in rows]).encode()
    data = [BINARY_HEAD]
    for batch, n, t in rows:
        text = b"\xff\xff\xff\xff" if t is None else struct.pack("!i", len(t.encode())) + t.encode()
        data.append(struct.pack("!hiiii", 3, 4, batch, 4, n) + text)
    return b"".join([*data, b"\xff\xff"])


def from_data(data: bytes, form: str) -> list[CopyRow]:
    """Reads what COPY TO gave."""
    if form == "text":
        lines = [line.split("\t") for line in data.decode().splitlines()]
        return [(int(batch), int(n), _unescape(t)) for batch, n, t in lines]
    if form == "csv":
        return _from_csv(data.decode())
    rows: list[CopyRow] = []
    assert data.startswith(BINARY_HEAD), f"binary COPY begins with {data[:19]!r}"
    at = len(BINARY_HEAD)
    while data[at : at + 2] != b"\xff\xff":
        fields: list[bytes | None] = []
        at += 2
        for _ in range(3):
            length = int.from_bytes(data[at : at + 4], "big", signed=True)
            at += 4
            fields.append(None if length < 0 else data[at : at + length])
            at += max(length, 0)
        batch, n, t = fields
        rows.append(
            (int.from_bytes(batch or b"", "big"), int.from_bytes(n or b"", "big"), None if t is None else t.decode())
        )
    assert at + 2 == len(data), "binary COPY ends with its trailer"
    return rows


def _from_csv(text: str) -> list[CopyRow]:
    # The module does not tell "" from nothing; the quote after the last comma does.
    rows: list[CopyRow] = []
    lines = dict.fromkeys(text.split("\n"))
    for batch, n, t in csv.reader(io.StringIO(text)):
        is_null = t == "" and f'{batch},{n},""' not in lines
        rows.append((int(batch), int(n), None if is_null else t))
    return rows


def _escape(text: str | None) -> str:
    if text is None:
        return "\\N"
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _unescape(text: str) -> str | None:
    if text == "\\N":
        return None
    return "\\".join([part.replace("\\t", "\t").replace("\\n", "\n") for part in text.split("\\\\")])


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def pieces_of(data: bytes, rng: Draws) -> list[bytes]:
    """Cuts the data anywhere, as a client's buffers would."""
    pieces = []
    while data:
        size = 1 + rng.below(1 + rng.pick((10, 100, 4000)))
        pieces.append(data[:size])
        data = data[size:]
    return pieces


class SqlCopy(SqlWorkload):
    """Batches are the elements of a set: added by COPY FROM, read by COPY TO, each whole.

    The key of ``by_n`` interleaves batches, so that their runs (kvtier.runs) meet each other,
    and both meet rows that are inserted one by one.
    """

    name = "sql-copy"
    isolations: ClassVar[tuple[str, ...]] = ("serializable",)
    schema = (
        "CREATE TABLE by_batch (batch int, n int, t text, PRIMARY KEY (batch, n))",
        "CREATE TABLE by_n (batch int, n int, t text, PRIMARY KEY (n, batch))",
        "CREATE INDEX by_n_t ON by_n (t, n)",
    )
    TABLES: ClassVar[tuple[str, ...]] = ("by_batch", "by_n")

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.batches = 0
        self.sizes: dict[int, int] = {}
        self.moments: list[tuple[int, str, str, list[Any]]] = []
        """(timestamp, table, condition, what was there)."""

    async def operate(self, client: Client) -> None:
        rng = client.rng
        if rng.chance(0.2):
            await self._remember(client)
        elif rng.chance(0.2) and self.moments:
            await self._return(client)
        elif rng.chance(0.25) or self.batches >= BATCHES_MAX:
            await self._read(client)
        elif rng.chance(0.3):
            await self._spoil(client)
        else:
            await self._load(client)

    def _draw(self, rng: Draws) -> tuple[int, list[CopyRow]]:
        """Returns a new batch's number and rows."""
        self.batches += 1
        self.sizes[self.batches] = 1 + rng.below(rng.pick((3, ROWS_MAX)))
        return self.batches, rows_of(self.batches, self.sizes[self.batches])

    async def _load(self, client: Client) -> None:
        rng = client.rng
        batch, rows = self._draw(rng)
        if rng.chance(0.3):
            rows.reverse()  # Keys need not ascend.
        style = rng.below(4)
        forms = [rng.pick(FORMATS) for _ in self.TABLES]
        half = len(rows) // 2
        rng_pieces = [pieces_of(into_data(rows, form), rng) for form in forms]
        halves = [pieces_of(into_data(part, "csv"), rng) for part in (rows[:half], rows[half:])]

        hangs_up = rng.random() * 0.2 if rng.chance(0.1) else 0.0

        async def body(connection: SqlConnection) -> None:
            if hangs_up:
                # Somewhere in the middle, if at all; the node learns of it when it does.
                self.world.after(hangs_up, lambda: connection.fail("hung up"))
            if style == 1:
                await connection.run("SAVEPOINT a")
                await connection.copy_in("COPY by_n FROM STDIN (FORMAT csv)", halves[0])
                await connection.run("ROLLBACK TO SAVEPOINT a")
            if style == 2:
                # Two runs in one transaction; the second may grow the first.
                await connection.copy_in("COPY by_batch FROM STDIN (FORMAT csv)", halves[1])
                await connection.copy_in("COPY by_batch (batch, n, t) FROM STDIN (FORMAT csv)", halves[0])
            else:
                await connection.copy_in(f"COPY by_batch FROM STDIN (FORMAT {forms[0]})", rng_pieces[0])
            if style == 3:
                await connection.run("INSERT INTO by_n SELECT batch, n, t FROM by_batch WHERE batch = $1::int", batch)
            else:
                await connection.copy_in(f"COPY by_n FROM STDIN (FORMAT {forms[1]})", rng_pieces[1])
            if style == 0:
                # Writes over a run of the same transaction.
                await connection.run(f"UPDATE by_n SET t = NULL WHERE batch = {batch} AND n = 0")
                await connection.run(f"DELETE FROM by_n WHERE batch = {batch} AND n = 1")
                await connection.run(
                    f"INSERT INTO by_n SELECT * FROM by_batch WHERE batch = {batch} AND n < 2 ON CONFLICT (n, batch) DO UPDATE SET t = excluded.t"
                )

        await self.session(client).transact("add", batch, body)

    async def _spoil(self, client: Client) -> None:
        """A COPY that must fail leaves nothing behind, not even of the rows before the bad one."""
        rng = client.rng
        batch, rows = self._draw(rng)
        form = rng.pick(FORMATS)
        style = rng.below(3)
        ending = b""
        if style == 0:
            ending = b"changed my mind"
            data = into_data(rows, form)
        elif style == 1:
            data = into_data([*rows, rows[0]], form)
        else:
            data = into_data(rows, "csv") + b"x,y,z\n"
            form = "csv"
        pieces = pieces_of(data, rng)
        table = rng.pick(self.TABLES)

        async def body(connection: SqlConnection) -> None:
            await connection.copy_in(f"COPY {table} FROM STDIN (FORMAT {form})", pieces, ending)
            raise Violation("a spoiled COPY fails", f"batch {batch}, {style=}, {form}", (f"spoil {batch} ",))

        await self.session(client).transact("spoil", batch, body)

    async def _read(self, client: Client) -> None:
        rng = client.rng
        table, form, is_whole = rng.pick(self.TABLES), rng.pick(FORMATS), rng.chance(0.5)
        block = self._pick_block(rng)

        async def body(connection: SqlConnection) -> list[int]:
            return await self._batches_in(connection, table, form, block, is_whole)

        await self.session(client).transact("read", block, body)

    def _pick_block(self, rng: Draws) -> int:
        latest = self.batches // BLOCK_BATCHES
        return latest if rng.chance(0.8) else rng.below(latest + 1)

    async def _remember(self, client: Client) -> None:
        """A snapshot that was seen is protected: no batch may be written below it."""
        table = client.rng.pick(self.TABLES)
        where = _where(self._pick_block(client.rng))

        async def body(connection: SqlConnection) -> list[Any]:
            counts = await connection.run(_COUNTS.format(table=table, where=where))
            moment.append(int((await connection.run("SELECT cluster_logical_timestamp()"))[0][0] or 0))
            return counts

        moment: list[int] = []
        outcome = await self.session(client).transact("remember", table, body, "repeatable read")
        if outcome.status == "ok":
            self.moments.append((moment[0], table, where, outcome.value))
            del self.moments[:-MOMENTS_MAX]

    async def _return(self, client: Client) -> None:
        ts, table, where, before = client.rng.pick(self.moments)

        async def body(connection: SqlConnection) -> list[Any]:
            return await connection.run(_COUNTS.format(table=f"{table} AS OF SYSTEM TIME {ts}", where=where))

        outcome = await self.session(client).transact("return", ts, body, "")
        if outcome.status == "ok" and outcome.value != before:
            raise Violation("the past does not change", f"{table} at {ts}: {before}, now {outcome.value}", (str(ts),))

    async def _batches_in(
        self, connection: SqlConnection, table: str, form: str, block: int, is_whole: bool
    ) -> list[int]:
        """Copies a block out, or the whole table while it is small; returns the block's batches."""
        source = f"(SELECT batch, n, t FROM {table} WHERE {_where(block)})"
        if is_whole and self.batches < BLOCK_BATCHES:
            source = f"{table} (batch, n, t)"
        found: dict[int, list[CopyRow]] = {}
        for row in from_data(await connection.copy_out(f"COPY {source} TO STDOUT (FORMAT {form})"), form):
            found.setdefault(row[0], []).append(row)
        for batch, rows in found.items():
            wanted = rows_of(batch, self.sizes.get(batch, 0))
            rows.sort(key=_by_n)
            if rows != wanted:
                wrong = [row for row in rows if row not in wanted][:5], [row for row in wanted if row not in rows][:5]
                raise Violation(
                    "a COPY is there whole or not at all",
                    f"{table} {form}: {len(rows)} rows of {len(wanted)}, {wrong}",
                    (f"add {batch} ", f"spoil {batch} "),
                )
        return sorted([batch for batch in found if batch // BLOCK_BATCHES == block])

    async def finish(self) -> None:
        self.present: dict[int, None] = {}
        for block in range(self.batches // BLOCK_BATCHES + 1):
            seen: list[list[int]] = []
            for table in self.TABLES:

                async def body(connection: SqlConnection, table: str = table, block: int = block) -> list[int]:
                    return await self._batches_in(connection, table, "text", block, False)

                outcome = await self.final.transact("read", block, body)
                if outcome.status != "ok":
                    raise Violation("a calm transaction succeeds", f"{outcome.status} {outcome.error}")
                seen.append(outcome.value)
            if seen[0] != seen[1]:
                raise Violation("both tables have a batch or neither", f"{seen}")
            self.present.update(dict.fromkeys(seen[0]))

        async def count(connection: SqlConnection) -> list[Any]:
            by_index = await connection.run("SELECT count(*) FROM by_n WHERE t >= '' OR t IS NULL")
            return [by_index, await connection.run("SELECT count(*) FROM by_n")]

        by_index, by_key = await self.must_sql(count)
        if by_index != by_key:
            raise Violation("indexes agree with the table", f"{by_index} by index, {by_key} by key")

    def _blocks(self, history: list[Op]) -> list[list[Op]]:
        """Takes the history apart; blocks to which nothing was added say nothing."""
        blocks: list[list[Op]] = [[] for _ in range(self.batches // BLOCK_BATCHES + 1)]
        under_way: dict[int | str, int] = {}
        added: dict[int, None] = {}
        for op in history:
            if op.f not in ("add", "read"):
                continue
            if op.type == "invoke":
                under_way[op.process] = op.value // BLOCK_BATCHES if op.f == "add" else op.value
            block = under_way[op.process]
            blocks[block].append(op)
            if op.f == "add" and op.type == "ok":
                added[block] = None
        return [blocks[block] for block in sorted(added)]

    def check(self) -> None:
        history = self.world.history.history
        for operations in self._blocks(history):
            self.judge(sets.check_full(operations, linearizable=True))
        for op in history:
            if op.f == "spoil" and op.value in self.present:
                raise Violation("a failed COPY left nothing", f"batch {op.value}", (f"spoil {op.value} ",))


def _where(block: int) -> str:
    return f"batch >= {block * BLOCK_BATCHES} AND batch < {(block + 1) * BLOCK_BATCHES}"


def _by_n(row: CopyRow) -> int:
    return row[1]
