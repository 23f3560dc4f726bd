"""Inputs of terminals against clauses 2.4.1 to 2.8.1 and 5.2."""

from __future__ import annotations

from collections import Counter
from random import Random

from tpcc.inputs import CARDS, Deck, Delivery, Kind, NewOrder, OrderStatus, Payment, StockLevel, Typist
from tpcc.randomness import run_constants
from tpcc.running import RunPlan, plan_terminals
from tpcc.scale import Scale

DRAWS = 4_000


def typist(warehouses: int, home: int = 1) -> Typist:
    return Typist(Random(11), Scale(), run_constants(1, 100), warehouses, (home,), 4)


def test_deck_is_exact_every_hundred() -> None:
    deck = Deck(Random(2))
    hands = [[deck.draw() for _ in range(100)] for _ in range(3)]
    assert all(Counter(hand) == CARDS for hand in hands)
    assert hands[0] != hands[1]


def test_new_orders() -> None:
    source = typist(3, home=2)
    orders = [entry for entry in (source.enter(Kind.NEW_ORDER) for _ in range(DRAWS)) if isinstance(entry, NewOrder)]
    lines = [line for order in orders for line in order.lines]
    assert {len(order.lines) for order in orders} == set(range(5, 16))
    assert {order.district for order in orders} == set(range(1, 11))
    assert all(list(order.lines) == sorted(order.lines) for order in orders)
    remote = [line.supply_warehouse for line in lines if line.supply_warehouse != 2]
    assert 0.005 < len(remote) / len(lines) < 0.015
    assert set(remote) == {1, 3}
    unused = [order for order in orders if order.lines[-1].item == 100_001]
    assert 0.004 < len(unused) / DRAWS < 0.02
    assert all(line.item <= 100_000 for order in orders for line in order.lines[:-1])
    assert {line.quantity for line in lines} == set(range(1, 11))


def test_payments() -> None:
    source = typist(3, home=2)
    entries = []
    for _ in range(DRAWS):
        entry = source.enter(Kind.PAYMENT)
        assert isinstance(entry, Payment)
        entries.append(entry)
    remote = [entry for entry in entries if entry.customer.warehouse != 2]
    assert 0.12 < len(remote) / DRAWS < 0.18
    assert all(entry.customer.district == entry.district for entry in entries if entry.customer.warehouse == 2)
    by_name = [entry for entry in entries if entry.customer.name is not None]
    assert 0.57 < len(by_name) / DRAWS < 0.63
    assert all((entry.customer.name is None) != (entry.customer.number is None) for entry in entries)
    assert min(entry.amount for entry in entries) >= 1
    assert max(entry.amount for entry in entries) <= 5_000


def test_one_warehouse_has_no_remote() -> None:
    source = typist(1)
    for _ in range(500):
        order, payment = source.enter(Kind.NEW_ORDER), source.enter(Kind.PAYMENT)
        assert isinstance(order, NewOrder)
        assert isinstance(payment, Payment)
        assert {line.supply_warehouse for line in order.lines} == {1}
        assert payment.customer.warehouse == 1


def test_the_other_types() -> None:
    source = typist(2)
    for _ in range(200):
        status, delivery, level = (source.enter(kind) for kind in (Kind.ORDER_STATUS, Kind.DELIVERY, Kind.STOCK_LEVEL))
        assert isinstance(status, OrderStatus)
        assert isinstance(delivery, Delivery)
        assert isinstance(level, StockLevel)
        assert status.customer.warehouse == delivery.warehouse == level.warehouse == 1
        assert level.district == 4
        assert 10 <= level.threshold <= 20
        assert 1 <= delivery.carrier <= 10


def test_think_times_are_exponential_and_cut() -> None:
    source = typist(1)
    times = [source.think_seconds(Kind.DELIVERY) for _ in range(DRAWS)]
    assert 4.5 < sum(times) / DRAWS < 5.5
    assert max(times) <= 50


def test_terminals_share_the_warehouses() -> None:
    many = plan_terminals(RunPlan(("a", "b"), connections=5), 2)
    assert [one.home for one in many] == [(1,), (2,), (1,), (2,), (1,)]
    assert [one.district for one in many] == [1, 1, 2, 2, 3]
    assert [one.dsn for one in many] == ["a", "b", "a", "b", "a"]
    few = plan_terminals(RunPlan(("a",), connections=2), 5)
    assert [one.home for one in few] == [(1, 3, 5), (2, 4)]
