"""Who may create what where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.errors import SqlError
from planner.schema import SchemaDesc

if TYPE_CHECKING:
    from sql.session import Session


def require_create(session: Session, schema: SchemaDesc) -> None:
    """CREATE privilege on a schema."""
    if not session.view().has_privilege(schema.owner, schema.privileges, "C"):
        raise SqlError(f"permission denied for schema {schema.name}", sqlstate="42501")
