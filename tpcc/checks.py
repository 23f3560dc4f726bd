"""The twelve consistency conditions of clause 3.3.2, each a query of the rows that violate it.

They use nothing but joins on keys, GROUP BY and comparisons, so that a simple planner runs them. All run in one snapshot, and so may be
asked while a run goes on.

Two are told more generally than the standard does, which states them of the initial population:

- 2: a district all of whose orders are delivered has no new_order, hence no largest NO_O_ID to compare.
- 11: orders less new orders is 2,100 after the load. Each delivery lowers the new orders by one and raises the C_DELIVERY_CNT of one customer
  of the district by one, and the population starts with 0, so the difference is 2,100 plus the sum of C_DELIVERY_CNT at any time.
"""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from tpcc.database import Population
from tpcc.scale import Scale

ROWS_SHOWN_MAX: Final = 5
FOLLOWER_READ: Final = "follower_read_timestamp()"
"""The newest past that every region answers by itself: joins over rows of several regions would wait for each lookup."""
FOLLOWER_READ_SECONDS: Final = 10.0
"""How old it is, and a little more."""


class Condition(msgspec.Struct, frozen=True):
    number: int
    rule: str
    sql: str

    @property
    def clause(self) -> str:
        return f"3.3.2.{self.number}"


class CheckResult(msgspec.Struct):
    clause: str
    rule: str
    holds: bool
    columns: list[str] = []
    rows: list[list[str]] = []
    """The first violating rows."""
    has_more: bool = False


_DELIVERED_OF_CUSTOMER: Final = """
    LEFT JOIN (SELECT o_w_id, o_d_id, o_c_id, sum(ol_amount) AS delivered FROM orders
        JOIN order_line ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id
        WHERE ol_delivery_d IS NOT NULL GROUP BY o_w_id, o_d_id, o_c_id) AS bought
        ON o_w_id = c_w_id AND o_d_id = c_d_id AND o_c_id = c_id"""


