"""``\\tour``: eight steps over a cluster on this machine, each of which shows one thing and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import psycopg

from node.laptop.cluster import LaptopError, LaptopNode

if TYPE_CHECKING:
    from node.laptop.prompt import Prompt

RECOVERY_SECONDS_MAX: Final = 60.0
SETTLE_SECONDS_MAX: Final = 120.0
POLL_SECONDS: Final = 0.1
FOLLOWER_WAIT_SECONDS: Final = 7.0
"""Closed timestamps follow the clock at a distance of seconds, and the row must be older."""


def run(prompt: Prompt) -> None:
    """Shows everything; raises LaptopError or psycopg.Error where a step fails."""
    laptop = prompt.laptop
    if len(laptop.regions) < 3:
        raise LaptopError("the tour needs three regions")
    for number, (title, step) in enumerate(_STEPS, 1):
        prompt.console.print(f"\n{number}. {title}", style="bold", markup=False)
        try:
            step(prompt)
        except psycopg.errors.FeatureNotSupported as problem:
            prompt.console.print(f"   not built yet: {problem.diag.message_primary}", markup=False)


def _timed(prompt: Prompt, node: LaptopNode, statement: str, shows: bool = True) -> list[tuple[Any, ...]]:
    """Runs a statement on a node and says how long it took; the second of two runs counts."""
    with psycopg.connect(node.dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(statement)
        began = time.monotonic()
        cursor = connection.execute(statement)
        taken = (time.monotonic() - began) * 1000
        rows: list[tuple[Any, ...]] = cursor.fetchall() if cursor.description is not None else []
    prompt.console.print(f"   {node.region:<12} {statement}", markup=False)
    prompt.console.print(
        f"   {'':<12} {rows if rows and shows else 'done'}  in {taken:.1f} ms", markup=False, style="green"
    )
    return rows


def _do(node: LaptopNode, *statements: str) -> None:
    with psycopg.connect(node.dsn, autocommit=True, prepare_threshold=None) as connection:
        for statement in statements:
            connection.execute(statement)


def _settle(prompt: Prompt, table: str, region: str) -> None:
    """Waits until the table's leases are in a region."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    node = prompt.laptop.first_up(region)
    while time.monotonic() < deadline:
        with psycopg.connect(node.dsn, autocommit=True) as connection:
            cursor = connection.execute(f"SHOW RANGES FROM TABLE {table}")
            at = [column.name for column in cursor.description or ()].index("lease_holder_locality")
            if all(f"region={region}" in str(row[at]) for row in cursor.fetchall()):
                return
        time.sleep(POLL_SECONDS)
    raise LaptopError(f"the leases of {table} do not come to {region}")


def _local(prompt: Prompt) -> None:
    laptop = prompt.laptop
    home = laptop.regions[0]
    node = laptop.first_up(home)
    _do(
        node,
        f'ALTER DATABASE defaultdb PRIMARY REGION "{home}"',
        *[f'ALTER DATABASE defaultdb ADD REGION "{region}"' for region in laptop.regions[1:]],
        "CREATE TABLE tour (id int PRIMARY KEY, note text)",
        "INSERT INTO tour VALUES (1, 'at home')",
    )
    _settle(prompt, "tour", home)
    _timed(prompt, node, "SELECT note FROM tour WHERE id = 1")
    prompt.console.print("   The range's leaseholder is in the same region: nothing crossed an ocean.")


def _remote(prompt: Prompt) -> None:
    laptop = prompt.laptop
    far = laptop.first_up(laptop.regions[-1])
    _timed(prompt, far, "UPDATE tour SET note = 'changed from afar' WHERE id = 1")
    _timed(prompt, laptop.first_up(laptop.regions[0]), "UPDATE tour SET note = 'changed at home' WHERE id = 1")
    prompt.console.print("   The same write, sent across and at home.")


def _global(prompt: Prompt) -> None:
    laptop = prompt.laptop
    node = laptop.first_up(laptop.regions[0])
    _do(node, "CREATE TABLE tour_rate (currency text PRIMARY KEY, rate numeric) LOCALITY GLOBAL")
    _do(node, "INSERT INTO tour_rate VALUES ('EUR', 1.08)")
    for region in laptop.regions:
        _timed(prompt, laptop.first_up(region), "SELECT rate FROM tour_rate WHERE currency = 'EUR'")
    prompt.console.print("   A GLOBAL table is read locally everywhere; its writes pay for that.")


