"""Random workloads of eight clients on the deterministic loop, with checkers.

Each seed is one interleaving of everything: steps, lock grants, range delays.
"""

from __future__ import annotations

import pytest

from base.errors import AmbiguousResult, MeridianError, Retryable
from kvtier.messages import EndTxn, Isolation, Lock
from tests.txn.cycles import Anomaly, Entry, Op, check
from tests.txn.stories import RC, RR, SER, World, get, scan, update, value_of
from txn.settings import TxnSettings

pytestmark = pytest.mark.usefixtures("each_store")

CLIENTS = 8
LISTS = ["a", "b", "n", "o"]

WORLDS = {
    "one-phase": {},
    "intents": {"settings": TxnSettings(force_intents=True)},
    "ranges": {"max_offset_us": 1_000, "boundaries": (b"m",), "settings": TxnSettings(heartbeat_seconds=0.5)},
}
every_world = pytest.mark.parametrize("world", WORLDS)


def make_world(name: str, seed: int) -> World:
    if name == "ranges" and World.kind != "model":
        pytest.skip("several nodes exist only in the model")
    return World(seed, True, sync_seconds=0.001, **WORLDS[name])


async def run_clients(world: World, client) -> None:
    for task in [world.scope.spawn(client(number), f"client{number}") for number in range(CLIENTS)]:
        await task


async def read_list(txn, key: str, lock: Lock) -> list[int]:
    value = await value_of(txn.get(key.encode(), lock))
    return [int(item) for item in value.split(b",")] if value else []


async def run_ops(world: World, txn, rng, entry: Entry, numbers: list[int]) -> None:
    """Two to five operations on few keys; appends sometimes read without a lock first."""
    for _ in range(2 + rng.below(4)):
        key = LISTS[rng.below(len(LISTS))]
        if rng.below(2):
            entry.ops.append(Op("read", key, await read_list(txn, key, Lock(2 * (rng.below(4) == 0)))))
        else:
            lock = Lock.EXCLUSIVE if rng.below(2) else Lock.NONE
            items = await read_list(txn, key, lock)
            numbers.append(len(numbers))
            txn.put(key.encode(), b",".join([b"%d" % item for item in [*items, numbers[-1]]]))
            entry.ops += [Op("read", key, items), Op("append", key, numbers[-1])]
        if rng.below(3) == 0:
            await world.scope.clock.sleep(rng.below(3) / 1000)
        if rng.below(12) == 0:
            await value_of(txn.flush())


async def append_client(
    world: World, history: list[Entry], numbers: list[int], count: int, level: Isolation, client: int
) -> None:
    rng = world.loop.rng
    for attempt in range(count):
        txn = world.begin(level)
        entry = Entry(f"client{client}-{attempt}", world.loop.now_ns, 0)
        while True:
            entry.ops.clear()
            try:
                await run_ops(world, txn, rng, entry, numbers)
                await value_of(txn.commit())
                entry.ended = world.loop.now_ns
                history.append(entry)
                break
            except Retryable as error:
                if not await value_of(txn.restart(error)):
                    await value_of(txn.rollback())
                    break


def append_run(name: str, seed: int, level: Isolation = SER, count: int = 8) -> tuple[World, dict[str, int]]:
    world, history, numbers = make_world(name, seed), [], []
    world.run(run_clients(world, lambda client: append_client(world, history, numbers, count, level, client)))
    world.loop.run_for(30)
    world.kv.check_idle()
    final = {key.decode(): [int(item) for item in value.split(b",")] for key, value in world.kv.newest().items()}
    assert len(history) >= CLIENTS * count * 0.7
    return world, check(history, final, realtime=name != "ranges")


@every_world
@pytest.mark.parametrize("seed", range(4))
def test_list_append_is_serializable(world, seed):
    """No cycle of dependencies (and, with one clock, none with real time either)."""
    _, counts = append_run(world, seed)
    assert counts["ww"] > 50
    assert counts["wr"] > 50
    assert counts["rw"] > 50


@pytest.mark.slow
@every_world
@pytest.mark.parametrize("seed", range(100, 140))
def test_list_append_long(world, seed):
    append_run(world, seed, count=12)


def test_the_checker_finds_what_weaker_levels_allow():
    """The harness has teeth: snapshot isolation shows write skew, READ COMMITTED loses updates."""
    found = {RR: 0, RC: 0}
    for level in (RR, RC):
        for seed in range(12):
            try:
                append_run("one-phase", seed, level)
            except Anomaly:
                found[level] += 1
    assert found[RR] > 0
    assert found[RC] > 0


def test_one_seed_one_run():
    """The same seed gives the same run, step for step (reliability 149)."""
    one, other = append_run("ranges", 1, count=4)[0], append_run("ranges", 1, count=4)[0]
    assert (one.loop.digest, one.loop.steps) == (other.loop.digest, other.loop.steps)
    assert one.loop.digest != append_run("ranges", 2, count=4)[0].loop.digest


ACCOUNTS = ["a1", "b2", "n3", "o4", "z5"]


