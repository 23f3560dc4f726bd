"""Compiled writes of several rows: INSERT of a short VALUES list, UPDATE of one short span of the primary key.

    insert   values -> keys, entries, rows -> one locking get of all unique keys -> parents -> puts
    update   scan one page -> filter -> one locking get -> new rows -> puts

Nothing is put before everything is known to be right.  Whatever is not - a duplicate, a missing parent, a broken
constraint, a row that changed before it was locked - makes the function answer None with nothing written:
the operators then do it all again, and find the error or the rows (locks that were got are got again).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from planner.access import IndexAccess, check_key
from planner.exec.fast import FastPlan
from planner.exec.locking import LockRowsOp
from planner.exec.modify import InsertOp, UpdateOp
from planner.exec.relational import ProjectOp, ValuesOp
from planner.exec.runtime import Operator
from planner.exec.scan import ScanOp
from planner.exec.write import TableWriter
from planner.expr import Expr
from planner.nodes import Update
from planner.optimize.fast_range import RangeWriter, Shape
from planner.optimize.fast_read import add_row, not_null_ids
from planner.optimize.fast_source import Script
from planner.optimize.fast_write import has_plain_parents, is_plain, is_touched, keeps_keys
from planner.optimize.tree import is_volatile, substitute

if TYPE_CHECKING:
    from planner.optimize.physical import Builder

OPERATED_USES: Final = 2
"""Times the function of such a statement leaves it to its operators: once is for trying, once for opening them."""
ROWS_MAX: Final = 64
"""Longest VALUES list compiled: its source grows with it."""


def _values(operator: Operator) -> list[tuple[Expr, ...]] | None:
    """The rows of a VALUES, through projections."""
    if isinstance(operator, ValuesOp):
        return operator.exprs if 1 < len(operator.exprs) <= ROWS_MAX else None
    if isinstance(operator, ProjectOp):
        rows = _values(operator.input)
        if rows is not None:
            mappings = [dict(zip(operator.input.columns, row)) for row in rows]
            return [tuple([substitute(expr, mapping) for expr in operator.exprs]) for mapping in mappings]
    return None


class _RowsWriter:
    """The loop that makes what is to be put: ``put_keys`` and ``put_values``."""

    def __init__(self, script: Script, writer: TableWriter) -> None:
        self.script = script
        self.writer = writer
        self.access = writer.access
        self.lines: list[str] = []
        """The loop's body."""
        script.namespace |= {"check_key": check_key, "TABLE": writer.access.desc.id, "PRESENCE": writer.presence}

    def name(self, names: Sequence[str], id: int) -> str:
        """The variable of a column."""
        return names[self.access.position[id]] if id in self.access.position else "None"

    def refuse(self, condition: str) -> None:
        self.lines += [f"if {condition}:", "    return None"]

    def add_checks(self, names: Sequence[str], not_null: frozenset[int]) -> None:
        """NOT NULL and CHECK; columns in ``not_null`` cannot be NULL."""
        exprs = self.writer.exprs
        tested = [position for position, _ in self.writer.required if exprs.row[position] not in not_null]
        if tested:
            self.refuse(" or ".join([f"{names[position]} is None" for position in tested]))
        if exprs.checks:
            required = frozenset([exprs.row[position] for position, _ in self.writer.required])
            compiler = self.script.compiler(dict(zip(exprs.row, names)), required | not_null)
            for _, check in exprs.checks:
                self.refuse(compiler.falsity(check))

    def add_row(self, names: Sequence[str]) -> None:
        """Puts the row at ``key``."""
        columns = [self.name(names, id) for id, _ in self.access.row_codec.write.columns]
        lines, source, namespace = self.access.row_codec.encode_source(columns)
        self.script.namespace.update(namespace)
        self.lines += [*lines, "put_keys.append(key)", f"put_values.append({source})"]

    def check_key(self, variable: str, index: IndexAccess, name: str) -> None:
        if any(column.form.width == 0 for column in index.columns):
            self.script.namespace[name] = index
            self.lines.append(f"check_key({variable}, {name})")

    def finish(self, count: str) -> None:
        """The end of the statement: puts everything."""
        script = self.script
        script.add("for key, value in zip(put_keys, put_values):", "    txn.put(key, value)")
        script.add(f"ctx.count_changes(TABLE, {count})")
        script.finish_write(f"[()] * {count}")


# --- insert ------------------------------------------------------------------------


