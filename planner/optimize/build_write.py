"""Builds INSERT, UPDATE and DELETE: writers of tables with their constraints and foreign keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from base.errors import FeatureNotSupported
from base.types import UNKNOWN
from kvtier.messages import Lock, Wait
from planner.exec.foreign import InboundKey, OutboundKey, unsupported_default
from planner.exec.merge import MergeOp, MergePart
from planner.exec.modify import DeleteOp, InsertOp, UpdateOp
from planner.exec.rivals import drawn_keys, named_homes
from planner.exec.runtime import Operator, RowsFunction
from planner.exec.scalar import pick_rows
from planner.exec.unique import DeferrableKey
from planner.exec.upsert import Upsert
from planner.exec.write import IndexWriter, TableWriter
from planner.expr import Const, Expr
from planner.nodes import (
    Delete,
    Filter,
    Insert,
    Join,
    Merge,
    MergeAction,
    Node,
    OnConflict,
    Project,
    Scan,
    TableExprs,
    Update,
    Values,
)
from planner.optimize.tree import base_scan, conjuncts, has_subquery, made_columns, walk_nodes
from planner.schema import ForeignKeyDesc, TableDesc

if TYPE_CHECKING:
    from planner.optimize.physical import Builder

WRITE_COST = 10.0


class WriteBuilder:
    """Part of the Builder; keeps one TableWriter per table, so that cascades may go in circles."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.writers: dict[int, TableWriter] = {}

    # --- writers

    def desc(self, table_id: int) -> TableDesc:
        statement = self.builder.statement
        return statement.foreign.get(table_id) or statement.tables[table_id]

    def writer(self, desc: TableDesc, exprs: TableExprs | None = None) -> TableWriter:
        """The writer of a table; made once, before what it refers to."""
        found = self.writers.get(desc.id)
        if found is not None:
            return found
        exprs = exprs or self.builder.statement.table_exprs.get(desc.id)
        if exprs is None:
            exprs = TableExprs(tuple([-1 - column.id for column in desc.columns]))
        self.builder.statement.table_exprs.setdefault(desc.id, exprs)
        access = (
            self.builder.access(desc.id)
            if desc.id in self.builder.statement.tables or desc.id in self.builder.statement.foreign
            else self._access(desc)
        )
        writer = self.writers[desc.id] = TableWriter(access, exprs)
        self._add_constraints(writer, exprs)
        writer.indexes = [self._index_writer(writer, index.desc.id) for index in access.secondary]
        for at, index in enumerate(access.secondary):
            if index.desc.deferrable:
                writer.deferrable.append((at, DeferrableKey(writer, at)))
        self._add_keys(writer, desc)
        return writer

    def _access(self, desc: TableDesc):  # type: ignore[no-untyped-def]
        from planner.access import table_access

        return table_access(desc, self.builder.types, self.builder.statement.table_exprs.get(desc.id))

    def _add_constraints(self, writer: TableWriter, exprs: TableExprs) -> None:
        access = writer.access
        for attnum in access.attnums:
            if attnum in exprs.generated:
                function = self.builder.rows_function([exprs.generated[attnum]], exprs.row)
                writer.generated.append((access.position[attnum], function))
        for name, check in exprs.checks:
            writer.checks.append((name, self.builder.rows_function([check], exprs.row)))

    def _index_writer(self, writer: TableWriter, index_id: int) -> IndexWriter:
        index, exprs = writer.access.by_id[index_id], writer.exprs
        if not index.is_known:
            raise FeatureNotSupported(f'writing through index "{index.desc.name}", whose expressions are not bound')
        predicate = None
        if index.desc.predicate:
            predicate = self.builder.rows_function([exprs.index_predicates[index_id]], exprs.row)
        computed = None
        names = []
        for i, column in enumerate(index.desc.columns):
            names.append(writer.access.columns[column.column_id].name if column.column_id else column.expression)
            assert column.column_id or i in index.expr_types, index.desc.name
        if index.expr_types:
            keyed = [
                expr for i, expr in enumerate(exprs.index_exprs[index_id]) if i in index.expr_types and expr is not None
            ]
            computed = self.builder.rows_function(keyed, exprs.row)
        return IndexWriter(index, predicate, computed, names)

    def _add_keys(self, writer: TableWriter, desc: TableDesc) -> None:
        builder = self.builder
        if desc.keys_disabled or self._is_replica():
            return
        for key in desc.foreign_keys:
            writer.outbound.append(
                OutboundKey(
                    key,
                    writer.access,
                    builder.access(key.target_table) if key.target_table != desc.id else writer.access,
                )
            )
        for child_id in dict.fromkeys(
            (*desc.inbound, *((desc.id,) if any(k.target_table == desc.id for k in desc.foreign_keys) else ()))
        ):
            child_desc = self.desc(child_id)
            for key in child_desc.foreign_keys:
                if key.target_table == desc.id:
                    child = self.writer(child_desc) if acts(key) else None
                    access = child.access if child is not None else builder.access(child_id)
                    inbound = InboundKey(key, writer.access, access, child, self._defaults(key, child_desc))
                    writer.inbound.append(inbound)

    def _is_replica(self) -> bool:
        """session_replication_role: what comes from elsewhere was checked there."""
        settings = self.builder.settings
        return settings is not None and settings["session_replication_role"] == "replica"

    def _defaults(self, key: ForeignKeyDesc, child: TableDesc) -> RowsFunction | None:
        """The referencing columns' defaults, if an action needs them."""
        if "SET DEFAULT" not in (key.on_delete, key.on_update):
            return None
        columns = {column.id: column for column in child.columns}
        if not any(columns[attnum].default for attnum in key.columns):
            return None
        exprs = self.builder.statement.table_exprs.get(child.id)
        defaults: dict[int, Expr] = getattr(exprs, "defaults", {}) if exprs is not None else {}
        for attnum in key.columns:
            if columns[attnum].default and attnum not in defaults:
                raise unsupported_default(child.name, columns[attnum].name)
        return self.builder.rows_function([defaults.get(attnum, Const(None, UNKNOWN)) for attnum in key.columns], ())

    # --- statements

    def _returning(
        self, returning: tuple[tuple[int, ...], tuple[Expr, ...]] | None, columns: tuple[int, ...]
    ) -> RowsFunction | None:
        return None if returning is None else self.builder.rows_function(returning[1], columns)

    def insert(self, node: Insert) -> Operator:
        builder = self.builder
        writer = self.writer(node.table, node.exprs)
        input = builder.aligned(builder.build(node.input), node.input.columns)
        places = {attnum: i for i, attnum in enumerate(node.attnums)}
        positions = [places.get(attnum) for attnum in writer.access.attnums]
        streams = all(isinstance(part, (Values, Project)) for part in walk_nodes(node.input))
        upsert = None if node.on_conflict is None else self._upsert(node.on_conflict, writer)
        drawn = drawn_keys(writer.access, node.attnums, node.input) if upsert is None else frozenset()
        returning = self._returning(node.returning, node.exprs.row)
        operator = InsertOp(input, writer, node.columns, returning, positions, streams, upsert, drawn)
        operator.homes = named_homes(writer.access, node.attnums, node.input)
        operator.checks = self._view_checks(node)
        operator.counts = builder.cte_depth == 0
        operator.estimate(input.rows if node.returning else 0.0, input.cost + WRITE_COST * input.rows)
        return operator

    def _view_checks(self, node: Insert | Update) -> list[tuple[str, RowsFunction]]:
        return [(view, self.builder.rows_function([condition], node.exprs.row)) for view, condition in node.checks]

    def _upsert(self, conflict: OnConflict, writer: TableWriter) -> Upsert:
        builder, access = self.builder, writer.access
        columns = conflict.existing + conflict.excluded
        arbiters = frozenset([index.id for index in conflict.arbiters])
        if conflict.update is None:
            return Upsert(writer, arbiters, None, None)
        sets = dict(conflict.update)
        types = access.types
        exprs = [self._new_value(attnum, sets, conflict.existing[i], writer) for i, attnum in enumerate(access.attnums)]
        assert len(types) == len(exprs), f"{len(types)=} {len(exprs)=}"
        where = None if conflict.where is None else builder.rows_function([conflict.where], columns)
        return Upsert(writer, arbiters, builder.rows_function(exprs, columns), where)

    def _new_value(self, attnum: int, sets: dict[int, Expr], old: int, writer: TableWriter) -> Expr:
        from planner.expr import Col

        column = writer.access.columns[attnum]
        return sets[attnum] if attnum in sets else Col(old, writer.access.types[attnum], column.typmod, column.name)

    def _locked_input(self, node: Update | Delete | Merge) -> Operator:
        """The rows to change, each read under an exclusive lock."""
        builder = self.builder
        scan = base_scan(node.input)
        keys = [column.column_id for column in node.table.indexes[0].columns]
        positions = {column.id: i for i, column in enumerate(node.table.columns)}
        key_ids = tuple([node.old[positions[attnum]] for attnum in keys])
        attnums = tuple([column.id for column in node.table.columns])
        if scan is not None and scan.table.id == node.table.id:
            terms: list[Expr] = []
            part: Node = node.input
            while isinstance(part, Filter):
                terms += conjuncts(part.condition)
                part = part.input
            locked = Scan(scan.table, scan.columns, scan.attnums, scan.alias, int(Lock.EXCLUSIVE), scan.wait)
            return builder.scans.scan(locked, terms, (), None)
        from planner.optimize.build_scan import testable_terms

        input = builder.build(_without_locks(node.input, node.table.id))
        target = Scan(node.table, node.old, attnums, "", int(Lock.EXCLUSIVE), int(Wait.BLOCK))
        targets = [(target, key_ids, int(Lock.EXCLUSIVE), int(Wait.BLOCK))]
        if isinstance(node, Merge) and isinstance(node.input, Join) and node.input.kind == "left":
            # Whoever has changed meanwhile, and is no partner any more, leaves its source row unmatched.
            on = [term for term in conjuncts(node.input.on) if not has_subquery(term)]
            return builder.scans.locked(input, targets, on, made_columns(node.input), is_optional=True)
        return builder.scans.locked(input, targets, testable_terms(node.input), made_columns(node.input))

    def update(self, node: Update) -> Operator:
        builder = self.builder
        writer = self.writer(node.table, node.exprs)
        input = self._locked_input(node)
        sets = dict(node.sets)
        exprs = [self._new_value(attnum, sets, node.old[i], writer) for i, attnum in enumerate(writer.access.attnums)]
        old_of = self._old_rows(node.old, input)
        returning = self._returning(node.returning, node.exprs.row + input.columns)
        operator = UpdateOp(input, writer, node.columns, returning, old_of, builder.rows_function(exprs, input.columns))
        operator.changed = frozenset(sets)
        operator.checks = self._view_checks(node)
        operator.counts = builder.cte_depth == 0
        operator.estimate(input.rows if node.returning else 0.0, input.cost + WRITE_COST * input.rows)
        return operator

    def delete(self, node: Delete) -> Operator:
        builder = self.builder
        writer = self.writer(node.table, node.exprs)
        input = self._locked_input(node)
        returning = self._returning(node.returning, input.columns)
        operator = DeleteOp(input, writer, node.columns, returning, self._old_rows(node.old, input))
        operator.counts = builder.cte_depth == 0
        operator.estimate(input.rows if node.returning else 0.0, input.cost + WRITE_COST * input.rows)
        return operator

    def merge(self, node: Merge) -> Operator:
        builder = self.builder
        writer = self.writer(node.table, node.exprs)
        input = self._locked_input(node)
        actions = [self._merge_part(action, node.old, input.columns, writer) for action in node.actions]
        operator = MergeOp(input, writer, self._old_rows(node.old, input), actions)
        operator.counts = builder.cte_depth == 0
        operator.estimate(0.0, input.cost + WRITE_COST * input.rows)
        return operator

    def _merge_part(
        self, action: MergeAction, old: Sequence[int], columns: tuple[int, ...], writer: TableWriter
    ) -> MergePart:
        """One WHEN clause with its expressions compiled."""
        builder, given = self.builder, dict(action.values)
        condition = None if action.condition is None else builder.rows_function([action.condition], columns)
        new: RowsFunction | None = None
        if action.kind == "update":
            attnums = writer.access.attnums
            exprs = [self._new_value(attnum, given, old[i], writer) for i, attnum in enumerate(attnums)]
            new = builder.rows_function(exprs, columns)
        elif action.kind == "insert":
            nothing = Const(None, UNKNOWN)
            exprs = [given.get(attnum, nothing) for attnum in writer.access.attnums]
            new = builder.rows_function(exprs, columns)
        return MergePart(action.kind, action.is_matched, condition, new)

    def _old_rows(self, old: Sequence[int], input: Operator) -> RowsFunction:
        if tuple(old) == input.columns:
            return lambda rows, frame, ctx: rows
        return pick_rows([input.columns.index(id) for id in old])


def acts(key: ForeignKeyDesc) -> bool:
    """True if the key changes rows of its table, and does not only refuse."""
    refusing = ("NO ACTION", "RESTRICT")
    return key.on_delete not in refusing or key.on_update not in refusing


def _without_locks(node: Node, table_id: int) -> Node:
    """Scans of the target are locked by the statement itself, after the joins."""
    from planner.optimize.tree import map_tree

    def rewrite(part: Node) -> Node:
        if isinstance(part, Scan) and part.table.id == table_id and part.lock:
            return Scan(part.table, part.columns, part.attnums, part.alias)
        return part

    return map_tree(node, rewrite)
