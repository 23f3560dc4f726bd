"""COPY FROM STDIN and COPY TO STDOUT.

Rows from the client go, a batch at a time, through the plan of ``INSERT INTO t (columns) VALUES ($1, ..)`` whose parameters
are replaced by the columns of a row source: constraints, indexes and foreign keys are those of any INSERT.
COPY is atomic: it is one statement of its transaction (reliability 95).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from base.errors import FeatureNotSupported, MeridianError, SqlError
from base.typeio import binary_decoder, binary_encoder, text_encoder, text_parser
from base.typeio.columns import ParseColumn, column_parser
from base.types import RECORD, PgType
from planner.exec import plan
from planner.expr import Call, Col, Expr, Param, transform
from planner.functions.casts import LengthCoercion
from planner.functions.registry import VOLATILE, Function
from planner.nodes import ColumnInfo, FunctionScan, Insert, Node, Project, Statement, Values
from planner.optimize.tree import any_part
from planner.schema import ColumnDesc, TableDesc
from sql.analyze import Analyzer
from sql.commands import handles
from sql.copyformat import CopyOptions, reader, writer
from sql.ddl.columns import ROWID
from sql.parse import ParsedStatement, parse
from sql.parse import statements as ast

if TYPE_CHECKING:
    from sql.portals import QueryPortal
    from sql.session import Session

BATCH_ROWS: Final = 1000
"""Rows given to the insert plan at a time."""
SHOWN_BYTES_MAX: Final = 100
"""Of a line or value in the CONTEXT of an error."""


@handles(ast.Copy)
async def copy(session: Session, statement: ast.Copy, portal: QueryPortal) -> None:
    if statement.target is not None:
        what = "a program" if statement.is_program else "a file"
        raise FeatureNotSupported(
            f"COPY to or from {what} on the server is not supported",
            hint="Use COPY .. STDIN or STDOUT (psql's \\copy).",
        )
    options = CopyOptions(statement.options, statement.is_from)
    if statement.is_from:
        count = await _copy_from(session, statement, options)
    else:
        count = await _copy_to(session, statement, options, portal)
    session.sink.complete(f"COPY {count}")


def _columns(table: TableDesc, names: tuple[str, ...]) -> list[ColumnDesc]:
    visible = [c for c in table.columns if not c.hidden]
    if not names:
        return [c for c in visible if not c.generated]
    result = []
    for i, name in enumerate(names):
        if name in names[:i]:
            raise SqlError(f'column "{name}" specified more than once', sqlstate="42701")
        found = [c for c in table.columns if c.name == name and not (c.hidden and name == ROWID)]
        if not found:
            raise SqlError(f'column "{name}" of relation "{table.name}" does not exist', sqlstate="42703")
        if found[0].generated:
            raise SqlError(
                f'column "{name}" is a generated column',
                sqlstate="42P10",
                detail="Generated columns cannot be used in COPY.",
            )
        result.append(found[0])
    return result


def quoted(name: str) -> str:
    """Returns an identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def _insert_plan(
    session: Session, table: TableDesc, columns: list[ColumnDesc], types: list[PgType], are_fitted: bool
) -> tuple[Any, Statement]:
    """Plans the insert of rows handed in as parameter 1; ``are_fitted``: their values fit the columns' typmods."""
    schema = session.view().schema_name(table.schema_id)
    names = ", ".join(quoted(c.name) for c in columns)
    marks = ", ".join(f"${i}" for i in range(1, len(columns) + 1))
    target = f"INSERT INTO {quoted(schema)}.{quoted(table.name)}"
    # The data's values hold for identity columns, whatever they say (COPY's manual page).
    text = f"{target} ({names}) OVERRIDING SYSTEM VALUE VALUES ({marks})" if columns else f"{target} DEFAULT VALUES"
    bound = Analyzer(session).bind(parse(text)[0], tuple(types))
    source = Function(
        "copy_rows",
        (RECORD,),
        RECORD,
        _values_of if len(columns) == 1 else _rows_of,
        returns_set=True,
        volatility=VOLATILE,
        out_fields=tuple((c.name, t) for c, t in zip(columns, types)),
    )
    ids = tuple(bound.metadata.add(ColumnInfo(c.name, t, c.typmod)) for c, t in zip(columns, types))
    scan = FunctionScan((Call(source, (Param(1, RECORD),), RECORD),), (len(ids),), ids, False)

    def column_of(expr: Expr) -> Expr:
        if are_fitted and isinstance(expr, Call) and isinstance(expr.function.impl, LengthCoercion):
            return expr.args[0] if isinstance(expr.args[0], Col) else expr
        return Col(ids[expr.index - 1], expr.type, expr.typmod) if isinstance(expr, Param) else expr

    def rewrite(node: Node) -> Node:
        if isinstance(node, Values):
            return Project(scan, node.columns, tuple(transform(e, column_of) for e in node.rows[0]))
        if isinstance(node, Project):
            return Project(rewrite(node.input), node.columns, tuple(transform(e, column_of) for e in node.exprs))
        return node.with_inputs(tuple(rewrite(i) for i in node.inputs()))

    assert isinstance(bound.root, Insert)
    bound.root = bound.root.with_inputs((rewrite(bound.root.input),))
    bound.params = (RECORD,)
    return plan(bound, session.server.catalog.stats.get, session.plan_settings(), session.state().type_by_oid), bound


