"""A small reader of scalar SQL expressions, so that function tests can be written as SQL before (and without) the binder.

    'text'  1  1.5  NULL  true  ARRAY[a, b]  ROW(a, b)  f(a, b)  a::type(n)  type 'text'  a op b  op a  a IS NULL
    a = ANY (b)  CASE WHEN a THEN b ELSE c END  x AND y  NOT x  COALESCE(a, b)  a IN (b, c)  a[i]  a[l:u]

Precedence is PostgreSQL's for the operators it knows.  No columns, no subqueries.
"""

from __future__ import annotations

import re
from decimal import Decimal

from base.typeio import typmod_from_args
from base.types import BOOL, BY_NAME, INT4, INT8, NUMERIC, RECORD, SQL_NAMES, TEXT, UNKNOWN, PgType, array_of
from planner.expr import (
    And,
    AnyAll,
    ArrayExpr,
    Case,
    Coalesce,
    Const,
    Expr,
    InList,
    IsBool,
    IsDistinct,
    IsNull,
    Not,
    Or,
    RowExpr,
)
from planner.functions.calls import build, call, coerce, operate
from planner.functions.coercion import select_common_type
from planner.functions.registry import Registry
from planner.functions.resolve import resolve_operator

_TOKEN = re.compile(
    r"""\s*(?:(?P<estring>[eE]'(?:[^'\\]|''|\\.)*')|(?P<bits>[bB]'[01]*')|(?P<string>'(?:[^']|'')*')|(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)"""
    r"""|(?P<word>"[^"]+"|[A-Za-z_][A-Za-z_0-9]*)|(?P<symbol>::|:|[(),\[\].]|[-+*/<>=~!@#%^&|`?]+))""",
    re.VERBOSE,
)
_PRECEDENCE = {
    "^": 9,
    "*": 8,
    "/": 8,
    "%": 8,
    "+": 7,
    "-": 7,
    "<": 4,
    ">": 4,
    "=": 4,
    "<=": 4,
    ">=": 4,
    "<>": 4,
    "!=": 4,
}
_LIKE = {"like": "~~", "ilike": "~~*"}
_OTHER = 6
_TYPE_WORDS = (
    "timestamp with time zone", "timestamp without time zone", "time with time zone", "time without time zone", "double precision",
    "character varying", "bit varying",
)  # fmt: skip


def _operator(symbol: str) -> str:
    """An operator ends in + or - only if it has one of the unusual characters."""
    while len(symbol) > 1 and symbol[-1] in "+-" and not any(c in "~!@#%^&|`?" for c in symbol):
        symbol = symbol[:-1]
    return symbol


