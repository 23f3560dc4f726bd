"""Statements from SQL text against what PostgreSQL 15 answered: tests/scripts/planner/statements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from base.errors import MeridianError
from planner.schema import CheckDesc, ForeignKeyDesc
from tests.planner.algebra import make_index, make_table
from tests.planner.sql_bench import Bench

SCRIPT = Path(__file__).parent.parent / "scripts" / "planner" / "statements"
ARRAY = (1, 3, 100)


def make_bench() -> Bench:
    key = ForeignKeyDesc(
        name="c_p_fkey",
        columns=(2,),
        target_table=50001,
        target_columns=(1,),
        target_index=1,
        on_delete="CASCADE",
        on_update="CASCADE",
    )
    unique = make_index(2, "p_name_key", [2], unique=True)
    parent = make_table(50001, "p", "id int4, name text, qty int4 not, extra int4", "id", [unique], inbound=(50002,))
    parent = msgspec.structs.replace(parent, checks=(CheckDesc("p_qty_check", "qty > 0"),))
    child = make_table(50002, "c", "id int4, pid int4, v text", "id", [make_index(2, "c_pid", [2])], [key])
    plain = make_table(50003, "t", "a int4, b int4, c text", "a", [make_index(2, "t_b", [2])])
    return Bench(parent, child, plain)


def shown(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, tuple):
        return "{" + ",".join([shown(item) for item in value]) + "}"
    return str(value)


def answer(bench: Bench, statement: str) -> list[str]:
    """Rows or the error, as the script has them; a refused statement changes nothing."""
    before = dict(bench.txn.store)
    planned = None
    try:
        planned = bench.plan(statement)
        rows = bench.run_plan(planned, *([ARRAY] if "$1" in statement else []))
    except MeridianError as error:
        bench.txn.store.clear()
        bench.txn.store.update(before)
        lines = [f"ERROR {error.sqlstate}: {error.message}"]
        lines += [f"DETAIL: {error.detail}"] if error.detail else []
        return lines + ([f"HINT: {error.hint}"] if error.hint else [])
    if planned.is_writer and not planned.output_names:
        return [f"{rows[0][0]} rows"]
    lines = [" | ".join([shown(value) for value in row]) for row in rows]
    return lines if "order by" in statement else sorted(lines)


@pytest.mark.parametrize("suspends", [False, True])
def test_statements_answer_as_postgresql(suspends: bool) -> None:
    bench = make_bench()
    bench.txn.suspends = suspends
    blocks = SCRIPT.read_text().split("\n\n")[1:]
    for block in blocks:
        statement, _, *expected = block.strip("\n").split("\n")
        assert answer(bench, statement) == expected, statement
    assert len(blocks) > 60
