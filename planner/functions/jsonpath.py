"""SQL/JSON paths over jsonb: jsonb_path_query and its sisters, ``@?`` and ``@@`` (PostgreSQL 15 manual: 9.16.2).

A path is walked lazily: every step is a generator over the items that the one before gives, so that lax EXISTS stops
at its first.  Lax mode unwraps arrays where an accessor wants something else, and overlooks members that are not there;
strict mode raises both.  A predicate is True, False or None (unknown): whatever goes wrong in its operands is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final

from base.errors import MeridianError, error
from base.typeio.floats import parse_float8
from base.typeio.jsonpath import LEVEL_LAST, JsonPath, Path, Step, number_of, parse_path
from planner.functions import numeric
from planner.functions.casts import float_to_numeric
from planner.functions.declare import define, define_operator
from planner.functions.jsonvalues import decode, encode
from planner.functions.regex import regexp_like
from planner.functions.registry import Registry

_INT4_MAX: Final = 2**31 - 1
_DOUBLE_DIGITS: Final = 15
_ARITHMETIC: Final[dict[str, Callable[[Decimal, Decimal], Decimal]]] = {
    "+": numeric.add, "-": numeric.subtract, "*": numeric.multiply, "/": numeric.divide, "%": numeric.modulo,
}  # fmt: skip
_TESTS: Final[dict[str, Callable[[int], bool]]] = {
    "==": lambda order: order == 0, "!=": lambda order: order != 0, "<": lambda order: order < 0, "<=": lambda order: order <= 0,
    ">": lambda order: order > 0, ">=": lambda order: order >= 0,
}  # fmt: skip
_ROUNDING: Final[dict[str, Callable[[Decimal], Decimal]]] = {
    "abs": Decimal.copy_abs, "floor": numeric.floor, "ceiling": numeric.ceiling,
}  # fmt: skip
_PATH_ERRORS: Final = ("22012", "22003", "22P02")
"""Besides those of class 22 that name SQL/JSON: what computing may raise, and ``silent`` suppresses."""


def is_number(value: Any) -> bool:
    return value.__class__ is int or isinstance(value, Decimal)


def type_name(value: Any) -> str:
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    if isinstance(value, str):
        return "string"
    if value is None:
        return "null"
    return "boolean" if isinstance(value, bool) else "number"


class Walk:
    """One evaluation of a path over a document."""

    def __init__(self, path: JsonPath, document: str, variables: str) -> None:
        self.is_lax = not path.is_strict
        self.path = path.path
        self.root = decode(document)
        found = decode(variables)
        if not isinstance(found, dict):
            raise error(
                "22023", '"vars" argument is not an object',
                detail='Jsonpath parameters should be encoded as key-value pairs of "vars" object.',
            )  # fmt: skip
        self.variables: dict[str, Any] = found
        self.sizes: list[int] = []
        """Of the arrays whose subscripts are being computed: ``last`` is about the innermost."""
        self.overlooks = self.is_lax
        """Whether what is not there is no error: in lax mode, and below ``**``."""

    def items(self) -> Iterator[Any]:
        """The items that the whole path gives."""
        return self.walk(self.path, self.root)

    # --- items --------------------------------------------------------------------------------

    def walk(self, path: Path, current: Any, unwraps: bool = False) -> Iterator[Any]:
        """Items of a path, ``@`` being ``current``; ``unwraps``: arrays among them as their elements, in lax mode."""
        found = self._from(path[1:], self._head(path[0], current))
        if not (unwraps and self.is_lax):
            return found
        return self._unwrapped(found)

    def _unwrapped(self, found: Iterator[Any]) -> Iterator[Any]:
        for item in found:
            if isinstance(item, list):
                yield from item
            else:
                yield item

    def _from(self, steps: Path, found: Iterator[Any]) -> Iterator[Any]:
        overlooks = False
        for step in steps:
            found = self._each(step, found, overlooks)
            # What lies at some level need not have what comes next.
            overlooks = overlooks or step.kind == "levels"
        return found

    def _each(self, step: Step, found: Iterator[Any], overlooks: bool) -> Iterator[Any]:
        accessor = _ACCESSORS[step.kind]
        for item in found:
            if not overlooks or self.overlooks:
                yield from accessor(self, step, item)
                continue
            self.overlooks = True
            try:
                inside = list(accessor(self, step, item))
            finally:
                self.overlooks = False
            yield from inside

    def _head(self, step: Step, current: Any) -> Iterator[Any]:
        kind, args = step
        if kind == "root":
            yield self.root
        elif kind == "current":
            yield current
        elif kind == "null":
            yield None
        elif kind in ("bool", "number", "string"):
            yield args[0]
        elif kind == "variable":
            if args[0] not in self.variables:
                raise error("42704", f'could not find jsonpath variable "{args[0]}"')
            yield self.variables[args[0]]
        elif kind == "last":
            yield self.sizes[-1] - 1
        elif kind == "arithmetic":
            yield self._computed(args[0], args[1], args[2], current)
        elif kind == "sign":
            yield from self._signed(args[0], args[1], current)
        else:
            yield self.test(step, current)

    def _computed(self, symbol: str, left: Path, right: Path, current: Any) -> Decimal:
        numbers = []
        sides = [list(self.walk(path, current, unwraps=True)) for path in (left, right)]
        for side, found in zip(("left", "right"), sides):
            if len(found) != 1 or not is_number(found[0]):
                text = f"{side} operand of jsonpath operator {symbol} is not a single numeric value"
                raise error("22038", text)
            numbers.append(number_of(found[0]))
        return _ARITHMETIC[symbol](numbers[0], numbers[1])

    def _signed(self, symbol: str, path: Path, current: Any) -> Iterator[Any]:
        for item in list(self.walk(path, current, unwraps=True)):
            if not is_number(item):
                raise error("2203B", f"operand of unary jsonpath operator {symbol} is not a numeric value")
            yield item if symbol == "+" else numeric.negate(number_of(item))

    # --- accessors ------------------------------------------------------------------------------

    def _key(self, step: Step, item: Any) -> Iterator[Any]:
        name = step.args[0]
        for one in self._targets(item):
            if isinstance(one, dict):
                if name in one:
                    yield one[name]
                elif not self.overlooks:
                    raise error("2203A", f'JSON object does not contain key "{name}"')
            elif not self.overlooks:
                raise error("2203A", "jsonpath member accessor can only be applied to an object")

    def _keys(self, step: Step, item: Any) -> Iterator[Any]:
        for one in self._targets(item):
            if isinstance(one, dict):
                yield from one.values()
            elif not self.overlooks:
                raise error("2203C", "jsonpath wildcard member accessor can only be applied to an object")

    def _targets(self, item: Any) -> list[Any]:
        """What an accessor of objects is applied to: in lax mode the elements of an array."""
        return item if isinstance(item, list) and self.is_lax else [item]

    def _items(self, step: Step, item: Any) -> Iterator[Any]:
        if isinstance(item, list):
            yield from item
        elif self.is_lax:
            yield item
        elif not self.overlooks:
            raise error("22039", "jsonpath wildcard array accessor can only be applied to an array")

    def _index(self, step: Step, item: Any) -> Iterator[Any]:
        if not isinstance(item, list) and not self.is_lax:
            if not self.overlooks:
                raise error("22039", "jsonpath array accessor can only be applied to an array")
            return
        array = item if isinstance(item, list) else [item]
        for start, end in step.args:
            self.sizes.append(len(array))
            first = self._place(start, item)
            last = first if end is None else self._place(end, item)
            self.sizes.pop()
            if not self.overlooks and (first < 0 or first > last or last >= len(array)):
                raise error("22033", "jsonpath array subscript is out of bounds")
            yield from array[max(first, 0) : max(last + 1, 0)]

    def _place(self, path: Path, item: Any) -> int:
        found = list(self.walk(path, item))
        if len(found) != 1 or not is_number(found[0]):
            raise error("22033", "jsonpath array subscript is not a single numeric value")
        place = int(found[0])
        if not -_INT4_MAX - 1 <= place <= _INT4_MAX:
            raise error("22033", "jsonpath array subscript is out of integer range")
        return place

    def _levels(self, step: Step, item: Any) -> Iterator[Any]:
        first, last = step.args
        yield from self._below(item, 0, first, last)

    def _below(self, item: Any, level: int, first: int, last: int) -> Iterator[Any]:
        """Items from level ``first`` to ``last``, each before what is in it; ``last`` alone: scalars inside something."""
        inside = list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else []
        is_leaf = level > 0 and not isinstance(item, (dict, list))
        if level >= first or (first == LEVEL_LAST and last == LEVEL_LAST and is_leaf):
            yield item
        if level < last:
            for one in inside:
                yield from self._below(one, level + 1, first, last)

    def _filter(self, step: Step, item: Any) -> Iterator[Any]:
        for one in self._targets(item):
            if self.test(step.args[0][0], one) is True:
                yield one

    def _method(self, step: Step, item: Any) -> Iterator[Any]:
        name = step.args[0]
        if name == "type":
            yield type_name(item)
        elif name == "size":
            if not isinstance(item, list) and not self.is_lax:
                if not self.overlooks:
                    raise error("22039", "jsonpath item method .size() can only be applied to an array")
                return
            yield len(item) if isinstance(item, list) else 1
        else:
            for one in self._targets(item):
                yield from self._applied(name, one)

    def _applied(self, name: str, item: Any) -> Iterator[Any]:
        if name == "keyvalue":
            if not isinstance(item, dict):
                raise error("2203C", "jsonpath item method .keyvalue() can only be applied to an object")
            for key, value in item.items():
                yield {"id": self._id(item), "key": key, "value": value}
        elif name == "double":
            yield _double(item)
        elif not is_number(item):
            raise error("22036", f"jsonpath item method .{name}() can only be applied to a numeric value")
        else:
            yield _ROUNDING[name](number_of(item))

    def _id(self, item: dict[str, Any]) -> int:
        """A number of an object that no other one of the document has; the document's is 0."""
        if item is self.root:
            return 0
        for number, one in enumerate(self._below(self.root, 0, 0, LEVEL_LAST)):
            if one is item:
                return number
        return 0

    # --- predicates -------------------------------------------------------------------------------

    def test(self, step: Step, current: Any) -> bool | None:
        """The truth of a predicate."""
        kind, args = step
        if kind == "and":
            left = self.test(args[0][0], current)
            if left is False:
                return False
            right = self.test(args[1][0], current)
            return False if right is False else None if left is None or right is None else True
        if kind == "or":
            left = self.test(args[0][0], current)
            if left is True:
                return True
            right = self.test(args[1][0], current)
            return True if right is True else None if left is None or right is None else False
        if kind == "not":
            found = self.test(args[0][0], current)
            return None if found is None else not found
        if kind == "unknown":
            return self.test(args[0][0], current) is None
        if kind == "exists":
            return self._exists(args[0], current)
        try:
            return self._pairs(step, current)
        except MeridianError as failure:
            if is_suppressible(failure):
                return None
            raise

    def _exists(self, path: Path, current: Any) -> bool | None:
        try:
            return self.has_items(path, current)
        except MeridianError as failure:
            if is_suppressible(failure):
                return None
            raise

    def has_items(self, path: Path, current: Any) -> bool:
        """True if a path gives anything; lax mode looks no further than that."""
        if not self.is_lax:
            return bool(list(self.walk(path, current)))
        if len(path) == 1 and path[0].kind == "sign":
            # As PostgreSQL: what is no number is not looked at as long as nobody wants the value.
            return any(is_number(item) for item in list(self.walk(path[0].args[1], current, unwraps=True)))
        return any(True for _ in self.walk(path, current))

    def _pairs(self, step: Step, current: Any) -> bool | None:
        """True if some pair of operands is; strict mode is unknown as soon as one pair is."""
        kind, args = step
        if kind == "compare":
            symbol, left, right = args
            others = list(self.walk(right, current, unwraps=True))
        else:
            symbol, left = kind, args[0]
            others = list(self.walk(args[1], current)) if kind == "starts" else [(args[1], args[2])]
        is_found = is_unknown = False
        for one in list(self.walk(left, current, unwraps=True)):
            for other in others:
                verdict = _verdict(symbol, one, other)
                if verdict is None:
                    if not self.is_lax:
                        return None
                    is_unknown = True
                elif verdict:
                    if self.is_lax:
                        return True
                    is_found = True
        return True if is_found else None if is_unknown else False


