"""Builds joins: hash, lookup, nested loop or apply, whichever is cheapest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from planner.exec.join import ApplyOp, HashJoinOp, JoinOp, NestedLoopOp
from planner.exec.lookup import LookupJoinOp, LookupSide
from planner.exec.runtime import Operator, RowsFunction
from planner.exec.scalar import KeyMaker
from planner.exec.scan import Fetcher
from planner.expr import Expr, SortKey
from planner.nodes import Filter, Join, Node, Scan
from planner.optimize.paths import COST_REQUEST, COST_ROW, COST_SEEK, IndexView, Path
from planner.optimize.tree import conjoin, conjuncts, expr_columns, free_columns, has_subquery, is_volatile

if TYPE_CHECKING:
    from planner.optimize.physical import Builder

HASH_BUILD: Final = 1.2
HASH_PROBE: Final = 0.6
PAIR: Final = 0.3
LOOKUPS_PER_REQUEST: Final = 256
SEMI_FRACTION: Final = 0.5

EquiPair = tuple[Expr, Expr, Expr]
"""(left expression, right expression, the term)."""


class JoinBuilder:
    """Part of the Builder."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    def build(self, join: Join, order: Sequence[SortKey]) -> Operator:
        terms = conjuncts(join.on)
        left_order = order if all(expr_columns(key.expr) <= set(join.left.columns) for key in order) else ()
        left = self.builder.build(join.left, left_order)
        if free_columns(join.right) & set(join.left.columns):
            return self._apply(join, left, terms)
        lookup = self._lookup(join, left, terms)
        right = self.builder.build(join.right)
        pairs, rest = self.equi_pairs(join, terms)
        rows = self.rows(join.kind, left.rows, right.rows, terms)
        other = (
            self._hash(join, left, right, pairs, rest, rows, bool(order))
            if pairs
            else self._loop(join, left, right, terms, rows)
        )
        if lookup is not None and lookup.cost <= other.cost:
            lookup.rows = min(lookup.rows, rows) if rows > 0 else lookup.rows
            return lookup
        return other

    # --- estimates

    def rows(self, kind: str, left: float, right: float, terms: Sequence[Expr]) -> float:
        """Estimated rows of a join."""
        pairs = left * right * self.builder.estimator.terms(terms) if terms else left * right
        if kind == "semi":
            return max(1.0, min(left, pairs))
        if kind == "anti":
            return max(1.0, left - min(left * SEMI_FRACTION, pairs))
        if kind in ("left", "full"):
            pairs = max(pairs, left)
        if kind in ("right", "full"):
            pairs = max(pairs, right)
        return max(1.0, pairs)

    def equi_pairs(self, join: Join, terms: Sequence[Expr]) -> tuple[list[EquiPair], list[Expr]]:
        """Splits the condition into equalities between the sides, and the rest."""
        left, right = set(join.left.columns), set(join.right.columns)
        pairs: list[EquiPair] = []
        rest: list[Expr] = []
        for term in terms:
            compared = None if has_subquery(term) or is_volatile(term) else self.builder.operators.comparison(term)
            if compared is not None and compared[0] == "=":
                a, b = expr_columns(compared[1]), expr_columns(compared[2])
                if a and b and not a & right and not b & left and a & left and b & right:
                    pairs.append((compared[1], compared[2], term))
                    continue
                if a and b and not a & left and not b & right and a & right and b & left:
                    pairs.append((compared[2], compared[1], term))
                    continue
            rest.append(term)
        return pairs, rest

    # --- algorithms

    def _mask(self, terms: Sequence[Expr], columns: tuple[int, ...]) -> tuple[Expr | None, RowsFunction | None]:
        condition = conjoin(list(terms))
        return condition, None if condition is None else self.builder.rows_function([condition], columns)

    def _hash(
        self,
        join: Join,
        left: Operator,
        right: Operator,
        pairs: list[EquiPair],
        rest: list[Expr],
        rows: float,
        ordered: bool,
    ) -> JoinOp:
        kind = join.kind
        swapped = {"inner": "inner", "left": "right", "right": "left", "full": "full"}
        if kind in swapped and not ordered and right.rows > 1.5 * left.rows:
            left, right, kind = right, left, swapped[kind]
            pairs = [(b, a, term) for a, b, term in pairs]
        condition, mask = self._mask(rest, left.columns + right.columns)
        left_keys = self._keys([a for a, _, _ in pairs], left)
        right_keys = self._keys([b for _, b, _ in pairs], right)
        operator = HashJoinOp(
            kind, left, right, condition, mask, (left_keys, right_keys), tuple([(a, b) for a, b, _ in pairs])
        )
        cost = left.cost + right.cost + HASH_BUILD * right.rows + HASH_PROBE * left.rows + PAIR * rows
        operator.estimate(rows, cost, right.cost + HASH_BUILD * right.rows)
        return operator

    def _keys(self, exprs: list[Expr], side: Operator) -> KeyMaker:
        return KeyMaker(exprs, [expr.type for expr in exprs], side.columns, self.builder.rows_function, False)

    def _loop(self, join: Join, left: Operator, right: Operator, terms: list[Expr], rows: float) -> JoinOp:
        condition, mask = self._mask(terms, left.columns + right.columns)
        operator = NestedLoopOp(join.kind, left, right, condition, mask)
        operator.estimate(rows, left.cost + right.cost + PAIR * (1 + len(terms)) * left.rows * right.rows, right.cost)
        return operator

    def _apply(self, join: Join, left: Operator, terms: list[Expr]) -> JoinOp:
        """Lateral: the right side sees the left row through frame slots."""
        builder = self.builder
        assert join.kind in ("inner", "left", "semi", "anti"), f"lateral {join.kind} join"
        outer_free, builder.free = builder.free, set()
        right = builder.build(join.right)
        needed, builder.free = builder.free, outer_free
        builder.free |= needed - set(left.columns)
        bindings = tuple([(left.columns.index(id), builder.slot_of(id)) for id in sorted(needed) if id in left.columns])
        condition, mask = self._mask(terms, left.columns + right.columns)
        operator = ApplyOp(join.kind, left, right, condition, mask, bindings)
        rows = self.rows(join.kind, left.rows, right.rows, terms)
        operator.estimate(rows, left.cost + left.rows * right.cost, left.startup_cost)
        return operator

    # --- lookups

    def _lookup(self, join: Join, left: Operator, terms: list[Expr]) -> JoinOp | None:
        """The cheapest lookup join into an index of the right table, if there is one."""
        if join.kind not in ("inner", "left", "semi", "anti") or any(is_volatile(term) for term in terms):
            return None
        inner: Node = join.right
        own: list[Expr] = []
        while isinstance(inner, Filter):
            own += conjuncts(inner.condition)
            inner = inner.input
        if not isinstance(inner, Scan) or inner.lock or any(has_subquery(term) for term in own):
            return None
        best: tuple[float, Path, int] | None = None
        for path in self._lookup_paths(inner, own, terms):
            width = self._lookup_width(path, set(left.columns))
            if width:
                cost = self._lookup_cost(path, width, left)
                if best is None or cost < best[0]:
                    best = (cost, path, width)
        if best is None:
            return None
        return self._make_lookup(join, left, inner, own, terms, best)

    def _lookup_paths(self, scan: Scan, own: list[Expr], terms: list[Expr]) -> list[Path]:
        builder = self.builder
        usable = [term for term in terms if not has_subquery(term)]
        found = []
        for index in builder.access(scan).indexes:
            view = IndexView(index, scan, builder.statement.table_exprs.get(scan.table.id))
            if view.is_readable and builder.paths.implied(view, own + usable):
                found.append(builder.paths.match(scan, view, usable + own, set(scan.columns)))
        return found

    def _lookup_width(self, path: Path, left: set[int]) -> int:
        """How many leading positions have one value, if any of them comes from the left side; else 0."""
        width = 0
        from_left = False
        for position in path.positions:
            if position.kind == "regions":
                width += 1
                continue
            if position.kind != "value":
                break
            used = expr_columns(position.values[0])
            from_left = from_left or bool(used & left)
            width += 1
        return width if from_left else 0

    def _lookup_cost(self, path: Path, width: int, left: Operator) -> float:
        rows = self._rows_per_lookup(path, width)
        is_point = path.index.is_unique and width == path.index.width
        per_row = COST_SEEK + COST_ROW * rows + (0.0 if path.covering else (COST_SEEK + COST_ROW) * rows)
        requests = left.rows / LOOKUPS_PER_REQUEST if is_point else left.rows
        return left.cost + COST_REQUEST * (1 + requests) + left.rows * per_row

    def _rows_per_lookup(self, path: Path, width: int) -> float:
        estimator = self.builder.estimator
        if path.index.is_unique and width == path.index.width:
            return 1.0
        origin = estimator.origins.get(path.scan.columns[0]) if path.scan.columns else None
        total = origin.rows if origin is not None else 1000.0
        return max(1.0, total * estimator.terms(path.matched[: width - path.unmatched]))

    def _make_lookup(
        self, join: Join, left: Operator, scan: Scan, own: list[Expr], terms: list[Expr], best: tuple[float, Path, int]
    ) -> JoinOp:
        builder = self.builder
        cost, path, width = best
        consumed = path.matched[: width - path.unmatched]
        residual = [term for term in own if term not in consumed and not path.view.says(term)]
        rest = [term for term in terms if term not in consumed]
        inner_only = [term for term in rest if not has_subquery(term) and not expr_columns(term) & set(left.columns)]
        rest = [term for term in rest if term not in inner_only]
        residual += inner_only
        side = LookupSide(scan.columns, path.index, scan.alias, consumed, tuple(residual))
        side.estimate(self._rows_per_lookup(path, width), COST_SEEK + COST_ROW)
        condition, mask = self._mask(rest, left.columns + scan.columns)
        values = [position.values[0] for position in path.positions[:width] if position.kind == "value"]
        fetcher = Fetcher(path.index, scan.attnums, scan.attnums, path.covering)
        keep = builder.filter_function(residual, scan.columns) if residual else None
        operator = LookupJoinOp(
            join.kind, left, side, condition, mask, builder.rows_function(values, left.columns), width, fetcher, keep
        )
        operator.is_anywhere = bool(path.regions)
        operator.positions = tuple(path.positions[:width])
        rows = self.rows(join.kind, left.rows, max(1.0, self._rows_per_lookup(path, width)), [*residual, *rest])
        operator.estimate(rows, cost, left.startup_cost)
        return operator
