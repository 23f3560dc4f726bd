"""How the rows and index entries of one table version look in the key space.

    primary    key = primary key columns             value = row: every column that its key cannot restore
    secondary  key = index columns + primary key     value = INCLUDE columns, or nothing
    unique     key = index columns                   value = primary key, then INCLUDE columns
               (DEFERRABLE: as secondary, see ``planner.exec.unique``)
               (with a NULL among them, unless NULLS NOT DISTINCT: key as secondary, same value)

Value of a unique entry: | length of primary key 2B | primary key bytes | INCLUDE row |.

An index takes part in writes by its state (Rae et al., "Online, Asynchronous Schema Change
in F1", VLDB 2013): delete_only loses entries but gets none; write_only and backfilling
are kept up but not read; public is read too.

``table_access`` keeps one TableAccess per descriptor version.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec

from base.errors import FeatureNotSupported, StorageFailure, error
from base.generated import define_function
from base.keys import CORRUPTION_ERRORS, KeyCodec, KeyColumn, index_prefix, prefix_end
from base.rowcolumns import ColumnTaker
from base.rows import Layout, RowCodec, corrupt_row, make_row_decoder
from base.rowtypes import value_form
from base.types import BY_OID, PgType
from planner.nodes import TableExprs
from planner.schema import PRIMARY_INDEX_ID, ColumnDesc, IndexDesc, TableDesc

TypeResolver = Callable[[int], PgType | None]
Decode = Callable[[bytes, bytes], tuple[Any, ...]]
Entry = tuple[bytes, bytes]

KEY_BYTES_MAX: Final = 8192
"""Largest index key; more is refused (54000) as PostgreSQL refuses rows over a third of a page."""
ACCESSES_MAX: Final = 10_000
"""Most table versions kept."""
KEY_LENGTH: Final = struct.Struct(">H")
"""Of the primary key in a unique entry."""


def builtin_type(oid: int) -> PgType | None:
    """Resolves built-in types only; sessions hand in a resolver that knows user types."""
    return BY_OID.get(oid)


def missing_datum(column: ColumnDesc, pg_type: PgType) -> Any:
    """The datum recorded by ADD COLUMN .. DEFAULT; None if there is none."""
    if not column.missing:
        return None
    value = msgspec.msgpack.decode(column.missing)
    return _restored(value, pg_type)


def _restored(value: Any, pg_type: PgType) -> Any:
    """msgpack has neither tuples nor decimals."""
    if isinstance(value, list):
        elem = pg_type.elem if pg_type.is_array and pg_type.elem is not None else pg_type
        return tuple([_restored(item, elem) for item in value])
    if pg_type.name == "numeric" and not isinstance(value, Decimal) and value is not None:
        return Decimal(str(value))
    return value


class EntrySource(NamedTuple):
    """Source that reads columns of one entry out of the variables ``key`` and ``value``."""

    lines: list[str]
    """Statements; on corrupt entries they raise one of ``errors``."""
    variables: dict[int, str]
    """By attnum."""
    stored: frozenset[int]
    """Columns whose variable holds the UTF-8 bytes of their text."""
    namespace: dict[str, Any]
    uses_key: bool
    errors: tuple[type[Exception], ...] = (*CORRUPTION_ERRORS, StorageFailure)
    taker: ColumnTaker | None = None
    """Takes all of ``variables``, in their order, of the values of a whole page."""


class TableAccess:
    """Codecs of one table version."""

    def __init__(self, desc: TableDesc, types: TypeResolver, exprs: TableExprs | None = None) -> None:
        self.desc = desc
        self.key_id = desc.key_prefix_table or desc.id
        self.attnums: tuple[int, ...] = tuple([column.id for column in desc.columns])
        self.columns: dict[int, ColumnDesc] = {column.id: column for column in desc.columns}
        self.position: dict[int, int] = {attnum: i for i, attnum in enumerate(self.attnums)}
        self.types: dict[int, PgType] = {column.id: self._type(column.type_oid, types) for column in desc.columns}
        self.row_codec = self._row_codec(types)
        primary = desc.indexes[0]
        assert primary.id == PRIMARY_INDEX_ID, f"{primary.id=} of {desc.name}"
        self.key_attnums: tuple[int, ...] = tuple([column.column_id for column in primary.columns])
        self.key_columns = [
            KeyColumn(self.types[c.column_id], c.descending, False, c.nulls_first) for c in primary.columns
        ]
        self.key_codec = KeyCodec(index_prefix(self.key_id, PRIMARY_INDEX_ID), self.key_columns)
        self.key_body = KeyCodec(b"", self.key_columns)
        """Primary keys without their prefix, as unique entries hold them."""
        self.prefix = self.key_codec.prefix
        self.key_position: dict[int, int] = {
            a: i for i, a in enumerate(self.key_attnums) if self.key_codec.restorable[i]
        }
        """Columns read from the key."""
        self.key_of_row: Callable[[Sequence[Any]], bytes] = self._key_of_row()
        self.value_of_row: Callable[[Sequence[Any]], bytes] = self._value_of_row()
        self._decoders: dict[tuple[int, ...], Decode] = {}
        self._projections: dict[tuple[int, ...], bytes] = {}
        self.indexes: list[IndexAccess] = [IndexAccess(self, index, exprs) for index in desc.indexes]
        self.by_id: dict[int, IndexAccess] = {index.desc.id: index for index in self.indexes}

    @property
    def primary(self) -> IndexAccess:
        return self.indexes[0]

    @property
    def secondary(self) -> list[IndexAccess]:
        return self.indexes[1:]

    def _type(self, oid: int, types: TypeResolver) -> PgType:
        found = types(oid)
        assert found is not None, f"type {oid} of table {self.desc.name} is unknown"
        return found

    def _row_codec(self, types: TypeResolver) -> RowCodec:
        layouts = {}
        for layout in self.desc.layouts:
            columns = tuple(
                [
                    (column_id, self.types[column_id] if column_id in self.types else self._type(oid, types))
                    for column_id, oid in layout.columns
                ]
            )
            layouts[layout.id] = Layout(layout.id, columns)
        missing = {
            column.id: missing_datum(column, self.types[column.id]) for column in self.desc.columns if column.missing
        }
        return RowCodec(layouts, layouts[self.desc.layouts[-1].id], missing)

    def _key_of_row(self) -> Callable[[Sequence[Any]], bytes]:
        names = [f"row[{self.position[attnum]}]" for attnum in self.key_attnums]
        lines = [f"c{i} = {name}" for i, name in enumerate(names)]
        source, namespace = self.key_codec.encode_source([f"c{i}" for i in range(len(names))])
        return define_function("key_of_row", "row", [*lines, f"return {source}"], namespace)

    def _value_of_row(self) -> Callable[[Sequence[Any]], bytes]:
        ids = [column_id for column_id, _ in self.row_codec.write.columns]
        # A column being dropped may still be in the written layout; it is written as NULL.
        args = [f"c{i}" for i in range(len(ids))]
        lines = [f"c{i} = row[{self.position[a]}]" if a in self.position else f"c{i} = None" for i, a in enumerate(ids)]
        body, source, namespace = self.row_codec.encode_source(args)
        return define_function("value_of_row", "row", [*lines, *body, f"return {source}"], namespace)

    def decoder(self, attnums: Sequence[int]) -> Decode:
        """Returns the function from (primary key, row value) to a tuple of columns."""
        wanted = tuple(attnums)
        found = self._decoders.get(wanted)
        if found is None:
            found = self._decoders[wanted] = make_row_decoder(self.key_codec, self.key_position, self.row_codec, wanted)
        return found

    def entry_source(self, attnums: Sequence[int], stored: Container[int] = (), local: str = "r") -> EntrySource:
        """Returns the source that reads columns of a row; those in ``stored``, if text of the row value, as bytes."""
        in_key = [attnum for attnum in attnums if attnum in self.key_position]
        in_row = [attnum for attnum in attnums if attnum not in self.key_position]
        as_bytes = frozenset([attnum for attnum in in_row if attnum in stored and self.is_text(attnum)])
        key_lines, key_values, namespace = self.key_codec.decode_source(
            "key", [self.key_position[attnum] for attnum in in_key], "d"
        )
        lines, values, names = self.row_codec.decode_source("value", in_row, local, as_bytes)
        variables = dict(zip([*in_key, *in_row], [*key_values, *values]))
        taker = None if in_key else self.row_codec.column_taker(in_row, as_bytes)
        return EntrySource([*key_lines, *lines], variables, as_bytes, namespace | names, bool(in_key), taker=taker)

    def is_text(self, attnum: int) -> bool:
        """True if the stored form of a column's values is their text."""
        return value_form(self.types[attnum]).is_text

    @property
    def decode_row(self) -> Decode:
        """Decodes all columns, in attnum order."""
        return self.decoder(self.attnums)

    def projection(self, attnums: Sequence[int]) -> bytes:
        """What refreshes may compare: the columns used that are in the row value; key columns cannot differ."""
        wanted = tuple(sorted({attnum for attnum in attnums if attnum not in self.key_position}))
        found = self._projections.get(wanted)
        if found is None:
            found = self._projections[wanted] = self.row_codec.projection(wanted)
        return found

    def span(self) -> tuple[bytes, bytes]:
        """Every row."""
        return self.prefix, prefix_end(self.prefix)


