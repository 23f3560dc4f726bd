"""SQL text against the planner and the model transaction: a catalog of tables made by ``make_table``."""

from __future__ import annotations

from typing import Any

from planner.context import FixedContext
from planner.exec.physical_plan import PhysicalPlan
from planner.optimize import plan
from planner.optimize.registry import builtin_registry
from planner.schema import TableDesc, TableStats
from sql.binder import Binder, NullCatalog
from sql.parse import parse
from sql.parse.statements import Query
from tests.planner.algebra import settle
from tests.planner.model_txn import ModelTxn


class Catalog(NullCatalog):
    """Finds tables by name."""

    def __init__(self, *tables: TableDesc) -> None:
        self.tables = {table.name: table for table in tables}

    def find_relation(self, schema: str | None, name: str) -> Any:
        return self.tables.get(name)

    def table_by_id(self, id: int) -> TableDesc | None:
        return next((table for table in self.tables.values() if table.id == id), None)


class Bench:
    """One catalog, one store."""

    def __init__(self, *tables: TableDesc) -> None:
        self.catalog = Catalog(*tables)
        self.txn = ModelTxn()
        self.stats: dict[int, TableStats] = {}
        self.context = FixedContext()

    def plan(self, text: str) -> PhysicalPlan:
        query = parse(text)[0].statement
        assert isinstance(query, Query), text
        bound = Binder(self.catalog, builtin_registry()).bind(query)
        return plan(bound, self.stats.get)

    def run(self, text: str, *params: Any) -> list[tuple[Any, ...]]:
        """Rows of a query; of a write without RETURNING, one tuple with the number of rows."""
        return self.run_plan(self.plan(text), *params)

    def run_plan(self, planned: PhysicalPlan, *params: Any) -> list[tuple[Any, ...]]:
        cursor = planned.open(self.txn, params, self.context)
        out: list[tuple[Any, ...]] = []
        while rows := settle(cursor.fetch(0)):
            out += rows
        return out if planned.output_names or not planned.is_writer else [(cursor.affected,)]
