"""A store on a virtual-time loop, and short words for what tests say to it."""

from __future__ import annotations

from typing import Any

import msgspec

from base.hlc import Hlc
from kvtier.engine import MemoryEngine
from kvtier.messages import Batch, Get, Isolation, Lock, Op, Put, Reply, Scan, TxnMeta, Wait
from kvtier.router import Router
from kvtier.settings import StoreSettings
from kvtier.store import Store
from tests.kvtier.kvloop import Loop, SeededRng, Task


class Case:
    """One store with its router."""

    def __init__(self, settings: StoreSettings | None = None, seed: int | None = None) -> None:
        self.loop = Loop(seed)
        self.settings = settings or StoreSettings()
        self.engine = MemoryEngine()
        self.fatal: list[BaseException] = []
        self.open()
        self.count = 0

    def open(self) -> None:
        self.store = Store(
            self.engine, self.loop, self.loop, SeededRng(1), Hlc(), self.settings, on_fatal=self.fatal.append
        )
        self.kv = Router(self.store)
        self.state = self.store.state

    def crash(self, seed: int = 0) -> None:
        """Loses what was not synced (or a part of it), and opens again."""
        self.engine = self.engine.crash(SeededRng(seed))
        old = self.loop
        old.discard()
        self.loop = Loop()
        self.loop.time_ns = old.time_ns
        self.open()

    def txn(self, isolation: Isolation = Isolation.SERIALIZABLE, **fields: Any) -> TxnMeta:
        """A new transaction that reads now."""
        self.count += 1
        ts = self.kv.now()
        return TxnMeta(b"txn%013d" % self.count, isolation, read_ts=ts, write_ts=ts, start_ts=ts, **fields)

    def refresh(self, txn: TxnMeta, ts: int = 0) -> TxnMeta:
        """The transaction at a later timestamp, as if its reads had been checked."""
        ts = ts or self.kv.now()
        return msgspec.structs.replace(txn, read_ts=ts, write_ts=ts)

    def send(self, *ops: Op, txn: TxnMeta | None = None, **header: Any) -> Reply:
        """Sends a batch and waits for the reply."""
        return self.loop.finish(self.kv.send(Batch(list(ops), txn=txn, **header)))

    def start(self, *ops: Op, txn: TxnMeta | None = None) -> Task:
        """Sends a batch that is expected to wait; returns the task that does."""

        async def main() -> Reply:
            reply = self.kv.send(Batch(list(ops), txn=txn))
            return reply if reply.__class__ is Reply else await reply

        task = self.loop.start(main())
        self.loop.settle()
        return task

    def get(self, key: bytes, txn: TxnMeta | None = None, lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK) -> Any:
        return self.send(Get(key, lock, wait), txn=txn).results[0]

    def put(self, **rows: bytes) -> int:
        """Commits rows outside transactions; returns the timestamp."""
        return self.send(*[Put(k(name), value) for name, value in rows.items()]).write_ts

    def scan(self, start: str, end: str, txn: TxnMeta | None = None, **fields: Any) -> dict[str, bytes]:
        rows = self.send(Scan(k(start), k(end), **fields), txn=txn).results[0]
        return {key[1:].decode(): value for key, value in zip(rows.keys, rows.values)}

    def check(self) -> None:
        self.state.locks.check()
        self.state.intents.check()
        self.state.ranges.check()


def k(name: str) -> bytes:
    """A user key."""
    return b"\x10" + name.encode()