class IndexAccess:
    """Codec of one index; the primary index of a table is one, too."""

    def __init__(self, table: TableAccess, desc: IndexDesc, exprs: TableExprs | None) -> None:
        self.table = table
        self.desc = desc
        self.is_primary = desc.id == PRIMARY_INDEX_ID
        self.is_unique = (desc.unique and not desc.deferrable) or self.is_primary
        """True if no two entries have the same values; those of a deferrable key may, for a while."""
        self.is_readable = desc.state == "public"
        self.takes_puts = desc.state in ("write_only", "backfilling", "public")
        self.width = len(desc.columns)
        self.attnums: tuple[int, ...] = tuple([column.column_id for column in desc.columns])
        """0 for expressions."""
        self.implicit = desc.implicit
        self.named: tuple[int, ...] = self.attnums[self.implicit :]
        self.include = tuple([attnum for attnum in desc.include if attnum in table.types])
        self.prefix = index_prefix(table.key_id, desc.id)
        self.expr_types = self._expr_types(exprs)
        self.is_known = len(self.expr_types) == len([attnum for attnum in self.attnums if not attnum])
        """False if expression columns' types were not given: then it can be neither read nor written."""
        self.entry: Callable[..., Entry]
        if self.is_primary:
            self.codec = self.unique_codec = table.key_codec
            self.columns = table.key_columns
        elif self.is_known:
            self.columns = self._key_columns()
            self.unique_codec = KeyCodec(self.prefix, self.columns)
            self.codec = KeyCodec(self.prefix, [*self.columns, *table.key_columns])
            self.include_codec = self._include_codec()
            self.entry = self._define_entry()
        self.regions: tuple[str, ...] = ()
        """Of a partitioned index: the values of its first column."""
        self.heads: tuple[bytes, ...] = ()
        """What the keys of each region begin with; all have one length."""
        if self.implicit and self.is_known:
            self.regions = table.types[self.attnums[0]].enum_labels
            self.heads = tuple([self.codec.encode_prefix([region]) for region in self.regions])
        self.available = self._available()
        self.suffix_width = (
            sum([column.width for column in table.key_columns])
            if all(c.form.is_fixed for c in table.key_columns)
            else 0
        )
        self._decoders: dict[tuple[int, ...], Decode] = {}
        self.primary_key: Callable[[bytes, bytes], bytes] = self._primary_key()

    def _expr_types(self, exprs: TableExprs | None) -> dict[int, PgType]:
        found: dict[int, PgType] = {}
        if exprs is not None and self.desc.id in exprs.index_exprs:
            for i, expr in enumerate(exprs.index_exprs[self.desc.id]):
                if expr is not None and not self.attnums[i]:
                    found[i] = expr.type
        return found

    def _key_columns(self) -> list[KeyColumn]:
        out = []
        for i, column in enumerate(self.desc.columns):
            pg_type = self.table.types[column.column_id] if column.column_id else self.expr_types[i]
            out.append(KeyColumn(pg_type, column.descending, True, column.nulls_first))
        return out

    def _include_codec(self) -> RowCodec | None:
        if not self.include:
            return None
        layout = Layout(1, tuple([(attnum, self.table.types[attnum]) for attnum in self.include]))
        return RowCodec({1: layout}, layout)

    def _available(self) -> frozenset[int]:
        """Columns that an entry gives back exactly."""
        if self.is_primary:
            return frozenset(self.table.attnums)
        if not self.is_known:
            return frozenset()
        found = set(self.table.key_position) | set(self.include)
        found.update([attnum for i, attnum in enumerate(self.attnums) if attnum and self.columns[i].form.restorable])
        return frozenset(found)

    def covers(self, attnums: set[int]) -> bool:
        """True if an entry alone gives these columns."""
        return attnums <= self.available

    # --- writing

    def _define_entry(self) -> Callable[..., Entry]:
        """Generates ``entry(row, computed) -> (key, value)``; ``computed`` are values of expression columns, in order."""
        table = self.table
        lines, names, at = [], [], 0
        for i, attnum in enumerate(self.attnums):
            names.append(f"x{i}")
            lines.append(f"x{i} = row[{table.position[attnum]}]" if attnum else f"x{i} = computed[{at}]")
            at += 0 if attnum else 1
        key_names = [f"p{i}" for i in range(len(table.key_attnums))]
        lines += [f"p{i} = row[{table.position[attnum]}]" for i, attnum in enumerate(table.key_attnums)]
        full, namespace = self.codec.encode_source([*names, *key_names])
        include = "b''"
        if self.include_codec is not None:
            lines += [f"i{i} = row[{table.position[attnum]}]" for i, attnum in enumerate(self.include)]
            body, include, more = self.include_codec.encode_source([f"i{i}" for i in range(len(self.include))], "iw")
            lines += body
            namespace |= more
        if not self.is_unique:
            return define_function("entry", "row, computed", [*lines, f"return {full}, {include}"], namespace)
        body_source, more = table.key_body.encode_source(key_names)
        short, more_short = self.unique_codec.encode_source(names)
        namespace |= more | more_short | {"length": KEY_LENGTH.pack}
        lines += [f"body = {body_source}", f"value = length(len(body)) + body + {include}"]
        if not self.desc.nulls_not_distinct:
            lines += [f"if {' or '.join([f'{name} is None' for name in names])}:", f"    return {full}, value"]
        lines.append(f"return {short}, value")
        return define_function("entry", "row, computed", lines, namespace)

    def is_checked(self, values: Sequence[Any]) -> bool:
        """True if an entry with these index column values must be the only one."""
        return self.is_unique and (self.desc.nulls_not_distinct or None not in values)

    def values(self, row: Sequence[Any], computed: Sequence[Any]) -> tuple[Any, ...]:
        """The index columns' values of a row."""
        rest = iter(computed)
        return tuple([row[self.table.position[attnum]] if attnum else next(rest) for attnum in self.attnums])

    # --- regions

    def home(self, region: str) -> str:
        """Returns the region to look in first, for whoever is in a region."""
        return region if region in self.regions else self.regions[0]

    def siblings(self, key: bytes) -> list[bytes]:
        """Returns the same key in every other region."""
        length = len(self.heads[0])
        head, rest = key[:length], key[length:]
        return [other + rest for other in self.heads if other != head]

    # --- reading

    def _primary_key(self) -> Callable[[bytes, bytes], bytes]:
        """Returns the function from an entry to the primary key of its row."""
        prefix = self.table.prefix
        if self.is_primary:
            return lambda key, value: key
        if not self.is_known:
            return _unknown_index
        if self.is_unique:
            read_length = KEY_LENGTH.unpack_from
            return lambda key, value: prefix + value[2 : 2 + read_length(value)[0]]
        if self.suffix_width:
            width = self.suffix_width
            return lambda key, value: prefix + key[-width:]
        count = len(self.table.key_columns)
        lines, values, namespace = self.codec.decode_source("key", range(self.width, self.width + count))
        source, more = self.table.key_codec.encode_source(values)
        return define_function("primary_key", "key, value", [*lines, f"return {source}"], namespace | more)

    def decoder(self, attnums: Sequence[int]) -> Decode:
        """Returns the function from an entry (key, value) to a tuple of columns it covers."""
        wanted = tuple(attnums)
        found = self._decoders.get(wanted)
        if found is None:
            found = self.table.decoder(wanted) if self.is_primary else self._define_decoder(wanted)
            self._decoders[wanted] = found
        return found

    def _define_decoder(self, wanted: tuple[int, ...]) -> Decode:
        source = self.entry_source(wanted)
        namespace = source.namespace | {"errors": source.errors, "corrupt": corrupt_row}
        result = "".join([source.variables[attnum] + ", " for attnum in wanted])
        body_lines = [
            "try:",
            *["    " + line for line in source.lines or ["pass"]],
            "except errors as problem:",
            "    raise corrupt(value, key) from problem",
        ]
        return define_function("decode", "key, value", [*body_lines, f"return ({result})"], namespace)

    def entry_source(self, attnums: Sequence[int], stored: Container[int] = ()) -> EntrySource:
        """Returns the source that reads columns of an entry, as ``TableAccess.entry_source`` does of a row."""
        table = self.table
        if self.is_primary:
            return table.entry_source(attnums, stored)
        wanted = list(dict.fromkeys(attnums))
        restorable = {attnum: i for i, attnum in enumerate(self.attnums) if attnum and self.columns[i].form.restorable}
        in_key = [attnum for attnum in wanted if attnum in restorable]
        in_row = [attnum for attnum in wanted if attnum not in restorable and attnum in self.include]
        in_primary = [attnum for attnum in wanted if attnum not in restorable and attnum not in self.include]
        as_bytes = frozenset([attnum for attnum in in_row if attnum in stored and table.is_text(attnum)])
        lines: list[str] = []
        namespace: dict[str, Any] = {"length_of": KEY_LENGTH.unpack_from}
        variables: dict[int, str] = {}
        if self.is_unique:
            lines += ["size, = length_of(value)", "body = value[2:2 + size]", "included = value[2 + size:]"]
        else:
            lines.append("included = value")
            in_key = in_key + in_primary
        places = [restorable[a] if a in restorable else self.width + table.key_position[a] for a in in_key]
        self._add(self.codec.decode_source("key", places, "d"), in_key, lines, variables, namespace)
        if self.is_unique and in_primary:
            body = table.key_body.decode_source("body", [table.key_position[a] for a in in_primary], "b")
            self._add(body, in_primary, lines, variables, namespace)
        if in_row:
            assert self.include_codec is not None
            row = self.include_codec.decode_source("included", in_row, "r", as_bytes)
            self._add(row, in_row, lines, variables, namespace)
        return EntrySource(lines, variables, as_bytes, namespace, bool(in_key), (*CORRUPTION_ERRORS, TypeError))

    def _add(
        self,
        part: tuple[list[str], list[str], dict[str, Any]],
        attnums: list[int],
        lines: list[str],
        source: dict[int, str],
        namespace: dict[str, Any],
    ) -> None:
        lines += part[0]
        source.update(zip(attnums, part[1]))
        namespace.update(part[2])

    def span(self) -> tuple[bytes, bytes]:
        return self.prefix, prefix_end(self.prefix)


