"""Every statement the front end knows, as plain data: a closed family.

Queries and DML keep sqlglot's tree (``Query``); everything else is parsed by our own code into
the classes below.  Identifiers are already folded to lower case (unless quoted) and cut at 63 bytes.

Positions are 0-based character offsets into the statement's own text (``ParsedStatement.text``);
``-1`` is unknown.  An error reports ``offset + position + 1``.

Expressions inside DDL are ``SqlExpr``: the tree, and the exact source text the catalog stores.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Union

from sqlglot import exp

from sql.parse.materialized import CreateMaterializedView, RefreshMaterializedView
from sql.parse.nodes import NodeCommand


class Name(NamedTuple):
    """A possibly qualified name: ``schema.name``.  ``database`` only where three parts were written."""

    name: str
    schema: str | None = None
    position: int = -1
    database: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema is not None else self.name


class TypeName(NamedTuple):
    """A type as written.  ``names`` is ("int4",), ("public", "mood")...; SQL spellings are already pg_type names.

    ``typmods`` are the numbers in parentheses; ``interval_fields`` the mask text of ``interval day to second``;
    ``dimensions`` counts array brackets.  ``serial`` types keep their names (serial4, serial8, serial2).
    """

    names: tuple[str, ...]
    typmods: tuple[int, ...] = ()
    dimensions: int = 0
    interval_fields: str = ""
    position: int = -1
    is_setof: bool = False


class SqlExpr(NamedTuple):
    """An expression or query inside DDL: its source text and its tree."""

    text: str
    tree: exp.Expr
    position: int = -1
    types: tuple[TypeName, ...] = ()
    """The types its CAST forms number."""


# --- queries ----------------------------------------------------------------------


@dataclass(slots=True)
class RawRows:
    """A long list of literal rows (INSERT .. VALUES) kept as tokens, not as tree nodes.

    ``rows[i][j]`` is a ``(kind, text, position)``: kind i integer, n numeric, s string, b boolean, u NULL, d DEFAULT.
    """

    rows: list[tuple[tuple[str, str, int], ...]]


@dataclass(slots=True)
class Query:
    """SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE or WITH: the binder's input."""

    tree: exp.Expr
    command: str
    """SELECT, INSERT, UPDATE, DELETE, MERGE (whose tree is a SELECT of its WHEN clauses, see ``sql.parse.shape_dml``)."""
    as_of: SqlExpr | None = None
    """AS OF SYSTEM TIME expression, cut out of the statement."""
    raw_rows: RawRows | None = None
    """Long VALUES list of an INSERT; the tree then has an empty VALUES."""
    raw_lists: list[list[tuple[str, str, int]]] = field(default_factory=list)
    """Long literal IN lists, referred to by the tree by number; items as in RawRows."""
    types: list[TypeName] = field(default_factory=list)
    """The types that the tree's CAST forms number."""
    overriding: str = ""
    """OVERRIDING system | user VALUE."""
    param_count: int = 0
    into: SelectInto | None = None
    cursor: str = ""
    """WHERE CURRENT OF <cursor>."""


@dataclass(slots=True)
class SelectInto:
    """The target of SELECT .. INTO."""

    name: Name
    is_temporary: bool = False
    is_unlogged: bool = False
    span: tuple[int, int] = (0, 0)
    """Where the clause stands in the string that was parsed."""


# --- transactions -----------------------------------------------------------------


@dataclass(slots=True)
class TransactionModes:
    """Modes of BEGIN and SET TRANSACTION; None means not given."""

    isolation: str | None = None
    """serializable, repeatable read, read committed, read uncommitted."""
    read_only: bool | None = None
    deferrable: bool | None = None
    priority: str | None = None
    """low, normal, high."""
    as_of: SqlExpr | None = None


@dataclass(slots=True)
class Begin:
    modes: TransactionModes
    is_start: bool = False
    """START TRANSACTION: the command tag differs."""


@dataclass(slots=True)
class Commit:
    chain: bool = False


@dataclass(slots=True)
class Rollback:
    chain: bool = False


@dataclass(slots=True)
class Savepoint:
    name: str


@dataclass(slots=True)
class ReleaseSavepoint:
    name: str


