"""What a plan knows of tables: immutable descriptors, one per version.

The catalog (``sql.catalog``) stores and versions them; here they are plain data.  A
descriptor never changes: DDL makes a new one with ``version + 1``.  All are msgspec
structs, so they are stored as msgpack and sent between nodes as they are.

Positions: a column has a stable ``id`` (its attnum, never reused); rows are stored by
``Layout`` (see ``base.rows``), which lists column ids.
"""

from __future__ import annotations

from msgspec import Struct, field

PRIMARY_INDEX_ID = 1
REFRESHING = "meridian.refreshing"
"""Option of a materialized view while it is filled: FROM means its query, and INSERT may write it."""
UNPOPULATED = "meridian.unpopulated"
"""Option of a materialized view that was never filled."""


class ColumnDesc(Struct, frozen=True, omit_defaults=True):
    """One column."""

    id: int
    """attnum, from 1; never reused."""
    name: str
    type_oid: int
    typmod: int = -1
    nullable: bool = True
    default: str = ""
    """SQL text of the DEFAULT expression, "" is none."""
    identity: str = ""
    """"a" GENERATED ALWAYS, "d" BY DEFAULT AS IDENTITY, "" none."""
    generated: str = ""
    """SQL text of GENERATED ALWAYS AS (..) STORED."""
    sequence_id: int = 0
    """Sequence owned by this column (serial, identity)."""
    hidden: bool = False
    """Not part of ``*``: rowid of tables without primary key, crdb_region."""
    collation: str = ""
    missing: bytes = b""
    """msgpack of the datum rows older than ADD COLUMN .. DEFAULT have; b"" is NULL."""
    comment: str = ""


class IndexColumn(Struct, frozen=True, omit_defaults=True):
    """One key column of an index: a column, or an expression over the row."""

    column_id: int = 0
    expression: str = ""
    descending: bool = False
    nulls_first: bool = False


class IndexDesc(Struct, frozen=True, omit_defaults=True):
    """An index; id 1 is the primary index, whose values are the rows."""

    id: int
    name: str
    columns: tuple[IndexColumn, ...]
    unique: bool = False
    include: tuple[int, ...] = ()
    predicate: str = ""
    """SQL text of a partial index's WHERE."""
    state: str = "public"
    """F1's states: delete_only, write_only, backfilling, public."""
    constraint: str = ""
    """Name of the UNIQUE or PRIMARY KEY constraint it implements."""
    nulls_not_distinct: bool = False
    oid: int = 0
    """pg_class.oid of the index."""
    comment: str = ""
    deferrable: bool = False
    """A unique key that is checked later than its entries are written (``planner.exec.unique``)."""
    initially_deferred: bool = False
    primary: bool = False
    """The PRIMARY KEY of a table whose rows have another key, as that of a deferrable one must be."""
    implicit: int = 0
    """How many leading key columns its definition does not name: the region column of a REGIONAL BY ROW table."""

    @property
    def named(self) -> tuple[IndexColumn, ...]:
        """The key columns of its definition; a unique index lets no two rows agree in them."""
        return self.columns[self.implicit :]


class CheckDesc(Struct, frozen=True, omit_defaults=True):
    name: str
    expression: str
    validated: bool = True
    not_null_column: int = 0
    oid: int = 0


class ForeignKeyDesc(Struct, frozen=True, omit_defaults=True):
    """Stored on the referencing table; the referenced table has ``InboundKey``s."""

    name: str
    columns: tuple[int, ...]
    target_table: int
    target_columns: tuple[int, ...]
    target_index: int
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"
    match: str = "SIMPLE"
    deferrable: bool = False
    initially_deferred: bool = False
    validated: bool = True
    oid: int = 0


class LayoutDesc(Struct, frozen=True, omit_defaults=True):
    """One physical row format: which columns (id, type OID) a row value of this layout holds."""

    id: int
    columns: tuple[tuple[int, int], ...]


class SequenceDesc(Struct, frozen=True, omit_defaults=True):
    start: int = 1
    increment: int = 1
    minimum: int = 1
    maximum: int = 2**63 - 1
    cache: int = 1
    cycle: bool = False
    type_oid: int = 20
    owner_table: int = 0
    owner_column: int = 0


class LocalityDesc(Struct, frozen=True, omit_defaults=True):
    """Where the rows of a table in a database with regions are at home."""

    kind: str = "table"
    """table (all in one region), row (each where its region column says), global (read everywhere)."""
    region: str = ""
    """Of kind table; "" is the database's primary region."""
    column_id: int = 0
    """Of kind row: the column that names a row's region; the first column of every index."""


