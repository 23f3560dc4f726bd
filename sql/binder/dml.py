"""INSERT, UPDATE, DELETE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from base.errors import error
from base.types import INT4, OID, TEXT
from planner.context import ExecContext
from planner.expr import And, Call, Col, Const, Expr, Field, RowExpr, Subquery
from planner.functions.registry import STABLE, Function
from planner.nodes import Delete, Filter, Join, Node, Project, TableExprs, Update
from planner.schema import REFRESHING, ColumnDesc, TableDesc
from sql.binder.context import Source
from sql.binder.expressions import ExprBinder, record_type
from sql.binder.from_clause import FromBinder, alias_of, column_type, table_scan
from sql.binder.parts import bind_part, require_column, target_column
from sql.binder.queries import BoundQuery
from sql.binder.scope import FromTree, RangeItem, Scope
from sql.binder.table_exprs import assigned, bind_table_exprs, default_value
from sql.binder.targets import assign_ids, bind_targets, output_of, resolve_targets
from sql.binder.tree import form_of, position_of, text_of
from sql.binder.updatable import Target, open_view
from sql.parse import forms
from sql.parse.statements import RawRows

if TYPE_CHECKING:
    from sql.binder.queries import QueryBinder

Returning = tuple[tuple[int, ...], tuple[Expr, ...]]


def bind_dml(
    queries: QueryBinder, node: exp.Expr, source: Source, raw_rows: RawRows | None = None, overriding: str = ""
) -> BoundQuery:
    """Binds a data-modifying statement, with its own WITH clause."""
    from planner.nodes import With
    from sql.binder.insert import bind_insert
    from sql.binder.queries import QueryBinder as Binder

    clause = node.args.get("with_")
    if clause is not None:
        inner = Binder(queries.ctx, queries)
        inner.depth = queries.depth
        ctes = inner.with_clause(clause, None, source)
        found = _dispatch(inner, node, source, raw_rows, overriding)
        return BoundQuery(With(tuple(ctes), found.node), found.columns)
    if isinstance(node, exp.Insert):
        return bind_insert(queries, node, source, raw_rows, overriding)
    return _dispatch(queries, node, source, raw_rows, overriding)


def _dispatch(
    queries: QueryBinder, node: exp.Expr, source: Source, raw_rows: RawRows | None, overriding: str
) -> BoundQuery:
    from sql.binder.insert import bind_insert

    if isinstance(node, exp.Insert):
        return bind_insert(queries, node, source, raw_rows, overriding)
    if isinstance(node, exp.Update):
        return bind_update(queries, node, source)
    assert isinstance(node, exp.Delete), f"{node=}"
    return bind_delete(queries, node, source)


# --- shared -----------------------------------------------------------------------------------------


def target_of(queries: QueryBinder, node: exp.Expr, letter: str) -> Target:
    """What a statement writes, a view looked through; raises 42P01, 42809, 55000."""
    found = _target_relation(queries, node)
    if found.kind == "v":
        return open_view(queries, found, letter, position_of(node.args.get("db") or node.this))
    queries.ctx.use_table(found, letter)
    return Target(found, [])


def _target_relation(queries: QueryBinder, node: exp.Expr) -> TableDesc:
    schema_node = node.args.get("db")
    schema = schema_node.name if schema_node is not None else None
    name, position = node.name, position_of(schema_node or node.this)
    if schema is None and name in queries.ctes:
        raise error("42P01", f'relation "{name}" cannot be the target of a modifying statement', position=position + 1)
    found = queries.ctx.catalog.find_relation(schema, name)
    if found is None:
        full = name if schema is None else f"{schema}.{name}"
        raise error("42P01", f'relation "{full}" does not exist', position=position + 1)
    if not isinstance(found, TableDesc):
        raise error("42501", f'permission denied: "{name}" is a system catalog')
    if queries.ctx.catalog.is_of_other_session(found):
        raise error("0A000", "cannot access temporary tables of other sessions", position=position + 1)
    if found.kind == "m" and REFRESHING not in found.options:
        raise error("42809", f'cannot change materialized view "{name}"')
    if found.kind == "S":
        raise error("42809", f'cannot change sequence "{name}"')
    return found


def target_table(queries: QueryBinder, node: exp.Expr, letter: str) -> TableDesc:
    """The table that MERGE writes; raises 42P01, 42809."""
    found = _target_relation(queries, node)
    if found.kind == "v":
        text = f'cannot execute MERGE on relation "{found.name}"'
        raise error("0A000", text, detail="This operation is not supported for views.")
    queries.ctx.use_table(found, letter)
    return found


def bind_returning(
    queries: QueryBinder, node: exp.Expr, scope: Scope, source: Source
) -> tuple[Returning | None, list[object]]:
    """RETURNING: (ids and expressions, output columns)."""
    clause = node.args.get("returning")
    if clause is None:
        return None, []
    binder = ExprBinder(queries.ctx, source, scope, queries, "RETURNING")
    targets = bind_targets(binder, clause.expressions)
    resolve_targets(queries.ctx, targets)
    assign_ids(queries.ctx, targets)
    # The ids must not be those of the row itself: the executor computes a fresh output row.
    for target in targets:
        if isinstance(target.expr, Col) and target.expr.id == target.id:
            from planner.nodes import ColumnInfo

            known = queries.ctx.metadata[target.id]
            target.id = queries.ctx.metadata.add(
                ColumnInfo(target.name, known.type, known.typmod, known.table_oid, known.attnum, known.nullable)
            )
    ids = tuple([target.id for target in targets])
    columns: list[object] = list(output_of(targets))
    return (ids, tuple([target.expr for target in targets])), columns


def old_ids(item: RangeItem) -> tuple[int, ...]:
    """Ids of the target's columns as they are before the change."""
    assert item.scan is not None, f"{item.alias=}"
    return item.scan.columns


