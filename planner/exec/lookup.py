"""Index nested-loop join, a batch of outer rows at a time.

outer rows -> values of the inner index columns -> distinct keys -> one multi-get (unique),
or one batch with a scan per distinct key -> inner rows -> pairs

Ranges that a batch goes to are asked at once (``kvtier.router``): a batch of outer rows costs one round trip, and another
where the index does not hold all columns.  What has more rows than fit is asked for again, together.
"""

from __future__ import annotations

from typing import Any, Final

from base.keys import RANGE_ERRORS, prefix_end
from kvtier.messages import Lock, ScanResult, Wait
from planner.access import IndexAccess
from planner.exec.anywhere import get_anywhere
from planner.exec.join import JoinOp, Matcher
from planner.exec.runtime import BATCH_ROWS, Operator, Rows, RowsFunction, Run, Stream, evaluate
from planner.exec.scan import Fetcher, get_many, scan_pages
from planner.expr import Expr

LOOKUP_ROWS: Final = 256
"""Outer rows joined at once."""
PAGES_ROWS_MAX: Final = 16 * BATCH_ROWS
"""Inner rows that one batch of scans may return: 64 of each of 256 spans."""


class LookupSide(Operator):
    """The inner table of a lookup join, for EXPLAIN and for its columns."""

    def __init__(
        self,
        columns: tuple[int, ...],
        index: IndexAccess,
        alias: str,
        conditions: tuple[Expr, ...],
        residual: tuple[Expr, ...],
    ) -> None:
        self.columns = columns
        self.index = index
        self.alias = alias
        self.conditions = conditions
        self.residual_terms = residual

    def title(self) -> str:
        desc = self.index.table.desc
        name = desc.name + (f" {self.alias}" if self.alias and self.alias != desc.name else "")
        return f"Index Scan using {self.index.desc.name} on {name}"

    def details(self) -> list[tuple[str, Any]]:
        out: list[tuple[str, Any]] = [("Index Cond", list(self.conditions))]
        if self.residual_terms:
            out.append(("Filter", list(self.residual_terms)))
        return out

    def open(self, run: Run) -> Stream:
        raise AssertionError("the inner side of a lookup join is not opened")


class LookupJoinOp(JoinOp):
    """``values_of`` computes, from an outer row, the values of the first index columns."""

    name = "Nested Loop"

    def __init__(
        self, kind: str, left: Operator, right: LookupSide, condition: Expr | None, mask: RowsFunction | None,
        values_of: RowsFunction, width: int, fetcher: Fetcher, residual: RowsFunction | None,
    ) -> None:  # fmt: skip
        super().__init__(kind, left, right, condition, mask)
        assert kind in ("inner", "left", "semi", "anti"), kind
        self.values_of = values_of
        self.index = right.index
        self.is_point = right.index.is_unique and width == right.index.width
        self.fetcher = fetcher
        self.residual = residual
        self.is_anywhere = False
        """The region is not among the values: points are looked for at home first, then everywhere."""
        self.positions: tuple[Any, ...] = ()
        """What the values are for (``optimize.paths.Position``), for EXPLAIN (WAN)."""

    def open(self, run: Run) -> Stream:
        return LookupJoinStream(self, run)


class LookupJoinStream(Stream):
    def __init__(self, operator: LookupJoinOp, run: Run) -> None:
        self.operator = operator
        self.run = run
        self.left = run.open(operator.left)
        self.pending: Rows = []

    async def next(self) -> Rows:
        while True:
            left = self.pending or await self.left.next()
            if not left:
                return left
            self.pending = left[LOOKUP_ROWS:]
            out = await self._join(left[:LOOKUP_ROWS])
            if out:
                return out
            self.run.ctx.check_interrupt()

    async def _join(self, left: Rows) -> Rows:
        operator, run = self.operator, self.run
        values = await evaluate(operator.values_of, left, run)
        codec = operator.index.unique_codec if operator.is_point else operator.index.codec
        keys: list[bytes | None] = []
        if operator.is_anywhere:
            home = operator.index.home(run.ctx.region)
            values = [(home, *row) for row in values]
        for row in values:
            try:
                keys.append(None if None in row else codec.encode_prefix(row))
            except RANGE_ERRORS:
                keys.append(None)
        distinct = list(dict.fromkeys([key for key in keys if key is not None]))
        right: Rows = []
        found = await (self._points(distinct, right) if operator.is_point else self._spans(distinct, right))
        matcher = Matcher(operator, right, run)
        return await matcher.join(left, [None if key is None else found.get(key) for key in keys])

    async def _points(self, keys: list[bytes], right: Rows) -> dict[bytes, list[int]]:
        """Fetches unique keys; row numbers in ``right`` by key."""
        operator, run = self.operator, self.run
        projection = operator.fetcher.entry_projection
        places = keys
        if operator.is_anywhere:
            places, values = await get_anywhere(run, operator.index, keys, Lock.NONE, Wait.BLOCK, projection)
        else:
            values = await get_many(run, keys, Lock.NONE, Wait.BLOCK, projection)
        hits = [i for i, value in enumerate(values) if value is not None]
        rows = await operator.fetcher.rows([places[i] for i in hits], [values[i] for i in hits], run)
        return await self._number([[keys[i]] for i in hits], [[row] for row in rows], right)

    async def _spans(self, keys: list[bytes], right: Rows) -> dict[bytes, list[int]]:
        """Scans what starts with each key, all together; all entries found are fetched together."""
        operator, run = self.operator, self.run
        pages: list[list[ScanResult]] = [[] for _ in keys]
        wanted = [
            (place, start, prefix_end(start))
            for place, key in enumerate(keys)
            for start in ([key, *operator.index.siblings(key)] if operator.is_anywhere else [key])
        ]
        while wanted:
            limit = min(BATCH_ROWS, max(PAGES_ROWS_MAX // len(wanted), 1))
            spans = [(start, end) for _, start, end in wanted]
            found = await scan_pages(run, spans, limit, operator.fetcher.entry_projection)
            for (place, _, _), page in zip(wanted, found):
                pages[place].append(page)
            wanted = [(at, page.resume, end) for (at, _, end), page in zip(wanted, found) if page.resume is not None]
            run.ctx.check_interrupt()
        entry_keys = [key for group in pages for page in group for key in page.keys]
        entry_values = [value for group in pages for page in group for value in page.values]
        counts = [sum([len(page.keys) for page in group]) for group in pages]
        rows = await operator.fetcher.rows(entry_keys, entry_values, run)
        groups: list[Rows] = []
        at = 0
        for count in counts:
            groups.append(rows[at : at + count])
            at += count
        return await self._number([[key] for key in keys], groups, right)

    async def _number(self, keys: list[list[bytes]], groups: list[Rows], right: Rows) -> dict[bytes, list[int]]:
        """Appends the rows that pass the inner filter to ``right`` and numbers them by key."""
        residual = self.operator.residual
        found: dict[bytes, list[int]] = {}
        if residual is not None and groups:
            width = len(self.operator.right.columns)
            tagged = [(*row, i) for i, rows in enumerate(groups) for row in rows]
            kept = await evaluate(residual, tagged, self.run)
            groups = [[] for _ in groups]
            for row in kept:
                groups[row[width]].append(row[:width])
        for (key,), rows in zip(keys, groups):
            if rows:
                found[key] = list(range(len(right), len(right) + len(rows)))
                right += rows
        return found

    def close(self) -> None:
        self.left.close()
