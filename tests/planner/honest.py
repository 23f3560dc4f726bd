"""Evaluates expressions by walking the tree: slow, plain, and the definition the compiler must meet."""

from __future__ import annotations

from typing import Any

from planner.expr import (
    And,
    AnyAll,
    ArrayExpr,
    Call,
    Case,
    Coalesce,
    Col,
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


class Honest:
    """One row's values by column id, and the parameters."""

    def __init__(self, columns: dict[int, Any], params: tuple[Any, ...] = (), ctx: Any = None) -> None:
        self.columns = columns
        self.params = params
        self.ctx = ctx

    def value(self, expr: Expr) -> Any:
        match expr:
            case Const():
                return expr.value
            case Param():
                return self.params[expr.index - 1]
            case Col():
                return self.columns[expr.id]
            case Call():
                return self.apply(expr.function, [self.value(arg) for arg in expr.args])
            case Or():
                return self.connect(expr.args, True)
            case And():
                return self.connect(expr.args, False)
            case Not():
                arg = self.value(expr.arg)
                return None if arg is None else not arg
            case IsNull():
                return (self.value(expr.arg) is None) != expr.negated
            case IsBool():
                return (self.value(expr.arg) is expr.value) != expr.negated
            case IsDistinct():
                return self.distinct(expr) != expr.negated
            case Case():
                for condition, result in expr.whens:
                    if self.value(condition) is True:
                        return self.value(result)
                return self.value(expr.default)
            case Coalesce():
                for arg in expr.args:
                    found = self.value(arg)
                    if found is not None:
                        return found
                return None
            case ArrayExpr() | RowExpr():
                return tuple([self.value(arg) for arg in expr.args])
            case Field():
                row = self.value(expr.arg)
                return None if row is None else row[expr.index]
            case InList():
                verdict = self.any_of(self.value(expr.left), expr.equal, expr.items)
                return verdict if verdict is None or not expr.negated else not verdict
            case AnyAll():
                return self.any_all(expr)
        raise AssertionError(expr)

    def apply(self, function: Any, args: list[Any]) -> Any:
        if function.strict and None in args:
            return None
        return function.impl(*([self.ctx] if function.needs_context else []), *args)

    def connect(self, args: tuple[Expr, ...], decides: bool) -> bool | None:
        unknown = False
        for arg in args:
            found = self.value(arg)
            if found is decides:
                return decides
            unknown = unknown or found is None
        return None if unknown else not decides

    def distinct(self, expr: IsDistinct) -> bool:
        left, right = self.value(expr.left), self.value(expr.right)
        if left is None or right is None:
            return not (left is None and right is None)
        return not self.apply(expr.equal, [left, right])

    def any_of(self, left: Any, equal: Any, items: tuple[Expr, ...]) -> bool | None:
        unknown = False
        for item in items:
            found = self.apply(equal, [left, self.value(item)])
            if found is True:
                return True
            unknown = unknown or found is None
        return None if unknown else False

    def any_all(self, expr: AnyAll) -> bool | None:
        left, array = self.value(expr.left), self.value(expr.array)
        if array is None:
            return None
        verdicts = [self.apply(expr.operator, [left, item]) for item in array]
        decides = not expr.is_all
        if decides in verdicts:
            return decides
        return None if None in verdicts else not decides
