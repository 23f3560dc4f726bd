"""Every statement the front end knows, as plain data: a closed family, a module for each kind.

Queries and DML keep sqlglot's tree (``Query``); everything else is parsed by our own code into
the classes below.  Identifiers are already folded to lower case (unless quoted) and cut at 63 bytes.

Positions are 0-based character offsets into the statement's own text (``ParsedStatement.text``);
``-1`` is unknown.  An error reports ``offset + position + 1``.

Expressions inside DDL are ``SqlExpr``: the tree, and the exact source text the catalog stores.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Union

from sql.parse.statements.altering import (
    AddColumn,
    AddConstraint,
    AlterColumnDefault,
    AlterColumnDropExpression,
    AlterColumnIdentity,
    AlterColumnNotNull,
    AlterColumnOptions,
    AlterColumnType,
    AlterColumnVisible,
    AlterConstraint,
    AlterPrimaryKey,
    AlterTable,
    ClusterOn,
    ConfigureZone,
    DropColumn,
    DropConstraint,
    RenameColumn,
    RenameConstraint,
    RenameRelation,
    SetLocality,
    SetOptions,
    SetOwner,
    SetPersistence,
    SetSchema,
    SetTriggers,
    SplitAt,
    TableAction,
    ValidateConstraint,
)
from sql.parse.statements.materialized import CreateMaterializedView, RefreshMaterializedView
from sql.parse.statements.names import Name, SqlExpr, TypeName
from sql.parse.statements.nodes import NodeCommand
from sql.parse.statements.queries import Query, RawRows, SelectInto
from sql.parse.statements.roles import (
    AlterDefaultPrivileges,
    AlterRole,
    CreateRole,
    DropRole,
    Grant,
    GrantRole,
    ReassignOwned,
    RoleOptions,
)
from sql.parse.statements.schemas import (
    AlterDatabase,
    AlterSchema,
    AlterSequence,
    AlterTypeAddValue,
    AlterTypeRenameValue,
    CreateDatabase,
    CreateEnum,
    CreateSchema,
    CreateSequence,
    DropDatabase,
    SequenceOptions,
)
from sql.parse.statements.sessions import (
    Begin,
    CloseCursor,
    Commit,
    Copy,
    Deallocate,
    DeclareCursor,
    Discard,
    Execute,
    Explain,
    Fetch,
    Listen,
    LockTable,
    Notify,
    Prepare,
    ReleaseSavepoint,
    ResetVariable,
    Rollback,
    RollbackToSavepoint,
    Savepoint,
    SetConstraints,
    SetTransaction,
    SetVariable,
    ShowObjects,
    ShowRanges,
    ShowRegions,
    ShowVariable,
    TransactionModes,
    Unlisten,
)
from sql.parse.statements.tables import (
    ColumnDef,
    Constraint,
    CreateIndex,
    CreateTable,
    CreateTableAs,
    CreateView,
    Drop,
    ForeignKeyTarget,
    IndexElement,
    Interleave,
    LikeClause,
    Locality,
    Truncate,
)
from sql.parse.statements.upkeep import Analyze, CancelJob, CommentOn, CreateExtension, Empty, Maintenance

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


__all__ = [
    "AddColumn",
    "AddConstraint",
    "AlterColumnDefault",
    "AlterColumnDropExpression",
    "AlterColumnIdentity",
    "AlterColumnNotNull",
    "AlterColumnOptions",
    "AlterColumnType",
    "AlterColumnVisible",
    "AlterConstraint",
    "AlterDatabase",
    "AlterDefaultPrivileges",
    "AlterPrimaryKey",
    "AlterRole",
    "AlterSchema",
    "AlterSequence",
    "AlterTable",
    "AlterTypeAddValue",
    "AlterTypeRenameValue",
    "Analyze",
    "AnyStatement",
    "Begin",
    "CancelJob",
    "CloseCursor",
    "ClusterOn",
    "ColumnDef",
    "CommentOn",
    "Commit",
    "ConfigureZone",
    "Constraint",
    "Copy",
    "CreateDatabase",
    "CreateEnum",
    "CreateExtension",
    "CreateIndex",
    "CreateMaterializedView",
    "CreateRole",
    "CreateSchema",
    "CreateSequence",
    "CreateTable",
    "CreateTableAs",
    "CreateView",
    "Deallocate",
    "DeclareCursor",
    "Discard",
    "Drop",
    "DropColumn",
    "DropConstraint",
    "DropDatabase",
    "DropRole",
    "Empty",
    "Execute",
    "Explain",
    "Fetch",
    "ForeignKeyTarget",
    "Grant",
    "GrantRole",
    "IndexElement",
    "Interleave",
    "LikeClause",
    "Listen",
    "Locality",
    "LockTable",
    "Maintenance",
    "Name",
    "NodeCommand",
    "Notify",
    "ParsedStatement",
    "Prepare",
    "Query",
    "RawRows",
    "ReassignOwned",
    "RefreshMaterializedView",
    "ReleaseSavepoint",
    "RenameColumn",
    "RenameConstraint",
    "RenameRelation",
    "ResetVariable",
    "RoleOptions",
    "Rollback",
    "RollbackToSavepoint",
    "Savepoint",
    "SelectInto",
    "SequenceOptions",
    "SetConstraints",
    "SetLocality",
    "SetOptions",
    "SetOwner",
    "SetPersistence",
    "SetSchema",
    "SetTransaction",
    "SetTriggers",
    "SetVariable",
    "ShowObjects",
    "ShowRanges",
    "ShowRegions",
    "ShowVariable",
    "SplitAt",
    "SqlExpr",
    "TableAction",
    "TransactionModes",
    "Truncate",
    "TypeName",
    "Unlisten",
    "ValidateConstraint",
]
