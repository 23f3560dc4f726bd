"""The nine tables of clause 1.3, and two of ours that say how they were populated.

HISTORY has no primary key: the standard gives it none (1.3.3). ORDER and NEW-ORDER are called orders and new_order. Identifiers and
counters are integers, money is numeric, so that sums are exact and the consistency conditions can compare with ``=``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tpcc.regions import placed

TABLES: Final[dict[str, str]] = {
    "warehouse": """
        w_id integer NOT NULL, w_name varchar(10), w_street_1 varchar(20), w_street_2 varchar(20), w_city varchar(20),
        w_state char(2), w_zip char(9), w_tax numeric(4,4), w_ytd numeric(12,2), PRIMARY KEY (w_id)""",
    "district": """
        d_w_id integer NOT NULL, d_id integer NOT NULL, d_name varchar(10), d_street_1 varchar(20), d_street_2 varchar(20),
        d_city varchar(20), d_state char(2), d_zip char(9), d_tax numeric(4,4), d_ytd numeric(12,2), d_next_o_id integer,
        PRIMARY KEY (d_w_id, d_id)""",
    "customer": """
        c_w_id integer NOT NULL, c_d_id integer NOT NULL, c_id integer NOT NULL, c_first varchar(16), c_middle char(2),
        c_last varchar(16), c_street_1 varchar(20), c_street_2 varchar(20), c_city varchar(20), c_state char(2), c_zip char(9),
        c_phone char(16), c_since timestamptz, c_credit char(2), c_credit_lim numeric(12,2), c_discount numeric(4,4),
        c_balance numeric(12,2), c_ytd_payment numeric(12,2), c_payment_cnt integer, c_delivery_cnt integer, c_data varchar(500),
        PRIMARY KEY (c_w_id, c_d_id, c_id)""",
    "history": """
        h_c_id integer, h_c_d_id integer, h_c_w_id integer, h_d_id integer, h_w_id integer, h_date timestamptz,
        h_amount numeric(6,2), h_data varchar(24)""",
    "orders": """
        o_w_id integer NOT NULL, o_d_id integer NOT NULL, o_id integer NOT NULL, o_c_id integer, o_entry_d timestamptz,
        o_carrier_id integer, o_ol_cnt integer, o_all_local integer, PRIMARY KEY (o_w_id, o_d_id, o_id)""",
    "new_order": """
        no_w_id integer NOT NULL, no_d_id integer NOT NULL, no_o_id integer NOT NULL, PRIMARY KEY (no_w_id, no_d_id, no_o_id)""",
    "item": """
        i_id integer NOT NULL, i_im_id integer, i_name varchar(24), i_price numeric(5,2), i_data varchar(50), PRIMARY KEY (i_id)""",
    "stock": f"""
        s_w_id integer NOT NULL, s_i_id integer NOT NULL, s_quantity integer,
        {", ".join(f"s_dist_{district:02d} char(24)" for district in range(1, 11))},
        s_ytd integer, s_order_cnt integer, s_remote_cnt integer, s_data varchar(50), PRIMARY KEY (s_w_id, s_i_id)""",
    "order_line": """
        ol_w_id integer NOT NULL, ol_d_id integer NOT NULL, ol_o_id integer NOT NULL, ol_number integer NOT NULL, ol_i_id integer,
        ol_supply_w_id integer, ol_delivery_d timestamptz, ol_quantity integer, ol_amount numeric(6,2), ol_dist_info char(24),
        PRIMARY KEY (ol_w_id, ol_d_id, ol_o_id, ol_number)""",
}

OWN_TABLES: Final[dict[str, str]] = {
    "tpcc_config": "name text PRIMARY KEY, value text NOT NULL",
    "tpcc_loaded": "part text PRIMARY KEY, row_count bigint NOT NULL",
}

INDEXES: Final[dict[str, str]] = {
    "customer_by_name": "CREATE INDEX customer_by_name ON customer (c_w_id, c_d_id, c_last, c_first)",
    "orders_by_customer": "CREATE UNIQUE INDEX orders_by_customer ON orders (o_w_id, o_d_id, o_c_id, o_id)",
}

_REFERENCES: Final = (
    ("district", "d_w_id", "warehouse", "w_id"),
    ("customer", "c_w_id, c_d_id", "district", "d_w_id, d_id"),
    ("history", "h_c_w_id, h_c_d_id, h_c_id", "customer", "c_w_id, c_d_id, c_id"),
    ("history", "h_w_id, h_d_id", "district", "d_w_id, d_id"),
    ("orders", "o_w_id, o_d_id, o_c_id", "customer", "c_w_id, c_d_id, c_id"),
    ("new_order", "no_w_id, no_d_id, no_o_id", "orders", "o_w_id, o_d_id, o_id"),
    ("stock", "s_w_id", "warehouse", "w_id"),
    ("stock", "s_i_id", "item", "i_id"),
    ("order_line", "ol_w_id, ol_d_id, ol_o_id", "orders", "o_w_id, o_d_id, o_id"),
    ("order_line", "ol_supply_w_id, ol_i_id", "stock", "s_w_id, s_i_id"),
)

FOREIGN_KEYS: Final[dict[str, str]] = {
    f"{child}_{parent}_fk": f"ALTER TABLE {child} ADD CONSTRAINT {child}_{parent}_fk "
    f"FOREIGN KEY ({columns}) REFERENCES {parent} ({keys})"
    for child, columns, parent, keys in _REFERENCES
}


def create_statements(regions: Sequence[str] = ()) -> list[str]:
    """Returns one CREATE TABLE for each table, parents first; with regions, warehouses are spread over them."""
    return [placed(name, columns, regions) for name, columns in (OWN_TABLES | TABLES).items()]


def drop_statements() -> list[str]:
    """Returns one DROP TABLE for each table, children first so that foreign keys allow it."""
    order = ("order_line", "new_order", "history", "orders", "stock", "customer", "district", "item", "warehouse")
    assert sorted(order) == sorted(TABLES), f"{order=}"
    return [f"DROP TABLE IF EXISTS {name}" for name in (*order, *OWN_TABLES)]