@dataclass(slots=True)
class RollbackToSavepoint:
    name: str


@dataclass(slots=True)
class SetTransaction:
    """SET TRANSACTION, or SET SESSION CHARACTERISTICS AS TRANSACTION with ``session``."""

    modes: TransactionModes
    session: bool = False
    snapshot: str | None = None


@dataclass(slots=True)
class SetConstraints:
    names: tuple[Name, ...]
    """Empty is ALL."""
    deferred: bool


@dataclass(slots=True)
class LockTable:
    tables: tuple[Name, ...]
    mode: str
    """ACCESS SHARE ... ACCESS EXCLUSIVE."""
    nowait: bool = False


# --- session ----------------------------------------------------------------------


@dataclass(slots=True)
class SetVariable:
    """SET x TO values.  ``values`` None is DEFAULT.  TIME ZONE, NAMES, ROLE, SESSION AUTHORIZATION, XML OPTION and
    SCHEMA arrive as timezone, client_encoding, role, session_authorization, xmloption, search_path.

    Values are texts; a list (search_path) keeps its parts: the session joins them with the setting's rule.
    ``is_identifier[i]``: part i was a bare word or a quoted identifier, not a string or number.
    """

    name: str
    values: tuple[str, ...] | None
    is_local: bool = False
    is_cluster: bool = False
    """SET CLUSTER SETTING."""


@dataclass(slots=True)
class ShowVariable:
    name: str
    """``all`` for SHOW ALL; ``transaction_isolation`` for SHOW TRANSACTION ISOLATION LEVEL; ``timezone``."""
    is_cluster: bool = False


@dataclass(slots=True)
class ResetVariable:
    name: str
    """``all`` for RESET ALL."""


@dataclass(slots=True)
class ShowRanges:
    table: Name | None
    index: str | None = None
    database: str | None = None


@dataclass(slots=True)
class ShowRegions:
    """SHOW REGIONS [FROM CLUSTER | DATABASE [d] | ALL DATABASES], SHOW SURVIVAL GOAL [FROM DATABASE d]."""

    source: str = ""
    """"", cluster, database, all, survival."""
    database: str | None = None


@dataclass(slots=True)
class ShowObjects:
    """SHOW TABLES, DATABASES, SCHEMAS, COLUMNS FROM t, INDEXES FROM t, CREATE TABLE t, REGIONS, JOBS..."""

    kind: str
    """tables, databases, schemas, columns, indexes, constraints, create table, create view, create, regions, sequences, users,
    roles, types, jobs, sessions, queries, statements, transactions, locality, grants, stats, nodes, ..."""
    target: Name | None = None


@dataclass(slots=True)
class Discard:
    what: str
    """all, plans, sequences, temp."""


@dataclass(slots=True)
class Prepare:
    name: str
    types: tuple[TypeName, ...]
    statement: AnyStatement
    text: str
    """Source text of the statement being prepared."""
    position: int = 0


@dataclass(slots=True)
class Execute:
    name: str
    args: tuple[SqlExpr, ...]


@dataclass(slots=True)
class Deallocate:
    name: str | None
    """None is ALL."""


@dataclass(slots=True)
class DeclareCursor:
    name: str
    query: Query
    text: str
    """Source text of the query."""
    position: int = 0
    binary: bool = False
    insensitive: bool = False
    scroll: bool | None = None
    """True SCROLL, False NO SCROLL, None unspecified."""
    hold: bool = False


@dataclass(slots=True)
class Fetch:
    """FETCH or MOVE.  ``direction``: forward, backward, absolute, relative; ``count`` None is ALL."""

    cursor: str
    direction: str
    count: int | None
    is_move: bool = False


@dataclass(slots=True)
class CloseCursor:
    name: str | None
    """None is ALL."""


@dataclass(slots=True)
class Listen:
    channel: str


@dataclass(slots=True)
class Unlisten:
    channel: str | None
    """None is *."""


@dataclass(slots=True)
class Notify:
    channel: str
    payload: str = ""


@dataclass(slots=True)
class Explain:
    """``options``: analyze, verbose, costs, buffers, timing, summary, settings, wal, wan, distsql: "true"/"false"; format: text, json, yaml, xml."""

    statement: AnyStatement
    options: dict[str, str]
    text: str
    """Source text of the statement explained."""
    position: int = 0


