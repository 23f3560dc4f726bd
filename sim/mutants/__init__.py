"""Historical bugs that can be switched on by name; the simulator must find each (reliability 3.3).

A mutant is a function that puts wrong versions of a few functions in place of the right ones;
``mutated`` takes them out again.  This is the one place of the project that replaces code at run
time, and it works on the pure build only: compiled callers do not see it.

They are bugs others had, or that we could have made: the number is the trap in reliability.md.

    timestamps     the timestamp cache, refresh                transactions   write buffer, unknown outcomes
    durability     syncs, the clock's bound                    calls          single reads, whole calls
    locks          who may hold one                            replication    leases, the log, closed timestamps:
    intents        intents, records, versions, runs                           for clusters of three nodes

What each is hunted with is in ``aims``.
"""

from __future__ import annotations

from sim.mutants import timestamps, durability, locks, intents, transactions, calls, replication  # isort: skip
from sim.mutants.registry import CLUSTER_MUTANTS, MUTANTS, mutated, replaced

__all__ = [
    "CLUSTER_MUTANTS",
    "MUTANTS",
    "calls",
    "durability",
    "intents",
    "locks",
    "mutated",
    "replaced",
    "replication",
    "timestamps",
    "transactions",
]