def compile_insert_rows(builder: Builder, operator: InsertOp) -> FastPlan | None:
    """INSERT .. VALUES of a few rows without ON CONFLICT and RETURNING."""
    writer, rows = operator.writer, _values(operator.input)
    if rows is None or operator.upsert is not None or not is_plain(writer) or not has_plain_parents(writer):
        return None
    node = builder.statement.root
    if getattr(node, "returning", None) is not None or any([is_volatile(expr) for row in rows for expr in row]):
        return None

    def write() -> Callable[..., Any]:
        return _write_insert(builder, operator, rows)

    return _at_second_use("insert", write)


def _at_second_use(kind: str, write: Callable[[], Callable[..., Any]]) -> FastPlan:
    """The plan of a function that is written when the statement runs again: that costs more than the operators do."""
    uses = 0

    def trial(txn: Any, params: Any, ctx: Any) -> Any:
        nonlocal uses
        uses += 1
        if plan.run is trial:
            if uses <= OPERATED_USES:
                return None
            plan.run = write()
        return plan.run(txn, params, ctx)

    plan = FastPlan(kind, trial, False)
    return plan


def _write_insert(builder: Builder, operator: InsertOp, rows: list[tuple[Expr, ...]]) -> Callable[..., Any]:
    writer = operator.writer
    script = Script()
    compiler = script.compiler({})
    sources = []
    for row in rows:
        values = ["None" if at is None else compiler.source(row[at]) for at in operator.positions]
        sources.append(f"({''.join([value + ', ' for value in values])})")
    script.add(f"rows = [{', '.join(sources)}]")
    script.sync()
    for name in ("keys", "put_keys", "put_values", "wanted"):
        script.let(name, "[]")
    made = _RowsWriter(script, writer)
    names = [f"c{i}" for i in range(len(operator.positions))]
    made.add_checks(names, frozenset())
    has_unique = _add_keys(made, names)
    _add_wanted(made, names)
    script.block("for row in rows:", [f"{', '.join(names)}, = row", *made.lines])
    script.add("if len({*keys}) != len(keys):", "    return None")
    # A key with a NULL in it is not checked, but locking it does no harm: nobody else can have it.
    script.read(f"txn.get_many(keys, EXCLUSIVE, BLOCK{'' if has_unique else ', PRESENCE'})", "list")
    script.add("if value.count(None) != len(keys):", "    return None")
    if writer.outbound:
        script.read("txn.get_many(list(dict.fromkeys(wanted)), SHARE, BLOCK) if wanted else []", "list")
        script.add("if None in value:", "    return None")
    made.finish(str(len(rows)))
    return script.define(False)


def _add_keys(made: _RowsWriter, names: Sequence[str]) -> bool:
    """Makes the row and its entries, their keys; True if one of the indexes is unique."""
    access, writer, script = made.access, made.writer, made.script
    source, namespace = access.key_codec.encode_source([made.name(names, id) for id in access.key_attnums])
    script.namespace.update(namespace)
    made.lines += [f"key = {source}", "keys.append(key)"]
    made.check_key("key", access.primary, "primary")
    made.add_row(names)
    for at, index_writer in enumerate(writer.indexes):
        index = index_writer.index
        script.namespace[f"entry{at}"] = index.entry
        made.lines.append(f"e{at}, v{at} = entry{at}(row, ())")
        made.check_key(f"e{at}", index, f"index{at}")
        if index.is_unique:
            made.lines.append(f"keys.append(e{at})")
        if index.takes_puts:
            made.lines += [f"put_keys.append(e{at})", f"put_values.append(v{at})"]
    return any([index_writer.index.is_unique for index_writer in writer.indexes])


def _add_wanted(made: _RowsWriter, names: Sequence[str]) -> None:
    """Gathers the keys that the rows reference."""
    for foreign in made.writer.outbound:
        values = [names[position] for position in foreign.positions]
        source, namespace = foreign.index.unique_codec.encode_source(values)
        made.script.namespace.update(namespace)
        made.lines += [
            f"if {' and '.join([f'{value} is not None' for value in values])}:",
            f"    wanted.append({source})",
        ]


# --- update ------------------------------------------------------------------------


def compile_update_rows(builder: Builder, operator: UpdateOp) -> FastPlan | None:
    """UPDATE of the rows of one span of the primary key, where no key changes and nothing is returned."""
    scan, writer, node = _locked_span(operator), operator.writer, builder.statement.root
    if scan is None or not is_plain(writer) or not isinstance(node, Update) or node.returning is not None:
        return None
    changed = {attnum for attnum, _ in node.sets}
    if not keeps_keys(writer, changed):
        return None
    if any([is_volatile(expr) for expr in [*[expr for _, expr in node.sets], *scan.conditions[1]]]):
        return None

    def write() -> Callable[..., Any]:
        return _SpanUpdate(builder, operator, scan, node, changed).define()

    return _at_second_use("update", write)


