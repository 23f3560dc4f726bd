"""Bound expressions as PostgreSQL prints them: pg_get_expr and everything built on it.

Plain text has a pair of parentheses around every operator; pretty text leaves out those that precedence makes
needless, by the same rules as PostgreSQL's isSimpleNode.  Casts that nobody asked for are shown inside operators and
calls (``(name)::text = 'x'::text``) and hidden elsewhere.

What an expression was written as is in ``sql.binder.written``.  What cannot be printed raises ``NotPrintable``: then the
text that was written is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from base.typeio import IoSettings, text_out
from base.types import BOOL, INT4, NUMERIC, REGCLASS, UNKNOWN, PgType
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
    RowExpr,
)
from sql.binder.written import Form, Written
from sql.pgcatalog.quoting import quote_identifier

BREAK: Final = "\x01"
"""Stands for the line breaks of CASE until all is put together: blanks before one go."""
INDENT: Final = "    "
_BLANKS_BEFORE_BREAK: Final = re.compile(f" *{BREAK}")
_LOW: Final = "+-"
_HIGH: Final = "*/%"
_UPPERCASE: Final = {"greatest": "GREATEST", "least": "LEAST"}


class NotPrintable(Exception):
    """The expression has a part whose text is not known."""


class ExpressionText:
    """Prints expressions over the columns of one relation."""

    def __init__(
        self, written: Written, columns: dict[int, str], io: IoSettings, type_text: Callable[[PgType, int], str],
        is_pretty: bool,
    ) -> None:  # fmt: skip
        self.written = written
        self.columns = columns
        """Names by column id."""
        self.io = io
        self.type_text = type_text
        """A type's name as format_type prints it."""
        self.is_pretty = is_pretty
        self.depth = 0
        """Of CASEs around what is printed."""

    def whole(self, expr: Expr) -> str:
        """The text of a whole expression."""
        return _BLANKS_BEFORE_BREAK.sub("\n", self.text(expr))

    # --- the two ways an expression is printed ------------------------------------------------

    def text(self, expr: Expr, shows_casts: bool = False) -> str:
        """An expression that stands alone; with ``shows_casts`` implicit casts are shown, too."""
        form = self.written.form(expr)
        by_form = _FORMS.get(form.kind)
        if by_form is not None:
            return by_form(self, expr, form, shows_casts)
        by_type = _TYPES.get(type(expr))
        if by_type is None:
            raise NotPrintable(type(expr).__name__)
        return by_type(self, expr)

    def operand(self, expr: Expr, shows_casts: bool, parent: Expr) -> str:
        """An expression inside ``parent``, in parentheses where it needs them."""
        text = self.text(expr, shows_casts)
        return f"({text})" if self.is_pretty and not self._is_simple(expr, parent) else text

    def _wrapped(self, text: str) -> str:
        """The parentheses that pretty text leaves to the parent."""
        return text if self.is_pretty else f"({text})"

    def _list(self, exprs: Sequence[Expr]) -> str:
        return ", ".join([self.text(expr, True) for expr in exprs])

    # --- leaves ---------------------------------------------------------------------------------

    def column(self, expr: Col) -> str:
        name = self.columns.get(expr.id)
        if name is None:
            raise NotPrintable("a column of another relation")
        return quote_identifier(name)

    def constant(self, expr: Const) -> str:
        return self._constant(expr, True)

    def _constant(self, expr: Const, is_labelled: bool) -> str:
        """A constant, with its type where the text alone would be read as another."""
        pg_type, label = expr.type, self.type_text(expr.type, -1)
        if expr.value is None:
            return f"NULL::{label}" if is_labelled and pg_type.oid != UNKNOWN.oid else "NULL"
        text = expr.value if pg_type.oid == UNKNOWN.oid else text_out(pg_type, expr.value, self.io)
        if pg_type.oid == BOOL.oid:
            return "true" if expr.value else "false"
        if pg_type.oid == INT4.oid and not text.startswith("-"):
            return str(text)
        if pg_type.oid == NUMERIC.oid and text[:1].isdigit() and ("." in text or "e" in text):
            return str(text)
        quoted = "'" + str(text).replace("'", "''") + "'"
        return f"{quoted}::{label}" if is_labelled and pg_type.oid != UNKNOWN.oid else quoted

    def literal(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        """A literal that was read as a type: cut to its length only where the length was written."""
        whole, is_explicit = form.parts
        if expr.typmod >= 0 and (is_explicit or shows_casts):
            return f"{self._constant(whole, False)}::{self.type_text(expr.type, expr.typmod)}"
        return self._constant(whole, True)

    # --- casts ------------------------------------------------------------------------------------

    def cast(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        operand, is_explicit = form.parts
        if not is_explicit and not shows_casts:
            return self.text(operand)
        target = self.type_text(expr.type, expr.typmod)
        if expr.type.oid == REGCLASS.oid and isinstance(operand, Const):
            # A default holds on to its sequence by OID.
            return self._constant(Const(operand.value, expr.type), True)
        if self._is_constant_of(operand, expr.type):
            return f"{self._constant(self._whole(operand), False)}::{target}"
        inner = self.operand(operand, False, expr)
        return f"{inner}::{target}" if self.is_pretty else f"({inner})::{target}"

    def _is_constant_of(self, expr: Expr, pg_type: PgType) -> bool:
        """True if only a length is applied to a constant."""
        return isinstance(expr, Const) and expr.type == pg_type and expr.typmod < 0

    def _whole(self, expr: Expr) -> Const:
        form = self.written.form(expr)
        found = form.parts[0] if form.kind == "literal" else expr
        assert isinstance(found, Const), f"{found=}"
        return found

    def collate(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        operand, name = form.parts
        return self._wrapped(f"{self.operand(operand, shows_casts, expr)} COLLATE {quote_identifier(name)}")

    # --- operators ----------------------------------------------------------------------------------

    def operator(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        (symbol,) = form.parts
        args = expr.children()
        if len(args) == 1:
            return self._wrapped(f"{symbol} {self.operand(args[0], True, expr)}")
        left, right = self.operand(args[0], True, expr), self.operand(args[1], True, expr)
        return self._wrapped(f"{left} {symbol} {right}")

    def conjunction(self, expr: And) -> str:
        word = " OR " if isinstance(expr, Or) else " AND "
        return self._wrapped(word.join([self.operand(arg, False, expr) for arg in self._flat(expr)]))

    def apart(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        return self.conjunction(expr) if isinstance(expr, And) else self._by_type(expr)

    def _by_type(self, expr: Expr) -> str:
        return _TYPES[type(expr)](self, expr)

    def _flat(self, expr: And) -> list[Expr]:
        """``a AND b AND c`` is one AND of three, from the left."""
        first = expr.args[0]
        if type(first) is type(expr) and self.written.form(first).kind != "apart":
            assert isinstance(first, And), f"{first=}"
            return [*self._flat(first), *expr.args[1:]]
        return list(expr.args)

    def negation(self, expr: Not) -> str:
        return self._wrapped(f"NOT {self.operand(expr.arg, False, expr)}")

    def null_test(self, expr: IsNull) -> str:
        word = "IS NOT NULL" if expr.negated else "IS NULL"
        return self._wrapped(f"{self.operand(expr.arg, True, expr)} {word}")

    def bool_test(self, expr: IsBool) -> str:
        word = {True: "TRUE", False: "FALSE", None: "UNKNOWN"}[expr.value]
        shown = self.operand(expr.arg, False, expr)
        return self._wrapped(f"{shown} IS {'NOT ' if expr.negated else ''}{word}")

    def distinct(self, expr: IsDistinct) -> str:
        left, right = self.operand(expr.left, True, expr), self.operand(expr.right, True, expr)
        test = self._wrapped(f"{left} IS DISTINCT FROM {right}")
        if not expr.negated:
            return test
        # IS NOT DISTINCT FROM is a NOT around the test.
        return self._wrapped(f"NOT {test}")

    def any_all(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        assert isinstance(expr, AnyAll), f"{expr=}"
        word = "ALL" if expr.is_all else "ANY"
        left = self.operand(expr.left, True, expr)
        return self._wrapped(f"{left} {form.parts[0]} {word} ({self.operand(expr.array, True, expr)})")

    def in_list(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        """Those items that are no columns make an array; each other one is compared alone."""
        assert isinstance(expr, InList), f"{expr=}"
        left, items, alone = form.parts
        symbol = "<>" if expr.negated else "="
        tests = []
        if items:
            array = f"ARRAY[{self._list(items)}]"
            if expr.left is not left:
                target = self.type_text(expr.left.type.array_type or expr.left.type, -1)
                array = f"({array})::{target}" if not self.is_pretty else f"{array}::{target}"
            word = "ALL" if expr.negated else "ANY"
            test = self._wrapped(f"{self.operand(expr.left, True, expr)} {symbol} {word} ({array})")
            tests.append(f"({test})" if self.is_pretty and alone else test)
        tests += [self.text(test) for test in alone]
        return tests[0] if len(tests) == 1 else self._wrapped((" AND " if expr.negated else " OR ").join(tests))

    # --- calls ----------------------------------------------------------------------------------------

    def function(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        name, is_variadic = form.parts
        args = expr.children()
        if name in _UPPERCASE:
            packed = args[-1]
            return f"{_UPPERCASE[name]}({self._list(packed.children() if is_variadic else args)})"
        if name == "extract" and isinstance(args[0], Const):
            return f"EXTRACT({args[0].value} FROM {self.text(args[1])})"
        if name == "position":
            return f"POSITION(({self.text(args[1])}) IN ({self.text(args[0])}))"
        shown = [self.text(arg, True) for arg in args]
        if is_variadic:
            shown[-1] = "VARIADIC " + shown[-1]
        return f"{quote_identifier(name)}({', '.join(shown)})"

    def keyword(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        return str(form.parts[0])

    def zone(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        zone, value = expr.children()
        return f"({self.operand(value, False, expr)} AT TIME ZONE {self.operand(zone, False, expr)})"

    def coalesce(self, expr: Coalesce) -> str:
        return f"COALESCE({self._list(expr.args)})"

    def nullif(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        return f"NULLIF({self._list(form.parts)})"

    def array(self, expr: ArrayExpr) -> str:
        if not expr.args:
            return f"ARRAY[]::{self.type_text(expr.type, expr.typmod)}"
        return f"ARRAY[{self._list(expr.args)}]"

    def empty_array(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        return f"ARRAY[]::{self.type_text(expr.type, expr.typmod)}"

    def row(self, expr: RowExpr) -> str:
        return f"ROW({self._list(expr.args)})"

    def field(self, expr: Field) -> str:
        names = expr.arg.type.fields
        if expr.index >= len(names):
            raise NotPrintable("a field without a name")
        return f"({self.text(expr.arg)}).{quote_identifier(names[expr.index][0])}"

    def subscript(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        base, parts = form.parts
        shown = self.text(base, shows_casts)
        text = shown if isinstance(base, Col) else f"({shown})"
        for low, high, is_slice in parts:
            bound = "" if high is None else self.text(high)
            text += f"[{'' if low is None else self.text(low)}:{bound}]" if is_slice else f"[{bound}]"
        return text

    # --- CASE -----------------------------------------------------------------------------------------

    def searched(self, expr: Case) -> str:
        self.depth += 1
        return self._case(expr, "", [self.text(condition) for condition, _ in expr.whens])

    def simple(self, expr: Expr, form: Form, shows_casts: bool) -> str:
        assert isinstance(expr, Case), f"{expr=}"
        self.depth += 1
        values = [self.text(condition.children()[1]) for condition, _ in expr.whens]
        return self._case(expr, " " + self.text(form.parts[0], True), values)

    def _case(self, expr: Case, subject: str, tests: list[str]) -> str:
        # The line breaks are PostgreSQL's, in plain text too: CASE begins a line, and each of its branches.
        outer = BREAK + INDENT * (self.depth - 1)
        parts = [f"{outer}CASE{subject}"]
        for test, (_, result) in zip(tests, expr.whens):
            parts.append(f"{outer}{INDENT}WHEN {test} THEN {self.text(result, True)}")
        parts.append(f"{outer}{INDENT}ELSE {self.text(expr.default, True)}{outer}END")
        self.depth -= 1
        return "".join(parts)

    # --- parentheses of pretty text --------------------------------------------------------------------

    def _is_simple(self, expr: Expr, parent: Expr) -> bool:
        """True if an expression needs no parentheses inside ``parent``."""
        kind = self.written.form(expr).kind
        if kind == "cast":
            operand, _ = self.written.form(expr).parts
            return not _is_relabel(expr) or self._is_simple(operand, expr)
        if kind == "operator":
            return self._binds_tighter(expr, parent) or self._has_own_parentheses(parent, True)
        if kind in ("collate", "any", "in"):
            return False
        if isinstance(expr, (And, Not)):
            return self._is_simple_logic(expr, parent)
        if isinstance(expr, (IsNull, IsBool, IsDistinct)):
            return self._has_own_parentheses(parent, True)
        return True

    def _binds_tighter(self, expr: Expr, parent: Expr) -> bool:
        """For + - * / %: precedence, and the left operand of an operator of its own rank."""
        outer = self.written.form(parent)
        if outer.kind != "operator" or len(expr.children()) != 2 or len(parent.children()) != 2:
            return False
        symbol, around = self.written.form(expr).parts[0], outer.parts[0]
        if symbol not in _LOW + _HIGH or around not in _LOW + _HIGH:
            return False
        if (symbol in _HIGH) != (around in _HIGH):
            return symbol in _HIGH
        return expr is parent.children()[0]

    def _has_own_parentheses(self, parent: Expr, in_logic: bool) -> bool:
        """True if the parent encloses what is in it, as calls do; or is AND, OR, NOT."""
        kind = self.written.form(parent).kind
        if kind in ("cast", "operator", "zone", "any", "in", "collate"):
            return False
        if isinstance(parent, (And, Not)):
            return in_logic
        return not isinstance(parent, (IsNull, IsBool, IsDistinct, Field))

    def _is_simple_logic(self, expr: Expr, parent: Expr) -> bool:
        if isinstance(parent, Not):
            return False
        if isinstance(parent, Or):
            return True
        if isinstance(parent, And):
            return not isinstance(expr, Or)
        return self._has_own_parentheses(parent, False)


def looks_like_function(written: Written, expr: Expr) -> bool:
    """True if an expression's text is a call, which CREATE INDEX takes without parentheses."""
    return written.form(expr).kind in ("function", "zone", "nullif", "keyword") or isinstance(expr, Coalesce)


def _is_relabel(expr: Expr) -> bool:
    return isinstance(expr, Call) and expr.function.name in ("relabel", "io_cast")


_ByForm = Callable[[ExpressionText, Expr, Form, bool], str]
_FORMS: Final[dict[str, _ByForm]] = {
    "literal": ExpressionText.literal, "cast": ExpressionText.cast, "collate": ExpressionText.collate,
    "operator": ExpressionText.operator, "apart": ExpressionText.apart, "any": ExpressionText.any_all, "in": ExpressionText.in_list,
    "function": ExpressionText.function, "keyword": ExpressionText.keyword, "zone": ExpressionText.zone,
    "nullif": ExpressionText.nullif, "empty array": ExpressionText.empty_array, "subscript": ExpressionText.subscript,
    "case": ExpressionText.simple,
}  # fmt: skip
_TYPES: Final[dict[type, Callable[[ExpressionText, Any], str]]] = {
    Col: ExpressionText.column, Const: ExpressionText.constant, And: ExpressionText.conjunction, Or: ExpressionText.conjunction,
    Not: ExpressionText.negation, IsNull: ExpressionText.null_test, IsBool: ExpressionText.bool_test,
    IsDistinct: ExpressionText.distinct, Coalesce: ExpressionText.coalesce, ArrayExpr: ExpressionText.array, RowExpr: ExpressionText.row,
    Field: ExpressionText.field, Case: ExpressionText.searched,
}  # fmt: skip
