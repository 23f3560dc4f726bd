"""Statistical aggregates: variance, standard deviation, covariance, regression.

Over integers and numerics they are exact and have the scale of a numeric division; over floats they follow
Youngs and Cramer's updates, as float.c does, so that their last digits agree.  PostgreSQL 15 manual: 9.21, table 9.60.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from planner.functions import floats, numeric
from planner.functions.aggregates import add_plain, count_back, count_step, define_aggregate, itself, zero
from planner.functions.arithmetic import BOUNDS
from planner.functions.registry import Registry

# --- variance ----------------------------------------------------------------------


def moments() -> list[Any]:
    """[N, sum of x, sum of x squared], exact."""
    return [0, 0, 0]


def moments_step(state: list[Any], value: int) -> list[Any]:
    state[0] += 1
    state[1] += value
    state[2] += value * value
    return state


def moments_back(state: list[Any], value: int) -> list[Any]:
    state[0] -= 1
    state[1] -= value
    state[2] -= value * value
    return state


def moments_combine(left: list[Any], right: list[Any]) -> list[Any]:
    return [left[0] + right[0], left[1] + right[1], left[2] + right[2]]


def numeric_moments() -> list[Any]:
    return [0, numeric.ZERO, numeric.ZERO]


def numeric_moments_step(state: list[Any], value: Decimal) -> list[Any]:
    state[0] += 1
    state[1] = numeric.EXACT.add(state[1], value)
    state[2] = numeric.EXACT.fma(value, value, state[2])
    return state


def numeric_moments_combine(left: list[Any], right: list[Any]) -> list[Any]:
    return [left[0] + right[0], numeric.EXACT.add(left[1], right[1]), numeric.EXACT.add(left[2], right[2])]


def numeric_variance(state: list[Any], is_sample: bool, is_variance: bool) -> Decimal | None:
    """numeric.c's numeric_stddev_internal."""
    count = state[0]
    if count == 0 or (is_sample and count < 2):
        return None
    total, squares = Decimal(state[1]), Decimal(state[2])
    if not (total.is_finite() and squares.is_finite()):
        return numeric.NAN
    exact = numeric.EXACT
    numerator = exact.subtract(exact.multiply(Decimal(count), squares), exact.multiply(total, total))
    if numerator <= 0:
        return numeric.ZERO
    denominator = Decimal(count * (count - 1 if is_sample else count))
    scale = numeric.select_div_scale(numerator, denominator)
    variance = numeric.quotient(numerator, denominator, scale)
    return variance if is_variance else numeric.root_at(variance, scale)


def float_moments() -> list[Any]:
    """[N, Sx, Sxx]."""
    return [0, 0.0, 0.0]


def float_moments_step(state: list[Any], value: float) -> list[Any]:
    count, before = state[0] + 1, state[1]
    total = before + value
    if count > 1:
        deviation = value * count - total
        squares = state[2] + deviation * deviation / (count * (count - 1))
        if math.isinf(total) or math.isinf(squares):
            if not math.isinf(before) and not math.isinf(value):
                floats.overflow()
            squares = math.nan
    else:
        squares = math.nan if not math.isfinite(value) else 0.0
    state[0], state[1], state[2] = count, total, squares
    return state


def float_moments_combine(left: list[Any], right: list[Any]) -> list[Any]:
    """Chan, Golub and LeVeque's pairwise update, as float8_combine."""
    if left[0] == 0:
        return right
    if right[0] == 0:
        return left
    count = left[0] + right[0]
    between = left[1] / left[0] - right[1] / right[0]
    return [count, left[1] + right[1], left[2] + right[2] + left[0] * right[0] * between * between / count]


def float_variance(state: list[Any], is_sample: bool, is_variance: bool) -> float | None:
    count = state[0]
    if count == 0 or (is_sample and count < 2):
        return None
    variance = state[2] / (count - 1 if is_sample else count)
    return variance if is_variance else math.sqrt(variance)


def _variance_final(
    compute: Callable[[list[Any], bool, bool], Any], is_sample: bool, is_variance: bool
) -> Callable[[list[Any]], Any]:
    return lambda state: compute(state, is_sample, is_variance)


_VARIANCES: Final = (
    ("variance", True, True), ("var_samp", True, True), ("var_pop", False, True), ("stddev", True, False), ("stddev_samp", True, False), ("stddev_pop", False, False),
)  # fmt: skip


