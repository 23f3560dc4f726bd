"""The jsonpath type: parsing and printing (PostgreSQL 15 manual: 9.16.2, 8.14.7).

The datum is the canonical text, as PostgreSQL prints it: ``$.a ? (@ > 1)`` is ``$."a"?(@ > 1)``.  ``parse_path``
gives its tree:

    Path = (head, accessor, accessor, ..)       each a Step(kind, args)

    heads       root  current  last  null  bool v  number v  string v  variable name
                arithmetic op left right   sign op path
                and l r   or l r   not p   unknown p   exists path
                compare op left right   starts left right   regex path pattern flags
    accessors   key name   keys   items   index ((from, to | None), ..)   levels first last   filter p   method name

What is compared or computed are Paths; levels are counted from 0, LEVEL_LAST is ``last``.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

from base.errors import FeatureNotSupported, MeridianError, error
from base.typeio.json import quote
from base.typeio.numeric import parse_numeric, render_numeric

PATHS_CACHED_MAX: Final = 1024
DEPTH_MAX: Final = 200
"""Nesting of a path; every level is several frames here and in whoever walks it."""
LEVEL_LAST: Final = 2**32 - 1
_PREDICATES: Final = frozenset(("and", "or", "not", "unknown", "exists", "compare", "starts", "regex"))
_METHODS: Final = frozenset(("abs", "size", "type", "floor", "double", "ceiling", "keyvalue"))
_PRIORITY: Final = {"or": 0, "and": 1, "compare": 2, "starts": 2, "sign": 5}
_COMPARISONS: Final = {"==": "==", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_TOKEN: Final = re.compile(
    r"""(?P<blank>[ \t\n\r\f]+|/\*(?:[^*]|\*(?!/))*\*/)
      |(?P<number>(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      |(?P<string>"(?:[^"\\]|\\.)*")
      |(?P<variable>\$(?:"(?:[^"\\]|\\.)*"|(?:[^?%$.\[\]{}()|&!=<>@#,*:\-+/\\" \t\n\r\f]|\\.)+))
      |(?P<symbol>&&|\|\||==|!=|<>|<=|>=|\*\*|[?%$.\[\]{}()|&!=<>@#,*:\-+/])
      |(?P<word>(?:[^?%$.\[\]{}()|&!=<>@#,*:\-+/\\" \t\n\r\f]|\\.)+)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(?:u\{([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Step(NamedTuple):
    """A head or an accessor."""

    kind: str
    args: tuple[Any, ...] = ()


Path = tuple[Step, ...]


class JsonPath(NamedTuple):
    is_strict: bool
    path: Path


class Token(NamedTuple):
    kind: str
    """number, string, variable, symbol, word, end."""
    value: str
    """Of strings, variables and words what they mean."""
    text: str


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        digits = match[1] or match[2] or match[3]
        if digits is None:
            return _ESCAPES.get(match[4], match[4])
        code = int(digits, 16)
        if code == 0:
            raise error("22P05", "unsupported Unicode escape sequence", detail="\\u0000 cannot be converted to text.")
        if code > 0x10FFFF:
            raise error("22P02", "invalid Unicode code point")
        return chr(code)

    joined = _ESCAPE.sub(replace, text)
    try:
        return joined.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise error("22P02", "invalid input syntax for type jsonpath", detail="Unicode low surrogate must follow a high surrogate.") from None  # fmt: skip


def _scan(text: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _syntax(text[at:])
        at = match.end()
        kind, shown = match.lastgroup or "", match[0]
        if kind == "blank":
            continue
        if kind == "number" and at < len(text) and (text[at].isalnum() or text[at] == "_"):
            raise error(
                "42601", f'trailing junk after numeric literal at or near "{shown}{text[at]}" of jsonpath input'
            )
        value = shown
        if kind == "string":
            value = _unescaped(shown[1:-1])
        elif kind == "variable":
            value = _unescaped(shown[2:-1] if shown[1] == '"' else shown[1:])
        elif kind == "word":
            value = _unescaped(shown)
        found.append(Token(kind, value, shown))
    found.append(Token("end", "", ""))
    return found


def _syntax(text: str) -> MeridianError:
    where = f'at or near "{text}"' if text else "at end"
    return error("42601", f"syntax error {where} of jsonpath input")


class _Parser:
    """Recursive descent; each level returns a path, whose first step tells whether it is a predicate."""

    def __init__(self, text: str) -> None:
        self.tokens = _scan(text)
        self.at = 0
        self.depth = 0

    # --- tokens -----------------------------------------------------------------------------

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def fail(self) -> MeridianError:
        return _syntax(self.token.text)

    def is_symbol(self, *symbols: str) -> bool:
        return self.token.kind == "symbol" and self.token.value in symbols

    def is_word(self, word: str) -> bool:
        return self.token.kind == "word" and self.token.value.lower() == word

    def accept(self, symbol: str) -> bool:
        if self.is_symbol(symbol):
            self.at += 1
            return True
        return False

    def accept_word(self, word: str) -> bool:
        if self.is_word(word):
            self.at += 1
            return True
        return False

    def expect(self, symbol: str) -> None:
        if not self.accept(symbol):
            raise self.fail()

    def string(self) -> str:
        if self.token.kind != "string":
            raise self.fail()
        self.at += 1
        return self.tokens[self.at - 1].value

    # --- the whole ----------------------------------------------------------------------------

    def whole(self) -> JsonPath:
        is_strict = False
        if self.is_word("strict") or self.is_word("lax"):
            is_strict = self.is_word("strict")
            self.at += 1
        path = self.disjunction()
        if self.token.kind != "end":
            raise self.fail()
        return JsonPath(is_strict, path)

    # --- predicates -----------------------------------------------------------------------------

    def disjunction(self) -> Path:
        left = self.conjunction()
        while self.is_symbol("||"):
            left = self._logic("or", left, self.conjunction)
        return left

    def conjunction(self) -> Path:
        left = self.test()
        while self.is_symbol("&&"):
            left = self._logic("and", left, self.test)
        return left

    def _logic(self, kind: str, left: Path, operand: Any) -> Path:
        if not is_predicate(left):
            raise self.fail()
        self.at += 1
        right = operand()
        if not is_predicate(right):
            raise self.fail()
        return (Step(kind, (left, right)),)

    def test(self) -> Path:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise error("54001", "stack depth limit exceeded")
        try:
            return self._negation() if self.is_symbol("!") else self._comparison()
        finally:
            self.depth -= 1

    def _negation(self) -> Path:
        self.expect("!")
        if self.is_word("exists"):
            return (Step("not", (self._exists(),)),)
        self.expect("(")
        inner = self.disjunction()
        if not is_predicate(inner):
            raise self.fail()
        self.expect(")")
        return (Step("not", (inner,)),)

    def _exists(self) -> Path:
        self.at += 1
        self.expect("(")
        inner = self._expression()
        self.expect(")")
        return (Step("exists", (inner,)),)

    def _expression(self) -> Path:
        found = self.sum()
        if is_predicate(found):
            raise self.fail()
        return found

    def _comparison(self) -> Path:
        if self.is_word("exists") and self.tokens[self.at + 1].text == "(":
            return self._exists()
        left = self.sum()
        if is_predicate(left):
            return left
        if self.token.kind == "symbol" and self.token.value in _COMPARISONS:
            symbol = _COMPARISONS[self.token.value]
            self.at += 1
            return (Step("compare", (symbol, left, self._expression())),)
        if self.accept_word("starts"):
            if not self.accept_word("with"):
                raise self.fail()
            return (Step("starts", (left, self._initial())),)
        if self.accept_word("like_regex"):
            pattern = self.string()
            flags = self.string() if self.accept_word("flag") else ""
            return (Step("regex", (left, pattern, _regex_flags(flags))),)
        return left

    def _initial(self) -> Path:
        token = self.token
        if token.kind not in ("string", "variable"):
            raise self.fail()
        self.at += 1
        return (Step(token.kind, (token.value,)),)

    # --- arithmetic -------------------------------------------------------------------------------

    def sum(self) -> Path:
        left = self.product()
        while self.is_symbol("+", "-"):
            left = self._arithmetic(left, self.product)
        return left

    def product(self) -> Path:
        left = self.signed()
        while self.is_symbol("*", "/", "%"):
            left = self._arithmetic(left, self.signed)
        return left

    def _arithmetic(self, left: Path, operand: Any) -> Path:
        if is_predicate(left):
            raise self.fail()
        symbol = self.token.value
        self.at += 1
        right = operand()
        if is_predicate(right):
            raise self.fail()
        return (Step("arithmetic", (symbol, left, right)),)

    def signed(self) -> Path:
        if not self.is_symbol("+", "-"):
            return self.chain()
        symbol = self.token.value
        self.at += 1
        operand = self.signed()
        if is_predicate(operand):
            raise self.fail()
        if operand[0].kind == "number" and len(operand) == 1 and symbol == "-" and operand[0].args[0] >= 0:
            return (Step("number", (-operand[0].args[0],)),)
        if operand[0].kind == "number" and len(operand) == 1 and symbol == "+":
            return operand
        return (Step("sign", (symbol, operand)),)

    # --- accessors ----------------------------------------------------------------------------------

    def chain(self) -> Path:
        path = self.primary()
        while True:
            if self.is_symbol("["):
                path = (*path, self._subscript())
            elif self.is_symbol("."):
                self.at += 1
                path = (*path, self._member())
            elif self.is_symbol("?"):
                self.at += 1
                self.expect("(")
                inner = self.disjunction()
                if not is_predicate(inner):
                    raise self.fail()
                self.expect(")")
                path = (*path, Step("filter", (inner,)))
            else:
                return path

    def primary(self) -> Path:
        token = self.token
        if self.accept("("):
            return self._parenthesised()
        self.at += 1
        if token.kind in ("string", "variable"):
            return (Step(token.kind, (token.value,)),)
        if token.kind == "number":
            return (Step("number", (parse_numeric(token.value),)),)
        if token.kind == "symbol" and token.value in "$@":
            return (Step("root" if token.value == "$" else "current"),)
        if token.kind == "word" and token.value in ("null", "true", "false"):
            return (Step("null") if token.value == "null" else Step("bool", (token.value == "true",)),)
        if token.kind == "word" and token.value.lower() == "last":
            return (Step("last"),)
        self.at -= 1
        raise self.fail()

    def _parenthesised(self) -> Path:
        inner = self.disjunction()
        self.expect(")")
        if is_predicate(inner) and self.is_word("is"):
            self.at += 1
            if not self.accept_word("unknown"):
                raise self.fail()
            return (Step("unknown", (inner,)),)
        return inner

    def _subscript(self) -> Step:
        self.expect("[")
        if self.is_symbol("*") and self.tokens[self.at + 1].text == "]":
            self.at += 2
            return Step("items")
        ranges: list[tuple[Path, Path | None]] = []
        while True:
            start = self._expression()
            ranges.append((start, self._expression() if self.accept_word("to") else None))
            if not self.accept(","):
                break
        self.expect("]")
        return Step("index", tuple(ranges))

    def _member(self) -> Step:
        if self.accept("*"):
            return Step("keys")
        if self.accept("**"):
            return self._levels()
        token = self.token
        if token.kind not in ("string", "word"):
            raise self.fail()
        self.at += 1
        if token.kind == "word" and self.is_symbol("("):
            return self._method(token)
        return Step("key", (token.value,))

    def _method(self, token: Token) -> Step:
        name = token.value.lower()
        if name == "datetime":
            raise FeatureNotSupported("jsonpath item method .datetime() is not supported")
        if name not in _METHODS:
            raise self.fail()
        self.expect("(")
        self.expect(")")
        return Step("method", (name,))

    def _levels(self) -> Step:
        if not self.accept("{"):
            return Step("levels", (0, LEVEL_LAST))
        first = last = self._level()
        if self.accept_word("to"):
            last = self._level()
        self.expect("}")
        return Step("levels", (first, last))

    def _level(self) -> int:
        token = self.token
        self.at += 1
        if token.kind == "number" and token.value.isdigit():
            return int(token.value)
        if token.kind == "word" and token.value.lower() == "last":
            return LEVEL_LAST
        self.at -= 1
        raise self.fail()


def is_predicate(path: Path) -> bool:
    """True if a path is a test that stands where only tests may."""
    return len(path) == 1 and path[0].kind in _PREDICATES


def _regex_flags(flags: str) -> str:
    for flag in flags:
        if flag == "x":
            text = 'XQuery "x" flag (expanded regular expressions) is not implemented'
            raise FeatureNotSupported(text)
        if flag not in "ismq":
            raise error(
                "42601", "invalid input syntax for type jsonpath",
                detail=f'Unrecognized flag character "{flag}" in LIKE_REGEX predicate.',
            )  # fmt: skip
    return "".join(flag for flag in "ismq" if flag in flags)


def _check(path: Path, is_nested: bool, in_subscript: bool) -> None:
    """``@`` stands in filters only, ``last`` in subscripts only."""
    for step in path:
        if step.kind == "current" and not is_nested:
            raise error("42601", "@ is not allowed in root expressions")
        if step.kind == "last" and not in_subscript:
            raise error("42601", "LAST is allowed only in array subscripts")
        if step.kind == "index":
            for start, end in step.args:
                _check(start, is_nested, True)
                if end is not None:
                    _check(end, is_nested, True)
        else:
            for arg in step.args:
                if isinstance(arg, tuple):
                    _check(arg, is_nested or step.kind == "filter", in_subscript)


@lru_cache(maxsize=PATHS_CACHED_MAX)
def parse_path(text: str) -> JsonPath:
    """The tree of a path's text; raises 42601, 22P02."""
    if not text.strip(" \t\n\r\f"):
        raise error("22P02", f'invalid input syntax for type jsonpath: "{text}"')
    found = _Parser(text).whole()
    _check(found.path, False, False)
    return found


def parse_jsonpath(text: str) -> str:
    """The canonical text."""
    found = parse_path(text)
    return ("strict " if found.is_strict else "") + _path_text(found.path, True)


# --- printing -----------------------------------------------------------------------------------------


def _priority(path: Path) -> int:
    step = path[0]
    if step.kind == "arithmetic":
        return 3 if step.args[0] in "+-" else 4
    return _PRIORITY.get(step.kind, 6)


def _operand(path: Path, outer: Path) -> str:
    return _path_text(path, _priority(path) <= _priority(outer))


def _path_text(path: Path, in_brackets: bool) -> str:
    rest = path[1:]
    text = _head_text(path[:1], in_brackets or bool(rest))
    if rest and path[0].kind == "number":
        text = f"({text})"
    return text + "".join([_accessor_text(step) for step in rest])


def _head_text(path: Path, in_brackets: bool) -> str:
    kind, args = path[0]
    text = _LEAVES.get(kind)
    if text is not None:
        return text
    if kind == "bool":
        return "true" if args[0] else "false"
    if kind == "number":
        return render_numeric(args[0])
    if kind in ("string", "variable"):
        shown: str = quote(args[0])
        return f"${shown}" if kind == "variable" else shown
    if kind == "not":
        return f"!({_path_text(args[0], False)})"
    if kind == "unknown":
        return f"({_path_text(args[0], False)}) is unknown"
    if kind == "exists":
        return f"exists ({_path_text(args[0], False)})"
    shown = _operation_text(path)
    return f"({shown})" if in_brackets else shown


def _operation_text(path: Path) -> str:
    kind, args = path[0]
    if kind == "sign":
        return f"{args[0]}{_operand(args[1], path)}"
    if kind == "regex":
        flags = f' flag "{args[2]}"' if args[2] else ""
        return f"{_operand(args[0], path)} like_regex {quote(args[1])}{flags}"
    if kind == "starts":
        return f"{_operand(args[0], path)} starts with {_operand(args[1], path)}"
    if kind in ("and", "or"):
        return f"{_operand(args[0], path)} {'&&' if kind == 'and' else '||'} {_operand(args[1], path)}"
    return f"{_operand(args[1], path)} {args[0]} {_operand(args[2], path)}"


_LEAVES: Final = {"root": "$", "current": "@", "last": "last", "null": "null"}


def _accessor_text(step: Step) -> str:
    kind, args = step
    if kind == "key":
        return f".{quote(args[0])}"
    if kind == "filter":
        return f"?({_path_text(args[0], False)})"
    if kind == "method":
        return f".{args[0]}()"
    if kind == "levels":
        return ".**" + _levels_text(args[0], args[1])
    if kind == "index":
        shown = [
            _path_text(start, False) + ("" if end is None else f" to {_path_text(end, False)}") for start, end in args
        ]
        return f"[{','.join(shown)}]"
    return {"keys": ".*", "items": "[*]"}[kind]


def _levels_text(first: int, last: int) -> str:
    if (first, last) == (0, LEVEL_LAST):
        return ""
    shown = ["last" if level == LEVEL_LAST else str(level) for level in (first, last)]
    return f"{{{shown[0]}}}" if first == last else f"{{{shown[0]} to {shown[1]}}}"


def number_of(value: Any) -> Decimal:
    """A JSON number as numeric computes with it."""
    return value if isinstance(value, Decimal) else Decimal(value)
