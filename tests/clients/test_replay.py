"""The comparison of the replay tool, and its schema on both servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.node_process import RunningNode
from tests.clients.replay import Answer, Replay, compare

STATEMENTS = [
    "SELECT c.relname, c.relkind, c.relnatts FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace",
    "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relname OPERATOR(pg_catalog.~) '^(child)$' COLLATE pg_catalog.default",
    "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attrelid = '16442' AND attnum > 0",
    "SELECT conname, contype, conkey, confkey, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 16442",
    "SELECT indexrelid::regclass, indkey, indkey[0], 3 = ANY (indkey::int2[]), indoption, indclass[0], pg_get_indexdef(indexrelid, 1, true) FROM pg_index WHERE indrelid = 16442",
    "SELECT (i.k).x, (i.k).n FROM (SELECT information_schema._pg_expandarray(indkey) k FROM pg_index WHERE indrelid = 16442) i",
    "SELECT typname, typcategory, typlen FROM pg_type WHERE oid = ANY(ARRAY[16, 20, 25, 1700, 3802]::oid[])",
    "SELECT * FROM information_schema.key_column_usage WHERE table_name = $1",
    "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position",
    "SELECT enumlabel FROM pg_enum WHERE enumtypid = 'mood'::regtype ORDER BY enumsortorder",
    "SELECT to_regclass('nothing'), to_regtype('mood')::text, 'pg_class'::regclass, 'public'::regnamespace",
    "SELECT pg_get_serial_sequence('child', 'id'), obj_description('parent'::regclass), col_description('parent'::regclass, 2)",
    "SELECT tableoid::regclass, count(*) FROM pg_proc WHERE proname = 'lower' GROUP BY 1",
    "BEGIN",
    "SELECT 1/0",
    "SELECT * FROM anything",
    "ROLLBACK",
    "SELECT nothing FROM parent",
]


def test_both_servers_answer_alike(node: RunningNode, postgres_oracle: str) -> None:
    differences = list(Replay(postgres_oracle, node.dsn()).file("test", STATEMENTS))
    assert [(d.number, d.kind, d.detail) for d in differences] == []


@pytest.mark.parametrize(
    ("expected", "actual", "kind"),
    [
        (Answer(), Answer(), None),
        (Answer(sqlstate="42P01"), Answer(sqlstate="42P01"), None),
        (Answer(sqlstate="42P01"), Answer(sqlstate="42703"), "sqlstate"),
        (Answer(sqlstate="42P01"), Answer(), "succeeds"),
        (Answer(), Answer(sqlstate="42P01"), "fails"),
        (Answer(columns=(("a", 23),)), Answer(columns=(("a", 20),)), "columns"),
        (Answer(columns=(("a", 16400),)), Answer(columns=(("a", 30000),)), None),
        (Answer(rows=[("16400", "x")]), Answer(rows=[("20001", "x")]), None),
        (Answer(rows=[("a",), ("b",)]), Answer(rows=[("b",), ("a",)]), None),
        (Answer(rows=[("a",)]), Answer(rows=[("a",), ("a",)]), "rows"),
    ],
)
def test_what_counts_as_a_difference(expected: Answer, actual: Answer, kind: str | None) -> None:
    found = compare("SELECT 1", expected, actual)
    assert (found[0] if found is not None else None) == kind


def test_the_schema_is_beside_the_tool() -> None:
    assert "CREATE TABLE parent" in Path(__file__).with_name("schema.sql").read_text()
