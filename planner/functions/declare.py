"""How the families declare their functions: one line each, in the manual's notation.

    define(registry, "lpad(text, int4, text) text", lpad)
    define(registry, "concat(variadic any) text", strict=False, specialize=...)
    define(registry, "json_each(json) setof record(key text, value json)", json_each)
    define_operator(registry, "+", "int4pl(int4, int4) int4", inline="...")

Types are pg_type names; ``int4[]`` is an array.  Where only an ``inline`` template is given
the callable form is made from it, so the two cannot differ.  A template is a Python
expression over ``{0}``, ``{1}``.. and the names of ``INLINE_NAMES``; it may use ``_t`` as scratch
for a value that it reads at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from base.types import BY_NAME, PgType
from planner.functions.registry import IMMUTABLE, Function, Registry, Specializer

INLINE_NAMES: Final[dict[str, Any]] = {}
"""What inline templates may name besides Python's builtins; families add to it when imported."""

OPERATOR_SYMBOLS: Final[dict[str, str]] = {}
"""Function name -> operator symbol, of functions that stand behind an operator."""

_SIGNATURE: Final = re.compile(r"^(\w+)\((.*?)\) (setof )?(.+)$")


class Signature(NamedTuple):
    """A parsed declaration."""

    name: str
    arg_types: tuple[PgType, ...]
    result: PgType
    variadic: bool
    returns_set: bool
    out_fields: tuple[tuple[str, PgType], ...]


def type_named(name: str) -> PgType:
    """Returns a built-in type by pg_type name, ``[]`` for its array."""
    if name.endswith("[]"):
        return BY_NAME["_" + name[:-2]]
    return BY_NAME[name]


def _fields(text: str) -> tuple[tuple[str, PgType], ...]:
    pairs = [item.strip().split(" ") for item in text.split(",")]
    return tuple((name, type_named(type_name)) for name, type_name in pairs)


def parse_signature(text: str) -> Signature:
    """Parses ``name(type, ..) [setof] type`` or ``.. record(field type, ..)``."""
    match = _SIGNATURE.match(text)
    assert match, f"bad signature {text!r}"
    name, args, set_of, result = match.groups()
    names = [arg.strip() for arg in args.split(",")] if args.strip() else []
    variadic = bool(names) and names[-1].startswith("variadic ")
    if variadic:
        names[-1] = names[-1].removeprefix("variadic ")
    fields: tuple[tuple[str, PgType], ...] = ()
    if result.startswith("record("):
        fields, result = _fields(result[7:-1]), "record"
    types = tuple(type_named(arg) for arg in names)
    return Signature(name, types, type_named(result), variadic, bool(set_of), fields)


def from_template(template: str, width: int) -> Callable[..., Any]:
    """Makes the callable form of an inline template."""
    names = [f"a{i}" for i in range(width)]
    source = f"lambda {', '.join(names)}: {template.format(*names)}"
    compiled = eval(source, INLINE_NAMES)  # noqa: S307  # the template is ours
    assert callable(compiled)
    return compiled  # type: ignore[no-any-return]


def define(
    registry: Registry,
    signature: str,
    impl: Callable[..., Any] | None = None,
    *,
    inline: str = "",
    strict: bool = True,
    volatility: str = IMMUTABLE,
    needs_context: bool = False,
    specialize: Specializer | None = None,
    cost: float = 1.0,
    oid: int = 0,
) -> Function:
    """Adds one overload and returns it."""
    function = make(signature, impl, inline=inline, strict=strict, volatility=volatility, needs_context=needs_context, specialize=specialize, cost=cost, oid=oid)  # fmt: skip
    return registry.add(function)


def make(
    signature: str,
    impl: Callable[..., Any] | None = None,
    *,
    inline: str = "",
    strict: bool = True,
    volatility: str = IMMUTABLE,
    needs_context: bool = False,
    specialize: Specializer | None = None,
    cost: float = 1.0,
    oid: int = 0,
) -> Function:
    """Builds a Function from a declaration without adding it anywhere."""
    name, arg_types, result, variadic, returns_set, out_fields = parse_signature(signature)
    if impl is None:
        impl = from_template(inline, len(arg_types)) if inline else _Unspecialized(name)
    return Function(
        name,
        arg_types,
        result,
        impl,
        oid=oid,
        strict=strict,
        volatility=volatility,
        variadic=variadic,
        returns_set=returns_set,
        needs_context=needs_context,
        inline=inline,
        out_fields=out_fields,
        cost=cost,
        specialize=specialize,
    )


class _Unspecialized:
    """Stands for the impl of a function that must be specialized first."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any) -> Any:
        raise AssertionError(f"{self.name} was called without being specialized: {args!r}")


def define_operator(
    registry: Registry,
    symbol: str,
    signature: str,
    impl: Callable[..., Any] | None = None,
    *,
    inline: str = "",
    volatility: str = IMMUTABLE,
    needs_context: bool = False,
    strict: bool = True,
    specialize: Specializer | None = None,
    cost: float = 1.0,
) -> Function:
    """Adds an operator and, under its function name, the function behind it."""
    function = define(registry, signature, impl, inline=inline, volatility=volatility, needs_context=needs_context, strict=strict, specialize=specialize, cost=cost)  # fmt: skip
    OPERATOR_SYMBOLS[function.name] = symbol
    return registry.add_operator(symbol, function)


def overload(registry: Registry, names: str, impl: Callable[..., Any] | None = None, **options: Any) -> None:
    """Adds one implementation under several signatures separated by ``;``."""
    for signature in names.split(";"):
        define(registry, signature.strip(), impl, **options)