def _by_row(prompt: Prompt) -> None:
    laptop = prompt.laptop
    _do(
        laptop.first_up(laptop.regions[0]),
        "CREATE TABLE tour_user (id int PRIMARY KEY, name text) LOCALITY REGIONAL BY ROW",
    )
    for number, region in enumerate(laptop.regions):
        _do(laptop.first_up(region), f"INSERT INTO tour_user VALUES ({number}, 'somebody in {region}')")
    time.sleep(FOLLOWER_WAIT_SECONDS)
    for number, region in enumerate(laptop.regions):
        _timed(prompt, laptop.first_up(region), f"SELECT name FROM tour_user WHERE id = {number}")
    prompt.console.print("   Every row is at home where it was inserted, and found there first.")


def _follower(prompt: Prompt) -> None:
    laptop = prompt.laptop
    far = laptop.first_up(laptop.regions[-1])
    time.sleep(FOLLOWER_WAIT_SECONDS)
    _timed(prompt, far, "SELECT note FROM tour WHERE id = 1")
    _timed(prompt, far, "SELECT note FROM tour AS OF SYSTEM TIME follower_read_timestamp() WHERE id = 1")
    prompt.console.print("   A few seconds old, and answered by the copy next door.")


def _kill(prompt: Prompt) -> None:
    laptop = prompt.laptop
    with psycopg.connect(laptop.first_up(laptop.regions[0]).dsn, autocommit=True) as connection:
        cursor = connection.execute("SHOW RANGES FROM TABLE tour")
        at = [column.name for column in cursor.description or ()].index("lease_holder")
        holder = next(iter(cursor.fetchall()))[at]
    victim = next(node for node in laptop.nodes if node.node_id == int(holder))
    laptop.kill([victim])
    prompt.console.print(f"   killed node {victim.number} in {victim.region}, the leaseholder of tour")
    began = time.monotonic()
    other = next(node for node in laptop.nodes if node.state == "up")
    while time.monotonic() - began < RECOVERY_SECONDS_MAX:
        try:
            with psycopg.connect(other.dsn, autocommit=True, options="-c statement_timeout=2000") as connection:
                connection.execute("UPDATE tour SET note = 'still here' WHERE id = 1")
        except psycopg.Error:
            time.sleep(POLL_SECONDS)
            continue
        taken = time.monotonic() - began
        prompt.console.print(f"   writes go on after {taken:.1f} s", style="green")
        laptop.restart([victim])
        return
    raise LaptopError(f"no write succeeded within {RECOVERY_SECONDS_MAX:g} s")


def _conflict(prompt: Prompt) -> None:
    node = prompt.laptop.first_up(prompt.laptop.regions[0])
    with psycopg.connect(node.dsn) as one, psycopg.connect(node.dsn) as two:
        for connection in (one, two):
            connection.execute("SELECT note FROM tour WHERE id = 1")
        one.execute("UPDATE tour SET note = 'first' WHERE id = 1")
        one.commit()
        try:
            two.execute("UPDATE tour SET note = 'second' WHERE id = 1")
            two.commit()
        except psycopg.errors.SerializationFailure as problem:
            prompt.console.print(f"   {problem.sqlstate}: {problem.diag.message_primary}", style="green", markup=False)
            for text in (problem.diag.message_detail, problem.diag.message_hint):
                if text:
                    prompt.console.print(f"   {text}", markup=False)
            prompt.console.print("   Two transactions read the same row and wrote it: one of them must run again.")
            return
    raise LaptopError("both transactions committed")


def _explain(prompt: Prompt) -> None:
    far = prompt.laptop.first_up(prompt.laptop.regions[-1])
    with psycopg.connect(far.dsn, autocommit=True) as connection:
        rows = connection.execute("EXPLAIN (WAN) SELECT note FROM tour WHERE id = 1").fetchall()
    for row in rows:
        prompt.console.print(f"   {row[0]}", markup=False)


_STEPS: Final[tuple[tuple[str, Callable[[Prompt], None]], ...]] = (
    ("A read at home", _local),
    ("A write from another region", _remote),
    ("A GLOBAL table", _global),
    ("Rows with homes of their own", _by_row),
    ("A read of the past, next door", _follower),
    ("A leaseholder is killed", _kill),
    ("A conflict, explained", _conflict),
    ("What a statement will cost, explained", _explain),
)
