"""Functions that print values of any type: concat, concat_ws, format, array_to_string, text || any.

They are specialized to the types of their arguments.  PostgreSQL 15 manual: 9.4, 9.4.1, 9.19.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from base.errors import error
from base.types import PgType
from planner.context import ExecContext
from planner.exec.membership import flattener
from planner.functions.conversion import Printer, cast_printer
from planner.functions.declare import define, define_operator
from planner.functions.registry import STABLE, Registry, SpreadType
from planner.functions.strings import check_length, quote_ident, quote_literal


def printers_of(types: Sequence[PgType]) -> list[Printer]:
    return [Printer(pg_type) for pg_type in types]


def joined(parts: Iterator[str] | list[str], separator: str = "") -> str:
    pieces = list(parts)
    check_length(sum(map(len, pieces)) + len(separator) * len(pieces))
    return separator.join(pieces)


def specialize_concat(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    printers = printers_of(types)

    def concat(ctx: ExecContext, *values: Any) -> str:
        return joined([printer(ctx, value) for printer, value in zip(printers, values) if value is not None])

    return concat, ""


def specialize_concat_ws(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    printers = printers_of(types[1:])

    def concat_ws(ctx: ExecContext, separator: str | None, *values: Any) -> str | None:
        if separator is None:
            return None
        return joined([printer(ctx, value) for printer, value in zip(printers, values) if value is not None], separator)

    return concat_ws, ""


def over_array(single: Callable[[tuple[PgType, ...], PgType], tuple[Callable[..., Any], str]]) -> Callable[..., Any]:
    """The form for VARIADIC array: the elements stand for the arguments (a NULL array gives NULL)."""

    def specialize(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
        array = types[-1]
        assert array.elem is not None
        element, form = array.elem, flattener(array.elem)

        def spread(ctx: ExecContext, *values: Any) -> Any:
            if values[-1] is None:
                return None
            items = form.flat(values[-1])
            impl, _ = single(types[:-1] + (element,) * len(items), result)
            return impl(ctx, *values[:-1], *items)

        return spread, ""

    return specialize


# --- format() ---------------------------------------------------------------------------


class _Directive:
    """``%[position$][-][width | *  | *n$]type``."""

    __slots__ = ("is_left", "kind", "position", "width", "width_position")

    def __init__(self) -> None:
        self.position = 0
        self.is_left = False
        self.width = 0
        self.width_position = -1
        """-1 none, 0 the next argument, else a numbered one."""
        self.kind = ""


class Format:
    """format() for given argument types."""

    def __init__(self, types: Sequence[PgType]) -> None:
        self.types = types
        self.printers = printers_of(types)

    def __call__(self, ctx: ExecContext, template: str | None, *values: Any) -> str | None:
        if template is None:
            return None
        out: list[str] = []
        at, used = 0, 0
        while True:
            percent = template.find("%", at)
            if percent < 0:
                out.append(template[at:])
                return joined(out)
            out.append(template[at:percent])
            if template.startswith("%%", percent):
                out.append("%")
                at = percent + 2
                continue
            directive, at = parse_directive(template, percent + 1)
            width = directive.width
            if directive.width_position >= 0:
                used = directive.width_position or used + 1
                width = self._width(used, values)
            used = directive.position or used + 1
            out.append(self._formatted(ctx, directive, used, width, values))

    def _argument(self, number: int, values: Sequence[Any]) -> Any:
        if number > len(values):
            raise error("22023", "too few arguments for format()")
        return values[number - 1]

    def _width(self, number: int, values: Sequence[Any]) -> int:
        value = self._argument(number, values)
        width = 0 if value is None else int(value)
        check_length(abs(width))
        return width

    def _formatted(
        self, ctx: ExecContext, directive: _Directive, number: int, width: int, values: Sequence[Any]
    ) -> str:
        value = self._argument(number, values)
        text = None if value is None else self.printers[number - 1](ctx, value)
        if directive.kind == "I":
            if text is None:
                raise error("22004", "null values cannot be formatted as an SQL identifier")
            shown = quote_ident(text)
        elif directive.kind == "L":
            shown = "NULL" if text is None else quote_literal(text)
        else:
            shown = text or ""
        is_left = directive.is_left or width < 0
        return shown.ljust(abs(width)) if is_left else shown.rjust(width)


def _digits(template: str, at: int) -> tuple[int | None, int]:
    start = at
    while at < len(template) and template[at].isdigit() and template[at].isascii():
        at += 1
    if at == start:
        return None, at
    number = int(template[start:at])
    if number > 2**31 - 1:
        raise error("22003", "number is out of range")
    return number, at


def _need(template: str, at: int) -> str:
    if at >= len(template):
        raise error("22023", "unterminated format() type specifier", hint='For a single "%" use "%%".')
    return template[at]


def parse_directive(template: str, at: int) -> tuple[_Directive, int]:
    """Parses what follows a percent sign; returns the directive and where the text goes on."""
    directive = _Directive()
    _need(template, at)
    number, after = _digits(template, at)
    if number is not None and _need(template, after) == "$":
        if number == 0:
            raise error("22023", "format specifies argument 0, but arguments are numbered from 1")
        directive.position = number
        at = after + 1
        number, after = None, at
    if number is not None and template[at] != "0":
        directive.width, at = number, after
    else:
        while _need(template, at) == "-":
            directive.is_left = True
            at += 1
        at = _parse_width(directive, template, at)
    kind = _need(template, at)
    if kind not in "sIL":
        raise error("22023", f'unrecognized format() type specifier "{kind}"', hint='For a single "%" use "%%".')
    directive.kind = kind
    return directive, at + 1


def _parse_width(directive: _Directive, template: str, at: int) -> int:
    if template[at] != "*":
        number, at = _digits(template, at)
        directive.width = number or 0
        check_length(directive.width)
        return at
    number, after = _digits(template, at + 1)
    directive.width_position = 0
    if number is None:
        return at + 1
    if _need(template, after) != "$":
        raise error("22023", 'width argument position must be ended by "$"')
    if number == 0:
        raise error("22023", "format specifies argument 0, but arguments are numbered from 1")
    directive.width_position = number
    return after + 1


def specialize_format(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    return Format(types[1:]), ""


# --- arrays and || ------------------------------------------------------------------------


def specialize_array_to_string(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    array = types[0]
    assert array.elem is not None
    printer, form = Printer(array.elem), flattener(array.elem)

    def array_to_string(
        ctx: ExecContext, values: Any, delimiter: str | None, null_text: str | None = None
    ) -> str | None:
        if values is None or delimiter is None:
            return None
        parts: list[str] = []
        for value in form.flat(values):
            if value is not None:
                parts.append(printer(ctx, value))
            elif null_text is not None:
                parts.append(null_text)
        return joined(parts, delimiter)

    return array_to_string, ""


def specialize_text_any(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    printer = cast_printer(types[1])
    return (lambda ctx, text, value: text + printer(ctx, value)), ""


def specialize_any_text(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    printer = cast_printer(types[0])
    return (lambda ctx, value, text: printer(ctx, value) + text), ""


def specialize_quote(quote: Callable[[str], str]) -> Callable[..., Any]:
    """quote_literal(anyelement): of the value's text."""

    def specialize(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
        printer = cast_printer(types[0])
        return (lambda ctx, value: "NULL" if value is None else quote(printer(ctx, value))), ""

    return specialize


def register(registry: Registry) -> None:
    """Adds this family."""

    def stable(signature: str, specialize: Callable[..., Any], strict: bool = False) -> None:
        define(registry, signature, specialize=specialize, strict=strict, volatility=STABLE, needs_context=True)

    stable("concat(variadic any) text", choose(specialize_concat))
    stable("concat_ws(text, variadic any) text", choose(specialize_concat_ws))
    stable("format(text) text", specialize_format)
    stable("format(text, variadic any) text", choose(specialize_format))
    stable("array_to_string(anyarray, text) text", specialize_array_to_string)
    stable("array_to_string(anyarray, text, text) text", specialize_array_to_string)
    stable("quote_literal(anyelement) text", specialize_quote(quote_literal), True)
    stable("quote_nullable(anyelement) text", specialize_quote(quote_literal))
    define_operator(
        registry, "||", "textanycat(text, anynonarray) text", specialize=specialize_text_any, volatility=STABLE, needs_context=True
    )  # fmt: skip
    define_operator(
        registry, "||", "anytextcat(anynonarray, text) text", specialize=specialize_any_text, volatility=STABLE, needs_context=True
    )  # fmt: skip


def choose(single: Callable[..., Any]) -> Callable[..., Any]:
    """Specializes to separate arguments, or to a VARIADIC array (the last type is then a SpreadType)."""
    spread = over_array(single)

    def specialize(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
        if types and isinstance(types[-1], SpreadType):
            made: tuple[Callable[..., Any], str] = spread((*types[:-1], types[-1].array), result)
            return made
        found: tuple[Callable[..., Any], str] = single(types, result)
        return found

    return specialize
