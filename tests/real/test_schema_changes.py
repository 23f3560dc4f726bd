"""Schema changes on three real nodes while clients write on the others, and one of them killed in the middle."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from tests.real.nodes import Nodes, wait_for_replicas

ROWS = 2_000
CHANGES = 6
STATEMENT_SECONDS_MAX = 90.0
"""Nothing may take longer: a node that is gone loses its lease, a range without a leaseholder gets another."""


class Writer(threading.Thread):
    """Inserts, updates and deletes rows on one node until it is told to stop, and remembers what was acknowledged."""

    def __init__(self, nodes: Nodes, number: int) -> None:
        super().__init__(daemon=True)
        self.nodes = nodes
        self.number = number
        self.is_stopped = threading.Event()
        self.acknowledged: dict[int, int | None] = {}
        """Id -> value; of rows of this writer alone.  None: deleted.  What was in doubt is not here."""
        self.slowest = 0.0
        self.failures: list[str] = []

    def run(self) -> None:
        at = 0
        with self.nodes.connect(self.number) as connection:
            while not self.is_stopped.is_set():
                at += 1
                id = self.number * 1_000_000 + at % 50
                value = at % 7
                begin = time.monotonic()
                try:
                    if at % 5 == 4:
                        connection.execute("DELETE FROM item WHERE id = %s", (id,))
                        self.acknowledged[id] = None
                    else:
                        connection.execute(
                            "INSERT INTO item (id, v) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
                            (id, value),
                        )
                        self.acknowledged[id] = value
                except psycopg.Error as failure:
                    self.acknowledged.pop(id, None)
                    if failure.sqlstate not in ("40001", "40P01", "40003", "57P03"):
                        self.failures.append(f"{failure.sqlstate} {failure}")
                        return
                self.slowest = max(self.slowest, time.monotonic() - begin)

    def stop(self) -> None:
        """Ends the writer; nothing that it waited for may have taken too long."""
        self.is_stopped.set()
        self.join(STATEMENT_SECONDS_MAX)
        assert not self.is_alive(), "a statement hangs"
        assert not self.failures, self.failures
        assert self.slowest < STATEMENT_SECONDS_MAX


def every_way(nodes: Nodes, indexes: list[str]) -> dict[int, int]:
    """Asserts that every node finds the same rows by the table and by each index of column v; returns them."""
    seen: dict[int, int] | None = None
    for number in sorted(nodes.running):
        with nodes.connect(number) as connection:
            rows = dict(connection.execute("SELECT id, v FROM item").fetchall())
            seen = rows if seen is None else seen
            assert rows == seen, number
            connection.execute("SET enable_seqscan = off")
            for index in indexes:
                plan = connection.execute("EXPLAIN SELECT id FROM item WHERE v = 3").fetchall()
                assert any(index in line[0] for line in plan), plan
                for value in range(7):
                    by_index = {row[0] for row in connection.execute("SELECT id FROM item WHERE v = %s", (value,))}
                    assert by_index == {id for id, v in rows.items() if v == value}, (number, index, value)
    assert seen is not None
    return seen


def check_acknowledged(writers: list[Writer], rows: dict[int, int]) -> None:
    """What was acknowledged is there."""
    for writer in writers:
        assert writer.acknowledged
        for id, value in writer.acknowledged.items():
            assert rows.get(id) == value, (writer.number, id)


@pytest.fixture
def three(nodes: Nodes) -> Nodes:
    for number in (1, 2, 3):
        nodes.start(number)
    with nodes.connect(1) as connection:
        connection.execute("CREATE TABLE item (id int PRIMARY KEY, v int)")
        connection.execute(f"INSERT INTO item SELECT g, g % 7 FROM generate_series(1, {ROWS}) g")
    wait_for_replicas(nodes, "1,2,3")
    return nodes


def test_clients_write_while_the_schema_changes(three: Nodes) -> None:
    writers = [Writer(three, number) for number in (2, 3)]
    for writer in writers:
        writer.start()
    with three.connect(1) as connection:
        for step in range(CHANGES):
            begin = time.monotonic()
            connection.execute(f"CREATE TABLE extra{step} (id serial PRIMARY KEY, n int)")
            connection.execute(f"CREATE INDEX item_v{step} ON item (v)")
            connection.execute(f"ALTER TABLE item ADD COLUMN c{step} int DEFAULT {step}")
            with three.connect(1 + step % 3) as other:
                other.execute(f"INSERT INTO extra{step} (n) SELECT c{step} FROM item LIMIT 3")
                if step:
                    other.execute(f"DROP INDEX item_v{step - 1}")
                    other.execute(f"DROP TABLE extra{step - 1}")
            connection.execute(f"ALTER TABLE item DROP COLUMN c{step}")
            assert time.monotonic() - begin < STATEMENT_SECONDS_MAX
    for writer in writers:
        writer.stop()
    check_acknowledged(writers, every_way(three, [f"item_v{CHANGES - 1}"]))


def test_a_node_killed_in_the_middle_of_create_index_locks_nobody_out(three: Nodes) -> None:
    writers = [Writer(three, number) for number in (2, 3)]
    for writer in writers:
        writer.start()

    def create() -> None:
        try:
            with three.connect(1) as connection:
                connection.execute("CREATE INDEX item_v ON item (v)")
        except psycopg.Error:
            pass

    thread = threading.Thread(target=create, daemon=True)
    thread.start()
    time.sleep(0.15)
    three.kill(1)
    begin = time.monotonic()
    with three.connect(2) as connection:
        while True:
            try:
                connection.execute("CREATE INDEX IF NOT EXISTS item_v ON item (v)")
                break
            except psycopg.Error as failure:
                assert failure.sqlstate in ("40001", "40003", "57P03"), failure
                assert time.monotonic() - begin < STATEMENT_SECONDS_MAX
    assert time.monotonic() - begin < STATEMENT_SECONDS_MAX
    counts = [len(writer.acknowledged) for writer in writers]
    time.sleep(1.0)
    for writer in writers:
        writer.stop()
    assert counts
    three.start(1)
    check_acknowledged(writers, every_way(three, ["item_v"]))