@dataclass(slots=True)
class Copy:
    """COPY table or query.  ``options`` keys are lower case; list options (force_quote..) are tuples ("*",) for all."""

    is_from: bool
    table: Name | None
    columns: tuple[str, ...]
    query: Query | None
    query_text: str
    query_position: int
    target: str | None
    """None: STDIN/STDOUT; else a file name, or a program's command line with ``is_program``."""
    is_program: bool
    options: dict[str, Any]
    """format text|csv|binary, delimiter, null, header (bool or "match"), quote, escape, force_quote, force_not_null, force_null, encoding, freeze."""
    where: SqlExpr | None = None


# --- schemas, databases, types, sequences -------------------------------------------


@dataclass(slots=True)
class CreateDatabase:
    name: str
    if_not_exists: bool
    options: dict[str, Any]
    """owner, template, encoding, lc_collate, ..., primary_region, regions (tuple), survive (zone|region)."""


@dataclass(slots=True)
class DropDatabase:
    name: str
    if_exists: bool
    force: bool = False
    cascade: bool | None = None


@dataclass(slots=True)
class AlterDatabase:
    """``action``: rename, owner, set, reset, add region, drop region, primary region, survive, placement, super region."""

    name: str
    action: str
    value: str = ""
    setting: SetVariable | ResetVariable | None = None
    if_exists: bool = False
    """Of ADD REGION IF NOT EXISTS, DROP REGION IF EXISTS."""


@dataclass(slots=True)
class CreateSchema:
    name: str
    if_not_exists: bool
    owner: str | None
    elements: tuple[AnyStatement, ...] = ()


@dataclass(slots=True)
class AlterSchema:
    name: str
    action: str
    """rename, owner."""
    value: str


@dataclass(slots=True)
class CreateEnum:
    name: Name
    labels: tuple[str, ...]


@dataclass(slots=True)
class AlterTypeAddValue:
    name: Name
    label: str
    if_not_exists: bool = False
    before: str | None = None
    after: str | None = None


@dataclass(slots=True)
class AlterTypeRenameValue:
    name: Name
    label: str
    new_label: str


@dataclass(slots=True)
class SequenceOptions:
    """None means not given.  ``restart``: True without a value."""

    type_name: TypeName | None = None
    start: int | None = None
    increment: int | None = None
    minimum: int | None = None
    no_minimum: bool = False
    maximum: int | None = None
    no_maximum: bool = False
    cache: int | None = None
    cycle: bool | None = None
    owned_by: tuple[Name, str] | None = None
    """(table, column)."""
    owned_by_none: bool = False
    restart: int | bool | None = None
    sequence_name: Name | None = None
    """SEQUENCE NAME, as pg_dump writes for identity columns."""


@dataclass(slots=True)
class CreateSequence:
    name: Name
    options: SequenceOptions
    if_not_exists: bool = False
    is_temporary: bool = False


@dataclass(slots=True)
class AlterSequence:
    name: Name
    options: SequenceOptions
    if_exists: bool = False


# --- tables -----------------------------------------------------------------------


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


# --- ALTER TABLE ------------------------------------------------------------------


@dataclass(slots=True)
class AddColumn:
    column: ColumnDef
    if_not_exists: bool = False


@dataclass(slots=True)
class DropColumn:
    name: str
    if_exists: bool = False
    cascade: bool = False


@dataclass(slots=True)
class AlterColumnType:
    name: str
    type: TypeName
    using: SqlExpr | None = None
    collation: Name | None = None


@dataclass(slots=True)
class AlterColumnDefault:
    name: str
    default: SqlExpr | None
    """None is DROP DEFAULT."""


@dataclass(slots=True)
class AlterColumnNotNull:
    name: str
    not_null: bool


@dataclass(slots=True)
class AlterColumnIdentity:
    """``action``: add, set, drop."""

    name: str
    action: str
    identity: str = ""
    options: SequenceOptions | None = None
    if_exists: bool = False


@dataclass(slots=True)
class AlterColumnDropExpression:
    name: str
    if_exists: bool = False


