"""Compiled SELECTs of one key."""

from __future__ import annotations

from collections.abc import Sequence

from kvtier.messages import Lock
from planner.access import IndexAccess, TableAccess
from planner.exec.compile import tuple_source
from planner.exec.fast import FastPlan
from planner.exec.relational import LimitOp
from planner.exec.scan import ScanOp
from planner.expr import Expr
from planner.optimize.fast_source import Script, value_sources
from planner.optimize.tree import conjoin, expr_columns, is_volatile


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


def compile_point(operator: ScanOp, exprs: list[Expr], limit: LimitOp | None) -> FastPlan | None:
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
    return FastPlan("point", run, True, None, script.uses_context())


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
