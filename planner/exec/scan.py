"""Reading tables: scans of spans, fetches of points, and the way from an index entry to its row.

    SpanMaker   positions of a path -> key spans (or points), evaluated when the scan is opened
    Fetcher     entries of an index -> rows of the wanted columns, through the primary index if need be
    ScanOp      spans -> Fetcher -> residual filter

Spans are in key order and disjoint: lists may hold equal values, and a reverse scan walks
them from the last.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, Final

from base.arrays import flatten_array
from base.errors import error
from base.keys import RANGE_ERRORS, prefix_end
from kvtier.messages import Lock, ScanResult, Wait
from planner.access import IndexAccess
from planner.exec.runtime import (
    BATCH_ROWS,
    Operator,
    Rows,
    RowsFunction,
    Run,
    ScalarFunction,
    Stream,
    evaluate,
    evaluate_scalar,
)
from planner.expr import Expr
from txn.transaction import SKIPPED

FIRST_PAGE_ROWS: Final = 32
"""Rows of the first page where a LIMIT above may stop early; pages then grow fourfold."""
SPANS_MAX: Final = 1_000_000
"""Most spans of one scan."""

Span = tuple[bytes, bytes]
BlockFunction = Callable[[list[bytes], list[Any], Any, Any], Rows]
"""A generated loop over entries: (keys, values, frame, ctx) -> rows."""


class BoundPosition:
    """One key column's condition with its values compiled; see ``optimize.paths.Position``."""

    def __init__(self, kind: str, values: list[ScalarFunction], lower: ScalarFunction | None = None, lower_inclusive: bool = True, upper: ScalarFunction | None = None, upper_inclusive: bool = True) -> None:  # fmt: skip
        self.kind = kind
        self.values = values
        self.lower = lower
        self.lower_inclusive = lower_inclusive
        self.upper = upper
        self.upper_inclusive = upper_inclusive
        self.regions: tuple[str, ...] = ()
        """regions: all that there are."""
        self.scalar_tuple = False
        """array: its elements are tuples themselves."""

    async def candidates(self, run: Run) -> list[Any]:
        """The values the column may have; NULL equals nothing, but IS NULL asks for it."""
        if self.kind == "regions":
            return list(self.regions)
        if self.kind == "null":
            return [None]
        found = [await evaluate_scalar(value, (), run) for value in self.values]
        if self.kind == "array":
            array = found[0]
            found = [] if array is None else list(flatten_array(array, self.scalar_tuple)[0])
        return [value for value in found if value is not None]


class SpanMaker:
    """Turns conditions on the leading key columns into spans."""

    def __init__(self, index: IndexAccess, positions: list[BoundPosition], is_point: bool) -> None:
        self.index = index
        self.positions = positions
        self.is_point = is_point
        self.is_anywhere = is_point and bool(positions) and positions[0].kind == "regions"
        """The region is not given: ``points`` are of the region to look in first (``planner.exec.anywhere``)."""

    async def points(self, run: Run) -> list[bytes]:
        """Keys of a unique index, every column given; in key order, none twice."""
        encode = self.index.unique_codec.encode
        keys: set[bytes] = set()
        lists = [await position.candidates(run) for position in self.positions]
        if self.is_anywhere:
            lists[0] = [self.index.home(run.ctx.region)]
        for values in product(*lists):
            try:
                keys.add(encode(values))
            except RANGE_ERRORS:
                continue
        return sorted(keys)

    async def spans(self, run: Run) -> list[Span]:
        """Spans in key order; overlapping ones are joined."""
        equal = [position for position in self.positions if position.kind != "range"]
        lists = [await position.candidates(run) for position in equal]
        total = 1
        for found in lists:
            total *= len(found)
        if total > SPANS_MAX:
            raise error("54000", f"a scan of {total} key spans is too complex")
        last = self.positions[-1] if self.positions and self.positions[-1].kind == "range" else None
        bounds = await self._bounds(last, run)
        if bounds is None:
            return []
        spans: list[Span] = []
        for values in product(*lists):
            span = self._span(values, last, bounds)
            if span is not None:
                spans.append(span)
        return merge_spans(spans)

    async def _bounds(self, last: BoundPosition | None, run: Run) -> tuple[Any, Any] | None:
        """Values of the range, or None if one is NULL: then nothing matches."""
        if last is None:
            return None, None
        lower = await evaluate_scalar(last.lower, (), run) if last.lower is not None else None
        upper = await evaluate_scalar(last.upper, (), run) if last.upper is not None else None
        if (last.lower is not None and lower is None) or (last.upper is not None and upper is None):
            return None
        return lower, upper

    def _span(self, values: tuple[Any, ...], last: BoundPosition | None, bounds: tuple[Any, Any]) -> Span | None:
        codec = self.index.codec
        try:
            if last is None:
                start = codec.encode_prefix(values)
                return start, prefix_end(start)
            start, end = codec.range_span(values, bounds[0], last.lower_inclusive, bounds[1], last.upper_inclusive)
        except RANGE_ERRORS:
            return None
        return (start, end) if start < end else None


