"""Every SQL text of a run, in PostgreSQL's own ``$n`` notation, in the order of clause 2's transaction profiles.

The form is the classic one of TPC-C runners: a statement per row touched, locking reads where the profile updates what it read; only the
order lines of one order are one INSERT. It stays fixed, so that numbers of different servers and days compare.

Sums and counters are updated relatively (``w_ytd + $1``); what is set absolutely was read FOR UPDATE in the same transaction. So
the consistency conditions hold under READ COMMITTED as well.
"""

from __future__ import annotations

from typing import Final

from tpcc.scale import ORDER_LINES_MAX, ORDER_LINES_MIN

# New-Order (2.4.2.2)

GET_WAREHOUSE_TAX: Final = "SELECT w_tax FROM warehouse WHERE w_id = $1"
LOCK_DISTRICT: Final = "SELECT d_tax, d_next_o_id FROM district WHERE d_w_id = $1 AND d_id = $2 FOR UPDATE"
ADVANCE_NEXT_ORDER: Final = "UPDATE district SET d_next_o_id = d_next_o_id + 1 WHERE d_w_id = $1 AND d_id = $2"
GET_CUSTOMER_DISCOUNT: Final = (
    "SELECT c_discount, c_last, c_credit FROM customer WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3"
)
INSERT_ORDER: Final = (
    "INSERT INTO orders (o_w_id, o_d_id, o_id, o_c_id, o_entry_d, o_carrier_id, o_ol_cnt, o_all_local)"
    " VALUES ($1, $2, $3, $4, $5, NULL, $6, $7)"
)
INSERT_NEW_ORDER: Final = "INSERT INTO new_order (no_w_id, no_d_id, no_o_id) VALUES ($1, $2, $3)"
GET_ITEM: Final = "SELECT i_price, i_name, i_data FROM item WHERE i_id = $1"
LOCK_STOCK: Final[dict[int, str]] = {
    district: f"SELECT s_quantity, s_data, s_dist_{district:02d} FROM stock WHERE s_w_id = $1 AND s_i_id = $2 FOR UPDATE"
    for district in range(1, 11)
}
"""By district: the order line copies the district's own S_DIST_xx."""
UPDATE_STOCK: Final = (
    "UPDATE stock SET s_quantity = $3, s_ytd = s_ytd + $4, s_order_cnt = s_order_cnt + 1, s_remote_cnt = s_remote_cnt + $5"
    " WHERE s_w_id = $1 AND s_i_id = $2"
)
ORDER_LINE_COLUMNS: Final = 9


def _insert_order_lines(count: int) -> str:
    first = range(1, count * ORDER_LINE_COLUMNS, ORDER_LINE_COLUMNS)
    rows = ["(" + ", ".join([f"${at + column}" for column in range(ORDER_LINE_COLUMNS)]) + ")" for at in first]
    return (
        "INSERT INTO order_line (ol_w_id, ol_d_id, ol_o_id, ol_number, ol_i_id, ol_supply_w_id, ol_quantity, ol_amount,"
        f" ol_dist_info) VALUES {', '.join(rows)}"
    )


INSERT_ORDER_LINES: Final = {n: _insert_order_lines(n) for n in range(ORDER_LINES_MIN - 1, ORDER_LINES_MAX + 1)}
"""By number of rows; one fewer than an order has when its last item does not exist (2.4.1.5)."""

# Payment (2.5.2.2)

PAY_WAREHOUSE: Final = "UPDATE warehouse SET w_ytd = w_ytd + $2 WHERE w_id = $1"
GET_WAREHOUSE: Final = "SELECT w_name, w_street_1, w_street_2, w_city, w_state, w_zip FROM warehouse WHERE w_id = $1"
PAY_DISTRICT: Final = "UPDATE district SET d_ytd = d_ytd + $3 WHERE d_w_id = $1 AND d_id = $2"
GET_DISTRICT: Final = (
    "SELECT d_name, d_street_1, d_street_2, d_city, d_state, d_zip FROM district WHERE d_w_id = $1 AND d_id = $2"
)
FIND_CUSTOMERS: Final = "SELECT c_id FROM customer WHERE c_w_id = $1 AND c_d_id = $2 AND c_last = $3 ORDER BY c_first"
LOCK_CUSTOMER: Final = (
    "SELECT c_first, c_middle, c_last, c_street_1, c_street_2, c_city, c_state, c_zip, c_phone, c_since, c_credit, c_credit_lim,"
    " c_discount, c_balance FROM customer WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3 FOR UPDATE"
)
GET_CUSTOMER_DATA: Final = "SELECT c_data FROM customer WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3"
PAY_GOOD_CUSTOMER: Final = (
    "UPDATE customer SET c_balance = c_balance - $4, c_ytd_payment = c_ytd_payment + $4, c_payment_cnt = c_payment_cnt + 1"
    " WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3"
)
PAY_BAD_CUSTOMER: Final = (
    "UPDATE customer SET c_balance = c_balance - $4, c_ytd_payment = c_ytd_payment + $4, c_payment_cnt = c_payment_cnt + 1,"
    " c_data = $5 WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3"
)
INSERT_HISTORY: Final = (
    "INSERT INTO history (h_c_id, h_c_d_id, h_c_w_id, h_d_id, h_w_id, h_date, h_amount, h_data)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
)

# Order-Status (2.6.2.2)

GET_CUSTOMER_STATUS: Final = (
    "SELECT c_first, c_middle, c_last, c_balance FROM customer WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3"
)
GET_LAST_ORDER: Final = (
    "SELECT o_id, o_entry_d, o_carrier_id FROM orders WHERE o_w_id = $1 AND o_d_id = $2 AND o_c_id = $3"
    " ORDER BY o_id DESC LIMIT 1"
)
GET_ORDER_LINES: Final = (
    "SELECT ol_i_id, ol_supply_w_id, ol_quantity, ol_amount, ol_delivery_d FROM order_line"
    " WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id = $3"
)

# Delivery (2.7.4.2)

GET_OLDEST_NEW_ORDER: Final = (
    "SELECT no_o_id FROM new_order WHERE no_w_id = $1 AND no_d_id = $2 ORDER BY no_o_id LIMIT 1"
)
DELETE_NEW_ORDER: Final = "DELETE FROM new_order WHERE no_w_id = $1 AND no_d_id = $2 AND no_o_id = $3"
GET_ORDER_CUSTOMER: Final = "SELECT o_c_id FROM orders WHERE o_w_id = $1 AND o_d_id = $2 AND o_id = $3"
SET_CARRIER: Final = "UPDATE orders SET o_carrier_id = $4 WHERE o_w_id = $1 AND o_d_id = $2 AND o_id = $3"
SET_DELIVERY_DATE: Final = (
    "UPDATE order_line SET ol_delivery_d = $4 WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id = $3"
)
SUM_ORDER: Final = "SELECT sum(ol_amount) FROM order_line WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id = $3"
CREDIT_CUSTOMER: Final = (
    "UPDATE customer SET c_balance = c_balance + $4, c_delivery_cnt = c_delivery_cnt + 1"
    " WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3"
)

# Stock-Level (2.8.2.2)

GET_NEXT_ORDER: Final = "SELECT d_next_o_id FROM district WHERE d_w_id = $1 AND d_id = $2"
COUNT_LOW_STOCK: Final = (
    "SELECT count(DISTINCT s_i_id) FROM order_line JOIN stock ON s_w_id = ol_w_id AND s_i_id = ol_i_id"
    " WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id >= $3 AND ol_o_id < $4 AND s_quantity < $5"
)
