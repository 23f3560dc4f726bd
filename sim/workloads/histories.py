"""Workloads whose histories the checkers of ``sim.checkers`` judge: lists, registers, sets, long fork, G2."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from kvtier.messages import Isolation, Lock
from sim.checkers import list_append, long_fork, predicates, register, sets
from sim.workloads.base import MODELS, Client, Work, Workload

KEYS_ACTIVE: Final = 5
"""Lists that are written at a time; then new ones, so that lists stay short."""
APPENDS_PER_GENERATION: Final = 60
Micro = list[Any]
"""[f, key, value]."""


class ListAppend(Workload):
    """Transactions of appends and reads of whole lists (Elle)."""

    name = "list-append"
    isolations: ClassVar[tuple[str, ...]] = ("serializable", "repeatable read", "read committed")

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.appended = 0

    def split_keys(self) -> list[bytes]:
        return [b"list/%05d" % number for number in range(40)]

    def draw(self, client: Client) -> list[Micro]:
        """Draws the operations of one transaction."""
        rng = client.rng
        first = self.appended // APPENDS_PER_GENERATION
        ops: list[Micro] = []
        for _ in range(1 + rng.below(5)):
            key = first + rng.below(KEYS_ACTIVE)
            if rng.chance(0.5):
                ops.append(["r", key, None])
            else:
                self.appended += 1
                ops.append(["append", key, self.appended])
        return ops

    async def operate(self, client: Client) -> None:
        ops = self.draw(client)
        level = self.level_of(client)
        style = client.rng.below(4)
        has_savepoints = client.rng.chance(0.3)

        async def body(work: Work) -> list[Micro]:
            return await run_micros(work, ops, style, has_savepoints)

        await client.transact("txn", ops, body, level)

    async def finish(self) -> None:
        last = self.appended // APPENDS_PER_GENERATION + KEYS_ACTIVE
        client = Client(self.world, self.world.plan.clients)
        ops: list[Micro] = [["r", key, None] for key in range(last + 1)]

        async def body(work: Work) -> list[Micro]:
            return await run_micros(work, ops, 0, False)

        await client.transact("txn", ops, body)

    def check(self) -> None:
        self.judge(list_append.check(self.world.history.history, MODELS[self.world.plan.isolation]))


def list_key(number: int) -> bytes:
    """Returns the key of a list."""
    return b"list/%05d" % number


def into_list(value: bytes | None) -> list[int]:
    """Returns the elements a value holds."""
    return [int(item) for item in value.split(b",")] if value else []


async def run_micros(work: Work, ops: list[Micro], style: int, has_savepoints: bool) -> list[Micro]:
    """Runs appends and reads, each a statement; ``style`` says how an append reads.

    0, 1  with a lock, as UPDATE does          2  first without, as SELECT, then UPDATE
    3     reads are scans of one row
    """
    done: list[Micro] = []
    for f, key, element in ops:
        if has_savepoints and work.rng.chance(0.5):
            await _spoil(work, list_key(key))
        await work.pause()
        if f == "r":
            items = await work.statement(lambda key=key: _read(work, list_key(key), style))  # type: ignore[misc]  # bound
            done.append([f, key, items])
        else:
            if style == 2:
                await work.statement(lambda key=key: _read(work, list_key(key), style))  # type: ignore[misc]  # bound
            await work.statement(lambda key=key, element=element: _append(work, list_key(key), element))  # type: ignore[misc]  # bound
            done.append([f, key, element])
    return done


async def _read(work: Work, key: bytes, style: int) -> list[int]:
    if style == 3:
        rows = await work.scan(key, key + b"\xff", reverse=work.rng.chance(0.5))
        return into_list(rows[0][1]) if rows else []
    return into_list(await work.get(key))


async def _append(work: Work, key: bytes, element: int) -> None:
    items = into_list(await work.get(key, Lock.EXCLUSIVE))
    work.put(key, b",".join([b"%d" % item for item in [*items, element]]))


async def _spoil(work: Work, key: bytes) -> None:
    """Writes what must never be seen, and rolls it back; sometimes after it was flushed."""
    work.txn.begin_statement()
    token = work.txn.savepoint()
    if work.rng.chance(0.3):
        work.delete(key)
    else:
        work.put(key, b"999999999")
    await work.flush_if_full()
    work.txn.rollback_to(token)


class Registers(Workload):
    """Transactions of reads and blind or read-before writes of registers."""

    name = "registers"
    isolations: ClassVar[tuple[str, ...]] = ("serializable", "repeatable read")

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.written = 0

    def split_keys(self) -> list[bytes]:
        return [b"reg/%02d" % number for number in range(12)]

    async def operate(self, client: Client) -> None:
        rng = client.rng
        if rng.chance(0.1):
            await client.spy([b"reg/%02d" % rng.below(8) for _ in range(3)])
            return
        ops: list[Micro] = []
        for _ in range(1 + rng.below(4)):
            key = rng.below(8) if rng.chance(0.8) else rng.below(3)
            if rng.chance(0.5):
                ops.append(["r", key, None])
            else:
                self.written += 1
                ops.append(["w", key, self.written])
        batched = rng.chance(0.3)

        async def body(work: Work) -> list[Micro]:
            return await self._run(work, ops, batched)

        await client.transact("txn", ops, body, self.level_of(client))

    async def _run(self, work: Work, ops: list[Micro], batched: bool) -> list[Micro]:
        done: list[Micro] = []
        if batched:
            keys = list(dict.fromkeys([b"reg/%02d" % key for _, key, _ in ops]))
            values = dict(zip(keys, await work.get_many(keys)))
        for f, key, value in ops:
            name = b"reg/%02d" % key
            if f == "w":
                # As UPDATE does: nobody writes a row without locking it.
                await work.get(name, Lock.EXCLUSIVE)
                work.put(name, b"%d" % value)
                done.append([f, key, value])
            else:
                found = values[name] if batched and name not in work.written else await work.get(name)
                done.append([f, key, None if found is None else int(found)])
            await work.pause()
            await work.flush_if_full()
        return done

    def check(self) -> None:
        model = MODELS[self.world.plan.isolation]
        self.judge(register.check(self.world.history.history, model, initial_values_known=True))


class Sets(Workload):
    """Every client inserts rows of its own; reads are scans of all, whole or in pages, now or AS OF."""

    name = "set"
    isolations: ClassVar[tuple[str, ...]] = ("serializable", "repeatable read", "read committed")

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.added = 0

    def split_keys(self) -> list[bytes]:
        return [b"set/%06d" % number for number in range(0, 2000, 7)]

    async def operate(self, client: Client) -> None:
        rng = client.rng
        if rng.chance(0.85):
            self.added += 1
            element = self.added
            # Neighbours in time are not neighbours in the key space.
            key = b"set/%06d" % (element * 7919 % 2000 * 1000 % 999_983)
            is_late = rng.chance(0.3)
            mark = b"mark/%02d" % rng.below(4)

            async def add(work: Work) -> None:
                if is_late:
                    # Its timestamp is that of this read; by the time it writes, blindly, others have scanned.
                    await work.get(mark)
                    await work.pause()
                    work.put(key + b"/%06d" % element, b"%d" % element)
                elif await work.get(key + b"/%06d" % element, Lock.EXCLUSIVE) is None:
                    work.put(key + b"/%06d" % element, b"%d" % element)

            await client.transact("add", element, add, self.level_of(client))
            return
        await self._read(client, rng.pick((0, 0, 1, 5, 50)), rng.chance(0.5), rng.chance(0.5))

    async def _read(self, client: Client, page: int, reverse: bool, single: bool) -> None:
        marks = not single and client.rng.chance(0.3)

        async def read(work: Work) -> list[int]:
            rows = await work.scan(b"set/", b"set0", page=page, reverse=reverse)
            if marks:
                # The mark was read by others, so the commit moves and the scan is refreshed.
                work.put(b"mark/%02d" % (client.number % 4), b"%d" % len(rows))
                await work.pause()
            return sorted([int(value) for _, value in rows])

        level = Isolation.SERIALIZABLE if page else self.level_of(client)
        await client.transact("read", None, read, level, single_statement=single and not page)

    async def finish(self) -> None:
        await self._read(Client(self.world, self.world.plan.clients), 0, False, False)

    def check(self) -> None:
        self.judge(sets.check_full(self.world.history.history, linearizable=True))
        self.judge(sets.check(self.world.history.history))


class LongFork(Workload):
    """Keys written once each; readers read groups of them."""

    name = "long-fork"
    isolations: ClassVar[tuple[str, ...]] = ("serializable", "repeatable read")
    GROUP: ClassVar[int] = 3

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.keys = 0

    def split_keys(self) -> list[bytes]:
        return [b"fork/%06d" % number for number in range(60)]

    async def operate(self, client: Client) -> None:
        rng = client.rng
        if rng.chance(0.4):
            self.keys += 1
            key = self.keys

            async def write(work: Work) -> None:
                work.put(b"fork/%06d" % key, b"1")

            await client.transact("txn", [["w", key, 1]], write)
            return
        group = max(self.keys // self.GROUP - rng.below(2), 0) * self.GROUP
        keys = [group + 1 + number for number in range(self.GROUP)]

        async def read(work: Work) -> list[Micro]:
            done: list[Micro] = []
            for key in keys:
                value = await work.get(b"fork/%06d" % key)
                done.append(["r", key, None if value is None else int(value)])
                await work.pause()
            return done

        await client.transact("txn", [["r", key, None] for key in keys], read, self.level_of(client))

    def check(self) -> None:
        self.judge(long_fork.check(self.world.history.history))


class Predicates(Workload):
    """Two predicates, each empty before an insert into the other's: only one of a pair may commit."""

    name = "predicates"

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.operations = 0

    def split_keys(self) -> list[bytes]:
        return [b"pred/%s/%04d" % (side, number) for side in (b"a", b"b") for number in range(0, 200, 5)]

    async def operate(self, client: Client) -> None:
        self.operations += 1
        number = self.operations
        pair = number // 2
        mine, yours = (b"a", b"b") if number % 2 else (b"b", b"a")
        is_limited = client.rng.chance(0.3)

        async def insert(work: Work) -> None:
            for side in (mine, yours):
                start = b"pred/%s/%04d/" % (side, pair)
                if await work.scan(start, start + b"\xff", limit=1 if is_limited else 0):
                    raise NotEmpty
                await work.pause()
            work.put(b"pred/%s/%04d/%d" % (mine, pair, number), b"1")
            await work.flush_if_full()

        async def insert_or_leave(work: Work) -> Any:
            try:
                await insert(work)
            except NotEmpty:
                return ["full", number]
            return [pair, number]

        world = self.world
        # The pair's other half comes at about the same time.
        await world.sleep(client.rng.random() * 0.01)
        await client.transact("insert", [pair, number], insert_or_leave)

    def check(self) -> None:
        history = [op for op in self.world.history.history if not (op.type == "ok" and op.value[0] == "full")]
        self.judge(predicates.check(history))


class NotEmpty(Exception):
    """The predicate found a row."""
