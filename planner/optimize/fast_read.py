"""Compiled SELECTs of one key or one short span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from kvtier.messages import Lock, Wait
from planner.access import IndexAccess, TableAccess
from planner.exec.compile import compile_batch, tuple_source
from planner.exec.fast import FastPlan
from planner.exec.relational import LimitOp
from planner.exec.scan import ScanOp
from planner.expr import Expr
from planner.optimize.fast_source import Script, value_sources
from planner.optimize.tree import conjoin, expr_columns, is_volatile

if TYPE_CHECKING:
    from planner.optimize.physical import Builder

RANGE_ROWS_MAX: Final = 1024
"""Longest answer of a compiled range; more goes through a cursor."""


def not_null_ids(scan_columns: Sequence[int], attnums: Sequence[int], access: TableAccess) -> frozenset[int]:
    """Ids of columns declared NOT NULL."""
    return frozenset([id for id, attnum in zip(scan_columns, attnums) if not access.columns[attnum].nullable])


def needed_columns(exprs: Sequence[Expr]) -> set[int]:
    found: set[int] = set()
    for expr in exprs:
        found |= expr_columns(expr)
    return found


def add_key(script: Script, index: IndexAccess, names: Sequence[str]) -> None:
    """``key`` of the named values; a value that the type cannot hold matches no row."""
    source, namespace = index.unique_codec.encode_source(names)
    script.namespace.update(namespace)
    script.keep("key")
    if all(column.form.code not in ("I", "H", "Q", "B") for column in index.unique_codec.columns):
        script.add(f"key = {source}")
    else:
        script.add("try:", f"    key = {source}", "except RANGE_ERRORS:", "    return []")


def add_row(
    script: Script, access: TableAccess, attnums: Sequence[int], key_names: dict[int, str], local: str = "r"
) -> dict[int, str]:
    """Decodes ``key`` and ``value`` (a row) into variables; ``key_names`` are columns known already.  Attnum -> variable."""
    known = {attnum: key_names[attnum] for attnum in attnums if attnum in key_names}
    in_key = [attnum for attnum in attnums if attnum in access.key_position and attnum not in known]
    wanted = [attnum for attnum in attnums if attnum not in known and attnum not in in_key]
    key_lines, key_values, key_namespace = access.key_codec.decode_source(
        "key", [access.key_position[a] for a in in_key], "d"
    )
    lines, names, namespace = access.row_codec.decode_source("value", wanted, local)
    script.namespace.update(key_namespace if in_key else {})
    script.namespace.update(namespace)
    lines = [*(key_lines if in_key else []), *lines]
    if lines:
        script.block("try:", lines)
        script.add("except CORRUPTION_ERRORS as problem:", "    raise corrupt_row(value, key) from problem")
    return known | dict(zip(in_key, key_values)) | dict(zip(wanted, names))


def _add_entry(script: Script, index: IndexAccess, attnums: Sequence[int]) -> dict[int, str]:
    """Decodes ``key`` and ``value`` of an index entry that has all columns."""
    script.namespace["decode_entry"] = index.decoder(tuple(attnums))
    script.add("entry = decode_entry(key, value)")
    return {attnum: f"entry[{i}]" for i, attnum in enumerate(attnums)}


def lock_arguments(operator: ScanOp, projection: str) -> str:
    """Arguments of get after the key."""
    if operator.lock == Lock.NONE:
        return f"NO_LOCK, BLOCK, {projection}"
    return f"LOCK, WAIT, {projection}"


def compile_point(builder: Builder, operator: ScanOp, exprs: list[Expr], limit: LimitOp | None) -> FastPlan | None:
    """One key of the primary or a unique index."""
    path, index = operator.path, operator.index
    access = index.table
    if any(is_volatile(expr) for expr in exprs):
        return None
    script = Script()
    script.namespace |= {
        "NO_LOCK": Lock.NONE,
        "LOCK": operator.lock,
        "WAIT": operator.wait,
        "PROJECTION": operator.fetcher.projection,
    }
    compiler = script.compiler({})
    if limit is not None:
        _add_limit(script, limit, compiler)
    names = value_sources(script, [position.values[0] for position in path.positions], "k", compiler)
    add_key(script, index, names)
    # What was looked for is what was found, if the key says exactly what the value was.
    exact = zip(index.attnums, index.unique_codec.columns, names)
    key_names = {attnum: name for attnum, column, name in exact if attnum and column.form.restorable}
    residual = operator.conditions[1]
    needed = needed_columns([*exprs, *residual])
    ids = dict(zip(path.scan.columns, path.scan.attnums))
    attnums = [ids[id] for id in path.scan.columns if id in needed]
    entry_only = not index.is_primary and index.covers(set(attnums)) and operator.lock == Lock.NONE
    if index.is_primary:
        script.read(f"txn.get(key, {lock_arguments(operator, 'PROJECTION')})", "bytes")
    elif entry_only:
        script.read("txn.get(key)", "bytes")
    else:
        script.read("txn.get(key)", "bytes")
        script.add("if value is None:", "    return []")
        script.namespace["primary_key"] = index.primary_key
        script.let("key", "primary_key(key, value)")
        script.read(f"txn.get(key, {lock_arguments(operator, 'PROJECTION')})", "bytes")
    script.add("if value is None or value is SKIPPED:" if operator.lock else "if value is None:", "    return []")
    variables = _add_entry(script, index, attnums) if entry_only else add_row(script, access, attnums, key_names)
    layout: dict[int, int | str] = {id: variables[attnum] for id, attnum in ids.items() if attnum in variables}
    script.sync()
    compiler = script.compiler(layout, not_null_ids(path.scan.columns, path.scan.attnums, access))
    condition = conjoin(list(residual))
    if condition is not None:
        script.add(f"if not {compiler.truth(condition)}:", "    return []")
    script.add(f"return [{tuple_source(compiler, exprs)}]")
    run = script.define(False)
    return FastPlan("point", run, True, script.text, script.uses_context())


def _add_limit(script: Script, limit: LimitOp, compiler: object) -> None:
    """A single row passes LIMIT n unless n is 0 or it is skipped by OFFSET; bad values raise as usual."""
    from planner.exec.runtime import int_argument

    script.namespace["int_argument"] = int_argument
    for name, expr, code in (("LIMIT", limit.exprs[0], "2201W"), ("OFFSET", limit.exprs[1], "2201X")):
        if expr is not None:
            source = script.compilers[-1].source(expr)
            script.let(name.lower(), f"int_argument({source}, {name!r}, {code!r})")
    if limit.exprs[0] is not None:
        script.add("if limit == 0:", "    return []")
    if limit.exprs[1] is not None:
        script.add("if offset:", "    return []")


def compile_range(builder: Builder, operator: ScanOp, exprs: list[Expr], limit: LimitOp | None) -> FastPlan | None:
    """One span of an index: leading equalities, then perhaps a range."""
    path, index = operator.path, operator.index
    if path is None or operator.lock != Lock.NONE or operator.spans.is_point or not path.positions:
        return None
    if any(position.kind not in ("value", "range") for position in path.positions) or any(
        is_volatile(expr) for expr in exprs
    ):
        return None
    residual = conjoin(list(operator.conditions[1]))
    script = Script()
    script.namespace |= {
        "NO_LOCK": Lock.NONE,
        "BLOCK": Wait.BLOCK,
        "ENTRY": operator.fetcher.entry_projection,
        "PROJECTION": operator.fetcher.projection,
    }
    compiler = script.compiler({})
    most = _add_range_limit(script, limit, residual is not None)
    _add_span(script, operator, compiler)
    script.read(f"txn.scan(start, end, reverse={operator.reverse!r}, limit={most}, projection=ENTRY)", "ScanResult")
    script.namespace["decode"] = operator.fetcher.decode
    if residual is not None or limit is None:
        script.add("if value.resume is not None:", "    return None")
    elif most != str(RANGE_ROWS_MAX):
        script.add(f"if value.resume is not None and len(value.keys) < {most}:", "    return None")
    if operator.fetcher.covering:
        script.add("rows = [decode(key, row) for key, row in zip(value.keys, value.values)]")
    else:
        _add_lookup(script, index)
    layout: dict[int, int | str] = {id: i for i, id in enumerate(operator.columns)}
    if residual is not None or not _is_identity(exprs, operator.columns):
        script.namespace["finish"] = compile_batch(residual, exprs, layout)
        script.add("rows = finish(rows, params, ctx)")
    if limit is not None:
        script.add(*_slice_lines(limit))
    script.add("return rows")
    run = script.define(False)
    return FastPlan("range", run, True, script.text)


def _is_identity(exprs: Sequence[Expr], columns: Sequence[int]) -> bool:
    from planner.expr import Col

    return len(exprs) == len(columns) and all(
        isinstance(expr, Col) and expr.id == id for expr, id in zip(exprs, columns)
    )


def _add_lookup(script: Script, index: IndexAccess) -> None:
    """Rows of a secondary index's entries."""
    script.namespace["primary_key"] = index.primary_key
    script.namespace["missing_row"] = _missing_row(index)
    script.add("if not value.keys:", "    return []")
    script.let("keys", "[primary_key(key, row) for key, row in zip(value.keys, value.values)]")
    script.read("txn.get_many(keys, NO_LOCK, BLOCK, PROJECTION)", "list")
    script.add("if None in value:", "    raise missing_row(keys[value.index(None)])")
    script.add("rows = [decode(key, row) for key, row in zip(keys, value)]")


