"""Both engines keep one contract: random tapes against a plain dict model, then the faults."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.errors import Overloaded, StorageFailure
from base.seams import CF_DATA, CF_LOCAL, CF_LOCK, CF_RAFT, EngineIterator, Rng
from kvtier.engine import MemoryEngine, OpBatch, RocksEngine, StoreEngine
from kvtier.engine.batch import RANGE_TOMBSTONE_PREFIX
from kvtier.engine.keylist import KeyList

Model = dict[tuple[int, bytes], bytes]


class SeededRng(Rng):
    """Randomness of a test, from its seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)

    def below(self, n: int) -> int:
        return self._random.randrange(n)

    def random(self) -> float:
        return self._random.random()


@pytest.fixture(params=["memory", "rocks"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreEngine]:
    made: StoreEngine = MemoryEngine() if request.param == "memory" else RocksEngine(str(tmp_path / "store"), 8 << 20)
    yield made
    made.close()


def put(engine: StoreEngine, cf: int, **pairs: str) -> None:
    batch = engine.batch()
    for key, value in pairs.items():
        batch.put(cf, key.encode(), value.encode())
    engine.write(batch)


def forward(iterator: EngineIterator, key: bytes = b"") -> list[tuple[bytes, bytes]]:
    rows = []
    iterator.seek(key)
    while iterator.valid():
        rows.append((iterator.key(), iterator.value()))
        iterator.next()
    iterator.check()
    return rows


def backward(iterator: EngineIterator, key: bytes) -> list[tuple[bytes, bytes]]:
    rows = []
    iterator.seek_for_prev(key)
    while iterator.valid():
        rows.append((iterator.key(), iterator.value()))
        iterator.prev()
    iterator.check()
    return rows


# --- golden cases --------------------------------------------------------------


def test_a_batch_is_visible_at_once_in_all_families(engine: StoreEngine) -> None:
    batch = engine.batch()
    for cf in (CF_DATA, CF_LOCK, CF_RAFT, CF_LOCAL):
        batch.put(cf, b"k", b"%d" % cf)
    batch.put(CF_DATA, b"k", b"last wins")
    batch.put(CF_DATA, b"empty", b"")
    assert len(batch) == 6
    engine.write(batch)
    assert [engine.get(cf, b"k") for cf in range(4)] == [b"last wins", b"1", b"2", b"3"]
    assert engine.get(CF_DATA, b"empty") == b""
    assert engine.get(CF_LOCK, b"empty") is None
    assert engine.write_seq() == 1
    assert engine.synced_seq() == 0
    engine.sync()
    assert engine.synced_seq() == 1


def test_a_disk_that_is_opened_again_has_what_was_durable(engine: StoreEngine, tmp_path: Path) -> None:
    assert engine.durable() == 0, "before the first sync nothing is known for certain"
    put(engine, CF_DATA, a="1", b="2")
    engine.sync()
    durable = engine.durable()
    assert durable > engine.opened_at()
    put(engine, CF_DATA, c="3")
    assert engine.durable() == durable
    engine.close()
    again = engine.reopen() if isinstance(engine, MemoryEngine) else RocksEngine(str(tmp_path / "store"), 8 << 20)
    assert again.opened_at() > durable
    again.close()


def test_bounds_hold_in_both_directions(engine: StoreEngine) -> None:
    put(engine, CF_DATA, a="1", b="2", c="3", d="4")
    inner = engine.iterator(CF_DATA, b"b", b"d")
    assert [key for key, _ in forward(inner)] == [b"b", b"c"]
    assert [key for key, _ in backward(inner, b"zz")] == [b"c", b"b"]
    assert [key for key, _ in backward(inner, b"b")] == [b"b"]
    assert backward(inner, b"a") == []
    assert forward(inner, b"d") == []
    inner.close()


def test_an_iterator_shows_the_moment_it_was_made(engine: StoreEngine) -> None:
    put(engine, CF_DATA, a="1", b="2", c="3")
    before = engine.iterator(CF_DATA)
    batch = engine.batch()
    batch.put(CF_DATA, b"a", b"new")
    batch.delete(CF_DATA, b"b")
    batch.put(CF_DATA, b"bb", b"new")
    engine.write(batch)
    assert forward(before) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
    assert backward(before, b"z") == [(b"c", b"3"), (b"b", b"2"), (b"a", b"1")]
    after = engine.iterator(CF_DATA)
    assert forward(after) == [(b"a", b"new"), (b"bb", b"new"), (b"c", b"3")]
    assert engine.stats()["open_iterators"] == 2
    before.close()
    after.close()
    assert engine.stats()["open_iterators"] == 0


def test_the_shared_cursor_follows_writes(engine: StoreEngine) -> None:
    put(engine, CF_DATA, a="1")
    cursor = engine.point_iterator(CF_DATA)
    assert engine.point_iterator(CF_DATA) is cursor
    cursor.seek(b"a")
    assert (cursor.key(), cursor.value()) == (b"a", b"1")
    cursor.next()
    assert cursor.key() is None
    cursor.status()
    put(engine, CF_RAFT, log="entry")
    assert engine.point_iterator(CF_DATA) is cursor, "another family's write leaves it"
    put(engine, CF_DATA, a="2", b="3")
    fresh = engine.point_iterator(CF_DATA)
    fresh.seek_to_last()
    assert (fresh.key(), fresh.value()) == (b"b", b"3")
    fresh.prev()
    assert (fresh.key(), fresh.value()) == (b"a", b"2")
    fresh.seek_for_prev(b"az")
    assert fresh.key() == b"a"


def test_delete_range_covers_what_its_own_batch_wrote_before(engine: StoreEngine) -> None:
    put(engine, CF_DATA, b="old")
    batch = engine.batch()
    batch.put(CF_DATA, b"c", b"early")
    batch.delete_range(CF_DATA, b"b", b"d")
    batch.put(CF_DATA, b"cc", b"late")
    batch.delete_range(CF_DATA, b"z", b"a")
    engine.write(batch)
    assert forward(engine.iterator(CF_DATA)) == [(b"cc", b"late")]


def test_a_large_delete_range_is_one_operation(engine: StoreEngine) -> None:
    put(engine, CF_DATA, **{f"k{i:04}": "v" for i in range(500)})
    batch = engine.batch()
    batch.delete_range(CF_DATA, b"k0010", b"k0490")
    engine.write(batch)
    assert len(forward(engine.iterator(CF_DATA))) == 20
    engine.compact()
    engine.compact_span(CF_DATA, b"k", b"l")
    assert len(backward(engine.iterator(CF_DATA), b"z")) == 20


def test_a_rejected_batch_can_be_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = MemoryEngine()
    batch = engine.batch()
    batch.put(CF_DATA, b"k", b"v")
    engine.faults.write_stalls = True
    with pytest.raises(Overloaded):
        engine.write(batch)
    assert engine.get(CF_DATA, b"k") is None
    assert engine.write_seq() == 0
    engine.faults.write_stalls = False
    engine.write(batch)
    assert engine.get(CF_DATA, b"k") == b"v"


def test_a_batch_travels_as_bytes() -> None:
    batch = OpBatch()
    batch.put(CF_DATA, b"k", b"v")
    batch.delete(CF_LOCK, b"k")
    batch.delete_range(CF_RAFT, b"a", b"b")
    copy = OpBatch.decode(batch.encode())
    assert copy.ops == batch.ops
    assert not copy.touches_tombstones
    copy.delete(CF_LOCAL, RANGE_TOMBSTONE_PREFIX + b"x")
    assert OpBatch.decode(copy.encode()).touches_tombstones
    whole = OpBatch()
    whole.delete_range(CF_LOCAL, b"a", b"z")
    assert OpBatch.decode(whole.encode()).touches_tombstones


# --- random tapes against the model ----------------------------------------------

keys = st.binary(min_size=1, max_size=3).map(lambda raw: bytes(byte % 4 + 97 for byte in raw))
families = st.integers(0, 3)
values = st.binary(max_size=3)
operation = st.one_of(
    st.tuples(st.just("put"), families, keys, values),
    st.tuples(st.just("delete"), families, keys, st.just(b"")),
    st.tuples(st.just("range"), families, keys, keys),
)
step = st.one_of(
    st.tuples(st.just("write"), st.lists(operation, max_size=6)),
    st.tuples(st.just("sync")),
    st.tuples(st.just("open"), families, keys, st.none() | keys),
    st.tuples(st.just("look"), keys),
    st.tuples(st.just("close")),
    st.tuples(st.just("reopen")),
)


def apply_to_model(model: Model, operations: list[tuple[str, int, bytes, bytes]]) -> None:
    for kind, cf, key, value in operations:
        if kind == "put":
            model[cf, key] = value
        elif kind == "delete":
            model.pop((cf, key), None)
        else:
            for gone in [at for at in model if at[0] == cf and key <= at[1] < value]:
                del model[gone]


def as_batch(engine: StoreEngine, operations: list[tuple[str, int, bytes, bytes]]) -> OpBatch:
    batch = engine.batch()
    for kind, cf, key, value in operations:
        if kind == "put":
            batch.put(cf, key, value)
        elif kind == "delete":
            batch.delete(cf, key)
        else:
            batch.delete_range(cf, key, value)
    return batch


def rows_of(model: Model, cf: int, lower: bytes = b"", upper: bytes | None = None) -> list[tuple[bytes, bytes]]:
    return sorted(
        (key, value)
        for (at, key), value in model.items()
        if at == cf and key >= lower and (upper is None or key < upper)
    )


def assert_iterator_shows(iterator: EngineIterator, rows: list[tuple[bytes, bytes]], key: bytes) -> None:
    assert forward(iterator) == rows
    assert forward(iterator, key) == [row for row in rows if row[0] >= key]
    assert backward(iterator, b"\xff") == rows[::-1]
    assert backward(iterator, key) == [row for row in rows if row[0] <= key][::-1]
    iterator.seek(key)
    if iterator.valid():
        here = iterator.key()
        iterator.prev()
        earlier = [row for row in rows if row[0] < here]
        assert (iterator.key() if iterator.valid() else None) == (earlier[-1][0] if earlier else None)


def run_tape(engine: StoreEngine, tape: list[tuple], reopen: Callable[[StoreEngine], StoreEngine]) -> StoreEngine:  # type: ignore[type-arg]  # heterogeneous steps
    model: Model = {}
    opened: list[tuple[EngineIterator, list[tuple[bytes, bytes]]]] = []
    for action in tape:
        if action[0] == "write":
            apply_to_model(model, action[1])
            engine.write(as_batch(engine, action[1]))
        elif action[0] == "sync":
            engine.sync()
        elif action[0] == "open":
            _, cf, lower, upper = action
            opened.append((engine.iterator(cf, lower, upper), rows_of(model, cf, lower, upper)))
        elif action[0] == "look":
            for iterator, rows in opened:
                assert_iterator_shows(iterator, rows, action[1])
            for cf in range(4):
                assert engine.get(cf, action[1]) == model.get((cf, action[1]))
                cursor = engine.point_iterator(cf)
                cursor.seek(action[1])
                rows = [row for row in rows_of(model, cf) if row[0] >= action[1]]
                assert (cursor.key(), cursor.value()) == (rows[0] if rows else (None, None))
                del cursor  # A native cursor somebody holds keeps the files open after close.
        elif action[0] == "close" and opened:
            opened.pop(0)[0].close()
        elif action[0] == "reopen":
            opened.clear()
            engine.close()
            engine = reopen(engine)
    for iterator, rows in opened:
        assert_iterator_shows(iterator, rows, b"b")
    for cf in range(4):
        assert forward(engine.iterator(cf)) == rows_of(model, cf)
    return engine


@settings(max_examples=150, deadline=None)
@given(st.lists(step, max_size=25))
def test_memory_keeps_the_contract(tape: list[tuple]) -> None:  # type: ignore[type-arg]  # heterogeneous steps
    def reopen(closed: StoreEngine) -> StoreEngine:
        assert isinstance(closed, MemoryEngine)
        return closed.reopen()

    run_tape(MemoryEngine(), tape, reopen).close()


@settings(max_examples=12, deadline=None)
@given(st.lists(step, max_size=25))
def test_rocks_keeps_the_contract(tape: list[tuple]) -> None:  # type: ignore[type-arg]  # heterogeneous steps
    directory = tempfile.mkdtemp()
    try:
        run_tape(RocksEngine(directory, 1 << 20), tape, lambda closed: RocksEngine(directory, 1 << 20)).close()
    finally:
        shutil.rmtree(directory)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["write", "sync"]), st.lists(operation, max_size=4)), max_size=12),
    st.integers(0, 99),
)
def test_a_crash_keeps_the_synced_and_a_prefix(
    tape: list[tuple[str, list[tuple[str, int, bytes, bytes]]]], seed: int
) -> None:
    engine = MemoryEngine()
    states: list[Model] = [{}]
    synced = 0
    for action, operations in tape:
        if action == "sync":
            engine.sync()
            synced = len(states) - 1
            continue
        engine.write(as_batch(engine, operations))
        states.append(dict(states[-1]))
        apply_to_model(states[-1], operations)
    fresh = engine.crash(SeededRng(seed))
    found = {(cf, key): value for cf in range(4) for key, value in forward(fresh.iterator(cf))}
    assert found in states[synced:]
    with pytest.raises(StorageFailure, match="power was cut"):
        engine.get(CF_DATA, b"a")


