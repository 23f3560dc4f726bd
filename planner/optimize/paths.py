"""Ways to read one table: which index, between which bounds, in which order, at what cost.

Terms of the filter are matched with the columns of each index, in key order::

    index (a, b, c)    a = $1 AND b IN (1, 2) AND c > 5 AND d = 7
    matched            [a: value] [b: list] [c: lower 5 exclusive]         residual: d = 7

The region that begins an index of a REGIONAL BY ROW table follows from the terms where it is computed from columns that
have one value each.

Every position before the last one matched is an equality (value, list, array or NULL); the
last may be a range.  A matched term is dropped from the residual only if the bounds say
exactly what it says.

Costs are in units of one row read in order from memory.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from planner.access import IndexAccess, TableAccess
from planner.expr import AnyAll, Col, Const, Expr, InList, IsBool, IsNull, Not, Or, SortKey
from planner.nodes import Scan, TableExprs
from planner.optimize.operators import COMMUTED, INTEGER_OIDS, TEXT_OIDS, Operators, strip_relabel
from planner.optimize.selectivity import ROWS_DEFAULT, Estimator
from planner.optimize.tree import conjuncts, disjuncts, expr_columns, fingerprint, is_volatile, substitute

COST_REQUEST: Final = 4.0
"""One KV batch."""
COST_SEEK: Final = 2.0
"""One point of a multi-get, or the start of a span."""
COST_ROW: Final = 1.0
COST_EVAL: Final = 0.25
"""One expression over one row."""
COMPARE: Final = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
SPANS_MAX: Final = 10_000
"""Most spans the lists of an index condition may multiply into; beyond, the later list is a filter."""


@dataclass(frozen=True)
class Position:
    """What is known of one key column: equality with one of several values, or a range."""

    kind: str
    """value, list, array, null, range; regions: the region column of a partitioned index, of which nothing is said."""
    values: tuple[Expr, ...] = ()
    lower: Expr | None = None
    lower_inclusive: bool = True
    upper: Expr | None = None
    upper_inclusive: bool = True

    @property
    def is_single(self) -> bool:
        return self.kind in ("value", "null")


class IndexView:
    """An index as one scan sees it: its key columns and predicate as expressions over the scan's columns."""

    def __init__(self, index: IndexAccess, scan: Scan, exprs: TableExprs | None) -> None:
        self.index = index
        table = index.table
        ids = dict(zip(scan.attnums, scan.columns))
        self.keys: list[Expr | None] = []
        mapping: dict[int, Expr] = {}
        if exprs is not None:
            for row_id, attnum in zip(exprs.row, table.attnums):
                mapping[row_id] = Col(
                    ids.get(attnum, -1 - attnum),
                    table.types[attnum],
                    table.columns[attnum].typmod,
                    table.columns[attnum].name,
                )
        computed = exprs.index_exprs.get(index.desc.id, ()) if exprs is not None else ()
        for i, attnum in enumerate(index.attnums):
            if attnum:
                self.keys.append(Col(ids[attnum], table.types[attnum]) if attnum in ids else None)
            else:
                expr = computed[i] if i < len(computed) else None
                self.keys.append(None if expr is None else strip_relabel(substitute(expr, mapping)))
        if not index.is_unique:
            self.keys += [
                Col(ids[attnum], table.types[attnum]) if attnum in ids else None for attnum in table.key_attnums
            ]
        self.placement: tuple[Expr, dict[int, int]] | None = None
        """How the first key column is computed, if it is the region: an expression, and attnums by its column ids."""
        if exprs is not None and index.attnums and index.attnums[0] == table.desc.locality.column_id:
            computed_region = exprs.generated.get(index.attnums[0])
            if computed_region is not None:
                self.placement = computed_region, dict(zip(exprs.row, table.attnums))
        self.predicate: list[Expr] = []
        self.is_readable = index.is_readable and index.is_known
        if index.desc.predicate:
            found = exprs.index_predicates.get(index.desc.id) if exprs is not None else None
            if found is None:
                self.is_readable = False
            else:
                self.predicate = [substitute(term, mapping) for term in conjuncts(found)]
        self.predicate_texts = {fingerprint(term) for term in self.predicate}

    def says(self, term: Expr) -> bool:
        """True if every entry of the index fulfils the term."""
        return bool(self.predicate_texts) and fingerprint(term) in self.predicate_texts

    def direction(self, place: int) -> tuple[bool, bool, bool]:
        """(descending, nulls first, nullable) of a key column."""
        column = self.index.codec.columns[place]
        nullable = column.nullable
        if nullable and place < self.index.width and self.index.attnums[place]:
            nullable = self.index.table.columns[self.index.attnums[place]].nullable
        return column.descending, column.nulls_first, nullable

    @property
    def orders_all(self) -> bool:
        """True if no two rows have equal keys."""
        return not self.index.is_unique or all(not self.direction(i)[2] for i in range(self.index.width))


