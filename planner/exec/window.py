"""Window functions over one partition: frames, peers, and aggregates over frames.

The operator sorts rows into partitions; for each it makes a ``Partition`` and asks
``window_column`` for every call's column::

    spec = FrameSpec(registry, node.frame, node.order_by)              when planning
    partition = Partition(spec, count, order_columns, offsets)         per partition
    column = window_column(function, partition, args, included, ctx)   per call

``order_columns[k][i]`` is the datum of ORDER BY key k in row i; ``args[i]`` the call's arguments in
row i; ``included[i]`` whether FILTER lets row i in (None: all).  ``offsets`` are the values of the
frame's bound expressions (None where there is none).

A frame is [start, end) of row numbers, less what EXCLUDE takes out.  Bounds never go back as the
row advances, which is what makes the aggregates cheap:

    frame                                  work for n rows, frames of w rows
    whole partition                        n steps, one result
    UNBOUNDED PRECEDING .. any             n steps (running)
    moving, with inverse or exact combine  O(n) steps (undo, or two stacks)
    moving otherwise, or with EXCLUDE      O(n w) steps (computed anew)

PostgreSQL 15 manual: 4.2.8, 9.22; nodeWindowAgg.c for NULLs and RANGE bounds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Final

from base.errors import MeridianError, error
from base.typeio.datetimes import date_to_timestamp
from base.types import DATE, TIME, PgType
from planner.exec.order import order_key
from planner.expr import SortKey
from planner.functions.registry import Aggregate, Registry, WindowFunction
from planner.functions.resolve import resolve_operator
from planner.nodes import WindowFrame

Row = tuple[Any, ...]
Arithmetic = Callable[[Any, Any], Any]

_COMBINED_EXACTLY: Final = frozenset(
    ["count", "sum", "avg", "min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor"]
)
"""Aggregates whose states may be combined in any grouping with the same result (not over floats)."""
_INEXACT: Final = ("float4", "float8")


class FrameSpec:
    """A window's ordering and frame, as planned.

    ``forward`` and ``backward`` move an ordering value by an offset along the order, for RANGE with offsets.
    """

    def __init__(self, registry: Registry, frame: WindowFrame, order_by: Sequence[SortKey]) -> None:
        self.mode = frame.mode
        self.start = frame.start[0]
        self.end = frame.end[0]
        self.exclude = frame.exclude
        self.keys = [order_key(key.expr.type) for key in order_by]
        self.descending = bool(order_by) and order_by[0].descending
        self.forward: Arithmetic | None = None
        self.backward: Arithmetic | None = None
        self.widen: Callable[[Any], Any] | None = None
        """Makes an ordering value comparable with what ``forward`` and ``backward`` give."""
        offsets = [bound[1] for bound in (frame.start, frame.end) if bound[1] is not None]
        self.offset_key = order_key(offsets[0].type) if offsets else None
        if self.mode == "range" and offsets:
            self._plan_range(registry, order_by, [offset.type for offset in offsets])
        if self.mode == "groups" and not order_by:
            raise error("42P20", "GROUPS mode requires an ORDER BY clause")

    def _plan_range(self, registry: Registry, order_by: Sequence[SortKey], offset_types: Sequence[PgType]) -> None:
        if len(order_by) != 1:
            raise error("42P20", "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column")
        value_type, offset_type = order_by[0].expr.type, offset_types[0]
        plus = resolve_operator(registry, "+", value_type, offset_type).function
        minus = resolve_operator(registry, "-", value_type, offset_type).function
        if plus.needs_context:
            raise error(
                "0A000", f"RANGE with offset PRECEDING/FOLLOWING is not supported for column type {value_type.name}"
            )
        self.forward, self.backward = plus.impl, minus.impl
        if value_type.oid == DATE.oid:
            # A date and an interval make a timestamp: that is what the ordering values are compared as.
            self.widen = date_to_timestamp
        elif value_type.oid == TIME.oid:
            # Unlike +, a bound does not go round past midnight (in_range_time_interval of PostgreSQL's date.c).
            self.forward, self.backward = _time_after, _time_before
        if self.descending:
            self.forward, self.backward = self.backward, self.forward


def _time_after(time: int, offset: tuple[int, int, int]) -> int:
    return time + offset[2]


def _time_before(time: int, offset: tuple[int, int, int]) -> int:
    return time - offset[2]


class Partition:
    """The rows of one partition, in order, as window functions see them.

    ``args[i]`` are the current call's arguments.  ``groups[i]`` numbers the peer group of row i;
    group g is rows ``group_starts[g]`` up to ``group_starts[g + 1]``.
    """

    def __init__(
        self,
        spec: FrameSpec,
        count: int,
        order_columns: Sequence[Sequence[Any]],
        offsets: tuple[Any, Any] = (None, None),
    ) -> None:
        self.spec = spec
        self.count = count
        self.args: Sequence[Row] = ()
        self.order_columns = order_columns
        self.offsets = offsets
        self.groups: list[int] = []
        self.group_starts: list[int] = []
        self._find_groups()
        self._frames: tuple[list[int], list[int]] | None = None

    def _find_groups(self) -> None:
        columns = []
        for key, column in zip(self.spec.keys, self.order_columns):
            columns.append(column if key is None else [None if v is None else key(v) for v in column])
        group = -1
        previous: Any = None
        for i in range(self.count):
            current = [column[i] for column in columns]
            if i == 0 or current != previous:
                group += 1
                self.group_starts.append(i)
                previous = current
            self.groups.append(group)
        self.group_starts.append(self.count)

    # --- frames ------------------------------------------------------------------

    def frames(self) -> tuple[list[int], list[int]]:
        """(start, end) of every row's frame, before EXCLUDE; end >= start."""
        if self._frames is None:
            _check_offset(self.spec.start, self.offsets[0], "starting", self.spec)
            _check_offset(self.spec.end, self.offsets[1], "ending", self.spec)
            starts = self._bounds(self.spec.start, self.offsets[0], False)
            ends = self._bounds(self.spec.end, self.offsets[1], True)
            self._frames = (starts, [max(start, end) for start, end in zip(starts, ends)])
        return self._frames

    def _bounds(self, kind: str, offset: Any, is_end: bool) -> list[int]:
        """Row number of one bound for every row: first row in the frame, or first row after it."""
        count = self.count
        if kind == "unbounded_preceding":
            return [0] * count
        if kind == "unbounded_following":
            return [count] * count
        if self.spec.mode == "rows":
            shift = (0 if kind == "current" else offset if kind == "following" else -offset) + (1 if is_end else 0)
            return [min(max(i + shift, 0), count) for i in range(count)]
        if kind == "current" or self.spec.mode == "groups":
            shift = 0 if kind == "current" else offset if kind == "following" else -offset
            return [self._group_bound(self.groups[i] + shift, is_end) for i in range(count)]
        return self._range_bounds(kind, offset, is_end)

    def _group_bound(self, group: int, is_end: bool) -> int:
        at = group + 1 if is_end else group
        return self.group_starts[min(max(at, 0), len(self.group_starts) - 1)]

    def _range_bounds(self, kind: str, offset: Any, is_end: bool) -> list[int]:
        """RANGE with an offset: binary search in the (sorted) ordering values; NULLs are peers of NULLs only."""
        column = self.order_columns[0]
        first, last = self._value_span(column)
        key = self.spec.widen or self.spec.keys[0]
        values = [column[i] if key is None else key(column[i]) for i in range(first, last)]
        if self.spec.widen is not None:
            key = None
        if self.spec.descending:
            values.reverse()
        move = self.spec.forward if kind == "following" else self.spec.backward
        assert move is not None
        out: list[int] = []
        for i in range(self.count):
            if not first <= i < last:
                out.append(self._group_bound(self.groups[i], is_end))
                continue
            try:
                bound = move(column[i], offset)
            except MeridianError as failure:
                if failure.sqlstate not in ("22003", "22008"):
                    raise
                # Past the type's end: nothing lies beyond.
                out.append(last if kind == "following" else first)
                continue
            out.append(first + self._search(values, bound if key is None else key(bound), is_end))
        return out

    def _search(self, values: list[Any], bound: Any, is_end: bool) -> int:
        if self.spec.descending:
            return len(values) - (bisect_left(values, bound) if is_end else bisect_right(values, bound))
        return bisect_right(values, bound) if is_end else bisect_left(values, bound)

    def _value_span(self, column: Sequence[Any]) -> tuple[int, int]:
        """The rows whose ordering value is not NULL: NULLs are all first or all last."""
        first = 0
        while first < self.count and column[first] is None:
            first += 1
        last = self.count
        while last > first and column[last - 1] is None:
            last -= 1
        return first, last

    def ranges(self, i: int) -> list[tuple[int, int]]:
        """Row i's frame as disjoint, not empty ranges in order, after EXCLUDE."""
        starts, ends = self.frames()
        start, end = starts[i], ends[i]
        exclude = self.spec.exclude
        if exclude == "no others":
            return [(start, end)] if start < end else []
        group = self.groups[i]
        low, high = (i, i + 1) if exclude == "current row" else (self.group_starts[group], self.group_starts[group + 1])
        parts = [(start, min(end, low)), (max(start, high), end)]
        if exclude == "ties":
            parts.insert(1, (max(start, i), min(end, i + 1)))
        return [(a, b) for a, b in parts if a < b]


