"""Expressions stored with tables, bound and printed as PostgreSQL prints them; printed texts are kept while the catalog stays.

What is stored is the text somebody wrote; only here it becomes ``(a > 0)`` or ``'x'::text``.  A text that does not
bind any more (what it calls is gone), or has a part that cannot be printed, is shown as it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from base.errors import MeridianError
from base.types import BIT, BPCHAR
from planner.schema import ColumnDesc, TableDesc
from sql.binder import Binder, Scalar
from sql.pgcatalog.exprtext import ExpressionText, NotPrintable, looks_like_function

if TYPE_CHECKING:
    from sql.view import SessionView

TEXTS_MAX: Final = 20_000
"""Texts kept by a server; more and it starts anew."""


class PrintedTexts:
    """Texts of one state of the catalog, by what they depend on besides."""

    def __init__(self) -> None:
        self._generation = 0
        self._texts: dict[Any, str] = {}

    def get(self, generation: int, key: Any, make: Callable[[], str]) -> str:
        """Returns a kept text, or makes it; those of drafts are not kept."""
        if generation < 0:
            return make()
        if generation != self._generation or len(self._texts) >= TEXTS_MAX:
            self._generation = generation
            self._texts.clear()
        found = self._texts.get(key)
        if found is None:
            found = self._texts[key] = make()
        return found


def condition_text(view: SessionView, table: TableDesc, text: str, is_pretty: bool) -> str:
    """A CHECK, or the predicate of an index."""
    return _printed(
        view,
        table,
        text,
        is_pretty,
        "condition",
        lambda binder: binder.bind_condition(text, table, "check constraints"),
    )


def index_text(view: SessionView, table: TableDesc, text: str, is_pretty: bool) -> str:
    """An expression of an index, in parentheses unless it looks like a function."""
    return _printed(view, table, text, is_pretty, "index", lambda binder: _index_expression(binder, table, text))


def _index_expression(binder: Binder, table: TableDesc, text: str) -> Scalar:
    return binder.bind_scalar(text, table, None, -1, "index expressions")


def value_text(view: SessionView, table: TableDesc, text: str, is_pretty: bool) -> str:
    """An expression over a table's row that stands alone."""
    return _printed(view, table, text, is_pretty, "value", lambda binder: _index_expression(binder, table, text))


def generated_text(view: SessionView, table: TableDesc, column: ColumnDesc, is_pretty: bool) -> str:
    """What GENERATED ALWAYS AS computes."""
    text = column.generated
    return _printed(
        view, table, text, is_pretty, f"column {column.id}",
        lambda binder: binder.bind_assignment(text, table, column, "column generation expressions"),
    )  # fmt: skip


def default_text(view: SessionView, table: TableDesc, column: ColumnDesc, is_pretty: bool) -> str:
    """A column's DEFAULT; "" if there is none."""
    if not column.default:
        return ""
    return _printed(
        view, table, column.default, is_pretty, f"default {column.id}", lambda binder: binder.bind_default(column)
    )


def _printed(
    view: SessionView, table: TableDesc, text: str, is_pretty: bool, kind: str, bind: Callable[[Binder], Scalar]
) -> str:
    session = view.session
    io = session.literal_io()
    names = (view.path, view.temp_name if view.has_temp else "")
    key = (table.id, text, kind, is_pretty, names, io._replace(regs=None))

    def make() -> str:
        try:
            bound = bind(Binder(view, session.server.registry, io, keeps_forms=True))
            assert bound.written is not None, f"{text=}"
            columns = {id: column.name for id, column in zip(bound.row, table.columns)}
            printer = ExpressionText(
                bound.written, columns, io, lambda pg_type, typmod: _type_text(view, pg_type.oid, typmod), is_pretty
            )
            shown = printer.whole(bound.expr)
            return f"({shown})" if kind == "index" and not looks_like_function(bound.written, bound.expr) else shown
        except (MeridianError, NotPrintable):
            return f"({text})" if kind == "index" else text

    return session.server.printed.get(view.state.generation, key, make)


def pretty_text(view: SessionView, table: TableDesc, text: str) -> str:
    """The pretty text of the stored expression whose plain text the catalogs show."""
    for plain, pretty in _stored(view, table):
        if plain() == text:
            return pretty()
    return text


def updatable_names(view: SessionView, table: TableDesc) -> tuple[str, ...]:
    """Columns of a table or view that can be written."""
    if table.kind == "r":
        return tuple(column.name for column in table.columns if not column.generated)
    if table.kind != "v":
        return ()
    binder = Binder(view, view.session.server.registry)
    kept = view.session.server.printed.get(
        view.state.generation, (table.id, "updatable", view.path), lambda: "\0".join(binder.updatable_columns(table))
    )
    return tuple(kept.split("\0")) if kept else ()


def _stored(view: SessionView, table: TableDesc) -> Iterator[tuple[Callable[[], str], Callable[[], str]]]:
    """(plain text, pretty text) of every expression stored with a table."""
    for column in table.columns:
        if column.generated:
            yield (
                partial(generated_text, view, table, column, False),
                partial(generated_text, view, table, column, True),
            )
        elif column.default:
            yield partial(default_text, view, table, column, False), partial(default_text, view, table, column, True)
    conditions = [check.expression for check in table.checks]
    conditions += [index.predicate for index in table.indexes if index.predicate]
    for text in conditions:
        yield partial(condition_text, view, table, text, False), partial(condition_text, view, table, text, True)
    for index in table.indexes:
        for part in index.columns:
            if part.expression:
                yield (
                    partial(value_text, view, table, part.expression, False),
                    partial(value_text, view, table, part.expression, True),
                )


def _type_text(view: SessionView, oid: int, typmod: int) -> str:
    """As format_type with a typmod: what has none is not the same as ``character``, which has 1."""
    from sql.pgcatalog.deparse import format_type

    if typmod < 0 and oid in (BPCHAR.oid, BIT.oid):
        return "bpchar" if oid == BPCHAR.oid else '"bit"'
    return format_type(view, oid, typmod)
