"""Loads the population: several client processes COPY parts, the parent hands them out.

Each part is one transaction that ends with a row in tpcc_loaded. A load that was interrupted goes on with the parts that have none, and a
COMMIT whose outcome is unknown is settled by looking for it. Indexes and foreign keys are made after the rows unless told
otherwise: one sort of all rows is cheaper than as many insertions.

    parent -> child   the name of a part, or nothing more
    child -> parent   Loaded or LoadError
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final

import msgspec
import psycopg

from tpcc.attempts import DEADLOCK_DETECTED, SERIALIZATION_FAILURE
from tpcc.database import LOADED, LOADING, RECIPE, STATE, new_recipe, read_recipe
from tpcc.output import Output
from tpcc.population import Part, Recipe, estimate_rows, list_parts, make_lines
from tpcc.randomness import load_constants
from tpcc.regions import GLOBAL_ITEMS, REGIONS, read_database_regions
from tpcc.scale import Scale
from tpcc.schema import FOREIGN_KEYS, INDEXES, TABLES, create_statements, drop_statements
from tpcc.session import open_connection

ATTEMPTS_MAX: Final = 5
BLOCK_LINES: Final = 2_000
"""Of one CopyData message: up to 700 KB."""
FEATURE_NOT_SUPPORTED: Final = "0A000"


class LoadFailed(Exception):
    """The load cannot begin or did not end."""


class LoadPlan(msgspec.Struct, frozen=True):
    """The options of a load."""

    dsn: str
    warehouses: int
    processes: int = 2
    seed: int = 1
    drop: bool = False
    indexes_first: bool = False
    foreign_keys: bool = False
    scale: Scale = Scale()
    partition_by_warehouse: bool = False


class Loaded(msgspec.Struct, tag=True):
    part: Part
    rows: int


class LoadError(msgspec.Struct, tag=True):
    text: str


FromLoader = Loaded | LoadError


def load(plan: LoadPlan, output: Output) -> int:
    """Loads what is missing; returns the number of rows this call loaded."""
    connection = open_connection(plan.dsn)
    try:
        recipe, state = _prepare(connection, plan, output)
        if state == LOADED:
            output.note(f"{recipe.warehouses} warehouses are loaded already; --drop loads them anew")
            return 0
        if plan.indexes_first:
            _build(connection, INDEXES, output)
        rows = _load_parts(connection, plan, recipe, output)
        # Foreign keys wait in any case: parts are loaded in no particular order.
        _build(connection, INDEXES | FOREIGN_KEYS if plan.foreign_keys else INDEXES, output)
        _analyze(connection, output)
        connection.execute("UPDATE tpcc_config SET value = $2 WHERE name = $1", [STATE, LOADED])
        return rows
    finally:
        connection.close()


def _prepare(connection: Any, plan: LoadPlan, output: Output) -> tuple[Recipe, str]:
    """Makes the tables, or finds those of an earlier load with the same options."""
    if plan.drop:
        for statement in drop_statements():
            connection.execute(statement)
    found = read_recipe(connection)
    if found is not None:
        _refuse_other_recipe(found[0], plan)
        return found
    regions = read_database_regions(connection) if plan.partition_by_warehouse else ()
    recipe = new_recipe(plan.seed, plan.warehouses, datetime.now(UTC), load_constants(plan.seed), plan.scale)
    try:
        for statement in create_statements(regions):
            connection.execute(statement)
    except psycopg.errors.DuplicateTable as failure:
        raise LoadFailed(f"{failure.diag.message_primary}; --drop replaces tables") from failure
    if regions:
        _spread_items(connection, output)
    values = [(STATE, LOADING), (RECIPE, msgspec.json.encode(recipe).decode())]
    values += [(REGIONS, msgspec.json.encode(regions).decode())] if regions else []
    for name, value in values:
        connection.execute("INSERT INTO tpcc_config (name, value) VALUES ($1, $2)", [name, value])
    return recipe, LOADING


def _spread_items(connection: Any, output: Output) -> None:
    """Lets items be read everywhere, where the server can."""
    try:
        connection.execute(GLOBAL_ITEMS)
    except psycopg.errors.FeatureNotSupported as failure:
        output.note(f"items are at home in the primary region alone: {failure.diag.message_primary}")


def _refuse_other_recipe(found: Recipe, plan: LoadPlan) -> None:
    theirs = (found.warehouses, found.seed, found.scale)
    if theirs != (plan.warehouses, plan.seed, plan.scale):
        raise LoadFailed(
            f"the database holds {found.warehouses} warehouses of seed {found.seed}"
            f"{'' if found.scale.is_compliant else ' of reduced scale'}; --drop replaces them"
        )


def _load_parts(connection: Any, plan: LoadPlan, recipe: Recipe, output: Output) -> int:
    parts = list_parts(recipe.warehouses, recipe.scale)
    done = dict(connection.execute("SELECT part, row_count FROM tpcc_loaded").fetchall())
    totals: dict[str, int] = {}
    for part in parts:
        totals[part.kind] = totals.get(part.kind, 0) + estimate_rows(part, recipe.scale)
    output.begin_load(totals)
    try:
        for part in parts:
            if part.name in done:
                output.advance_load(part.kind, done[part.name])
        missing = deque(part for part in parts if part.name not in done)
        return _Loaders(plan, recipe, missing, output).run()
    finally:
        output.end_load()


class _Loaders:
    """The parent's side: as many processes as asked for, each with one part at a time."""

    def __init__(self, plan: LoadPlan, recipe: Recipe, missing: deque[Part], output: Output) -> None:
        self._plan = plan
        self._recipe = recipe
        self._missing = missing
        self._output = output
        self._processes: list[BaseProcess] = []
        self._busy: list[Connection] = []

    def run(self) -> int:
        """Returns the number of rows loaded."""
        rows = 0
        try:
            self._start()
            while self._busy:
                for pipe in wait(self._busy):
                    assert isinstance(pipe, Connection), f"{pipe=}"
                    loaded = self._receive(pipe)
                    rows += loaded.rows
                    self._output.advance_load(loaded.part.kind, loaded.rows)
                    self._give_part(pipe)
        finally:
            for pipe in self._busy:
                pipe.close()
            for process in self._processes:
                process.join()
        return rows

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        recipe = msgspec.json.encode(self._recipe)
        for _ in range(min(self._plan.processes, len(self._missing))):
            ours, theirs = context.Pipe()
            process = context.Process(target=load_parts, args=(theirs, self._plan.dsn, recipe), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._busy.append(ours)
            self._give_part(ours)

    def _give_part(self, pipe: Connection) -> None:
        if self._missing:
            pipe.send_bytes(msgspec.json.encode(self._missing.popleft()))
        else:
            self._busy.remove(pipe)
            pipe.close()

    def _receive(self, pipe: Connection) -> Loaded:
        try:
            message: FromLoader = msgspec.json.decode(pipe.recv_bytes(), type=FromLoader)
        except (EOFError, ConnectionResetError):
            raise LoadFailed("a client process ended in the middle of a part") from None
        if isinstance(message, LoadError):
            raise LoadFailed(message.text)
        return message


def load_parts(pipe: Connection, dsn: str, recipe_json: bytes) -> None:
    """Main function of a child process: loads the parts it is told until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    recipe = msgspec.json.decode(recipe_json, type=Recipe)
    loader = PartLoader(lambda: open_connection(dsn), recipe)
    try:
        while True:
            part = msgspec.json.decode(pipe.recv_bytes(), type=Part)
            pipe.send_bytes(msgspec.json.encode(_load_or_tell(loader, part)))
    except (EOFError, ConnectionResetError, BrokenPipeError):
        pass  # No more parts.
    finally:
        loader.close()


def _load_or_tell(loader: PartLoader, part: Part) -> FromLoader:
    try:
        return Loaded(part, loader.load(part))
    except psycopg.Error as failure:
        return LoadError(f"{part.name}: {failure.sqlstate or ''} {failure}".strip())


class PartLoader:
    """Loads parts over one connection, anew where it is lost."""

    def __init__(self, connect: Callable[[], Any], recipe: Recipe) -> None:
        self._connect = connect
        self._recipe = recipe
        self._connection: Any = None

    def load(self, part: Part) -> int:
        """Loads a part exactly once, however often it takes; returns its rows."""
        tables = make_lines(part, self._recipe)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return self._try(part, tables)
            except psycopg.Error as failure:
                is_lost = self._connection is None or self._connection.closed
                is_retryable = is_lost or failure.sqlstate in (SERIALIZATION_FAILURE, DEADLOCK_DETECTED)
                if not is_retryable or attempt == ATTEMPTS_MAX:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _try(self, part: Part, tables: dict[str, list[str]]) -> int:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        connection = self._connection
        rows = sum(len(lines) for lines in tables.values())
        with connection.transaction():
            # A COMMIT that was lost on its way may have happened.
            if connection.execute("SELECT row_count FROM tpcc_loaded WHERE part = $1", [part.name]).fetchall():
                return rows
            for table, lines in tables.items():
                _copy(connection, table, lines)
            connection.execute("INSERT INTO tpcc_loaded (part, row_count) VALUES ($1, $2)", [part.name, rows])
        return rows

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _copy(connection: Any, table: str, lines: list[str]) -> None:
    assert table in TABLES, f"{table=}"
    with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        for first in range(0, len(lines), BLOCK_LINES):
            copy.write("\n".join(lines[first : first + BLOCK_LINES]) + "\n")


def _build(connection: Any, wanted: dict[str, str], output: Output) -> None:
    """Makes the indexes and foreign keys that are not there; each is recorded like a part."""
    done = {part for (part,) in connection.execute("SELECT part FROM tpcc_loaded").fetchall()}
    for name, statement in wanted.items():
        if name in done:
            continue
        output.note(f"making {name}")
        try:
            connection.execute(statement)
        except (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject):
            pass  # Made by a load that was interrupted before it could say so.
        connection.execute("INSERT INTO tpcc_loaded (part, row_count) VALUES ($1, 0)", [name])


def _analyze(connection: Any, output: Output) -> None:
    """Gives the planner statistics, where the server has such a command."""
    try:
        for table in TABLES:
            connection.execute(f"ANALYZE {table}")
    except psycopg.Error as failure:
        if failure.sqlstate not in (FEATURE_NOT_SUPPORTED, "42601"):
            raise
        output.note(f"no statistics: {failure}")