def _check_offset(kind: str, offset: Any, word: str, spec: FrameSpec) -> None:
    if kind not in ("preceding", "following"):
        return
    if offset is None:
        raise error("22004", f"frame {word} offset must not be null")
    if spec.mode != "range":
        if offset < 0:
            raise error("22013", f"frame {word} offset must not be negative")
    elif _is_negative(offset, spec):
        raise error("22013", "invalid preceding or following size in window function")


def _is_negative(offset: Any, spec: FrameSpec) -> bool:
    """Intervals compare by their key; numbers with zero; NaN is refused too."""
    if isinstance(offset, tuple):
        return spec.offset_key is not None and bool(spec.offset_key(offset) < 0)
    return bool(offset != offset or offset < 0)  # only NaN differs from itself


def window_column(
    function: WindowFunction | Aggregate,
    partition: Partition,
    args: Sequence[Row],
    included: Sequence[bool] | None,
    ctx: Any,
) -> list[Any]:
    """One datum per row of the partition for one call."""
    partition.args = args
    if isinstance(function, WindowFunction):
        column: list[Any] = function.impl(partition)
        return column
    return FrameAggregation(function, partition, args, included, ctx).column()


class FrameAggregation:
    """One aggregate over the frames of a partition."""

    def __init__(
        self, aggregate: Aggregate, partition: Partition, args: Sequence[Row], included: Sequence[bool] | None, ctx: Any
    ) -> None:
        self.aggregate = aggregate
        self.partition = partition
        self.args = args
        self.lead: tuple[Any, ...] = (ctx,) if aggregate.needs_context else ()
        skip_null = aggregate.strict
        self.counts = [
            (included is None or included[i]) and not (skip_null and None in args[i]) for i in range(partition.count)
        ]  # fmt: skip
        """Whether row i takes part."""

    def column(self) -> list[Any]:
        """Chooses the cheapest way that is exact."""
        if self.partition.count == 0:
            return []
        if self.partition.spec.exclude != "no others":
            return self._anew()
        starts, ends = self.partition.frames()
        if starts[-1] == 0:
            return self._running(ends)
        if self.aggregate.inverse is not None and not self.lead:
            return self._undoing(starts, ends)
        exact = self.aggregate.name in _COMBINED_EXACTLY and not any(
            t.name in _INEXACT for t in self.aggregate.arg_types
        )
        if exact and self.aggregate.combine is not None and not self.lead:
            return self._two_stacks(starts, ends)
        return self._anew()

    def _step(self, state: Any, i: int) -> Any:
        return self.aggregate.step(*self.lead, state, *self.args[i]) if self.counts[i] else state

    def _final(self, state: Any) -> Any:
        return self.aggregate.final(*self.lead, state)

    def _running(self, ends: list[int]) -> list[Any]:
        """All frames start with the partition: one state, one result per distinct end."""
        state, done = self.aggregate.init(), 0
        out: list[Any] = []
        result: Any = None
        for i, end in enumerate(ends):
            if i == 0 or end != ends[i - 1]:
                while done < end:
                    state = self._step(state, done)
                    done += 1
                result = self._final(state)
            out.append(result)
        return out

    def _undoing(self, starts: list[int], ends: list[int]) -> list[Any]:
        """Steps rows in and undoes them as they leave."""
        inverse = self.aggregate.inverse
        assert inverse is not None
        state, low, high = self.aggregate.init(), 0, 0
        out: list[Any] = []
        for start, end in zip(starts, ends):
            if start >= high:
                state, low, high = self.aggregate.init(), start, start
            while low < start:
                if self.counts[low]:
                    state = inverse(state, *self.args[low])
                low += 1
            while high < end:
                state = self._step(state, high)
                high += 1
            out.append(self._final(state))
        return out

    def _two_stacks(self, starts: list[int], ends: list[int]) -> list[Any]:
        """A queue of two stacks: suffix states of the older half, one running state of the newer.

        Every row is stepped at most twice; a result is one combination.
        """
        combine, init = self.aggregate.combine, self.aggregate.init
        assert combine is not None
        suffixes: list[Any] = []
        """suffixes[-1] is the state of rows low..middle-1, suffixes[-2] of low+1.., and so on."""
        low = middle = high = 0
        newer = init()
        out: list[Any] = []
        for start, end in zip(starts, ends):
            while high < end:
                newer = self._step(newer, high)
                high += 1
            if start >= middle:
                low = min(start, high)
                suffixes, newer, middle = self._suffixes(low, high), init(), high
                if start > high:
                    low = middle = high = start
            while low < start:
                suffixes.pop()
                low += 1
            state = combine(suffixes[-1], newer) if suffixes else newer
            out.append(self._final(state))
        return out

    def _suffixes(self, low: int, high: int) -> list[Any]:
        """States of rows i..high-1 for i from high-1 down to low; each is its own object."""
        combine, init = self.aggregate.combine, self.aggregate.init
        assert combine is not None
        out: list[Any] = []
        for i in range(high - 1, low - 1, -1):
            own = self._step(init(), i)
            out.append(combine(own, out[-1]) if out else own)
        return out

    def _anew(self) -> list[Any]:
        """Computes every distinct frame from the start."""
        out: list[Any] = []
        previous: list[tuple[int, int]] | None = None
        result: Any = None
        for i in range(self.partition.count):
            ranges = self.partition.ranges(i)
            if ranges != previous:
                state = self.aggregate.init()
                for start, end in ranges:
                    for row in range(start, end):
                        state = self._step(state, row)
                result = self._final(state)
                previous = ranges
            out.append(result)
        return out
