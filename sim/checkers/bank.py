"""Bank: transfers move money between accounts, so every read of all accounts has the same total.

    {"f": "transfer", "value": {"from": 6, "to": 1, "amount": 1}}
    {"f": "read",     "value": {"0": 100, "1": 0, ..}}

A wrong total is read skew or a lost update; a negative balance where transfers check
first is write skew.
"""

from __future__ import annotations

from collections.abc import Iterable

from sim.checkers.verdict import Verdict
from sim.histories import Op, Transaction, completions


def check(history: Iterable[Op], total: int | None = None, negative_allowed: bool = False) -> Verdict:
    """Checks every read; accounts, and the total if it is not given, are those of the first."""
    verdict = Verdict()
    accounts: frozenset[object] | None = None
    for read in completions(history, "read"):
        verdict.count("reads")
        balances = read.value or {}
        if accounts is None:
            accounts = frozenset(balances)
            if total is None:
                total = sum(balance for balance in balances.values() if balance is not None)
        assert total is not None, f"{total=} is known from the first read on"
        _check_read(read, accounts, total, negative_allowed, verdict)
    return verdict


def _check_read(
    read: Transaction, accounts: frozenset[object], total: int, negative_allowed: bool, verdict: Verdict
) -> None:
    """Notes the worst that is wrong with one read."""
    balances = read.value or {}
    strange = [account for account in balances if account not in accounts]
    empty = [account for account, balance in balances.items() if balance is None]
    if strange:
        verdict.add("unexpected-key", f"{read} saw accounts {strange}, which the first read did not", (read.began,))
    elif empty:
        verdict.add("nil-balance", f"{read} saw no balance in {empty}", (read.began,))
    elif sum(balances.values()) != total:
        verdict.add(
            "wrong-total", f"{read} saw {sum(balances.values())} in all, not {total}: {balances}", (read.began,)
        )
    elif not negative_allowed and min(balances.values(), default=0) < 0:
        below = {account: balance for account, balance in balances.items() if balance < 0}
        verdict.add("negative-value", f"{read} saw {below}", (read.began,))