def test_every_length_of_prefix_survives_some_crash() -> None:
    lengths = set()
    for seed in range(40):
        engine = MemoryEngine()
        for number in range(4):
            put(engine, CF_RAFT, **{f"k{number}": "v"})
            if number == 0:
                engine.sync()
        lengths.add(len(forward(engine.crash(SeededRng(seed)).iterator(CF_RAFT))))
    assert lengths == {1, 2, 3, 4}


# --- failures ------------------------------------------------------------------------


def assert_poisoned(engine: StoreEngine, iterator: EngineIterator) -> None:
    batch = engine.batch()
    batch.put(CF_DATA, b"x", b"y")
    calls: list[Callable[[], object]] = [
        lambda: engine.write(batch),
        engine.sync,
        lambda: engine.get(CF_DATA, b"a"),
        lambda: engine.iterator(CF_DATA),
        lambda: engine.point_iterator(CF_DATA),
        engine.stats,
        engine.compact,
        lambda: iterator.seek(b"a"),
        iterator.check,
    ]
    for call in calls:
        with pytest.raises(StorageFailure):
            call()


@pytest.mark.parametrize("fault", ["sync_fails", "disk_full"])
def test_a_failed_write_or_sync_poisons_the_memory_engine(fault: str) -> None:
    engine = MemoryEngine()
    put(engine, CF_DATA, a="1")
    iterator = engine.iterator(CF_DATA)
    engine.point_iterator(CF_DATA)
    setattr(engine.faults, fault, True)
    with pytest.raises(StorageFailure):
        engine.sync()
    setattr(engine.faults, fault, False)
    assert_poisoned(engine, iterator)


