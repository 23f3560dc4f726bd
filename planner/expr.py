"""Typed scalar expressions: what the binder makes and the executor compiles.

Every node knows its ``type`` (a PgType) and ``typmod``; all implicit casts are explicit
``Call`` nodes, all names and overloads resolved.  Nodes are immutable once built.

A *column id* is an integer unique within one statement: each column of each scan, and
each computed column, gets its own (as in Cascades-style optimizers), so rewrites never
rename.  ``planner.nodes.Metadata`` knows name, type and origin of each id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Union

from base.types import BOOL, PgType

if TYPE_CHECKING:
    from planner.functions.registry import Function
    from planner.nodes import Node


class Expr:
    """Base of all expressions."""

    __slots__ = ("type", "typmod")
    type: PgType
    typmod: int

    def children(self) -> tuple[Expr, ...]:
        """Direct sub-expressions, in order."""
        return ()

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        """A copy with other sub-expressions, same order and number."""
        assert not children
        return self

    def __repr__(self) -> str:
        from planner.explain import expr_text

        return expr_text(self)


class Const(Expr):
    """A value; ``None`` is NULL."""

    __slots__ = ("value",)

    def __init__(self, value: Any, type: PgType, typmod: int = -1) -> None:
        self.value = value
        self.type = type
        self.typmod = typmod


class Param(Expr):
    """``$index`` (from 1); its type was inferred or declared."""

    __slots__ = ("index",)

    def __init__(self, index: int, type: PgType, typmod: int = -1) -> None:
        self.index = index
        self.type = type
        self.typmod = typmod


class Col(Expr):
    """A column, by id.  An id that no input of the node provides is an outer (correlated) reference."""

    __slots__ = ("id", "name")

    def __init__(self, id: int, type: PgType, typmod: int = -1, name: str = "") -> None:
        self.id = id
        self.type = type
        self.typmod = typmod
        self.name = name


class Call(Expr):
    """A resolved function, operator or cast.  ``function.strict`` tells that NULL in gives NULL out."""

    __slots__ = ("args", "function")

    def __init__(self, function: Function, args: tuple[Expr, ...], type: PgType, typmod: int = -1) -> None:
        self.function = function
        self.args = args
        self.type = type
        self.typmod = typmod

    def children(self) -> tuple[Expr, ...]:
        return self.args

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return Call(self.function, children, self.type, self.typmod)


class And(Expr):
    """Three-valued AND of two or more."""

    __slots__ = ("args",)

    def __init__(self, args: tuple[Expr, ...]) -> None:
        self.args = args
        self.type = BOOL
        self.typmod = -1

    def children(self) -> tuple[Expr, ...]:
        return self.args

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return type(self)(children)


class Or(And):
    """Three-valued OR of two or more."""

    __slots__ = ()


class Not(Expr):
    __slots__ = ("arg",)

    def __init__(self, arg: Expr) -> None:
        self.arg = arg
        self.type = BOOL
        self.typmod = -1

    def children(self) -> tuple[Expr, ...]:
        return (self.arg,)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return Not(children[0])


class IsNull(Expr):
    """IS NULL, or IS NOT NULL when ``negated`` (for rows: all fields null / all not null)."""

    __slots__ = ("arg", "negated")

    def __init__(self, arg: Expr, negated: bool = False) -> None:
        self.arg = arg
        self.negated = negated
        self.type = BOOL
        self.typmod = -1

    def children(self) -> tuple[Expr, ...]:
        return (self.arg,)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return IsNull(children[0], self.negated)


class IsBool(Expr):
    """IS [NOT] TRUE / FALSE / UNKNOWN; ``value`` is True, False or None."""

    __slots__ = ("arg", "negated", "value")

    def __init__(self, arg: Expr, value: bool | None, negated: bool = False) -> None:
        self.arg = arg
        self.value = value
        self.negated = negated
        self.type = BOOL
        self.typmod = -1

    def children(self) -> tuple[Expr, ...]:
        return (self.arg,)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return IsBool(children[0], self.value, self.negated)


class IsDistinct(Expr):
    """IS [NOT] DISTINCT FROM, by the equality operator ``equal``."""

    __slots__ = ("equal", "left", "negated", "right")

    def __init__(self, left: Expr, right: Expr, equal: Function, negated: bool = False) -> None:
        self.left = left
        self.right = right
        self.equal = equal
        self.negated = negated
        self.type = BOOL
        self.typmod = -1

    def children(self) -> tuple[Expr, ...]:
        return (self.left, self.right)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return IsDistinct(children[0], children[1], self.equal, self.negated)


class Case(Expr):
    """Searched CASE (the simple form is bound to it); evaluates lazily.  COALESCE is its own node."""

    __slots__ = ("default", "whens")

    def __init__(self, whens: tuple[tuple[Expr, Expr], ...], default: Expr, type: PgType, typmod: int = -1) -> None:
        self.whens = whens
        self.default = default
        self.type = type
        self.typmod = typmod

    def children(self) -> tuple[Expr, ...]:
        return (*(e for when in self.whens for e in when), self.default)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        whens = tuple((children[i], children[i + 1]) for i in range(0, len(children) - 1, 2))
        return Case(whens, children[-1], self.type, self.typmod)


class Coalesce(Expr):
    __slots__ = ("args",)

    def __init__(self, args: tuple[Expr, ...], type: PgType, typmod: int = -1) -> None:
        self.args = args
        self.type = type
        self.typmod = typmod

    def children(self) -> tuple[Expr, ...]:
        return self.args

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return Coalesce(children, self.type, self.typmod)


class ArrayExpr(Expr):
    """ARRAY[..]; type is the array type.  Multi-dimensional arrays nest ArrayExprs."""

    __slots__ = ("args",)

    def __init__(self, args: tuple[Expr, ...], type: PgType, typmod: int = -1) -> None:
        self.args = args
        self.type = type
        self.typmod = typmod

    def children(self) -> tuple[Expr, ...]:
        return self.args

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return ArrayExpr(children, self.type, self.typmod)


class RowExpr(Expr):
    """ROW(..); type is RECORD or a composite type."""

    __slots__ = ("args",)

    def __init__(self, args: tuple[Expr, ...], type: PgType) -> None:
        self.args = args
        self.type = type
        self.typmod = -1

    def children(self) -> tuple[Expr, ...]:
        return self.args

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return RowExpr(children, self.type)


class Field(Expr):
    """(composite).field, by position."""

    __slots__ = ("arg", "index")

    def __init__(self, arg: Expr, index: int, type: PgType, typmod: int = -1) -> None:
        self.arg = arg
        self.index = index
        self.type = type
        self.typmod = typmod

    def children(self) -> tuple[Expr, ...]:
        return (self.arg,)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return Field(children[0], self.index, self.type, self.typmod)


class InList(Expr):
    """left IN (items): all of left's type, compared with ``equal``.  Constant lists may hold thousands."""

    __slots__ = ("equal", "items", "left", "negated")

    def __init__(self, left: Expr, items: tuple[Expr, ...], equal: Function, negated: bool = False) -> None:
        self.left = left
        self.items = items
        self.equal = equal
        self.negated = negated
        self.type = BOOL
        self.typmod = -1

    def children(self) -> tuple[Expr, ...]:
        return (self.left, *self.items)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return InList(children[0], children[1:], self.equal, self.negated)


