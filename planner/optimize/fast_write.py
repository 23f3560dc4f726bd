"""Compiled INSERT of one row, UPDATE and DELETE by primary key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from base.errors import MeridianError
from kvtier.messages import Lock
from planner.access import IndexAccess, TableAccess, check_key
from planner.context import ExecContext
from planner.exec.compile import tuple_source
from planner.exec.fast import FastPlan
from planner.exec.modify import DeleteOp, InsertOp, ModifyOp, UpdateOp
from planner.exec.relational import ProjectOp, ValuesOp
from planner.exec.runtime import Operator, Row
from planner.exec.scan import ScanOp
from planner.exec.write import TableWriter
from planner.expr import Expr
from planner.nodes import TableExprs, Update
from planner.optimize.fast_read import add_key, add_row, needed_columns, not_null_ids
from planner.optimize.fast_source import Script, value_sources
from planner.optimize.tree import conjoin, is_volatile, substitute

if TYPE_CHECKING:
    from planner.optimize.physical import Builder


def is_plain(writer: TableWriter) -> bool:
    """No partial or expression indexes, generated columns, deferrable keys, partitions or GLOBAL parents: what compiled writes keep up."""
    if writer.generated or writer.deferrable or writer.is_partitioned or len(writer.access.key_attnums) == 0:
        return False
    if any(foreign.index.implicit or foreign.target.desc.locality.kind == "global" for foreign in writer.outbound):
        return False
    return all(index.predicate is None and index.computed is None for index in writer.indexes)


def has_plain_parents(writer: TableWriter) -> bool:
    """Foreign keys that are checked at once, in other tables."""
    return not any(
        foreign.key.deferrable or foreign.key.match == "FULL" or foreign.target is writer.access
        for foreign in writer.outbound
    )


def _single_values(operator: Operator) -> tuple[Expr, ...] | None:
    """The expressions of a one-row VALUES, through projections."""
    if isinstance(operator, ValuesOp) and len(operator.exprs) == 1:
        return operator.exprs[0]
    if isinstance(operator, ProjectOp):
        inner = _single_values(operator.input)
        if inner is not None:
            mapping = dict(zip(operator.input.columns, inner))
            return tuple([substitute(expr, mapping) for expr in operator.exprs])
    return None


def _add_checks(
    script: Script,
    writer: TableWriter,
    exprs: TableExprs,
    layout: dict[int, int | str],
    row: str,
    not_null: frozenset[int],
) -> None:
    """NOT NULL and CHECK of a new row whose tuple is the source ``row``."""
    by_position = dict(writer.required)
    tests = []
    for position, name in by_position.items():
        if exprs.row[position] not in not_null:
            tests.append((str(layout[exprs.row[position]]), name))
    script.namespace["null_error"] = writer.null_error
    for variable, name in tests:
        constant = f"column_{len(script.namespace)}"
        script.namespace[constant] = name
        script.add(f"if {variable} is None:", f"    raise null_error({row}, {constant}, ctx)")
    if not exprs.checks:
        return
    script.namespace["check_error"] = writer.check_error
    required = frozenset([exprs.row[position] for position in by_position])
    script.sync()
    compiler = script.compiler(layout, required | not_null)
    for name, check in exprs.checks:
        constant = f"check_{len(script.namespace)}"
        script.namespace[constant] = name
        script.add(f"if {compiler.falsity(check)}:", f"    raise check_error({row}, {constant}, ctx)")


def _may_wait(node: Any, sets: Sequence[tuple[int, Expr]]) -> bool:
    """True if an expression computed after a read may ask to wait (nextval and the like)."""
    returning = getattr(node, "returning", None)
    exprs = [expr for _, expr in sets] + (list(returning[1]) if returning is not None else [])
    return any(is_volatile(expr) for expr in exprs)


# --- insert ------------------------------------------------------------------------


def compile_insert(builder: Builder, operator: InsertOp) -> FastPlan | None:
    """INSERT .. VALUES of one row without ON CONFLICT."""
    writer = operator.writer
    values = _single_values(operator.input)
    if values is None or operator.upsert is not None or operator.checks or not is_plain(writer):
        return None
    node = builder.statement.root
    if not has_plain_parents(writer) or _may_wait(node, ()):
        return None
    exprs = writer.exprs
    script = Script()
    compiler = script.compiler({})
    arranged = operator.positions
    names = []
    for i, at in enumerate(arranged):
        names.append(script.let(f"c{i}", "None" if at is None else compiler.source(values[at])))
    layout: dict[int, int | str] = dict(zip(exprs.row, names))
    script.let("row", f"({''.join([name + ', ' for name in names])})")
    _add_checks(script, writer, exprs, layout, "row", frozenset())
    _add_unique_reads(script, writer, names)
    _add_parents(script, writer)
    _add_puts(script, writer, names)
    returning = getattr(node, "returning", None)
    _add_result(script, returning, layout, frozenset([exprs.row[position] for position, _ in writer.required]))
    run = script.define(True)
    return FastPlan("insert", run, returning is not None)


def _add_unique_reads(script: Script, writer: TableWriter, names: Sequence[str]) -> None:
    """Locks the primary key and every unique key, and refuses a row that exists."""
    access = writer.access
    add_plain_key(script, access, [names[access.position[attnum]] for attnum in access.key_attnums])
    unique: list[int] = []
    for at, index_writer in enumerate(writer.indexes):
        index = index_writer.index
        script.namespace[f"entry{at}"] = index.entry
        script.add(f"e{at}, v{at} = entry{at}(row, ())")
        script.keep(f"e{at}", f"v{at}")
        if any(column.form.width == 0 for column in index.columns):
            script.namespace |= {"check_key": check_key, f"index{at}": index}
            script.add(f"check_key(e{at}, index{at})")
        if index.is_unique:
            unique.append(at)
    script.namespace["PRESENCE"] = writer.presence
    if not unique:
        script.read("txn.get(key, EXCLUSIVE, BLOCK, PRESENCE)", "bytes")
        script.namespace["duplicate"] = _duplicate_primary(writer)
        script.add("if value is not None:", "    raise duplicate(row, ctx)")
        return
    # A key with a NULL in it is not checked, but locking it does no harm: nobody else can have it.
    script.read(f"txn.get_many([key, {', '.join([f'e{at}' for at in unique])}], EXCLUSIVE, BLOCK)", "list")
    script.namespace["taken"] = _duplicate_of(writer, unique)
    script.add(f"if value != {[None] * (1 + len(unique))!r}:", "    taken(row, value, ctx)")


def add_plain_key(script: Script, access: TableAccess, names: Sequence[str]) -> None:
    """``key`` of values that fit their columns."""
    source, namespace = access.key_codec.encode_source(names)
    script.namespace.update(namespace)
    script.let("key", source)
    if any(column.form.width == 0 for column in access.key_columns):
        script.namespace |= {"check_key": check_key, "primary": access.primary}
        script.add("check_key(key, primary)")


def _duplicate_primary(writer: TableWriter) -> Callable[[Row, ExecContext], MeridianError]:
    return lambda row, ctx: writer.duplicate(row, writer.access.primary, (), writer.key_names(), ctx)


def _duplicate_of(writer: TableWriter, unique: list[int]) -> Callable[[Row, list[Any], ExecContext], None]:
    """Raises for the first key that exists and has to be unique."""

    def taken(row: Row, found: list[Any], ctx: ExecContext) -> None:
        if found[0] is not None:
            raise writer.duplicate(row, writer.access.primary, (), writer.key_names(), ctx)
        for at, value in zip(unique, found[1:]):
            index_writer = writer.indexes[at]
            if value is not None and index_writer.index.is_checked(index_writer.index.values(row, ())):
                raise writer.duplicate(row, index_writer.index, (), index_writer.names, ctx)

    return taken


def _add_parents(script: Script, writer: TableWriter) -> None:
    """Reads the keys that the row references, locked SHARE."""
    if not writer.outbound:
        return
    lines = []
    for at, foreign in enumerate(writer.outbound):
        names = [f"c{position}" for position in foreign.positions]
        source, namespace = foreign.index.unique_codec.encode_source(names)
        script.namespace.update(namespace)
        script.namespace[f"foreign{at}"] = foreign
        test = " and ".join([f"{name} is not None" for name in names])
        lines += [f"if {test}:", f"    wanted.append({source})", f"    keys_of.append(foreign{at})"]
    script.let("wanted", "[]")
    script.let("keys_of", "[]")
    script.add(*lines)
    script.read("txn.get_many(wanted, SHARE, BLOCK) if wanted else []", "list")
    script.add("if None in value:", "    raise keys_of[value.index(None)].absent(row, ctx)")


def _add_puts(script: Script, writer: TableWriter, names: Sequence[str]) -> None:
    access = writer.access
    columns = [
        names[access.position[id]] if id in access.position else "None" for id, _ in access.row_codec.write.columns
    ]
    lines, source, namespace = access.row_codec.encode_source(columns)
    script.namespace.update(namespace)
    script.add(*lines, f"txn.put(key, {source})")
    for at, index_writer in enumerate(writer.indexes):
        if index_writer.index.takes_puts:
            script.add(f"txn.put(e{at}, v{at})")


def _add_result(script: Script, returning: Any, layout: dict[int, int | str], not_null: frozenset[int]) -> None:
    if returning is None:
        script.finish_write("[()]")
        return
    script.sync()
    compiler = script.compiler(layout, not_null)
    script.finish_write(f"[{tuple_source(compiler, returning[1])}]")


# --- update and delete ---------------------------------------------------------------


def _point_scan(operator: ModifyOp) -> ScanOp | None:
    """The locking scan of one primary key below an UPDATE or DELETE."""
    scan = operator.input
    if not isinstance(scan, ScanOp) or not scan.is_single or not scan.index.is_primary or scan.lock != Lock.EXCLUSIVE:
        return None
    return scan


def is_touched(index: IndexAccess, changed: set[int]) -> bool:
    """True if an entry of the index may differ after these columns changed."""
    return bool(changed & (set(index.attnums) | set(index.include)))


def keeps_keys(writer: TableWriter, changed: set[int]) -> bool:
    """True if no primary, unique or foreign key changes with these columns."""
    if changed & set(writer.access.key_attnums):
        return False
    if any(is_touched(w.index, changed) and w.index.is_unique for w in writer.indexes):
        return False
    if any(changed & set(foreign.key.columns) for foreign in writer.outbound):
        return False
    return not any(changed & set(foreign.key.target_columns) for foreign in writer.inbound)


def compile_update(builder: Builder, operator: UpdateOp) -> FastPlan | None:
    """UPDATE .. WHERE <primary key> = ..."""
    scan, writer = _point_scan(operator), operator.writer
    node = builder.statement.root
    if (
        scan is None
        or not is_plain(writer)
        or not isinstance(node, Update)
        or node.checks
        or _may_wait(node, node.sets)
    ):
        return None
    changed = {attnum for attnum, _ in node.sets}
    if not keeps_keys(writer, changed):
        return None
    return _write_update(builder, operator, scan, node, changed)


def _add_locked_row(
    builder: Builder, script: Script, scan: ScanOp, writer: TableWriter, wanted: set[int] | None
) -> dict[int, int | str]:
    """Reads the row with an exclusive lock and tests the WHERE; returns the layout of the scan's columns."""
    access, path = writer.access, scan.path
    compiler = script.compiler({})
    names = value_sources(script, [position.values[0] for position in path.positions], "k", compiler)
    add_key(script, access.primary, names)
    key_names = {attnum: name for attnum, name in zip(access.key_attnums, names) if attnum in access.key_position}
    ids = dict(zip(path.scan.columns, path.scan.attnums))
    residual = [term for term in scan.conditions[1] if term not in path.matched]
    needed = needed_columns(residual)
    attnums = [attnum for id, attnum in ids.items() if wanted is None or attnum in wanted or id in needed]
    script.namespace["PROJECTION"] = access.projection(attnums)
    script.read("txn.get(key, EXCLUSIVE, BLOCK, PROJECTION)", "bytes")
    script.add("if value is None:", "    return []")
    variables = add_row(script, access, attnums, key_names)
    layout: dict[int, int | str] = {id: variables[attnum] for id, attnum in ids.items() if attnum in variables}
    condition = conjoin(residual)
    if condition is not None:
        script.sync()
        tester = script.compiler(layout, not_null_ids(path.scan.columns, path.scan.attnums, access))
        script.add(f"if not {tester.truth(condition)}:", "    return []")
    return layout