def _verdict(symbol: str, left: Any, right: Any) -> bool | None:
    if symbol == "starts":
        return left.startswith(right) if isinstance(left, str) and isinstance(right, str) else None
    if symbol == "regex":
        pattern, flags = right
        return regexp_like(left, pattern, _regex_letters(flags)) if isinstance(left, str) else None
    if is_number(left) and is_number(right):
        return _TESTS[symbol]((left > right) - (left < right))
    if left is None and right is None:
        return _TESTS[symbol](0)
    if left is None or right is None:
        return symbol == "!="
    if isinstance(left, bool) and isinstance(right, bool):
        return _TESTS[symbol](left - right)
    if isinstance(left, str) and isinstance(right, str):
        # As UTF-16 orders them: the standard speaks of Unicode code units.
        a, b = left.encode("utf-16-be", "surrogatepass"), right.encode("utf-16-be", "surrogatepass")
        return _TESTS[symbol]((a > b) - (a < b))
    return None


def _regex_letters(flags: str) -> str:
    """XQuery's flags as those of our regular expressions."""
    letters = "i" if "i" in flags else ""
    if "q" in flags:
        return letters + "q"
    if "s" in flags:
        return letters + ("w" if "m" in flags else "s")
    return letters + ("n" if "m" in flags else "p")


