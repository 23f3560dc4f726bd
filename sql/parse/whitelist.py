"""Nothing is silently dropped: every node and argument of a tree must be one the binder reads.

sqlglot knows thirty dialects; a clause it parsed and we would ignore is a wrong answer.  The table lists
the node classes the binder handles with the arguments it looks at; anything else is 0A000 by name.
"""

from __future__ import annotations

from typing import Final

from sqlglot import exp

from base.errors import FeatureNotSupported

_ALLOWED: Final[dict[type, frozenset[str]]] = {
    getattr(exp, name): frozenset(args.split())
    for name, args in {
        "Select": "expressions from_ joins where group having order limit offset locks distinct windows with_",
        "Union": "this expression distinct order limit offset with_ locks",
        "Intersect": "this expression distinct order limit offset with_ locks",
        "Except": "this expression distinct order limit offset with_ locks",
        "Subquery": "this alias joins with_ order limit offset",
        "Values": "expressions alias",
        "Insert": "this expression conflict returning with_ default",
        "Update": "this expressions from_ where returning with_",
        "Delete": "this using where returning with_",
        "OnConflict": "conflict_keys constraint action expressions index_predicate where duplicate",
        "Returning": "expressions",
        "Schema": "this expressions",
        "With": "expressions recursive",
        "CTE": "this alias materialized",
        "From": "this",
        "Join": "this side kind on using method",
        "Lateral": "this alias",
        "Table": "this db catalog alias joins",
        "TableAlias": "this columns",
        "Where": "this",
        "Group": "expressions",
        "Having": "this",
        "Order": "this expressions",
        "Ordered": "this desc nulls_first",
        "Limit": "expression",
        "Offset": "expression",
        "Lock": "update expressions wait key",
        "Distinct": "expressions on",
        "Alias": "this alias",
        "Anonymous": "this expressions",
        "Column": "this table db catalog",
        "Dot": "this expression",
        "Identifier": "this quoted",
        "Literal": "this is_string",
        "Null": "",
        "Boolean": "this",
        "Parameter": "this",
        "Star": "",
        "Tuple": "expressions",
        "Paren": "this",
        "EQ": "this expression",
        "Window": "this partition_by order spec alias over first",
        "WindowSpec": "kind start start_side end end_side exclude",
        "Filter": "this expression",
        "WithinGroup": "this expression",
        "Var": "this",
    }.items()
}


def check(tree: exp.Expr) -> None:
    """Raises 0A000 for the first node or argument that is not implemented."""
    for node in tree.walk():
        allowed = _ALLOWED.get(type(node))
        if allowed is None:
            raise FeatureNotSupported(f"{node.key.upper()} is not supported")
        for name, value in node.args.items():
            if value is not None and value is not False and value != [] and name not in allowed:
                raise FeatureNotSupported(f"{name.replace('_', ' ').upper()} of {node.key.upper()} is not supported")
