"""The 22 TPC-H queries: answers as PostgreSQL 15 gave them for the same rows (digests below), whatever plan is chosen."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest

from planner.access import table_access
from planner.exec.runtime import drive
from planner.schema import TableStats
from planner.statistics import analyze_table
from tests.planner.algebra import fill, settle
from tests.planner.sql_bench import Bench
from tests.planner.tpch import QUERIES, generate, make_tables

ORDERS, SEED = 600, 3
ANSWERS: dict[int, tuple[int, str]] = {
    1: (4, "f0299996bf91cf48"),
    2: (9, "91054b2c8ecbd140"),
    3: (4, "df6bca69daaba69a"),
    4: (5, "aed25ffea7d5e9e0"),
    5: (3, "a381c05968e5b784"),
    6: (1, "8257da2d1c431675"),
    7: (4, "f5d8922384ae8a25"),
    8: (2, "1a841ea2179d3ab1"),
    9: (92, "f6b52a1f0fa0d4c4"),
    10: (15, "a55a7e8b8b1f9838"),
    11: (32, "ab65bf1f65861889"),
    12: (2, "a638b115402b92e6"),
    13: (10, "40641cb0c69cbc26"),
    14: (1, "c18f576b38b42f96"),
    15: (1, "ccf0045c00e0f66f"),
    16: (15, "86e9d1aa5c7e41b3"),
    17: (1, "dc937b59892604f5"),
    18: (27, "00ba3499460e34c8"),
    19: (1, "0c59d8f5ca365fcc"),
    20: (4, "a18b2eb7264f59d6"),
    21: (3, "e5bf8a397679240b"),
    22: (6, "099f36a279948289"),
}  # fmt: skip
"""Query -> (rows, digest of them sorted), computed from PostgreSQL 15's answers."""


def text_of(value: Any) -> str:
    if isinstance(value, date):
        return str(value.toordinal() - date(2000, 1, 1).toordinal())
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def digest(rows: list[tuple[Any, ...]]) -> str:
    lines = sorted(["|".join([text_of(value) for value in row]) for row in rows])
    return sha256("\n".join(lines).encode()).hexdigest()[:16]


def make_bench(first_id: int, indexed: bool, stats: str) -> Bench:
    """``stats``: analyzed, none, or wrong (every table said to be of equal, small size)."""
    tables = make_tables(first_id, indexed)
    bench = Bench(*tables.values())
    data = generate(SEED, ORDERS)
    for name, table in tables.items():
        fill(table, data[name], bench.txn)
        if stats == "analyzed":
            bench.stats[table.id] = settle(drive(analyze_table(table_access(table), bench.txn, bench.context)))
        elif stats == "wrong":
            bench.stats[table.id] = TableStats(rows=5.0)
    return bench


@pytest.fixture(
    scope="module",
    params=[(41000, True, "analyzed"), (41000, True, "none"), (41000, True, "wrong"), (42000, False, "analyzed")],
)
def bench(request: pytest.FixtureRequest) -> Bench:
    return make_bench(*request.param)


@pytest.mark.parametrize("number", sorted(QUERIES))
def test_query_answers_as_postgresql(bench: Bench, number: int) -> None:
    rows = bench.run(QUERIES[number])
    assert (len(rows), digest(rows)) == ANSWERS[number]
