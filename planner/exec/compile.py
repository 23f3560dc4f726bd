"""Whole functions from expressions: scalars, predicates, projections, filters, over a row or a batch.

``planner.exec.codegen`` writes the expressions; here they get a function around them.  Batch functions loop inside
the generated code, and do once per call what does not depend on the row (parameters, sets of IN lists).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from base.errors import error
from planner.exec.codegen import ExprCompiler, Layout, SourceExpr, any_null
from planner.exec.fold import contains_volatile, fold, is_constant
from planner.expr import Call, Expr

__all__ = ["ExprCompiler", "SourceExpr", "build", "compile_batch", "compile_expr", "compile_filter_batch", "compile_predicate", "compile_projection",
           "compile_projection_batch", "compile_scalar", "compile_scalars_batch", "compile_set", "contains_volatile", "fold", "is_constant", "tuple_source"]  # fmt: skip

RowFunction = Callable[[Sequence[Any], Sequence[Any], Any], Any]
BatchFunction = Callable[[list[tuple[Any, ...]], Sequence[Any], Any], list[tuple[Any, ...]]]


def build(compiler: ExprCompiler, name: str, parameters: str, body: Sequence[str]) -> Any:
    """Defines a function from its body's lines, after the compiler's prologue, and returns it."""
    lines = [f"def {name}({parameters}):"]
    lines += [f"    {line}" for line in [*compiler.prologue, *body]]
    text = "".join(compiler.functions) + "\n".join(lines) + "\n"
    exec(compile(text, f"<{name}>", "exec"), compiler.namespace)  # noqa: S102  # the source is ours, constants are in the namespace
    return compiler.namespace[name]


def _guarded(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (RecursionError, MemoryError):
        raise error("54001", "stack depth limit exceeded") from None


def compile_scalar(expr: Expr, layout: Layout, **options: Any) -> RowFunction:
    """Returns ``f(row, params, ctx) -> datum``."""

    def make() -> Any:
        compiler = ExprCompiler(layout, **options)
        return build(compiler, "scalar", "row, params, ctx", [f"return {compiler.source(fold(expr))}"])

    return _guarded(make)  # type: ignore[no-any-return]


compile_expr = compile_scalar


def compile_predicate(expr: Expr, layout: Layout, **options: Any) -> RowFunction:
    """Returns ``f(row, params, ctx)``, truthy if and only if the expression is TRUE."""

    def make() -> Any:
        compiler = ExprCompiler(layout, **options)
        return build(compiler, "predicate", "row, params, ctx", [f"return {compiler.truth(fold(expr))}"])

    return _guarded(make)  # type: ignore[no-any-return]


def tuple_source(compiler: ExprCompiler, exprs: Sequence[Expr]) -> str:
    """Python source of a tuple of expressions."""
    return f"({''.join([f'{compiler.source(fold(expr))}, ' for expr in exprs])})"


def compile_projection(exprs: Sequence[Expr], layout: Layout, **options: Any) -> RowFunction:
    """Returns ``f(row, params, ctx) -> tuple``."""

    def make() -> Any:
        compiler = ExprCompiler(layout, **options)
        return build(compiler, "projection", "row, params, ctx", [f"return {tuple_source(compiler, exprs)}"])

    return _guarded(make)  # type: ignore[no-any-return]


def compile_batch(
    condition: Expr | None, exprs: Sequence[Expr] | None, layout: Layout, **options: Any
) -> BatchFunction:
    """Returns ``f(rows, params, ctx) -> list``: filters by ``condition``, then projects ``exprs`` (None: the row itself)."""

    def make() -> Any:
        compiler = ExprCompiler(layout, has_prologue=True, **options)
        test = "" if condition is None else compiler.truth(fold(condition))
        item = "row" if exprs is None else tuple_source(compiler, exprs)
        if not compiler.temporaries:
            where = f" if {test}" if test else ""
            return build(compiler, "batch", "rows, params, ctx", [f"return [{item} for row in rows{where}]"])
        # Temporaries inside a comprehension would become cells; a loop keeps them fast locals.
        inner = [f"    if {test}:", f"        append({item})"] if test else [f"    append({item})"]
        return build(
            compiler,
            "batch",
            "rows, params, ctx",
            ["out = []", "append = out.append", "for row in rows:", *inner, "return out"],
        )

    return _guarded(make)  # type: ignore[no-any-return]


def compile_projection_batch(exprs: Sequence[Expr], layout: Layout, **options: Any) -> BatchFunction:
    """Returns ``f(rows, params, ctx) -> list of tuples``."""
    return compile_batch(None, exprs, layout, **options)


def compile_filter_batch(condition: Expr, layout: Layout, **options: Any) -> BatchFunction:
    """Returns ``f(rows, params, ctx) -> the rows for which the condition is TRUE``."""
    return compile_batch(condition, None, layout, **options)


def compile_scalars_batch(
    expr: Expr, layout: Layout, **options: Any
) -> Callable[[list[tuple[Any, ...]], Sequence[Any], Any], list[Any]]:
    """Returns ``f(rows, params, ctx) -> list of datums``, one per row."""

    def make() -> Any:
        compiler = ExprCompiler(layout, has_prologue=True, **options)
        text = compiler.source(fold(expr))
        if not compiler.temporaries:
            return build(compiler, "batch", "rows, params, ctx", [f"return [{text} for row in rows]"])
        lines = ["out = []", "append = out.append", "for row in rows:", f"    append({text})", "return out"]
        return build(compiler, "batch", "rows, params, ctx", lines)

    return _guarded(make)  # type: ignore[no-any-return]


def compile_set(call: Call, layout: Layout, **options: Any) -> RowFunction:
    """Returns ``f(row, params, ctx) -> iterable`` of a set-returning call; () where a strict argument is NULL.

    Items are datums, or tuples for functions with ``out_fields``.
    """
    function = call.function
    assert function.returns_set, f"{function!r} does not return a set"

    def make() -> Any:
        compiler = ExprCompiler(layout, **options)
        args = [fold(arg) for arg in call.args]
        if function.strict:
            atoms, tests = compiler.arguments_of(args, None)
        else:
            atoms, tests = [compiler.source(arg) for arg in args], []
        given = ["ctx", *atoms] if function.needs_context else atoms
        body = f"{compiler.name(function.impl, 'f')}({', '.join(given)})"
        text = f"() if {any_null(tests)} else {body}" if tests else body
        return build(compiler, "series", "row, params, ctx", [f"return {text}"])

    return _guarded(make)  # type: ignore[no-any-return]
