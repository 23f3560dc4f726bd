"""Order-preserving tuple keys: bytes compare as rows compare by the index columns.

    | 10 | table id 4 | index id 2 | column 1 | column 2 | .. | suffix |

The prefix is 7 bytes, big-endian; keys below 10 belong to the system (META1, META2,
SYSTEM).  A column is

    NOT NULL column      value
    nullable column      tag 1, value unless NULL; tag 02 value, 01 NULL first, F0 NULL last

with the value as ``base.keytypes`` describes, every bit inverted if descending.
Whether a column is nullable is fixed when the index is made: primary-key columns are not,
all columns of a secondary index are.  ``nulls_first`` decides the tag alone; without it
ascending columns have NULLs last and descending ones first, PostgreSQL's default.

Invariant: keys of one codec are prefix-free, so (``kvtier.messages``) the successor of a
key is ``prefix_end(key)``.  Every column is fixed-width or terminated, hence all
encodings of a prefix of the columns are, too.

Suffix: rows of interleaved tables share their parent's key.  There the parent's row
keys end with the suffix 00 and a child's go on with 01 and the child's table id, so
that neither is a prefix of the other and children follow their parent.  Other
tables have no suffix.

Encoding refuses what is no value of the column's type: an int out of range raises
``struct.error``, a float beyond float4 ``OverflowError`` (RANGE_ERRORS), so a bigint
parameter compared with an int4 column costs no test; the caller decides what no such key
means (``range_span`` clamps instead).  An enum label that does not exist raises KeyError.
NULL in a NOT NULL column raises TypeError or AttributeError: a bug of the caller.

Encoders and decoders are Python source generated per codec.  ``encode_source`` and
``decode_source`` give the pieces to compiled plans.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import islice
from operator import lt
from typing import Any, Final

from base.errors import MeridianError, StorageFailure
from base.generated import define_function
from base.keytypes import NAMES, Decoder, KeyForm, key_form
from base.keyvalues import INVERT, TERMINATOR
from base.types import PgType

META1: Final = b"\x01"
META2: Final = b"\x02"
SYSTEM: Final = b"\x03"
USER: Final = b"\x10"
"""First byte of table keys; everything below is reserved."""

TAG_VALUE: Final = 0x02
TAG_NULL_FIRST: Final = 0x01
TAG_NULL_LAST: Final = 0xF0

RANGE_ERRORS: Final = (struct.error, OverflowError)
"""What encoding raises for a number outside the column type's range."""
CORRUPTION_ERRORS: Final = (struct.error, IndexError, ValueError, KeyError, ArithmeticError)
"""What the statements of ``decode_source`` may raise on bytes that no codec made."""

_INDEX_PREFIX = struct.Struct(">BIH")
_TABLE_PREFIX = struct.Struct(">BI")
PREFIX_SIZE: Final = _INDEX_PREFIX.size
_SUCCESSORS: Final = [bytes((i + 1,)) for i in range(255)]


def index_prefix(table_id: int, index_id: int) -> bytes:
    """Returns the 7 bytes that all keys of an index start with."""
    return _INDEX_PREFIX.pack(USER[0], table_id, index_id)


def split_prefix(key: bytes) -> tuple[int, int]:
    """Returns (table id, index id) of a table key."""
    user, table_id, index_id = _INDEX_PREFIX.unpack_from(key)
    assert user == USER[0], f"not a table key: {key!r}"
    return table_id, index_id


def prefix_end(prefix: bytes) -> bytes:
    """Returns the smallest byte string above every string that starts with ``prefix``; b"" if none."""
    if prefix and prefix[-1] != 0xFF:
        return prefix[:-1] + _SUCCESSORS[prefix[-1]]
    trimmed = prefix.rstrip(b"\xff")
    if not trimmed:
        return b""
    return trimmed[:-1] + _SUCCESSORS[trimmed[-1]]


def is_ascending(keys: Sequence[bytes]) -> bool:
    """True if every key is above the one before."""
    return all(map(lt, keys, islice(keys, 1, None)))


def table_span(table_id: int) -> tuple[bytes, bytes]:
    """Returns the span of all indexes of a table."""
    start = _TABLE_PREFIX.pack(USER[0], table_id)
    return start, prefix_end(start)


def index_span(table_id: int, index_id: int) -> tuple[bytes, bytes]:
    start = index_prefix(table_id, index_id)
    return start, prefix_end(start)