def _joined(
    queries: QueryBinder, target: FromTree, first: exp.Expr, joins: Sequence[exp.Expr], source: Source
) -> FromTree:
    """The target table with the tables of FROM or USING."""
    other = FromBinder(queries, None, source).bind(first, joins)
    for item in other.items:
        if item.alias == target.items[0].alias:
            raise error("42712", f'table name "{item.alias}" specified more than once')
    node = Join("inner", target.node, other.node, None)
    return FromTree(node, target.items + other.items, target.columns + other.columns)


# --- UPDATE -----------------------------------------------------------------------------------------


def bind_update(queries: QueryBinder, node: exp.Expr, source: Source) -> BoundQuery:
    """UPDATE t SET .. FROM .. WHERE .. RETURNING .."""
    target = target_of(queries, node.this, "w")
    table = target.table
    alias = alias_of(node.this)[0] or target.names.name
    tree, old = _scan_of(queries, target, alias, source)
    clause = node.args.get("from_")
    if clause is not None:
        # sqlglot hangs the further tables of FROM on its first one.
        tree = _joined(queries, tree, clause.this, (), source)
    scope = Scope(None, tree.items, tree.columns)
    plan = tree.node
    # SET is bound before WHERE: that is where parameters get their types from first.
    sets, plan = bind_sets(queries, node.expressions, target.names, scope, source, plan)
    where = node.args.get("where")
    if where is not None:
        binder = ExprBinder(queries.ctx, source, scope, queries, "WHERE")
        plan = _filtered(plan, binder.condition(where.this, "WHERE"))
    elif queries.ctx.current_of:
        plan = _filtered(plan, _is_current(queries, target, old, scope, source))
    exprs, row = bind_table_exprs(queries, table, alias)
    new, conditions = target.through(queries, row, alias)
    others = [column for item in tree.items[1:] for column in item.columns]
    own = tree.items[0].columns
    kept = [column for column in tree.columns if column not in own]
    seen = Scope(None, [new, *tree.items[1:]], new.columns + (kept or others))
    returning, columns = bind_returning(queries, node, seen, source)
    if returning is not None:
        target.read(queries)
    update = Update(table, plan, old_ids(old), tuple(sets), exprs, returning)
    update.checks = target.checks(conditions)
    return BoundQuery(update, columns)  # type: ignore[arg-type]  # output columns


