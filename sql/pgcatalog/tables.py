"""Builders of pg_catalog's tables, from descriptors.  Every one takes the session's view and yields dicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from base.types import BY_NAME, OID, TEXT, PgType
from planner.schema import UNPOPULATED, IndexDesc, TableDesc, is_primary_key
from sql.catalog.keys import FIRST_USER_ID as FIRST_USER_OID
from sql.catalog.state import INFORMATION_SCHEMA_OID, PG_CATALOG_OID
from sql.pgcatalog import builtin, deparse, oids
from sql.pgcatalog.storedtext import condition_text, default_text, generated_text, value_text
from sql.temporary import ON_COMMIT, PREFIX

if TYPE_CHECKING:
    from sql.view import SessionView

Row = dict[str, Any]
_SCHEMA_OIDS = {"pg_catalog": PG_CATALOG_OID, "information_schema": INFORMATION_SCHEMA_OID}


def catalog_names(view: SessionView) -> tuple[Any, ...]:
    """What descriptors are printed by: the database, and the path that decides which names are qualified."""
    return view.database_id, view.path


def catalog_and_counts(view: SessionView) -> tuple[Any, ...]:
    """The same with the tables' row counts."""
    stats = view.session.server.catalog.stats
    return view.database_id, [(id, counted.rows) for id, counted in stats.items()]


def role_oid(view: SessionView, name: str) -> int:
    role = view.state.roles.get(name)
    return role.oid if role is not None else 10


def acl(owner: str, privileges: tuple[tuple[str, str], ...], everything: str) -> tuple[str, ...] | None:
    """aclitem[] of an object; NULL while only the defaults hold."""
    if not privileges:
        return None
    items = [f"{owner}={everything}/{owner}"]
    items += [f"{'' if role == 'public' else role}={letters}/{owner}" for role, letters in privileges]
    return tuple(items)


def pg_init_privs(view: SessionView) -> Iterator[Row]:
    """What system objects may be used for from the start: pg_dump writes only what differs."""

    def row(oid: int, class_oid: int, privileges: Any) -> Row:
        return {"objoid": oid, "classoid": class_oid, "objsubid": 0, "privtype": "i", "initprivs": privileges}

    for namespace in pg_namespace(view):
        if namespace.get("nspacl") is not None and (
            namespace["oid"] < FIRST_USER_OID or namespace["nspname"] == "public"
        ):
            yield row(namespace["oid"], 2615, namespace["nspacl"])
    for relation in pg_class(view):
        if relation["oid"] < FIRST_USER_OID and relation.get("relacl") is not None:
            yield row(relation["oid"], 1259, relation["relacl"])
    names = [column[0] for column in builtin.shape("pg_catalog.pg_proc").columns]
    oid, privileges = names.index("oid"), names.index("proacl")
    for function in builtin.rows("pg_catalog.pg_proc"):
        if function[privileges] is not None:
            yield row(function[oid], 1255, function[privileges])


# --- namespaces, databases, roles --------------------------------------------------


def pg_namespace(view: SessionView) -> Iterator[Row]:
    yield {"oid": PG_CATALOG_OID, "nspname": "pg_catalog", "nspowner": 10, "nspacl": ("root=UC/root", "=U/root")}
    yield {
        "oid": INFORMATION_SCHEMA_OID,
        "nspname": "information_schema",
        "nspowner": 10,
        "nspacl": ("root=UC/root", "=U/root"),
    }
    yield {"oid": 99, "nspname": "pg_toast", "nspowner": 10}
    for schema in view.state.schemas(view.database_id):
        yield {
            "oid": schema.id, "nspname": schema.name, "nspowner": role_oid(view, schema.owner),
            "nspacl": acl(schema.owner, schema.privileges, "UC"),
        }  # fmt: skip


def pg_database(view: SessionView) -> Iterator[Row]:
    for database in view.state.databases():
        yield {
            "oid": database.id, "datname": database.name, "datdba": role_oid(view, database.owner), "encoding": 6, "datlocprovider": "c",
            "datallowconn": True, "datconnlimit": -1, "datfrozenxid": 0, "dattablespace": oids.DEFAULT_TABLESPACE, "datcollate": "C",
            "datctype": "C", "datacl": acl(database.owner, database.privileges, "CTc"),
        }  # fmt: skip


