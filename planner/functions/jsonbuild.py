"""Making json and jsonb: to_json, row_to_json, json_build_*, json_object, aggregates.

``JsonWriter(type)`` prints a datum of one type as JSON: numbers and booleans bare, dates and
timestamps in ISO form, arrays and rows as arrays and objects, everything else as a string of its text.
json results keep PostgreSQL's spacing; jsonb results are canonical.  PostgreSQL 15 manual: 9.16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from base.errors import error
from base.typeio import IoSettings, text_renderer
from base.typeio.json import parse_jsonb
from base.types import BY_NAME, PgType
from planner.context import ExecContext
from planner.exec.membership import flattener
from planner.functions.aggregates import define_aggregate, list_step, new_list, no_final
from planner.functions.conversion import Printer
from planner.functions.declare import define
from planner.functions.jsonvalues import quote
from planner.functions.registry import STABLE, Aggregate, Registry, SpreadType

_NUMBERS: Final = ("int2", "int4", "int8", "float4", "float8", "numeric")
_ISO_TYPES: Final = ("date", "timestamp", "timestamptz")


class JsonWriter:
    """Prints datums of one type as JSON text."""

    __slots__ = ("elements", "fields", "form", "kind", "printer", "settings", "type", "zoned")

    def __init__(self, pg_type: PgType) -> None:
        self.type = pg_type
        self.kind = _kind_of(pg_type)
        self.printer = Printer(pg_type)
        self.elements: JsonWriter | None = None
        self.form = None
        self.fields: list[tuple[str, JsonWriter]] = []
        self.settings: IoSettings | None = None
        self.zoned: Callable[[Any], str] | None = None
        if self.kind == "array":
            assert pg_type.elem is not None
            self.elements, self.form = JsonWriter(pg_type.elem), flattener(pg_type.elem)
        elif self.kind == "row":
            self.fields = [(name, JsonWriter(field)) for name, field in pg_type.fields]

    def __call__(self, ctx: ExecContext, value: Any, pretty: bool = False) -> str:
        """JSON text of a datum; ``pretty`` breaks lines between the parts of an array or row."""
        if value is None:
            return "null"
        kind = self.kind
        if kind == "json":
            return str(value)
        if kind == "bool":
            return "true" if value else "false"
        if kind == "number":
            return self._number(ctx, value)
        if kind == "array":
            return self._array(ctx, value, pretty)
        if kind == "row":
            return self._row(ctx, value, pretty)
        if kind == "iso":
            return quote(self._iso(ctx, value))
        return quote(self.printer(ctx, value))

    def _number(self, ctx: ExecContext, value: Any) -> str:
        text = self.printer(ctx, value)
        if value.__class__ is int or (value.is_finite() if value.__class__ is Decimal else math.isfinite(value)):
            return text
        return quote(text)

    def _iso(self, ctx: ExecContext, value: Any) -> str:
        settings = ctx.io
        if settings != self.settings or self.zoned is None:
            self.settings = settings
            self.zoned = text_renderer(self.type, IoSettings(timezone=settings.timezone))
        text = self.zoned(value)
        text = text.replace(" ", "T", 1) if self.type.name != "date" else text
        # JSON wants hours and minutes in an offset.
        if self.type.name == "timestamptz" and len(text) > 3 and text[-3] in "+-":
            return text + ":00"
        return text.replace("TBC", " BC") if text.endswith("TBC") else text

    def _array(self, ctx: ExecContext, value: Any, pretty: bool) -> str:
        assert self.elements is not None
        assert self.form is not None
        parts = []
        for item in value:
            parts.append(self._array(ctx, item, False) if self.form.is_nested(item) else self.elements(ctx, item))
        return "[" + (",\n " if pretty else ",").join(parts) + "]"

    def _row(self, ctx: ExecContext, value: Any, pretty: bool) -> str:
        parts = []
        for i, item in enumerate(value):
            if i < len(self.fields):
                name, writer = self.fields[i]
                parts.append(f"{quote(name)}:{writer(ctx, item)}")
            else:
                parts.append(f'"f{i + 1}":{_guess(ctx, item)}')
        return "{" + (",\n " if pretty else ",").join(parts) + "}"


def _kind_of(pg_type: PgType) -> str:
    if pg_type.name in ("json", "jsonb"):
        return "json"
    if pg_type.name == "bool":
        return "bool"
    if pg_type.name in _NUMBERS:
        return "number"
    if pg_type.is_array:
        return "array"
    if pg_type.kind == "c" or pg_type.name == "record":
        return "row"
    return "iso" if pg_type.name in _ISO_TYPES else "text"


_GUESSES: Final[dict[type, str]] = {
    bool: "bool",
    int: "int8",
    float: "float8",
    Decimal: "numeric",
    str: "text",
    bytes: "bytea",
}


def _guess(ctx: ExecContext, value: Any) -> str:
    """A field of a record whose types are not known any more, by its Python class."""
    if value is None:
        return "null"
    name = _GUESSES.get(value.__class__)
    return quote(str(value)) if name is None else JsonWriter(BY_NAME[name])(ctx, value)


Specialized = tuple[Callable[..., Any], str]


def _same(text: str) -> str:
    return text


def writing(finish: Callable[[str], str]) -> Callable[[tuple[PgType, ...], PgType], Specialized]:
    """to_json and its relatives: one value, optionally with a flag for line breaks."""

    def specialize(types: tuple[PgType, ...], result: PgType) -> Specialized:
        writer = JsonWriter(types[0])
        return (lambda ctx, value, breaks=False: finish(writer(ctx, value, breaks))), ""

    return specialize


# --- json_build_* -------------------------------------------------------------------------


class KeyWriter:
    """Prints object keys; json takes any scalar, as its text."""

    __slots__ = ("printer", "type")

    def __init__(self, pg_type: PgType) -> None:
        self.type = pg_type
        self.printer = Printer(pg_type)

    def __call__(self, ctx: ExecContext, value: Any) -> str:
        if value is None:
            raise error("22004", "field name must not be null")
        if self.type.is_array or self.type.kind == "c" or self.type.name in ("json", "jsonb", "record"):
            raise error("22023", "key value must be scalar, not array, composite, or json")
        if self.type.name == "bool":
            return "true" if value else "false"
        return self.printer(ctx, value)


def building_object(is_binary: bool) -> Callable[[tuple[PgType, ...], PgType], Specialized]:
    """json_build_object."""
    name = "jsonb_build_object" if is_binary else "json_build_object"

    def specialize(types: tuple[PgType, ...], result: PgType) -> Specialized:
        keys = [KeyWriter(pg_type) for pg_type in types[::2]]
        writers = [JsonWriter(pg_type) for pg_type in types[1::2]]

        def build(ctx: ExecContext, *values: Any) -> str:
            if len(values) % 2:
                hint = f"The arguments of {name}() must consist of alternating keys and values."
                raise error("22023", "argument list must have even number of elements", hint=hint)
            parts = []
            for i, (key, writer) in enumerate(zip(keys, writers)):
                if values[2 * i] is None:
                    where = (
                        f"argument {2 * i + 1}: key must not be null"
                        if is_binary
                        else f"argument {2 * i + 1} cannot be null"
                    )
                    raise error(
                        "22004" if not is_binary else "22023",
                        where,
                        hint=None if is_binary else "Object keys should be text.",
                    )
                parts.append(f"{quote(key(ctx, values[2 * i]))} : {writer(ctx, values[2 * i + 1])}")
            text = "{" + ", ".join(parts) + "}"
            return parse_jsonb(text) if is_binary else text

        return build, ""

    return _maybe_spread(specialize)


def building_array(is_binary: bool) -> Callable[[tuple[PgType, ...], PgType], Specialized]:
    """json_build_array."""

    def specialize(types: tuple[PgType, ...], result: PgType) -> Specialized:
        writers = [JsonWriter(pg_type) for pg_type in types]

        def build(ctx: ExecContext, *values: Any) -> str:
            text = "[" + ", ".join([writer(ctx, value) for writer, value in zip(writers, values)]) + "]"
            return parse_jsonb(text) if is_binary else text

        return build, ""

    return _maybe_spread(specialize)


def _maybe_spread(
    single: Callable[[tuple[PgType, ...], PgType], Specialized],
) -> Callable[[tuple[PgType, ...], PgType], Specialized]:
    """Adds the VARIADIC array form."""

    def specialize(types: tuple[PgType, ...], result: PgType) -> Specialized:
        last = types[-1] if types else None
        if not isinstance(last, SpreadType):
            return single(types, result)
        element = last.elem
        assert element is not None
        form = flattener(element)

        def spread(ctx: ExecContext, values: Any) -> Any:
            if values is None:
                return None
            items = form.flat(values)
            return single((element,) * len(items), result)[0](ctx, *items)

        return spread, ""

    return specialize


# --- json_object ----------------------------------------------------------------------------


def _pairs_of(keys: Sequence[Any]) -> list[tuple[str | None, str | None]]:
    """Alternating keys and values, or rows of two."""
    if keys and keys[0].__class__ is tuple:
        if any(len(row) != 2 for row in keys):
            raise error("2202E", "array must have two columns")
        return [(row[0], row[1]) for row in keys]
    if len(keys) % 2:
        raise error("2202E", "array must have even number of elements")
    return [(keys[i], keys[i + 1]) for i in range(0, len(keys), 2)]


def _object_text(pairs: Sequence[tuple[str | None, str | None]]) -> str:
    parts = []
    for key, value in pairs:
        if key is None:
            raise error("22004", "null value not allowed for object key")
        parts.append(f"{quote(key)} : {'null' if value is None else quote(value)}")
    return "{" + ", ".join(parts) + "}"


def json_object(keys: tuple[str | None, ...]) -> str:
    return _object_text(_pairs_of(keys))


def json_object_two(keys: tuple[str | None, ...], values: tuple[str | None, ...]) -> str:
    if len(keys) != len(values):
        raise error("2202E", "mismatched array dimensions")
    return _object_text(list(zip(keys, values)))


def jsonb_object(keys: tuple[str | None, ...]) -> str:
    return parse_jsonb(json_object(keys))


def jsonb_object_two(keys: tuple[str | None, ...], values: tuple[str | None, ...]) -> str:
    return parse_jsonb(json_object_two(keys, values))


# --- aggregates -------------------------------------------------------------------------------


def _aggregate_array(entry: Aggregate, types: tuple[PgType, ...], result: PgType) -> Aggregate:
    """json_agg, jsonb_agg."""
    writer = JsonWriter(types[0])
    is_binary = entry.name == "jsonb_agg"
    # json_agg breaks lines between rows and arrays.
    separator = ", \n " if writer.kind in ("row", "array") else ", "

    def step(ctx: ExecContext, state: list[Any], value: Any) -> list[Any]:
        state.append(writer(ctx, value))
        return state

    def final(ctx: ExecContext, state: list[Any]) -> str | None:
        if not state:
            return None
        text = "[" + separator.join(state) + "]"
        return parse_jsonb(text) if is_binary else text

    return Aggregate(entry.name, types, result, new_list, step, final, strict=False, needs_context=True)


def _aggregate_object(entry: Aggregate, types: tuple[PgType, ...], result: PgType) -> Aggregate:
    """json_object_agg, jsonb_object_agg."""
    key, writer = KeyWriter(types[0]), JsonWriter(types[1])
    is_binary = entry.name == "jsonb_object_agg"

    def step(ctx: ExecContext, state: list[Any], name: Any, value: Any) -> list[Any]:
        if name is None:
            raise error("22004" if is_binary else "22023", "field name must not be null")
        state.append(f"{quote(key(ctx, name))} : {writer(ctx, value)}")
        return state

    def final(ctx: ExecContext, state: list[Any]) -> str | None:
        if not state:
            return None
        text = "{ " + ", ".join(state) + " }"
        return parse_jsonb(text) if is_binary else text

    return Aggregate(entry.name, types, result, new_list, step, final, strict=False, needs_context=True)


def register(registry: Registry) -> None:
    """Adds this family."""

    def stable(signature: str, specialize: Callable[..., Any], strict: bool = True) -> None:
        define(registry, signature, specialize=specialize, strict=strict, volatility=STABLE, needs_context=True)

    for name in ("json", "jsonb"):
        is_binary = name == "jsonb"
        stable(f"to_{name}(anyelement) {name}", writing(parse_jsonb if is_binary else _same))
        stable(f"{name}_build_object(variadic any) {name}", building_object(is_binary), False)
        stable(f"{name}_build_array(variadic any) {name}", building_array(is_binary), False)
        define(registry, f"{name}_build_object() {name}", lambda: "{}", strict=False)
        define(registry, f"{name}_build_array() {name}", lambda: "[]", strict=False)
        define_aggregate(
            registry,
            f"{name}_agg(anyelement) {name}",
            new_list,
            list_step,
            no_final,
            strict=False,
            specialize=_aggregate_array,
        )
        define_aggregate(
            registry,
            f"{name}_object_agg(any, any) {name}",
            new_list,
            list_step,
            no_final,
            strict=False,
            specialize=_aggregate_object,
        )
    for signature in (
        "row_to_json(record) json",
        "row_to_json(record, bool) json",
        "array_to_json(anyarray) json",
        "array_to_json(anyarray, bool) json",
    ):
        stable(signature, writing(_same))
    define(registry, "json_object(text[]) json", json_object)
    define(registry, "json_object(text[], text[]) json", json_object_two)
    define(registry, "jsonb_object(text[]) jsonb", jsonb_object)
    define(registry, "jsonb_object(text[], text[]) jsonb", jsonb_object_two)