def merge_spans(spans: list[Span]) -> list[Span]:
    """Sorted, without overlaps."""
    spans.sort()
    out: list[Span] = []
    for start, end in spans:
        if out and start < out[-1][1]:
            if end > out[-1][1]:
                out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out


class Fetcher:
    """From entries of an index to rows of wanted columns."""

    def __init__(self, index: IndexAccess, attnums: tuple[int, ...], used: tuple[int, ...], covering: bool) -> None:
        table = index.table
        self.index = index
        self.covering = covering
        self.primary_key = index.primary_key
        self.decode = index.decoder(attnums) if covering else table.decoder(attnums)
        self.projection = table.projection(used)
        self.entry_projection = self.projection if index.is_primary else b""
        """Projection of reads of the index itself."""

    async def rows(
        self, keys: list[bytes], values: list[Any], run: Run, lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK
    ) -> Rows:
        """Rows of entries; rows locked elsewhere (SKIP LOCKED) or gone (with a lock) are left out."""
        decode = self.decode
        if self.covering:
            return [decode(key, value) for key, value in zip(keys, values)]
        make = self.primary_key
        primary = [make(key, value) for key, value in zip(keys, values)]
        found = await get_many(run, primary, lock, wait, self.projection)
        out: Rows = []
        for key, value in zip(primary, found):
            if value.__class__ is bytes:
                out.append(decode(key, value))
            elif value is None and lock == Lock.NONE:
                raise self._missing_row(key)
        return out

    def _missing_row(self, key: bytes) -> Exception:
        return error("XX002", f'index "{self.index.desc.name}" has an entry without a row at key {key.hex()}')

    async def entries(self, keys: list[bytes], values: list[Any], run: Run) -> tuple[list[bytes], list[Any]]:
        """Keys and values to read columns from: the entries themselves, or the rows they lead to, without locks."""
        if self.covering:
            return keys, values
        make = self.primary_key
        primary = [make(key, value) for key, value in zip(keys, values)]
        found = await get_many(run, primary, Lock.NONE, Wait.BLOCK, self.projection)
        if None in found:
            raise self._missing_row(primary[found.index(None)])
        return primary, found


async def get_many(run: Run, keys: list[bytes], lock: Lock, wait: Wait, projection: bytes) -> list[Any]:
    """One batch of gets."""
    if not keys:
        return []
    run.trips += 1
    if len(keys) == 1:
        value: Any = run.txn.get(keys[0], lock, wait, projection)
        if value.__class__ is not bytes and value is not None and value is not SKIPPED:
            value = await value
        return [value]
    found = run.txn.get_many(keys, lock, wait, projection)
    return found if found.__class__ is list else await found  # type: ignore[misc]


async def claim(run: Run, keys: list[bytes], rivals: list[bytes]) -> list[Any]:
    """One batch that locks keys and looks whether they, or their rivals in other regions, are there."""
    if not rivals:
        return await get_many(run, keys, Lock.EXCLUSIVE, Wait.BLOCK, b"")
    run.trips += 1
    found = run.txn.claim(keys, rivals)
    return found if found.__class__ is list else await found  # type: ignore[misc]


async def scan_page(run: Run, start: bytes, end: bytes, reverse: bool, limit: int, projection: bytes) -> ScanResult:
    """One page of a span."""
    run.trips += 1
    page = run.txn.scan(start, end, reverse=reverse, limit=limit, projection=projection)
    return page if page.__class__ is ScanResult else await page  # type: ignore[misc]


async def scan_pages(run: Run, spans: list[Span], limit: int, projection: bytes) -> list[ScanResult]:
    """The next page of each span, in one batch."""
    if len(spans) == 1:
        return [await scan_page(run, *spans[0], False, limit, projection)]
    run.trips += 1
    pages = run.txn.scan_many(spans, limit, projection)
    return pages if pages.__class__ is list else await pages  # type: ignore[misc]