class KeyColumn:
    """One column of a key; see the module docstring."""

    __slots__ = ("descending", "form", "null_tag", "nullable", "nulls_first", "type")

    def __init__(
        self, type: PgType, descending: bool = False, nullable: bool = True, nulls_first: bool | None = None
    ) -> None:
        self.type = type
        self.descending = descending
        self.nullable = nullable
        self.nulls_first = descending if nulls_first is None else nulls_first
        self.null_tag = TAG_NULL_FIRST if self.nulls_first else TAG_NULL_LAST
        self.form: KeyForm = key_form(type)

    def __repr__(self) -> str:
        words = [self.type.name, "desc" if self.descending else "asc", "null" if self.nullable else "not null"]
        return " ".join([*words, "nulls first" if self.nulls_first else "nulls last"])

    @property
    def width(self) -> int:
        """Bytes of a fixed form, with its tag, where the value is not NULL."""
        return self.form.width + self.nullable

    def value_source(self, name: str) -> str:
        """Expression of the struct argument (fixed) or of the bytes (varying), for a value that is not NULL."""
        form = self.form
        if self.descending:
            return form.descending.format(name)
        return form.ascending.format(name)

    def restore_source(self, name: str) -> str:
        """Expression of a fixed column's value over the unpacked object."""
        form = self.form
        return (form.restore_descending if self.descending else form.restore).format(name)


