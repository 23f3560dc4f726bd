"""pg_catalog and information_schema, computed from descriptors and PostgreSQL's built-in rows.

Every relation PostgreSQL 15 has there exists, with its columns; those of features that are not built are empty.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from planner.functions.registry import Registry
from sql.pgcatalog import builtin, tables, views
from sql.pgcatalog.relation import Builder, Dependencies, VirtualRelation

_BUILDERS: Final[dict[str, Builder]] = {
    **{
        f"pg_catalog.{build.__name__}": build
        for build in (
            tables.pg_namespace, tables.pg_database, tables.pg_authid, tables.pg_roles, tables.pg_user, tables.pg_auth_members,
            tables.pg_db_role_setting, tables.pg_class, tables.pg_attribute, tables.pg_attrdef, tables.pg_index, tables.pg_constraint,
            tables.pg_type, tables.pg_enum, tables.pg_sequence, tables.pg_depend, tables.pg_description, tables.pg_shdescription,
            tables.pg_rewrite, tables.pg_init_privs, views.pg_tables, views.pg_views, views.pg_matviews, views.pg_indexes, views.pg_sequences, views.pg_settings,
            views.pg_stat_activity, views.pg_prepared_statements, views.pg_cursors, views.pg_stat_user_tables, views.pg_stat_user_indexes,
        )
    },
    "pg_catalog.pg_stat_all_tables": views.pg_stat_user_tables,
    "pg_catalog.pg_stat_all_indexes": views.pg_stat_user_indexes,
    **{
        f"information_schema.{build.__name__}": build
        for build in (
            views.schemata, views.tables, views.columns, views.table_constraints, views.key_column_usage, views.referential_constraints,
            views.constraint_column_usage, views.check_constraints, views.information_schema_catalog_name, views.table_privileges,
            views.enabled_roles,
        )
    },
    "information_schema.views": views.information_views,
    "information_schema.sequences": views.information_sequences,
    "information_schema.role_table_grants": views.table_privileges,
}  # fmt: skip


_OF_THE_MOMENT: Final = frozenset(
    [
        "pg_settings", "pg_stat_activity", "pg_prepared_statements", "pg_cursors", "pg_stat_user_tables", "pg_stat_user_indexes",
        "pg_stat_all_tables", "pg_stat_all_indexes", "pg_sequences", "enabled_roles",
    ]
)  # fmt: skip
"""Relations that show more than the catalog."""


def _dependencies(qualified: str) -> Dependencies | None:
    if qualified.partition(".")[2] in _OF_THE_MOMENT:
        return None
    if qualified not in _BUILDERS:
        return lambda view: None
    return tables.catalog_and_counts if qualified == "pg_catalog.pg_class" else tables.catalog_names


@cache
def virtual_relation(schema: str, name: str) -> VirtualRelation | None:
    """Returns a catalog relation, or None."""
    qualified = f"{schema}.{name}"
    try:
        declared = builtin.shape(qualified)
    except KeyError:
        return None
    return VirtualRelation(
        schema, name, _BUILDERS.get(qualified), declared.columns, declared.oid, declared.kind, _dependencies(qualified)
    )


def register_functions(registry: Registry) -> None:
    """Adds the functions that ask the catalog."""
    from sql.pgcatalog import functions

    functions.register(registry)
