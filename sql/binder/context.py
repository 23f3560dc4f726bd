"""What binding one statement gathers: column ids, parameters, descriptors used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from base.errors import MeridianError, error
from base.typeio import IoSettings
from base.types import UNKNOWN, PgType
from planner.expr import Param
from planner.functions.registry import Registry
from planner.nodes import ColumnInfo, Metadata
from planner.schema import TableDesc
from sql.binder.catalog_view import CatalogView
from sql.binder.written import Written
from sql.parse.statements import TypeName

PARAMETERS_MAX: Final = 65_535
VIEW_DEPTH_MAX: Final = 32
"""Views in views; deeper is refused (54001)."""


class Source:
    """The parsed text that trees being bound come from: their CAST forms and raw lists are numbered in it."""

    __slots__ = ("is_top", "raw_lists", "types")

    def __init__(
        self, types: Sequence[TypeName], raw_lists: Sequence[list[tuple[str, str, int]]] = (), is_top: bool = True
    ) -> None:
        self.types = types
        self.raw_lists = raw_lists
        self.is_top = is_top
        """False inside views and stored expressions: their positions mean nothing to the client."""


class ColumnUse(tuple[int, int, int]):
    """(position in the text, table id, attnum) of a column reference: what RENAME and DROP COLUMN look for."""


class Usage:
    """What a statement read or wrote, for privileges and dependencies."""

    def __init__(self) -> None:
        self.columns: list[tuple[int, int, int]] = []
        """(position, table id, attnum) of column references in the statement's own text."""
        self.privileges: list[tuple[TableDesc, str, str]] = []
        """(relation, letter as in aclitem, role to check as: "" is the current one)."""
        self.relations: dict[int, TableDesc] = {}
        """Relations named directly, by id (views are not expanded here)."""
        self.places: list[tuple[int, TableDesc]] = []
        """(position, relation) of names without a schema in the statement's own text."""
        self.enums: dict[int, PgType] = {}
        """User-defined types mentioned."""


class BindContext:
    """State of one statement."""

    def __init__(
        self, catalog: CatalogView, registry: Registry, io: IoSettings, param_types: Sequence[PgType | None]
    ) -> None:
        self.catalog = catalog
        self.registry = registry
        self.io = io
        self.metadata = Metadata()
        self.params: list[PgType | None] = [None if t is None or t.oid == UNKNOWN.oid else t for t in param_types]
        self.declared = len(param_types)
        self.loose: list[Param] = []
        """Parameters bound while their type was not known."""
        self.tables: dict[int, TableDesc] = {}
        self.usage = Usage()
        self.volatile = False
        self.view_depth = 0
        self.check_as = ""
        self.current_of = ""
        """The cursor of WHERE CURRENT OF."""
        self.written: Written | None = None
        """How expressions were written, if they are bound to be printed."""
        self.wants_keys = False
        """The next SELECT that is bound is to give primary keys too, for WHERE CURRENT OF; it takes the wish away."""

    def add_column(
        self, name: str, type: PgType, typmod: int = -1, table_oid: int = 0, attnum: int = 0, nullable: bool = True
    ) -> int:
        """Returns a fresh column id."""
        return self.metadata.add(ColumnInfo(name, type, typmod, table_oid, attnum, nullable))

    def use_table(self, table: TableDesc, letter: str) -> None:
        """Notes a descriptor and the privilege its use needs."""
        self.tables[table.id] = table
        self.usage.privileges.append((table, letter, self.check_as))
        if not self.view_depth:
            self.usage.relations[table.id] = table

    # --- parameters -------------------------------------------------------------------

    def param(self, index: int) -> Param:
        """Returns ``$index``; its type may not be known yet."""
        if index > PARAMETERS_MAX:
            raise error("54023", f"number of parameters must be between 0 and {PARAMETERS_MAX}")
        while len(self.params) < index:
            self.params.append(None)
        known = self.params[index - 1]
        if known is not None:
            return Param(index, known)
        found = Param(index, UNKNOWN)
        self.loose.append(found)
        return found

    def decide_param(self, param: Param, target: PgType, position: int) -> Param:
        """Gives an untyped parameter its type, from where it is used."""
        known = self.params[param.index - 1]
        if known is None:
            self.params[param.index - 1] = target
        elif known != target:
            from base.typeio import type_name

            raise placed(
                error(
                    "42P08",
                    f"inconsistent types deduced for parameter ${param.index}",
                    detail=f"{type_name(known)} versus {type_name(target)}",
                ),
                position,
            )
        for i in range(len(self.loose) - 1, -1, -1):
            if self.loose[i] is param:
                del self.loose[i]
                break
        return Param(param.index, target)

    def finish_params(self) -> tuple[PgType, ...]:
        """Returns the parameters' types; raises where one could not be found out."""
        for param in self.loose:
            if self.params[param.index - 1] is not None:
                raise error("42P08", f"could not determine data type of parameter ${param.index}")
        types: list[PgType] = []
        for index, found in enumerate(self.params, 1):
            if found is None:
                raise error("42P18", f"could not determine data type of parameter ${index}")
            types.append(found)
        return tuple(types)


def placed(found: MeridianError, position: int) -> MeridianError:
    """Gives an error the position (0-based) it lacks."""
    if found.position is None and position >= 0:
        found.position = position + 1
    return found
