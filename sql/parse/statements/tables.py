"""Tables, indexes and views."""

from __future__ import annotations

from dataclasses import dataclass, field

from sql.parse.statements.names import Name, SqlExpr, TypeName
from sql.parse.statements.queries import Query
from sql.parse.statements.schemas import SequenceOptions
from sql.parse.statements.sessions import Execute


@dataclass(slots=True)
class ForeignKeyTarget:
    """REFERENCES table (columns) and its clauses."""

    table: Name
    columns: tuple[str, ...] = ()
    match: str = "SIMPLE"
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"
    on_delete_columns: tuple[str, ...] = ()


@dataclass(slots=True)
class Constraint:
    """A table or column constraint.  ``kind``: primary key, unique, check, foreign key, exclude.

    A column constraint has ``columns`` = (its column,).  ``using_index``: ADD CONSTRAINT .. USING INDEX.
    """

    kind: str
    name: str | None = None
    columns: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    check: SqlExpr | None = None
    target: ForeignKeyTarget | None = None
    deferrable: bool = False
    initially_deferred: bool = False
    not_valid: bool = False
    no_inherit: bool = False
    nulls_not_distinct: bool = False
    using_index: str | None = None
    descending: tuple[str, ...] = ()
    """Of the columns, those written DESC (an extension)."""
    options: dict[str, str] = field(default_factory=dict)
    position: int = -1


@dataclass(slots=True)
class ColumnDef:
    """One column of CREATE TABLE or ADD COLUMN."""

    name: str
    type: TypeName
    default: SqlExpr | None = None
    nullable: bool | None = None
    """False: NOT NULL was written; True: NULL was; None: neither."""
    not_null_name: str | None = None
    generated: SqlExpr | None = None
    identity: str = ""
    """"a" ALWAYS, "d" BY DEFAULT."""
    identity_options: SequenceOptions | None = None
    collation: Name | None = None
    constraints: list[Constraint] = field(default_factory=list)
    position: int = -1
    hidden: bool = False
    """NOT VISIBLE."""


@dataclass(slots=True)
class LikeClause:
    table: Name
    including: frozenset[str]
    """Lower-case words: defaults, constraints, identity, generated, indexes, comments, storage, statistics, compression."""


@dataclass(slots=True)
class IndexElement:
    """One key of an index: a column name or an expression."""

    column: str | None
    expression: SqlExpr | None
    collation: Name | None = None
    opclass: Name | None = None
    descending: bool = False
    nulls_first: bool = False
    position: int = -1


@dataclass(slots=True)
class CreateIndex:
    name: str | None
    table: Name
    elements: tuple[IndexElement, ...]
    unique: bool = False
    concurrently: bool = False
    if_not_exists: bool = False
    method: str = "btree"
    include: tuple[str, ...] = ()
    nulls_not_distinct: bool = False
    where: SqlExpr | None = None
    options: dict[str, str] = field(default_factory=dict)
    tablespace: str | None = None


@dataclass(slots=True)
class Locality:
    """LOCALITY.  ``kind``: global, table, row, parent.  ``region``: of REGIONAL BY TABLE IN ("" is PRIMARY REGION);
    ``column``: of REGIONAL BY ROW AS."""

    kind: str
    region: str = ""
    column: str | None = None


@dataclass(slots=True)
class Interleave:
    """INTERLEAVE IN PARENT table (columns)."""

    table: Name
    columns: tuple[str, ...]


@dataclass(slots=True)
class CreateTable:
    name: Name
    columns: tuple[ColumnDef, ...]
    constraints: tuple[Constraint, ...]
    likes: tuple[tuple[int, LikeClause], ...] = ()
    """(number of columns before it, clause)."""
    if_not_exists: bool = False
    is_temporary: bool = False
    is_unlogged: bool = False
    on_commit: str = ""
    """preserve rows, delete rows, drop; "" is not given."""
    options: dict[str, str] = field(default_factory=dict)
    tablespace: str | None = None
    locality: Locality | None = None
    interleave: Interleave | None = None
    indexes: tuple[CreateIndex, ...] = ()
    """INDEX (..) inside the parentheses."""


@dataclass(slots=True)
class CreateTableAs:
    """CREATE TABLE AS, and SELECT INTO (``query.into`` is then cleared)."""

    name: Name
    columns: tuple[str, ...]
    query: Query | Execute
    query_text: str
    query_position: int
    with_data: bool = True
    if_not_exists: bool = False
    is_temporary: bool = False
    is_unlogged: bool = False
    on_commit: str = ""
    options: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class CreateView:
    name: Name
    columns: tuple[str, ...]
    query: SqlExpr
    """Text and tree of the query."""
    parsed: Query
    """The same, ready to bind."""
    or_replace: bool = False
    is_temporary: bool = False
    options: dict[str, str] = field(default_factory=dict)
    check_option: str = ""
    """"", local, cascaded."""


@dataclass(slots=True)
class Drop:
    """DROP kind.  ``kind``: table, view, materialized view, index, sequence, type, schema, role, domain, extension, function...

    ``tables`` holds (name, table) for DROP INDEX t@i.
    """

    kind: str
    names: tuple[Name, ...]
    if_exists: bool = False
    cascade: bool = False
    concurrently: bool = False
    tables: tuple[Name | None, ...] = ()


@dataclass(slots=True)
class Truncate:
    tables: tuple[Name, ...]
    restart_identity: bool = False
    cascade: bool = False