def _scan_of(queries: QueryBinder, target: Target, alias: str, source: Source) -> tuple[FromTree, RangeItem]:
    """The rows that may be changed, under the statement's names; and the table's own row behind them."""
    tree = table_scan(FromBinder(queries, None, source), target.table, alias)
    old = tree.items[0]
    if not target.views:
        return tree, old
    shown, conditions = target.through(queries, old, alias)
    return FromTree(target.filtered(tree.node, conditions), [shown], list(shown.columns)), old


def _filtered(plan: Node, condition: Expr) -> Node:
    """The condition below a projection that only adds columns for SET."""
    if isinstance(plan, Project):
        return Project(Filter(plan.input, condition), plan.columns, plan.exprs)
    return Filter(plan, condition)


def cursor_key(ctx: ExecContext, cursor: str, table: int, column: int) -> object:
    """One column of the primary key of the row a cursor stands on."""
    return ctx.cursor_key(cursor, table)[column]


def _is_current(queries: QueryBinder, target: Target, item: RangeItem, scope: Scope, source: Source) -> Expr:
    """WHERE CURRENT OF: the row whose primary key the cursor holds when the statement runs."""
    if target.views:
        raise error("0A000", "WHERE CURRENT OF on a view is not implemented")
    table = target.table
    binder = ExprBinder(queries.ctx, source, scope, queries, "WHERE")
    columns = {c.attnum: c for c in (*item.columns, *item.hidden)}
    terms: list[Expr] = []
    cursor = Const(queries.ctx.current_of, TEXT)
    for i, part in enumerate(table.indexes[0].columns):
        column = columns[part.column_id]
        held = Function(
            "current_of", (TEXT, OID, INT4), column.type, cursor_key, needs_context=True, volatility=STABLE
        )  # fmt: skip
        value = Call(held, (cursor, Const(table.id, OID), Const(i, INT4)), column.type)
        terms.append(binder.operator("=", column.reference(), value, -1))
    return terms[0] if len(terms) == 1 else And(tuple(terms))


def bind_sets(
    queries: QueryBinder,
    nodes: Sequence[exp.Expr],
    table: TableDesc,
    scope: Scope,
    source: Source,
    plan: Node,
    clause: str = "UPDATE",
    is_planned: bool = True,
) -> tuple[list[tuple[int, Expr]], Node]:
    """SET items: (attnum, value) each; a row assigned from a subquery adds a column to the plan."""
    binder = ExprBinder(queries.ctx, source, scope, queries, clause)
    sets: list[tuple[int, Expr]] = []
    for node in nodes:
        call = node.expression
        if form_of(call) == forms.SET_PART:
            bind_part(queries, binder, table, call, sets)
            continue
        names = [text_of(name) for name in call.expressions[1:]]
        value = call.expressions[0]
        position = position_of(call)
        columns = [target_column(table, name, position) for name in names]
        for column in columns:
            require_column(column, table, "update")
            if any(column.id == attnum for attnum, _ in sets) or sum(other.id == column.id for other in columns) > 1:
                raise error("42601", f'multiple assignments to same column "{column.name}"')
        if form_of(call) == forms.SET_ONE:
            sets.append((columns[0].id, _assigned(queries, binder, columns[0], value)))
        else:
            found, plan = _row_assigned(queries, binder, columns, value, plan, position, is_planned)
            sets.extend(found)
    return sets, plan


def _assigned(queries: QueryBinder, binder: ExprBinder, column: ColumnDesc, node: exp.Expr) -> Expr:
    position = position_of(node)
    is_default = form_of(node) == forms.DEFAULT
    if column.generated or column.identity == "a":
        if not is_default:
            detail = f'Column "{column.name}" is a generated column.' if column.generated else (
                f'Column "{column.name}" is an identity column defined as GENERATED ALWAYS.')  # fmt: skip
            raise error("428C9", f'column "{column.name}" can only be updated to DEFAULT', detail=detail, position=None)
        if column.generated:
            return Const(None, column_type(queries, column.type_oid), column.typmod)
    if is_default:
        return default_value(queries, column)
    return assigned(queries, binder.bind(node), column, column_type(queries, column.type_oid), position)