@dataclass
class Path:
    """One way to read a scan."""

    scan: Scan
    index: IndexAccess
    view: IndexView
    positions: tuple[Position, ...]
    matched: tuple[Expr, ...]
    residual: tuple[Expr, ...]
    covering: bool
    reverse: bool = False
    ordered: bool = False
    """Gives the order that was asked for."""
    rows: float = 0.0
    """After the residual."""
    read_rows: float = 0.0
    cost: float = 0.0
    is_unique: bool = False
    """At most one row per combination of values."""
    is_placed: bool = False
    """The first position follows from terms of others."""

    @property
    def regions(self) -> int:
        """How many positions stand for all regions: one or none."""
        return 1 if self.positions and self.positions[0].kind == "regions" else 0

    @property
    def unmatched(self) -> int:
        """How many positions no term stands for: one or none."""
        return 1 if self.is_placed else self.regions

    @property
    def is_point(self) -> bool:
        """Every key column has a value: keys can be fetched, no scan needed."""
        return self.is_unique and all(
            position.kind != "range" and position.kind != "null" for position in self.positions
        )


class PathFinder:
    """Finds the paths of scans of one statement."""

    def __init__(self, operators: Operators, estimator: Estimator, exprs: dict[int, TableExprs]) -> None:
        self.operators = operators
        self.estimator = estimator
        self.exprs = exprs

    def best(
        self,
        scan: Scan,
        access: TableAccess,
        terms: Sequence[Expr],
        needed: set[int],
        order: Sequence[SortKey] = (),
        limit: float | None = None,
    ) -> Path:
        """The cheapest path; an order or a limit asked for is part of the cost."""
        best: Path | None = None
        best_cost = 0.0
        for path in self.all(scan, access, terms, needed, order):
            cost = self._cost_for(path, order, limit)
            if best is None or cost < best_cost:
                best, best_cost = path, cost
        assert best is not None, scan.table.name
        return best

    def _cost_for(self, path: Path, order: Sequence[SortKey], limit: float | None) -> float:
        cost = path.cost
        if order and not path.ordered:
            return cost + path.rows * 2.0
        if limit is not None and path.rows > limit:
            # Rows come as they are found: only the needed share is read.
            return COST_REQUEST + (cost - COST_REQUEST) * min(1.0, limit / max(path.rows, 1.0))
        return cost

    def all(
        self, scan: Scan, access: TableAccess, terms: Sequence[Expr], needed: set[int], order: Sequence[SortKey] = ()
    ) -> list[Path]:
        """A path per usable index, the primary index's first."""
        found: list[Path] = []
        for index in access.indexes:
            view = IndexView(index, scan, self.exprs.get(scan.table.id))
            if not view.is_readable or not self.implied(view, terms):
                continue
            found.append(self.match(scan, view, terms, needed, order))
        return found

    def match(
        self, scan: Scan, view: IndexView, terms: Sequence[Expr], needed: set[int], order: Sequence[SortKey] = ()
    ) -> Path:
        """The path of one index."""
        index = view.index
        own = set(scan.columns)
        positions: list[Position] = []
        matched: list[Expr] = []
        exact: list[Expr] = []
        spans = 1
        is_placed = False
        for column in view.keys:
            position, used, is_exact = (None, [], True) if column is None else self._position(column, terms, own)
            if not positions and view.placement is not None and (position is None or position.kind != "value"):
                region = self._region(scan, view, terms, own)
                if region is not None:
                    is_placed = True
                    positions.append(Position("value", (region,)))
                    continue
            if len(positions) < index.implicit and (position is None or position.kind in ("range", "null")):
                positions.append(Position("regions"))
                spans *= len(index.regions)
                continue
            if position is None or (position.kind == "null" and not index.codec.columns[len(positions)].nullable):
                break
            if position.kind in ("list", "array"):
                spans *= max(1, len(position.values) if position.kind == "list" else 10)
                if spans > SPANS_MAX:
                    break
            positions.append(position)
            matched += used
            exact += used if is_exact else []
            if position.kind == "range":
                break
        if positions and positions[-1].kind == "regions":
            positions.pop()
            spans = 1
        residual = tuple([term for term in terms if term not in exact and not view.says(term)])
        attnums = {attnum for id, attnum in zip(scan.columns, scan.attnums) if id in needed}
        for term in residual:
            used_columns = expr_columns(term)
            attnums |= {attnum for id, attnum in zip(scan.columns, scan.attnums) if id in used_columns}
        covering = index.covers(attnums)
        path = Path(scan, index, view, tuple(positions), tuple(matched), residual, covering)
        path.is_placed = is_placed
        path.is_unique = index.is_unique and len(positions) == index.width and index.width > 0
        self._order(path, order)
        self._cost(path, len(terms), spans)
        return path

    def _region(self, scan: Scan, view: IndexView, terms: Sequence[Expr], own: set[int]) -> Expr | None:
        """Returns the region of the rows that the terms allow, if every column it is computed from has one value."""
        assert view.placement is not None
        computed, attnums = view.placement
        ids = dict(zip(scan.attnums, scan.columns))
        values: dict[int, Expr] = {}
        for row_id in sorted(expr_columns(computed)):
            attnum = attnums[row_id]
            if attnum not in ids:
                return None
            column = Col(ids[attnum], view.index.table.types[attnum])
            position = self._position(column, terms, own)[0]
            if position is None or position.kind != "value" or position.values[0].type.oid != column.type.oid:
                return None
            values[row_id] = position.values[0]
        return substitute(computed, values)

    def implied(self, view: IndexView, terms: Sequence[Expr]) -> bool:
        """A partial index may serve only if the filter implies its predicate."""
        return all(any(self._implies(term, wanted) for term in terms) for wanted in view.predicate)

    def _implies(self, term: Expr, wanted: Expr) -> bool:
        if fingerprint(term) == fingerprint(wanted):
            return True
        if isinstance(wanted, IsNull) and wanted.negated:
            compared = self.operators.comparison(term)
            sides = [strip_relabel(side) for side in compared[1:]] if compared else []
            return any(fingerprint(side) == fingerprint(strip_relabel(wanted.arg)) for side in sides)
        return self._implies_range(term, wanted)

    def _implies_range(self, term: Expr, wanted: Expr) -> bool:
        """``x > 5`` implies ``x > 3``; both over the same expression, with constants."""
        a, b = self.operators.comparison(term), self.operators.comparison(wanted)
        if a is None or b is None or fingerprint(strip_relabel(a[1])) != fingerprint(strip_relabel(b[1])):
            return False
        low, high = a[2], b[2]
        if not isinstance(low, Const) or not isinstance(high, Const) or low.value is None or high.value is None:
            return False
        if (
            low.type.name in ("numeric", "float4", "float8", "interval", "jsonb")
            or low.type.kind == "e"
            or low.type.category == "A"
        ):
            return False
        return _range_implies(a[0], low.value, b[0], high.value)

    # --- matching one key column

    def _position(self, column: Expr, terms: Sequence[Expr], own: set[int]) -> tuple[Position | None, list[Expr], bool]:
        """(position, terms it came from, whether it says all they say)."""
        text = fingerprint(column)
        bounds: list[tuple[str, Expr, Expr]] = []
        for term in terms:
            found = self._equality(column, text, term, own)
            if found is not None:
                return found, [term], True
        for term in terms:
            value = self._compared(column, text, term, own)
            if value is not None:
                bounds.append((value[0], value[1], term))
        return self._range_position(bounds)

    def _range_position(self, bounds: list[tuple[str, Expr, Expr]]) -> tuple[Position | None, list[Expr], bool]:
        position = Position("range")
        used: list[Expr] = []
        for symbol, value, term in bounds:
            if symbol in (">", ">=") and position.lower is None:
                position = replace(position, lower=value, lower_inclusive=symbol == ">=")
                used.append(term)
            elif symbol in ("<", "<=") and position.upper is None:
                position = replace(position, upper=value, upper_inclusive=symbol == "<=")
                used.append(term)
        return (position, used, True) if used else (None, [], False)

    def _equality(self, column: Expr, text: str, term: Expr, own: set[int]) -> Position | None:
        if isinstance(term, IsNull) and not term.negated and fingerprint(strip_relabel(term.arg)) == text:
            return Position("null")
        if isinstance(term, InList) and not term.negated:
            return self._list(column, text, term, own)
        if isinstance(term, AnyAll) and not term.is_all:
            elem = term.array.type.elem
            if (
                self.operators.symbol(term.operator) == "="
                and fingerprint(strip_relabel(term.left)) == text
                and elem is not None
            ):
                if keyable(column, Const(None, elem)) and _is_value(term.array, own):
                    return Position("array", (term.array,))
            return None
        if isinstance(term, Or):
            return self._or_list(column, text, term, own)
        if isinstance(column, Col) and column.type.name == "bool":
            found = _boolean(text, term)
            if found is not None:
                return found
        value = self._compared(column, text, term, own)
        return Position("value", (value[1],)) if value is not None and value[0] == "=" else None

    def _list(self, column: Expr, text: str, term: InList, own: set[int]) -> Position | None:
        if self.operators.symbol(term.equal) != "=" or fingerprint(strip_relabel(term.left)) != text:
            return None
        if all(keyable(column, item) and _is_value(item, own) for item in term.items):
            return Position("list", term.items)
        return None

    def _or_list(self, column: Expr, text: str, term: Or, own: set[int]) -> Position | None:
        """``a = 1 OR a = 2`` is a list."""
        values: list[Expr] = []
        for part in disjuncts(term):
            value = self._compared(column, text, part, own)
            if value is None or value[0] != "=":
                return None
            values.append(value[1])
        return Position("list", tuple(values))

    def _compared(self, column: Expr, text: str, term: Expr, own: set[int]) -> tuple[str, Expr] | None:
        """(symbol, value) if the term compares the column with something from elsewhere."""
        compared = self.operators.comparison(term)
        if compared is None or compared[0] == "<>":
            return None
        symbol, left, right = compared
        if fingerprint(strip_relabel(left)) == text and keyable(column, right) and _is_value(right, own):
            return symbol, right
        if fingerprint(strip_relabel(right)) == text and keyable(column, left) and _is_value(left, own):
            return COMMUTED[symbol], left
        return None

    # --- order and cost

    def _order(self, path: Path, order: Sequence[SortKey]) -> None:
        """Sets ``ordered`` and ``reverse`` if the index gives the order asked for."""
        if not order or any(not position.is_single for position in path.positions if position.kind != "range"):
            return
        keys = path.view.keys
        fixed = {
            fingerprint(key) for key, position in zip(keys, path.positions) if position.is_single and key is not None
        }
        at = len([position for position in path.positions if position.is_single])
        wanted = [
            key
            for key in order
            if fingerprint(strip_relabel(key.expr)) not in fixed and not isinstance(key.expr, Const)
        ]
        directions: set[bool] = set()
        for i, key in enumerate(wanted):
            place = at + i
            if place >= len(keys):
                # After a whole unique key nothing is left to order.
                path.ordered = path.view.orders_all
                break
            same = self._same_order(path, key, keys[place], place)
            if same is None:
                return
            directions.add(same)
        else:
            path.ordered = True
        if len(directions) > 1:
            path.ordered = False
        if path.ordered:
            path.reverse = directions == {False}

    def _same_order(self, path: Path, key: SortKey, column: Expr | None, place: int) -> bool | None:
        """True if the key column runs as asked, False if exactly opposite, None otherwise."""
        if column is None or fingerprint(strip_relabel(key.expr)) != fingerprint(column):
            return None
        descending, nulls_first, nullable = path.view.direction(place)
        if descending == key.descending and (not nullable or nulls_first == key.nulls_first):
            return True
        if descending != key.descending and (not nullable or nulls_first != key.nulls_first):
            return False
        return None

    def _cost(self, path: Path, terms: int, spans: int) -> None:
        estimator = self.estimator
        origin = estimator.origins.get(path.scan.columns[0]) if path.scan.columns else None
        total = origin.rows if origin is not None else ROWS_DEFAULT
        total = max(total, 1.0)
        if path.is_unique and all(position.is_single or position.kind == "regions" for position in path.positions):
            read = 1.0
        else:
            read = max(1.0, total * estimator.terms(path.matched)) if path.matched else total
            if path.is_unique and all(position.kind != "range" for position in path.positions):
                read = min(read, float(spans))
        keep = estimator.terms(path.residual) if path.residual else 1.0
        path.read_rows = read
        path.rows = max(read * keep, 1e-3) if path.is_unique else max(1.0, read * keep)
        cost = COST_REQUEST + COST_SEEK * spans + COST_ROW * read + COST_EVAL * read * len(path.residual)
        if not path.index.is_primary and path.covering:
            cost -= 0.2 * read
        if not path.covering:
            cost += COST_REQUEST + (COST_SEEK + COST_ROW) * read
        path.cost = cost


