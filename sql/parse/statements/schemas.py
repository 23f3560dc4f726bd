"""Databases, schemas, types and sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sql.parse.statements.names import Name, TypeName
from sql.parse.statements.sessions import ResetVariable, SetVariable

if TYPE_CHECKING:
    from sql.parse.statements import AnyStatement


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
