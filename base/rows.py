"""Row values: the columns of one row as bytes, in one of the table's layouts.

    | header 2 | NULL bitmap | fixed-width columns | end offsets | varying columns |

* header: layout id, little-endian; bit 15 set if the end offsets are 4 bytes wide, not 2.
* bitmap: bit i % 8 of byte i // 8 is set if column i of the layout is NULL.
* fixed-width columns in layout order; zeros where NULL, so every offset is constant
  and numpy can read a column of thousands of rows with one stride.
* end offset of each varying column, counted from the start of the value; the last one is
  the length of the whole value, so a truncated value is noticed.
* varying columns, one after another; nothing where NULL.

How each type looks is in ``base.rowtypes``.  All columns may be NULL here.

A table has several layouts after ADD COLUMN and DROP COLUMN; rows keep the one they were
written in.  A column that an old row does not have reads as the value ADD COLUMN ..
DEFAULT recorded (``missing``), or NULL.

Encoders and decoders are Python source generated per layout and set of wanted
columns: one ``Struct`` reads bitmap, columns and offsets together, and only what was
asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from base import rowcolumns
from base.errors import MeridianError, StorageFailure
from base.generated import define_function
from base.keys import CORRUPTION_ERRORS, KeyCodec
from base.projection import ProjectedColumn, ProjectedLayout, encode_projection, projected_equal
from base.rowcolumns import BYTES, INT, TEXT, Column, ColumnTaker
from base.rowtypes import NAMES, ValueForm, value_form
from base.types import PgType

__all__ = ["LAYOUT_ID_MAX", "Field", "Layout", "RowCodec", "make_row_decoder", "projected_equal"]

LAYOUT_ID_MAX: Final = 0x7FFF
WIDE: Final = 0x8000
"""Header bit: end offsets have 4 bytes."""
NARROW_SIZE_MAX: Final = 0xFFFF
HEADER_SIZE: Final = 2
TAKES_COLUMNS = not rowcolumns.__file__.endswith(".py")
"""Compiled, taking columns costs a fraction of unpacking rows one by one; interpreted, it costs more."""

Decode = Callable[[bytes], tuple[Any, ...]]


class Field:
    """Where one column lies in the values of a layout."""

    __slots__ = ("bit", "form", "offset", "type", "varying")

    def __init__(self, type: PgType, bit: int, offset: int, varying: int) -> None:
        self.type = type
        self.form: ValueForm = value_form(type)
        self.bit = bit
        """Its place in the NULL bitmap."""
        self.offset = offset
        """Of a fixed-width column, from the start of the value; else 0."""
        self.varying = varying
        """Index among the varying columns, or -1."""

    @property
    def null_byte(self) -> int:
        """Offset of the bitmap byte."""
        return HEADER_SIZE + self.bit // 8

    @property
    def null_mask(self) -> int:
        return 1 << self.bit % 8


class Layout:
    """One physical row format: which columns, in which order, and so where."""

    __slots__ = ("columns", "fields", "id", "offsets_at", "varying_count")

    def __init__(self, id: int, columns: tuple[tuple[int, PgType], ...]) -> None:
        assert 0 <= id <= LAYOUT_ID_MAX, f"layout {id=}"
        self.id = id
        self.columns = columns
        self.fields: dict[int, Field] = {}
        """By column id, in layout order."""
        self.varying_count = 0
        offset = HEADER_SIZE + (len(columns) + 7) // 8
        for bit, (column_id, pg_type) in enumerate(columns):
            field = Field(pg_type, bit, 0, -1)
            if field.form.is_fixed:
                field.offset = offset
                offset += field.form.width
            else:
                field.varying = self.varying_count
                self.varying_count += 1
            self.fields[column_id] = field
        assert len(self.fields) == len(columns), f"column twice in {columns}"
        self.offsets_at = offset
        """Where the end offsets start; the size of the whole value if no column varies."""

    def varying_at(self, wide: bool) -> int:
        """Where the first varying column starts."""
        return self.offsets_at + self.varying_count * (4 if wide else 2)


class RowCodec:
    """Writes rows in one layout and reads them in all of a table's layouts."""

    def __init__(self, layouts: Mapping[int, Layout], write: Layout, missing: Mapping[int, Any] | None = None) -> None:
        self.layouts = dict(layouts)
        self.layouts.setdefault(write.id, write)
        self.write = write
        self.missing = dict(missing or {})
        """Column id to the datum of rows whose layout lacks the column; NULL if not here."""
        self._decoders: dict[tuple[int, ...], Decode] = {}

    # --- encoding

    def encode_source(
        self, arg_names: Sequence[str], local: str = "w", stored: Container[int] = ()
    ) -> tuple[list[str], str, dict[str, Any]]:
        """Returns statements, then the expression of the row value, and the names used.

        ``arg_names``: a variable per column of the write layout.  The statements assign variables
        that start with ``local`` only; namespaces of several codecs may be merged.  Columns in ``stored``
        (varying only) come as the bytes they are stored as.
        """
        writer = _RowWriter(self.write, local, stored)
        writer.write(arg_names)
        return writer.lines, f"{local}_row", writer.namespace

    @cached_property
    def encode(self) -> Callable[[Sequence[Any]], bytes]:
        """The function from one datum per column of the write layout to the row value.

        Datums are of their columns' types already; a number out of range raises one of ``base.keys.RANGE_ERRORS``.
        """
        names = [f"c{i}" for i in range(len(self.write.columns))]
        lines, expression, namespace = self.encode_source(names)
        unpack = [f"{', '.join(names)}, = values"] if names else []
        return define_function("encode", "values", [*unpack, *lines, f"return {expression}"], namespace)

    # --- decoding

    def decoder(self, column_ids: Sequence[int]) -> Decode:
        """Returns the function from a row value to a tuple of the wanted columns; StorageFailure if it is corrupt."""
        wanted = tuple(column_ids)
        decode = self._decoders.get(wanted)
        if decode is None:
            lines, values, namespace = self.decode_source("value", wanted)
            decode = define_function(
                "decode", "value", _guarded(lines, values, "corrupt(value)"), namespace | GUARD_NAMES
            )
            self._decoders[wanted] = decode
        return decode

    def decode_source(
        self, value: str, column_ids: Sequence[int], local: str = "r", stored: Container[int] = ()
    ) -> tuple[list[str], list[str], dict[str, Any]]:
        """Returns statements that read columns from the variable ``value``, expressions that hold them, and the names used.

        The newest layout is read inline, any other by a call.  Variables and this
        codec's own names start with ``local``, which must end in a letter: give codecs of one
        function different ones.  Columns in ``stored`` (varying only) are given as the bytes they are
        stored as: of text its UTF-8.
        On corrupt values the statements raise one of CORRUPTION_ERRORS or StorageFailure.
        """
        reader = _RowReader(self.write, False, value, local, self.missing_in(stored), stored)
        reader.read(column_ids)
        if not column_ids:
            return [], [], {}
        names = ", ".join(reader.variables)
        other = _OtherLayouts(self, tuple(column_ids), stored)
        namespace = reader.namespace | {"row_struct_error": struct.error, f"{local}_other": other.decode}
        lines = ["try:", f"    {reader.unpack_line}", "except row_struct_error:", f"    {local}_h = -1"]
        lines += [f"if {local}_h == {self.write.id} and {reader.complete}:"]
        lines += ["    " + line for line in reader.assign_lines]
        lines += ["else:", f"    {names}, = {local}_other({value})"]
        return lines, reader.variables, namespace

    def column_taker(self, column_ids: Sequence[int], stored: Container[int] = ()) -> ColumnTaker | None:
        """Returns what takes these columns of many rows at once, in this order; None if one is of another kind."""
        if not TAKES_COLUMNS:
            return None
        layout = self.write
        columns: list[Column] = []
        for column_id in column_ids:
            field = layout.fields.get(column_id)
            if field is None:
                return None
            nulls = (field.null_byte, field.null_mask)
            if field.varying >= 0:
                if column_id not in stored and not field.form.is_text:
                    return None
                end_at = layout.offsets_at + 2 * field.varying
                start_at = end_at - 2 if field.varying else -layout.varying_at(False)
                columns.append(Column(BYTES if column_id in stored else TEXT, end_at, 2, start_at, *nulls))
            elif field.form.is_integer:
                columns.append(Column(INT, field.offset, field.form.width, 0, *nulls))
            else:
                return None
        if not columns:
            return None
        size_at = layout.offsets_at + 2 * (layout.varying_count - 1) if layout.varying_count else -layout.offsets_at
        return ColumnTaker(layout.id, size_at, columns)

    def missing_in(self, stored: Container[int]) -> dict[int, Any]:
        """Returns ``missing`` with the columns in ``stored`` as the bytes that rows hold."""
        fields = self.write.fields
        return {
            column_id: fields[column_id].form.storer()(datum)
            if column_id in stored and column_id in fields and datum is not None
            else datum
            for column_id, datum in self.missing.items()
        }

    # --- projections

    def projection(self, column_ids: Sequence[int]) -> bytes:
        """Returns what ``projected_equal`` needs to compare these columns, without a catalog.

        Columns that no layout holds are key columns: rows of one key cannot differ in them.
        """
        newest: dict[int, Field] = {}
        for layout in self.layouts.values():
            newest.update(layout.fields)
        newest.update(self.write.fields)
        wanted = [column_id for column_id in sorted(set(column_ids)) if column_id in newest]
        layouts = [self._projected_layout(layout, wanted, newest) for _, layout in sorted(self.layouts.items())]
        return encode_projection(layouts)

    def _projected_layout(self, layout: Layout, wanted: list[int], newest: dict[int, Field]) -> ProjectedLayout:
        columns = []
        for column_id in wanted:
            field = layout.fields.get(column_id)
            if field is None:
                field = newest[column_id]
                datum = self.missing.get(column_id)
                stored = None if datum is None else field.form.storer()(datum)
                columns.append(ProjectedColumn(field.type.oid, -1, 0, 0, -1, stored))
            else:
                columns.append(
                    ProjectedColumn(field.type.oid, field.bit, field.offset, field.form.width, field.varying)
                )
        return ProjectedLayout(layout.id, layout.offsets_at, layout.varying_count, columns)