def _range_implies(symbol: str, value: Any, wanted: str, limit: Any) -> bool:
    """Does ``x <symbol> value`` imply ``x <wanted> limit``?"""
    if symbol == "=":
        return bool(COMPARE[wanted](value, limit))
    if symbol[0] != wanted[0] or wanted == "<>" or symbol == "<>":
        return False
    if wanted[0] == ">":
        return bool(value > limit or (value == limit and (wanted == ">=" or symbol == ">")))
    if wanted[0] == "<":
        return bool(value < limit or (value == limit and (wanted == "<=" or symbol == "<")))
    return False


def keyable(column: Expr, value: Expr) -> bool:
    """True if the value's datum can be encoded as the column's key and means the same there."""
    a, b = column.type.oid, value.type.oid
    if a == b:
        return True
    return (a in INTEGER_OIDS and b in INTEGER_OIDS) or (a in TEXT_OIDS and b in TEXT_OIDS)


def _is_value(expr: Expr, own: set[int]) -> bool:
    """True if the expression can be evaluated before the scan."""
    return not expr_columns(expr) & own and not is_volatile(expr)


def _boolean(text: str, term: Expr) -> Position | None:
    """A bare boolean column, NOT of it, or IS TRUE/FALSE."""
    from base.types import BOOL

    if isinstance(term, Col) and fingerprint(term) == text:
        return Position("value", (Const(True, BOOL),))
    if isinstance(term, Not) and isinstance(term.arg, Col) and fingerprint(term.arg) == text:
        return Position("value", (Const(False, BOOL),))
    if (
        isinstance(term, IsBool)
        and not term.negated
        and term.value is not None
        and isinstance(term.arg, Col)
        and fingerprint(term.arg) == text
    ):
        return Position("value", (Const(term.value, BOOL),))
    return None
