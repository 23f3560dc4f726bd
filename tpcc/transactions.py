"""The five transaction bodies (clauses 2.4 to 2.8), from the first statement to before COMMIT.

A body may be run several times with the same input. It returns how it wants to end; what a terminal would show is computed or fetched,
because the standard wants it displayed, and then dropped: there is no terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from tpcc import statements as sql
from tpcc.inputs import CustomerChoice, Delivery, Kind, NewOrder, OrderLine, OrderStatus, Payment, StockLevel
from tpcc.scale import DISTRICTS_PER_WAREHOUSE
from tpcc.session import Answer, Call, Session

RECENT_ORDERS: Final = 20
CUSTOMER_DATA_MAX: Final = 500
CLAIMS_MAX: Final = 20
"""How often a delivery looks again for the oldest order of a district after another delivery took it."""


class Ending(NamedTuple):
    """How a body ends: by COMMIT, or by the ROLLBACK that the standard demands of one New-Order in a hundred."""

    is_rollback: bool = False
    deliveries_skipped: int = 0
    """Districts without an order to deliver (2.7.4.2)."""


COMMIT: Final = Ending()
ROLLBACK: Final = Ending(is_rollback=True)


class MissingRow(Exception):
    """A row the population guarantees is not there."""


def new_order(session: Session, entry: NewOrder) -> Ending:
    """Enters an order of 5 to 15 lines; all lines are worked on before an unused item rolls it back (2.4.2.3)."""
    home = (entry.warehouse, entry.district)
    warehouse, district, _, customer = session.batch(
        [
            (sql.GET_WAREHOUSE_TAX, (entry.warehouse,)),
            (sql.LOCK_DISTRICT, home),
            (sql.ADVANCE_NEXT_ORDER, home),
            (sql.GET_CUSTOMER_DISCOUNT, (*home, entry.customer)),
        ]
    )
    (warehouse_tax,) = _row(warehouse)
    district_tax, order = _row(district)
    discount, _, _ = _row(customer)
    is_local = all(line.supply_warehouse == entry.warehouse for line in entry.lines)
    now = datetime.now(UTC)
    calls: list[Call] = [
        (sql.INSERT_ORDER, (*home, order, entry.customer, now, len(entry.lines), int(is_local))),
        (sql.INSERT_NEW_ORDER, (*home, order)),
    ]
    for line in entry.lines:
        calls.append((sql.GET_ITEM, (line.item,)))
        calls.append((sql.LOCK_STOCK[entry.district], (line.supply_warehouse, line.item)))
    answers = session.batch(calls)[2:]
    found = [line for line, item in zip(entry.lines, answers[::2]) if item.rows]
    total = _order_lines(session, entry, order, found, answers)
    if len(found) < len(entry.lines):
        return ROLLBACK
    _ = total * (1 - discount) * (1 + warehouse_tax + district_tax)
    return COMMIT


def _order_lines(
    session: Session, entry: NewOrder, order: int, found: list[OrderLine], answers: list[Answer]
) -> Decimal:
    """Takes the items from stock, inserts the lines and returns the sum of their amounts."""
    # An item may be ordered twice; its second line starts from what the first one left.
    left: dict[tuple[int, int], int] = {}
    calls: list[Call] = []
    parameters: list[object] = []
    total = Decimal(0)
    for number, line in enumerate(found, 1):
        price, _, _ = _row(answers[2 * number - 2])
        in_stock, _, district_info = _row(answers[2 * number - 1])
        key = (line.supply_warehouse, line.item)
        quantity = left[key] = restock(left.get(key, in_stock), line.quantity)
        is_remote = int(line.supply_warehouse != entry.warehouse)
        calls.append((sql.UPDATE_STOCK, (*key, quantity, line.quantity, is_remote)))
        amount = line.quantity * price
        total += amount
        parameters += (entry.warehouse, entry.district, order, number, line.item, line.supply_warehouse, line.quantity)
        parameters += (amount, district_info)
    calls.append((sql.INSERT_ORDER_LINES[len(found)], parameters))
    session.batch(calls)
    return total


def restock(in_stock: int, ordered: int) -> int:
    """What is left, 91 pieces having arrived where fewer than 10 would remain (2.4.2.2)."""
    return in_stock - ordered if in_stock >= ordered + 10 else in_stock - ordered + 91


def payment(session: Session, entry: Payment) -> Ending:
    """Books a payment on warehouse, district and customer (2.5)."""
    home = (entry.warehouse, entry.district)
    _, warehouse, _, district = session.batch(
        [
            (sql.PAY_WAREHOUSE, (entry.warehouse, entry.amount)),
            (sql.GET_WAREHOUSE, (entry.warehouse,)),
            (sql.PAY_DISTRICT, (*home, entry.amount)),
            (sql.GET_DISTRICT, home),
        ]
    )
    customer = _find_customer(session, entry.customer)
    key = (entry.customer.warehouse, entry.customer.district, customer)
    found = _row(session.execute(sql.LOCK_CUSTOMER, *key))
    book: Call = (sql.PAY_GOOD_CUSTOMER, (*key, entry.amount))
    if found[10] == "BC":
        (old,) = _row(session.execute(sql.GET_CUSTOMER_DATA, *key))
        note = f"{customer} {key[1]} {key[0]} {entry.district} {entry.warehouse} {entry.amount}|{old}"
        book = (sql.PAY_BAD_CUSTOMER, (*key, entry.amount, note[:CUSTOMER_DATA_MAX]))
    names = f"{_row(warehouse)[0]}    {_row(district)[0]}"
    parties = (customer, entry.customer.district, entry.customer.warehouse, entry.district, entry.warehouse)
    session.batch([book, (sql.INSERT_HISTORY, (*parties, datetime.now(UTC), entry.amount, names))])
    return COMMIT


def _find_customer(session: Session, choice: CustomerChoice) -> int:
    """Returns the customer's number: by last name the middle one, rounded up, in the order of first names (2.5.2.2)."""
    if choice.number is not None:
        return choice.number
    rows = session.execute(sql.FIND_CUSTOMERS, choice.warehouse, choice.district, choice.name).rows
    if not rows:
        raise MissingRow(f"no customer is called {choice.name} in district {choice.district} of {choice.warehouse}")
    number: int = rows[(len(rows) + 1) // 2 - 1][0]
    return number


def order_status(session: Session, entry: OrderStatus) -> Ending:
    """Reads a customer's last order (2.6)."""
    place = (entry.customer.warehouse, entry.customer.district)
    customer = _find_customer(session, entry.customer)
    status, last = session.batch(
        [(sql.GET_CUSTOMER_STATUS, (*place, customer)), (sql.GET_LAST_ORDER, (*place, customer))]
    )
    _row(status)
    session.execute(sql.GET_ORDER_LINES, *place, _row(last)[0])
    return COMMIT


def delivery(session: Session, entry: Delivery) -> Ending:
    """Delivers the oldest order of each district, all ten in one database transaction (2.7.4)."""
    orders = _claim_orders(session, entry.warehouse)
    keys = [(entry.warehouse, district, order) for district, order in orders]
    now = datetime.now(UTC)
    calls: list[Call] = []
    for key in keys:
        calls.append((sql.GET_ORDER_CUSTOMER, key))
        calls.append((sql.SET_CARRIER, (*key, entry.carrier)))
        calls.append((sql.SET_DELIVERY_DATE, (*key, now)))
        calls.append((sql.SUM_ORDER, key))
    answers = session.batch(calls)
    credits: list[Call] = []
    for at, (warehouse, district, _) in enumerate(keys):
        (customer,) = _row(answers[4 * at])
        (amount,) = _row(answers[4 * at + 3])
        credits.append((sql.CREDIT_CUSTOMER, (warehouse, district, customer, amount)))
    session.batch(credits)
    return Ending(deliveries_skipped=DISTRICTS_PER_WAREHOUSE - len(orders))


def _claim_orders(session: Session, warehouse: int) -> list[tuple[int, int]]:
    """Deletes the oldest new_order of each district and returns (district, order), by district.

    A district is done before the next is begun, so that all deliveries lock districts in one order and none waits in a circle.
    """
    claimed = []
    for district in range(1, DISTRICTS_PER_WAREHOUSE + 1):
        order = _claim_oldest(session, warehouse, district)
        if order is not None:
            claimed.append((district, order))
    return claimed


def _claim_oldest(session: Session, warehouse: int, district: int) -> int | None:
    """Returns the order that is now ours, or None if the district has none.

    Under READ COMMITTED another delivery may take the row between the look and the DELETE, which then deletes nothing: look again.
    """
    for _ in range(CLAIMS_MAX):
        rows = session.execute(sql.GET_OLDEST_NEW_ORDER, warehouse, district).rows
        if not rows:
            return None
        order: int = rows[0][0]
        if session.execute(sql.DELETE_NEW_ORDER, warehouse, district, order).row_count == 1:
            return order
    raise MissingRow(f"other deliveries took the oldest order of district {district} of {warehouse} {CLAIMS_MAX} times")


def stock_level(session: Session, entry: StockLevel) -> Ending:
    """Counts items of the last 20 orders whose stock is low (2.8)."""
    place = (entry.warehouse, entry.district)
    (following,) = _row(session.execute(sql.GET_NEXT_ORDER, *place))
    session.execute(sql.COUNT_LOW_STOCK, *place, following - RECENT_ORDERS, following, entry.threshold)
    return COMMIT


def _row(answer: Answer) -> tuple[Any, ...]:
    if len(answer.rows) != 1:
        raise MissingRow(f"expected one row, found {len(answer.rows)}")
    return answer.rows[0]


BODIES: Final[dict[Kind, Callable[[Session, Any], Ending]]] = {
    Kind.NEW_ORDER: new_order,
    Kind.PAYMENT: payment,
    Kind.ORDER_STATUS: order_status,
    Kind.DELIVERY: delivery,
    Kind.STOCK_LEVEL: stock_level,
}