def make_row_decoder(
    key_codec: KeyCodec, key_positions: Mapping[int, int], row_codec: RowCodec, wanted: Sequence[int]
) -> Callable[[bytes, bytes], tuple[Any, ...]]:
    """Returns the function from (key, row value) to a tuple of the wanted columns.

    ``key_positions`` maps column ids to positions in the key: those columns are taken from
    there, all others from the value.  Leave out columns that are not restorable.
    """
    from_key = [column_id for column_id in dict.fromkeys(wanted) if column_id in key_positions]
    from_value = [column_id for column_id in dict.fromkeys(wanted) if column_id not in key_positions]
    positions = [key_positions[column_id] for column_id in from_key]
    assert all(key_codec.restorable[position] for position in positions), f"{positions=} {key_codec.restorable=}"
    key_lines, key_values, key_names = key_codec.decode_source("key", positions)
    row_lines, row_values, row_names = row_codec.decode_source("value", from_value)
    source = dict(zip(from_key, key_values)) | dict(zip(from_value, row_values))
    body = _guarded([*key_lines, *row_lines], [source[column_id] for column_id in wanted], "corrupt(value, key)")
    return define_function("decode", "key, value", body, key_names | row_names | GUARD_NAMES)


def corrupt_row(value: bytes, key: bytes = b"") -> MeridianError:
    where = f" at key {key.hex()}" if key else ""
    return StorageFailure(f"corrupt row value of {len(value)} bytes{where}: {value[:64].hex()}", sqlstate="XX001")