class KeyCodec:
    """Encodes tuples of datums as keys of one index, and decodes them.

    ``restorable[i]`` tells whether decoding column i gives back exactly what was
    encoded; where it is False (numeric, bpchar, float, interval, inet, jsonb...) the
    decoded value only compares equal and the row value must hold the column as well.
    """

    def __init__(self, prefix: bytes, columns: Sequence[KeyColumn], suffix: bytes = b"") -> None:
        self.prefix = prefix
        self.columns = tuple(columns)
        self.suffix = suffix
        self.restorable: tuple[bool, ...] = tuple([column.form.restorable for column in self.columns])
        self._encoders: list[Callable[..., bytes] | None] = [None] * (len(self.columns) + 1)

    # Both are compiled at the first use: many plans need only one of them.

    @cached_property
    def encode(self) -> Callable[[Sequence[Any]], bytes]:
        """The function from a value for every column to the key."""
        names = [f"c{i}" for i in range(len(self.columns))]
        expression, namespace = self.encode_source(names)
        unpack = [f"{', '.join(names)}, = values"] if names else []
        return define_function("encode", "values", [*unpack, f"return {expression}"], namespace)

    @cached_property
    def decode(self) -> Callable[[bytes], tuple[Any, ...]]:
        """The function from a key to its values; StorageFailure if it is none of this codec's."""
        return self._define_decode()

    # --- encoding

    def encode_source(self, arg_names: Sequence[str]) -> tuple[str, dict[str, Any]]:
        """Returns an expression that makes the key of the named values, and the names it uses.

        Fewer names than columns give the key prefix of the leading columns, without suffix.
        Names must be cheap to read twice.  Namespaces of several codecs may be merged:
        equal names have equal meanings.
        """
        namespace: dict[str, Any] = {}
        pieces = self._pieces_of(arg_names, namespace)
        if len(arg_names) == len(self.columns):
            pieces.add_constant(self.suffix)
        return pieces.expression(), namespace

    def encode_prefix(self, values: Sequence[Any]) -> bytes:
        """Returns what all keys share whose leading columns have these values.

        The suffix is never part of it, so with every column given it covers a row of an
        interleaved table and its children.
        """
        encoder = self._encoders[len(values)]
        if encoder is None:
            names = [f"c{i}" for i in range(len(values))]
            pieces = self._pieces_of(names, {})
            encoder = define_function(
                "encode_prefix", ", ".join(names), [f"return {pieces.expression()}"], pieces.namespace
            )
            self._encoders[len(values)] = encoder
        return encoder(*values)

    def span(self, values: Sequence[Any]) -> tuple[bytes, bytes]:
        """Returns the span of keys whose leading columns equal ``values`` (None matches NULL)."""
        start = self.encode_prefix(values)
        return start, prefix_end(start)

    def range_span(
        self,
        prefix_values: Sequence[Any],
        lower: Any = None,
        lower_inclusive: bool = True,
        upper: Any = None,
        upper_inclusive: bool = True,
    ) -> tuple[bytes, bytes]:
        """Returns the span with ``prefix_values`` leading and the next column between the bounds.

        A bound of None is absent.  NULLs are never included.  Bounds beyond the type's range are
        clamped.  An empty range is a span whose start equals its end.
        """
        position = len(prefix_values)
        column = self.columns[position]
        base = self.encode_prefix(prefix_values)
        if column.descending:
            lower, lower_inclusive, upper, upper_inclusive = upper, upper_inclusive, lower, lower_inclusive
        values = base + bytes((TAG_VALUE,)) if column.nullable else base
        start, end = values, prefix_end(values)
        if lower is not None:
            bound, out_of_range = self._bound(prefix_values, lower, column.descending)
            if out_of_range > 0:
                return end, end
            if out_of_range == 0:
                start = bound if lower_inclusive else prefix_end(bound)
        if upper is not None:
            bound, out_of_range = self._bound(prefix_values, upper, column.descending)
            if out_of_range < 0:
                return start, start
            if out_of_range == 0:
                end = prefix_end(bound) if upper_inclusive else bound
        return (start, end) if start < end else (start, start)

    def range_source(
        self,
        arg_names: Sequence[str],
        lower: str | None,
        lower_inclusive: bool,
        upper: str | None,
        upper_inclusive: bool,
    ) -> tuple[list[str], dict[str, Any]]:
        """Returns statements that assign ``start`` and ``end`` as ``range_span`` does, of named values, and the names they use.

        They raise one of RANGE_ERRORS where ``range_span`` would have clamped; an empty range may have its start above its end.
        """
        column = self.columns[len(arg_names)]
        if column.descending:
            lower, lower_inclusive, upper, upper_inclusive = upper, upper_inclusive, lower, lower_inclusive
        namespace: dict[str, Any] = {"key_prefix_end": prefix_end}
        if lower is None or upper is None:
            pieces = self._pieces_of(arg_names, namespace)
            pieces.add_constant(bytes((TAG_VALUE,)) if column.nullable else b"")
            every = pieces.expression()
        if lower is None:
            start = every
        else:
            start = self._pieces_of([*arg_names, lower], namespace).expression()
        if upper is None:
            end = f"key_prefix_end({every})"
        else:
            end = self._pieces_of([*arg_names, upper], namespace).expression()
        start = f"key_prefix_end({start})" if lower is not None and not lower_inclusive else start
        end = f"key_prefix_end({end})" if upper is not None and upper_inclusive else end
        return [f"start = {start}", f"end = {end}"], namespace

    def _pieces_of(self, arg_names: Sequence[str], namespace: dict[str, Any]) -> _KeyPieces:
        """The pieces of the leading columns, without suffix."""
        pieces = _KeyPieces(namespace, self.prefix)
        for column, name in zip(self.columns, arg_names):
            pieces.add(column, name)
        return pieces

    def _bound(self, prefix_values: Sequence[Any], bound: Any, descending: bool) -> tuple[bytes, int]:
        """Returns the bound's key prefix and 0, or b"" and where it lies beside the column's key range: -1 before, 1 after."""
        try:
            return self.encode_prefix((*prefix_values, bound)), 0
        except RANGE_ERRORS:
            return b"", (-1 if (bound > 0) == descending else 1)

    # --- decoding

    def decode_source(
        self, key: str, wanted: Sequence[int], local: str = "k"
    ) -> tuple[list[str], list[str], dict[str, Any]]:
        """Returns statements that read the columns at positions ``wanted`` from the variable ``key``.

        Then the expressions that hold them, in the order of ``wanted``, and the names
        used.  The statements assign variables that start with ``local`` (which must end in a
        letter); on corrupt keys they raise one of CORRUPTION_ERRORS or StorageFailure.  They trust
        the prefix: whose key it is, is known from the span that was read.
        """
        reader = _KeyReader(self, key, local)
        reader.read(set(wanted))
        return reader.lines, [f"{local}{i}" for i in wanted], reader.namespace

    def _define_decode(self) -> Callable[[bytes], tuple[Any, ...]]:
        reader = _KeyReader(self, "key", "k")
        reader.read(set(range(len(self.columns))))
        size = reader.position()
        namespace = reader.namespace | {"errors": CORRUPTION_ERRORS, "corrupt": corrupt_key}
        values = "".join([f"k{i}, " for i in range(len(self.columns))])
        end = f"{size} + {len(self.suffix)}" if self.suffix else size
        body = ["try:", *["    " + line for line in reader.lines], "    pass", "except errors as problem:"]
        body += [
            "    raise corrupt(key) from problem",
            f"if len(key) != {end}:",
            "    raise corrupt(key)",
            f"return ({values})",
        ]
        return define_function("decode", "key", body, namespace)


