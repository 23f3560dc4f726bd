"""Expressions: from sqlglot's nodes to typed ``planner.expr`` trees.

Operators and functions are resolved by ``planner.functions.resolve``; every implicit cast becomes
explicit.  Aggregates, window functions and set-returning functions are taken out and replaced by
columns (see ``query_state``); calls are in ``calls``, subqueries in ``subqueries``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from sqlglot import exp

from base.errors import FeatureNotSupported, MeridianError, error
from base.typeio import type_name
from base.types import BIT, BOOL, CHAR, INT2, INT4, INT8, JSONB, NAME, RECORD, TEXT, UNKNOWN, PgType
from planner.expr import (
    And,
    AnyAll,
    ArrayExpr,
    Call,
    Case,
    Coalesce,
    Const,
    Expr,
    Field,
    InList,
    IsBool,
    IsDistinct,
    IsNull,
    Not,
    Or,
    Param,
    RowExpr,
)
from planner.functions.registry import VOLATILE, Function
from planner.functions.resolve import Resolved, resolve_function, resolve_operator
from sql.binder import calls, columns, subqueries
from sql.binder.coerce import (
    boolean,
    common,
    constant,
    explicit_cast,
    implicit,
    is_unknown,
    number,
    relabel,
    required,
    resolve_unknown,
)
from sql.binder.context import BindContext, Source, placed
from sql.binder.scope import Scope
from sql.binder.tree import form_of, own_position, position_of, text_of
from sql.binder.types import resolve_type
from sql.binder.written import has_column
from sql.parse import forms

if TYPE_CHECKING:
    from sql.binder.queries import QueryBinder


def _character_of(name: str, index: int) -> str:
    """name[i]: a name is an array of "char", from 0."""
    return name[index] if 0 <= index < len(name) else ""


_NAME_CHARACTER: Final = Function("name_subscript", (NAME, INT4), CHAR, _character_of)
SLICE_BOUND_MIN: Final = -(2**31)
SLICE_BOUND_MAX: Final = 2**31 - 1
_NEGATED_COMPARISON: Final = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


class ExprBinder:
    """Binds expressions of one scope.  ``clause`` says where they stand: it decides what may appear in them."""

    def __init__(
        self, ctx: BindContext, source: Source, scope: Scope, queries: QueryBinder, clause: str = "SELECT"
    ) -> None:
        self.ctx = ctx
        self.source = source
        self.scope = scope
        self.queries = queries
        self.clause = clause
        self.no_sets = ""
        """Set inside CASE and COALESCE, where set-returning functions may not stand."""

    # --- entry points -------------------------------------------------------------------

    def bind(self, node: exp.Expr) -> Expr:
        """Any expression; literals may stay unknown."""
        method = _METHODS.get(type(node))
        if method is None:
            raise FeatureNotSupported(f"{node.key.upper()} is not supported here", position=position_of(node) + 1)
        return method(self, node)

    def bind_known(self, node: exp.Expr) -> Expr:
        """An expression whose type must be known: unknown literals become text."""
        return resolve_unknown(self.ctx, self.bind(node), position_of(node))

    def condition(self, node: exp.Expr, clause: str) -> Expr:
        """A boolean expression of WHERE, HAVING, ON..."""
        return boolean(self.ctx, self.bind(node), clause, position_of(node))

    def bind_all(self, nodes: Sequence[exp.Expr]) -> list[Expr]:
        return [self.bind(node) for node in nodes]

    # --- leaves -------------------------------------------------------------------------

    def _literal(self, node: exp.Expr) -> Expr:
        if node.args.get("is_string"):
            return Const(node.this, UNKNOWN)
        return number(str(node.this))

    def _null(self, node: exp.Expr) -> Expr:
        return Const(None, UNKNOWN)

    def _true(self, node: exp.Expr) -> Expr:
        return Const(True, BOOL)

    def _false(self, node: exp.Expr) -> Expr:
        return Const(False, BOOL)

    def _parameter(self, node: exp.Expr) -> Expr:
        return self.ctx.param(int(node.this.this))

    def _paren(self, node: exp.Expr) -> Expr:
        return self.bind(node.this)

    def _column(self, node: exp.Expr) -> Expr:
        return columns.bind_column(self, node)

    def _star(self, node: exp.Expr) -> Expr:
        raise error("42601", 'syntax error at or near "*"', position=position_of(node) + 1)

    def _scalar(self, node: exp.Expr) -> Expr:
        return subqueries.scalar(self, node)

    def _call(self, node: exp.Expr) -> Expr:
        method = _FORMS.get(node.name)
        if method is not None:
            return method(self, node)
        return calls.bind_call(self, node, node)

    def _suffixed(self, node: exp.Expr) -> Expr:
        return calls.bind_suffixed(self, node)

    def _dot(self, node: exp.Expr) -> Expr:
        return calls.bind_qualified(self, node)

    # --- calls of resolved functions ------------------------------------------------------

    def operator(
        self, symbol: str, left: Expr | None, right: Expr, position: int, positions: tuple[int, int] = (-1, -1)
    ) -> Expr:
        """A binary or prefix operator on bound operands."""
        try:
            found = resolve_operator(self.ctx.registry, symbol, None if left is None else left.type, right.type)
        except MeridianError as failure:
            raise placed(failure, position) from None
        args = [right] if left is None else [left, right]
        call = self.apply(found, args, positions[1:] if left is None else positions)
        if self.ctx.written is not None:
            self.ctx.written.note(call, "operator", symbol)
        return call

    def apply(self, found: Resolved, args: Sequence[Expr], positions: Sequence[int] = ()) -> Call:
        """A call of what the resolver chose, with its arguments coerced."""
        function: Function = found.function
        if function.volatility == VOLATILE:
            self.ctx.volatile = True
        coerced = [
            implicit(self.ctx, arg, target, positions[i] if i < len(positions) else -1)
            for i, (arg, target) in enumerate(zip(args, found.arg_types))
        ]
        if found.pack_from >= 0:
            array = function.arg_types[-1]
            packed = ArrayExpr(tuple(coerced[found.pack_from :]), array)
            coerced = [*coerced[: found.pack_from], packed]
        call = Call(function, tuple(coerced), found.result)
        if self.ctx.written is not None:
            self.ctx.written.note(call, "function", function.name, found.pack_from >= 0)
        return call

    def function(self, name: str, args: Sequence[Expr], position: int = -1) -> Call:
        """A call of a function that we name ourselves."""
        try:
            found = resolve_function(self.ctx.registry, name, [arg.type for arg in args])
        except MeridianError as failure:
            raise placed(failure, position) from None
        return self.apply(found, args)

    def equality(self, pg_type: PgType, position: int = -1) -> tuple[Function, PgType]:
        """``=`` of a type with itself: the function, and the type it takes."""
        try:
            found = resolve_operator(self.ctx.registry, "=", pg_type, pg_type)
        except MeridianError as failure:
            raise placed(failure, position) from None
        return found.function, found.arg_types[0]

    # --- operators ------------------------------------------------------------------------

    def _op(self, node: exp.Expr) -> Expr:
        """OP(symbol, left, right, symbol, right..): from left to right."""
        args = node.expressions
        position = own_position(node)
        if form_of(args[1]) == forms.ROW or form_of(args[2]) == forms.ROW:
            if len(args) == 3:
                return subqueries.row_comparison(self, text_of(args[0]), args[1], args[2], position)
        left, left_position = self.bind(args[1]), position_of(args[1])
        symbol_node = args[0]
        for i in range(2, len(args), 2):
            right = self.bind(args[i])
            at = position if i == 2 else position_of(symbol_node)
            left = self.operator(text_of(symbol_node), left, right, at, (left_position, position_of(args[i])))
            if i + 1 < len(args):
                symbol_node = args[i + 1]
        return left

    def _prefix(self, node: exp.Expr) -> Expr:
        symbol, operand = text_of(node.expressions[0]), node.expressions[1]
        # As in gram.y's doNegate: -2147483648 is an int4, though 2147483648 is not.
        if symbol == "-" and isinstance(operand, exp.Literal) and not operand.is_string:
            return number("-" + str(operand.this))
        return self.operator(symbol, None, self.bind(operand), own_position(node), (-1, position_of(operand)))

    def _and(self, node: exp.Expr) -> Expr:
        return And(tuple([boolean(self.ctx, self.bind(arg), "AND", position_of(arg)) for arg in node.expressions]))

    def _or(self, node: exp.Expr) -> Expr:
        return Or(tuple([boolean(self.ctx, self.bind(arg), "OR", position_of(arg)) for arg in node.expressions]))

    def _not(self, node: exp.Expr) -> Expr:
        arg = node.expressions[0]
        return Not(boolean(self.ctx, self.bind(arg), "NOT", position_of(arg)))

    def _is(self, node: exp.Expr) -> Expr:
        word, arg = text_of(node.expressions[0]), node.expressions[1]
        negated = word.startswith("not ")
        word = word.removeprefix("not ")
        bound = self.bind(arg)
        if word == "null":
            return IsNull(bound, negated)
        clause = f"IS {'NOT ' if negated else ''}{word.upper()}"
        value = {"true": True, "false": False, "unknown": None}[word]
        return IsBool(boolean(self.ctx, bound, clause, position_of(arg)), value, negated)

    def _distinct(self, node: exp.Expr) -> Expr:
        negated = text_of(node.expressions[0]).startswith("not ")
        left_node, right_node = node.expressions[1:3]
        if form_of(left_node) == forms.ROW and form_of(right_node) == forms.ROW:
            return subqueries.row_distinct(self, left_node, right_node, negated, own_position(node))
        left, right = self.bind(left_node), self.bind(right_node)
        # x IS DISTINCT FROM NULL is a test for NULL.
        for one, other in ((left, right), (right, left)):
            if isinstance(one, Const) and one.value is None and is_unknown(one):
                return IsNull(other, not negated)
        return self.distinct(left, right, negated, own_position(node))

    def distinct(self, left: Expr, right: Expr, negated: bool, position: int) -> Expr:
        try:
            found = resolve_operator(self.ctx.registry, "=", left.type, right.type)
        except MeridianError as failure:
            raise placed(failure, position) from None
        call = self.apply(found, (left, right))
        return IsDistinct(call.args[0], call.args[1], call.function, negated)

    def _between(self, node: exp.Expr) -> Expr:
        mode = text_of(node.expressions[0])
        position = own_position(node)
        value, low, high = self.bind_all(node.expressions[1:4])
        at = tuple([position_of(part) for part in node.expressions[1:4]])
        negated = mode.startswith("not ")
        found = self._within(value, low, high, (at[0], at[1], at[2]), negated, position)
        if mode.endswith("symmetric"):
            other = self._within(value, high, low, (at[0], at[2], at[1]), negated, position)
            found = And((found, other)) if negated else Or((found, other))
        if self.ctx.written is not None:
            self.ctx.written.note(found, "apart")
        return found

    def _within(
        self, value: Expr, low: Expr, high: Expr, at: tuple[int, int, int], negated: bool, position: int
    ) -> Expr:
        if negated:
            below = self.operator("<", value, low, position, (at[0], at[1]))
            return Or((below, self.operator(">", value, high, position, (at[0], at[2]))))
        above = self.operator(">=", value, low, position, (at[0], at[1]))
        return And((above, self.operator("<=", value, high, position, (at[0], at[2]))))

    # --- IN -------------------------------------------------------------------------------

    def _in(self, node: exp.Expr) -> Expr:
        negated = text_of(node.expressions[0]) == "not in"
        left_node, item_nodes = node.expressions[1], node.expressions[2:]
        position = own_position(node)
        if form_of(left_node) == forms.ROW:
            tests = [
                subqueries.row_comparison(self, "<>" if negated else "=", left_node, item, position)
                for item in item_nodes
            ]
            return _joined(tests, negated)
        left = self.bind(left_node)
        items = self.bind_all(item_nodes)
        places = [position_of(item) for item in item_nodes]
        return self.in_list(left, items, negated, position, [position_of(left_node), *places])

    def in_list(self, left: Expr, items: list[Expr], negated: bool, position: int, places: list[int]) -> Expr:
        """One lookup if all have a common type that is comparable, else OR of comparisons."""
        if len(items) > 1 and not any(item.type.oid == RECORD.oid or item.type.kind == "c" for item in (left, *items)):
            try:
                coerced, chosen, _ = common(self.ctx, [left, *items], "IN", places)
                equal, target = self.equality(chosen, position)
            except MeridianError:
                pass
            else:
                typed = coerced
                if target != chosen:
                    coerced = [implicit(self.ctx, item, target, at) for item, at in zip(coerced, places)]
                found = InList(coerced[0], tuple(coerced[1:]), equal, negated)
                if self.ctx.written is not None:
                    self._note_in(found, typed, left, items, symbol=("<>" if negated else "="))
                return found
        symbol = "<>" if negated else "="
        tests = [self.operator(symbol, left, item, position, (places[0], at)) for item, at in zip(items, places[1:])]
        return _joined(tests, negated)

    def _note_in(self, found: InList, typed: list[Expr], left: Expr, items: list[Expr], symbol: str) -> None:
        """PostgreSQL makes an array of items that are no columns, and compares each other one alone."""
        assert self.ctx.written is not None
        shared = [item for item in typed[1:] if not has_column(item)]
        alone = [item for item in items if has_column(item)] if len(shared) > 1 else items
        tests = [self.operator(symbol, left, item, -1) for item in alone]
        self.ctx.written.note(found, "in", typed[0], shared if len(shared) > 1 else [], tests)

    def _in_raw(self, node: exp.Expr) -> Expr:
        """A long list of literals that never became nodes."""
        negated = text_of(node.expressions[0]) == "not in"
        left_node = node.expressions[1]
        raw = self.source.raw_lists[int(text_of(node.expressions[2]))]
        left = self.bind(left_node)
        items: list[Expr] = [Const(text, UNKNOWN) if kind == "s" else number(text) for kind, text, _ in raw]
        places = [position_of(left_node), *[at for _, _, at in raw]]
        return self.in_list(left, items, negated, own_position(node), places)

    def _quantified(self, node: exp.Expr) -> Expr:
        symbol, kind = text_of(node.expressions[0]), text_of(node.expressions[1])
        left_node, right_node = node.expressions[2:4]
        position = own_position(node)
        if isinstance(right_node, exp.Subquery):
            return subqueries.quantified(self, symbol, kind, left_node, right_node, position)
        left, array = self.bind(left_node), self.bind(right_node)
        element: PgType | None = UNKNOWN
        if not is_unknown(array):
            element = array.type.elem if array.type.category == "A" else None
        if element is None:
            raise error("42809", "op ANY/ALL (array) requires array on right side", position=position + 1)
        try:
            found = resolve_operator(self.ctx.registry, symbol, left.type, element)
        except MeridianError as failure:
            raise placed(failure, position) from None
        if found.result.oid != BOOL.oid:
            raise error("42809", "op ANY/ALL (array) requires operator to yield boolean", position=position + 1)
        left = implicit(self.ctx, left, found.arg_types[0], position_of(left_node))
        target = found.arg_types[1].array_type
        if target is None:
            raise error(
                "42704",
                f"could not find array type for data type {type_name(found.arg_types[1])}",
                position=position + 1,
            )
        array = implicit(self.ctx, array, target, position_of(right_node))
        test = AnyAll(left, found.function, array, kind == "all")
        if self.ctx.written is not None:
            self.ctx.written.note(test, "any", symbol)
        return test

    # --- casts and collations ---------------------------------------------------------------

    def _cast(self, node: exp.Expr) -> Expr:
        operand = node.expressions[0]
        written = self.source.types[int(text_of(node.expressions[1]))]
        target, typmod = resolve_type(self.ctx, written)
        position = own_position(node)
        if form_of(operand) == forms.ARRAY and target.is_array:
            return self._array_of(operand, target, typmod, True)
        value = self.bind(operand)
        if is_unknown(value) and isinstance(value, Const):
            return constant(self.ctx, value.value, target, typmod, True, position_of(operand))
        return explicit_cast(self.ctx, value, target, typmod, position, position_of(operand))

    def _collate(self, node: exp.Expr) -> Expr:
        operand, name_node = node.expressions[0], node.expressions[1]
        name = text_of(name_node)
        schema = text_of(node.expressions[2]) if len(node.expressions) > 2 else None
        value = self.bind_known(operand)
        if value.type.category not in "SXA" and value.type.oid not in (18,):
            raise error(
                "42804",
                f"collations are not supported by type {type_name(value.type)}",
                position=own_position(node) + 1,
            )
        if name not in ("C", "POSIX", "default", "ucs_basic") or schema not in (None, "pg_catalog"):
            full = name if schema is None else f"{schema}.{name}"
            if name in ("en_US", "en_US.utf8", "C.UTF-8", "C.utf8", "und-x-icu", "en-x-icu", "unicode"):
                raise FeatureNotSupported(f'collation "{full}" is not supported', position=own_position(node) + 1)
            raise error(
                "42704", f'collation "{full}" for encoding "UTF8" does not exist', position=own_position(node) + 1
            )
        if self.ctx.written is not None:
            value, operand_expr = Call(relabel(value.type, value.type), (value,), value.type, value.typmod), value
            self.ctx.written.note(value, "collate", operand_expr, name)
        return value

    def _zone(self, node: exp.Expr) -> Expr:
        value, zone = self.bind_all(node.expressions)
        found = self.function("timezone", (zone, value), own_position(node))
        if self.ctx.written is not None:
            self.ctx.written.note(found, "zone")
        return found

    def _like_escape(self, node: exp.Expr) -> Expr:
        return self.function("like_escape", self.bind_all(node.expressions), position_of(node))

    def _similar(self, node: exp.Expr) -> Expr:
        return self.function("similar_to_escape", self.bind_all(node.expressions), position_of(node))

    def _bits(self, node: exp.Expr) -> Expr:
        text = text_of(node.expressions[0])
        return constant(self.ctx, text, BIT, -1, True, position_of(node))

    # --- subscripts and fields ----------------------------------------------------------------

    def _subscript(self, node: exp.Expr) -> Expr:
        args = node.expressions
        base = self.bind_known(args[0])
        position = position_of(node)
        parts: list[tuple[Expr | None, Expr | None, bool]] = []
        i = 1
        while i < len(args):
            if text_of(args[i]) == "i":
                parts.append((None, self._index(args[i + 1], base), False))
                i += 2
            else:
                parts.append((self._index(args[i + 1], base), self._index(args[i + 2], base), True))
                i += 3
        if base.type.oid == JSONB.oid:
            return self._json_subscript(base, parts, position)
        if base.type.oid == NAME.oid and len(parts) == 1 and not parts[0][2] and parts[0][1] is not None:
            return Call(_NAME_CHARACTER, (base, parts[0][1]), CHAR)
        if base.type.category != "A":
            text = f"cannot subscript type {type_name(base.type)} because it does not support subscripting"
            raise error("42804", text, position=position_of(args[0]) + 1)
        if any(is_slice for _, _, is_slice in parts):
            bounds: list[Expr] = []
            for low, high, is_slice in parts:
                bounds.append((low or Const(SLICE_BOUND_MIN, INT4)) if is_slice else Const(1, INT4))
                bounds.append(high or Const(SLICE_BOUND_MAX, INT4))
            found = self.function("array_slice", (base, *bounds), position)
        else:
            indexes = [high for _, high, _ in parts if high is not None]
            found = self.function("array_subscript", (base, *indexes), position)
            found.typmod = base.typmod
        if self.ctx.written is not None:
            self.ctx.written.note(found, "subscript", base, parts)
        return found

    def _index(self, node: exp.Expr, base: Expr) -> Expr | None:
        if form_of(node) == forms.EMPTY:
            return None
        value = self.bind(node)
        if base.type.oid == JSONB.oid:
            return value
        if value.type.oid not in (INT4.oid, UNKNOWN.oid, INT2.oid, INT8.oid):
            raise error("42804", "array subscript must have type integer", position=position_of(node) + 1)
        return required(self.ctx, value, INT4, "array subscript", position_of(node))

    def _json_subscript(self, base: Expr, parts: list[tuple[Expr | None, Expr | None, bool]], position: int) -> Expr:
        for _, key, is_slice in parts:
            if is_slice or key is None:
                raise error("0A000", "jsonb subscript does not support slices", position=position + 1)
            if is_unknown(key):
                key = implicit(self.ctx, key, TEXT)
            elif key.type.oid in (INT8.oid, INT2.oid):
                key = implicit(self.ctx, key, INT4)
            base = self.operator("->", base, key, position)
        return base

    def _field(self, node: exp.Expr) -> Expr:
        base, name = self.bind(node.expressions[0]), text_of(node.expressions[1])
        try:
            return self.field(base, name, position_of(node))
        except MeridianError as failure:
            row = node.expressions[0]
            if failure.sqlstate == "42703" and isinstance(row, exp.Column) and isinstance(base, RowExpr):
                raise error(
                    "42703", f"column {row.name}.{name} does not exist", position=position_of(node) + 1
                ) from None
            raise

    def field(self, base: Expr, name: str, position: int) -> Expr:
        """(composite).name."""
        fields = base.type.fields
        if not fields and base.type.kind != "c" and base.type.oid != RECORD.oid:
            text = f"column notation .{name} applied to type {type_name(base.type)}, which is not a composite type"
            raise error("42809", text, position=position + 1)
        for index, (field, pg_type) in enumerate(fields):
            if field == name:
                if isinstance(base, RowExpr):
                    return base.args[index]
                return Field(base, index, pg_type)
        if base.type.oid == RECORD.oid and not fields:
            raise error("42703", f'could not identify column "{name}" in record data type', position=position + 1)
        raise error("42703", f'column "{name}" not found in data type {type_name(base.type)}', position=position + 1)

    # --- CASE and friends -----------------------------------------------------------------------

    def _case(self, node: exp.Expr) -> Expr:
        args = list(node.expressions)
        flags = text_of(args.pop(0))
        sets, self.no_sets = self.no_sets, "CASE"
        subject_node = args.pop(0) if "s" in flags else None
        default_node = args.pop() if "e" in flags else None
        subject = self.bind_known(subject_node) if subject_node is not None else None
        conditions: list[Expr] = []
        for when in args[::2]:
            if subject is None or subject_node is None:
                conditions.append(boolean(self.ctx, self.bind(when), "CASE/WHEN", position_of(when)))
            else:
                conditions.append(self.operator("=", subject, self.bind(when), position_of(when)))
        results = self.bind_all(args[1::2])
        places = [position_of(result) for result in args[1::2]]
        default = self.bind(default_node) if default_node is not None else Const(None, UNKNOWN)
        # The default counts first for the common type, as in transformCaseExpr.
        coerced, chosen, typmod = common(self.ctx, [default, *results], "CASE", [position_of(default_node), *places])
        self.no_sets = sets
        found = Case(tuple(zip(conditions, coerced[1:])), coerced[0], chosen, typmod)
        if self.ctx.written is not None and subject is not None:
            self.ctx.written.note(found, "case", subject)
        if subject is not None and subqueries.is_volatile(subject):
            return subqueries.evaluated_once(self, subject, found)
        return found

    def _coalesce(self, node: exp.Expr) -> Expr:
        sets, self.no_sets = self.no_sets, "COALESCE"
        args = self.bind_all(node.expressions)
        self.no_sets = sets
        coerced, chosen, typmod = common(self.ctx, args, "COALESCE", [position_of(arg) for arg in node.expressions])
        return Coalesce(tuple(coerced), chosen, typmod)

    def _nullif(self, node: exp.Expr) -> Expr:
        if len(node.expressions) != 2:
            raise error("42601", "NULLIF requires two arguments", position=position_of(node) + 1)
        left, right = self.bind_all(node.expressions)
        places = [position_of(arg) for arg in node.expressions]
        test = self.operator("=", left, right, position_of(node), (places[0], places[1]))
        assert isinstance(test, Call), f"{test=}"
        value = test.args[0]
        if not is_unknown(left) and left.type != value.type:
            # The operator's own view of the argument (varchar as text) does not change the result's type.
            value = left
        found = Case(((test, Const(None, value.type)),), value, value.type, value.typmod)
        if self.ctx.written is not None:
            self.ctx.written.note(found, "nullif", *test.args)
        if subqueries.is_volatile(value):
            return subqueries.evaluated_once(self, value, found)
        return found

    def _extreme(self, node: exp.Expr) -> Expr:
        name = "greatest" if node.name == forms.GREATEST else "least"
        args = self.bind_all(node.expressions)
        coerced, chosen, typmod = common(self.ctx, args, name.upper(), [position_of(arg) for arg in node.expressions])
        if len(coerced) == 1:
            return coerced[0]
        found = self.function(name, coerced, position_of(node))
        found.typmod = typmod
        assert found.type == chosen, f"{found.type=} {chosen=}"
        return found

    def _array(self, node: exp.Expr) -> Expr:
        return self._array_of(node, None, -1, False)

    def _array_of(self, node: exp.Expr, target: PgType | None, typmod: int, explicit: bool) -> Expr:
        """ARRAY[..]; ``target`` is the array type it is cast to, if any."""
        nodes = node.expressions
        if not nodes:
            if target is None:
                raise error(
                    "42P18", "cannot determine type of empty array", position=position_of(node) + 1,
                    hint="Explicitly cast to the desired type, for example ARRAY[]::integer[].",
                )  # fmt: skip
            empty = Const((), target, typmod)
            if self.ctx.written is not None:
                self.ctx.written.note(empty, "empty array")
            return empty
        items = [
            self._array_of(item, target, typmod, explicit) if form_of(item) == forms.ARRAY else self.bind(item)
            for item in nodes
        ]
        places = [position_of(item) for item in nodes]
        is_nested = any(item.type.is_array for item in items)
        if target is not None and explicit:
            element = target if is_nested else target.elem
            assert element is not None, f"{target=}"
            cast = [explicit_cast(self.ctx, item, element, typmod, at, at) for item, at in zip(items, places)]
            return ArrayExpr(tuple(cast), target, typmod)
        coerced, chosen, shared = common(self.ctx, items, "ARRAY", places)
        array = chosen if chosen.is_array else chosen.array_type
        if array is None:
            raise error(
                "42704", f"could not find array type for data type {type_name(chosen)}", position=position_of(node) + 1
            )
        return ArrayExpr(tuple(coerced), array, shared)

    def _row(self, node: exp.Expr) -> Expr:
        # A parameter here has no type to take; a literal is text.
        items = tuple(
            [
                item if isinstance(item, Param) else resolve_unknown(self.ctx, item)
                for item in self.bind_all(node.expressions)
            ]
        )
        return RowExpr(items, record_type([(f"f{i}", item.type) for i, item in enumerate(items, 1)]))

    def _keyword(self, node: exp.Expr) -> Expr:
        return calls.keyword_value(self, node)

    def _grouping(self, node: exp.Expr) -> Expr:
        return calls.grouping(self, node)

    def _insub(self, node: exp.Expr) -> Expr:
        negated = text_of(node.expressions[0]) == "not in"
        found = subqueries.quantified(self, "=", "any", node.expressions[1], node.expressions[2], own_position(node))
        return Not(found) if negated else found

    def _exists(self, node: exp.Expr) -> Expr:
        return subqueries.exists(self, node.expressions[0])

    def _array_subquery(self, node: exp.Expr) -> Expr:
        return subqueries.array(self, node.expressions[0])

    def _overlaps(self, node: exp.Expr) -> Expr:
        sides = node.expressions
        if any(form_of(side) != forms.ROW or len(side.expressions) != 2 for side in sides):
            which = "left" if form_of(sides[0]) != forms.ROW or len(sides[0].expressions) != 2 else "right"
            raise error(
                "42601",
                f"wrong number of parameters on {which} side of OVERLAPS expression",
                position=position_of(sides[0]) + 1,
            )
        return self.function(
            "overlaps", [self.bind(arg) for side in sides for arg in side.expressions], position_of(node)
        )

    def _default(self, node: exp.Expr) -> Expr:
        raise error("42601", "DEFAULT is not allowed in this context", position=position_of(node) + 1)

    def _misplaced(self, node: exp.Expr) -> Expr:
        raise error("42601", f"{node.name.lstrip(chr(0))} is not allowed here", position=position_of(node) + 1)

    def _row_star(self, node: exp.Expr) -> Expr:
        raise error("0A000", 'row expansion via "*" is not supported here', position=position_of(node) + 1)

    def _variadic(self, node: exp.Expr) -> Expr:
        raise error("42601", "VARIADIC is not allowed here", position=position_of(node) + 1)


def _joined(tests: list[Expr], negated: bool) -> Expr:
    if len(tests) == 1:
        return tests[0]
    return And(tuple(tests)) if negated else Or(tuple(tests))


def record_type(fields: Sequence[tuple[str, PgType]]) -> PgType:
    """An anonymous row type that knows its columns."""
    return PgType(RECORD.oid, "record", -1, "P", RECORD.array_oid, kind="p", fields=tuple(fields))


_Method = Callable[[ExprBinder, exp.Expr], Expr]
_METHODS: Final[dict[type, _Method]] = {
    exp.Literal: ExprBinder._literal, exp.Parameter: ExprBinder._parameter,
    exp.Paren: ExprBinder._paren, exp.Column: ExprBinder._column, exp.Star: ExprBinder._star,
    exp.Anonymous: ExprBinder._call, exp.Window: ExprBinder._suffixed, exp.Filter: ExprBinder._suffixed,
    exp.WithinGroup: ExprBinder._suffixed, exp.Dot: ExprBinder._dot,
}  # fmt: skip
_FORMS: Final[dict[str, _Method]] = {
    forms.NULL: ExprBinder._null, forms.TRUE: ExprBinder._true, forms.FALSE: ExprBinder._false, forms.SCALAR: ExprBinder._scalar,
    forms.OP: ExprBinder._op, forms.PREFIX: ExprBinder._prefix, forms.AND: ExprBinder._and, forms.OR: ExprBinder._or,
    forms.NOT: ExprBinder._not, forms.QUANTIFIED: ExprBinder._quantified, forms.IN: ExprBinder._in, forms.INSUB: ExprBinder._insub,
    forms.INRAW: ExprBinder._in_raw, forms.BETWEEN: ExprBinder._between, forms.IS: ExprBinder._is, forms.DISTINCT: ExprBinder._distinct,
    forms.CAST: ExprBinder._cast, forms.COLLATE: ExprBinder._collate, forms.ZONE: ExprBinder._zone,
    forms.LIKE_ESCAPE: ExprBinder._like_escape, forms.SIMILAR: ExprBinder._similar, forms.SUBSCRIPT: ExprBinder._subscript,
    forms.FIELD: ExprBinder._field, forms.STAR: ExprBinder._row_star, forms.CASE: ExprBinder._case, forms.ARRAY: ExprBinder._array,
    forms.ARRAYSUB: ExprBinder._array_subquery, forms.ROW: ExprBinder._row, forms.EXISTS: ExprBinder._exists,
    forms.NAMED: ExprBinder._misplaced, forms.VARIADIC: ExprBinder._variadic, forms.KEYWORD: ExprBinder._keyword,
    forms.DEFAULT: ExprBinder._default, forms.EMPTY: ExprBinder._misplaced, forms.NOTHING: ExprBinder._misplaced,
    forms.COALESCE: ExprBinder._coalesce, forms.NULLIF: ExprBinder._nullif, forms.GREATEST: ExprBinder._extreme,
    forms.LEAST: ExprBinder._extreme, forms.GROUPING: ExprBinder._grouping, forms.ROLLUP: ExprBinder._misplaced,
    forms.CUBE: ExprBinder._misplaced, forms.SETS: ExprBinder._misplaced, forms.ORDINALITY: ExprBinder._misplaced,
    forms.ROWS: ExprBinder._misplaced, forms.COLDEFS: ExprBinder._misplaced, forms.TIES: ExprBinder._misplaced,
    forms.OVERLAPS: ExprBinder._overlaps, forms.BITS: ExprBinder._bits, forms.SET_ONE: ExprBinder._misplaced,
    forms.SET_ROW: ExprBinder._misplaced, forms.SET_PART: ExprBinder._misplaced, forms.WHEN: ExprBinder._misplaced,
}  # fmt: skip