GUARD_NAMES: Final[dict[str, Any]] = {"errors": (*CORRUPTION_ERRORS, StorageFailure), "corrupt": corrupt_row}


def _guarded(lines: Sequence[str], values: Sequence[str], failure: str) -> list[str]:
    """A function body that runs ``lines`` and returns ``values``; garbage becomes one clear error."""
    result = f"return ({''.join([value + ', ' for value in values])})"
    if not lines:
        return [result]
    return [
        "try:",
        *["    " + line for line in lines],
        "except errors as problem:",
        f"    raise {failure} from problem",
        result,
    ]


class _OtherLayouts:
    """Decodes rows that are not in the write layout with narrow offsets: old ones, long ones, corrupt ones."""

    __slots__ = ("_codec", "_decoders", "_stored", "_wanted")

    def __init__(self, codec: RowCodec, wanted: tuple[int, ...], stored: Container[int]) -> None:
        self._codec = codec
        self._wanted = wanted
        self._stored = stored
        self._decoders: dict[bytes, Decode] = {}

    def decode(self, value: bytes) -> tuple[Any, ...]:
        header = value[:HEADER_SIZE]
        decode = self._decoders.get(header)
        if decode is None:
            decode = self._decoders[header] = self._define(value)
        return decode(value)

    def _define(self, value: bytes) -> Decode:
        header = int.from_bytes(value[:HEADER_SIZE], "little")
        layout = self._codec.layouts.get(header & LAYOUT_ID_MAX)
        if layout is None or len(value) < HEADER_SIZE:
            raise corrupt_row(value)
        missing = self._codec.missing_in(self._stored)
        reader = _RowReader(layout, bool(header & WIDE), "value", "r", missing, self._stored)
        reader.read(self._wanted)
        lines = [reader.unpack_line, f"if not ({reader.complete}):", "    raise corrupt(value)", *reader.assign_lines]
        return define_function(
            "decode", "value", _guarded(lines, reader.variables, "corrupt(value)"), reader.namespace | GUARD_NAMES
        )