def corrupt_key(key: bytes) -> MeridianError:
    return StorageFailure(f"corrupt key {key.hex()}", sqlstate="XX001")


def decode_descending(key: bytes, start: int, decode: Decoder) -> tuple[Any, int]:
    """Decodes one inverted varying value."""
    value, size = decode(key[start:].translate(INVERT), 0)
    return value, start + size


def _packer(namespace: dict[str, Any], code: str) -> str:
    """Puts ``Struct(code).pack`` into the namespace and returns its name, the same for the same code."""
    name = f"key_pack_{code}"
    namespace[name] = struct.Struct(">" + code).pack
    return name


class _KeyPieces:
    """Collects the pieces of a key expression; neighbours of fixed width share one pack call.

    The prefix is a constant of the source (bytes of our own making), which costs less
    than a name.  A run with nullable columns is packed at once if none is NULL, and
    piece by piece otherwise.
    """

    def __init__(self, namespace: dict[str, Any], prefix: bytes) -> None:
        self.namespace = namespace
        self._pieces: list[str] = []
        self._constant = prefix
        self._code = ""
        self._arguments: list[str] = []
        self._nullable: list[str] = []
        self._single: list[str] = []

    def add_constant(self, constant: bytes) -> None:
        if constant and not self._code:
            self._constant += constant
        elif constant:
            self._code += f"{len(constant)}s"
            self._arguments.append(repr(constant))
            self._single.append(repr(constant))

    def add(self, column: KeyColumn, name: str) -> None:
        self.namespace.update(column.form.names)
        value = column.value_source(name)
        for known in NAMES:
            if known in value:
                self.namespace[known] = NAMES[known]
        if column.form.is_fixed:
            self._add_fixed(column, name, value)
            return
        self._flush()
        tag = bytes((TAG_VALUE,)) if column.nullable else b""
        constant, self._constant = self._constant, b""
        piece = f"{constant + tag!r} + {value}" if constant + tag else value
        if column.nullable:
            null = constant + bytes((column.null_tag,))
            piece = f"({piece} if {name} is not None else {null!r})"
        self._pieces.append(piece)

    def _add_fixed(self, column: KeyColumn, name: str, value: str) -> None:
        if self._constant:
            self._code += f"{len(self._constant)}s"
            self._arguments.append(repr(self._constant))
            self._single.append(repr(self._constant))
            self._constant = b""
        if not column.nullable:
            self._code += column.form.code
            self._arguments.append(value)
            self._single.append(f"{_packer(self.namespace, column.form.code)}({value})")
            return
        tagged = "B" + column.form.code
        self._code += tagged
        self._arguments += [str(TAG_VALUE), value]
        self._nullable.append(name)
        packed = f"{_packer(self.namespace, tagged)}({TAG_VALUE}, {value})"
        self._single.append(f"({packed} if {name} is not None else {bytes((column.null_tag,))!r})")

    def _flush(self) -> None:
        """Ends the current run of fixed columns."""
        if not self._code:
            return
        piece = f"{_packer(self.namespace, self._code)}({', '.join(self._arguments)})"
        if self._nullable:
            present = " and ".join([f"{name} is not None" for name in self._nullable])
            piece = f"({piece} if {present} else {_joined(self._single)})"
        self._pieces.append(piece)
        self._code = ""
        self._arguments, self._nullable, self._single = [], [], []

    def expression(self) -> str:
        self._flush()
        if self._constant:
            self._pieces.append(repr(self._constant))
            self._constant = b""
        return _joined(self._pieces) if self._pieces else "b''"


SUM_PIECES_MAX: Final = 4
"""Up to this many byte strings are faster added than joined."""


def _joined(pieces: list[str]) -> str:
    if len(pieces) <= SUM_PIECES_MAX:
        return " + ".join(pieces)
    return f"b''.join(({', '.join(pieces)}))"