def pg_authid(view: SessionView) -> Iterator[Row]:
    for role in sorted(view.state.roles.values(), key=lambda r: r.oid):
        yield {
            "oid": role.oid, "rolname": role.name, "rolsuper": role.superuser, "rolinherit": role.inherit, "rolcreaterole": role.create_role,
            "rolcreatedb": role.create_db, "rolcanlogin": role.can_login, "rolreplication": role.replication, "rolbypassrls": role.bypass_rls,
            "rolconnlimit": role.connection_limit, "rolpassword": None, "rolvaliduntil": None,
        }  # fmt: skip


def pg_roles(view: SessionView) -> Iterator[Row]:
    for row in pg_authid(view):
        role = view.state.roles[row["rolname"]]
        config = tuple(f"{name}={value}" for name, value in role.settings.items()) or None
        yield {**row, "rolpassword": "********", "rolconfig": config}


def pg_user(view: SessionView) -> Iterator[Row]:
    for role in sorted(view.state.roles.values(), key=lambda r: r.oid):
        if role.can_login:
            yield {
                "usename": role.name, "usesysid": role.oid, "usecreatedb": role.create_db, "usesuper": role.superuser,
                "userepl": role.replication, "usebypassrls": role.bypass_rls, "passwd": "********",
            }  # fmt: skip


def pg_auth_members(view: SessionView) -> Iterator[Row]:
    for role in sorted(view.state.roles.values(), key=lambda r: r.oid):
        for granted in role.member_of:
            yield {"roleid": role_oid(view, granted), "member": role.oid, "grantor": 10, "admin_option": False}


def pg_db_role_setting(view: SessionView) -> Iterator[Row]:
    for database in view.state.databases():
        if database.settings:
            yield {
                "setdatabase": database.id,
                "setrole": 0,
                "setconfig": tuple(f"{k}={v}" for k, v in database.settings.items()),
            }
    for role in sorted(view.state.roles.values(), key=lambda r: r.oid):
        if role.settings:
            yield {
                "setdatabase": 0,
                "setrole": role.oid,
                "setconfig": tuple(f"{k}={v}" for k, v in role.settings.items()),
            }


# --- relations ---------------------------------------------------------------------


def user_tables(view: SessionView) -> list[TableDesc]:
    return view.state.tables(view.database_id)


def shown_indexes(table: TableDesc) -> list[IndexDesc]:
    """Indexes with an OID: the hidden rowid key is not one."""
    return [index for index in table.indexes if index.oid]


def persistence(view: SessionView, table: TableDesc) -> str:
    return "t" if view.schema_name(table.schema_id).startswith(PREFIX) else "p"


