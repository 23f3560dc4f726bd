"""All workloads by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sim.process import Process
from sim.workloads.base import Workload
from sim.workloads.histories import ListAppend, LongFork, Predicates, Registers, Sets
from sim.workloads.jobs import NamedCommits, Queue
from sim.workloads.money import Bank
from sim.workloads.rows import Index, Savepoints, Spans

if TYPE_CHECKING:
    from sim.world import World

KV: Final[tuple[type[Workload], ...]] = (
    ListAppend,
    Bank,
    Registers,
    Sets,
    LongFork,
    Predicates,
    Queue,
    NamedCommits,
    Savepoints,
    Spans,
    Index,
)
WORKLOADS: Final[dict[str, type[Workload]]] = {workload.name: workload for workload in KV}


def make_process(workload: str) -> Callable[[World], Process]:
    """Returns what makes the node for a workload."""
    assert not WORKLOADS[workload].is_sql, workload
    return Process


def levels_of(workload: str) -> tuple[str, ...]:
    """Returns the isolation levels a workload may run at."""
    return WORKLOADS[workload].isolations