def _double(item: Any) -> Any:
    if is_number(item):
        if abs(float(item)) == float("inf"):
            text = "numeric argument of jsonpath item method .double() is out of range for type double precision"
            raise error("22036", text)
        return item
    if not isinstance(item, str):
        raise error("22036", "jsonpath item method .double() can only be applied to a string or numeric value")
    try:
        value = parse_float8(item)
    except MeridianError:
        value = float("nan")
    if value != value or abs(value) == float("inf"):
        text = "string argument of jsonpath item method .double() is not a valid representation of a double precision number"
        raise error("22036", text)
    return float_to_numeric(_DOUBLE_DIGITS)(value)


def is_suppressible(failure: MeridianError) -> bool:
    """True for what went wrong with the data, not with the path or its variables."""
    return failure.sqlstate[:4] == "2203" or failure.sqlstate in _PATH_ERRORS


_ACCESSORS: Final[dict[str, Callable[[Walk, Step, Any], Iterator[Any]]]] = {
    "key": Walk._key, "keys": Walk._keys, "items": Walk._items, "index": Walk._index, "levels": Walk._levels,
    "filter": Walk._filter, "method": Walk._method,
}  # fmt: skip


# --- functions ------------------------------------------------------------------------------------------


def path_query(document: str, path: str, variables: str = "{}", silent: bool = False) -> list[str]:
    found: list[str] = []
    try:
        for item in Walk(parse_path(path), document, variables).items():
            found.append(encode(item))
    except MeridianError as failure:
        # What was found before an error that is suppressed counts.
        if not (silent and is_suppressible(failure)):
            raise
    return found