def _writes_singly(statement: Statement) -> bool:
    """True if PostgreSQL would write row by row, knowing each one's line when a key is there: a default is volatile."""
    assert isinstance(statement.root, Insert)
    project = statement.root.input
    return isinstance(project, Project) and any(any_part(expr, _is_volatile) for expr in project.exprs)


def _is_volatile(expr: Expr) -> bool:
    return isinstance(expr, Call) and expr.function.volatility == VOLATILE and expr.function.name != "nextval"


def _rows_of(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return rows


def _values_of(rows: list[tuple[Any, ...]]) -> list[Any]:
    """A function of one result column gives bare values."""
    return [row[0] for row in rows]


async def _copy_from(session: Session, statement: ast.Copy, options: CopyOptions) -> int:
    if session.is_read_only:
        raise SqlError("cannot execute COPY FROM in a read-only transaction", sqlstate="25006")
    if statement.where is not None:
        raise FeatureNotSupported("COPY FROM .. WHERE is not supported yet")
    assert statement.table is not None
    table = session.view().table(
        statement.table,
        'cannot copy to {kind} "{name}"',
        "To enable copying to a view, provide an INSTEAD OF INSERT trigger.",
    )
    session.view().require(table, "a")
    await session.block.lock_table(table.id, table.name)
    table = session.view().table(statement.table)
    columns = _columns(table, statement.columns)
    types = [session.state().types.get(c.type_oid) or session.state().type_by_oid(c.type_oid) for c in columns]
    known = [t for t in types if t is not None]
    physical, bound = _insert_plan(session, table, columns, known, options.format != "binary")
    loader = _Loader(session, table, columns, known, options, physical, _writes_singly(bound))
    code = 1 if options.format == "binary" else 0
    session.sink.copy_in(code, [code] * len(columns))
    try:
        return await loader.run()
    except MeridianError:
        session.sink.end_copy()
        raise


class _Loader:
    """Reads CopyData into rows and inserts them."""

    def __init__(
        self,
        session: Session,
        table: TableDesc,
        columns: list[ColumnDesc],
        types: list[PgType],
        options: CopyOptions,
        physical: Any,
        is_single: bool,
    ) -> None:
        self.session = session
        self.table = table
        self.columns = columns
        self.options = options
        self.physical = physical
        self.is_single = is_single
        self.reader = reader(options)
        self.lines: list[str] = []
        """Those of the rows that are read and not written yet; none of binary data."""
        self.lines_done = 0
        """How many came before them."""
        self.count = 0
        self.skip_header = bool(options.header)
        self.width = len(columns)
        self.decoders: list[Callable[[Any], Any]]
        self.parsers: list[ParseColumn] = []
        """Of whole columns of text."""
        if options.format == "binary":
            self.decoders = [binary_decoder(t) for t in types]
        else:
            settings = session.io
            self.decoders = [text_parser(t, c.typmod, settings, session.context.now_us) for c, t in zip(columns, types)]
            self.parsers = [column_parser(t, c.typmod, d) for c, t, d in zip(columns, types, self.decoders)]
        self.not_null = [c.name in options.force_not_null or "*" in options.force_not_null for c in columns]
        self.force_null = [c.name in options.force_null or "*" in options.force_null for c in columns]

    async def run(self) -> int:
        pending: list[tuple[Any, ...]] = []
        sink = self.session.sink
        while True:
            chunk = await sink.read_copy()
            raw = self._read(chunk)
            self.lines += self.reader.lines
            try:
                self._decode(raw, pending)
            except MeridianError as error:
                await self._blame_earlier(pending, error)
                raise
            while len(pending) >= BATCH_ROWS or (chunk is None and pending):
                await self._insert(pending[:BATCH_ROWS])
                pending = pending[BATCH_ROWS:]
                self.lines_done = self._number(BATCH_ROWS - 1)
                self.lines = self.lines[BATCH_ROWS:]
            if chunk is None:
                return self.count

    def _read(self, chunk: bytes | None) -> list[list[Any]]:
        """The rows that a chunk of the data completes; None is its end."""
        try:
            return self.reader.finish() if chunk is None else self.reader.feed(chunk)
        except MeridianError as error:
            number = self.reader.line + 1 + (error.row or 0)
            if error.row is None and self.reader.lines:
                error.context = self._at(number + self.reader.lines[-1].count("\n"), self.reader.lines[-1])
            else:
                error.context = self._at(number)
            raise

    def _decode(self, raw: list[list[Any]], rows: list[tuple[Any, ...]]) -> None:
        """Adds the rows' values to ``rows``."""
        if self.skip_header and raw:
            self._check_header(raw[0])
            raw = raw[1:]
            self.skip_header = False
            self.lines_done = self._number(0)
            self.lines = self.lines[1:]
        decoders, width = self.decoders, self.width
        forced = any(self.not_null) or any(self.force_null)
        if self.parsers and not forced and all([len(fields) == width for fields in raw]):
            try:
                rows += zip(*[parse(column) for parse, column in zip(self.parsers, zip(*raw))])
                return
            except MeridianError:
                pass  # Row by row it shows where.
        for fields in raw:
            if len(fields) != width:
                self._wrong_width(fields, len(rows))
            if forced:
                fields = self._forced(fields)
            try:
                rows.append(tuple([None if f is None else decode(f) for decode, f in zip(decoders, fields)]))
            except MeridianError as error:
                self._explain(error, fields, len(rows))
                raise

    # --- places

    def _number(self, place: int) -> int:
        """The line of a row that is read and not written yet; of one with newlines in it the last."""
        number = self.lines_done + place + 1
        if self.options.format == "csv":
            number += sum([line.count("\n") for line in self.lines[: place + 1]])
        return number

    def _at(self, number: int, line: str | None = None) -> str:
        shown = "" if line is None else f': "{_cut(line)}"'
        return f"COPY {self.table.name}, line {number}{shown}"

    def _line(self, place: int) -> str | None:
        return self.lines[place] if place < len(self.lines) else None

    async def _blame_earlier(self, pending: list[tuple[Any, ...]], error: MeridianError) -> None:
        """Raises what breaks a NOT NULL or CHECK in the lines before the one that cannot be read."""
        try:
            for at in range(0, len(pending), BATCH_ROWS):
                await self._insert(pending[at : at + BATCH_ROWS], at)
        except MeridianError as earlier:
            if earlier.sqlstate in ("23502", "23514"):
                raise earlier from error

    def _forced(self, fields: list[Any]) -> list[Any]:
        null = self.options.null
        fields = [null if f is None and keep else f for f, keep in zip(fields, self.not_null)]
        return [None if f == null and force else f for f, force in zip(fields, self.force_null)]

    def _check_header(self, fields: list[Any]) -> None:
        if self.options.header != "match":
            return
        place = self._at(self._number(0), self._line(0))
        if len(fields) != self.width:
            text = f"wrong number of fields in header line: got {len(fields)}, expected {self.width}"
            raise SqlError(text, sqlstate="22P04", context=place)
        for i, (field, column) in enumerate(zip(fields, self.columns), 1):
            if field != column.name:
                got = "null value" if field is None else f'"{field}"'
                raise SqlError(
                    f'column name mismatch in header line field {i}: got {got}, expected "{column.name}"',
                    sqlstate="22P04",
                    context=place,
                )

    def _wrong_width(self, fields: list[Any], place: int) -> None:
        context = self._at(self._number(place), self._line(place))
        if self.options.format == "binary":
            raise SqlError(
                f"row field count is {len(fields)}, expected {self.width}", sqlstate="22P04", context=context
            )
        if len(fields) > self.width:
            raise SqlError("extra data after last expected column", sqlstate="22P04", context=context)
        self._explain_first(fields, place)
        raise SqlError(f'missing data for column "{self.columns[len(fields)].name}"', sqlstate="22P04", context=context)

    def _explain_first(self, fields: list[Any], place: int) -> None:
        """Raises what is wrong with a value."""
        for decode, field in zip(self.decoders, fields):
            try:
                if field is not None:
                    decode(field)
            except MeridianError as error:
                self._explain(error, fields, place)
                raise

    def _explain(self, error: MeridianError, fields: list[Any], place: int) -> None:
        """Names the column whose value cannot be read."""
        for column, decode, field in zip(self.columns, self.decoders, fields):
            if field is None:
                continue
            try:
                decode(field)
            except MeridianError:
                shown = f': "{_cut(field)}"' if isinstance(field, str) else ""
                error.context = f"{self._at(self._number(place))}, column {column.name}{shown}"
                return

    async def _insert(self, rows: list[tuple[Any, ...]], at: int = 0) -> None:
        """Writes rows, the first of which is number ``at`` of those that are read and not written."""
        session = self.session
        txn = session.block.ensure()
        cursor = self.physical.open(txn, (rows,), session.context)
        try:
            fetched = cursor.fetch(0)
            if not isinstance(fetched, list):
                await fetched
            self.count += cursor.affected
        except MeridianError as error:
            if error.row is not None:
                place = at + error.row
                knows_line = self.is_single or error.sqlstate != "23505"
                error.context = self._at(self._number(place), self._line(place) if knows_line else None)
            raise
        finally:
            cursor.close()
        if txn.needs_flush:
            done = txn.flush()
            if done is not None:
                await done
        session.context.check_interrupt()


def _cut(text: str) -> str:
    """Shows at most 100 bytes of a line or value."""
    data = text.encode()
    return text if len(data) <= SHOWN_BYTES_MAX else data[:SHOWN_BYTES_MAX].decode(errors="ignore") + "..."


async def _copy_to(session: Session, statement: ast.Copy, options: CopyOptions, portal: QueryPortal) -> int:
    if statement.query is not None:
        parsed = ParsedStatement(statement.query, statement.query_text, statement.query_position)
    else:
        assert statement.table is not None
        table = session.view().table(
            statement.table, 'cannot copy from {kind} "{name}"', "Try the COPY (SELECT ...) TO variant."
        )
        session.view().require(table, "r")
        names = ", ".join(quoted(c.name) for c in _columns(table, statement.columns))
        schema = session.view().schema_name(table.schema_id)
        parsed = parse(f"SELECT {names} FROM {quoted(schema)}.{quoted(table.name)}")[0]
    entry = await Analyzer(session).entry(parsed, ())
    if entry.columns is None:
        raise SqlError("COPY query must have a RETURNING clause", sqlstate="0A000")
    from sql.portals import QueryPortal as Query

    source = Query("", parsed, entry, portal.params, (), ())
    is_binary = options.format == "binary"
    encoders = [binary_encoder(c.type) if is_binary else text_encoder(c.type, session.io) for c in entry.columns]
    await session.start_portal(source)
    output = writer(options, [c.name for c in entry.columns])
    sink = session.sink
    sink.copy_out(1 if is_binary else 0, [1 if is_binary else 0] * len(encoders))
    # As in PostgreSQL a binary header shares the message of what follows it.
    held = output.header if is_binary else b""
    if output.header and not held:
        sink.copy_data(output.header)
    count = 0
    while True:
        rows = await source.next_rows(0)
        if not rows:
            break
        count += len(rows)
        if held:
            first, rows = rows[0], rows[1:]
            sink.copy_data(held + output.row([None if v is None else encode(v) for encode, v in zip(encoders, first)]))
            held = b""
        for row in rows:
            sink.copy_data(output.row([None if v is None else encode(v) for encode, v in zip(encoders, row)]))
        if sink.full:
            await sink.drain()
        session.context.check_interrupt()
    if output.trailer:
        sink.copy_data(held + output.trailer)
    sink.copy_done()
    source.finish()
    return count