def _write_update(
    builder: Builder, operator: UpdateOp, scan: ScanOp, node: Update, changed: set[int]
) -> FastPlan | None:
    writer, access = operator.writer, operator.writer.access
    script = Script()
    layout = _add_locked_row(builder, script, scan, writer, None)
    not_null = not_null_ids(scan.path.scan.columns, scan.path.scan.attnums, access)
    script.sync()
    compiler = script.compiler(layout, not_null)
    sets = dict(node.sets)
    exprs = node.exprs
    new_names: list[str] = []
    for i, attnum in enumerate(access.attnums):
        new_names.append(
            script.let(f"n{i}", compiler.source(sets[attnum])) if attnum in sets else str(layout[node.old[i]])
        )
    new_layout: dict[int, int | str] = dict(zip(exprs.row, new_names))
    unchanged = frozenset(
        [exprs.row[access.position[a]] for a in access.attnums if a not in changed and not access.columns[a].nullable]
    )
    row = f"({''.join([name + ', ' for name in new_names])})"
    _add_checks(script, writer, exprs, new_layout, row, unchanged)
    _add_entry_changes(script, writer, changed, [str(layout[id]) for id in node.old], new_names)
    columns = [
        new_names[access.position[id]] if id in access.position else "None" for id, _ in access.row_codec.write.columns
    ]
    lines, source, namespace = access.row_codec.encode_source(columns)
    script.namespace.update(namespace)
    script.add(*lines, f"txn.put(key, {source})")
    required = frozenset([exprs.row[position] for position, _ in writer.required])
    _add_result(script, node.returning, layout | new_layout, not_null | required)
    run = script.define(True)
    return FastPlan("update", run, node.returning is not None)