def _unknown_index(key: bytes, value: bytes) -> bytes:
    raise AssertionError("an index whose expressions were not given was read")


def check_keys(keys: list[bytes], index: IndexAccess) -> None:
    """Refuses keys that are too long."""
    if max(map(len, keys), default=0) > KEY_BYTES_MAX:
        for key in keys:
            check_key(key, index)


def check_key(key: bytes, index: IndexAccess) -> None:
    """Refuses keys too long for the storage tier."""
    if len(key) > KEY_BYTES_MAX:
        raise error("54000", f'index row size {len(key)} exceeds maximum {KEY_BYTES_MAX} for index "{index.desc.name}"')


_ACCESSES: dict[tuple[int, int, int], TableAccess] = {}


def table_access(desc: TableDesc, types: TypeResolver = builtin_type, exprs: TableExprs | None = None) -> TableAccess:
    """Returns the (cached) access of a descriptor version."""
    if desc.kind not in ("r", "m", "p"):
        raise FeatureNotSupported(f"reading rows of relation {desc.name} of kind {desc.kind}")
    key = (desc.id, desc.version, desc.key_prefix_table)
    found = _ACCESSES.get(key)
    if found is not None and found.desc == desc and _is_current(found, types, exprs):
        return found
    if len(_ACCESSES) >= ACCESSES_MAX:
        _ACCESSES.clear()
    found = _ACCESSES[key] = TableAccess(desc, types, exprs)
    return found


def _is_current(found: TableAccess, types: TypeResolver, exprs: TableExprs | None) -> bool:
    """False if a user-defined type was replaced, or expressions are known now that were not."""
    if exprs is not None and any(not index.is_known for index in found.indexes):
        return False
    return all(types(pg_type.oid) is pg_type for pg_type in found.types.values() if pg_type.oid not in BY_OID)


def key_detail(names: Sequence[str], values: Sequence[str]) -> str:
    """``(a, b)=(1, 2)`` as PostgreSQL's details show keys."""
    return f"({', '.join(names)})=({', '.join(values)})"


Columns = Mapping[int, int]
