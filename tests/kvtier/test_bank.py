"""Random concurrent transfers between accounts: money is neither made nor lost.

A tiny coordinator of the test's own runs transfers in every way a store knows: locking or
plain reads with refresh, one-phase commits, explicit and parallel commits with intents.
Auditors read all accounts at one timestamp while it happens.  Some clients vanish.
"""

from __future__ import annotations

import random

import msgspec
import pytest

from base.errors import KvError, Retryable
from kvtier.messages import (
    Batch,
    EndTxn,
    Get,
    Isolation,
    Lock,
    Put,
    Refresh,
    Reply,
    Scan,
    TxnMeta,
    prefix_end,
)
from kvtier.settings import StoreSettings
from tests.kvtier.kvcase import Case, k
from tests.kvtier.kvloop import Cancelled

ACCOUNTS = 12
MONEY = 100
LOCKING, PLAIN, READ_COMMITTED = "locking", "plain", "read committed"
ATTEMPTS_MAX = 60


class Bank:
    """The accounts, and the clients that move money between them."""

    def __init__(self, seed: int, settings: StoreSettings | None = None) -> None:
        self.draw = random.Random(seed)
        self.case = Case(settings or StoreSettings(txn_expiry_seconds=2), seed)
        self.case.put(**{f"acc{n:02}": b"%d" % MONEY for n in range(ACCOUNTS)})
        self.done = 0
        self.given_up = 0
        self.audits = 0

    async def send(self, *ops, txn=None, **header) -> Reply:
        reply = self.case.kv.send(Batch(list(ops), txn=txn, **header))
        return reply if reply.__class__ is Reply else await reply

    async def pause(self) -> None:
        if self.draw.random() < 0.5:
            await self.case.loop.sleep(self.draw.random() * 0.001)

    async def client(self, transfers: int) -> None:
        """Makes transfers, each retried until it commits."""
        for _ in range(transfers):
            source, target = (k(f"acc{n:02}") for n in self.draw.sample(range(ACCOUNTS), 2))
            way = self.draw.choice([LOCKING, PLAIN, READ_COMMITTED])
            for _ in range(ATTEMPTS_MAX):
                isolation = Isolation.READ_COMMITTED if way == READ_COMMITTED else Isolation.SERIALIZABLE
                txn = self.case.txn(isolation, anchor=source)
                try:
                    await self.transfer(txn, source, target, way)
                    self.done += 1
                    break
                except Cancelled:
                    break
                except Retryable:
                    await self.send(EndTxn(False), txn=txn)
                    await self.pause()
            else:
                self.given_up += 1

    async def transfer(self, txn: TxnMeta, source: bytes, target: bytes, way: str) -> None:
        lock = Lock.NONE if way == PLAIN else Lock.EXCLUSIVE
        balances = []
        for key in (source, target):
            balances.append(int((await self.send(Get(key, lock), txn=txn)).results[0]))
            await self.pause()
        amount = self.draw.randrange(1, 10)
        writes = [Put(source, b"%d" % (balances[0] - amount), 1), Put(target, b"%d" % (balances[1] + amount), 2)]
        checks = []
        if way == PLAIN:
            checks = [Refresh(key, prefix_end(key), txn.read_ts, 0, b"", True) for key in (source, target)]
        await self.commit(txn, writes, checks)

    async def commit(self, txn: TxnMeta, writes: list[Put], checks: list[Refresh]) -> None:
        protocol = self.draw.randrange(4)
        if protocol < 2:
            await self.send(*checks, *writes, EndTxn(True), txn=txn)
            return
        # The first write goes ahead as an intent.
        reply = await self.send(writes[0], txn=txn)
        await self.pause()
        if self.draw.random() < 0.05:
            raise Cancelled  # The client vanishes without a word.
        txn = msgspec.structs.replace(txn, seq=2, write_ts=max(txn.write_ts, reply.write_ts))
        keys = (writes[0].key, writes[1].key)
        if protocol == 2:
            await self.send(*checks, writes[1], EndTxn(True, intents=keys[:1]), txn=txn)
            return
        staged = await self.send(*checks, writes[1], EndTxn(True, in_flight=((keys[0], 1),)), txn=txn)
        assert staged.staged
        await self.pause()
        if self.draw.random() < 0.2:
            return  # Implicitly committed; nobody makes it explicit but recovery.
        await self.send(EndTxn(True, intents=keys), txn=msgspec.structs.replace(txn, write_ts=staged.write_ts))

    async def auditor(self, rounds: int) -> None:
        """Reads all accounts at one timestamp, sometimes one in the past."""
        for _ in range(rounds):
            await self.case.loop.sleep(self.draw.random() * 0.01)
            ts = self.case.kv.now() - self.draw.choice([0, 0, 40_000_000])
            reply = await self.send(Scan(k("acc"), k("acd"), self.draw.random() < 0.5), ts=ts)
            values = [int(value) for value in reply.results[0].values]
            if values:
                self.audits += 1
                assert sum(values) == ACCOUNTS * MONEY, values

    def total(self) -> int:
        return sum(int(value) for value in self.case.scan("acc", "acd").values())


def run(bank: Bank, clients: int, transfers: int) -> None:
    tasks = [bank.case.loop.start(bank.client(transfers)) for _ in range(clients)]
    tasks += [bank.case.loop.start(bank.auditor(transfers)) for _ in range(2)]
    bank.case.loop.run(600)
    for task in tasks:
        assert task.done, "somebody waits for ever"
        assert task.error is None, task.error


def settle(bank: Bank) -> None:
    """Lets abandoned transactions expire; then nothing may be left of anybody."""
    bank.case.loop.run(600)
    bank.case.check()
    state = bank.case.state
    assert not state.intents
    assert not state.records
    assert bank.total() == ACCOUNTS * MONEY


@pytest.mark.parametrize("seed", range(6))
def test_money_is_conserved(seed: int):
    bank = Bank(seed)
    run(bank, clients=10, transfers=25)
    settle(bank)
    assert bank.done > 100
    assert bank.audits
    assert not bank.given_up


@pytest.mark.parametrize("seed", range(6))
def test_money_is_conserved_over_crashes(seed: int):
    """Power is cut in the middle, several times; what was acknowledged is not asked here, only the sum."""
    bank = Bank(seed)
    for round_ in range(4):
        tasks = [bank.case.loop.start(bank.client(20)) for _ in range(8)]
        for _ in range(bank.draw.randrange(200, 2_000)):
            if not bank.case.loop.tick() and not bank.case.loop.advance():
                break
        del tasks
        bank.case.crash(seed * 100 + round_)
    settle(bank)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 104))
def test_ten_thousand_transfers(seed: int):
    bank = Bank(seed, StoreSettings(txn_expiry_seconds=2, cache_points_max=50, cache_spans_max=8))
    run(bank, clients=25, transfers=100)
    settle(bank)
    assert bank.done > 2_200
    assert not bank.given_up


def test_errors_of_a_store_are_kv_errors():
    """What the test's coordinator retries is what ours may."""
    assert issubclass(Retryable, KvError)