def _add_entry_changes(script: Script, writer: TableWriter, changed: set[int], old: list[str], new: list[str]) -> None:
    """Moves the entries of (not unique) indexes that hold changed columns."""
    touched = [(at, w) for at, w in enumerate(writer.indexes) if is_touched(w.index, changed)]
    if not touched:
        return
    script.add(
        f"old_row = ({''.join([name + ', ' for name in old])})", f"new_row = ({''.join([name + ', ' for name in new])})"
    )
    for at, index_writer in touched:
        script.namespace[f"entry{at}"] = index_writer.index.entry
        script.namespace |= {"check_key": check_key, f"index{at}": index_writer.index}
        script.add(
            f"a{at}, w{at} = entry{at}(old_row, ())", f"b{at}, x{at} = entry{at}(new_row, ())", f"if a{at} != b{at}:"
        )
        script.add(f"    check_key(b{at}, index{at})", f"    txn.delete(a{at})")
        if index_writer.index.takes_puts:
            script.add(f"if a{at} != b{at} or w{at} != x{at}:", f"    txn.put(b{at}, x{at})")


def compile_delete(builder: Builder, operator: DeleteOp) -> FastPlan | None:
    """DELETE .. WHERE <primary key> = .. of a table that nobody references."""
    scan, writer = _point_scan(operator), operator.writer
    node = builder.statement.root
    if scan is None or not is_plain(writer) or writer.inbound or _may_wait(node, ()):
        return None
    access = writer.access
    returning = getattr(node, "returning", None)
    wanted: set[int] | None = None if writer.indexes else set()
    if wanted is not None and returning is not None:
        ids = dict(zip(scan.path.scan.columns, scan.path.scan.attnums))
        wanted = {ids[id] for id in needed_columns(returning[1]) if id in ids}
    script = Script()
    layout = _add_locked_row(builder, script, scan, writer, wanted)
    if writer.indexes:
        old = [str(layout[id]) for id in getattr(node, "old")]  # noqa: B009  # the root is a Delete
        script.add(f"old_row = ({''.join([name + ', ' for name in old])})")
        for at, index_writer in enumerate(writer.indexes):
            script.namespace[f"entry{at}"] = index_writer.index.entry
            script.add(f"txn.delete(entry{at}(old_row, ())[0])")
    script.add("txn.delete(key)")
    _add_result(script, returning, layout, not_null_ids(scan.path.scan.columns, scan.path.scan.attnums, access))
    run = script.define(True)
    return FastPlan("delete", run, returning is not None)
