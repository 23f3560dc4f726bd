"""Workloads with their own checks: savepoints, deleted spans, an index beside its rows, a model."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from kvtier.messages import Isolation, Lock
from sim.invariants import Violation
from sim.workloads.base import Client, Work, Workload, value_of

SLOTS: Final = 6


class Savepoints(Workload):
    """One process per block of keys: random writes and rollbacks to savepoints against a model of them.

    Inside the transaction every read must be what the model says; after it the block must be
    as after one of the attempts that may have committed.
    """

    name = "savepoints"
    isolations: ClassVar[tuple[str, ...]] = ("serializable", "repeatable read", "read committed")

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.possible: dict[int, list[dict[bytes, bytes]]] = {}
        """Block -> states it may be in."""
        self.versions = 0

    def split_keys(self) -> list[bytes]:
        return [b"block/%04d/%d" % (block, slot) for block in range(8) for slot in (0, 3)]

    async def operate(self, client: Client) -> None:
        # After an unknown outcome the process is another: what is left behind may still happen.
        block = client.process
        possible = self.possible.setdefault(block, [{}])
        script = self._draw(client)
        result: list[Any] = []

        async def body(work: Work) -> None:
            result[:] = [None, None]
            result[0], result[1] = await _play(work, block, script)

        outcome = await client.transact("play", len(script), body, self.level_of(client))
        if outcome.status == "ok":
            before, after = result
            if before not in possible:
                raise Violation(
                    "a block is what was committed",
                    f"block {block} is {before}, could be {possible[-3:]}",
                    (f"client{client.process}", f"block/{block:04d}"),
                )
            self.possible[block] = [after]
        elif outcome.status == "info":
            # It may have committed, now or later; its effect is the script's.
            self.possible[block] = possible + [_replay(state, block, script) for state in possible]

    def _draw(self, client: Client) -> list[tuple[str, int, bytes]]:
        rng = client.rng
        script: list[tuple[str, int, bytes]] = []
        depth = 0
        for _ in range(3 + rng.below(10)):
            self.versions += 1
            kind = rng.pick(
                ("put", "put", "put", "delete", "span", "savepoint", "savepoint", "back", "back", "flush", "scan")
            )
            if kind == "savepoint":
                depth += 1
            elif kind == "back":
                if not depth:
                    continue
                script.append((kind, rng.below(depth), b""))
                continue
            script.append((kind, rng.below(SLOTS), b"%d" % self.versions))
        return script

    async def finish(self) -> None:
        for block in sorted(self.possible):

            async def read(work: Work, block: int = block) -> dict[bytes, bytes]:
                return dict(await work.scan(*_block_span(block)))

            state = await self.must(read)
            if state not in self.possible[block]:
                raise Violation(
                    "a block is what was committed",
                    f"block {block} is {state}, could be {self.possible[block][-3:]}",
                    (f"block/{block:04d}",),
                )

    def check(self) -> None:
        """Everything was checked as it happened."""


def _block_span(block: int) -> tuple[bytes, bytes]:
    return b"block/%04d/" % block, b"block/%04d0" % block


def _slot(block: int, slot: int) -> bytes:
    return b"block/%04d/%d" % (block, slot)


def _apply(state: dict[bytes, bytes], block: int, kind: str, slot: int, value: bytes) -> None:
    key = _slot(block, slot)
    if kind == "put":
        state[key] = value
    elif kind == "delete":
        state.pop(key, None)
    elif kind == "span":
        for other in [other for other in state if key <= other < _slot(block, slot + 2)]:
            del state[other]


def _replay(start: dict[bytes, bytes], block: int, script: list[tuple[str, int, bytes]]) -> dict[bytes, bytes]:
    """The model alone."""
    state = dict(start)
    saved: list[dict[bytes, bytes]] = []
    for kind, number, value in script:
        if kind == "savepoint":
            saved.append(dict(state))
        elif kind == "back":
            if number < len(saved):
                state = dict(saved[number])
                del saved[number + 1 :]
        else:
            _apply(state, block, kind, number, value)
    return state


async def _play(
    work: Work, block: int, script: list[tuple[str, int, bytes]]
) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """The transaction beside the model; returns the block before and after."""
    span = _block_span(block)
    before = dict(await work.scan(*span, lock=Lock.EXCLUSIVE))
    state = dict(before)
    saved: list[tuple[int, dict[bytes, bytes]]] = []
    for kind, number, value in script:
        if kind == "savepoint":
            saved.append((work.txn.savepoint(), dict(state)))
        elif kind == "back":
            if number < len(saved):
                work.txn.rollback_to(saved[number][0])
                state = dict(saved[number][1])
                del saved[number + 1 :]
        elif kind == "flush":
            await value_of(work.txn.flush())
        elif kind == "scan":
            found = dict(await work.scan(*span, page=number, reverse=number % 2 == 1))
            _expect(found, state, work)
        else:
            await _write(work, block, kind, number, value)
            _apply(state, block, kind, number, value)
            await work.flush_if_full()
    _expect(dict(await work.scan(*span)), state, work)
    return before, state


async def _write(work: Work, block: int, kind: str, slot: int, value: bytes) -> None:
    key = _slot(block, slot)
    if kind == "span":
        await work.delete_span(key, _slot(block, slot + 2))
        return
    await work.get(key, Lock.EXCLUSIVE)
    if kind == "put":
        work.put(key, value)
    else:
        work.delete(key)


def _expect(found: dict[bytes, bytes], expected: dict[bytes, bytes], work: Work) -> None:
    if found != expected:
        raise Violation(
            "a transaction sees its own writes",
            f"txn {work.txn.id.hex()[:8]} sees {found}, wrote {expected}",
            (work.txn.id.hex()[:8],),
        )


class Spans(Workload):
    """Whole spans are deleted and filled again: a reader sees exactly one filling.

    Partitions share their borders, so a span that is deleted too far shows.
    """

    name = "spans"
    isolations: ClassVar[tuple[str, ...]] = ("serializable", "repeatable read")
    PARTITIONS: ClassVar[int] = 3

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.fillings = 0
        self.acknowledged: dict[int, int] = {}
        """Partition -> a filling known to be there, unless a later one replaced it."""

    def split_keys(self) -> list[bytes]:
        return [_row(partition, row) for partition in range(self.PARTITIONS) for row in (0, 4, 9)]

    async def set_up(self) -> None:
        for partition in range(self.PARTITIONS):
            await self.load({_row(partition, row): b"0" for row in range(10)})

    async def operate(self, client: Client) -> None:
        rng = client.rng
        partition = rng.below(self.PARTITIONS)
        if rng.chance(0.5):
            await self._read(client, partition)
            return
        self.fillings += 1
        filling = self.fillings
        lowest = rng.below(3)

        async def fill(work: Work) -> None:
            await work.delete_span(_row(partition, 0), _row(partition + 1, 0))
            await work.pause()
            for row in range(lowest, 10):
                work.put(_row(partition, row), b"%d" % filling)
                await work.flush_if_full()

        await client.transact("fill", [partition, filling], fill, Isolation.SERIALIZABLE)

    async def _read(self, client: Client, partition: int) -> None:
        reverse = client.rng.chance(0.5)
        page = client.rng.pick((0, 1, 4))

        async def read(work: Work) -> list[str]:
            rows = await work.scan(_row(partition, 0), _row(partition + 1, 0), reverse=reverse, page=page)
            return [value.decode() for _, value in rows]

        outcome = await client.transact("read", partition, read, self.level_of(client))
        if outcome.status == "ok":
            self._check_rows(partition, outcome.value, client)

    def _check_rows(self, partition: int, values: list[str], client: Client) -> None:
        if len(set(values)) != 1 or not 8 <= len(values) <= 10:
            raise Violation(
                "a reader sees one filling",
                f"partition {partition} holds {values}",
                (f"client{client.process}", "fill"),
            )

    async def finish(self) -> None:
        client = Client(self.world, self.world.plan.clients)
        for partition in range(self.PARTITIONS):
            await self._read(client, partition)

    def check(self) -> None:
        """Readers were checked as they read; here: fillings do not come back."""
        began: dict[tuple[int, str], int] = {}
        ended: dict[tuple[int, str], int] = {}
        last: dict[int, tuple[str, int]] = {}
        opened: dict[int | str, int] = {}
        for op in self.world.history.history:
            if op.type == "invoke":
                opened[op.process] = op.index
                if op.f == "fill":
                    began[(op.value[0], str(op.value[1]))] = op.index
            elif op.f == "fill" and op.type == "ok":
                ended[(op.value[0], str(op.value[1]))] = op.index
            elif op.f == "read" and op.type == "ok":
                partition = next(earlier.value for earlier in [self.world.history.history[opened[op.process]]])
                seen = op.value[0]
                before = last.get(partition)
                # Reader R1 ended before R2 began and saw a filling acknowledged before ours began.
                if before is not None and before[1] < opened[op.process] and before[0] != seen:
                    done = ended.get((partition, seen))
                    start = began.get((partition, before[0]))
                    if done is not None and start is not None and done < start:
                        raise Violation(
                            "a deleted filling stays deleted",
                            f"partition {partition}: {seen} after {before[0]}",
                            ("fill",),
                        )
                last[partition] = (seen, op.index)


def _row(partition: int, row: int) -> bytes:
    return b"span/%d/%02d" % (partition, row)


class Index(Workload):
    """Rows with a secondary index, kept by the writers: both must always tell the same."""

    name = "index"
    isolations: ClassVar[tuple[str, ...]] = ("serializable", "repeatable read", "read committed")
    ROWS: ClassVar[int] = 12

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.values = 0

    def split_keys(self) -> list[bytes]:
        return [b"idx/by/%04d/" % number for number in range(0, 60, 9)] + [b"idx/row/%02d" % row for row in (0, 5, 9)]

    async def operate(self, client: Client) -> None:
        rng = client.rng
        if rng.chance(0.3):
            await self._compare(client)
            return
        row = rng.below(self.ROWS)
        self.values += 1
        value = rng.below(60)
        deletes = rng.chance(0.2)

        async def update(work: Work) -> None:
            key = b"idx/row/%02d" % row
            old = await work.get(key, Lock.EXCLUSIVE)
            if old is not None:
                work.delete(b"idx/by/%04d/%02d" % (int(old), row))
            await work.pause()
            if deletes:
                if old is not None:
                    work.delete(key)
            else:
                work.put(key, b"%d" % value)
                work.put(b"idx/by/%04d/%02d" % (value, row), b"%02d" % row)
            await work.flush_if_full()

        level = self.level_of(client)
        await client.transact("update", [row, value], lambda work: work.statement(lambda: update(work)), level)

    async def _compare(self, client: Client) -> None:
        page = client.rng.pick((0, 2))

        async def read(work: Work) -> list[list[list[int]]]:
            by_index = await work.scan(b"idx/by/", b"idx/by0", page=page)
            rows = await work.scan(b"idx/row/", b"idx/row0", page=page)
            one = sorted([[int(key[-2:]), int(key[7:11])] for key, _ in by_index])
            return [one, sorted([[int(key[-2:]), int(value)] for key, value in rows])]

        level = max(self.level_of(client), Isolation.REPEATABLE_READ)
        outcome = await client.transact("compare", None, read, level)
        if outcome.status == "ok" and outcome.value[0] != outcome.value[1]:
            raise Violation(
                "index and rows agree",
                f"only in the index {[row for row in outcome.value[0] if row not in outcome.value[1]]}, "
                f"only in the rows {[row for row in outcome.value[1] if row not in outcome.value[0]]}",
                (f"client{client.process}", "idx/"),
            )

    async def finish(self) -> None:
        await self._compare(Client(self.world, self.world.plan.clients))

    def check(self) -> None:
        """Every comparison was checked as it was made."""