def _row_assigned(
    queries: QueryBinder,
    binder: ExprBinder,
    columns: list[ColumnDesc],
    value: exp.Expr,
    plan: Node,
    position: int,
    is_planned: bool,
) -> tuple[list[tuple[int, Expr]], Node]:
    """(a, b) = (1, 2), ROW(1, 2) or (SELECT ..).

    ``is_planned``: the subquery becomes a column of the plan; ON CONFLICT has none and asks it for every field.
    """
    if form_of(value) == forms.ROW:
        items = value.expressions
        if len(items) != len(columns):
            raise error("42601", "number of columns does not match number of values", position=position + 1)
        return [(column.id, _assigned(queries, binder, column, item)) for column, item in zip(columns, items)], plan
    if form_of(value) != forms.SCALAR:
        if len(columns) == 1:
            return [(columns[0].id, _assigned(queries, binder, columns[0], value))], plan
        text = "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression"
        raise error("0A000", text, position=position_of(value) + 1)
    found = queries.subquery(value.expressions[0], binder.scope, binder.source)
    if len(found.columns) != len(columns):
        raise error("42601", "number of columns does not match number of values", position=position + 1)
    row = record_type([(c.name, c.type) for c in found.columns])
    cell = queries.ctx.add_column("row", row)
    values = RowExpr(tuple([Col(c.id, c.type, c.typmod, c.name) for c in found.columns]), row)
    subquery = Subquery("scalar", Project(found.node, (cell,), (values,)), row)
    if not is_planned:
        fields: list[Expr] = [Field(subquery, i, c.type, c.typmod) for i, c in enumerate(found.columns)]
        return [_stored(queries, c, field, position) for c, field in zip(columns, fields)], plan
    id = queries.ctx.add_column("row", row)
    passed = [_passed(queries, column) for column in plan.columns]
    plan = Project(plan, (*plan.columns, id), (*passed, subquery))
    fields = [Field(Col(id, row, -1, "row"), i, c.type, c.typmod) for i, c in enumerate(found.columns)]
    return [_stored(queries, c, field, position) for c, field in zip(columns, fields)], plan


def _stored(queries: QueryBinder, column: ColumnDesc, value: Expr, position: int) -> tuple[int, Expr]:
    return column.id, assigned(queries, value, column, column_type(queries, column.type_oid), position)


def _passed(queries: QueryBinder, id: int) -> Col:
    known = queries.ctx.metadata[id]
    return Col(id, known.type, known.typmod, known.name)


# --- DELETE -----------------------------------------------------------------------------------------


def bind_delete(queries: QueryBinder, node: exp.Expr, source: Source) -> BoundQuery:
    """DELETE FROM t USING .. WHERE .. RETURNING .."""
    target = target_of(queries, node.this, "d")
    table = target.table
    alias = alias_of(node.this)[0] or target.names.name
    tree, old = _scan_of(queries, target, alias, source)
    using = node.args.get("using") or []
    if using:
        tree = _joined(queries, tree, using[0], [exp.Join(this=item) for item in using[1:]], source)
    scope = Scope(None, tree.items, tree.columns)
    plan = tree.node
    where = node.args.get("where")
    if where is not None:
        condition = ExprBinder(queries.ctx, source, scope, queries, "WHERE").condition(where.this, "WHERE")
        plan = Filter(plan, condition)
    elif queries.ctx.current_of:
        plan = Filter(plan, _is_current(queries, target, old, scope, source))
    returning, columns = bind_returning(queries, node, scope, source)
    if where is not None or returning is not None:
        target.read(queries)
    delete = Delete(table, plan, old_ids(old), _delete_exprs(queries, table), returning)
    return BoundQuery(delete, columns)  # type: ignore[arg-type]  # output columns


def _delete_exprs(queries: QueryBinder, table: TableDesc) -> TableExprs:
    return bind_table_exprs(queries, table)[0]
