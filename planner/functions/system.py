"""Session information, settings, sequences and the like: what a function asks of its ExecContext.

Functions over the catalog (pg_get_*, to_regclass, has_*_privilege..) are added to the same
registry by ``sql``, with the same ``declare.define``.  PostgreSQL 15 manual: 9.26, 9.27, 9.17.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from base.errors import error
from base.typeio import type_name
from base.types import BY_OID, PgType
from planner.context import ExecContext, NeedsAwait
from planner.functions.declare import define
from planner.functions.registry import STABLE, VOLATILE, Registry

SLEEP_MAX_SECONDS: Final = 1e9


def current_setting(ctx: ExecContext, name: str, missing_ok: bool = False) -> str | None:
    value = ctx.setting(name)
    if value is None and not missing_ok:
        raise error("42704", f'unrecognized configuration parameter "{name}"')
    return value


def set_config(ctx: ExecContext, name: str | None, value: str | None, is_local: bool | None) -> str:
    if name is None:
        raise error("22004", "SET requires parameter name")
    return ctx.set_setting(name, value or "", bool(is_local))


def set_seed(ctx: ExecContext, seed: float) -> str:
    if not -1 <= seed <= 1:
        raise error("22023", f"setseed parameter {seed:g} is out of allowed range [-1,1]")
    ctx.set_seed(seed)
    return ""


def current_schema(ctx: ExecContext) -> str | None:
    return ctx.search_path[0] if ctx.search_path else None


def current_schemas(ctx: ExecContext, include_implicit: bool) -> tuple[str, ...]:
    path = tuple(ctx.search_path)
    return ("pg_catalog", *path) if include_implicit and "pg_catalog" not in path else path


def typeof_specialized(types: tuple[PgType, ...], result: PgType) -> tuple[Callable[..., Any], str]:
    """pg_typeof: the regtype, an OID, of the argument's type."""
    oid = types[0].oid
    return (lambda value: oid), ""


def format_type(ctx: ExecContext, oid: int | None, typmod: int | None) -> str | None:
    """The SQL name of a type; ``???`` for OIDs that are none."""
    if oid is None:
        return None
    found = BY_OID.get(oid) or ctx.type_by_oid(oid)
    if found is None:
        return "-" if oid == 0 else "???"
    return type_name(found, -1 if typmod is None else typmod)


def pg_sleep(ctx: ExecContext, seconds: float) -> str:
    """Asks the executor to wait; evaluated again afterwards, it finds that the time has passed."""
    if seconds != seconds or seconds <= 0:  # NaN
        return ""
    waiting = ctx.sleep(min(seconds, SLEEP_MAX_SECONDS))
    if waiting is not None:
        raise NeedsAwait(waiting)
    return ""


def _size_pretty(size: int) -> str:
    """Half away from zero at each unit, as pg_size_pretty."""
    limit = 10 * 1024
    if abs(size) < limit:
        return f"{size} bytes"
    size >>= 9
    for unit in ("kB", "MB", "GB", "TB"):
        if abs(size) < limit * 2 - 1 or unit == "TB":
            return f"{_half_round(size)} {unit}"
        size >>= 10
    return f"{_half_round(size)} PB"


def _half_round(value: int) -> int:
    return (value + 1) // 2 if value >= 0 else -((1 - value) // 2)


_UNITS: Final = {"bytes": 0, "b": 0, "kb": 10, "mb": 20, "gb": 30, "tb": 40, "pb": 50}


def size_bytes(text: str) -> int:
    """pg_size_bytes: ``1.5 GB`` in bytes."""
    compact = text.strip()
    at = 0
    while at < len(compact) and (compact[at].isdigit() or compact[at] in "+-.eE"):
        at += 1
    number, unit = compact[:at], compact[at:].strip().lower()
    if unit and unit not in _UNITS:
        raise error(
            "22023",
            f'invalid size: "{text}"',
            detail=f'Invalid size unit: "{compact[at:].strip()}".',
            hint='Valid units are "bytes", "B", "kB", "MB", "GB", "TB", and "PB".',
        )
    try:
        amount = Decimal(number)
    except ArithmeticError:
        raise error("22023", f'invalid size: "{text}"') from None
    return round(amount * (1 << _UNITS.get(unit, 0)))


def _register_session(registry: Registry) -> None:
    def session(signature: str, impl: Callable[..., Any]) -> None:
        define(registry, signature, impl, volatility=STABLE, needs_context=True)

    session("current_schema() name", current_schema)
    session("current_schemas(bool) name[]", current_schemas)
    session("current_database() name", lambda ctx: ctx.database)
    session("current_catalog() name", lambda ctx: ctx.database)
    session("current_user() name", lambda ctx: ctx.user)
    session("current_role() name", lambda ctx: ctx.user)
    session("user() name", lambda ctx: ctx.user)
    session("session_user() name", lambda ctx: ctx.session_user)
    session("current_setting(text) text", current_setting)
    session("current_setting(text, bool) text", current_setting)
    define(
        registry, "set_config(text, text, bool) text", set_config, strict=False, volatility=VOLATILE, needs_context=True
    )
    define(registry, "format_type(oid, int4) text", format_type, strict=False, volatility=STABLE, needs_context=True)
    define(registry, "pg_typeof(any) regtype", specialize=typeof_specialized, strict=False, volatility=STABLE)
    define(registry, "getdatabaseencoding() name", lambda: "UTF8", volatility=STABLE)
    define(registry, "pg_client_encoding() name", lambda: "UTF8", volatility=STABLE)
    define(
        registry,
        "pg_encoding_to_char(int4) name",
        lambda code: "UTF8" if code == 6 else "SQL_ASCII" if code == 0 else "",
        volatility=STABLE,
    )
    define(
        registry,
        "pg_char_to_encoding(name) int4",
        lambda name: {"UTF8": 6, "SQL_ASCII": 0}.get(name.upper().replace("-", ""), -1),
        volatility=STABLE,
    )
    define(registry, "pg_size_pretty(int8) text", _size_pretty)
    define(registry, "pg_size_pretty(numeric) text", lambda size: _size_pretty(int(size)))
    define(registry, "pg_size_bytes(text) int8", size_bytes)


def _register_effects(registry: Registry) -> None:
    def effect(signature: str, impl: Callable[..., Any]) -> None:
        define(registry, signature, impl, volatility=VOLATILE, needs_context=True)

    effect("setseed(float8) void", set_seed)
    effect("pg_sleep(float8) void", pg_sleep)
    effect("nextval(regclass) int8", lambda ctx, oid: ctx.nextval(oid))
    effect("currval(regclass) int8", lambda ctx, oid: ctx.currval(oid))
    effect("lastval() int8", lambda ctx: ctx.lastval())
    effect("setval(regclass, int8) int8", lambda ctx, oid, value: ctx.setval(oid, value, True))
    effect("setval(regclass, int8, bool) int8", lambda ctx, oid, value, called: ctx.setval(oid, value, called))


def register(registry: Registry) -> None:
    """Adds this family."""
    _register_session(registry)
    _register_effects(registry)