def _locked_span(operator: UpdateOp) -> ScanOp | None:
    """The scan of one span of the primary key below the locks of an UPDATE."""
    locks = operator.input
    if not isinstance(locks, LockRowsOp) or len(locks.targets) != 1 or locks.limit is not None:
        return None
    scan = locks.input
    if not isinstance(scan, ScanOp) or not scan.index.is_primary or scan.spans.is_point or scan.path is None:
        return None
    positions = scan.path.positions
    if not positions or any([position.kind not in ("value", "range") for position in positions]):
        return None
    return scan


class _SpanUpdate(RangeWriter):
    """Writes such an UPDATE."""

    def __init__(self, builder: Builder, operator: UpdateOp, scan: ScanOp, node: Update, changed: set[int]) -> None:
        super().__init__(scan, Shape((), builder.column))
        self.writer = operator.writer
        self.node = node
        self.changed = changed
        self.not_null = not_null_ids(scan.path.scan.columns, scan.path.scan.attnums, self.writer.access)

    def define(self) -> Callable[..., Any]:
        script = self.script
        self.read("1024", True)
        script.keep("values")
        if self.residual is not None:
            layout, lines = self._decoded()
            test = script.compiler(layout, self.not_null).truth(self.residual)
            script.let("found", "[]")
            body = [*lines, f"if {test}:", "    found.append((key, value))"]
            script.block("for key, value in zip(keys, values):", body)
            script.sync()
            script.let("keys", "[key for key, _ in found]")
            script.let("values", "[value for _, value in found]")
        script.add("if not keys:", "    return []")
        script.read("txn.get_many(keys, EXCLUSIVE, BLOCK, ENTRY)", "list")
        script.add("if value != values:", "    return None")
        for name in ("put_keys", "put_values", "gone"):
            script.let(name, "[]")
        made = self._body()
        script.block("for key, value in zip(keys, values):", made.lines)
        script.add("for key in gone:", "    txn.delete(key)")
        made.finish("len(keys)")
        return script.define(False)

    def _decoded(self) -> tuple[dict[int, int | str], list[str]]:
        """Layout of the scan's columns, and the lines that read them."""
        script, path = self.script, self.operator.path
        lines = script.segments[-1]
        at = len(lines)
        variables = add_row(script, self.writer.access, list(path.scan.attnums), {})
        taken = lines[at:]
        del lines[at:]
        return {id: variables[attnum] for id, attnum in zip(path.scan.columns, path.scan.attnums)}, taken

    def _body(self) -> _RowsWriter:
        script, writer, node = self.script, self.writer, self.node
        access = writer.access
        layout, lines = self._decoded()
        made = _RowsWriter(script, writer)
        made.lines += lines
        script.sync()
        compiler = script.compiler(layout, self.not_null)
        sets = dict(node.sets)
        names = []
        for i, attnum in enumerate(access.attnums):
            if attnum in sets:
                made.lines.append(f"n{i} = {compiler.source(sets[attnum])}")
            names.append(f"n{i}" if attnum in sets else str(layout[node.old[i]]))
        script.sync()
        kept = [a for a in access.attnums if a not in self.changed and not access.columns[a].nullable]
        made.add_checks(names, frozenset([writer.exprs.row[access.position[attnum]] for attnum in kept]))
        made.add_row(names)
        self._add_entries(made, [str(layout[id]) for id in node.old], names)
        return made

    def _add_entries(self, made: _RowsWriter, old: Sequence[str], new: Sequence[str]) -> None:
        """Moves the entries of (not unique) indexes that hold changed columns."""
        touched = [(at, w.index) for at, w in enumerate(self.writer.indexes) if is_touched(w.index, self.changed)]
        if touched:
            made.lines += [f"old_row = ({', '.join(old)},)", f"new_row = ({', '.join(new)},)"]
        for at, index in touched:
            self.script.namespace[f"entry{at}"] = index.entry
            made.lines += [f"a{at}, w{at} = entry{at}(old_row, ())", f"b{at}, x{at} = entry{at}(new_row, ())"]
            made.check_key(f"b{at}", index, f"index{at}")
            made.lines += [f"if a{at} != b{at}:", f"    gone.append(a{at})"]
            if index.takes_puts:
                made.lines += [f"if a{at} != b{at} or w{at} != x{at}:"]
                made.lines += [f"    put_keys.append(b{at})", f"    put_values.append(x{at})"]