class FailingDatabase:
    """A database whose disk fails with a given text, for what cannot be provoked cheaply."""

    def __init__(self, database: object, text: str) -> None:
        self._database = database
        self._text = text

    def write(self, batch: object, options: object) -> None:
        raise Exception(self._text)

    def flush_wal(self, sync: bool) -> None:
        raise Exception(self._text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)


def test_a_failed_sync_poisons_rocks(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "store"), 1 << 20)
    put(engine, CF_DATA, a="1")
    iterator = engine.iterator(CF_DATA)
    engine.point_iterator(CF_DATA)
    engine._database = FailingDatabase(engine._database, "IO error: Input/output error")
    with pytest.raises(StorageFailure, match="Input/output error"):
        engine.sync()
    assert_poisoned(engine, iterator)
    engine.close()


def test_a_stalled_write_changes_nothing_in_rocks(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "store"), 1 << 20)
    batch = engine.batch()
    batch.put(CF_DATA, b"k", b"v")
    database = engine._database
    engine._database = FailingDatabase(database, "Result incomplete: Write stall")
    with pytest.raises(Overloaded):
        engine.write(batch)
    engine._database = database
    assert engine.write_seq() == 0
    engine.write(batch)
    assert engine.get(CF_DATA, b"k") == b"v"
    engine.close()


