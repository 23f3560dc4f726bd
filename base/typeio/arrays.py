"""Text and binary form of arrays, int2vector and oidvector.

Text: ``{1,NULL,"a b"}``, nested for more dimensions, maybe after ``[1:2]=``.  Binary:
| dimensions 4 | has nulls 4 | element OID 4 | per dimension: length 4, lower bound 4 |
then per element | length 4 or -1 | value |.  Lower bounds are 1 (vectors: 0).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Final

from base.arrays import flatten_array, holds_tuple, is_composite, nest_array
from base.errors import FeatureNotSupported, MeridianError, error
from base.typeio.integers import parse_int2, parse_oid
from base.typeio.rejection import bad_binary, binary_too_short, invalid_syntax
from base.types import PgType

DIMENSIONS_MAX: Final = 6
ELEMENTS_MAX: Final = 134_217_727
_BLANKS: Final = " \t\n\v\f\r"
_NEEDS_QUOTES: Final = re.compile(r'[\s{}"\\]')
_ESCAPED: Final = re.compile(r'(["\\])')
_LENGTH: Final = struct.Struct(">i")
_HEADER: Final = struct.Struct(">iiI")
_DIMENSION: Final = struct.Struct(">ii")
_VECTOR_ITEM: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
_BOUND: Final = re.compile(r"[-+0-9]*")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,12}")


def _malformed(text: str, detail: str) -> MeridianError:
    return error("22P02", f'malformed array literal: "{text}"', detail=detail)


def _too_many_dimensions(count: int) -> MeridianError:
    return error("54000", f"number of array dimensions ({count}) exceeds the maximum allowed ({DIMENSIONS_MAX})")


# --- text input -----------------------------------------------------------------------------


class ArrayReader:
    """Reads one array literal: items in order, then checks that all sub-arrays are alike."""

    __slots__ = ("at", "counts", "delimiter", "depth_of_items", "parse", "text")

    def __init__(self, text: str, parse: Callable[[str], Any], delimiter: str) -> None:
        self.text = text
        self.parse = parse
        self.delimiter = delimiter
        self.at = 0
        self.depth_of_items = 0
        """Nesting at which the elements are; 0 until the first is met."""
        self.counts: list[int] = []
        """Length of each dimension; -1 until the first sub-array of it has ended."""

    def read(self) -> tuple[Any, ...]:
        bounds = self._bounds()
        self._skip()
        if self._peek() != "{":
            if bounds is None:
                raise _malformed(self.text, 'Array value must start with "{" or dimension information.')
            raise _malformed(self.text, 'Array contents must start with "{".')
        value = self._braces(1)
        self._skip()
        if self.at < len(self.text):
            raise _malformed(self.text, "Junk after closing right brace.")
        if bounds is not None:
            self._check_bounds(bounds, value)
        return value if self.depth_of_items else ()

    def _check_bounds(self, bounds: list[tuple[int, int]], value: tuple[Any, ...]) -> None:
        if len(bounds) != len(self.counts) or (not self.depth_of_items and bounds):
            raise _malformed(self.text, "Specified array dimensions do not match array contents.")
        for (lower, upper), count in zip(bounds, self.counts):
            if upper - lower + 1 != count:
                raise _malformed(self.text, "Specified array dimensions do not match array contents.")
        if any(lower != 1 for lower, _ in bounds):
            raise FeatureNotSupported("array lower bounds other than 1")

    def _bounds(self) -> list[tuple[int, int]] | None:
        """``[1:2][3]=``."""
        bounds: list[tuple[int, int]] = []
        while True:
            self._skip()
            if self._peek() != "[":
                break
            if len(bounds) >= DIMENSIONS_MAX:
                raise _too_many_dimensions(DIMENSIONS_MAX + 1)
            self.at += 1
            bounds.append(self._bound())
        if not bounds:
            return None
        if self._peek() != "=":
            raise _malformed(self.text, 'Missing "=" after array dimensions.')
        self.at += 1
        return bounds

    def _bound(self) -> tuple[int, int]:
        first = self._bound_number('"[" must introduce explicitly-specified array dimensions.')
        lower, upper = 1, first
        if self._peek() == ":":
            self.at += 1
            lower, upper = first, self._bound_number("Missing array dimension value.")
        if self._peek() != "]":
            raise _malformed(self.text, 'Missing "]" after array dimensions.')
        self.at += 1
        if upper < lower:
            raise error("2202E", "upper bound cannot be less than lower bound")
        return lower, upper

    def _bound_number(self, missing: str) -> int:
        match = _BOUND.match(self.text, self.at)
        assert match is not None, self.at
        if not match.group():
            raise _malformed(self.text, missing)
        self.at = match.end()
        number = _INTEGER.match(match.group())
        return int(number.group()) if number is not None else 0

    def _skip(self) -> None:
        text = self.text
        at = self.at
        while at < len(text) and text[at] in _BLANKS:
            at += 1
        self.at = at

    def _peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def _braces(self, depth: int) -> tuple[Any, ...]:
        """Reads ``{...}``; the items of one pair of braces are all elements or all arrays."""
        if depth > DIMENSIONS_MAX:
            raise _too_many_dimensions(depth)
        if self.depth_of_items and depth > self.depth_of_items:
            raise self._ragged()
        if len(self.counts) < depth:
            self.counts.append(-1)
        self.at += 1
        self._skip()
        if self._peek() == "}":
            self.at += 1
            if depth > 1:
                raise self._unexpected("}")
            self.counts[0] = 0
            return ()
        items: list[Any] = []
        holds_arrays = self._peek() == "{"
        while True:
            c = self._peek()
            if c == "{" and not holds_arrays:
                raise self._unexpected(c)
            if c != "{" and holds_arrays and c not in ("", "}", self.delimiter):
                raise self._unexpected("x")
            items.append(self._item(depth))
            self._skip()
            c = self._peek()
            self.at += 1
            if c == "}":
                break
            if c != self.delimiter:
                raise self._unexpected("x" if c == '"' else c)
            self._skip()
        self._count(depth, len(items))
        return tuple(items)

    def _count(self, depth: int, length: int) -> None:
        if self.counts[depth - 1] < 0:
            self.counts[depth - 1] = length
        elif self.counts[depth - 1] != length:
            raise self._ragged()

    def _ragged(self) -> MeridianError:
        return _malformed(self.text, "Multidimensional arrays must have sub-arrays with matching dimensions.")

    def _unexpected(self, c: str) -> MeridianError:
        if not c:
            return _malformed(self.text, "Unexpected end of input.")
        if c == '"' or c == "{" or c == "}":
            return _malformed(self.text, f'Unexpected "{c}" character.')
        return _malformed(self.text, "Unexpected array element.")

    def _item(self, depth: int) -> Any:
        c = self._peek()
        if c == "{":
            return self._braces(depth + 1)
        if c in ("", "}", self.delimiter):
            raise self._unexpected(c) if c != self.delimiter else _malformed(self.text, f'Unexpected "{c}" character.')
        if not self.depth_of_items:
            if len(self.counts) > depth:
                raise self._ragged()
            self.depth_of_items = depth
        elif self.depth_of_items != depth:
            raise self._ragged()
        return self._quoted() if c == '"' else self._bare()

    def _quoted(self) -> Any:
        text = self.text
        at = self.at + 1
        parts: list[str] = []
        while True:
            if at >= len(text):
                raise self._unexpected("")
            c = text[at]
            if c == '"':
                break
            if c == "\\":
                at += 1
                if at >= len(text):
                    raise self._unexpected("")
                c = text[at]
            parts.append(c)
            at += 1
        self.at = at + 1
        return self.parse("".join(parts))

    def _bare(self) -> Any:
        """Up to a delimiter or brace; blanks around do not belong to it, escaped ones do."""
        text = self.text
        at = self.at
        parts: list[str] = []
        kept = 0
        has_escape = False
        while at < len(text) and text[at] != self.delimiter and text[at] not in '{}"':
            c = text[at]
            if c == "\\":
                at += 1
                if at >= len(text):
                    raise self._unexpected("")
                c = text[at]
                has_escape = True
                parts.append(c)
                kept = len(parts)
            else:
                parts.append(c)
                if c not in _BLANKS:
                    kept = len(parts)
            at += 1
        self.at = at
        word = "".join(parts[:kept])
        if not has_escape and word.lower() == "null":
            return None
        return self.parse(word)


_SIMPLE: Final = re.compile(r'\{[^{}"\\\s]+\}\Z')


def array_parser(parse: Callable[[str], Any], delimiter: str) -> Callable[[str], tuple[Any, ...]]:
    """Returns the reader of an array type from that of its elements."""

    def parse_array(text: str) -> tuple[Any, ...]:
        if _SIMPLE.match(text) is not None:
            words = text[1:-1].split(delimiter)
            if "" not in words:
                return tuple([None if word.lower() == "null" else parse(word) for word in words])
        return ArrayReader(text, parse, delimiter).read()

    return parse_array


# --- text output ----------------------------------------------------------------------------


def holds_tuples(element: PgType) -> bool:
    return holds_tuple(element) or is_composite(element)


def quote_element(text: str, delimiter: str) -> str:
    if text and delimiter not in text and _NEEDS_QUOTES.search(text) is None and text.lower() != "null":
        return text
    return '"' + _ESCAPED.sub(r"\\\1", text) + '"'


def array_renderer(
    render: Callable[[Any], str], element: PgType, delimiter: str, is_plain: bool
) -> Callable[[tuple[Any, ...]], str]:
    """Returns the printer of an array type; ``is_plain`` elements (numbers) never need quotes."""
    composite = is_composite(element)
    scalar_tuple = holds_tuple(element)

    def render_item(value: Any) -> str:
        if value is None:
            return "NULL"
        return render(value) if is_plain else quote_element(render(value), delimiter)

    def render_level(value: tuple[Any, ...]) -> str:
        first = value[0]
        if (
            first.__class__ is tuple
            and not composite
            and not (scalar_tuple and (not first or isinstance(first[0], int)))
        ):
            return "{" + delimiter.join([render_level(inner) for inner in value]) + "}"
        return "{" + delimiter.join([render_item(item) for item in value]) + "}"

    def render_array(value: tuple[Any, ...]) -> str:
        return render_level(value) if value else "{}"

    return render_array


# --- binary ---------------------------------------------------------------------------------


def array_sender(send: Callable[[Any], bytes], element: PgType) -> Callable[[tuple[Any, ...]], bytes]:
    composite = is_composite(element)
    scalar_tuple = holds_tuple(element)
    element_oid = element.oid

    def send_array(value: tuple[Any, ...]) -> bytes:
        items, lengths = (value, [len(value)] if value else []) if composite else flatten_array(value, scalar_tuple)
        parts = [_HEADER.pack(len(lengths), 1 if None in items else 0, element_oid)]
        parts += [_DIMENSION.pack(length, 1) for length in lengths]
        for item in items:
            if item is None:
                parts.append(b"\xff\xff\xff\xff")
            else:
                data = send(item)
                parts.append(_LENGTH.pack(len(data)))
                parts.append(data)
        return b"".join(parts)

    return send_array


def array_receiver(
    receive: Callable[[bytes], Any], element: PgType, element_name: str, lower_bound: int = 1
) -> Callable[[bytes], tuple[Any, ...]]:
    """Every count is checked against the bytes that are there before anything is built."""

    def receive_array(data: bytes) -> tuple[Any, ...]:
        lengths, at = _receive_header(data, element, element_name, lower_bound)
        count = 1
        for length in lengths:
            if length < 0 or count * length > ELEMENTS_MAX:
                raise error("54000", f"array size exceeds the maximum allowed ({ELEMENTS_MAX})")
            count *= length
        if not lengths or not count:
            if at != len(data):
                raise bad_binary()
            return ()
        if len(data) - at < 4 * count:
            raise binary_too_short()
        items: list[Any] = []
        for _ in range(count):
            size, at = _receive_length(data, at)
            if size < 0:
                items.append(None)
            else:
                items.append(receive(data[at : at + size]))
                at += size
        if at != len(data):
            raise bad_binary()
        return nest_array(items, lengths)

    return receive_array


def _receive_header(data: bytes, element: PgType, element_name: str, lower_bound: int) -> tuple[list[int], int]:
    """Returns (lengths of the dimensions, position of the first element)."""
    if len(data) < 12:
        raise binary_too_short()
    dimensions, flags, oid = _HEADER.unpack_from(data)
    if dimensions < 0:
        raise error("22P03", f"invalid number of dimensions: {dimensions}")
    if dimensions > DIMENSIONS_MAX:
        raise _too_many_dimensions(dimensions)
    if flags not in (0, 1):
        raise error("22P03", "invalid array flags")
    if oid != element.oid:
        raise error(
            "42804", f"binary data has array element type {oid} instead of expected {element.oid} ({element_name})"
        )
    if len(data) < 12 + 8 * dimensions:
        raise binary_too_short()
    lengths: list[int] = []
    for i in range(dimensions):
        length, lower = _DIMENSION.unpack_from(data, 12 + 8 * i)
        lengths.append(length)
        if length > 0 and lower != lower_bound:
            raise FeatureNotSupported(f"array lower bounds other than {lower_bound}")
    return lengths, 12 + 8 * dimensions


def _receive_length(data: bytes, at: int) -> tuple[int, int]:
    """Returns (length of the element or -1, position of its bytes)."""
    if len(data) < at + 4:
        raise binary_too_short()
    size: int = _LENGTH.unpack_from(data, at)[0]
    if size < -1 or len(data) < at + 4 + max(size, 0):
        raise error("22P03", "insufficient data left in message")
    return size, at + 4


# --- vectors --------------------------------------------------------------------------------


def vector_parser(is_oid: bool) -> Callable[[str], tuple[int, ...]]:
    """``1 2 3``."""

    def parse(text: str) -> tuple[int, ...]:
        if not is_oid:
            return tuple([parse_int2(word) for word in text.split()])
        items: list[int] = []
        at = 0
        while True:
            match = _VECTOR_ITEM.match(text, at)
            if match is None:
                rest = text[at:].lstrip(_BLANKS)
                if rest:
                    raise invalid_syntax("oid", rest)
                return tuple(items)
            items.append(parse_oid(match.group(1)))
            at = match.end()

    return parse


def render_vector(value: tuple[int, ...]) -> str:
    return " ".join(map(str, value))


def vector_sender(send: Callable[[int], bytes], element: PgType) -> Callable[[tuple[int, ...]], bytes]:
    def send_vector(value: tuple[int, ...]) -> bytes:
        parts = [_HEADER.pack(1, 0, element.oid), _DIMENSION.pack(len(value), 0)]
        for item in value:
            data = send(item)
            parts.append(_LENGTH.pack(len(data)) + data)
        return b"".join(parts)

    return send_vector
