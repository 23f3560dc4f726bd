"""Bank: transfers between locked accounts, and reads of all accounts, at every level and at past times."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from base.errors import error as sql_error
from kvtier.messages import Isolation, Lock
from sim.checkers import bank
from sim.workloads.base import Client, Work, Workload

ACCOUNTS: Final = 6
BALANCE: Final = 100
AGO: Final = 1 << 32
"""A second, in HLC time, and a little."""
AGO_CLUSTER: Final = 1 << 34


class Bank(Workload):
    """See the module docstring; balances never go below zero."""

    name = "bank"
    isolations: ClassVar[tuple[str, ...]] = ("serializable", "repeatable read", "read committed")

    def split_keys(self) -> list[bytes]:
        return [account_key(number) for number in range(ACCOUNTS)]

    async def set_up(self) -> None:
        await self.load({account_key(number): b"%d" % BALANCE for number in range(ACCOUNTS)})
        self.loaded_ts = self.world.served_ts

    async def operate(self, client: Client) -> None:
        rng = client.rng
        if rng.chance(0.3):
            await self._read(client)
            return
        source, target = rng.below(ACCOUNTS), rng.below(ACCOUNTS)
        amount = 1 + rng.below(20)
        order = rng.below(3)
        value = {"from": source, "to": target, "amount": amount}

        async def transfer(work: Work) -> None:
            if order == 0:
                # The rows first, as SELECT .. FOR UPDATE does, in key order.
                keys = sorted({account_key(source), account_key(target)})
                await work.statement(lambda: work.get_many(keys, Lock.EXCLUSIVE))
            await work.statement(lambda: _add(work, source, -amount))
            await work.pause()
            await work.statement(lambda: _add(work, target, amount))

        await client.transact("transfer", value, transfer, self.level_of(client))

    async def _read(self, client: Client) -> None:
        rng = client.rng
        options: dict[str, Any] = {}
        level = self.level_of(client)
        style = rng.below(3)
        if rng.chance(0.2):
            # AS OF SYSTEM TIME: not before the accounts were there.  In a cluster so long ago that followers answer.
            ago = AGO_CLUSTER if self.world.nodes is not None else AGO
            options["as_of_ts"] = max(self.loaded_ts, self.world.served_ts - rng.below(ago))
        elif rng.chance(0.3):
            options["single_statement"] = True

        async def read(work: Work) -> dict[str, int]:
            return await work.statement(lambda: _read_all(work, style, level))

        await client.transact("read", None, read, level, **options)

    async def finish(self) -> None:
        client = Client(self.world, self.world.plan.clients)

        async def read(work: Work) -> dict[str, int]:
            return await _read_all(work, 0, Isolation.SERIALIZABLE)

        await client.transact("read", None, read)

    def check(self) -> None:
        self.judge(bank.check(self.world.history.history, ACCOUNTS * BALANCE))


def account_key(number: int) -> bytes:
    """Returns the key of an account."""
    return b"bank/%02d" % number


async def _add(work: Work, number: int, amount: int) -> None:
    key = account_key(number)
    balance = int(await work.get(key, Lock.EXCLUSIVE)) + amount
    if balance < 0:
        raise sql_error("23514", "balance too low")
    work.put(key, b"%d" % balance)


async def _read_all(work: Work, style: int, level: Isolation) -> dict[str, int]:
    """All balances by one scan, by one batch, or (where one snapshot holds throughout) one by one."""
    if style == 0:
        rows = await work.scan(b"bank/", b"bank0")
        return {str(number): int(value) for number, (_, value) in enumerate(rows)}
    keys = [account_key(number) for number in range(ACCOUNTS)]
    if style == 1 or level == Isolation.READ_COMMITTED:
        values = await work.get_many(keys)
    else:
        values = []
        for key in keys:
            values.append(await work.get(key))
            await work.pause()
    return {str(number): int(value or 0) for number, value in enumerate(values)}
