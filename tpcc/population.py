"""The initial rows of clause 4.3.3.1, as lines of COPY's text format.

The population is cut into parts that are loaded independently, each in a transaction of its own:

    item/0/n        items in chunks of 10,000
    warehouse/w/0   the warehouse and its districts
    stock/w/n       its stock in chunks of 10,000
    customer/w/d    customers of a district and one history row each
    orders/w/d      orders of a district, their lines, and new_order

Invariant: the rows of a part depend on seed, scale, load time and the part's name alone, so the same seed gives the same database
whatever the number of processes, and an interrupted load can go on.

No value contains a character that COPY escapes.
"""

from __future__ import annotations

from datetime import datetime
from random import Random
from typing import Final

import msgspec

from tpcc.randomness import A_LAST_NAME, DIGITS, Constants, RandomText, last_name, nurand, uniform
from tpcc.scale import DISTRICTS_PER_WAREHOUSE, LAST_NAMES, ORDER_LINES_MAX, ORDER_LINES_MIN, Scale

CHUNK_ROWS: Final = 10_000
NULL: Final = "\\N"
ORIGINAL: Final = "ORIGINAL"
ONE_IN: Final = 10
"""One item, stock row (ORIGINAL) and customer (bad credit) in ten."""

Lines = dict[str, list[str]]
"""Table name to its lines, without line ends; columns are in the order of ``schema.TABLES``."""


class Part(msgspec.Struct, frozen=True):
    kind: str
    warehouse: int
    number: int

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.warehouse}/{self.number}"


class Recipe(msgspec.Struct, frozen=True):
    """All that decides a population."""

    seed: int
    warehouses: int
    loaded_at: datetime
    constants: Constants
    scale: Scale = Scale()