class AnyAll(Expr):
    """left op ANY/ALL (array)."""

    __slots__ = ("array", "is_all", "left", "operator")

    def __init__(self, left: Expr, operator: Function, array: Expr, is_all: bool) -> None:
        self.left = left
        self.operator = operator
        self.array = array
        self.is_all = is_all
        self.type = BOOL
        self.typmod = -1

    def children(self) -> tuple[Expr, ...]:
        return (self.left, self.array)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return AnyAll(children[0], self.operator, children[1], self.is_all)


class Subquery(Expr):
    """A query used as a value.

    ``kind``: ``scalar`` (at most one row, else 21000), ``exists``, ``array`` (ARRAY(SELECT..)),
    ``any``/``all`` with ``test``: a boolean expression over the outer columns and the
    subquery's output columns (``left op subquery column``), evaluated for each row.  IN is ``any`` with =;
    NOT IN is Not(any).  ``plan`` may hold Cols of outer queries (correlated).
    """

    __slots__ = ("kind", "plan", "test")

    def __init__(self, kind: str, plan: Node, type: PgType, typmod: int = -1, test: Expr | None = None) -> None:
        self.kind = kind
        self.plan = plan
        self.test = test
        self.type = type
        self.typmod = typmod


class AggCall(Expr):
    """An aggregate in an Aggregate node, or (with ``window``) a window function in a Window node.

    ``function`` is an ``Aggregate`` (or ``WindowFunction``) of the registry.
    """

    __slots__ = ("args", "distinct", "filter", "function", "order_by")

    def __init__(
        self,
        function: Any,
        args: tuple[Expr, ...],
        type: PgType,
        typmod: int = -1,
        distinct: bool = False,
        filter: Expr | None = None,
        order_by: tuple[SortKey, ...] = (),
    ) -> None:
        self.function = function
        self.args = args
        self.type = type
        self.typmod = typmod
        self.distinct = distinct
        self.filter = filter
        self.order_by = order_by


class SortKey:
    """One ORDER BY item.  PostgreSQL's default: NULLS LAST ascending, FIRST descending."""

    __slots__ = ("descending", "expr", "nulls_first")

    def __init__(self, expr: Expr, descending: bool = False, nulls_first: bool | None = None) -> None:
        self.expr = expr
        self.descending = descending
        self.nulls_first = descending if nulls_first is None else nulls_first


Scalar = Union[Const, Param, Col]


def walk(expr: Expr, visit: Callable[[Expr], None]) -> None:
    """Calls ``visit`` on the expression and everything below it (not into subquery plans)."""
    visit(expr)
    for child in expr.children():
        walk(child, visit)


def transform(expr: Expr, rewrite: Callable[[Expr], Expr]) -> Expr:
    """Rewrites bottom-up; shares what did not change."""
    children = expr.children()
    if children:
        new = tuple(transform(child, rewrite) for child in children)
        if any(a is not b for a, b in zip(children, new)):
            expr = expr.with_children(new)
    return rewrite(expr)
