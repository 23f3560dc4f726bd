"""Logical plan nodes: a closed family; the binder builds them, the optimizer rewrites them.

Every node lists its output as ``columns``: a tuple of column ids, in order.  Names and
types of ids are in the statement's ``Metadata``.  Nodes are immutable by convention: a
rewrite makes new ones.
"""

from __future__ import annotations

from typing import Any

from base.types import PgType
from planner.expr import AggCall, Expr, SortKey
from planner.schema import IndexDesc, TableDesc


class ColumnInfo:
    """What is known of a column id."""

    __slots__ = ("attnum", "name", "nullable", "table_oid", "type", "typmod")

    def __init__(
        self, name: str, type: PgType, typmod: int = -1, table_oid: int = 0, attnum: int = 0, nullable: bool = True
    ) -> None:
        self.name = name
        self.type = type
        self.typmod = typmod
        self.table_oid = table_oid
        self.attnum = attnum
        self.nullable = nullable


class Metadata:
    """Column ids of one statement."""

    def __init__(self) -> None:
        self.columns: list[ColumnInfo] = []

    def add(self, info: ColumnInfo) -> int:
        """Returns a fresh id."""
        self.columns.append(info)
        return len(self.columns) - 1

    def __getitem__(self, id: int) -> ColumnInfo:
        return self.columns[id]


class Node:
    """Base of plan nodes."""

    __slots__ = ("columns",)
    columns: tuple[int, ...]

    def inputs(self) -> tuple[Node, ...]:
        return ()

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        assert not inputs
        return self


class Scan(Node):
    """A base table.  ``columns[i]`` is the table's column with attnum ``attnums[i]``.

    ``lock``: Lock strength and wait policy of FOR UPDATE/SHARE (kvtier.messages), 0 none.
    """

    __slots__ = ("alias", "attnums", "lock", "table", "wait")

    def __init__(
        self,
        table: TableDesc,
        columns: tuple[int, ...],
        attnums: tuple[int, ...],
        alias: str,
        lock: int = 0,
        wait: int = 0,
    ) -> None:
        self.table = table
        self.columns = columns
        self.attnums = attnums
        self.alias = alias
        self.lock = lock
        self.wait = wait


class VirtualScan(Node):
    """A catalog relation computed from descriptors: ``relation.rows(ctx)`` yields tuples.

    ``relation`` is a ``sql.pgcatalog`` object; ``filters`` may carry (column position, value
    expression) equalities the relation can use to compute less.
    """

    __slots__ = ("alias", "filters", "positions", "relation")

    def __init__(
        self,
        relation: Any,
        columns: tuple[int, ...],
        positions: tuple[int, ...],
        alias: str,
        filters: tuple[tuple[int, Expr], ...] = (),
    ) -> None:
        self.relation = relation
        self.columns = columns
        self.positions = positions
        self.alias = alias
        self.filters = filters


class Values(Node):
    """Literal rows.  One row without columns is SELECT without FROM."""

    __slots__ = ("rows",)

    def __init__(self, rows: list[tuple[Expr, ...]], columns: tuple[int, ...]) -> None:
        self.rows = rows
        self.columns = columns


class FunctionScan(Node):
    """ROWS FROM (f(..), ..) [WITH ORDINALITY]: set-returning (or scalar) functions side by side.

    ``columns`` lists the functions' result columns in order, then the ordinality.  ``widths[i]`` is how many
    columns call i gives (1 for scalars; fields of a composite result otherwise).
    """

    __slots__ = ("calls", "ordinality", "widths")

    def __init__(
        self, calls: tuple[Expr, ...], widths: tuple[int, ...], columns: tuple[int, ...], ordinality: bool
    ) -> None:
        self.calls = calls
        self.widths = widths
        self.columns = columns
        self.ordinality = ordinality


class _Unary(Node):
    __slots__ = ("input",)
    input: Node

    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        new = object.__new__(type(self))
        for cls in type(self).__mro__:
            for slot in getattr(cls, "__slots__", ()):
                setattr(new, slot, getattr(self, slot))
        new.input = inputs[0]
        return new


class Filter(_Unary):
    """Rows for which ``condition`` is true."""

    __slots__ = ("condition",)

    def __init__(self, input: Node, condition: Expr) -> None:
        self.input = input
        self.condition = condition
        self.columns = input.columns