def _register_variances(registry: Registry) -> None:
    for name, is_sample, is_variance in _VARIANCES:
        exact = _variance_final(numeric_variance, is_sample, is_variance)
        for type_name in BOUNDS:
            define_aggregate(
                registry,
                f"{name}({type_name}) numeric",
                moments,
                moments_step,
                exact,
                combine=moments_combine,
                inverse=moments_back,
            )
        define_aggregate(
            registry,
            f"{name}(numeric) numeric",
            numeric_moments,
            numeric_moments_step,
            exact,
            combine=numeric_moments_combine,
        )
        rough = _variance_final(float_variance, is_sample, is_variance)
        for type_name in ("float4", "float8"):
            define_aggregate(
                registry,
                f"{name}({type_name}) float8",
                float_moments,
                float_moments_step,
                rough,
                combine=float_moments_combine,
            )


# --- regression --------------------------------------------------------------------


def regression() -> list[Any]:
    """[N, Sx, Sxx, Sy, Syy, Sxy]."""
    return [0, 0.0, 0.0, 0.0, 0.0, 0.0]


def regression_step(state: list[Any], y: float, x: float) -> list[Any]:
    count = state[0] + 1
    total_x, total_y = state[1] + x, state[3] + y
    if count > 1:
        dx, dy = x * count - total_x, y * count - total_y
        scale = 1.0 / (count * (count - 1))
        state[2] += dx * dx * scale
        state[4] += dy * dy * scale
        state[5] += dx * dy * scale
        _settle_regression(state, total_x, total_y, x, y)
    else:
        if not math.isfinite(x):
            state[2] = state[5] = math.nan
        if not math.isfinite(y):
            state[4] = state[5] = math.nan
    state[0], state[1], state[3] = count, total_x, total_y
    return state


def _settle_regression(state: list[Any], total_x: float, total_y: float, x: float, y: float) -> None:
    """Sums that became infinite: an overflow if the inputs were finite, else NaN."""
    if not (
        math.isinf(total_x)
        or math.isinf(total_y)
        or math.isinf(state[2])
        or math.isinf(state[4])
        or math.isinf(state[5])
    ):
        return
    if (math.isinf(total_x) or math.isinf(state[2])) and not math.isinf(state[1]) and not math.isinf(x):
        floats.overflow()
    if (math.isinf(total_y) or math.isinf(state[4])) and not math.isinf(state[3]) and not math.isinf(y):
        floats.overflow()
    for i in (2, 4, 5):
        if math.isinf(state[i]):
            state[i] = math.nan


def _divided(value: float, by: int) -> float | None:
    return value / by if by > 0 else None


def regr_corr(state: list[Any]) -> float | None:
    if state[0] < 1 or state[2] == 0 or state[4] == 0:
        return None
    return float(state[5] / math.sqrt(state[2] * state[4]))


def regr_r2(state: list[Any]) -> float | None:
    if state[0] < 1 or state[2] == 0:
        return None
    return 1.0 if state[4] == 0 else float((state[5] * state[5]) / (state[2] * state[4]))


def regr_slope(state: list[Any]) -> float | None:
    return None if state[0] < 1 or state[2] == 0 else float(state[5] / state[2])


def regr_intercept(state: list[Any]) -> float | None:
    return None if state[0] < 1 or state[2] == 0 else float((state[3] - state[1] * state[5] / state[2]) / state[0])


def _moment(i: int) -> Callable[[list[Any]], float | None]:
    return lambda state: state[i] if state[0] else None


_REGRESSIONS: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "corr": regr_corr,
    "covar_pop": lambda state: _divided(state[5], state[0]),
    "covar_samp": lambda state: _divided(state[5], state[0] - 1),
    "regr_avgx": lambda state: _divided(state[1], state[0]),
    "regr_avgy": lambda state: _divided(state[3], state[0]),
    "regr_intercept": regr_intercept,
    "regr_r2": regr_r2,
    "regr_slope": regr_slope,
    "regr_sxx": _moment(2),
    "regr_sxy": _moment(5),
    "regr_syy": _moment(4),
}


def _register_regressions(registry: Registry) -> None:
    for name, final in _REGRESSIONS.items():
        define_aggregate(registry, f"{name}(float8, float8) float8", regression, regression_step, final)
    define_aggregate(
        registry, "regr_count(float8, float8) int8", zero, count_step, itself, combine=add_plain, inverse=count_back
    )


def register(registry: Registry) -> None:
    """Adds this family."""
    _register_variances(registry)
    _register_regressions(registry)