def pg_class(view: SessionView) -> Iterator[Row]:
    for qualified in builtin.relation_names():
        schema, _, name = qualified.partition(".")
        declared = builtin.shape(qualified)
        yield {
            "oid": declared.oid, "relname": name, "relnamespace": _SCHEMA_OIDS[schema], "reltype": declared.row_type, "relowner": 10,
            "relam": oids.HEAP_AM if declared.kind == "r" else 0, "relkind": declared.kind, "relnatts": len(declared.columns),
            "relpersistence": "p", "relispopulated": True, "relreplident": "n", "relhasrules": declared.kind == "v", "relacl": ("=r/root",),
        }  # fmt: skip
    stats = view.session.server.catalog.stats
    for table in user_tables(view):
        counted = stats.get(table.id)
        yield {
            "oid": table.id, "relname": table.name, "relnamespace": table.schema_id,
            "reltype": 0 if table.kind == "S" else oids.ROW_TYPE_BASE + table.id, "relowner": role_oid(view, table.owner),
            "relam": oids.HEAP_AM if table.kind in ("r", "m") else 0, "relfilenode": table.id if table.kind != "v" else 0,
            "reltuples": float(counted.rows) if counted is not None else -1.0,
            "relpages": max(1, int(counted.rows) // 60) if counted is not None else 0,
            "relhasindex": bool(shown_indexes(table)), "relpersistence": persistence(view, table), "relkind": table.kind,
            "relnatts": len(visible_columns(table)) if table.kind != "S" else 3, "relchecks": len(table.checks),
            "relhasrules": table.kind in ("v", "m"), "relhastriggers": bool(table.foreign_keys or table.inbound),
            "relispopulated": UNPOPULATED not in table.options, "relreplident": "d" if table.kind in ("r", "m") else "n", "relacl": acl(table.owner, table.privileges, "rwU" if table.kind == "S" else "arwdDxt"),
            "reloptions": tuple(f"{k}={v}" for k, v in table.options.items() if k not in ("search_path", ON_COMMIT, UNPOPULATED)) or None,
        }  # fmt: skip
        for index in shown_indexes(table):
            yield {
                "oid": index.oid, "relname": index.name, "relnamespace": table.schema_id, "relowner": role_oid(view, table.owner),
                "relam": oids.BTREE_AM, "relfilenode": index.oid, "relpersistence": persistence(view, table), "relkind": "i",
                "relnatts": len(index.named) + len(index.include), "relispopulated": True, "relreplident": "n",
                "reltuples": float(counted.rows) if counted is not None else -1.0,
            }  # fmt: skip


def visible_columns(table: TableDesc) -> list[Any]:
    return [column for column in table.columns if not column.hidden]


def _attribute(relid: int, name: str, pg_type: PgType, typmod: int, number: int, not_null: bool) -> Row:
    by_value = 0 < pg_type.length <= 8 and pg_type.name not in ("name", "tid")
    return {
        "attrelid": relid, "attname": name, "atttypid": pg_type.oid, "attstattarget": -1, "attlen": pg_type.length, "attnum": number,
        "attndims": 1 if pg_type.is_array else 0, "attcacheoff": -1, "atttypmod": typmod, "attbyval": by_value,
        "attalign": {1: "c", 2: "s", 4: "i", 8: "d"}.get(pg_type.length, "i"), "attstorage": "p" if pg_type.length > 0 else "x",
        "attnotnull": not_null, "attislocal": True, "attcollation": oids.DEFAULT_COLLATION if pg_type.category == "S" else 0,
    }  # fmt: skip


_SYSTEM_COLUMNS: Final = (
    ("tableoid", OID, -6), ("cmax", BY_NAME["cid"], -5), ("xmax", BY_NAME["xid"], -4), ("cmin", BY_NAME["cid"], -3), ("xmin", BY_NAME["xid"], -2), ("ctid", BY_NAME["tid"], -1),
)  # fmt: skip


def _system_attributes(relid: int) -> Iterator[Row]:
    for name, pg_type, number in _SYSTEM_COLUMNS:
        yield {
            **_attribute(relid, name, pg_type, -1, number, True), "attstattarget": 0, "attlen": 6 if number == -1 else 4,
            "attbyval": number != -1, "attalign": "s" if number == -1 else "i", "attstorage": "p",
        }  # fmt: skip


def pg_attribute(view: SessionView) -> Iterator[Row]:
    for qualified in builtin.relation_names():
        declared = builtin.shape(qualified)
        if declared.kind == "r":
            yield from _system_attributes(declared.oid)
        for number, (name, pg_type, typmod, not_null) in enumerate(declared.columns, 1):
            yield _attribute(declared.oid, name, pg_type, typmod, number, not_null)
    for table in user_tables(view):
        if table.kind != "v":
            yield from _system_attributes(table.id)
        for column in visible_columns(table):
            column_type = view.state.type_by_oid(column.type_oid)
            assert column_type is not None
            yield {
                **_attribute(table.id, column.name, column_type, column.typmod, column.id, not column.nullable),
                "atthasdef": bool((column.default and not column.identity) or column.generated), "attidentity": column.identity,
                "attgenerated": "s" if column.generated else "", "atthasmissing": bool(column.missing),
            }  # fmt: skip
        yield from _index_attributes(view, table)


def _index_attributes(view: SessionView, table: TableDesc) -> Iterator[Row]:
    by_id = {column.id: column for column in table.columns}
    for index in shown_indexes(table):
        keys = [(c.column_id, c.expression) for c in index.named] + [(id, "") for id in index.include]
        for number, (column_id, expression) in enumerate(keys, 1):
            column = by_id.get(column_id)
            pg_type = view.state.type_by_oid(column.type_oid if column is not None else 25)
            assert pg_type is not None
            name = column.name if column is not None else _expression_column(expression, number)
            yield _attribute(index.oid, name, pg_type, column.typmod if column is not None else -1, number, False)


def _expression_column(expression: str, number: int) -> str:
    """An index column is named after its function, else expr."""
    name, opened, _ = expression.strip().partition("(")
    if opened and name.replace("_", "a").isalnum() and not name[0].isdigit():
        return name.lower()
    return "expr" if number == 1 else f"expr{number - 1}"


def pg_attrdef(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        for column in visible_columns(table):
            if (column.default and not column.identity) or column.generated:
                text = (
                    generated_text(view, table, column, False)
                    if column.generated
                    else default_text(view, table, column, False)
                )
                yield {
                    "oid": oids.attrdef_oid(table.id, column.id),
                    "adrelid": table.id,
                    "adnum": column.id,
                    "adbin": text,
                }


def pg_index(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        for index in shown_indexes(table):
            ids = [c.column_id for c in index.named] + list(index.include)
            expressions = [value_text(view, table, c.expression, False) for c in index.named if not c.column_id]
            predicate = condition_text(view, table, index.predicate, False) if index.predicate else None
            yield {
                "indexrelid": index.oid, "indrelid": table.id, "indnatts": len(ids), "indnkeyatts": len(index.named),
                "indisunique": index.unique, "indnullsnotdistinct": index.nulls_not_distinct, "indisprimary": is_primary_key(index),
                "indimmediate": not index.deferrable, "indisvalid": index.state == "public", "indisready": True, "indislive": True,
                "indkey": tuple(ids), "indcollation": (0,) * len(index.named), "indclass": tuple(_opclasses(view, table, index)),
                "indoption": tuple((1 if c.descending else 0) | (2 if c.nulls_first else 0) for c in index.named),
                "indexprs": ", ".join(expressions) or None, "indpred": predicate,
            }  # fmt: skip


def _opclasses(view: SessionView, table: TableDesc, index: IndexDesc) -> Iterator[int]:
    by_id = {column.id: column for column in table.columns}
    for key in index.named:
        column = by_id.get(key.column_id)
        # An expression's type is in no descriptor.
        pg_type = view.state.type_by_oid(column.type_oid if column is not None else TEXT.oid)
        assert pg_type is not None
        yield builtin.default_opclass(pg_type.oid, pg_type.category)


def pg_constraint(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        base: Row = {
            "connamespace": table.schema_id,
            "conrelid": table.id,
            "convalidated": True,
            "conislocal": True,
            "connoinherit": True,
        }
        for index in table.indexes:
            if index.constraint:
                yield {
                    **base, "oid": constraint_oid(index.oid), "conname": index.constraint, "contype": "p" if is_primary_key(index) else "u",
                    "condeferrable": index.deferrable, "condeferred": index.initially_deferred, "conindid": index.oid, "conkey": tuple(c.column_id for c in index.named),
                }  # fmt: skip
        for number, check in enumerate(table.checks):
            yield {
                **base, "oid": oids.check_oid(check.oid, table.id, number), "conname": check.name, "contype": "c", "conbin": condition_text(view, table, check.expression, False),
                "convalidated": check.validated, "conkey": check_columns(view, table, check.expression), "connoinherit": False,
            }  # fmt: skip
        for number, key in enumerate(table.foreign_keys):
            target = view.table_by_id(key.target_table)
            index_oid = (
                next((i.oid for i in target.indexes if i.id == key.target_index), 0) if target is not None else 0
            )
            actions = {"NO ACTION": "a", "RESTRICT": "r", "CASCADE": "c", "SET NULL": "n", "SET DEFAULT": "d"}
            yield {
                **base, "oid": oids.check_oid(key.oid, table.id, 800 + number), "conname": key.name, "contype": "f",
                "condeferrable": key.deferrable, "condeferred": key.initially_deferred, "convalidated": key.validated, "conindid": index_oid,
                "confrelid": key.target_table, "confupdtype": actions[key.on_update], "confdeltype": actions[key.on_delete],
                "confmatchtype": "f" if key.match == "FULL" else "s", "conkey": key.columns, "confkey": key.target_columns,
                "conpfeqop": (96,) * len(key.columns), "conppeqop": (96,) * len(key.columns), "conffeqop": (96,) * len(key.columns),
            }  # fmt: skip


def constraint_oid(index_oid: int) -> int:
    """OID of the constraint an index implements."""
    return index_oid + oids.ROW_TYPE_BASE


def check_columns(view: SessionView, table: TableDesc, expression: str) -> tuple[int, ...] | None:
    """Returns attnums of the columns a check reads; None if it reads none."""
    from sql.analyze import Analyzer

    names = Analyzer(view.session).names_in(table, expression)
    return tuple(column.id for column in table.columns if column.name in names) or None


# --- types -------------------------------------------------------------------------


def pg_type(view: SessionView) -> Iterator[Row]:
    for enum in view.state.enums(view.database_id):
        common = {
            "typnamespace": enum.schema_id,
            "typowner": role_oid(view, enum.owner),
            "typisdefined": True,
            "typdelim": ",",
            "typtypmod": -1,
        }
        yield {
            **common, "oid": enum.id, "typname": enum.name, "typlen": 4, "typbyval": True, "typtype": "e", "typcategory": "E",
            "typarray": enum.array_oid, "typinput": 3504, "typoutput": 3505, "typreceive": 3532, "typsend": 3533, "typalign": "i", "typstorage": "p",
        }  # fmt: skip
        yield {
            **common, "oid": enum.array_oid, "typname": "_" + enum.name, "typlen": -1, "typtype": "b", "typcategory": "A",
            "typelem": enum.id, "typsubscript": 6179, "typinput": 750, "typoutput": 751, "typreceive": 2400, "typsend": 2401, "typalign": "i", "typstorage": "x",
        }  # fmt: skip
    for qualified in builtin.relation_names():
        schema, _, name = qualified.partition(".")
        declared = builtin.shape(qualified)
        if declared.row_type:
            yield {
                "oid": declared.row_type, "typname": name, "typnamespace": _SCHEMA_OIDS[schema], "typowner": 10, "typlen": -1, "typtype": "c",
                "typcategory": "C", "typisdefined": True, "typdelim": ",", "typrelid": declared.oid, "typtypmod": -1, "typinput": 2290,
                "typoutput": 2291, "typalign": "d", "typstorage": "x",
            }  # fmt: skip
    for table in user_tables(view):
        if table.kind in ("r", "v", "m"):
            yield {
                "oid": oids.ROW_TYPE_BASE + table.id, "typname": table.name, "typnamespace": table.schema_id,
                "typowner": role_oid(view, table.owner), "typlen": -1, "typtype": "c", "typcategory": "C", "typisdefined": True, "typdelim": ",",
                "typrelid": table.id, "typtypmod": -1, "typarray": oids.ROW_ARRAY_BASE + table.id, "typinput": 2290, "typoutput": 2291,
                "typreceive": 2402, "typsend": 2403, "typalign": "d", "typstorage": "x",
            }  # fmt: skip
            yield {
                "oid": oids.ROW_ARRAY_BASE + table.id, "typname": "_" + table.name, "typnamespace": table.schema_id,
                "typowner": role_oid(view, table.owner), "typlen": -1, "typtype": "b", "typcategory": "A", "typisdefined": True,
                "typdelim": ",", "typelem": oids.ROW_TYPE_BASE + table.id, "typtypmod": -1, "typinput": 750, "typoutput": 751, "typalign": "d",
                "typstorage": "x", "typsubscript": 6179,
            }  # fmt: skip


def pg_enum(view: SessionView) -> Iterator[Row]:
    for enum in view.state.enums(view.database_id):
        for number, (label, _) in enumerate(enum.labels, 1):
            yield {
                "oid": oids.attrdef_oid(enum.id, number),
                "enumtypid": enum.id,
                "enumsortorder": float(number),
                "enumlabel": label,
            }


# --- sequences, dependencies, comments ---------------------------------------------


def pg_sequence(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        if table.sequence is not None:
            s = table.sequence
            yield {
                "seqrelid": table.id, "seqtypid": s.type_oid, "seqstart": s.start, "seqincrement": s.increment, "seqmax": s.maximum,
                "seqmin": s.minimum, "seqcache": s.cache, "seqcycle": s.cycle,
            }  # fmt: skip


def pg_depend(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        if table.sequence is not None and table.sequence.owner_table:
            owner = view.table_by_id(table.sequence.owner_table)
            column = (
                next((c for c in owner.columns if c.id == table.sequence.owner_column), None)
                if owner is not None
                else None
            )
            yield {
                "classid": oids.PG_CLASS, "objid": table.id, "refclassid": oids.PG_CLASS, "refobjid": table.sequence.owner_table,
                "refobjsubid": table.sequence.owner_column, "deptype": "i" if column is not None and column.identity else "a",
            }  # fmt: skip
        for column in table.columns:
            sequence = deparse.default_sequence(column)
            if sequence and not column.identity:
                yield {
                    "classid": oids.PG_ATTRDEF, "objid": oids.attrdef_oid(table.id, column.id), "refclassid": oids.PG_CLASS,
                    "refobjid": sequence, "deptype": "n",
                }  # fmt: skip
        for index in table.indexes:
            if index.constraint:
                yield {
                    "classid": oids.PG_CLASS, "objid": index.oid, "refclassid": oids.PG_CONSTRAINT, "refobjid": constraint_oid(index.oid), "deptype": "i",
                }  # fmt: skip


def pg_description(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        if table.comment:
            yield {"objoid": table.id, "classoid": oids.PG_CLASS, "objsubid": 0, "description": table.comment}
        for column in table.columns:
            if column.comment:
                yield {
                    "objoid": table.id,
                    "classoid": oids.PG_CLASS,
                    "objsubid": column.id,
                    "description": column.comment,
                }
        for index in table.indexes:
            if index.comment:
                yield {"objoid": index.oid, "classoid": oids.PG_CLASS, "objsubid": 0, "description": index.comment}
        comments = dict(table.constraint_comments)
        if comments:
            for row in pg_constraint(view):
                if row["conrelid"] == table.id and row["conname"] in comments:
                    yield {
                        "objoid": row["oid"],
                        "classoid": oids.PG_CONSTRAINT,
                        "objsubid": 0,
                        "description": comments[row["conname"]],
                    }
    for schema in view.state.schemas(view.database_id):
        if schema.comment:
            yield {"objoid": schema.id, "classoid": oids.PG_NAMESPACE, "objsubid": 0, "description": schema.comment}
    for enum in view.state.enums(view.database_id):
        if enum.comment:
            yield {"objoid": enum.id, "classoid": oids.PG_TYPE, "objsubid": 0, "description": enum.comment}


def pg_shdescription(view: SessionView) -> Iterator[Row]:
    for database in view.state.databases():
        if database.comment:
            yield {"objoid": database.id, "classoid": oids.PG_DATABASE, "description": database.comment}
    for role in sorted(view.state.roles.values(), key=lambda r: r.oid):
        if role.comment:
            yield {"objoid": role.oid, "classoid": oids.PG_AUTHID, "description": role.comment}


def pg_rewrite(view: SessionView) -> Iterator[Row]:
    for table in user_tables(view):
        if table.kind in ("v", "m"):
            yield {
                "oid": oids.attrdef_oid(table.id, 0), "rulename": "_RETURN", "ev_class": table.id, "ev_type": "1", "ev_enabled": "O",
                "is_instead": True, "ev_qual": "<>", "ev_action": table.view_query,
            }  # fmt: skip


def pg_extension(view: SessionView) -> Iterator[Row]:
    yield from ()