class Project(_Unary):
    """Computes ``columns[i]`` as ``exprs[i]``; passing a column through is a Col."""

    __slots__ = ("exprs",)

    def __init__(self, input: Node, columns: tuple[int, ...], exprs: tuple[Expr, ...]) -> None:
        assert len(columns) == len(exprs), f"{columns=} {exprs=}"
        self.input = input
        self.columns = columns
        self.exprs = exprs


class ProjectSet(_Unary):
    """Like Project where some exprs are set-returning Calls at top level: one row per longest set, NULL padded."""

    __slots__ = ("exprs",)

    def __init__(self, input: Node, columns: tuple[int, ...], exprs: tuple[Expr, ...]) -> None:
        self.input = input
        self.columns = columns
        self.exprs = exprs


class Join(Node):
    """``kind``: inner, left, right, full, semi, anti (the last two made by decorrelation only).

    ``lateral``: the right side may use the left's columns (a nested loop re-evaluates it per row).
    """

    __slots__ = ("kind", "lateral", "left", "on", "right")

    def __init__(self, kind: str, left: Node, right: Node, on: Expr | None, lateral: bool = False) -> None:
        self.kind = kind
        self.left = left
        self.right = right
        self.on = on
        self.lateral = lateral
        self.columns = left.columns if kind in ("semi", "anti") else left.columns + right.columns

    def inputs(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        return Join(self.kind, inputs[0], inputs[1], self.on, self.lateral)


class Aggregate(_Unary):
    """GROUP BY ``group`` (input column ids) computing ``aggs``; output = group columns, then aggs.

    ``grouping_sets``: positions into ``group`` per set, for GROUPING SETS/ROLLUP/CUBE; None is plain.
    With grouping sets, ``grouping_column`` (if not None) is an extra output id: bit mask as GROUPING().
    Without group columns there is exactly one output row.
    """

    __slots__ = ("agg_columns", "aggs", "group", "grouping_column", "grouping_sets")

    def __init__(
        self,
        input: Node,
        group: tuple[int, ...],
        agg_columns: tuple[int, ...],
        aggs: tuple[AggCall, ...],
        grouping_sets: tuple[tuple[int, ...], ...] | None = None,
        grouping_column: int | None = None,
    ) -> None:
        self.input = input
        self.group = group
        self.agg_columns = agg_columns
        self.aggs = aggs
        self.grouping_sets = grouping_sets
        self.grouping_column = grouping_column
        self.columns = group + agg_columns + (() if grouping_column is None else (grouping_column,))


class WindowFrame:
    """``mode`` rows, range, groups; bounds: ("unbounded_preceding"|"preceding"|"current"|"following"|"unbounded_following", offset Expr | None)."""

    __slots__ = ("end", "exclude", "mode", "start")

    def __init__(
        self, mode: str, start: tuple[str, Expr | None], end: tuple[str, Expr | None], exclude: str = "no others"
    ) -> None:
        self.mode = mode
        self.start = start
        self.end = end
        self.exclude = exclude


class Window(_Unary):
    """Adds ``window_columns``, computed by ``calls`` over one window definition; output = input + those."""

    __slots__ = ("calls", "frame", "order_by", "partition_by", "window_columns")

    def __init__(
        self,
        input: Node,
        window_columns: tuple[int, ...],
        calls: tuple[AggCall, ...],
        partition_by: tuple[Expr, ...],
        order_by: tuple[SortKey, ...],
        frame: WindowFrame,
    ) -> None:
        self.input = input
        self.window_columns = window_columns
        self.calls = calls
        self.partition_by = partition_by
        self.order_by = order_by
        self.frame = frame
        self.columns = input.columns + window_columns


class Sort(_Unary):
    __slots__ = ("keys",)

    def __init__(self, input: Node, keys: tuple[SortKey, ...]) -> None:
        self.input = input
        self.keys = keys
        self.columns = input.columns


class Limit(_Unary):
    """``limit``/``offset``: int8 expressions without columns, or None.  ``with_ties`` needs a Sort below."""

    __slots__ = ("limit", "offset", "with_ties")

    def __init__(self, input: Node, limit: Expr | None, offset: Expr | None, with_ties: bool = False) -> None:
        self.input = input
        self.limit = limit
        self.offset = offset
        self.with_ties = with_ties
        self.columns = input.columns


class Distinct(_Unary):
    """DISTINCT over all columns, or DISTINCT ON the given ids (first row of each in input order)."""

    __slots__ = ("on",)

    def __init__(self, input: Node, on: tuple[int, ...] | None = None) -> None:
        self.input = input
        self.on = on
        self.columns = input.columns


class SetOp(Node):
    """``kind`` union, intersect, except; inputs have as many columns, of equal types, as ``columns``."""

    __slots__ = ("all", "kind", "left", "right")

    def __init__(self, kind: str, all: bool, left: Node, right: Node, columns: tuple[int, ...]) -> None:
        self.kind = kind
        self.all = all
        self.left = left
        self.right = right
        self.columns = columns

    def inputs(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        return SetOp(self.kind, self.all, inputs[0], inputs[1], self.columns)


class Cte:
    """A common table expression, shared by its CteScans (compared by identity).

    ``recursive``: ``plan`` is the non-recursive term, ``step`` the recursive one, whose CteScans of this Cte
    read the working table; ``union_all`` False removes duplicates.  ``materialized``: True, False or None
    (planner decides: inlined if used once and free of side effects).
    """

    __slots__ = ("columns", "materialized", "name", "plan", "recursive", "step", "union_all")

    def __init__(
        self, name: str, plan: Node | None, columns: tuple[int, ...], materialized: bool | None = None
    ) -> None:
        self.name = name
        self.plan = plan
        self.columns = columns
        self.materialized = materialized
        self.recursive = False
        self.step: Node | None = None
        self.union_all = True


class With(_Unary):
    """Defines CTEs for ``input``.  Data-modifying ones run to the end even if not read."""

    __slots__ = ("ctes",)

    def __init__(self, ctes: tuple[Cte, ...], input: Node) -> None:
        self.ctes = ctes
        self.input = input
        self.columns = input.columns


class CteScan(Node):
    """Reads a CTE; ``columns[i]`` is the fresh id for ``cte.columns[i]``."""

    __slots__ = ("alias", "cte")

    def __init__(self, cte: Cte, columns: tuple[int, ...], alias: str) -> None:
        self.cte = cte
        self.columns = columns
        self.alias = alias


class LockRows(_Unary):
    """FOR UPDATE/SHARE above joins: locks the rows of ``tables`` that survive (after filters, before LIMIT).

    ``targets``: (Scan alias, TableDesc, column ids of its primary key, lock, wait).
    """

    __slots__ = ("targets",)

    def __init__(self, input: Node, targets: tuple[tuple[str, TableDesc, tuple[int, ...], int, int], ...]) -> None:
        self.input = input
        self.targets = targets
        self.columns = input.columns


class OnConflict:
    """ON CONFLICT.  ``arbiters``: indexes that may conflict (empty: any unique index, DO NOTHING only).

    ``update``: None for DO NOTHING, else (attnum, Expr) over ``existing`` ids (the row found) and
    ``excluded`` ids (the row proposed); ``where`` likewise.
    """

    __slots__ = ("arbiters", "excluded", "existing", "update", "where")

    def __init__(
        self,
        arbiters: tuple[IndexDesc, ...],
        update: tuple[tuple[int, Expr], ...] | None,
        where: Expr | None,
        existing: tuple[int, ...],
        excluded: tuple[int, ...],
    ) -> None:
        self.arbiters = arbiters
        self.update = update
        self.where = where
        self.existing = existing
        self.excluded = excluded


class TableExprs:
    """Bound expressions of a table that writing it needs, over ids ``row`` (one per column, in attnum order).

    ``checks``: (constraint name, Expr); ``index_predicates``: index id -> Expr; ``index_exprs``:
    index id -> one Expr or None per key column; ``generated``: attnum -> Expr.
    """

    __slots__ = ("checks", "defaults", "generated", "index_exprs", "index_predicates", "row")

    def __init__(self, row: tuple[int, ...]) -> None:
        self.row = row
        self.checks: tuple[tuple[str, Expr], ...] = ()
        self.index_predicates: dict[int, Expr] = {}
        self.index_exprs: dict[int, tuple[Expr | None, ...]] = {}
        self.generated: dict[int, Expr] = {}
        self.defaults: dict[int, Expr] = {}
        """attnum -> default, of tables reached by ON .. SET DEFAULT."""


class Insert(_Unary):
    """Writes the input's rows.  Input columns stand for ``attnums`` (defaults already filled in by the binder:
    every column of the table but generated ones is there).  ``returning``: columns/exprs over ``exprs.row`` ids.
    """

    __slots__ = ("attnums", "checks", "exprs", "on_conflict", "returning", "table")

    def __init__(
        self,
        table: TableDesc,
        input: Node,
        attnums: tuple[int, ...],
        exprs: TableExprs,
        on_conflict: OnConflict | None,
        returning: tuple[tuple[int, ...], tuple[Expr, ...]] | None,
    ) -> None:
        self.table = table
        self.input = input
        self.attnums = attnums
        self.exprs = exprs
        self.on_conflict = on_conflict
        self.returning = returning
        self.columns = returning[0] if returning else ()
        self.checks: tuple[tuple[str, Expr], ...] = ()
        """WITH CHECK OPTION: (view, condition over ``exprs.row`` that must be true of rows as they are written)."""


class Update(_Unary):
    """Updates rows of ``table``: the input gives, per row to update, the old row as ``old`` ids (all columns of the
    table, attnum order) and whatever ``sets`` needs.  A row that appears twice is updated once (first wins).
    ``returning`` expressions see ``exprs.row`` (the new row) and the input's columns.
    """

    __slots__ = ("checks", "exprs", "old", "returning", "sets", "table")

    def __init__(
        self,
        table: TableDesc,
        input: Node,
        old: tuple[int, ...],
        sets: tuple[tuple[int, Expr], ...],
        exprs: TableExprs,
        returning: tuple[tuple[int, ...], tuple[Expr, ...]] | None,
    ) -> None:
        self.table = table
        self.input = input
        self.old = old
        self.sets = sets
        self.exprs = exprs
        self.returning = returning
        self.columns = returning[0] if returning else ()
        self.checks: tuple[tuple[str, Expr], ...] = ()
        """As those of Insert."""


class Delete(_Unary):
    """Deletes rows of ``table``; see Update.  ``returning`` sees ``old`` and the input's columns."""

    __slots__ = ("exprs", "old", "returning", "table")

    def __init__(
        self,
        table: TableDesc,
        input: Node,
        old: tuple[int, ...],
        exprs: TableExprs,
        returning: tuple[tuple[int, ...], tuple[Expr, ...]] | None,
    ) -> None:
        self.table = table
        self.input = input
        self.old = old
        self.exprs = exprs
        self.returning = returning
        self.columns = returning[0] if returning else ()


class MergeAction:
    """One WHEN clause of MERGE: ``kind`` update, delete, insert or nothing; ``values`` (attnum, Expr) of update and insert."""

    __slots__ = ("condition", "is_matched", "kind", "values")

    def __init__(
        self, is_matched: bool, condition: Expr | None, kind: str, values: tuple[tuple[int, Expr], ...] = ()
    ) -> None:
        self.is_matched = is_matched
        self.condition = condition
        self.kind = kind
        self.values = values


class Merge(_Unary):
    """MERGE: the input is the source with, outer joined, the target's row as ``old`` ids.

    Each input row does what the first of ``actions`` says that fits it: matched if the old row is there.  Expressions
    are over the input's columns; an insert gives every column but generated ones.
    """

    __slots__ = ("actions", "exprs", "old", "table")

    def __init__(
        self, table: TableDesc, input: Node, old: tuple[int, ...], actions: tuple[MergeAction, ...], exprs: TableExprs
    ) -> None:
        self.table = table
        self.input = input
        self.old = old
        self.actions = actions
        self.exprs = exprs
        self.columns = ()


class Statement:
    """A bound statement: what the planner is given.

    ``foreign``: for every table written, what its foreign keys need: table id -> TableDesc of
    itself, of every table it references and of every table that references it (transitively for cascades).
    """

    __slots__ = (
        "command",
        "foreign",
        "keys",
        "metadata",
        "output_names",
        "params",
        "root",
        "table_exprs",
        "tables",
        "volatile",
    )

    def __init__(
        self,
        command: str,
        root: Node,
        metadata: Metadata,
        output_names: tuple[str, ...],
        params: tuple[PgType, ...],
        tables: dict[int, TableDesc],
    ) -> None:
        self.command = command
        """SELECT, INSERT, UPDATE, DELETE, MERGE: the tag of CommandComplete."""
        self.root = root
        self.metadata = metadata
        self.output_names = output_names
        self.params = params
        self.tables = tables
        """Every descriptor used, by id: the plan cache checks their versions."""
        self.foreign: dict[int, TableDesc] = {}
        self.table_exprs: dict[int, TableExprs] = {}
        """For tables reached by foreign key cascades."""
        self.keys: dict[int, tuple[int, ...]] = {}
        """Of a cursor's query: table -> where its primary key is in the root's columns, behind the output."""
        self.volatile = False