def path_query_array(document: str, path: str, variables: str = "{}", silent: bool = False) -> str:
    return f"[{', '.join(path_query(document, path, variables, silent))}]"


def path_query_first(document: str, path: str, variables: str = "{}", silent: bool = False) -> str | None:
    found = path_query(document, path, variables, silent)
    return found[0] if found else None


def path_exists(document: str, path: str, variables: str = "{}", silent: bool = False) -> bool | None:
    try:
        walk = Walk(parse_path(path), document, variables)
        return walk.has_items(walk.path, walk.root)
    except MeridianError as failure:
        if silent and is_suppressible(failure):
            return None
        raise


def path_match(document: str, path: str, variables: str = "{}", silent: bool = False) -> bool | None:
    try:
        found = list(Walk(parse_path(path), document, variables).items())
    except MeridianError as failure:
        if silent and is_suppressible(failure):
            return None
        raise
    if len(found) == 1 and (found[0] is None or isinstance(found[0], bool)):
        return found[0]
    if silent:
        return None
    raise error("22038", "single boolean result is expected")


def exists_silently(document: str, path: str) -> bool | None:
    return path_exists(document, path, silent=True)


def match_silently(document: str, path: str) -> bool | None:
    return path_match(document, path, silent=True)


def register(registry: Registry) -> None:
    """Adds this family."""
    for suffix in ("", "_tz"):
        for name, result, impl in (
            ("jsonb_path_exists", "bool", path_exists), ("jsonb_path_match", "bool", path_match),
            ("jsonb_path_query", "setof jsonb", path_query), ("jsonb_path_query_array", "jsonb", path_query_array),
            ("jsonb_path_query_first", "jsonb", path_query_first),
        ):  # fmt: skip
            for args in ("jsonb, jsonpath", "jsonb, jsonpath, jsonb", "jsonb, jsonpath, jsonb, bool"):
                define(registry, f"{name}{suffix}({args}) {result}", impl)
    define_operator(registry, "@?", "jsonb_path_exists_opr(jsonb, jsonpath) bool", exists_silently)
    define_operator(registry, "@@", "jsonb_path_match_opr(jsonb, jsonpath) bool", match_silently)
