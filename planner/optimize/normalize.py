"""Rewrites of scalar expressions: constants folded, NOT pushed down, AND/OR flattened.

Folding calls only immutable functions on constants, and never hides an error: a call that
raises stays as it is, to raise when (and if) it is evaluated.
"""

from __future__ import annotations

from typing import Any, Final

from base.errors import MeridianError
from base.types import BOOL
from planner.context import ExecContext, NeedsAwait
from planner.exec.compile import compile_scalar
from planner.expr import And, Call, Case, Coalesce, Const, Expr, InList, IsBool, IsNull, Not, Or, Subquery, transform
from planner.functions.registry import IMMUTABLE
from planner.nodes import Filter, Node, Values
from planner.optimize.operators import Operators
from planner.optimize.tree import conjoin, conjuncts, disjuncts, fingerprint, is_true, is_volatile, map_exprs, map_tree

FOLDED_BYTES_MAX: Final = 1 << 16
"""A constant larger than this is not worth keeping in a plan."""

TRUE: Final = Const(True, BOOL)
FALSE: Final = Const(False, BOOL)
NULL: Final = Const(None, BOOL)


class Normalizer:
    """Applies the rules to expressions and trees of one statement."""

    def __init__(self, operators: Operators) -> None:
        self.operators = operators

    def tree(self, node: Node) -> Node:
        return map_tree(node, self._node)

    def _node(self, node: Node) -> Node:
        if isinstance(node, Values) and len(node.rows) > 1:
            return node
        node = map_exprs(node, self.expr)
        if isinstance(node, Filter) and is_true(node.condition):
            return node.input
        return node

    def expr(self, expr: Expr) -> Expr:
        return transform(expr, self._rewrite)

    def _rewrite(self, expr: Expr) -> Expr:
        if isinstance(expr, Subquery):
            return Subquery(
                expr.kind,
                self.tree(expr.plan),
                expr.type,
                expr.typmod,
                None if expr.test is None else self.expr(expr.test),
            )
        if isinstance(expr, Call):
            return self._fold(expr)
        if isinstance(expr, Or):
            return _junction(expr, TRUE, FALSE)
        if isinstance(expr, And):
            return _junction(expr, FALSE, TRUE)
        if isinstance(expr, Not):
            return self._negate(expr)
        if isinstance(expr, Case):
            return _case(expr)
        if isinstance(expr, Coalesce):
            return _coalesce(expr)
        if isinstance(expr, (IsNull, IsBool)) and isinstance(expr.arg, Const) and not isinstance(expr.arg.value, tuple):
            return fold(expr)
        return expr

    def _fold(self, expr: Call) -> Expr:
        function = expr.function
        if function.volatility != IMMUTABLE or function.returns_set:
            return expr
        if (
            function.strict
            and any(isinstance(arg, Const) and arg.value is None for arg in expr.args)
            and not function.needs_context
        ):
            return Const(None, expr.type, expr.typmod)
        if function.needs_context or not all(isinstance(arg, Const) for arg in expr.args):
            return expr
        return fold(expr)

    def _negate(self, expr: Not) -> Expr:
        arg = expr.arg
        if isinstance(arg, Not):
            return arg.arg
        if isinstance(arg, Const):
            return NULL if arg.value is None else Const(not arg.value, BOOL)
        if isinstance(arg, IsNull) and arg.arg.type.kind != "c" and arg.arg.type.name != "record":
            return IsNull(arg.arg, not arg.negated)
        if isinstance(arg, Or):
            return self._rewrite(And(tuple([self._negate(Not(term)) for term in arg.args])))
        if isinstance(arg, And):
            return self._rewrite(Or(tuple([self._negate(Not(term)) for term in arg.args])))
        if isinstance(arg, InList):
            return InList(arg.left, arg.items, arg.equal, not arg.negated)
        if isinstance(arg, Call):
            negated = self.operators.negated(arg.function)
            if negated is not None and negated.arg_types == arg.function.arg_types and arg.function.strict:
                return Call(negated, arg.args, BOOL)
        return expr


def fold(expr: Expr) -> Expr:
    """Evaluates a constant expression now; unchanged if that fails."""
    try:
        value = compile_scalar(expr, {})((), (), _NO_CONTEXT)
    except (MeridianError, NeedsAwait, ArithmeticError, _Consulted):
        return expr
    if isinstance(value, (str, bytes, tuple)) and len(value) > FOLDED_BYTES_MAX:
        return expr
    return Const(value, expr.type, expr.typmod)


class _Consulted(Exception):
    """A supposedly immutable function looked at its context."""


class _NoContext:
    """Stands for the context while folding: any use of it stops the folding."""

    def __getattr__(self, name: str) -> Any:
        raise _Consulted(name)


_NO_CONTEXT: Final[ExecContext] = _NoContext()  # type: ignore[assignment]  # every attribute raises


def _junction(expr: And, absorbing: Const, neutral: Const) -> Expr:
    """Flattens AND (absorbing FALSE) or OR (absorbing TRUE) and drops what does not matter."""
    terms = disjuncts(expr) if isinstance(expr, Or) else conjuncts(expr)
    kept: list[Expr] = []
    for term in terms:
        if isinstance(term, Const) and term.value is not None:
            if term.value == absorbing.value:
                return absorbing
            continue
        kept.append(term)
    if not kept:
        return neutral
    if len(kept) == 1:
        return kept[0]
    return factored(kept) if isinstance(expr, Or) else And(tuple(kept))


def factored(terms: list[Expr]) -> Expr:
    """OR with what all its terms share taken out: ``a AND x OR a AND y`` is ``a AND (x OR y)``."""
    parts = [conjuncts(term) for term in terms]
    names = [{fingerprint(part) for part in group} for group in parts]
    common = [part for part in parts[0] if not is_volatile(part) and all(fingerprint(part) in group for group in names)]
    if not common:
        return Or(tuple(terms))
    shared = {fingerprint(part) for part in common}
    rests = [conjoin([part for part in group if fingerprint(part) not in shared]) for group in parts]
    if any(rest is None for rest in rests):
        return common[0] if len(common) == 1 else And(tuple(common))
    return And((*common, Or(tuple([rest for rest in rests if rest is not None]))))


def _case(expr: Case) -> Expr:
    whens: list[tuple[Expr, Expr]] = []
    for condition, value in expr.whens:
        if isinstance(condition, Const):
            if condition.value is True:
                return value if not whens else Case(tuple(whens), value, expr.type, expr.typmod)
            continue
        whens.append((condition, value))
    if not whens:
        return expr.default
    return Case(tuple(whens), expr.default, expr.type, expr.typmod)


def _coalesce(expr: Coalesce) -> Expr:
    kept: list[Expr] = []
    for arg in expr.args:
        if isinstance(arg, Const) and arg.value is None:
            continue
        kept.append(arg)
        if isinstance(arg, Const):
            break
    if not kept:
        return Const(None, expr.type, expr.typmod)
    return kept[0] if len(kept) == 1 else Coalesce(tuple(kept), expr.type, expr.typmod)