@dataclass(slots=True)
class AlterColumnOptions:
    """SET STATISTICS, STORAGE, (options): accepted, kept nowhere."""

    name: str
    what: str


@dataclass(slots=True)
class AlterColumnVisible:
    """SET [NOT] VISIBLE."""

    name: str
    visible: bool


@dataclass(slots=True)
class AddConstraint:
    constraint: Constraint


@dataclass(slots=True)
class DropConstraint:
    name: str
    if_exists: bool = False
    cascade: bool = False


@dataclass(slots=True)
class ValidateConstraint:
    name: str


@dataclass(slots=True)
class AlterConstraint:
    name: str
    deferrable: bool
    initially_deferred: bool


@dataclass(slots=True)
class SetOwner:
    owner: str


@dataclass(slots=True)
class SetSchema:
    schema: str


@dataclass(slots=True)
class SetOptions:
    """SET (a = b), or RESET (a) with value None; also SET TABLESPACE, REPLICA IDENTITY: accepted."""

    options: dict[str, str | None]


@dataclass(slots=True)
class SetLocality:
    locality: Locality


@dataclass(slots=True)
class SplitAt:
    """SPLIT AT VALUES (..), (..), or UNSPLIT AT; ``index`` "" is the primary index."""

    rows: tuple[tuple[SqlExpr, ...], ...]
    index: str = ""
    is_undone: bool = False


@dataclass(slots=True)
class RenameRelation:
    name: str


@dataclass(slots=True)
class RenameColumn:
    name: str
    new_name: str


@dataclass(slots=True)
class RenameConstraint:
    name: str
    new_name: str


@dataclass(slots=True)
class AlterPrimaryKey:
    columns: tuple[IndexElement, ...]


@dataclass(slots=True)
class ClusterOn:
    """CLUSTER ON index, SET WITHOUT CLUSTER: accepted."""

    index: str | None


@dataclass(slots=True)
class SetTriggers:
    """ENABLE or DISABLE TRIGGER: ``name`` is a trigger, or "" of ``all`` or ``user`` ones."""

    is_enabled: bool
    name: str
    which: str = ""


@dataclass(slots=True)
class SetPersistence:
    """SET LOGGED / UNLOGGED: accepted."""

    logged: bool


@dataclass(slots=True)
class ConfigureZone:
    """CONFIGURE ZONE USING a = b, ...; DISCARD with ``options`` None."""

    options: dict[str, str] | None


TableAction = Union[
    AddColumn, DropColumn, AlterColumnType, AlterColumnDefault, AlterColumnNotNull, AlterColumnIdentity,
    AlterColumnDropExpression, AlterColumnOptions, AlterColumnVisible, AddConstraint, DropConstraint, ValidateConstraint,
    AlterConstraint, SetOwner, SetSchema, SetOptions, SetLocality, SplitAt, RenameRelation, RenameColumn, RenameConstraint,
    AlterPrimaryKey, ClusterOn, SetTriggers, SetPersistence, ConfigureZone,
]  # fmt: skip


@dataclass(slots=True)
class AlterTable:
    """ALTER TABLE, VIEW, INDEX, SEQUENCE or TYPE: ``kind`` table, view, index, sequence, type.

    Everything but ALTER SEQUENCE options and ALTER TYPE values comes here.
    """

    kind: str
    name: Name
    actions: tuple[TableAction, ...]
    if_exists: bool = False


# --- the rest ---------------------------------------------------------------------


@dataclass(slots=True)
class CommentOn:
    """``kind``: table, view, column, index, schema, database, constraint, sequence, type, role, extension..."""

    kind: str
    name: Name
    """The relation for column (see ``part``) and constraint."""
    part: str | None
    """Column or constraint name."""
    comment: str | None


@dataclass(slots=True)
class RoleOptions:
    """None means not given."""

    login: bool | None = None
    superuser: bool | None = None
    create_db: bool | None = None
    create_role: bool | None = None
    inherit: bool | None = None
    replication: bool | None = None
    bypass_rls: bool | None = None
    connection_limit: int | None = None
    password: str | None = None
    password_null: bool = False
    valid_until: str | None = None
    in_roles: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()


