"""generate_series over integers, numerics and timestamps.  PostgreSQL 15 manual: 9.25.

Results are iterators: a series of 10^12 numbers costs what is read of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from base.errors import error
from planner.functions import numeric
from planner.functions.declare import define
from planner.functions.registry import Registry


def _zero_step() -> Exception:
    return error("22023", "step size cannot equal zero")


def integers(start: int, stop: int, step: int = 1) -> range:
    """Stops before it would leave the type, which a range does anyway."""
    if step == 0:
        raise _zero_step()
    return range(start, stop + (1 if step > 0 else -1), step)


def numerics(start: Decimal, stop: Decimal, step: Decimal = numeric.ONE) -> Iterator[Decimal]:
    for word, value in (("start", start), ("stop", stop), ("step size", step)):
        if value.is_nan():
            raise error("22023", f"{word} value cannot be NaN" if word != "step size" else "step size cannot be NaN")
        if value.is_infinite():
            raise error(
                "22023", f"{word} value cannot be infinity" if word != "step size" else "step size cannot be infinity"
            )
    if not step:
        raise _zero_step()
    return _count(start, stop, step)


def _count(start: Decimal, stop: Decimal, step: Decimal) -> Iterator[Decimal]:
    value, up = start, step > 0
    while (value <= stop) if up else (value >= stop):
        yield value
        value = numeric.add(value, step)


def register(registry: Registry) -> None:
    """Adds this family; series of timestamps are in ``datetime``."""
    for name in ("int4", "int8"):
        define(registry, f"generate_series({name}, {name}) setof {name}", integers)
        define(registry, f"generate_series({name}, {name}, {name}) setof {name}", integers)
    define(registry, "generate_series(numeric, numeric) setof numeric", numerics)
    define(registry, "generate_series(numeric, numeric, numeric) setof numeric", numerics)
