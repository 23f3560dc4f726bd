"""All workloads by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sim.process import Process
from sim.sqlnode import SqlProcess
from sim.workloads.base import Workload
from sim.workloads.histories import ListAppend, LongFork, Predicates, Registers, Sets
from sim.workloads.jobs import NamedCommits, Queue
from sim.workloads.money import Bank
from sim.workloads.rows import Index, Savepoints, Spans
from sim.workloads.sql import (
    SqlAppend,
    SqlBank,
    SqlDdl,
    SqlForeign,
    SqlIndex,
    SqlLevels,
    SqlModel,
    SqlOrders,
    SqlSequence,
    SqlUnique,
)
from sim.workloads.sql_copy import SqlCopy
from sim.workloads.sql_money import SqlAsOf, SqlTransfers
from sim.workloads.sql_pipeline import SqlPipeline
from sim.workloads.sql_queue import SqlQueue
from sim.workloads.sql_registers import SqlRegisters
from sim.workloads.sql_tpcc import SqlTpcc

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
SQL: Final[tuple[type[Workload], ...]] = (
    SqlBank,
    SqlAppend,
    SqlIndex,
    SqlUnique,
    SqlForeign,
    SqlSequence,
    SqlDdl,
    SqlOrders,
    SqlModel,
    SqlQueue,
    SqlCopy,
    SqlPipeline,
    SqlAsOf,
    SqlTransfers,
    SqlTpcc,
    SqlLevels,
    SqlRegisters,
)
WORKLOADS: Final[dict[str, type[Workload]]] = {workload.name: workload for workload in (*KV, *SQL)}


def make_process(workload: str) -> Callable[[World, int], Process]:
    """Returns what makes the nodes for a workload."""
    return SqlProcess if WORKLOADS[workload].is_sql else Process


def levels_of(workload: str) -> tuple[str, ...]:
    """Returns the isolation levels a workload may run at."""
    return WORKLOADS[workload].isolations