class _RowReader:
    """Generates the source that reads some columns of a value of one layout."""

    def __init__(
        self, layout: Layout, wide: bool, value: str, local: str, missing: Mapping[int, Any], stored: Container[int]
    ) -> None:
        self.namespace: dict[str, Any] = {}
        self.variables: list[str] = []
        """One per wanted column, in order."""
        self.unpack_line = ""
        """Assigns the header to ``{local}_h`` and all that the other lines need."""
        self.complete = ""
        """Condition: the value has the length it says."""
        self.assign_lines: list[str] = []
        self._layout = layout
        self._wide = wide
        self._value = value
        self._local = local
        self._missing = missing
        self._stored = stored
        self._pieces: dict[int, tuple[str, int, list[str]]] = {}
        """Offset to (struct code, width, targets): what the one unpack reads."""

    def read(self, column_ids: Sequence[int]) -> None:
        layout, local = self._layout, self._local
        self.variables = [f"{local}{column_id}" for column_id in column_ids]
        self._pieces[0] = ("H", HEADER_SIZE, [f"{local}_h"])
        masks: dict[int, int] = {}
        plain: list[str] = []
        careful: list[str] = []
        for column_id in dict.fromkeys(column_ids):
            field = layout.fields.get(column_id)
            if field is None:
                self._read_missing(column_id, plain, careful)
            else:
                masks[field.null_byte] = masks.get(field.null_byte, 0) | field.null_mask
                self._read_field(column_id, field, plain, careful)
        for at in masks:
            self._pieces[at] = ("B", 1, [f"{local}_n{at}"])
        if layout.varying_count:
            self.complete = f"{self._end(layout.varying_count - 1)} == len({self._value})"
        else:
            self.complete = f"len({self._value}) == {layout.offsets_at}"
        self._finish_unpack()
        self._finish_assign(masks, plain, careful)

    def _read_missing(self, column_id: int, plain: list[str], careful: list[str]) -> None:
        name = f"{self._local}_m{column_id}"
        datum = self._missing.get(column_id)
        self.namespace[name] = datum
        plain.append(f"{self._local}{column_id} = {name}")
        careful.append(f"{self._local}{column_id} = {name}")

    def _read_field(self, column_id: int, field: Field, plain: list[str], careful: list[str]) -> None:
        name = f"{self._local}{column_id}"
        form = field.form
        self.namespace.update(form.names)
        if field.varying >= 0:
            start = self._end(field.varying - 1) if field.varying else str(self._layout.varying_at(self._wide))
            load = f"{self._value}[{start}:{self._end(field.varying)}]"
            if column_id not in self._stored:
                load = form.load.format(load)
        else:
            assert column_id not in self._stored, f"{field.type.name} has a fixed width"
            parts = [name] if form.parts == 1 else [f"{name}_{i}" for i in range(form.parts)]
            self._pieces[field.offset] = (form.code, form.width, parts)
            load = form.load.format(*parts)
        for known in NAMES:
            if known in load:
                self.namespace[known] = NAMES[known]
        if load != name:
            plain.append(f"{name} = {load}")
            careful.append(f"{name} = None if {self._local}_n{field.null_byte} & {field.null_mask} else {load}")
        else:
            careful += [f"if {self._local}_n{field.null_byte} & {field.null_mask}:", f"    {name} = None"]

    def _end(self, varying: int) -> str:
        """Returns the variable of a varying column's end offset, and has it read."""
        name = f"{self._local}_e{varying}"
        width = 4 if self._wide else 2
        self._pieces[self._layout.offsets_at + varying * width] = ("I" if self._wide else "H", width, [name])
        return name

    def _finish_unpack(self) -> None:
        code, at = "", 0
        targets: list[str] = []
        for offset, (piece, width, names) in sorted(self._pieces.items()):
            if offset > at:
                code += f"{offset - at}x"
            code += piece
            targets += names
            at = offset + width
        name = f"row_unpack_{code.replace('?', '_')}"
        self.namespace[name] = struct.Struct("<" + code).unpack_from
        self.unpack_line = f"{', '.join(targets)}, = {name}({self._value})"

    def _finish_assign(self, masks: dict[int, int], plain: list[str], careful: list[str]) -> None:
        if not masks:
            self.assign_lines = plain or ["pass"]
            return
        some_null = " or ".join([f"{self._local}_n{at} & {mask}" for at, mask in sorted(masks.items())])
        self.assign_lines = [f"if {some_null}:", *["    " + line for line in careful]]
        if plain:
            self.assign_lines += ["else:", *["    " + line for line in plain]]