def list_conditions(scale: Scale) -> list[Condition]:
    """Returns the conditions for a population of this scale."""
    texts = {
        1: ("W_YTD = sum(D_YTD)", """
            SELECT w_id, w_ytd, d_ytd_sum FROM warehouse
            LEFT JOIN (SELECT d_w_id, sum(d_ytd) AS d_ytd_sum FROM district GROUP BY d_w_id) AS districts ON d_w_id = w_id
            WHERE w_ytd <> coalesce(d_ytd_sum, 0)"""),
        2: ("D_NEXT_O_ID - 1 = max(O_ID) = max(NO_O_ID)", """
            SELECT d_w_id, d_id, d_next_o_id, o_max, no_max FROM district
            LEFT JOIN (SELECT o_w_id, o_d_id, max(o_id) AS o_max FROM orders GROUP BY o_w_id, o_d_id) AS newest
                ON o_w_id = d_w_id AND o_d_id = d_id
            LEFT JOIN (SELECT no_w_id, no_d_id, max(no_o_id) AS no_max FROM new_order GROUP BY no_w_id, no_d_id) AS waiting
                ON no_w_id = d_w_id AND no_d_id = d_id
            WHERE d_next_o_id - 1 <> coalesce(o_max, 0) OR d_next_o_id - 1 <> coalesce(no_max, d_next_o_id - 1)"""),
        3: ("max(NO_O_ID) - min(NO_O_ID) + 1 = rows of NEW-ORDER", """
            SELECT no_w_id, no_d_id, min(no_o_id) AS no_min, max(no_o_id) AS no_max, count(*) AS no_count FROM new_order
            GROUP BY no_w_id, no_d_id HAVING max(no_o_id) - min(no_o_id) + 1 <> count(*)"""),
        4: ("sum(O_OL_CNT) = rows of ORDER-LINE", """
            SELECT d_w_id, d_id, o_ol_cnt_sum, ol_count FROM district
            LEFT JOIN (SELECT o_w_id, o_d_id, sum(o_ol_cnt) AS o_ol_cnt_sum FROM orders GROUP BY o_w_id, o_d_id) AS ordered
                ON o_w_id = d_w_id AND o_d_id = d_id
            LEFT JOIN (SELECT ol_w_id, ol_d_id, count(*) AS ol_count FROM order_line GROUP BY ol_w_id, ol_d_id) AS lines
                ON ol_w_id = d_w_id AND ol_d_id = d_id
            WHERE coalesce(o_ol_cnt_sum, 0) <> coalesce(ol_count, 0)"""),
        5: ("O_CARRIER_ID is null exactly for orders in NEW-ORDER", """
            SELECT o_w_id, o_d_id, o_id, o_carrier_id, no_o_id FROM orders
            LEFT JOIN new_order ON no_w_id = o_w_id AND no_d_id = o_d_id AND no_o_id = o_id
            WHERE (o_carrier_id IS NULL AND no_o_id IS NULL) OR (o_carrier_id IS NOT NULL AND no_o_id IS NOT NULL)"""),
        6: ("O_OL_CNT = rows of ORDER-LINE of the order", """
            SELECT o_w_id, o_d_id, o_id, o_ol_cnt, ol_count FROM orders
            LEFT JOIN (SELECT ol_w_id, ol_d_id, ol_o_id, count(*) AS ol_count FROM order_line
                GROUP BY ol_w_id, ol_d_id, ol_o_id) AS lines ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id
            WHERE o_ol_cnt <> coalesce(ol_count, 0)"""),
        7: ("OL_DELIVERY_D is null exactly where O_CARRIER_ID is", """
            SELECT ol_w_id, ol_d_id, ol_o_id, ol_number, ol_delivery_d, o_carrier_id FROM order_line
            JOIN orders ON o_w_id = ol_w_id AND o_d_id = ol_d_id AND o_id = ol_o_id
            WHERE (ol_delivery_d IS NULL AND o_carrier_id IS NOT NULL) OR (ol_delivery_d IS NOT NULL AND o_carrier_id IS NULL)"""),
        8: ("W_YTD = sum(H_AMOUNT)", """
            SELECT w_id, w_ytd, h_sum FROM warehouse
            LEFT JOIN (SELECT h_w_id, sum(h_amount) AS h_sum FROM history GROUP BY h_w_id) AS paid ON h_w_id = w_id
            WHERE w_ytd <> coalesce(h_sum, 0)"""),
        9: ("D_YTD = sum(H_AMOUNT)", """
            SELECT d_w_id, d_id, d_ytd, h_sum FROM district
            LEFT JOIN (SELECT h_w_id, h_d_id, sum(h_amount) AS h_sum FROM history GROUP BY h_w_id, h_d_id) AS paid
                ON h_w_id = d_w_id AND h_d_id = d_id
            WHERE d_ytd <> coalesce(h_sum, 0)"""),
        10: ("C_BALANCE = sum(OL_AMOUNT delivered) - sum(H_AMOUNT)", f"""
            SELECT c_w_id, c_d_id, c_id, c_balance, delivered, h_sum FROM customer{_DELIVERED_OF_CUSTOMER}
            LEFT JOIN (SELECT h_c_w_id, h_c_d_id, h_c_id, sum(h_amount) AS h_sum FROM history
                GROUP BY h_c_w_id, h_c_d_id, h_c_id) AS paid ON h_c_w_id = c_w_id AND h_c_d_id = c_d_id AND h_c_id = c_id
            WHERE c_balance <> coalesce(delivered, 0) - coalesce(h_sum, 0)"""),
        11: (f"rows of ORDER - rows of NEW-ORDER = {scale.delivered} + sum(C_DELIVERY_CNT)", f"""
            SELECT d_w_id, d_id, o_count, no_count, c_deliveries FROM district
            LEFT JOIN (SELECT o_w_id, o_d_id, count(*) AS o_count FROM orders GROUP BY o_w_id, o_d_id) AS ordered
                ON o_w_id = d_w_id AND o_d_id = d_id
            LEFT JOIN (SELECT no_w_id, no_d_id, count(*) AS no_count FROM new_order GROUP BY no_w_id, no_d_id) AS waiting
                ON no_w_id = d_w_id AND no_d_id = d_id
            LEFT JOIN (SELECT c_w_id, c_d_id, sum(c_delivery_cnt) AS c_deliveries FROM customer GROUP BY c_w_id, c_d_id) AS delivered
                ON c_w_id = d_w_id AND c_d_id = d_id
            WHERE coalesce(o_count, 0) - coalesce(no_count, 0) <> {scale.delivered} + coalesce(c_deliveries, 0)"""),
        12: ("C_BALANCE + C_YTD_PAYMENT = sum(OL_AMOUNT delivered)", f"""
            SELECT c_w_id, c_d_id, c_id, c_balance, c_ytd_payment, delivered FROM customer{_DELIVERED_OF_CUSTOMER}
            WHERE c_balance + c_ytd_payment <> coalesce(delivered, 0)"""),
    }  # fmt: skip
    return [Condition(number, rule, _one_line(sql)) for number, (rule, sql) in texts.items()]


def _one_line(sql: str) -> str:
    return " ".join(sql.split())


def check(connection: Any, scale: Scale, as_of: str | None = None) -> list[CheckResult]:
    """Checks all conditions in one snapshot; ``as_of`` names a time of the past, of servers that keep it."""
    connection.execute(_begin(as_of), prepare=False)
    try:
        return [_check_one(connection, condition) for condition in list_conditions(scale)]
    finally:
        if not connection.closed:
            connection.execute("ROLLBACK", prepare=False)


def check_near(connection: Any, population: Population, is_over: bool = True) -> list[CheckResult]:
    """As ``check``; where warehouses are spread over regions, from the nearest replicas.

    ``is_over``: what was committed just now counts, too; that state takes a while to be the past.
    """
    if not population.regions:
        return check(connection, population.scale)
    if is_over:
        time.sleep(FOLLOWER_READ_SECONDS)
    return check(connection, population.scale, FOLLOWER_READ)


def _begin(as_of: str | None) -> str:
    if as_of is None:
        return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    if as_of == FOLLOWER_READ:
        return f"BEGIN AS OF SYSTEM TIME {as_of}"
    quoted = as_of.replace("'", "''")
    return f"BEGIN AS OF SYSTEM TIME '{quoted}'"


def _check_one(connection: Any, condition: Condition) -> CheckResult:
    cursor = connection.execute(f"{condition.sql} LIMIT {ROWS_SHOWN_MAX + 1}", prepare=False)
    found = cursor.fetchall()
    return CheckResult(
        clause=condition.clause,
        rule=condition.rule,
        holds=not found,
        columns=[column.name for column in cursor.description] if found else [],
        rows=[["NULL" if value is None else str(value) for value in row] for row in found[:ROWS_SHOWN_MAX]],
        has_more=len(found) > ROWS_SHOWN_MAX,
    )