class MiniSql:
    """Parses one expression and types it."""

    def __init__(self, registry: Registry, text: str) -> None:
        self.registry = registry
        self.tokens: list[tuple[str, str]] = []
        at = 0
        text = text.strip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            assert match is not None, text[at:]
            kind = match.lastgroup
            assert kind is not None
            found = match.group(kind)
            if kind == "symbol":
                found = _operator(found)
            self.tokens.append((kind, found))
            at = match.end() - len(match.group(kind)) + len(found)
        self.tokens.append(("end", ""))
        self.at = 0

    # --- tokens ------------------------------------------------------------------

    def peek(self, ahead: int = 0) -> str:
        at = self.at + ahead
        if at >= len(self.tokens) or self.tokens[at][0] in ("string", "estring"):
            return ""
        return self.tokens[at][1].lower()

    def take(self, wanted: str = "") -> str:
        text = self.tokens[self.at][1]
        assert not wanted or text.lower() == wanted, f"{wanted=} {self.tokens[self.at :]}"
        self.at += 1
        return text

    def accept(self, wanted: str) -> bool:
        if self.peek() == wanted:
            self.at += 1
            return True
        return False

    # --- expressions -------------------------------------------------------------

    def parse(self) -> Expr:
        expr = self.disjunction()
        assert self.tokens[self.at][0] == "end", self.tokens[self.at :]
        return expr

    def boolean(self, expr: Expr) -> Expr:
        return coerce(self.registry, expr, BOOL)

    def disjunction(self) -> Expr:
        parts = [self.conjunction()]
        while self.accept("or"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else Or(tuple([self.boolean(p) for p in parts]))

    def conjunction(self) -> Expr:
        parts = [self.negation()]
        while self.accept("and"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else And(tuple([self.boolean(p) for p in parts]))

    def negation(self) -> Expr:
        if self.accept("not"):
            return Not(self.boolean(self.negation()))
        return self.predicate()

    def predicate(self) -> Expr:
        expr = self.binary(0)
        while True:
            negated = self.peek() == "not" and self.peek(1) in ("in", "like", "ilike")
            if negated:
                self.take()
            if self.accept("is"):
                expr = self._is(expr)
            elif self.accept("in"):
                expr = self._in(expr, negated)
            elif self.peek() in _LIKE:
                found: Expr = operate(
                    self.registry, ("!" if negated else "") + _LIKE[self.take().lower()], expr, self.binary(5)
                )
                expr = found
            else:
                return expr

    def _is(self, expr: Expr) -> Expr:
        negated = self.accept("not")
        word = self.take().lower()
        if word == "null":
            return IsNull(expr, negated)
        if word == "distinct":
            self.take("from")
            right = self.binary(0)
            resolved = resolve_operator(self.registry, "=", expr.type, right.type)
            pair = build(self.registry, resolved, (expr, right))
            return IsDistinct(pair.args[0], pair.args[1], resolved.function, negated)
        return IsBool(self.boolean(expr), {"true": True, "false": False, "unknown": None}[word], negated)

    def _in(self, expr: Expr, negated: bool) -> Expr:
        items = self.arguments()
        common = select_common_type(self.registry, [expr.type, *[item.type for item in items]], "IN")
        equal = resolve_operator(self.registry, "=", common, common).function
        return InList(
            coerce(self.registry, expr, common),
            tuple([coerce(self.registry, i, common) for i in items]),
            equal,
            negated,
        )

    def binary(self, least: int) -> Expr:
        left = self.unary()
        while True:
            kind, symbol = self.tokens[self.at]
            if kind != "symbol" or symbol in ("::", ":", "(", ")", ",", "[", "]", "."):
                return left
            precedence = _PRECEDENCE.get(symbol, _OTHER)
            if precedence < least:
                return left
            self.take()
            if self.peek() in ("any", "all"):
                left = self._any(left, symbol)
                continue
            left = operate(self.registry, symbol if symbol != "!=" else "<>", left, self.binary(precedence + 1))

    def _any(self, left: Expr, symbol: str) -> Expr:
        is_all = self.take().lower() == "all"
        self.take("(")
        array = self.disjunction()
        self.take(")")
        if array.type == UNKNOWN:
            array = coerce(self.registry, array, array_of(TEXT if left.type == UNKNOWN else left.type))
        assert array.type.elem is not None
        resolved = resolve_operator(self.registry, symbol, left.type, array.type.elem)
        return AnyAll(coerce(self.registry, left, resolved.arg_types[0]), resolved.function, array, is_all)

    def unary(self) -> Expr:
        kind, text = self.tokens[self.at]
        if kind == "symbol" and text not in ("(",):
            self.take()
            operand = self.unary() if text != "-" else self.binary(9)
            if text == "-" and isinstance(operand, Const) and operand.type in (INT4, INT8, NUMERIC):
                return negated(operand)
            return operate(self.registry, text, None, operand)
        return self.postfix(self.primary())

    def postfix(self, expr: Expr) -> Expr:
        while True:
            if self.accept("::"):
                pg_type, typmod = self.type_name()
                expr = coerce(self.registry, expr, pg_type, "e", typmod)
            elif self.accept("["):
                expr = self._subscript(expr)
            else:
                return expr

    def _subscript(self, expr: Expr) -> Expr:
        bounds: list[Expr] = []
        is_slice = False
        while True:
            low = Const(-(2**31), INT4) if self.peek() == ":" else self.disjunction()
            if self.accept(":"):
                is_slice = True
                high = Const(2**31 - 1, INT4) if self.peek() == "]" else self.disjunction()
                bounds += [low, high]
            else:
                bounds.append(low)
            self.take("]")
            if not self.accept("["):
                break
        return call(self.registry, "array_slice" if is_slice else "array_subscript", [expr, *bounds])

    def type_name(self) -> tuple[PgType, int]:
        words = self.take()
        quoted = words[0] == '"'
        words = words.strip('"')
        for full in _TYPE_WORDS:
            rest = full.split()
            if [words.lower(), *[self.peek(i) for i in range(len(rest) - 1)]] == rest:
                for _ in rest[1:]:
                    self.take()
                words = full
                break
        name = words if quoted else SQL_NAMES.get(words.lower(), words.lower())
        pg_type = BY_NAME[name]
        args: list[int] = []
        if self.accept("("):
            while True:
                negative = self.accept("-")
                args.append(int(self.take()) * (-1 if negative else 1))
                if not self.accept(","):
                    break
            self.take(")")
        if not args and words.lower() in ("char", "character", "bit") and not quoted:
            args = [1]
        typmod = typmod_from_args(pg_type, args) if args else -1
        while self.peek() == "[" and self.peek(1) == "]":
            self.at += 2
            pg_type = array_of(pg_type) if not pg_type.is_array else pg_type
        return pg_type, typmod

    # --- primaries ---------------------------------------------------------------

    def primary(self) -> Expr:
        kind, text = self.tokens[self.at]
        if kind == "string":
            self.take()
            return Const(text[1:-1].replace("''", "'"), UNKNOWN)
        if kind == "estring":
            self.take()
            return Const(_unescape(text[2:-1]), UNKNOWN)
        if kind == "bits":
            self.take()
            return Const(text[2:-1], BY_NAME["bit"], len(text) - 3)
        if kind == "number":
            self.take()
            return number(text)
        if self.accept("("):
            return self.parenthesis()
        return self.word(text)

    def parenthesis(self) -> Expr:
        expr = self.disjunction()
        if self.peek() != ",":
            self.take(")")
            return expr
        items = [expr]
        while self.accept(","):
            items.append(self.disjunction())
        self.take(")")
        return self.row(items)

    def row(self, items: list[Expr]) -> Expr:
        items = [coerce(self.registry, item, TEXT) if item.type == UNKNOWN else item for item in items]
        fields = tuple([(f"f{i}", item.type) for i, item in enumerate(items, 1)])
        return RowExpr(tuple(items), PgType(RECORD.oid, "record", -1, "P", 2287, kind="p", fields=fields))

    def word(self, text: str) -> Expr:
        lowered = text.lower()
        if lowered in ("null", "true", "false"):
            self.take()
            return Const({"null": None, "true": True, "false": False}[lowered], UNKNOWN if lowered == "null" else BOOL)
        if lowered == "array":
            self.take()
            return self.array()
        if lowered == "case":
            return self.case()
        if lowered == "row" and self.peek(1) == "(":
            self.take()
            return self.row(self.arguments())
        if self.tokens[self.at + 1][0] in ("string", "estring") or (
            lowered in ("timestamp", "time", "double") and self.peek(1) != "("
        ):
            pg_type, typmod = self.type_name()
            return coerce(self.registry, self.primary(), pg_type, "e", typmod)
        self.take()
        if lowered == "coalesce":
            items = self.arguments()
            common = select_common_type(self.registry, [item.type for item in items], "COALESCE")
            return Coalesce(tuple([coerce(self.registry, item, common) for item in items]), common)
        variadic = self.peek(1) == "variadic"
        return call(self.registry, text.strip('"') if text[0] == '"' else lowered, self.arguments(), variadic)

    def arguments(self) -> list[Expr]:
        self.take("(")
        items: list[Expr] = []
        while self.peek() != ")" or self.tokens[self.at][0] != "symbol":
            self.accept("variadic")
            items.append(self.disjunction())
            self.accept(",")
        self.take(")")
        return items

    def array(self) -> Expr:
        self.take("[")
        items: list[Expr] = []
        while self.peek() != "]":
            items.append(self.array() if self.peek() == "[" else self.disjunction())
            self.accept(",")
        self.take("]")
        if not items:
            return ArrayExpr((), BY_NAME["_text"])
        common = select_common_type(self.registry, [item.type for item in items], "ARRAY")
        fitted = tuple([coerce(self.registry, item, common) for item in items])
        return ArrayExpr(fitted, common if common.is_array else array_of(common))

    def case(self) -> Expr:
        self.take("case")
        whens: list[tuple[Expr, Expr]] = []
        while self.accept("when"):
            condition = self.boolean(self.disjunction())
            self.take("then")
            whens.append((condition, self.disjunction()))
        default: Expr = Const(None, UNKNOWN)
        if self.accept("else"):
            default = self.disjunction()
        self.take("end")
        common = select_common_type(self.registry, [default.type, *[result.type for _, result in whens]], "CASE")
        fitted = tuple([(c, coerce(self.registry, r, common)) for c, r in whens])
        return Case(fitted, coerce(self.registry, default, common), common)


def number(text: str) -> Const:
    if text.isdigit():
        value = int(text)
        if value < 2**31:
            return Const(value, INT4)
        if value < 2**63:
            return Const(value, INT8)
    found = Decimal(text)
    exponent = found.as_tuple().exponent
    assert isinstance(exponent, int)
    return Const(found if exponent <= 0 else Decimal(int(found)), NUMERIC)


def negated(operand: Const) -> Const:
    """A signed literal is one constant, of the smallest type."""
    if isinstance(operand.value, Decimal):
        return Const(operand.value.copy_negate() if operand.value else operand.value, NUMERIC)
    return Const(-operand.value, INT4 if operand.value <= 2**31 else INT8)


def _unescape(text: str) -> str:
    codes = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", "'": "'"}
    body = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m.group(1), 16)), text)
    return re.sub(r"\\(.)", lambda m: codes.get(m.group(1), m.group(1)), body).replace("''", "'")
