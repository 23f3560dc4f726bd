"""How many rows a condition keeps: histograms and most common values where ANALYZE has been, else defaults.

Defaults are PostgreSQL's (selfuncs.h): equality 0.005, inequality 1/3, a range from both sides
0.005, LIKE 0.005.  Terms of an AND are taken as independent; the two bounds of a range over one
column are recognised together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Final

from base.types import PgType
from planner.exec.order import order_key
from planner.expr import And, AnyAll, Call, Col, Const, Expr, InList, IsBool, IsNull, Not, Or, Subquery
from planner.optimize.operators import COMMUTED, Operators, strip_relabel
from planner.optimize.tree import conjuncts, disjuncts, fingerprint
from planner.schema import ColumnStats, TableStats

EQUALITY: Final = 0.005
INEQUALITY: Final = 1 / 3
RANGE: Final = 0.005
PATTERN: Final = 0.005
BOOLEAN: Final = 0.5
SUBQUERY: Final = 0.5
DISTINCT_DEFAULT: Final = 200.0
"""Distinct values of a column nothing is known of."""
ROWS_DEFAULT: Final = 1000.0
ANY_ELEMENTS: Final = 10
"""Assumed length of an array parameter."""

ParseDatum = Callable[[PgType, str], Any]


class ColumnOrigin:
    """Where a column of the plan comes from."""

    __slots__ = ("rows", "stats", "type", "unique")

    def __init__(self, pg_type: PgType, stats: ColumnStats | None, rows: float, unique: bool) -> None:
        self.type = pg_type
        self.stats = stats
        self.rows = rows
        self.unique = unique

    def distinct(self) -> float:
        """Estimated number of different values."""
        if self.unique:
            return max(self.rows, 1.0)
        if self.stats is not None and self.stats.distinct > 0:
            return min(self.stats.distinct, max(self.rows, 1.0))
        if self.type.name == "bool":
            return 2.0
        return max(1.0, min(DISTINCT_DEFAULT, self.rows))


class Estimator:
    """Selectivities over the columns of one statement."""

    def __init__(self, operators: Operators, parse: ParseDatum) -> None:
        self.operators = operators
        self.parse = parse
        self.origins: dict[int, ColumnOrigin] = {}
        self.known: dict[str, float] = {}
        """Selectivities told from outside, by fingerprint: conditions partly applied already."""

    def add_table(
        self, columns: Sequence[tuple[int, int, PgType]], stats: TableStats | None, unique: frozenset[int]
    ) -> None:
        """Registers a scan's columns: (id, attnum, type); ``unique`` are attnums that are keys alone."""
        rows = stats.rows if stats is not None else ROWS_DEFAULT
        for id, attnum, pg_type in columns:
            found = stats.columns.get(attnum) if stats is not None else None
            self.origins[id] = ColumnOrigin(pg_type, found, rows, attnum in unique)

    def distinct(self, expr: Expr, rows: float) -> float:
        """Estimated distinct values of an expression among ``rows`` rows."""
        expr = strip_relabel(expr)
        if isinstance(expr, Col) and expr.id in self.origins:
            return max(1.0, min(self.origins[expr.id].distinct(), rows))
        if isinstance(expr, Const):
            return 1.0
        return max(1.0, min(DISTINCT_DEFAULT, rows))

    def terms(self, terms: Sequence[Expr]) -> float:
        """Selectivity of an AND of terms."""
        result = 1.0
        bounds: dict[int, list[tuple[str, Expr]]] = {}
        for term in terms:
            bound = self._bound(term)
            if bound is None:
                result *= self.term(term)
            else:
                bounds.setdefault(bound[0], []).append((bound[1], bound[2]))
        for id, found in bounds.items():
            result *= self._range(self.origins.get(id), found)
        return max(result, 1e-9)

    def _bound(self, term: Expr) -> tuple[int, str, Expr] | None:
        """(column, symbol, value) of an inequality between a column and a value."""
        compared = self.operators.comparison(term)
        if compared is None or compared[0] in ("=", "<>"):
            return None
        symbol, left, right = compared
        left, right = strip_relabel(left), strip_relabel(right)
        if isinstance(left, Col) and not isinstance(right, Col):
            return left.id, symbol, right
        if isinstance(right, Col) and not isinstance(left, Col):
            return right.id, COMMUTED[symbol], left
        return None

    def _range(self, origin: ColumnOrigin | None, bounds: list[tuple[str, Expr]]) -> float:
        lower, upper = 0.0, 1.0
        known = True
        kinds = {symbol[0] for symbol, _ in bounds}
        for symbol, value in bounds:
            at = self._position(origin, value)
            if at is None:
                known = False
            elif symbol[0] == "<":
                upper = min(upper, at)
            else:
                lower = max(lower, at)
        if not known:
            return RANGE if len(kinds) == 2 else INEQUALITY
        return max(upper - lower, 0.0001)

    def _position(self, origin: ColumnOrigin | None, value: Expr) -> float | None:
        """Fraction of the column's values below a constant."""
        if origin is None or origin.stats is None or not isinstance(value, Const) or value.value is None:
            return None
        stats = origin.stats
        try:
            key = _sortable(origin.type)
            target = key(value.value)
            below = sum(
                [fraction for text, fraction in stats.most_common if key(self.parse(origin.type, text)) < target]
            )
            rest = max(0.0, 1.0 - stats.null_fraction - sum([fraction for _, fraction in stats.most_common]))
            if len(stats.histogram) < 2:
                return below if stats.most_common else None
            keys = [key(self.parse(origin.type, text)) for text in stats.histogram]
            return below + rest * _histogram_position(keys, target)
        except (ValueError, TypeError, ArithmeticError, KeyError):
            return None

    def term(self, term: Expr) -> float:
        """Selectivity of one condition."""
        if isinstance(term, Const):
            return 1.0 if term.value is True else 0.0
        if isinstance(term, Or):
            told = self.known.get(fingerprint(term)) if self.known else None
            if told is not None:
                return told
            miss = 1.0
            for part in disjuncts(term):
                miss *= 1.0 - self.terms(conjuncts(part))
            return 1.0 - miss
        if isinstance(term, And):
            return self.terms(conjuncts(term))
        if isinstance(term, Not):
            return 1.0 - self.term(term.arg)
        if isinstance(term, IsNull):
            nulls = self._nulls(term.arg)
            return 1.0 - nulls if term.negated else nulls
        if isinstance(term, InList):
            hit = min(
                1.0,
                sum([self.equality(term.left, item) for item in term.items[:1000]]) * max(1.0, len(term.items) / 1000),
            )
            return 1.0 - hit if term.negated else hit
        if isinstance(term, AnyAll):
            return min(1.0, ANY_ELEMENTS * self.equality(term.left, term.array)) if not term.is_all else INEQUALITY
        return self._call(term)

    def _call(self, term: Expr) -> float:
        if isinstance(term, (IsBool, Subquery, Col)):
            return BOOLEAN
        if not isinstance(term, Call):
            return INEQUALITY
        symbol = self.operators.symbol(term.function)
        if symbol == "=":
            return self.equality(term.args[0], term.args[1])
        if symbol == "<>":
            return 1.0 - self.equality(term.args[0], term.args[1])
        if symbol is not None:
            bound = self._bound(term)
            return INEQUALITY if bound is None else self._range(self.origins.get(bound[0]), [(bound[1], bound[2])])
        if "like" in term.function.name or "regex" in term.function.name:
            return PATTERN * 10
        return INEQUALITY

    def _nulls(self, expr: Expr) -> float:
        expr = strip_relabel(expr)
        if isinstance(expr, Col):
            origin = self.origins.get(expr.id)
            if origin is not None and origin.stats is not None:
                return origin.stats.null_fraction
        return EQUALITY

    def equality(self, left: Expr, right: Expr) -> float:
        """Selectivity of ``left = right``."""
        left, right = strip_relabel(left), strip_relabel(right)
        if isinstance(right, Col) and not isinstance(left, Col):
            left, right = right, left
        if not isinstance(left, Col):
            return EQUALITY
        origin = self.origins.get(left.id)
        if origin is None:
            return EQUALITY
        if isinstance(right, Const) and origin.stats is not None:
            return self._equals_constant(origin, right.value)
        distinct = origin.distinct()
        if isinstance(right, Col) and right.id in self.origins:
            distinct = max(distinct, self.origins[right.id].distinct())
        return (
            1.0 / distinct
            if origin.unique or origin.stats is not None or isinstance(right, Col)
            else max(EQUALITY, 1.0 / distinct)
        )

    def _equals_constant(self, origin: ColumnOrigin, value: Any) -> float:
        stats = origin.stats
        assert stats is not None
        if value is None:
            return 0.0
        covered = 0.0
        for text, fraction in stats.most_common:
            covered += fraction
            try:
                if self.parse(origin.type, text) == value:
                    return fraction
            except (ValueError, KeyError):
                continue
        rest = max(0.0, 1.0 - covered - stats.null_fraction)
        others = max(1.0, origin.distinct() - len(stats.most_common))
        return max(rest / others, 1e-7)


def _sortable(pg_type: PgType) -> Callable[[Any], Any]:
    key = order_key(pg_type)
    return key if key is not None else _same


def _same(value: Any) -> Any:
    return value


def _histogram_position(keys: list[Any], target: Any) -> float:
    """Fraction of an equi-depth histogram below ``target``, interpolated inside its bucket."""
    buckets = len(keys) - 1
    at = bisect_left(keys, target)
    if at == 0:
        return 0.0
    if at > buckets:
        return 1.0
    low, high = keys[at - 1], keys[at]
    inside = 0.5
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and high > low:
        inside = (target - low) / (high - low)
    return (at - 1 + inside) / buckets