class _KeyReader:
    """Generates the statements that read some columns of a key.

    The leading run of fixed columns lies at constant offsets if none of it is NULL: one
    unpack, after a look at the tags.  What follows is read column by column.
    """

    def __init__(self, codec: KeyCodec, key: str, local: str) -> None:
        self.namespace: dict[str, Any] = {}
        self.lines: list[str] = []
        self._columns = codec.columns
        self._key = key
        self._local = local
        self._start = len(codec.prefix)
        self._at: int | None = self._start
        """Constant position, or None: it is in the variable ``{local}p``."""

    def position(self) -> str:
        return f"{self._local}p" if self._at is None else str(self._at)

    def read(self, wanted: set[int]) -> None:
        if not wanted:
            return
        last = max(wanted)
        run = 0
        while run <= last and self._columns[run].form.is_fixed:
            run += 1
        if run:
            self._read_run(run, wanted, last)
        for i in range(run, last + 1):
            self.lines += self._column_lines(i, i in wanted)

    def _read_run(self, run: int, wanted: set[int], last: int) -> None:
        columns = self._columns[:run]
        code, targets, restores = f"{self._start}x", [], []
        tags: list[str] = []
        at = self._start
        for i, column in enumerate(columns):
            if column.nullable:
                tags.append(f"{self._key}[{at}] == {TAG_VALUE}")
                code += "x"
            at += column.width
            if i not in wanted:
                code += f"{column.form.width}x"
                continue
            code += column.form.code
            targets.append(f"{self._local}{i}")
            restores += self._restore_lines(i)
        fast = [*self._unpack_lines(targets, code, ""), *restores]
        if not tags:
            self.lines += fast
            self._at = at
            return
        self._at = None
        slow = [f"{self._local}p = {self._start}"]
        for i in range(run):
            slow += self._column_lines(i, i in wanted)
        if run <= last or last == len(self._columns) - 1:
            fast.append(f"{self._local}p = {at}")
        self.lines.append(f"if {' and '.join(tags)}:")
        self.lines += ["    " + line for line in fast]
        self.lines.append("else:")
        self.lines += ["    " + line for line in slow]

    def _unpack_lines(self, targets: list[str], code: str, at: str) -> list[str]:
        if not targets:
            return []
        name = f"key_unpack_{code}"
        self.namespace[name] = struct.Struct(">" + code).unpack_from
        return [f"{', '.join(targets)}, = {name}({self._key}{at})"]

    def _restore_lines(self, i: int) -> list[str]:
        column, name = self._columns[i], f"{self._local}{i}"
        self.namespace.update(column.form.names)
        restore = column.restore_source(name)
        for known in NAMES:
            if known in restore:
                self.namespace[known] = NAMES[known]
        return [f"{name} = {restore}"] if restore != name else []

    def _column_lines(self, i: int, is_wanted: bool) -> list[str]:
        """Statements that read, or skip, column i at the variable position and move it on."""
        column, p, name = self._columns[i], f"{self._local}p", f"{self._local}{i}"
        before = [] if self._at is None else [f"{p} = {self._at}"]
        self._at = None
        if not column.nullable:
            return before + self._value_lines(column, i, is_wanted)
        self.namespace["key_corrupt"] = corrupt_key
        lines = [f"if {self._key}[{p}] == {TAG_VALUE}:", f"    {p} += 1"]
        lines += ["    " + line for line in self._value_lines(column, i, is_wanted)]
        lines += [f"elif {self._key}[{p}] == {column.null_tag}:", f"    {p} += 1", f"    {name} = None"]
        return [*before, *lines, "else:", f"    raise key_corrupt({self._key})"]

    def _value_lines(self, column: KeyColumn, i: int, is_wanted: bool) -> list[str]:
        form, p, name = column.form, f"{self._local}p", f"{self._local}{i}"
        if form.is_fixed:
            lines = []
            if is_wanted:
                lines = [*self._unpack_lines([name], form.code, f", {p}"), *self._restore_lines(i)]
            return [*lines, f"{p} += {form.width}"]
        if form.skip and not is_wanted:
            mark = TERMINATOR.translate(INVERT) if column.descending else TERMINATOR
            return [f"{p} = {self._key}.index({mark!r}, {p}) + {len(mark)}"]
        self.namespace.update(form.names)
        if form.restore in NAMES:
            self.namespace[form.restore] = NAMES[form.restore]
        if column.descending:
            self.namespace["key_decode_descending"] = decode_descending
            return [f"{name}, {p} = key_decode_descending({self._key}, {p}, {form.restore})"]
        return [f"{name}, {p} = {form.restore}({self._key}, {p})"]
