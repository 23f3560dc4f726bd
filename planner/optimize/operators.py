"""What a function means to the optimizer: comparison symbols, commutation, strictness."""

from __future__ import annotations

from typing import Final

from planner.expr import AnyAll, Call, Col, Expr, InList, IsBool, IsDistinct, IsNull, Not
from planner.functions.registry import Function, Registry

COMMUTED: Final = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
NEGATED: Final = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
INTEGER_OIDS: Final = (20, 21, 23)
TEXT_OIDS: Final = (25, 1043, 19)
"""text, varchar, name: one key form, one order."""


class Operators:
    """Operators of a registry by function name; made once per registry."""

    def __init__(self, registry: Registry) -> None:
        self.symbols: dict[str, str] = {}
        self.functions: dict[tuple[str, int, int], Function] = {}
        for symbol, functions in registry.operators.items():
            for function in functions:
                if len(function.arg_types) == 2:
                    self.symbols.setdefault(function.name, symbol)
                    self.functions[symbol, function.arg_types[0].oid, function.arg_types[1].oid] = function

    def symbol(self, function: Function) -> str | None:
        """The operator symbol of a comparison function, or None."""
        found = self.symbols.get(function.name)
        return found if found in COMMUTED else None

    def comparison(self, expr: Expr) -> tuple[str, Expr, Expr] | None:
        """(symbol, left, right) of a comparison call whose sides order alike; None otherwise."""
        if not isinstance(expr, Call) or len(expr.args) != 2:
            return None
        symbol = self.symbol(expr.function)
        if symbol is None or not same_order(expr.args[0], expr.args[1]):
            return None
        return symbol, expr.args[0], expr.args[1]

    def commuted(self, function: Function) -> Function | None:
        """The function of the operator with its sides exchanged."""
        symbol = self.symbol(function)
        if symbol is None:
            return None
        left, right = function.arg_types[0].oid, function.arg_types[1].oid
        return self.functions.get((COMMUTED[symbol], right, left))

    def negated(self, function: Function) -> Function | None:
        """The function of the negated comparison."""
        symbol = self.symbol(function)
        if symbol is None:
            return None
        return self.functions.get((NEGATED[symbol], function.arg_types[0].oid, function.arg_types[1].oid))


def same_order(left: Expr, right: Expr) -> bool:
    """True if datums of both sides compare directly: equal types, or two integers, two texts, two floats."""
    a, b = left.type.oid, right.type.oid
    if a == b:
        return True
    return any(a in family and b in family for family in (INTEGER_OIDS, TEXT_OIDS, (700, 701)))


def strip_relabel(expr: Expr) -> Expr:
    """Looks through casts that keep the datum and its order: integer widening, varchar to text."""
    while isinstance(expr, Call) and len(expr.args) >= 1:
        source, target = expr.args[0].type.oid, expr.type.oid
        if not _is_cast(expr) or not keeps_datum(source, target, expr.args[0]):
            return expr
        expr = expr.args[0]
    return expr


def _is_cast(expr: Call) -> bool:
    return len(expr.args) == 1 and (expr.function.name == expr.type.name or expr.function.name in ("relabel", "cast"))


def keeps_datum(source: int, target: int, arg: Expr) -> bool:
    """True where a cast gives the same Python object in the same order."""
    if source in TEXT_OIDS and target in TEXT_OIDS:
        return target != 19
    widths = {21: 2, 23: 4, 20: 8}
    return source in widths and target in widths and widths[source] <= widths[target]


def rejects_null(expr: Expr, columns: set[int]) -> bool:
    """True if the condition cannot be true when all of ``columns`` are NULL."""
    if isinstance(expr, IsNull):
        return expr.negated and _is_null_on_null(expr.arg, columns)
    if isinstance(expr, IsBool):
        return expr.value is not None and not expr.negated and _is_null_on_null(expr.arg, columns)
    if expr.__class__.__name__ == "And":
        return any(rejects_null(arg, columns) for arg in expr.children())
    if expr.__class__.__name__ == "Or":
        return all(rejects_null(arg, columns) for arg in expr.children())
    return _is_null_on_null(expr, columns)


def _is_null_on_null(expr: Expr, columns: set[int]) -> bool:
    """True if the expression is NULL (or not true) whenever all of ``columns`` are NULL."""
    if isinstance(expr, Col):
        return expr.id in columns
    if isinstance(expr, Call):
        return (
            expr.function.strict
            and not expr.function.returns_set
            and any(_is_null_on_null(arg, columns) for arg in expr.args)
        )
    if isinstance(expr, Not):
        return _is_null_on_null(expr.arg, columns)
    if isinstance(expr, (InList, AnyAll)):
        return expr.__class__ is InList and _is_null_on_null(expr.left, columns)
    if isinstance(expr, IsDistinct):
        return False
    if expr.__class__.__name__ in ("And", "Or"):
        test = any if expr.__class__.__name__ == "And" else all
        return test([_is_null_on_null(arg, columns) for arg in expr.children()])
    return False
