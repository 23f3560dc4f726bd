"""Making stored rows and index entries out of stored rows, generated per table: what DDL runs over a whole table.

    rows of one shape of a table        -> rows of another                      row_rewriter
    rows                                -> entries of one of its indexes        entry_maker

Only the columns that are used are decoded, what is only passed on stays the bytes it is stored as, and the primary
key in an entry is a slice of the row's key: no tuple and no call per row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from base.generated import define_function
from base.rows import GUARD_NAMES
from base.rowtypes import value_form
from planner.access import KEY_LENGTH, IndexAccess, TableAccess

Rewriter = Callable[[list[bytes], list[bytes]], tuple[list[bytes], list[bytes]]]
"""(keys, values) of rows to keys and values of what is made of each, in the same order."""


def row_rewriter(old: TableAccess, new: TableAccess) -> Rewriter | None:
    """Returns the function from a table's rows to the same rows under another key or layout.

    Columns are matched by their ids and keep their types; None if the new shape has one the old has not.
    """
    written = [attnum for attnum, _ in new.row_codec.write.columns]
    wanted = list(dict.fromkeys([*new.key_attnums, *[attnum for attnum in written if attnum in new.columns]]))
    if any(attnum not in old.columns or old.types[attnum] != new.types[attnum] for attnum in wanted):
        return None
    passed = [
        attnum
        for attnum in wanted
        if attnum not in new.key_attnums
        and attnum not in old.key_position
        and not value_form(old.types[attnum]).is_fixed
    ]
    lines, variables, namespace = _read(old, wanted, passed)
    key, more = new.key_codec.encode_source([variables[attnum] for attnum in new.key_attnums])
    body, row, names = new.row_codec.encode_source(
        [variables.get(attnum, "nothing") for attnum in written], "w", passed
    )
    # A column that was dropped may still be in the layout.
    return _loop(lines, ["nothing = None", *body], key, row, namespace | more | names)


def entry_maker(index: IndexAccess) -> Rewriter | None:
    """Returns the function from rows to their entries; None if the index is partial or has expressions."""
    if index.desc.predicate or 0 in index.attnums:
        return None
    table = index.table
    wanted = list(dict.fromkeys([*index.attnums, *index.include]))
    in_row = [attnum for attnum in index.include if attnum not in table.key_position]
    passed = [a for a in in_row if a not in index.attnums and not value_form(table.types[a]).is_fixed]
    lines, variables, namespace = _read(table, wanted, passed)
    columns = [variables[attnum] for attnum in index.attnums]
    body = [f"body = key[{len(table.prefix)}:]"]
    value = "b''"
    if index.include_codec is not None:
        arguments = [variables[attnum] for attnum in index.include]
        more_lines, value, more = index.include_codec.encode_source(arguments, "iw", passed)
        body += more_lines
        namespace |= more
    short, more = index.unique_codec.encode_source(columns)
    namespace |= more
    if not index.is_unique:
        return _loop(lines, body, f"{short} + body", value, namespace)
    body.append(f"entry = {short}")
    if not index.desc.nulls_not_distinct:
        # Rows with a NULL are never equal: the primary key makes their entries different.
        body += [f"if {' or '.join([f'{name} is None' for name in columns])}:", "    entry += body"]
    return _loop(lines, body, "entry", f"length(len(body)) + body + {value}", namespace | {"length": KEY_LENGTH.pack})


def _read(table: TableAccess, wanted: list[int], passed: list[int]) -> tuple[list[str], dict[int, str], dict[str, Any]]:
    """Returns lines that read columns out of ``key`` and ``value``, their variables, and the names used."""
    in_key = [attnum for attnum in wanted if attnum in table.key_position]
    in_row = [attnum for attnum in wanted if attnum not in table.key_position]
    places = [table.key_position[attnum] for attnum in in_key]
    key_lines, key_values, namespace = table.key_codec.decode_source("key", places, "d")
    lines, values, names = table.row_codec.decode_source("value", in_row, "r", passed)
    return [*key_lines, *lines], dict(zip([*in_key, *in_row], [*key_values, *values])), namespace | names


def _loop(reading: list[str], body: list[str], key: str, value: str, namespace: dict[str, Any]) -> Rewriter:
    guarded: list[str] = []
    if reading:
        guarded = ["try:", *["    " + line for line in reading]]
        guarded += ["except errors as problem:", "    raise corrupt(value, key) from problem"]
    lines = ["new_keys = []", "new_values = []", "add_key = new_keys.append", "add_value = new_values.append"]
    lines.append("for key, value in zip(keys, values):")
    lines += ["    " + line for line in [*guarded, *body, f"add_key({key})", f"add_value({value})"]]
    lines.append("return new_keys, new_values")
    return define_function("rewrite", "keys, values", lines, namespace | GUARD_NAMES)
