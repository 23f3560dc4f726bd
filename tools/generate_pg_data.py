"""Writes sql/pgcatalog/postgres15.msgpack: what a fresh PostgreSQL 15 database holds in its catalogs.

    python tools/generate_pg_data.py "host=127.0.0.1 port=5432 user=postgres dbname=template1"

Run against an untouched PostgreSQL 15 cluster (locale C).  The file holds, for every relation of pg_catalog and
information_schema, its OID, kind and columns (name, type OID, typmod, not null), and the rows of those catalogs whose
content is built in (types, functions, operators, casts, access methods...), as text output.  OIDs below 16384 are
part of PostgreSQL's interface: drivers hard-code them.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import msgspec
import psycopg

BUILT_IN = (
    "pg_type", "pg_proc", "pg_operator", "pg_cast", "pg_opclass", "pg_opfamily", "pg_am", "pg_amop", "pg_amproc",
    "pg_aggregate", "pg_language", "pg_conversion", "pg_range", "pg_ts_config", "pg_ts_dict", "pg_ts_parser",
    "pg_ts_template", "pg_ts_config_map", "pg_collation", "pg_tablespace",
)  # fmt: skip
DESCRIBED = (
    "pg_type",
    "pg_proc",
    "pg_operator",
    "pg_am",
    "pg_language",
    "pg_opclass",
    "pg_opfamily",
    "pg_cast",
    "pg_conversion",
    "pg_ts_config",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_collation",
    "pg_namespace",
)


def main(dsn: str) -> None:
    relations: dict[str, dict[str, object]] = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        query = """
            SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text, c.reltype::int8,
                   array_agg(ARRAY[a.attname::text, a.atttypid::int8::text, a.atttypmod::text, a.attnotnull::text] ORDER BY a.attnum)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE n.nspname IN ('pg_catalog', 'information_schema') AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
            GROUP BY 1, 2, 3, 4, 5 ORDER BY 1"""
        for oid, schema, name, kind, row_type, columns in connection.execute(query):
            relations[f"{schema}.{name}"] = {
                "oid": oid, "kind": kind, "type": row_type,
                "columns": [(c[0], int(c[1]), int(c[2]), c[3] in ("t", "true")) for c in columns],
            }  # fmt: skip
        for name in BUILT_IN:
            where = " WHERE collname IN ('default', 'C', 'POSIX', 'ucs_basic')" if name == "pg_collation" else ""
            where = " WHERE typnamespace = 11 AND typrelid = 0" if name == "pg_type" else where
            order = (
                "1" if name in ("pg_aggregate", "pg_range") else "1, 2, 3" if name in ("pg_ts_config_map",) else "oid"
            )
            entry = relations[f"pg_catalog.{name}"]
            columns = ", ".join(f'"{c[0]}"::text' for c in entry["columns"])  # type: ignore[attr-defined]
            # Raw numbers rather than names for reg* columns, so that nothing depends on name output.
            columns = columns.replace("::text", "::text")
            for column in entry["columns"]:  # type: ignore[attr-defined]
                if column[1] in (24, 2202, 2203, 2204, 2205, 2206):
                    columns = columns.replace(f'"{column[0]}"::text', f'"{column[0]}"::oid::text')
            entry["rows"] = [
                tuple(row) for row in connection.execute(f"SELECT {columns} FROM {name}{where} ORDER BY {order}")
            ]
        described = ", ".join(f"'{n}'::regclass" for n in DESCRIBED)
        rows = connection.execute(
            f"SELECT objoid::text, classoid::oid::text, objsubid::text, description FROM pg_description WHERE classoid IN ({described}) ORDER BY classoid, objoid"
        ).fetchall()
        relations["pg_catalog.pg_description"]["rows"] = [tuple(row) for row in rows]
        keywords = [
            tuple(row)
            for row in connection.execute(
                "SELECT word, catcode::text, catdesc, barelabel, baredesc FROM pg_get_keywords()"
            )
        ]
    payload = {"relations": relations, "keywords": keywords}
    target = Path(__file__).parent.parent / "sql" / "pgcatalog" / "postgres15.msgpack"
    target.write_bytes(zlib.compress(msgspec.msgpack.encode(payload), 9))
    print(
        f"{target}: {len(relations)} relations, {sum(len(r.get('rows', ())) for r in relations.values())} rows, {target.stat().st_size} bytes"
    )  # type: ignore[arg-type,misc]


if __name__ == "__main__":
    main(sys.argv[1])
