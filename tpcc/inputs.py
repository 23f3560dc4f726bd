"""What a terminal enters: input data of clauses 2.4.1 to 2.8.1, the deck of 5.2.4.2, the waits of 5.2.5.

Each terminal has its own generator with its own seed; a transaction that is run again has the same input.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from random import Random
from typing import Final, NamedTuple

from tpcc.randomness import A_CUSTOMER, A_ITEM, A_LAST_NAME, Constants, last_name, nurand, uniform
from tpcc.scale import DISTRICTS_PER_WAREHOUSE, ORDER_LINES_MAX, ORDER_LINES_MIN, Scale


class Kind(StrEnum):
    NEW_ORDER = "new-order"
    PAYMENT = "payment"
    ORDER_STATUS = "order-status"
    DELIVERY = "delivery"
    STOCK_LEVEL = "stock-level"


CARDS: Final = {Kind.NEW_ORDER: 45, Kind.PAYMENT: 43, Kind.ORDER_STATUS: 4, Kind.DELIVERY: 4, Kind.STOCK_LEVEL: 4}
"""Of a deck of 100: the minimum percentages of 5.2.3, the rest New-Orders."""

KEYING_SECONDS: Final = {
    Kind.NEW_ORDER: 18,
    Kind.PAYMENT: 3,
    Kind.ORDER_STATUS: 2,
    Kind.DELIVERY: 2,
    Kind.STOCK_LEVEL: 2,
}
THINK_SECONDS_MEAN: Final = {
    Kind.NEW_ORDER: 12, Kind.PAYMENT: 12, Kind.ORDER_STATUS: 10, Kind.DELIVERY: 5, Kind.STOCK_LEVEL: 5,
}  # fmt: skip
THINK_MEANS_MAX: Final = 10
"""Think times are cut at ten times their mean (5.2.5.4)."""

REMOTE_LINE_PERCENT: Final = 1
REMOTE_PAYMENT_PERCENT: Final = 15
BY_NAME_PERCENT: Final = 60
ROLLBACK_PERCENT: Final = 1


class OrderLine(NamedTuple):
    item: int
    supply_warehouse: int
    quantity: int


class NewOrder(NamedTuple):
    warehouse: int
    district: int
    customer: int
    lines: tuple[OrderLine, ...]
    """Sorted by item and warehouse, so that two orders lock stock in one order; an unused item comes last (2.4.1.5)."""


class CustomerChoice(NamedTuple):
    warehouse: int
    district: int
    number: int | None
    name: str | None
    """Exactly one of number and name is given."""


class Payment(NamedTuple):
    warehouse: int
    district: int
    customer: CustomerChoice
    amount: Decimal


class OrderStatus(NamedTuple):
    customer: CustomerChoice


class Delivery(NamedTuple):
    warehouse: int
    carrier: int


class StockLevel(NamedTuple):
    warehouse: int
    district: int
    threshold: int


Input = NewOrder | Payment | OrderStatus | Delivery | StockLevel


class Deck:
    """Transaction types in random order, in exact proportion every hundred (5.2.4.2)."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._cards: list[Kind] = []

    def draw(self) -> Kind:
        """Returns the next type, after shuffling a new deck if the old is used up."""
        if not self._cards:
            self._cards = [kind for kind, count in CARDS.items() for _ in range(count)]
            self._rng.shuffle(self._cards)
        return self._cards.pop()


class Typist:
    """Draws the inputs of one terminal."""

    def __init__(
        self, rng: Random, scale: Scale, constants: Constants, warehouses: int, home: tuple[int, ...], district: int
    ) -> None:
        assert home, "a terminal belongs to a warehouse"
        self._rng = rng
        self._scale = scale
        self._constants = constants
        self._warehouses = warehouses
        self._home = home
        self._district = district

    def enter(self, kind: Kind) -> Input:
        """Returns input data of a transaction."""
        rng = self._rng
        home = self._home[0] if len(self._home) == 1 else rng.choice(self._home)
        match kind:
            case Kind.NEW_ORDER:
                return self._new_order(home)
            case Kind.PAYMENT:
                return self._payment(home)
            case Kind.ORDER_STATUS:
                return OrderStatus(self._customer(home, uniform(rng, 1, DISTRICTS_PER_WAREHOUSE)))
            case Kind.DELIVERY:
                return Delivery(home, uniform(rng, 1, 10))
            case Kind.STOCK_LEVEL:
                return StockLevel(home, self._district, uniform(rng, 10, 20))

    def think_seconds(self, kind: Kind) -> float:
        """Negative exponential, cut at ten times the mean (5.2.5.4)."""
        mean = THINK_SECONDS_MEAN[kind]
        return min(self._rng.expovariate(1 / mean), float(THINK_MEANS_MAX * mean))

    def _new_order(self, home: int) -> NewOrder:
        rng = self._rng
        items = self._scale.items
        lines = []
        for _ in range(uniform(rng, ORDER_LINES_MIN, ORDER_LINES_MAX)):
            item = nurand(rng, A_ITEM, self._constants.item, 1, items)
            is_remote = uniform(rng, 1, 100) <= REMOTE_LINE_PERCENT
            lines.append(OrderLine(item, self._other(home) if is_remote else home, uniform(rng, 1, 10)))
        if uniform(rng, 1, 100) <= ROLLBACK_PERCENT:
            lines[-1] = lines[-1]._replace(item=items + 1)
        lines.sort()
        return NewOrder(home, uniform(rng, 1, DISTRICTS_PER_WAREHOUSE), self._customer_number(), tuple(lines))

    def _payment(self, home: int) -> Payment:
        rng = self._rng
        district = uniform(rng, 1, DISTRICTS_PER_WAREHOUSE)
        if self._warehouses > 1 and uniform(rng, 1, 100) <= REMOTE_PAYMENT_PERCENT:
            customer = self._customer(self._other(home), uniform(rng, 1, DISTRICTS_PER_WAREHOUSE))
        else:
            customer = self._customer(home, district)
        return Payment(home, district, customer, Decimal(uniform(rng, 100, 500_000)).scaleb(-2))

    def _customer(self, warehouse: int, district: int) -> CustomerChoice:
        if uniform(self._rng, 1, 100) <= BY_NAME_PERCENT:
            number = nurand(self._rng, A_LAST_NAME, self._constants.last_name, 0, self._scale.last_names - 1)
            return CustomerChoice(warehouse, district, None, last_name(number))
        return CustomerChoice(warehouse, district, self._customer_number(), None)

    def _customer_number(self) -> int:
        return nurand(self._rng, A_CUSTOMER, self._constants.customer, 1, self._scale.customers)

    def _other(self, home: int) -> int:
        """Any warehouse but this one, or this one if it is alone."""
        if self._warehouses == 1:
            return home
        other = uniform(self._rng, 1, self._warehouses - 1)
        return other if other < home else other + 1