def list_parts(warehouses: int, scale: Scale) -> list[Part]:
    """Returns all parts, items first, then warehouse by warehouse."""
    chunks = range((scale.items + CHUNK_ROWS - 1) // CHUNK_ROWS)
    districts = range(1, DISTRICTS_PER_WAREHOUSE + 1)
    parts = [Part("item", 0, chunk) for chunk in chunks]
    for warehouse in range(1, warehouses + 1):
        parts.append(Part("warehouse", warehouse, 0))
        parts += [Part("stock", warehouse, chunk) for chunk in chunks]
        parts += [Part("customer", warehouse, district) for district in districts]
        parts += [Part("orders", warehouse, district) for district in districts]
    return parts


def estimate_rows(part: Part, scale: Scale) -> int:
    """Returns about how many rows a part has (order lines are random): the unit of progress."""
    match part.kind:
        case "item" | "stock":
            return len(_chunk(part, scale))
        case "warehouse":
            return 1 + DISTRICTS_PER_WAREHOUSE
        case "customer":
            return 2 * scale.customers
        case _:
            lines_mean = (ORDER_LINES_MIN + ORDER_LINES_MAX) // 2
            return scale.customers * (1 + lines_mean) + scale.undelivered


def make_lines(part: Part, recipe: Recipe) -> Lines:
    """Returns the rows of a part."""
    rng = Random(f"{recipe.seed}/{part.name}")
    return _MAKERS[part.kind](part, recipe, rng)


def _chunk(part: Part, scale: Scale) -> range:
    first = part.number * CHUNK_ROWS + 1
    return range(first, min(first + CHUNK_ROWS, scale.items + 1))


def _chosen(rng: Random, numbers: range) -> frozenset[int]:
    """Picks a tenth of the numbers at random, exactly."""
    return frozenset(rng.sample(numbers, len(numbers) // ONE_IN))


def _with_original(rng: Random, text: str) -> str:
    """Puts ORIGINAL over eight consecutive characters, anywhere."""
    at = uniform(rng, 0, len(text) - len(ORIGINAL))
    return text[:at] + ORIGINAL + text[at + len(ORIGINAL) :]


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _rate(ten_thousandths: int) -> str:
    return f"0.{ten_thousandths:04d}"


def _address(text: RandomText, letters: RandomText, digits: RandomText) -> str:
    """Two streets, city, state and zip (4.3.2.7), as columns."""
    streets = f"{text.between(10, 20)}\t{text.between(10, 20)}\t{text.between(10, 20)}"
    return f"{streets}\t{letters.fixed(2)}\t{digits.fixed(4)}11111"


def _item_lines(part: Part, recipe: Recipe, rng: Random) -> Lines:
    text = RandomText(rng)
    numbers = _chunk(part, recipe.scale)
    original = _chosen(rng, numbers)
    lines = []
    for number in numbers:
        note = text.between(26, 50)
        if number in original:
            note = _with_original(rng, note)
        price = _money(uniform(rng, 100, 10_000))
        lines.append(f"{number}\t{uniform(rng, 1, 10_000)}\t{text.between(14, 24)}\t{price}\t{note}")
    return {"item": lines}


def _stock_lines(part: Part, recipe: Recipe, rng: Random) -> Lines:
    text = RandomText(rng)
    fixed = text.fixed
    numbers = _chunk(part, recipe.scale)
    original = _chosen(rng, numbers)
    lines = []
    for number in numbers:
        note = text.between(26, 50)
        if number in original:
            note = _with_original(rng, note)
        districts = "\t".join([fixed(24) for _ in range(DISTRICTS_PER_WAREHOUSE)])
        lines.append(f"{part.warehouse}\t{number}\t{uniform(rng, 10, 100)}\t{districts}\t0\t0\t0\t{note}")
    return {"stock": lines}


def _warehouse_lines(part: Part, recipe: Recipe, rng: Random) -> Lines:
    text, digits = RandomText(rng), RandomText(rng, DIGITS)
    letters = RandomText(rng, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    # Each customer has paid 10.00 once: 300,000.00 and 30,000.00 at full scale.
    district_ytd = 1_000 * recipe.scale.customers

    def place() -> str:
        name = text.between(6, 10)
        return f"{name}\t{_address(text, letters, digits)}\t{_rate(uniform(rng, 0, 2_000))}"

    warehouse = f"{part.warehouse}\t{place()}\t{_money(district_ytd * DISTRICTS_PER_WAREHOUSE)}"
    districts = [
        f"{part.warehouse}\t{district}\t{place()}\t{_money(district_ytd)}\t{recipe.scale.customers + 1}"
        for district in range(1, DISTRICTS_PER_WAREHOUSE + 1)
    ]
    return {"warehouse": [warehouse], "district": districts}


def _customer_lines(part: Part, recipe: Recipe, rng: Random) -> Lines:
    text, digits = RandomText(rng), RandomText(rng, DIGITS)
    letters = RandomText(rng, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    numbers = range(1, recipe.scale.customers + 1)
    bad_credit = _chosen(rng, numbers)
    key = f"{part.warehouse}\t{part.number}"
    since = recipe.loaded_at.isoformat()
    customers, history = [], []
    for number in numbers:
        if number <= LAST_NAMES:
            name = last_name(number - 1)
        else:
            name = last_name(nurand(rng, A_LAST_NAME, recipe.constants.last_name, 0, LAST_NAMES - 1))
        credit = "BC" if number in bad_credit else "GC"
        customers.append(
            f"{key}\t{number}\t{text.between(8, 16)}\tOE\t{name}\t{_address(text, letters, digits)}\t{digits.fixed(16)}\t{since}"
            f"\t{credit}\t50000.00\t{_rate(uniform(rng, 0, 5_000))}\t-10.00\t10.00\t1\t0\t{text.between(300, 500)}"
        )
        home = f"{part.number}\t{part.warehouse}"
        history.append(f"{number}\t{home}\t{home}\t{since}\t10.00\t{text.between(12, 24)}")
    return {"customer": customers, "history": history}


def _orders_lines(part: Part, recipe: Recipe, rng: Random) -> Lines:
    fixed = RandomText(rng).fixed
    scale = recipe.scale
    key = f"{part.warehouse}\t{part.number}"
    entered = recipe.loaded_at.isoformat()
    customers = list(range(1, scale.customers + 1))
    rng.shuffle(customers)
    orders, undelivered, order_lines = [], [], []
    for number, customer in enumerate(customers, 1):
        count = uniform(rng, ORDER_LINES_MIN, ORDER_LINES_MAX)
        is_delivered = number <= scale.delivered
        carrier = str(uniform(rng, 1, 10)) if is_delivered else NULL
        orders.append(f"{key}\t{number}\t{customer}\t{entered}\t{carrier}\t{count}\t1")
        if not is_delivered:
            undelivered.append(f"{key}\t{number}")
        for line in range(1, count + 1):
            amount = "0.00" if is_delivered else _money(uniform(rng, 1, 999_999))
            order_lines.append(
                f"{key}\t{number}\t{line}\t{uniform(rng, 1, scale.items)}\t{part.warehouse}"
                f"\t{entered if is_delivered else NULL}\t5\t{amount}\t{fixed(24)}"
            )
    return {"orders": orders, "new_order": undelivered, "order_line": order_lines}


_MAKERS: Final = {
    "item": _item_lines,
    "warehouse": _warehouse_lines,
    "stock": _stock_lines,
    "customer": _customer_lines,
    "orders": _orders_lines,
}
