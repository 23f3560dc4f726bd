"""Questions about sqlglot nodes: positions, names, forms."""

from __future__ import annotations

from sqlglot import exp

from sql.parse import forms

COLUMN_UNNAMED = "?column?"


_LEFT_OPERAND = {
    forms.OP: 1, forms.AND: 0, forms.OR: 0, forms.QUANTIFIED: 2, forms.IN: 1, forms.INSUB: 1, forms.INRAW: 1, forms.BETWEEN: 1,
    forms.IS: 1, forms.DISTINCT: 1, forms.CAST: 0, forms.COLLATE: 0, forms.ZONE: 0, forms.SUBSCRIPT: 0, forms.FIELD: 0, forms.STAR: 0,
    forms.OVERLAPS: 0,
}  # fmt: skip
"""Forms whose text begins with an operand, and which argument that is."""


def position_of(node: exp.Expr | None) -> int:
    """0-based offset where a node's text begins (PostgreSQL's exprLocation), or -1."""
    own = own_position(node)
    while isinstance(node, exp.Anonymous):
        at = _LEFT_OPERAND.get(node.name)
        if at is None or at >= len(node.expressions):
            break
        node = node.expressions[at]
        left = own_position(node)
        if 0 <= left < own or own < 0:
            own = left
    return own


def own_position(node: exp.Expr | None) -> int:
    """0-based offset of what a node is named by: of ``a + b``, the operator."""
    while node is not None:
        if isinstance(node, exp.Column):
            for part in ("catalog", "db", "table", "this"):
                found = node.args.get(part)
                if found is not None:
                    node = found
                    break
        meta = node._meta
        if meta and "start" in meta:
            return int(meta["start"])
        if isinstance(node, exp.Dot):
            node = node.this
            continue
        inner = node.args.get("this")
        if isinstance(inner, exp.Expr):
            node = inner
            continue
        items = node.args.get("expressions")
        node = items[0] if items else None
    return -1


def form_of(node: exp.Expr) -> str:
    """The form of an internal call (``sql.parse.forms``), or ""."""
    if isinstance(node, exp.Anonymous):
        name: str = node.name
        if name[:1] == forms.PREFIX_MARK:
            return name
    return ""


def text_of(node: exp.Expr) -> str:
    """Text of a string or number literal inside a form."""
    assert isinstance(node, exp.Literal), f"{node=}"
    return str(node.this)


def output_name(node: exp.Expr, types: object = ()) -> str:
    """The name PostgreSQL gives an output column without AS (FigureColname)."""
    return _figure(node, types)[0] or COLUMN_UNNAMED


def _figure(node: exp.Expr, types: object) -> tuple[str, int]:
    """(name, strength): 2 a real name, 1 a type's name or ``case``, 0 none."""
    if isinstance(node, exp.Column):
        return node.name, 2
    if isinstance(node, (exp.Window, exp.Filter, exp.WithinGroup, exp.Paren)):
        return _figure(node.this, types)
    if isinstance(node, exp.Dot):
        return _figure(node.expression, types)
    if isinstance(node, exp.Subquery):
        return _subquery_name(node, types)
    if form_of(node) == forms.SCALAR:
        return _subquery_name(node.expressions[0], types)
    if not isinstance(node, exp.Anonymous):
        return "", 0
    form = form_of(node)
    if not form:
        return node.name, 2
    args = node.expressions
    if form == forms.CAST:
        name, strength = _figure(args[0], types)
        if strength > 1:
            return name, strength
        assert isinstance(types, (list, tuple)), f"{types=}"
        return types[int(text_of(args[1]))].names[-1], 1
    if form == forms.CASE:
        if "e" in text_of(args[0]):
            name, strength = _figure(args[-1], types)
            if strength > 1:
                return name, strength
        return "case", 1
    if form == forms.COLLATE:
        return _figure(args[0], types)
    if form == forms.SUBSCRIPT:
        return _figure(args[0], types)
    if form == forms.FIELD:
        return text_of(args[1]), 2
    if form == forms.KEYWORD:
        return text_of(args[0]), 2
    return _FORM_NAMES.get(form, ""), 2 if form in _FORM_NAMES else 0


def _subquery_name(node: exp.Expr, types: object) -> tuple[str, int]:
    query = node.this
    while isinstance(query, (exp.SetOperation, exp.Subquery)):
        query = query.this
    if not isinstance(query, exp.Select) or not query.expressions:
        return "", 0
    first = query.expressions[0]
    if isinstance(first, exp.Alias):
        return first.alias, 2
    return _figure(first, types)


_FORM_NAMES = {
    forms.COALESCE: "coalesce", forms.NULLIF: "nullif", forms.GREATEST: "greatest", forms.LEAST: "least", forms.EXISTS: "exists",
    forms.ARRAY: "array", forms.ARRAYSUB: "array", forms.ROW: "row", forms.GROUPING: "grouping", forms.ZONE: "timezone",
    forms.OVERLAPS: "overlaps",
}  # fmt: skip
