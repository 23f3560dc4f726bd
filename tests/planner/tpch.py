"""TPC-H: schema, the 22 queries (specification 3.0, validation parameters), and a small generator of data that every query selects from."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from random import Random
from typing import Any

from planner.schema import TableDesc
from tests.planner.algebra import make_index, make_table

EPOCH = date(2000, 1, 1)
SCHEMA = {
    "region": ("r_regionkey int4, r_name text not, r_comment text", "r_regionkey"),
    "nation": ("n_nationkey int4, n_name text not, n_regionkey int4 not, n_comment text", "n_nationkey"),
    "supplier": (
        "s_suppkey int4, s_name text not, s_address text not, s_nationkey int4 not, s_phone text not, s_acctbal numeric not, s_comment text not",
        "s_suppkey",
    ),
    "customer": (
        "c_custkey int4, c_name text not, c_address text not, c_nationkey int4 not, c_phone text not, c_acctbal numeric not, "
        "c_mktsegment text not, c_comment text not",
        "c_custkey",
    ),
    "part": (
        "p_partkey int4, p_name text not, p_mfgr text not, p_brand text not, p_type text not, p_size int4 not, p_container text not, "
        "p_retailprice numeric not, p_comment text not",
        "p_partkey",
    ),
    "partsupp": (
        "ps_partkey int4, ps_suppkey int4, ps_availqty int4 not, ps_supplycost numeric not, ps_comment text not",
        "ps_partkey, ps_suppkey",
    ),
    "orders": (
        "o_orderkey int4, o_custkey int4 not, o_orderstatus text not, o_totalprice numeric not, o_orderdate date not, "
        "o_orderpriority text not, o_clerk text not, o_shippriority int4 not, o_comment text not",
        "o_orderkey",
    ),
    "lineitem": (
        "l_orderkey int4, l_partkey int4 not, l_suppkey int4 not, l_linenumber int4, l_quantity numeric not, l_extendedprice numeric not, "
        "l_discount numeric not, l_tax numeric not, l_returnflag text not, l_linestatus text not, l_shipdate date not, "
        "l_commitdate date not, l_receiptdate date not, l_shipinstruct text not, l_shipmode text not, l_comment text not",
        "l_orderkey, l_linenumber",
    ),
}
"""Table to (columns, primary key), as ``make_table`` reads them."""
FOREIGN_COLUMNS = {
    "nation": [3], "supplier": [4], "customer": [4], "partsupp": [2], "orders": [2], "lineitem": [2, 3],
}  # fmt: skip


def make_tables(first_id: int = 41000, indexed: bool = True) -> dict[str, TableDesc]:
    """Descriptors; with an index on every referencing column if asked."""
    out = {}
    for number, (name, (columns, primary)) in enumerate(SCHEMA.items()):
        indexes = (
            [make_index(2 + i, f"{name}_{c}", [c]) for i, c in enumerate(FOREIGN_COLUMNS.get(name, []))]
            if indexed
            else []
        )
        out[name] = make_table(first_id + number, name, columns, primary, indexes)
    return out


NATIONS = (
    ("ALGERIA", 0), ("ARGENTINA", 1), ("BRAZIL", 1), ("CANADA", 1), ("EGYPT", 4), ("ETHIOPIA", 0), ("FRANCE", 3), ("GERMANY", 3), ("INDIA", 2),
    ("INDONESIA", 2), ("IRAN", 4), ("IRAQ", 4), ("JAPAN", 2), ("JORDAN", 4), ("KENYA", 0), ("MOROCCO", 0), ("MOZAMBIQUE", 0), ("PERU", 1),
    ("CHINA", 2), ("ROMANIA", 3), ("SAUDI ARABIA", 4), ("VIETNAM", 2), ("RUSSIA", 3), ("UNITED KINGDOM", 3), ("UNITED STATES", 1),
)  # fmt: skip
REGIONS = ("AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST")
SEGMENTS = ("AUTOMOBILE", "BUILDING", "FURNITURE", "MACHINERY", "HOUSEHOLD")
PRIORITIES = ("1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW")
MODES = ("REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB")
INSTRUCTIONS = ("DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN")
TYPES = tuple(
    f"{a} {b} {c}"
    for a in ("ECONOMY", "PROMO", "MEDIUM", "STANDARD")
    for b in ("ANODIZED", "POLISHED")
    for c in ("STEEL", "BRASS")
)
CONTAINERS = ("SM CASE", "SM BOX", "MED BOX", "MED BAG", "LG CASE", "LG BOX", "JUMBO PACK")
COLORS = ("green", "forest", "almond", "azure", "blush")


def days(year: int, month: int, day: int) -> int:
    return (date(year, month, day) - EPOCH).days


def money(rng: Random, low: int, high: int) -> Decimal:
    return Decimal(rng.randrange(low * 100, high * 100)).scaleb(-2)


def generate(seed: int, orders: int = 150) -> dict[str, list[tuple[Any, ...]]]:
    """Rows by table; sizes follow the number of orders."""
    rng = Random(seed)
    suppliers, customers, parts = max(10, orders // 15), max(15, orders // 10), max(20, orders // 8)
    data: dict[str, list[tuple[Any, ...]]] = {
        "region": [(i, name, "r") for i, name in enumerate(REGIONS)],
        "nation": [(i, name, region, "n") for i, (name, region) in enumerate(NATIONS)],
    }
    data["supplier"] = [_supplier(rng, i) for i in range(1, suppliers + 1)]
    data["customer"] = [_customer(rng, i) for i in range(1, customers + 1)]
    data["part"] = [_part(rng, i) for i in range(1, parts + 1)]
    pairs = sorted({(p, rng.randrange(1, suppliers + 1)) for p in range(1, parts + 1) for _ in range(4)})
    data["partsupp"] = [(p, s, rng.randrange(1, 9999), money(rng, 1, 1000), "ps") for p, s in pairs]
    data["orders"], data["lineitem"] = [], []
    for key in range(1, orders + 1):
        _order(rng, key, customers, pairs, data)
    return data


def _supplier(rng: Random, i: int) -> tuple[Any, ...]:
    nation = rng.choice((3, 6, 7, 20, rng.randrange(25)))
    comment = rng.choice(("ok", "Customer is not happy: Complaints"))
    return (i, f"Supplier#{i:09}", f"address {i}", nation, f"{nation + 10}-555", money(rng, -999, 9999), comment)


def _customer(rng: Random, i: int) -> tuple[Any, ...]:
    nation = rng.choice((6, 7, 2, rng.randrange(25)))
    phone = f"{rng.choice((13, 31, 23, 29, 30, 18, 17, 11))}-100-{i:04}"
    return (i, f"Customer#{i:09}", f"street {i}", nation, phone, money(rng, -999, 9999), rng.choice(SEGMENTS), "c")


def _part(rng: Random, i: int) -> tuple[Any, ...]:
    name = " ".join(rng.sample(COLORS, 2))
    size = rng.choice((15, 1, 5, 9, 14, 49, 23))
    brand = rng.choice(("Brand#12", "Brand#23", "Brand#34", "Brand#45"))
    return (
        i,
        name,
        "Manufacturer#1",
        brand,
        rng.choice(TYPES),
        size,
        rng.choice(CONTAINERS),
        money(rng, 900, 2000),
        "p",
    )


def _order(
    rng: Random, key: int, customers: int, pairs: list[tuple[int, int]], data: dict[str, list[tuple[Any, ...]]]
) -> None:
    ordered = days(1992, 1, 1) + rng.randrange(2400)
    total = Decimal(0)
    big = rng.random() < 0.1
    for number in range(1, rng.randrange(2, 8)):
        part, supplier = rng.choice(pairs)
        quantity = Decimal(rng.randrange(45, 51) if big else rng.randrange(1, 51))
        price = quantity * money(rng, 900, 1500)
        shipped = ordered + rng.randrange(1, 122)
        received = shipped + rng.randrange(1, 31)
        flag = rng.choice("RAN") if received < days(1995, 6, 17) else "N"
        status = "O" if shipped > days(1995, 6, 17) else "F"
        total += price
        data["lineitem"].append(
            (key, part, supplier, number, quantity, price, Decimal(rng.randrange(11)).scaleb(-2), Decimal(rng.randrange(9)).scaleb(-2), flag,
             status, shipped, ordered + rng.randrange(30, 91), received, rng.choice(INSTRUCTIONS), rng.choice(MODES), "l")
        )  # fmt: skip
    comment = rng.choice(("fine", "special packages requests", "quick"))
    customer = 3 * rng.randrange(max(1, customers // 3)) + rng.choice((1, 2))
    data["orders"].append(
        (key, customer, rng.choice("FOP"), total, ordered, rng.choice(PRIORITIES), f"Clerk#{key % 9}", 0, comment)
    )


QUERIES: dict[int, str] = {
    1: """select l_returnflag, l_linestatus, sum(l_quantity) as sum_qty, sum(l_extendedprice) as sum_base_price,
        sum(l_extendedprice * (1 - l_discount)) as sum_disc_price, sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) as sum_charge,
        avg(l_quantity) as avg_qty, avg(l_extendedprice) as avg_price, avg(l_discount) as avg_disc, count(*) as count_order
        from lineitem where l_shipdate <= date '1998-12-01' - interval '90 day'
        group by l_returnflag, l_linestatus order by l_returnflag, l_linestatus""",
    2: """select s_acctbal, s_name, n_name, p_partkey, p_mfgr, s_address, s_phone, s_comment from part, supplier, partsupp, nation, region
        where p_partkey = ps_partkey and s_suppkey = ps_suppkey and p_size = 15 and p_type like '%BRASS' and s_nationkey = n_nationkey
        and n_regionkey = r_regionkey and r_name = 'EUROPE' and ps_supplycost = (select min(ps_supplycost) from partsupp, supplier, nation, region
        where p_partkey = ps_partkey and s_suppkey = ps_suppkey and s_nationkey = n_nationkey and n_regionkey = r_regionkey and r_name = 'EUROPE')
        order by s_acctbal desc, n_name, s_name, p_partkey limit 100""",
    3: """select l_orderkey, sum(l_extendedprice * (1 - l_discount)) as revenue, o_orderdate, o_shippriority from customer, orders, lineitem
        where c_mktsegment = 'BUILDING' and c_custkey = o_custkey and l_orderkey = o_orderkey and o_orderdate < date '1995-03-15'
        and l_shipdate > date '1995-03-15' group by l_orderkey, o_orderdate, o_shippriority order by revenue desc, o_orderdate limit 10""",
    4: """select o_orderpriority, count(*) as order_count from orders where o_orderdate >= date '1993-07-01'
        and o_orderdate < date '1993-07-01' + interval '3 month' and exists (select * from lineitem where l_orderkey = o_orderkey
        and l_commitdate < l_receiptdate) group by o_orderpriority order by o_orderpriority""",
    5: """select n_name, sum(l_extendedprice * (1 - l_discount)) as revenue from customer, orders, lineitem, supplier, nation, region
        where c_custkey = o_custkey and l_orderkey = o_orderkey and l_suppkey = s_suppkey and c_nationkey = s_nationkey
        and s_nationkey = n_nationkey and n_regionkey = r_regionkey and r_name = 'EUROPE' and o_orderdate >= date '1994-01-01'
        and o_orderdate < date '1994-01-01' + interval '3 year' group by n_name order by revenue desc""",
    6: """select sum(l_extendedprice * l_discount) as revenue from lineitem where l_shipdate >= date '1994-01-01'
        and l_shipdate < date '1994-01-01' + interval '1 year' and l_discount between 0.06 - 0.01 and 0.06 + 0.01 and l_quantity < 24""",
    7: """select supp_nation, cust_nation, l_year, sum(volume) as revenue from (select n1.n_name as supp_nation, n2.n_name as cust_nation,
        extract(year from l_shipdate) as l_year, l_extendedprice * (1 - l_discount) as volume from supplier, lineitem, orders, customer,
        nation n1, nation n2 where s_suppkey = l_suppkey and o_orderkey = l_orderkey and c_custkey = o_custkey and s_nationkey = n1.n_nationkey
        and c_nationkey = n2.n_nationkey and ((n1.n_name = 'FRANCE' and n2.n_name = 'GERMANY') or (n1.n_name = 'GERMANY' and n2.n_name = 'FRANCE'))
        and l_shipdate between date '1995-01-01' and date '1996-12-31') as shipping
        group by supp_nation, cust_nation, l_year order by supp_nation, cust_nation, l_year""",
    8: """select o_year, sum(case when nation = 'BRAZIL' then volume else 0 end) / sum(volume) as mkt_share from (select
        extract(year from o_orderdate) as o_year, l_extendedprice * (1 - l_discount) as volume, n2.n_name as nation from part, supplier,
        lineitem, orders, customer, nation n1, nation n2, region where p_partkey = l_partkey and s_suppkey = l_suppkey
        and l_orderkey = o_orderkey and o_custkey = c_custkey and c_nationkey = n1.n_nationkey and n1.n_regionkey = r_regionkey
        and r_name = 'AMERICA' and s_nationkey = n2.n_nationkey and o_orderdate between date '1995-01-01' and date '1996-12-31'
        and p_type = 'ECONOMY ANODIZED STEEL') as all_nations group by o_year order by o_year""",
    9: """select nation, o_year, sum(amount) as sum_profit from (select n_name as nation, extract(year from o_orderdate) as o_year,
        l_extendedprice * (1 - l_discount) - ps_supplycost * l_quantity as amount from part, supplier, lineitem, partsupp, orders, nation
        where s_suppkey = l_suppkey and ps_suppkey = l_suppkey and ps_partkey = l_partkey and p_partkey = l_partkey
        and o_orderkey = l_orderkey and s_nationkey = n_nationkey and p_name like '%green%') as profit
        group by nation, o_year order by nation, o_year desc""",
    10: """select c_custkey, c_name, sum(l_extendedprice * (1 - l_discount)) as revenue, c_acctbal, n_name, c_address, c_phone, c_comment
        from customer, orders, lineitem, nation where c_custkey = o_custkey and l_orderkey = o_orderkey and o_orderdate >= date '1993-10-01'
        and o_orderdate < date '1993-10-01' + interval '3 month' and l_returnflag = 'R' and c_nationkey = n_nationkey
        group by c_custkey, c_name, c_acctbal, c_phone, n_name, c_address, c_comment order by revenue desc limit 20""",
    11: """select ps_partkey, sum(ps_supplycost * ps_availqty) as value from partsupp, supplier, nation where ps_suppkey = s_suppkey
        and s_nationkey = n_nationkey and n_name = 'GERMANY' group by ps_partkey having sum(ps_supplycost * ps_availqty) > (
        select sum(ps_supplycost * ps_availqty) * 0.01 from partsupp, supplier, nation where ps_suppkey = s_suppkey
        and s_nationkey = n_nationkey and n_name = 'GERMANY') order by value desc""",
    12: """select l_shipmode, sum(case when o_orderpriority = '1-URGENT' or o_orderpriority = '2-HIGH' then 1 else 0 end) as high_line_count,
        sum(case when o_orderpriority <> '1-URGENT' and o_orderpriority <> '2-HIGH' then 1 else 0 end) as low_line_count
        from orders, lineitem where o_orderkey = l_orderkey and l_shipmode in ('MAIL', 'SHIP') and l_commitdate < l_receiptdate
        and l_shipdate < l_commitdate and l_receiptdate >= date '1994-01-01' and l_receiptdate < date '1994-01-01' + interval '1 year'
        group by l_shipmode order by l_shipmode""",
    13: """select c_count, count(*) as custdist from (select c_custkey, count(o_orderkey) from customer left outer join orders on
        c_custkey = o_custkey and o_comment not like '%special%requests%' group by c_custkey) as c_orders (c_custkey, c_count)
        group by c_count order by custdist desc, c_count desc""",
    14: """select 100.00 * sum(case when p_type like 'PROMO%' then l_extendedprice * (1 - l_discount) else 0 end) /
        sum(l_extendedprice * (1 - l_discount)) as promo_revenue from lineitem, part where l_partkey = p_partkey
        and l_shipdate >= date '1995-09-01' and l_shipdate < date '1995-09-01' + interval '1 month'""",
    15: """with revenue (supplier_no, total_revenue) as (select l_suppkey, sum(l_extendedprice * (1 - l_discount)) from lineitem
        where l_shipdate >= date '1996-01-01' and l_shipdate < date '1996-01-01' + interval '3 month' group by l_suppkey)
        select s_suppkey, s_name, s_address, s_phone, total_revenue from supplier, revenue where s_suppkey = supplier_no
        and total_revenue = (select max(total_revenue) from revenue) order by s_suppkey""",
    16: """select p_brand, p_type, p_size, count(distinct ps_suppkey) as supplier_cnt from partsupp, part where p_partkey = ps_partkey
        and p_brand <> 'Brand#45' and p_type not like 'MEDIUM POLISHED%' and p_size in (49, 14, 23, 45, 19, 3, 36, 9) and ps_suppkey not in (
        select s_suppkey from supplier where s_comment like '%Customer%Complaints%') group by p_brand, p_type, p_size
        order by supplier_cnt desc, p_brand, p_type, p_size""",
    17: """select sum(l_extendedprice) / 7.0 as avg_yearly from lineitem, part where p_partkey = l_partkey and p_brand = 'Brand#23'
        and p_container = 'MED BOX' and l_quantity < (select 0.2 * avg(l_quantity) from lineitem where l_partkey = p_partkey)""",
    18: """select c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice, sum(l_quantity) from customer, orders, lineitem
        where o_orderkey in (select l_orderkey from lineitem group by l_orderkey having sum(l_quantity) > 200) and c_custkey = o_custkey
        and o_orderkey = l_orderkey group by c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice
        order by o_totalprice desc, o_orderdate limit 100""",
    19: """select sum(l_extendedprice * (1 - l_discount)) as revenue from lineitem, part where (p_partkey = l_partkey and p_brand = 'Brand#12'
        and p_container in ('SM CASE', 'SM BOX', 'SM PACK', 'SM PKG') and l_quantity >= 1 and l_quantity <= 1 + 20 and p_size between 1 and 15
        and l_shipmode in ('AIR', 'AIR REG', 'TRUCK')) or (p_partkey = l_partkey and p_brand = 'Brand#23'
        and p_container in ('MED BAG', 'MED BOX', 'MED PKG', 'MED PACK') and l_quantity >= 10 and l_quantity <= 10 + 30
        and p_size between 1 and 15 and l_shipmode in ('AIR', 'AIR REG', 'TRUCK'))""",
    20: """select s_name, s_address from supplier, nation where s_suppkey in (select ps_suppkey from partsupp where ps_partkey in (
        select p_partkey from part where p_name like 'forest%') and ps_availqty > (select 0.5 * sum(l_quantity) from lineitem
        where l_partkey = ps_partkey and l_suppkey = ps_suppkey and l_shipdate >= date '1994-01-01'
        and l_shipdate < date '1994-01-01' + interval '1 year')) and s_nationkey = n_nationkey and n_name = 'CANADA' order by s_name""",
    21: """select s_name, count(*) as numwait from supplier, lineitem l1, orders, nation where s_suppkey = l1.l_suppkey
        and o_orderkey = l1.l_orderkey and o_orderstatus = 'F' and l1.l_receiptdate > l1.l_commitdate and exists (select * from lineitem l2
        where l2.l_orderkey = l1.l_orderkey and l2.l_suppkey <> l1.l_suppkey) and not exists (select * from lineitem l3
        where l3.l_orderkey = l1.l_orderkey and l3.l_suppkey <> l1.l_suppkey and l3.l_receiptdate > l3.l_commitdate)
        and s_nationkey = n_nationkey and n_name = 'SAUDI ARABIA' group by s_name order by numwait desc, s_name limit 100""",
    22: """select cntrycode, count(*) as numcust, sum(c_acctbal) as totacctbal from (select substring(c_phone from 1 for 2) as cntrycode,
        c_acctbal from customer where substring(c_phone from 1 for 2) in ('13', '31', '23', '29', '30', '18', '17') and c_acctbal > (
        select avg(c_acctbal) from customer where c_acctbal > 0.00 and substring(c_phone from 1 for 2) in ('13', '31', '23', '29', '30', '18',
        '17')) and not exists (select * from orders where o_custkey = c_custkey)) as custsale group by cntrycode order by cntrycode""",
}