class ScanOp(Operator):
    """Reads one table through one index."""

    def __init__(
        self, columns: tuple[int, ...], index: IndexAccess, fetcher: Fetcher, spans: SpanMaker, residual: RowsFunction | None,
        alias: str, conditions: tuple[tuple[Expr, ...], tuple[Expr, ...]], reverse: bool = False, lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK,
    ) -> None:  # fmt: skip
        self.columns = columns
        self.index = index
        self.fetcher = fetcher
        self.spans = spans
        self.residual = residual
        self.alias = alias
        self.conditions = conditions
        """(matched by the index, residual): for EXPLAIN."""
        self.reverse = reverse
        self.lock = lock
        self.wait = wait
        self.limit_hint: int | None = None
        """Rows after which the reader may stop; 0: unknown but few."""
        self.block: BlockFunction | None = None
        """Decodes and tests a page in one loop, in place of the fetcher and the residual; never with a lock."""
        self.path: Any = None
        """The optimize.paths.Path it was made of; compiled point plans start from it."""

    def title(self) -> str:
        desc = self.index.table.desc
        name = desc.name + (f" {self.alias}" if self.alias and self.alias != desc.name else "")
        backward = " Backward" if self.reverse else ""
        if self.index.is_primary and not self.conditions[0] and not self.spans.positions and not self.reverse:
            return f"Seq Scan on {name}"
        only = " Only" if self.fetcher.covering and not self.index.is_primary else ""
        return f"Index{only} Scan{backward} using {self.index.desc.name} on {name}"

    def details(self) -> list[tuple[str, Any]]:
        matched, residual = self.conditions
        out: list[tuple[str, Any]] = []
        if matched:
            out.append(("Index Cond", _all_of(matched)))
        if residual:
            out.append(("Filter", _all_of(residual)))
        if self.spans.positions and self.spans.positions[0].kind == "regions":
            out.append(("Regions", "local first" if self.spans.is_anywhere else "all"))
        return out

    def open(self, run: Run) -> Stream:
        return PointStream(self, run) if self.spans.is_point else ScanStream(self, run)


def _all_of(terms: tuple[Expr, ...]) -> Any:
    from planner.expr import And

    return terms[0] if len(terms) == 1 else And(terms)


class PointStream(Stream):
    """Fetches the rows of a list of keys, some at a time."""

    def __init__(self, operator: ScanOp, run: Run) -> None:
        self.operator = operator
        self.run = run
        self.keys: list[bytes] | None = None
        self.position = 0
        self.page = BATCH_ROWS if operator.limit_hint is None else operator.limit_hint or FIRST_PAGE_ROWS

    async def next(self) -> Rows:
        operator, run = self.operator, self.run
        if self.keys is None:
            self.keys = await operator.spans.points(run)
            if operator.reverse:
                self.keys.reverse()
        while self.position < len(self.keys):
            keys = self.keys[self.position : self.position + self.page]
            self.position += len(keys)
            rows = await self._fetch(keys)
            if rows and operator.residual is not None:
                rows = await evaluate(operator.residual, rows, run)
            if rows:
                return rows
        return []

    async def _fetch(self, keys: list[bytes]) -> Rows:
        operator, run = self.operator, self.run
        fetcher = operator.fetcher
        direct = operator.index.is_primary
        lock, wait = (operator.lock, operator.wait) if direct else (Lock.NONE, Wait.BLOCK)
        if operator.spans.is_anywhere:
            from planner.exec.anywhere import get_anywhere

            keys, found = await get_anywhere(run, operator.index, keys, lock, wait, fetcher.entry_projection)
        else:
            found = await get_many(run, keys, lock, wait, fetcher.entry_projection)
        hits = [i for i, value in enumerate(found) if value.__class__ is bytes]
        return await fetcher.rows([keys[i] for i in hits], [found[i] for i in hits], run, operator.lock, operator.wait)


class ScanStream(Stream):
    """Scans spans page by page."""

    def __init__(self, operator: ScanOp, run: Run) -> None:
        self.operator = operator
        self.run = run
        self.spans: list[Span] | None = None
        """Left to read; the next one is the last."""
        hint = operator.limit_hint
        self.page = BATCH_ROWS
        if hint is not None:
            self.page = hint if hint and operator.residual is None else FIRST_PAGE_ROWS
            self.page = min(self.page, BATCH_ROWS)

    async def next(self) -> Rows:
        operator, run = self.operator, self.run
        while True:
            page = await self._page()
            if page is None:
                return []
            if operator.block is not None:
                keys, values = await operator.fetcher.entries(page.keys, page.values, run)
                rows = operator.block(keys, values, run.frame, run.ctx)
            else:
                rows = await operator.fetcher.rows(page.keys, page.values, run, operator.lock, operator.wait)
                if rows and operator.residual is not None:
                    rows = await evaluate(operator.residual, rows, run)
            if rows:
                return rows
            run.ctx.check_interrupt()

    async def next_entries(self) -> tuple[list[bytes], list[Any]] | None:
        """The next page as ``Fetcher.entries`` gives it, before any test, in place of ``next``; None at the end."""
        page = await self._page()
        return None if page is None else await self.operator.fetcher.entries(page.keys, page.values, self.run)

    async def _page(self) -> ScanResult | None:
        """The next page that has entries."""
        operator, run = self.operator, self.run
        if self.spans is None:
            self.spans = await operator.spans.spans(run)
            if not operator.reverse:
                self.spans.reverse()
        while self.spans:
            start, end = self.spans.pop()
            page = await scan_page(run, start, end, operator.reverse, self.page, operator.fetcher.entry_projection)
            self.page = min(self.page * 4, BATCH_ROWS)
            if page.resume is not None:
                self.spans.append((start, page.resume) if operator.reverse else (page.resume, end))
                await run.breathe()
            if page.keys:
                return page
            run.ctx.check_interrupt()
        return None