def test_a_directory_in_use_is_refused_by_name(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    engine = RocksEngine(path, 1 << 20)
    with pytest.raises(StorageFailure, match=r"store directory .*store is in use by another process"):
        RocksEngine(path, 1 << 20)
    engine.close()
    engine.close()
    RocksEngine(path, 1 << 20).close()


def test_a_closed_engine_opens_again_though_iterators_were_left(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    engine = RocksEngine(path, 1 << 20)
    put(engine, CF_DATA, a="1")
    left = engine.iterator(CF_DATA, b"a", b"b")
    cursor = engine.point_iterator(CF_DATA)
    del cursor
    engine.close()
    with pytest.raises(StorageFailure, match="closed"):
        left.seek(b"a")
    again = RocksEngine(path, 1 << 20)
    assert again.get(CF_DATA, b"a") == b"1"
    again.close()


def test_a_corrupt_log_is_refused_not_shortened(tmp_path: Path) -> None:
    """Reliability 110: the default recovery would open with half of the acknowledged keys."""
    path = tmp_path / "store"
    engine = RocksEngine(str(path), 1 << 20)
    for number in range(2000):
        put(engine, CF_RAFT, **{f"k{number:05}": "v" * 50})
    engine.sync()
    engine.mark_synced()
    copy = tmp_path / "copy"
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("LOCK"))
    engine.close()
    log = max(copy.glob("*.log"), key=lambda file: file.stat().st_size)
    damaged = bytearray(log.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    log.write_bytes(damaged)
    with pytest.raises(StorageFailure, match="could not open store directory"):
        RocksEngine(str(copy), 1 << 20)


def test_syncing_in_a_thread_while_the_loop_writes(tmp_path: Path) -> None:
    """What group commit does; everything written before a sync began is covered by it."""
    engine = RocksEngine(str(tmp_path / "store"), 1 << 20)
    covered: list[tuple[int, int]] = []

    def sync_often() -> None:
        for _ in range(20):
            before = engine.write_seq()
            engine.sync()
            covered.append((before, engine.synced_seq()))

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(sync_often)
        number = 0
        while not running.done():
            put(engine, CF_DATA, **{f"k{number}": "v"})
            number += 1
        running.result()
    assert all(before <= synced for before, synced in covered)
    assert engine.write_seq() == number
    engine.close()


WRITER = """
import sys
from base.seams import CF_DATA
from kvtier.engine import RocksEngine
engine = RocksEngine(sys.argv[1], 1 << 20)
number = 0
while True:
    batch = engine.batch()
    for part in (0, 1, 2):
        batch.put(part, b"%08d" % number, b"v")
    engine.write(batch)
    engine.sync()
    sys.stdout.write("%d\\n" % number)
    sys.stdout.flush()
    number += 1
"""


def test_acknowledged_writes_survive_kill(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = -1
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged >= 50:
                process.kill()
                break
        acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
    engine = RocksEngine(path, 1 << 20)
    for part in (0, 1, 2):
        found = forward(engine.iterator(part))
        assert len(found) >= acknowledged + 1
        assert [int(key) for key, _ in found] == list(range(len(found)))
    engine.close()


# --- the sorted key list ---------------------------------------------------------------


def test_key_list_agrees_with_a_sorted_list() -> None:
    chance = random.Random(7)
    listed = KeyList()
    model: set[bytes] = set()
    for _ in range(6000):
        key = chance.randbytes(2)
        if key in model:
            model.remove(key)
            listed.remove(key)
        elif chance.random() < 0.8:
            model.add(key)
            listed.add(key)
    listed.check()
    ordered = sorted(model)
    assert listed.between(b"", b"\xff\xff\xff") == ordered
    for _ in range(300):
        key = chance.randbytes(2)
        above, below = listed.first_at_or_above(key), listed.last_at_or_below(key)
        at_or_above = [one for one in ordered if one >= key]
        at_or_below = [one for one in ordered if one <= key]
        assert (listed.blocks[above[0]][above[1]] if above else None) == (at_or_above[0] if at_or_above else None)
        assert (listed.blocks[below[0]][below[1]] if below else None) == (at_or_below[-1] if at_or_below else None)
    for key in ordered:
        listed.remove(key)
    assert listed.last() is None
    listed.check()
