"""Rows from JSON: json_populate_record(set), json_to_record(set).  PostgreSQL 15 manual: 9.16, "JSON to record".

A column definition list (``AS t(a int, b text)``) is known only to the binder: it asks ``to_record_function`` for the
function with these columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from base.errors import error
from base.types import BY_NAME, RECORD, PgType
from planner.context import ExecContext
from planner.functions.conversion import Reader
from planner.functions.declare import define
from planner.functions.jsonvalues import as_text, decode, encode, items, kind, members, piece
from planner.functions.registry import STABLE, Function, Registry

Fields = Sequence[tuple[str, PgType]]


class JsonReader:
    """Reads a piece of JSON text as a datum of one type."""

    __slots__ = ("elements", "fields", "reader", "type")

    def __init__(self, pg_type: PgType) -> None:
        self.type = pg_type
        self.reader: Reader | None = None
        self.elements: JsonReader | None = None
        self.fields: RowReader | None = None
        if pg_type.is_array and pg_type.elem is not None:
            self.elements = JsonReader(pg_type.elem)
        elif pg_type.kind == "c":
            self.fields = RowReader(pg_type.fields)
        elif pg_type.name not in ("json", "jsonb"):
            self.reader = Reader(pg_type)

    def __call__(self, ctx: ExecContext, text: str) -> Any:
        if self.type.name == "json":
            return text
        if text == "null":
            return None
        if self.elements is not None and kind(text) == "array":
            return self._array(ctx, text)
        if self.fields is not None and kind(text) == "object":
            return self.fields(ctx, text, None)
        if self.reader is None:
            return encode(decode(text)) if self.type.name == "jsonb" else Reader(self.type)(ctx, as_text(text) or "")
        shown = as_text(text)
        assert shown is not None
        return self.reader(ctx, shown)

    def _array(self, ctx: ExecContext, text: str) -> tuple[Any, ...]:
        """JSON arrays inside are further dimensions, unless the elements are JSON themselves."""
        assert self.elements is not None
        out: list[Any] = []
        is_json = self.elements.type.name in ("json", "jsonb")
        for raw in items(text) or ():
            item = piece(raw)
            nested = kind(item) == "array" and not is_json
            out.append(self._array(ctx, item) if nested else self.elements(ctx, item))
        return tuple(out)


class RowReader:
    """Reads an object as a row; what it does not have stays as in ``base``, or NULL."""

    __slots__ = ("readers",)

    def __init__(self, fields: Fields) -> None:
        self.readers = [(name, JsonReader(pg_type)) for name, pg_type in fields]

    def __call__(self, ctx: ExecContext, document: str, base: tuple[Any, ...] | None) -> tuple[Any, ...]:
        found = members(document)
        if found is None:
            raise error(
                "22023",
                f"cannot call json_populate_record on {'an array' if kind(document) == 'array' else 'a scalar'}",
            )
        row: list[Any] = []
        for i, (name, reader) in enumerate(self.readers):
            raw = found.get(name)
            row.append((None if base is None else base[i]) if raw is None else reader(ctx, piece(raw)))
        return tuple(row)


def _rows(
    ctx: ExecContext, reader: RowReader, document: str, base: tuple[Any, ...] | None, function: str
) -> Iterator[tuple[Any, ...]]:
    found = items(document)
    if found is None:
        raise error("22023", f"cannot call {function} on {'an object' if kind(document) == 'object' else 'a scalar'}")
    for raw in found:
        text = piece(raw)
        if kind(text) != "object":
            raise error("22023", f"argument of {function} must be an array of objects")
        yield reader(ctx, text, base)


def specialize_populate(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    reader = _row_reader(types[0], "json_populate_record")

    def populate(ctx: ExecContext, base: tuple[Any, ...] | None, document: str | None) -> Any:
        return base if document is None else reader(ctx, document, base)

    return populate, ""


def specialize_populate_set(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    reader = _row_reader(types[0], "json_populate_recordset")

    def populate(ctx: ExecContext, base: tuple[Any, ...] | None, document: str | None) -> Any:
        return () if document is None else _rows(ctx, reader, document, base, "json_populate_recordset")

    return populate, ""


def _row_reader(pg_type: PgType, function: str) -> RowReader:
    if not pg_type.fields:
        raise error("42804", f"first argument of {function} must be a row type")
    return RowReader(pg_type.fields)


def to_record_function(name: str, fields: Fields) -> Function:
    """``json_to_record``, ``json_to_recordset`` (or jsonb) with the columns of an AS clause."""
    reader = RowReader(fields)
    returns_set = name.endswith("recordset")

    def one(ctx: ExecContext, document: str) -> Any:
        return reader(ctx, document, None)

    def several(ctx: ExecContext, document: str) -> Any:
        return _rows(ctx, reader, document, None, name)

    argument = BY_NAME[name.partition("_")[0]]
    return Function(
        name, (argument,), RECORD, several if returns_set else one, volatility=STABLE, needs_context=True, returns_set=returns_set, out_fields=tuple(fields)
    )  # fmt: skip


def _needs_columns(*args: Any) -> Any:
    raise error("42601", 'a column definition list is required for functions returning "record"')


def register(registry: Registry) -> None:
    """Adds this family."""
    for name in ("json", "jsonb"):
        define(
            registry, f"{name}_populate_record(anyelement, {name}) anyelement", specialize=specialize_populate, strict=False,
            volatility=STABLE, needs_context=True,
        )  # fmt: skip
        define(
            registry, f"{name}_populate_recordset(anyelement, {name}) setof anyelement", specialize=specialize_populate_set, strict=False,
            volatility=STABLE, needs_context=True,
        )  # fmt: skip
        define(registry, f"{name}_to_record({name}) record", _needs_columns, volatility=STABLE)
        define(registry, f"{name}_to_recordset({name}) setof record", _needs_columns, volatility=STABLE)
