"""Golden plans: what the binder makes of a query, before any rewrite.

The tables are those of ``fixture_catalog``.  ``plans.txt`` reads as documentation of the algebra.
"""

from __future__ import annotations

import pytest

from base.errors import MeridianError
from base.types import INT4, TEXT
from sql.binder import Binder
from sql.parse import parse
from tests.sql.blocks import check_blocks
from tests.sql.describing import binder
from tests.sql.fixture_catalog import Catalog, sample
from tests.sql.plan_text import plan_text


def bound(sql: str) -> str:
    try:
        return plan_text(binder().bind(parse(sql)[0].statement))  # type: ignore[arg-type]
    except MeridianError as failure:
        return f"{failure.sqlstate} {failure.message}"


def test_plans() -> None:
    check_blocks("plans.txt", bound)


def fresh() -> tuple[Binder, Catalog]:
    catalog = sample()
    return Binder(catalog, binder().registry), catalog


def test_privileges_and_relations() -> None:
    """Who must be allowed what; a view's tables are read as its owner."""
    made, _ = fresh()
    made.bind(parse("UPDATE t SET b = 'x' FROM v WHERE v.aa = t.a RETURNING t.a")[0].statement)  # type: ignore[arg-type]
    assert {(table.name, letter, role) for table, letter, role in made.usage.privileges} == {
        ("t", "w", ""), ("t", "r", ""), ("v", "r", ""), ("t", "r", "root"),
    }  # fmt: skip
    assert {table.name for table in made.usage.relations.values()} == {"t", "v"}


def test_column_uses() -> None:
    """Where the statement's own text mentions columns: what RENAME COLUMN rewrites."""
    made, catalog = fresh()
    text = "SELECT b, t.a FROM t WHERE a > 1"
    made.bind(parse(text)[0].statement)  # type: ignore[arg-type]
    table = catalog.tables["t"]
    found = {(text[position], id, attnum) for position, id, attnum in made.usage.columns}
    assert found == {("b", table.id, 2), ("a", table.id, 1)}


def test_foreign_keys() -> None:
    """A written table brings the tables its foreign keys lead to, and expressions of those a cascade writes."""
    made, catalog = fresh()
    statement = made.bind(parse("DELETE FROM p WHERE id = 1")[0].statement)  # type: ignore[arg-type]
    assert {table.name for table in statement.foreign.values()} == {"p", "k"}
    assert set(statement.table_exprs) == {catalog.tables["k"].id}


def test_expressions_of_ddl() -> None:
    made, catalog = fresh()
    found = made.bind_scalar("1 + 1", None, TEXT)
    assert repr(found.expr.type) == "text"
    with pytest.raises(
        MeridianError, match=r"column \"b\" is of type integer but expression is of type boolean"
    ) as caught:
        from planner.schema import ColumnDesc

        made.bind_assignment("true", None, ColumnDesc(id=1, name="b", type_oid=INT4.oid), "DEFAULT expressions")
    assert caught.value.sqlstate == "42804"
    with pytest.raises(MeridianError, match="aggregate functions are not allowed in check constraints"):
        made.bind_condition("max(a) > 1", catalog.tables["t"], "check constraints")
    checks, _ = made.bind_table_exprs(catalog.tables["g"])
    assert [name for name, _ in checks.checks] == ["check"]
    assert list(checks.generated) == [3]


def test_current_of() -> None:
    made, _ = fresh()
    query = parse("DELETE FROM t WHERE CURRENT OF c")[0].statement
    text = plan_text(made.bind(query))  # type: ignore[arg-type]
    assert "current_of(" in text
    query = parse("SELECT c FROM t")[0].statement
    assert made.bind(query).keys == {}  # type: ignore[arg-type]
    bound = made.bind(query, (), with_keys=True)  # type: ignore[arg-type]
    (places,) = bound.keys.values()
    assert (bound.output_names, places, len(bound.root.columns)) == (("c",), (1,), 2)


def test_raw_rows_bind_as_usual() -> None:
    """A long INSERT gives the same plan as the same rows one by one."""
    made, _ = fresh()
    rows = [f"({i}, 'x{i % 7}', {i}.5)" for i in range(300)]
    long = plan_text(made.bind(parse(f"INSERT INTO t (a, b, c) VALUES {', '.join(rows)}")[0].statement))  # type: ignore[arg-type]
    short = [plan_text(made.bind(parse(f"INSERT INTO t (a, b, c) VALUES {row}")[0].statement)) for row in rows[:3]]  # type: ignore[arg-type]
    values = [text[text.index("] (") + 2 :] for text in short]
    assert long[long.index("] (") + 2 :].startswith(", ".join(values))
    with pytest.raises(MeridianError) as caught:
        made.bind(parse(f"INSERT INTO t (a, b, c) VALUES {', '.join(rows)}, ('q', 'x', 1)")[0].statement)  # type: ignore[arg-type]
    assert caught.value.sqlstate == "22P02"