async def bank_client(world: World, level: Isolation, reads: list[int], count: int) -> None:
    """Transfers between locked accounts; every third transaction adds up all of them."""
    rng = world.loop.rng
    for _ in range(count):
        txn = world.begin(level)
        while True:
            try:
                txn.begin_statement()
                if rng.below(3) == 0:
                    rows = await scan(txn, "a", "zz")
                    await value_of(txn.commit())
                    reads.append(sum([value for _, value in rows]))
                    break
                source, target = rng.below(5), rng.below(5)
                await update(txn, ACCOUNTS[source], lambda value: value - 7)
                txn.begin_statement()
                await update(txn, ACCOUNTS[target], lambda value: value + 7)
                await value_of(txn.commit())
                break
            except Retryable as error:
                if not await value_of(txn.restart(error)):
                    await value_of(txn.rollback())
                    break


@every_world
@pytest.mark.parametrize("level", [RC, RR, SER], ids=["rc", "rr", "ser"])
@pytest.mark.parametrize("seed", range(2))
def test_bank(world, level, seed):
    """No money appears or vanishes, in any read of all accounts, at every level that reads one snapshot a statement."""
    bank, reads = make_world(world, seed), []
    bank.kv.load(**dict.fromkeys(ACCOUNTS, 100))
    bank.loop.run_for(0.01)
    bank.run(run_clients(bank, lambda _: bank_client(bank, level, reads, 8)))
    bank.loop.run_for(30)
    bank.kv.check_idle()
    assert sum([int(value) for value in bank.kv.newest().values()]) == 500
    assert reads
    assert set(reads) == {500}


@every_world
@pytest.mark.parametrize("seed", range(3))
def test_inserts_under_a_counted_predicate(world, seed):
    """Predicate write skew: at most four rows of a kind, checked by a scan before each insert."""
    rows = make_world(world, seed)

    async def client(number: int) -> None:
        for attempt in range(3):
            txn = rows.begin()
            while True:
                try:
                    if len(await scan(txn, "a", "zz")) >= 4:
                        await value_of(txn.rollback())
                        break
                    await rows.scope.clock.sleep(0.001)
                    key = "n" if number % 2 else "a"
                    txn.put(f"{key}{number}{attempt}".encode(), b"1")
                    await value_of(txn.commit())
                    break
                except Retryable as error:
                    if not await value_of(txn.restart(error)):
                        await value_of(txn.rollback())
                        break

    rows.run(run_clients(rows, client))
    rows.loop.run_for(30)
    rows.kv.check_idle()
    assert len(rows.kv.newest()) == 4


@every_world
@pytest.mark.parametrize("seed", range(2))
def test_lost_answers_apply_once_or_not_at_all(world, seed):
    """Every fifth commit's answer is lost: by its name each client learns what happened and counts right (reliability 6-8)."""
    lossy = make_world(world, seed)
    lossy.kv.load(a=0, n=0)
    lossy.loop.run_for(0.01)
    counted = []

    def lose(batch, before):
        is_commit = isinstance(batch.ops[-1], EndTxn) and batch.ops[-1].commit and len(batch.ops) > 2
        if is_commit and batch.txn.priority < 9 and lossy.loop.rng.below(10) == 0:
            return AmbiguousResult("connection lost")
        return None

    async def transfer(name: str) -> bool:
        while True:
            txn = lossy.begin()
            txn.set_commit_key(name)
            try:
                await update(txn, "a", lambda value: value + 1)
                await update(txn, "n", lambda value: value + 1)
                await value_of(txn.commit())
                return True
            except AmbiguousResult:
                await value_of(txn.rollback())
                await lossy.scope.clock.sleep(0.01)
                return await lossy.coordinator.outcome(name) == "committed"
            except MeridianError:
                await value_of(txn.rollback())
                await lossy.scope.clock.sleep(lossy.loop.rng.random() / 100)

    async def client(number: int) -> None:
        for attempt in range(5):
            if lossy.loop.rng.below(3) == 0 and world == "one-phase":
                lossy.kv.fail_next.append(lose)
            if await transfer(f"client{number}-{attempt}"):
                counted.append((number, attempt))

    lossy.run(run_clients(lossy, client))
    lossy.loop.run_for(30)
    lossy.kv.check_idle()
    newest = lossy.kv.newest()
    assert (int(newest[b"a"]), int(newest[b"n"])) == (len(counted), len(counted))
    assert len(counted) <= CLIENTS * 5


@every_world
def test_long_fork_readers(world):
    """Independent writers, readers of all keys: their snapshots form one order (reliability 45)."""
    fork = make_world(world, 5)
    keys = ["a", "b", "n", "o"]
    fork.kv.load(**dict.fromkeys(keys, 0))
    fork.loop.run_for(0.01)
    seen = []

    async def client(number: int) -> None:
        for step in range(6):
            txn = fork.begin()
            while True:
                try:
                    if number < 4:
                        await update(txn, keys[number], lambda value: value + 1)
                        await value_of(txn.commit())
                    else:
                        order = keys if (number + step) % 2 else keys[::-1]
                        values = {key: await get(txn, key) for key in order}
                        await value_of(txn.commit())
                        seen.append(tuple([values[key] for key in keys]))
                    break
                except Retryable as error:
                    assert await value_of(txn.restart(error))
            await fork.scope.clock.sleep(fork.loop.rng.below(3) / 1000)

    fork.run(run_clients(fork, client))
    for one in seen:
        for other in seen:
            is_before = all(x <= y for x, y in zip(one, other))
            assert is_before or all(x >= y for x, y in zip(one, other)), (one, other)
