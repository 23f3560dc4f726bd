"""What the binder asks of the catalog: names, as one session sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

from base.types import PgType
from planner.schema import TableDesc


class VirtualRelation(Protocol):
    """A relation of pg_catalog or information_schema; ``planner.nodes.VirtualScan`` reads it."""

    schema: str
    name: str
    oid: int
    columns: tuple[tuple[str, PgType, int, bool], ...]
    """(name, type, typmod, not null): what ``*`` gives; ``rows`` has them in this order, then ``hidden``."""
    hidden: tuple[tuple[str, PgType, int, bool], ...]


class CatalogView(ABC):
    """Implemented over ``sql.view.SessionView``; tests have their own."""

    @abstractmethod
    def find_relation(self, schema: str | None, name: str) -> TableDesc | VirtualRelation | None:
        """Finds a table, view, sequence or catalog relation; without a schema, along search_path."""

    @abstractmethod
    def schema_exists(self, name: str) -> bool: ...

    @abstractmethod
    def find_type(self, names: Sequence[str]) -> PgType | None:
        """Finds a type by its pg_type name, possibly qualified."""

    @abstractmethod
    def type_by_oid(self, oid: int) -> PgType | None: ...

    @abstractmethod
    def table_by_id(self, id: int) -> TableDesc | None: ...

    @abstractmethod
    def for_view(self, view: TableDesc) -> CatalogView:
        """The view under which a view's own query is bound: its creator's search_path."""

    def is_of_other_session(self, relation: TableDesc) -> bool:
        """True for another session's temporary relation."""
        return False

    def schema_name(self, schema_id: int) -> str | None:
        """Name of a relation's schema; None where it does not matter."""
        return None


class NullCatalog(CatalogView):
    """No relations, built-in types only: for constant expressions and tests."""

    def find_relation(self, schema: str | None, name: str) -> Any:
        return None

    def schema_exists(self, name: str) -> bool:
        return name in ("pg_catalog", "public")

    def find_type(self, names: Sequence[str]) -> PgType | None:
        from base.types import BY_NAME

        if len(names) > 1 and names[-2] != "pg_catalog":
            return None
        return BY_NAME.get(names[-1])

    def type_by_oid(self, oid: int) -> PgType | None:
        from base.types import BY_OID

        return BY_OID.get(oid)

    def table_by_id(self, id: int) -> TableDesc | None:
        return None

    def for_view(self, view: TableDesc) -> CatalogView:
        return self