class _RowWriter:
    """Generates the source that makes a row value of a layout."""

    def __init__(self, layout: Layout, local: str, stored: Container[int]) -> None:
        self.namespace: dict[str, Any] = {}
        self.lines: list[str] = []
        self._layout = layout
        self._local = local
        self._stored = stored

    def write(self, arg_names: Sequence[str]) -> None:
        layout, local = self._layout, self._local
        assert len(arg_names) == len(layout.columns), f"{arg_names=} {layout.columns=}"
        nulls = [f"{local}_n{at}" for at in range((len(arg_names) + 7) // 8)]
        if nulls:
            self.lines.append(f"{' = '.join(nulls)} = 0")
        code = "H" + "B" * len(nulls)
        fixed: list[str] = []
        varying: list[str] = []
        for argument, (column_id, field) in zip(arg_names, layout.fields.items()):
            name = self._store(argument, field, column_id in self._stored)
            if field.varying >= 0:
                varying.append(name)
            else:
                code += field.form.code
                fixed.append(field.form.arguments.format(name))
        if varying:
            self._write_varying(code, [*nulls, *fixed], varying)
        else:
            self.lines.append(f"{local}_row = {self._packer(code)}({', '.join([str(layout.id), *nulls, *fixed])})")

    def _store(self, argument: str, field: Field, is_stored: bool) -> str:
        """Adds the lines that turn an argument into what is packed, noting NULL; returns the variable."""
        form = field.form
        assert not (is_stored and form.is_fixed), f"{field.type.name} has a fixed width"
        self.namespace.update(form.names)
        for known in NAMES:
            if known in form.store:
                self.namespace[known] = NAMES[known]
        name = f"{self._local}{field.bit}"
        store = argument if is_stored else form.store.format(argument)
        self.lines.append(f"if {argument} is None:")
        self.lines.append(f"    {self._local}_n{field.bit // 8} |= {field.null_mask}")
        self.lines += [f"    {name} = {form.zero}", "else:", f"    {name} = {store}"]
        return name

    def _write_varying(self, code: str, arguments: list[str], varying: list[str]) -> None:
        layout, local = self._layout, self._local
        ends = []
        before = str(layout.varying_at(False))
        for i, name in enumerate(varying):
            end = f"{local}_e{i}"
            self.lines.append(f"{end} = {before} + len({name})")
            ends.append(end)
            before = end
        narrow = f"{self._packer(code + 'H' * len(ends))}({', '.join([str(layout.id), *arguments, *ends])})"
        shift = layout.varying_at(True) - layout.varying_at(False)
        moved = [f"{end} + {shift}" for end in ends]
        wide = f"{self._packer(code + 'I' * len(ends))}({', '.join([str(layout.id | WIDE), *arguments, *moved])})"
        self.lines.append(f"if {before} <= {NARROW_SIZE_MAX}:")
        self.lines.append(f"    {local}_row = {_concatenation(narrow, varying)}")
        self.lines += ["else:", f"    {local}_row = {_concatenation(wide, varying)}"]

    def _packer(self, code: str) -> str:
        name = f"row_pack_{code.replace('?', '_')}"
        self.namespace[name] = struct.Struct("<" + code).pack
        return name


SUM_PIECES_MAX: Final = 3
"""Up to this many byte strings are faster added than joined."""


def _concatenation(first: str, rest: list[str]) -> str:
    if len(rest) < SUM_PIECES_MAX:
        return " + ".join([first, *rest])
    return f"b''.join(({', '.join([first, *rest])}))"
