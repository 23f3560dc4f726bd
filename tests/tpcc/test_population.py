"""The population against the rules of clause 4.3."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from random import Random

import pytest

from tpcc.population import Part, Recipe, estimate_rows, list_parts, make_lines
from tpcc.randomness import (
    ALPHANUMERIC,
    RandomText,
    is_lawful_distance,
    last_name,
    load_constants,
    nurand,
    run_constants,
)
from tpcc.scale import Scale, reduced

LOADED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def recipe(scale: Scale = Scale(), warehouses: int = 1, seed: int = 7) -> Recipe:
    return Recipe(seed, warehouses, LOADED_AT, load_constants(seed), scale)


@cache
def rows(kind: str, number: int) -> dict[str, list[list[str]]]:
    """A part of warehouse 1 at full scale, cut into columns."""
    lines = make_lines(Part(kind, 0 if kind == "item" else 1, number), recipe())
    return {table: [line.split("\t") for line in made] for table, made in lines.items()}


def assert_evenly_between(values: list[float], low: float, high: float) -> None:
    """All within, and the mean where an even distribution puts it."""
    assert low <= min(values)
    assert max(values) <= high
    assert abs(sum(values) / len(values) - (low + high) / 2) < (high - low) * 0.03


def test_last_names_are_three_syllables() -> None:
    assert last_name(0) == "BARBARBAR"
    assert last_name(371) == "PRICALLYOUGHT"
    assert last_name(999) == "EINGEINGEING"
    assert len({last_name(number) for number in range(1_000)}) == 1_000


@pytest.mark.parametrize(("a", "low", "high"), [(255, 0, 999), (1023, 1, 3_000), (8191, 1, 100_000)])
def test_nurand_is_the_formula(a: int, low: int, high: int) -> None:
    """A hundred draws against the formula of 2.1.6, the same random numbers replayed."""
    drawn, replayed = Random(3), Random(3)
    for c in range(100):
        ours = nurand(drawn, a, c, low, high)
        first = int(replayed.random() * (a + 1))
        second = low + int(replayed.random() * (high - low + 1))
        assert ours == (((first | second) + c) % (high - low + 1)) + low


def test_nurand_is_uneven_and_reaches_both_ends() -> None:
    rng = Random(1)
    counts = Counter(nurand(rng, 1023, 0, 1, 3_000) for _ in range(60_000))
    assert min(counts) == 1
    assert max(counts) == 3_000
    hottest = sum(count for _, count in counts.most_common(300))
    assert hottest > 0.3 * counts.total()  # A tenth of the numbers draws far more than a tenth.


@pytest.mark.parametrize("seed", range(20))
def test_run_constant_is_at_a_lawful_distance(seed: int) -> None:
    of_load = load_constants(seed).last_name
    assert is_lawful_distance(abs(run_constants(seed, of_load).last_name - of_load))


def test_unlawful_distances() -> None:
    assert [distance for distance in range(60, 125) if not is_lawful_distance(distance)] == [
        60, 61, 62, 63, 64, 96, 112, 120, 121, 122, 123, 124,
    ]  # fmt: skip


def test_random_text_is_even() -> None:
    text = RandomText(Random(5)).fixed(620_000)
    counts = Counter(text)
    assert sorted(counts) == sorted(ALPHANUMERIC.decode())
    assert all(abs(count - 10_000) < 500 for count in counts.values())


def test_parts_cover_the_population() -> None:
    parts = list_parts(3, Scale())
    assert Counter(part.kind for part in parts) == {
        "item": 10, "warehouse": 3, "stock": 30, "customer": 30, "orders": 30,
    }  # fmt: skip
    assert len({part.name for part in parts}) == len(parts)
    # Per warehouse: 1 + 10 + 100,000 + 60,000 + 30,000 + 300,000 + 9,000, and the items once.
    assert sum(estimate_rows(part, Scale()) for part in parts) == 100_000 + 3 * 499_011


def test_same_seed_same_rows() -> None:
    part = Part("orders", 2, 4)
    scale = reduced(50)
    assert make_lines(part, recipe(scale)) == make_lines(part, recipe(scale))
    assert make_lines(part, recipe(scale)) != make_lines(part, recipe(scale, seed=8))
    assert make_lines(part, recipe(scale)) != make_lines(Part("orders", 2, 5), recipe(scale))


def test_items() -> None:
    items = rows("item", 9)["item"]
    assert [int(row[0]) for row in items] == list(range(90_001, 100_001))
    assert_evenly_between([float(row[1]) for row in items], 1, 10_000)
    assert_evenly_between([len(row[2]) for row in items], 14, 24)
    assert_evenly_between([float(row[3]) for row in items], 1, 100)
    assert_evenly_between([len(row[4]) for row in items], 26, 50)
    original = [row[4].index("ORIGINAL") for row in items if "ORIGINAL" in row[4]]
    assert len(original) == 1_000
    assert min(original) == 0
    assert max(original) > 30


def test_stock() -> None:
    stock = rows("stock", 0)["stock"]
    assert len(stock) == 10_000
    assert_evenly_between([float(row[2]) for row in stock], 10, 100)
    assert {len(text) for row in stock for text in row[3:13]} == {24}
    assert {tuple(row[13:16]) for row in stock} == {("0", "0", "0")}
    assert sum("ORIGINAL" in row[16] for row in stock) == 1_000


def test_warehouse_and_districts() -> None:
    made = rows("warehouse", 0)
    (warehouse,) = made["warehouse"]
    assert warehouse[8] == "300000.00"
    assert 0 <= Decimal(warehouse[7]) <= Decimal("0.2")
    assert re.fullmatch(r"[A-Z]{2}", warehouse[5])
    assert re.fullmatch(r"\d{4}11111", warehouse[6])
    assert [row[1] for row in made["district"]] == [str(number) for number in range(1, 11)]
    assert {tuple(row[9:]) for row in made["district"]} == {("30000.00", "3001")}


def test_customers() -> None:
    made = rows("customer", 3)
    customers = made["customer"]
    assert [int(row[2]) for row in customers] == list(range(1, 3_001))
    assert [row[5] for row in customers[:1_000]] == [last_name(number) for number in range(1_000)]
    known = {last_name(number) for number in range(1_000)}
    assert {row[5] for row in customers[1_000:]} <= known
    assert Counter(row[13] for row in customers) == {"GC": 2_700, "BC": 300}
    assert {row[4] for row in customers} == {"OE"}
    assert all(re.fullmatch(r"\d{16}", row[11]) for row in customers)
    assert_evenly_between([float(row[15]) for row in customers], 0, 0.5)
    assert {(row[14], *row[16:20]) for row in customers} == {("50000.00", "-10.00", "10.00", "1", "0")}
    assert_evenly_between([len(row[20]) for row in customers], 300, 500)
    assert [row[0] for row in made["history"]] == [row[2] for row in customers]
    assert {tuple(row[1:5]) for row in made["history"]} == {("3", "1", "3", "1")}
    assert {row[6] for row in made["history"]} == {"10.00"}


def test_orders() -> None:
    made = rows("orders", 5)
    orders, lines = made["orders"], made["order_line"]
    assert sorted(int(row[3]) for row in orders) == list(range(1, 3_001))
    assert [row[3] for row in orders] != [row[2] for row in orders]
    assert all((row[5] == "\\N") == (int(row[2]) > 2_100) for row in orders)
    assert {int(row[5]) for row in orders[:2_100]} == set(range(1, 11))
    assert_evenly_between([float(row[6]) for row in orders], 5, 15)
    assert [int(row[2]) for row in made["new_order"]] == list(range(2_101, 3_001))
    assert Counter(row[2] for row in lines) == {row[2]: int(row[6]) for row in orders}
    assert all((row[6] == "\\N") == (int(row[2]) > 2_100) for row in lines)
    assert {row[8] for row in lines if int(row[2]) <= 2_100} == {"0.00"}
    assert_evenly_between([float(row[8]) for row in lines if int(row[2]) > 2_100], 0.01, 9_999.99)
    assert_evenly_between([float(row[4]) for row in lines], 1, 100_000)
    assert {(row[5], row[7], len(row[9])) for row in lines} == {("1", "5", 24)}


def test_reduced_scale_says_so() -> None:
    assert Scale().is_compliant
    assert reduced(1).is_compliant
    assert not reduced(50).is_compliant
    assert reduced(50) == Scale(items=2_000, customers=60, undelivered=18)