@dataclass(slots=True)
class CreateRole:
    name: str
    options: RoleOptions
    is_user: bool = False
    if_not_exists: bool = False


@dataclass(slots=True)
class AlterRole:
    name: str
    """"" is ALL; current_user, session_user, current_role are kept as words."""
    options: RoleOptions | None = None
    new_name: str | None = None
    setting: SetVariable | ResetVariable | None = None
    database: str | None = None


@dataclass(slots=True)
class DropRole:
    names: tuple[str, ...]
    if_exists: bool = False


@dataclass(slots=True)
class GrantRole:
    """Role membership; ``is_grant`` False revokes."""

    is_grant: bool
    roles: tuple[str, ...]
    members: tuple[str, ...]
    admin_option: bool = False
    cascade: bool = False


@dataclass(slots=True)
class Grant:
    """Privileges on objects; ``is_grant`` False revokes.  ``privileges`` empty is ALL; each is (word, columns).

    ``kind``: table, sequence, schema, database, function, type, language..., or "all tables in schema" and so on.
    ``grantees``: "public" is PUBLIC.
    """

    is_grant: bool
    privileges: tuple[tuple[str, tuple[str, ...]], ...]
    kind: str
    names: tuple[Name, ...]
    grantees: tuple[str, ...]
    grant_option: bool = False
    cascade: bool = False


@dataclass(slots=True)
class AlterDefaultPrivileges:
    roles: tuple[str, ...]
    schemas: tuple[str, ...]
    grant: Grant


@dataclass(slots=True)
class ReassignOwned:
    """REASSIGN OWNED BY roles TO target; DROP OWNED BY roles with target None."""

    roles: tuple[str, ...]
    target: str | None
    cascade: bool = False


@dataclass(slots=True)
class Analyze:
    tables: tuple[tuple[Name, tuple[str, ...]], ...]
    """(table, columns); empty is every table."""
    verbose: bool = False


@dataclass(slots=True)
class Maintenance:
    """VACUUM, REINDEX, CLUSTER, CHECKPOINT, LOAD: accepted.  ``analyze`` of VACUUM ANALYZE."""

    command: str
    """The command tag."""
    tables: tuple[Name, ...] = ()
    analyze: bool = False
    kind: str = "table"
    """Of REINDEX: index, table, schema, database, system."""


@dataclass(slots=True)
class CreateExtension:
    name: str
    if_not_exists: bool = False
    schema: str | None = None


@dataclass(slots=True)
class CancelJob:
    """CANCEL/PAUSE/RESUME QUERY|SESSION|JOB id."""

    action: str
    kind: str
    target: SqlExpr


@dataclass(slots=True)
class Empty:
    """Only blanks and comments between semicolons: EmptyQueryResponse (only if nothing else is in the string)."""


AnyStatement = Union[
    Query, Begin, Commit, Rollback, Savepoint, ReleaseSavepoint, RollbackToSavepoint, SetTransaction, SetConstraints,
    LockTable, SetVariable, ShowVariable, ResetVariable, ShowRanges, ShowRegions, NodeCommand, ShowObjects, Discard, Prepare, Execute, Deallocate,
    DeclareCursor, Fetch, CloseCursor, Listen, Unlisten, Notify, Explain, Copy, CreateDatabase, DropDatabase, AlterDatabase,
    CreateSchema, AlterSchema, CreateEnum, AlterTypeAddValue, AlterTypeRenameValue, CreateSequence, AlterSequence, CreateTable,
    CreateTableAs, CreateIndex, CreateView, Drop, Truncate, AlterTable, CommentOn, CreateRole, AlterRole, DropRole, GrantRole,
    Grant, AlterDefaultPrivileges, ReassignOwned, Analyze, Maintenance, CreateExtension, CancelJob,
    CreateMaterializedView, RefreshMaterializedView,
]  # fmt: skip


class ParsedStatement(NamedTuple):
    """One statement of a query string."""

    statement: AnyStatement
    text: str
    """Its own slice of the source, without the semicolon."""
    offset: int
    """Where that slice starts in the whole string (characters)."""
    tokens: Any = None
    """The statement's tokens, for positions; of no interest to callers."""
