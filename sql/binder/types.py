"""Type names as written to types."""

from __future__ import annotations

from base.errors import error
from base.typeio import typmod_from_args
from base.types import PgType, array_of
from sql.binder.context import BindContext, placed
from sql.parse.statements import TypeName


def resolve_type(ctx: BindContext, written: TypeName) -> tuple[PgType, int]:
    """Returns (type, typmod); raises 42704."""
    found = ctx.catalog.find_type(written.names)
    if found is None:
        if len(written.names) > 1 and not ctx.catalog.schema_exists(written.names[-2]):
            raise placed(error("3F000", f'schema "{written.names[-2]}" does not exist'), written.position)
        raise placed(error("42704", f'type "{".".join(written.names)}" does not exist'), written.position)
    if found.namespace != "pg_catalog":
        ctx.usage.enums[found.oid] = found
    typmod = -1
    if written.typmods or written.interval_fields:
        typmod = typmod_from_args(found, written.typmods, written.interval_fields)
    if written.dimensions:
        try:
            found = array_of(found)
        except KeyError:
            raise placed(
                error("42704", f'type "{".".join(written.names)}[]" does not exist'), written.position
            ) from None
    return found, typmod
