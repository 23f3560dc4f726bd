"""ALTER TABLE and its actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from sql.parse.statements.names import Name, SqlExpr, TypeName
from sql.parse.statements.schemas import SequenceOptions
from sql.parse.statements.tables import ColumnDef, Constraint, IndexElement, Locality


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
    """SPLIT AT VALUES (..), (..), or UNSPLIT AT, or UNSPLIT ALL (no rows); ``index`` "" is the primary index."""

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
