"""Join ordering: clusters of inner joins are taken apart and put together again, cheapest first.

    inner joins over relations R1..Rn with conditions  ->  dynamic programming over subsets (n <= 10),
    greedy beyond: always the pair that gives the fewest rows.

The cost model knows two ways to add a relation: hash it, or look it up by an index for every row so
far.  Everything that is not an inner join (outer, semi, lateral joins, aggregates..) is one relation,
ordered inside by itself.  Equalities are completed first: a = b and b = c give a = c; a = b and b = 5
give a = 5 (pushed to a's table).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from base.types import BOOL
from planner.expr import Call, Col, Const, Expr, Or, Param
from planner.nodes import Filter, Join, Node
from planner.optimize.paths import COST_REQUEST, COST_ROW, COST_SEEK
from planner.optimize.tree import (
    conjoin,
    conjuncts,
    disjuncts,
    expr_columns,
    filtered,
    fingerprint,
    free_columns,
    has_subquery,
    is_volatile,
)

if TYPE_CHECKING:
    from planner.optimize.operators import Operators
    from planner.optimize.selectivity import Estimator

RELATIONS_MAX: Final = 10
"""Largest cluster for dynamic programming (3^n splits)."""

RowsOf = Callable[[Node], tuple[float, float]]
"""(rows, cost) of reading a relation."""
LookupRows = Callable[[Node, set[int]], float | None]
"""Rows per lookup if a relation has an index whose leading columns are all equated with these columns."""


class Part:
    """A joined subset of the relations."""

    __slots__ = ("columns", "cost", "lookup_cost", "mask", "node", "rows", "split")

    def __init__(self, mask: int, columns: set[int], rows: float, cost: float) -> None:
        self.mask = mask
        self.columns = columns
        self.rows = rows
        self.cost = cost
        self.split: tuple[Part, Part] | None = None
        self.node: Node | None = None


class JoinOrderer:
    """Orders the joins of one cluster."""

    def __init__(
        self,
        operators: Operators,
        estimator: Estimator,
        rows_of: RowsOf,
        lookup: Callable[[Node, list[Expr], set[int]], float | None],
    ) -> None:
        self.operators = operators
        self.estimator = estimator
        self.rows_of = rows_of
        self.lookup = lookup

    def order(self, relations: list[Node], terms: list[Expr]) -> Node:
        """The join of all relations under the terms."""
        terms = self._complete(terms)
        relations, terms = self._push(relations, terms)
        parts = []
        for i, node in enumerate(relations):
            rows, cost = self.rows_of(node)
            part = Part(1 << i, set(node.columns), rows, cost)
            part.node = node
            parts.append(part)
        self.all_columns = set().union(*[part.columns for part in parts])
        usable = [(expr_columns(term) & self.all_columns, term) for term in terms]
        best = self._dynamic(parts, usable) if len(parts) <= RELATIONS_MAX else self._greedy(parts, usable)
        left: list[Expr] = list(terms)
        node = self._tree(best, left)
        return filtered(node, left)

    # --- equalities

    def _complete(self, terms: list[Expr]) -> list[Expr]:
        """Adds constants that equalities carry over, and closes equalities over columns."""
        classes: list[dict[str, Expr]] = []
        for term in terms:
            compared = self.operators.comparison(term)
            if compared is None or compared[0] != "=" or compared[1].type != compared[2].type or is_volatile(term):
                continue
            if not all(isinstance(side, (Col, Const, Param)) for side in compared[1:]):
                continue
            names = {fingerprint(side): side for side in compared[1:]}
            joined = [c for c in classes if c.keys() & names.keys() and next(iter(c.values())).type == compared[1].type]
            for c in joined:
                names |= c
            classes = [c for c in classes if not any(c is j for j in joined)] + [names]
        return terms + self._implied(classes, terms)

    def _implied(self, classes: list[dict[str, Expr]], terms: list[Expr]) -> list[Expr]:
        known = {
            frozenset([fingerprint(c[1]), fingerprint(c[2])])
            for c in map(self.operators.comparison, terms)
            if c is not None and c[0] == "="
        }
        added: list[Expr] = []
        for members in classes:
            values = [expr for expr in members.values() if not isinstance(expr, Col)]
            columns = [expr for expr in members.values() if isinstance(expr, Col)]
            wanted = (
                [(a, values[0]) for a in columns]
                if values
                else [(a, b) for i, a in enumerate(columns) for b in columns[i + 1 :]]
            )
            for a, b in wanted:
                if frozenset([fingerprint(a), fingerprint(b)]) in known:
                    continue
                function = self.operators.functions.get(("=", a.type.oid, b.type.oid))
                if function is not None:
                    added.append(Call(function, (a, b), BOOL))
        return added

    def _push(self, relations: list[Node], terms: list[Expr]) -> tuple[list[Node], list[Expr]]:
        """Terms over one relation become its filter; of an OR over several, what it says of each."""
        kept: list[Expr] = []
        own: list[list[Expr]] = [[] for _ in relations]
        for term in terms:
            used = expr_columns(term)
            home = [i for i, node in enumerate(relations) if used & set(node.columns)]
            if len(home) == 1 and not is_volatile(term):
                own[home[0]].append(term)
                continue
            kept.append(term)
            applied = 1.0
            for i in home:
                derived = restriction(term, set(relations[i].columns))
                if derived is not None:
                    own[i].append(derived)
                    applied *= self.estimator.term(derived)
            if applied < 1.0:
                # What the relations' filters keep is not to be counted again at the join.
                self.estimator.known[fingerprint(term)] = min(1.0, self.estimator.term(term) / max(applied, 1e-9))
        return [filtered(node, own[i]) for i, node in enumerate(relations)], kept

    # --- search

    def _joined(self, a: Part, b: Part, terms: list[tuple[set[int], Expr]]) -> Part:
        """The cheaper way to join two parts; ``split`` has the inner side second."""
        columns = a.columns | b.columns
        used = [term for needs, term in terms if needs <= columns and not needs <= a.columns and not needs <= b.columns]
        rows = max(1.0, a.rows * b.rows * (self.estimator.terms(used) if used else 1.0))
        part = Part(a.mask | b.mask, columns, rows, 0.0)
        best: tuple[float, Part, Part] | None = None
        for outer, inner in ((a, b), (b, a)):
            cost = outer.cost + inner.cost + 1.2 * inner.rows + 0.6 * outer.rows + 0.3 * rows
            if not used:
                cost = outer.cost + inner.cost + inner.rows + 0.5 * outer.rows * inner.rows
            per_lookup = self.lookup(inner.node, used, outer.columns) if inner.node is not None and used else None
            if per_lookup is not None:
                looked = (
                    outer.cost
                    + COST_REQUEST * (1 + outer.rows / 256)
                    + outer.rows * (COST_SEEK + COST_ROW * per_lookup)
                )
                cost = min(cost, looked)
            if best is None or cost < best[0]:
                best = (cost, outer, inner)
        assert best is not None
        part.cost, part.split = best[0], (best[1], best[2])
        return part

    def _dynamic(self, parts: list[Part], terms: list[tuple[set[int], Expr]]) -> Part:
        best: dict[int, Part] = {part.mask: part for part in parts}
        links = [
            sum([other.mask for other in parts if other is not part and self._linked(part, other, terms)])
            for part in parts
        ]
        full = (1 << len(parts)) - 1
        for mask in range(1, full + 1):
            if mask in best:
                continue
            found: Part | None = None
            for connected in (True, False):
                sub = (mask - 1) & mask
                while sub:
                    rest = mask ^ sub
                    if sub > rest and sub in best and rest in best and (not connected or self._touch(sub, rest, links)):
                        part = self._joined(best[sub], best[rest], terms)
                        if found is None or part.cost < found.cost:
                            found = part
                    sub = (sub - 1) & mask
                # Cross products only where nothing connects: disconnected queries, or the whole.
                if found is not None or (mask != full and self._is_connected_later(mask, links, len(parts))):
                    break
            if found is not None:
                best[mask] = found
        return best[full]

    def _linked(self, a: Part, b: Part, terms: list[tuple[set[int], Expr]]) -> bool:
        return any(needs & a.columns and needs & b.columns for needs, _ in terms)

    def _touch(self, sub: int, rest: int, links: list[int]) -> bool:
        i = 0
        while sub >> i:
            if sub >> i & 1 and links[i] & rest:
                return True
            i += 1
        return False

    def _is_connected_later(self, mask: int, links: list[int], count: int) -> bool:
        """True if the whole query is connected, so that this disconnected subset need not be built."""
        reached, frontier = 1, 1
        while frontier:
            grown = reached
            for i in range(count):
                if reached >> i & 1:
                    grown |= links[i]
            frontier = grown & ~reached
            reached = grown
        return reached == (1 << count) - 1

    def _greedy(self, parts: list[Part], terms: list[tuple[set[int], Expr]]) -> Part:
        parts = list(parts)
        while len(parts) > 1:
            best: tuple[bool, float, int, int, Part] | None = None
            for i, a in enumerate(parts):
                for j in range(i + 1, len(parts)):
                    part = self._joined(a, parts[j], terms)
                    found = (not self._linked(a, parts[j], terms), part.rows, i, j, part)
                    if best is None or found[:4] < best[:4]:
                        best = found
            assert best is not None
            _, _, i, j, part = best
            parts = [p for k, p in enumerate(parts) if k not in (i, j)] + [part]
        return parts[0]

    def _tree(self, part: Part, terms: list[Expr]) -> Node:
        """Joins with the terms that become possible at each of them."""
        if part.split is None:
            assert part.node is not None
            return part.node
        left, right = part.split
        node_left, node_right = self._tree(left, terms), self._tree(right, terms)
        used = [
            term for term in terms if expr_columns(term) & self.all_columns <= part.columns and not is_volatile(term)
        ]
        for term in used:
            terms.remove(term)
        return Join("inner", node_left, node_right, conjoin(used))


def flatten(node: Node) -> tuple[list[Node], list[Expr]]:
    """Relations and terms of a cluster of inner joins."""
    if isinstance(node, Filter) and isinstance(node.input, Join) and is_cluster(node.input):
        relations, terms = flatten(node.input)
        return relations, terms + conjuncts(node.condition)
    if isinstance(node, Join) and is_cluster(node):
        left, left_terms = flatten(node.left)
        right, right_terms = flatten(node.right)
        return left + right, left_terms + right_terms + conjuncts(node.on)
    return [node], []


def is_cluster(join: Join) -> bool:
    """True for inner joins whose sides do not depend on each other."""
    if join.kind != "inner":
        return False
    if not join.lateral:
        return True
    return not (free_columns(join.right) & set(join.left.columns))


def restriction(term: Expr, columns: set[int]) -> Expr | None:
    """What an OR over several relations demands of one: ``(a = 1 AND b = 2) OR (a = 3 AND b = 4)`` says a IN (1, 3)."""
    if not isinstance(term, Or) or is_volatile(term) or has_subquery(term):
        return None
    parts: list[Expr] = []
    for part in disjuncts(term):
        own = conjoin([t for t in conjuncts(part) if expr_columns(t) and expr_columns(t) <= columns])
        if own is None:
            return None
        parts.append(own)
    return Or(tuple(parts))


def usable_terms(terms: Sequence[Expr]) -> list[Expr]:
    return [term for term in terms if not has_subquery(term)]
