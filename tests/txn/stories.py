"""Interleaved transactions as text: each line is one step of one session, with what it must answer.

    T1 begin
    T1 get x                -> 10
    T2 update x 12          -> waits
    T1 commit               -> ok
    T2 ...                  -> 40001 write_too_old

A step runs until it ends or waits for a lock.  ``T2 ...`` shows how a step that waited
ended.  Commands are what SQL statements do to the transaction API: ``update`` locks, reads and
puts; ``get`` and ``scan`` are plain SELECTs; ``share`` and ``lock`` are FOR SHARE and FOR UPDATE.
Statements of READ COMMITTED that meet a conflict are run again, as a session does.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import Any

from base.errors import MeridianError, Retryable
from kvtier.messages import SKIPPED, Isolation, Lock, Wait
from sim.loop import Loop
from tests.txn.model_kv import ModelKv
from tests.txn.real_kv import RealKv
from txn.coordinator import Coordinator, Transaction
from txn.settings import TxnSettings

RC, RR, SER = Isolation.READ_COMMITTED, Isolation.REPEATABLE_READ, Isolation.SERIALIZABLE


STORES = {"model": ModelKv, "store": RealKv}


class World:
    """A loop, a store and a coordinator; ``kind`` is what ``each_store`` of conftest runs next."""

    kind = "model"

    def __init__(self, seed: int = 0, explore: bool = False, settings: TxnSettings | None = None, **kv: Any) -> None:
        self.loop = Loop(seed, explore)
        self.scope = self.loop.main
        self.kv = STORES[self.kind](self.scope, self.scope.clock, self.loop.rng, **kv)
        self.coordinator = Coordinator(self.kv, self.scope.clock, self.scope, self.loop.rng, settings)

    def begin(self, isolation: Isolation = SER, **options: Any) -> Transaction:
        return self.coordinator.begin(isolation, **options)

    def run(self, coroutine: Any) -> Any:
        return self.loop.run(coroutine)


async def value_of(eager: Any) -> Any:
    """Awaits what is not there yet."""
    return await eager if hasattr(eager, "__await__") else eager


async def get(txn: Transaction, key: str, lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK) -> Any:
    value = await value_of(txn.get(key.encode(), lock, wait))
    if value is SKIPPED:
        return "skipped"
    return None if value is None else int(value)


async def scan(txn: Transaction, start: str, end: str, lock: Lock = Lock.NONE, **options: Any) -> list[tuple[str, int]]:
    page = await value_of(txn.scan(start.encode(), end.encode(), lock=lock, **options))
    return [(key.decode(), int(value)) for key, value in zip(page.keys, page.values)]


async def update(txn: Transaction, key: str, change: Any) -> Any:
    """UPDATE .. SET value = change(value) WHERE key: one row locked, read, written."""
    value = await get(txn, key, Lock.EXCLUSIVE)
    if value is None:
        return "no row"
    txn.put(key.encode(), b"%d" % change(value))
    return None


class Session:
    """Runs the steps of one name."""

    def __init__(self, story: Story, name: str) -> None:
        self.story = story
        self.name = name
        self.txn: Transaction | None = None
        self.task: Any = None
        self.savepoints: dict[str, int] = {}

    async def step(self, words: list[str]) -> str:
        command, *args = words
        if command == "begin":
            self.txn = self.story.world.begin(self.story.isolation)
            return "ok"
        txn = self.txn
        assert txn is not None, words
        try:
            if command == "commit":
                await value_of(txn.commit())
                return "ok"
            if command == "rollback":
                await value_of(txn.rollback())
                return "ok"
            return await self.statement(txn, command, args)
        except MeridianError as error:
            await value_of(txn.rollback())
            return f"{error.sqlstate} {getattr(error, 'reason', '')}".strip()

    async def statement(self, txn: Transaction, command: str, args: list[str]) -> str:
        txn.begin_statement()
        while True:
            try:
                return _text(await self.execute(txn, command, args))
            except Retryable as error:
                if not await value_of(txn.retry_statement(error)):
                    raise

    async def execute(self, txn: Transaction, command: str, args: list[str]) -> Any:
        match command:
            case "get":
                return await get(txn, args[0]) if len(args) == 1 else [await get(txn, key) for key in args]
            case "lock":
                return await get(txn, args[0], Lock.EXCLUSIVE, Wait[args[1]] if args[1:] else Wait.BLOCK)
            case "share":
                return await get(txn, args[0], Lock.SHARE)
            case "scan":
                return " ".join(f"{key}={value}" for key, value in await scan(txn, args[0], args[1]))
            case "sum":
                return sum([value for _, value in await scan(txn, "a", "zz")])
            case "update":
                return await update(txn, args[0], lambda _: int(args[1]))
            case "add":
                return await update(txn, args[0], lambda value: value + int(args[1]))
            case "insert":
                if await get(txn, args[0], Lock.EXCLUSIVE) is not None:
                    return "23505"
                txn.put(args[0].encode(), args[1].encode())
            case "put":
                txn.put(args[0].encode(), args[1].encode())
            case "delete":
                if await get(txn, args[0], Lock.EXCLUSIVE) is None:
                    return "no row"
                txn.delete(args[0].encode())
            case "delete-where":  # DELETE .. WHERE value = n: locks what the scan finds
                for key, value in await scan(txn, "a", "zz", Lock.EXCLUSIVE):
                    if value == int(args[0]):
                        txn.delete(key.encode())
            case "add-where":  # UPDATE .. SET value = value + n over all rows
                for key, value in await scan(txn, "a", "zz", Lock.EXCLUSIVE):
                    txn.put(key.encode(), b"%d" % (value + int(args[0])))
            case "truncate":
                await value_of(txn.delete_span(args[0].encode(), args[1].encode()))
            case "flush":
                await value_of(txn.flush())
            case "savepoint":
                self.savepoints[args[0]] = txn.savepoint()
            case "rollback-to":
                txn.rollback_to(self.savepoints[args[0]])
            case _:
                raise AssertionError(command)
        return None


def _text(value: Any) -> str:
    return "ok" if value is None and value is not False else str(value)


class Story:
    """Plays a script; rows are loaded first."""

    def __init__(self, isolation: Isolation = SER, settings: TxnSettings | None = None, **rows: int) -> None:
        self.world = World(settings=settings)
        self.world.kv.load(**(rows or {"x": 10, "y": 20}))
        self.isolation = isolation
        self.sessions: dict[str, Session] = {}

    def play(self, script: str) -> Story:
        for line in script.strip().splitlines():
            if not line.strip() or line.strip().startswith("#"):
                continue
            step, _, expected = line.partition("->")
            name, *words = step.split()
            actual = self.play_step(name, words)
            if expected:
                assert actual == expected.strip(), f"{line.strip()!r} gave {actual!r}"
            else:
                assert actual == "ok", f"{line.strip()!r} gave {actual!r}"
        return self

    def play_step(self, name: str, words: list[str]) -> str:
        session = self.sessions.setdefault(name, Session(self, name))
        if words == ["..."]:
            assert session.task is not None, f"{name} waits for nothing"
        elif words == ["cancel"]:
            session.task.cancel()
        else:
            assert session.task is None, f"{name} still waits"
            session.task = self.world.scope.spawn(session.step(words), name).observe()
        self.world.loop.run_for(0.01)
        task = session.task
        if not task.is_done():
            return "waits"
        session.task = None
        if isinstance(task.error, CancelledError):
            return "cancelled"
        if task.error is not None:
            raise task.error
        return task.result

    def rows(self) -> str:
        """What is committed at the end; nothing may be left behind."""
        self.world.loop.run_for(1)
        self.world.kv.check_idle()
        return " ".join(f"{key.decode()}={int(value)}" for key, value in self.world.kv.newest().items())