class TableDesc(Struct, frozen=True, omit_defaults=True):
    """A table, view or sequence (``kind`` r, v, m, S as pg_class.relkind)."""

    id: int
    """Also its pg_class.oid (>= 16384 for user tables)."""
    version: int
    database_id: int
    schema_id: int
    name: str
    kind: str = "r"
    columns: tuple[ColumnDesc, ...] = ()
    indexes: tuple[IndexDesc, ...] = ()
    """indexes[0] is the primary index of a table."""
    checks: tuple[CheckDesc, ...] = ()
    foreign_keys: tuple[ForeignKeyDesc, ...] = ()
    inbound: tuple[int, ...] = ()
    """Ids of tables with foreign keys to this one."""
    layouts: tuple[LayoutDesc, ...] = ()
    """All formats that rows on disk may have; the last is written."""
    next_column_id: int = 1
    next_index_id: int = 2
    next_layout_id: int = 1
    view_query: str = ""
    depends_on: tuple[int, ...] = ()
    """Relations a view or default reads."""
    dependents: tuple[int, ...] = ()
    """Views (and columns' tables for sequences) that read this one."""
    sequence: SequenceDesc | None = None
    owner: str = "root"
    privileges: tuple[tuple[str, str], ...] = ()
    """(role, letters as in aclitem)."""
    comment: str = ""
    gc_seconds: int = 14_400
    constraint_comments: tuple[tuple[str, str], ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    keys_disabled: bool = False
    """DISABLE TRIGGER ALL: foreign keys of this table are not checked, nor acted upon when its rows go."""
    key_prefix_table: int = 0
    """Table id in the key; differs from ``id`` after TRUNCATE (0: same as id)."""
    locality: LocalityDesc = LocalityDesc()
    """Of no meaning where the database has no regions."""


def primary_key(table: TableDesc) -> IndexDesc | None:
    """Returns the index of the PRIMARY KEY constraint; None if the table has none."""
    if table.indexes and table.indexes[0].constraint:
        return table.indexes[0]
    return next((index for index in table.indexes if index.primary), None)


def computes_region(table: TableDesc) -> bool:
    """True if the region of a row is computed from its other columns."""
    locality = table.locality
    return locality.kind == "row" and any(c.id == locality.column_id and c.generated for c in table.columns)


def is_primary_key(index: IndexDesc) -> bool:
    """True if a constraint's index is that of the PRIMARY KEY."""
    return index.id == PRIMARY_INDEX_ID or index.primary


class TypeDesc(Struct, frozen=True, omit_defaults=True):
    """An enum (the only user-defined type so far)."""

    id: int
    version: int
    database_id: int
    schema_id: int
    name: str
    array_oid: int
    labels: tuple[tuple[str, int], ...] = ()
    """(label, physical): sorted by meaning; ``physical`` is a 32-bit integer that orders them and is
    what keys and rows hold, so that ADD VALUE .. BEFORE needs no rewrite."""
    owner: str = "root"
    comment: str = ""
    is_regions: bool = False
    """The type of the database's regions: changed by ALTER DATABASE alone."""


class SchemaDesc(Struct, frozen=True, omit_defaults=True):
    id: int
    version: int
    database_id: int
    name: str
    owner: str = "root"
    privileges: tuple[tuple[str, str], ...] = ()
    comment: str = ""


class RegionConfig(Struct, frozen=True, omit_defaults=True):
    """The regions of a database and what it survives; design.md 7."""

    primary: str
    regions: tuple[str, ...]
    """All of them, the primary one too, in order of name."""
    type_id: int
    """The enum of the regions' names."""
    survival: str = "zone"
    """zone, region: what may fail without a write having to wait for it."""
    placement: str = "default"
    """default: every region has a replica for stale reads; restricted: only the home region of regional tables."""


class DatabaseDesc(Struct, frozen=True, omit_defaults=True):
    id: int
    version: int
    name: str
    owner: str = "root"
    privileges: tuple[tuple[str, str], ...] = ()
    comment: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    regions: RegionConfig | None = None


class ColumnStats(Struct, frozen=True, omit_defaults=True):
    """Of one column: what ANALYZE found; datums as their text output."""

    null_fraction: float = 0.0
    distinct: float = 0.0
    """Estimated number of distinct values (absolute)."""
    width: int = 8
    most_common: tuple[tuple[str, float], ...] = ()
    histogram: tuple[str, ...] = ()
    """Equi-depth bounds over the rest."""


class TableStats(Struct, frozen=True, omit_defaults=True):
    rows: float = 1000.0
    columns: dict[int, ColumnStats] = field(default_factory=dict)
    collected_ts: int = 0