def _missing_row(index: IndexAccess):  # type: ignore[no-untyped-def]
    from base.errors import error

    return lambda key: error("XX002", f'index "{index.desc.name}" has an entry without a row at key {key.hex()}')


def _add_span(script: Script, operator: ScanOp, compiler: object) -> None:
    path, codec = operator.path, operator.index.codec
    writer = script.compilers[-1]
    equal = [position.values[0] for position in path.positions if position.kind == "value"]
    names = value_sources(script, equal, "k", writer)
    last = path.positions[-1] if path.positions[-1].kind == "range" else None
    if last is None:
        source, namespace = codec.encode_source(names)
        script.namespace.update(namespace)
        script.add("try:", f"    start = {source}", "except RANGE_ERRORS:", "    return []", "end = prefix_end(start)")
        return
    bounds = []
    for name, expr in (("lower", last.lower), ("upper", last.upper)):
        if expr is None:
            bounds.append("None")
        else:
            script.add(f"{name} = {writer.source(expr)}", f"if {name} is None:", "    return []")
            bounds.append(name)
    script.namespace["range_span"] = codec.range_span
    values = "".join([f"{name}, " for name in names])
    span = f"range_span(({values}), {bounds[0]}, {last.lower_inclusive!r}, {bounds[1]}, {last.upper_inclusive!r})"
    script.add(
        "try:", f"    start, end = {span}", "except RANGE_ERRORS:", "    return []", "if start >= end:", "    return []"
    )


def _add_range_limit(script: Script, limit: LimitOp | None, has_residual: bool) -> str:
    """Evaluates LIMIT and OFFSET; returns the source of the page's length."""
    if limit is None:
        return str(RANGE_ROWS_MAX)
    from planner.exec.runtime import int_argument

    script.namespace["int_argument"] = int_argument
    writer = script.compilers[-1]
    count, skip = limit.exprs
    script.let("limit", "None" if count is None else f"int_argument({writer.source(count)}, 'LIMIT', '2201W')")
    script.let("offset", "0" if skip is None else f"int_argument({writer.source(skip)}, 'OFFSET', '2201X') or 0")
    script.add("if limit == 0:", "    return []")
    script.add(f"if limit is None or limit + offset > {RANGE_ROWS_MAX}:", "    return None")
    if has_residual:
        return str(RANGE_ROWS_MAX)
    script.let("most", "limit + offset")
    return "most"


def _slice_lines(limit: LimitOp) -> list[str]:
    if limit.exprs[1] is None:
        return ["if len(rows) > limit:", "    rows = rows[:limit]"]
    return ["rows = rows[offset:offset + limit]"]
