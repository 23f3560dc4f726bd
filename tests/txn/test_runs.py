"""Runs: rows written by bulk before their commit, against a dict that does the same the slow way.

The first tests tell what a run is, one rule each; then random transactions with savepoints, rollbacks, other sessions
and power cuts, and after every step the transaction must see what the dict holds.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from base.errors import KvError, MeridianError
from base.faults import arm
from kvtier.messages import Batch, Get, Isolation, Lock, Scan, Wait
from kvtier.mvcc import stats, stored_runs
from kvtier.settings import StoreSettings
from tests.kvtier.kvcase import Case
from tests.kvtier.kvloop import SeededRng
from txn.coordinator import Coordinator, Transaction
from txn.settings import TxnSettings

ISOLATIONS = [Isolation.SERIALIZABLE, Isolation.REPEATABLE_READ, Isolation.READ_COMMITTED]


def k(number: int) -> bytes:
    return b"\x10%03d" % number


class Bulk(Case):
    """A store with a coordinator."""

    def open(self) -> None:
        super().open()
        self.openings = getattr(self, "openings", 0) + 1  # Another process draws other ids.
        self.coordinator = Coordinator(
            self.kv, self.loop, self.loop, SeededRng(self.openings), TxnSettings(flush_bytes_max=64)
        )

    def begin(self, isolation: Isolation = Isolation.SERIALIZABLE) -> Transaction:
        return self.coordinator.begin(isolation)

    def wait(self, eager: Any) -> Any:
        return self.loop.finish(eager)

    def run(self, txn: Transaction, numbers: list[int], value: bytes = b"run", is_distinct: bool = False) -> int:
        return self.wait(txn.put_run([k(n) for n in numbers], [value + b"%d" % n for n in numbers], is_distinct))

    def rows(self, txn: Transaction | None = None, reverse: bool = False, limit: int = 0) -> dict[bytes, bytes]:
        """Everything a transaction (None: nobody's) sees, page by page."""
        start, end = k(0), k(999)
        found: dict[bytes, bytes] = {}
        while True:
            if txn is None:
                page = self.send(Scan(start, end, reverse, limit)).results[0]
            else:
                page = self.wait(txn.scan(start, end, reverse=reverse, limit=limit))
            assert not limit or len(page.keys) <= limit
            for key, value in zip(page.keys, page.values):
                assert key not in found
                found[key] = value
            if page.resume is None:
                return found
            if reverse:
                end = page.resume
            else:
                start = page.resume

    def idle(self) -> None:
        """Lets everything in the background end; nothing of any transaction may be left."""
        self.loop.run(30.0)
        self.check()
        assert not self.state.intents, (self.state.intents.points, self.state.intents.runs.starts)
        assert not stored_runs(self.engine)
        assert not self.state.records
        for replica in self.state.ranges.all():
            counted = stats(self.engine, replica.start, replica.end, self.state.tombstones).as_tuple()
            assert replica.is_estimate or counted == replica.counts()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_run_is_there_at_its_commit_and_not_before(isolation):
    case = Bulk()
    before = case.kv.now()
    txn = case.begin(isolation)
    assert case.run(txn, [1, 2, 3]) == 3
    assert case.rows(txn) == {k(1): b"run1", k(2): b"run2", k(3): b"run3"}
    assert case.send(Get(k(1)), ts=before).results == [None]
    reader = case.start(Get(k(2)))
    assert not reader.done, "a reader above the run waits for its transaction"
    case.wait(txn.commit())
    case.loop.settle()
    assert reader.result.results == [b"run2"]
    assert list(case.rows()) == [k(1), k(2), k(3)]
    case.idle()


def test_a_rolled_back_run_leaves_nothing():
    case = Bulk()
    txn = case.begin()
    assert case.run(txn, [1, 2, 3, 4, 5, 6, 7]) == 7
    writer = case.begin()
    waiting = case.loop.start(value_of(writer.get(k(2), Lock.EXCLUSIVE)))
    case.loop.settle()
    assert not waiting.done
    case.wait(txn.rollback())
    case.loop.settle()
    assert waiting.done and waiting.result is None
    writer.put(k(2), b"mine")
    case.wait(writer.commit())
    assert case.rows() == {k(2): b"mine"}
    case.idle()


async def value_of(eager: Any) -> Any:
    return await eager if hasattr(eager, "__await__") else eager


@pytest.mark.parametrize("blocker", ["row", "deleted row", "lock", "intent", "run", "own row", "own intent"])
def test_a_span_with_anything_in_it_is_refused(blocker):
    case = Bulk()
    txn, other = case.begin(), case.begin()
    if blocker in ("row", "deleted row"):
        case.wait(value_of_put(case, k(2)))
    if blocker == "deleted row":
        other.delete(k(2))
        case.wait(other.commit())
        case.idle()
        txn = case.begin()
    if blocker == "lock":
        case.wait(other.get(k(2), Lock.EXCLUSIVE))
    if blocker == "intent":
        other.put(k(2), b"2")
        case.wait(other.flush())
    if blocker == "run":
        assert case.run(other, [2, 4]) == 2
    if blocker.startswith("own"):
        txn.put(k(2), b"2")
        if blocker == "own intent":
            case.wait(txn.flush())
    assert case.run(txn, [1, 3]) == 0
    case.wait(txn.rollback())
    case.wait(other.rollback())
    case.idle()


def value_of_put(case: Bulk, key: bytes) -> Any:
    txn = case.begin()
    txn.put(key, b"old")
    return txn.commit()


def test_rows_in_any_order_grow_one_run():
    case = Bulk()
    txn = case.begin()
    for numbers in ([50, 60], [10, 90], [20, 70], [5, 99], [30]):
        assert case.run(txn, numbers) == len(numbers)
    assert len(case.state.intents.runs) == 1
    assert case.run(txn, [30]) == 0, "a row that is there is the business of a unique check"
    assert case.run(txn, [31, 50]) in (0, 1)
    assert list(case.rows(txn)) == [k(n) for n in (5, 10, 20, 30, 31, 50, 60, 70, 90, 99) if k(n) in case.rows(txn)]
    case.wait(txn.commit())
    case.idle()


def test_a_run_after_a_savepoint_does_not_grow_what_may_stay():
    case = Bulk()
    txn = case.begin()
    assert case.run(txn, [10, 20]) == 2
    token = txn.savepoint()
    assert case.run(txn, [15]) == 0
    assert case.run(txn, [30, 40]) == 2
    txn.rollback_to(token)
    assert list(case.rows(txn)) == [k(10), k(20)]
    assert case.wait(txn.get(k(30))) is None
    assert case.run(txn, [35]) == 1, "the place is free again"
    case.wait(txn.commit())
    assert list(case.rows()) == [k(10), k(20), k(35)]
    case.idle()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_commit_that_is_pushed_moves_the_rows(isolation):
    case = Bulk()
    txn = case.begin(isolation)
    assert case.run(txn, list(range(20))) == 20
    pushed_ts = case.send(Get(k(500))).ts
    txn.put(k(500), b"after the read")
    commit_ts = case.wait(txn.commit())
    assert commit_ts > pushed_ts
    case.loop.settle()
    # All of it appears at one timestamp.
    assert case.send(Scan(k(0), k(999)), ts=commit_ts - 1).results[0].keys == []
    assert len(case.send(Scan(k(0), k(999)), ts=commit_ts).results[0].keys) == 21
    case.idle()


def test_writes_over_a_run_and_deletions_of_its_span():
    case = Bulk()
    txn = case.begin()
    assert case.run(txn, list(range(10))) == 10
    txn.put(k(3), b"new")
    txn.delete(k(4))
    case.wait(txn.flush())
    case.wait(txn.delete_span(k(6), k(9)))
    expected = {k(n): b"run%d" % n for n in (0, 1, 2, 5, 9)} | {k(3): b"new"}
    assert case.rows(txn) == expected
    case.wait(txn.flush())
    assert case.rows(txn) == case.rows(txn, limit=1) == expected
    assert case.rows(txn, reverse=True) == case.rows(txn, reverse=True, limit=2) == expected
    assert case.wait(txn.get(k(7), Lock.EXCLUSIVE)) is None
    case.wait(txn.commit())
    assert case.rows() == expected
    case.idle()


def test_a_table_emptied_and_filled_again_in_one_transaction():
    case = Bulk()
    txn = case.begin()
    case.wait(txn.delete_span(k(0), k(999)))
    assert case.run(txn, [1, 2, 3]) == 3
    assert list(case.rows(txn)) == [k(1), k(2), k(3)]
    case.wait(txn.commit())
    assert list(case.rows()) == [k(1), k(2), k(3)]
    case.idle()


def test_a_read_of_the_span_does_not_conflict_with_the_own_run():
    case = Bulk()
    txn = case.begin()
    assert case.rows(txn) == {}
    reader_ts = case.send(Scan(k(0), k(999))).ts
    assert case.run(txn, [1, 2, 3]) == 3
    assert case.wait(txn.commit()) > reader_ts, "nothing appears under a read that was served"
    assert len(case.rows()) == 3
    case.idle()


def test_stalled_writes_are_waited_for():
    case = Bulk()
    txn = case.begin()
    case.wait(txn.get(k(1)))
    case.engine.faults.write_stalls = True
    task = case.loop.start(value_of(txn.put_run([k(1)], [b"1"])))
    case.loop.run(0.5)
    assert not task.done
    case.engine.faults.write_stalls = False
    case.loop.run(1.0)
    assert task.result == 1
    case.wait(txn.commit())
    assert case.rows() == {k(1): b"1"}
    case.idle()


# --- random transactions -------------------------------------------------------------------------


class Story:
    """One transaction and the dict it must equal, with the undo of its savepoints."""

    def __init__(self, case: Bulk, rng: random.Random, committed: dict[bytes, bytes]) -> None:
        self.case = case
        self.rng = rng
        self.txn = case.begin(rng.choice(ISOLATIONS))
        self.rows = dict(committed)
        self.savepoints: list[tuple[int, dict[bytes, bytes]]] = []

    def step(self) -> None:
        rng, txn = self.rng, self.txn
        choice = rng.randrange(12)
        number = rng.randrange(1, 60)
        if choice < 5:
            self._insert(sorted(rng.sample(range(number, number + 12), rng.randrange(1, 8))))
        elif choice == 5:
            txn.put(k(number), b"put")
            self.rows[k(number)] = b"put"
        elif choice == 6:
            txn.delete(k(number))
            self.rows.pop(k(number), None)
        elif choice == 7:
            end = number + rng.randrange(20)
            self.case.wait(txn.delete_span(k(number), k(end)))
            self.rows = {key: value for key, value in self.rows.items() if not k(number) <= key < k(end)}
        elif choice == 8:
            self.case.wait(txn.flush())
        elif choice == 9:
            self.savepoints.append((txn.savepoint(), dict(self.rows)))
        elif choice == 10 and self.savepoints:
            self.savepoints = self.savepoints[: rng.randrange(len(self.savepoints)) + 1]
            token, rows = self.savepoints[-1]
            txn.rollback_to(token)
            self.rows = dict(rows)

    def _insert(self, numbers: list[int]) -> None:
        """As the executor does: a run, and what it leaves one by one."""
        done = self.case.run(self.txn, numbers)
        for n in numbers[:done]:
            assert k(n) not in self.rows, "a run over a row that exists"
            self.rows[k(n)] = b"run%d" % n
        for n in numbers[done:]:
            if self.case.wait(self.txn.get(k(n), Lock.EXCLUSIVE)) is None:
                assert k(n) not in self.rows
                self.txn.put(k(n), b"one%d" % n)
                self.rows[k(n)] = b"one%d" % n
            else:
                assert k(n) in self.rows

    def check(self) -> None:
        limit = self.rng.choice([0, 1, 3, 7])
        assert self.case.rows(self.txn, self.rng.random() < 0.5, limit) == self.rows
        number = self.rng.randrange(80)
        assert self.case.wait(self.txn.get(k(number))) == self.rows.get(k(number))
        self.case.check()


@pytest.mark.parametrize("seed", range(200))
def test_random_transactions_one_after_another(seed):
    rng = random.Random(seed)
    case = Bulk()
    committed: dict[bytes, bytes] = {}
    for _ in range(6):
        story = Story(case, rng, committed)
        for _ in range(rng.randrange(1, 14)):
            story.step()
            if rng.random() < 0.7:
                story.check()
            if rng.random() < 0.1:
                case.send(Get(k(900 + rng.randrange(5))))  # Time goes on.
        ending = rng.random()
        if ending < 0.6:
            story.check()
            if rng.random() < 0.3:
                # A row that was read later than the transaction began: its commit is pushed.
                story.txn.put(k(700), b"pushed%d" % seed)
                story.rows[k(700)] = b"pushed%d" % seed
                case.send(Get(k(700)), ts=case.kv.now()) if not story.txn._is_flushed else None
            case.wait(story.txn.commit())
            committed = story.rows
        elif ending < 0.8:
            case.wait(story.txn.rollback())
        else:
            case.crash(seed)
        assert case.rows() == committed
    case.idle()


@pytest.mark.parametrize("seed", range(100))
def test_power_cuts_around_the_commit(seed):
    """All of a run or nothing, whatever of the log survives; an acknowledged commit survives whole."""
    rng = random.Random(seed)
    case = Bulk()
    numbers = list(range(90))
    txn = case.begin(rng.choice(ISOLATIONS))
    for first in range(0, 90, 9):
        assert case.run(txn, numbers[first : first + 9]) == 9
    if rng.random() < 0.5:
        case.send(Get(k(700)))
        txn.put(k(700), b"forces the rows to move")
        numbers.append(700)
    task = case.loop.start(value_of(txn.commit()))
    for _ in range(rng.randrange(0, 60)):
        if not case.loop.tick():
            case.loop.advance()
    was_acknowledged = task.done
    case.crash(seed)
    found = case.rows()
    assert list(found) in ([], [k(n) for n in numbers])
    assert found or not was_acknowledged
    case.idle()
    assert case.rows() == found


@pytest.mark.parametrize("seed", range(60))
def test_two_loads_and_readers_of_the_same_rows(seed):
    """Two transactions insert overlapping keys by bulk; exactly one gets each, and readers see whole commits."""
    rng = random.Random(seed)
    case = Bulk()
    taken: dict[bytes, bytes] = {}
    sizes = {b"A": 0, b"B": 0}

    async def load(name: bytes) -> None:
        txn = case.begin(rng.choice(ISOLATIONS))
        rows: dict[bytes, bytes] = {}
        try:
            for _ in range(4):
                numbers = sorted(rng.sample(range(60), 6))
                keys = [k(n) for n in numbers]
                done = await value_of(txn.put_run(keys, [name] * 6))
                rows.update(dict.fromkeys(keys[:done], name))
                for key in keys[done:]:
                    if await value_of(txn.get(key, Lock.EXCLUSIVE)) is None:
                        txn.put(key, name)
                        rows[key] = name
                await case.loop.sleep(rng.random() / 100)
            await value_of(txn.commit())
        except KvError:
            await value_of(txn.rollback())
            return
        assert not taken.keys() & rows.keys()
        taken.update(rows)
        sizes[name] = len(rows)

    async def read() -> None:
        for _ in range(5):
            await case.loop.sleep(rng.random() / 50)
            reply = await value_of(case.kv.send(Batch([Scan(k(0), k(999))], ts=case.kv.now())))
            values = reply.results[0].values
            for name in (b"A", b"B"):
                seen.append((name, values.count(name)))

    seen: list[tuple[bytes, int]] = []
    tasks = [case.loop.start(load(b"A")), case.loop.start(load(b"B")), case.loop.start(read())]
    case.loop.run(60.0)
    assert all(task.done for task in tasks)
    assert case.rows() == dict(sorted(taken.items()))
    assert all(count in (0, sizes[name]) for name, count in seen), (seen, sizes)
    case.idle()


@pytest.mark.parametrize("by_run", [True, False])
def test_a_scan_meets_many_intents_of_a_finished_transaction_together(by_run):
    """One at a time it would begin anew for each (reliability 17)."""
    case = Bulk(StoreSettings(resolve_delay_seconds=100.0))
    txn = case.begin()
    for n in range(0, 300, 2):
        if by_run:
            assert case.run(txn, [n, n + 1]) == 2
        else:
            txn.put(k(n), b"one")
            txn.put(k(n + 1), b"one")
    case.wait(txn.flush())
    arm(lambda name: name == "txn.resolve.skipped")
    try:
        case.wait(txn.commit())
        case.loop.settle()
    finally:
        arm(None)
    before = case.engine.write_seq()
    assert len(case.rows()) == 300
    assert case.engine.write_seq() - before <= 2
    case.loop.run(200.0)
    case.idle()


def test_skip_locked_and_nowait_meet_a_run():
    case = Bulk()
    txn, other = case.begin(), case.begin()
    assert case.run(txn, [1, 2, 3]) == 3
    with pytest.raises(MeridianError):
        case.wait(other.get(k(2), Lock.EXCLUSIVE, Wait.NOWAIT))
    case.wait(other.rollback())
    case.wait(txn.commit())
    case.idle()
