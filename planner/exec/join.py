"""Joins: hash, nested loop over a materialised right side, and apply (lateral).

    kind     rows given
    inner    every pair that matches
    left     and left rows without a match, NULLs on the right
    right    every pair, and right rows without a match, NULLs on the left
    full     both
    semi     left rows with a match, once
    anti     left rows without one

Pairs are made in chunks of about PAIRS_CHUNK and tested together: the condition is one
compiled call per chunk.
"""

from __future__ import annotations

from typing import Any, Final

from planner.exec.runtime import Buffered, Operator, Row, Rows, RowsFunction, Run, Stream, account, drain, evaluate
from planner.exec.scalar import KeyMaker
from planner.expr import Expr

PAIRS_CHUNK: Final = 4096
"""Pairs tested per call of the condition."""


class JoinOp(Operator):
    """Base: kind, inputs, and the condition as a mask over joined rows (None: always true)."""

    name = "Join"

    def __init__(
        self, kind: str, left: Operator, right: Operator, condition: Expr | None, mask: RowsFunction | None
    ) -> None:
        self.kind = kind
        self.left = left
        self.right = right
        self.condition = condition
        self.mask = mask
        self.columns = left.columns if kind in ("semi", "anti") else left.columns + right.columns
        if kind in ("inner", "left", "semi", "anti"):
            self.order = left.order

    def children(self) -> tuple[Operator, ...]:
        return (self.left, self.right)

    def title(self) -> str:
        if self.kind == "inner":
            return self.name if self.name == "Nested Loop" else f"{self.name} Join"
        return f"{self.name} {self.kind.capitalize()} Join"

    def details(self) -> list[tuple[str, Any]]:
        return [("Join Filter", self.condition)] if self.condition is not None else []


class Matcher:
    """Turns left rows with their candidates into output rows of one join kind.

    ``candidates[i]`` lists (right row number) for left row i; right rows are numbered so that right and
    full joins can mark what matched.
    """

    def __init__(self, operator: JoinOp, right: Rows, run: Run) -> None:
        self.kind = operator.kind
        self.mask = operator.mask
        self.right = right
        self.run = run
        self.right_nulls: Row = (None,) * len(operator.right.columns)
        self.matched: bytearray | None = bytearray(len(right)) if operator.kind in ("right", "full") else None

    async def join(self, left: Rows, candidates: list[Any]) -> Rows:
        """Output for these left rows, in order."""
        right = self.right
        lefts: list[int] = []
        rights: list[int] = []
        for i, found in enumerate(candidates):
            if found:
                lefts += [i] * len(found)
                rights += found
        pairs = [left[i] + right[j] for i, j in zip(lefts, rights)]
        if self.mask is not None and pairs:
            mask = await evaluate(self.mask, pairs, self.run)
            keep = [n for n, row in enumerate(mask) if row[0]]
            if len(keep) < len(pairs):
                pairs = [pairs[n] for n in keep]
                lefts = [lefts[n] for n in keep]
                rights = [rights[n] for n in keep]
        return self._emit(left, pairs, lefts, rights)

    def _emit(self, left: Rows, pairs: Rows, lefts: list[int], rights: list[int]) -> Rows:
        kind = self.kind
        if self.matched is not None:
            for j in rights:
                self.matched[j] = 1
        if kind in ("inner", "right"):
            return pairs
        if kind in ("semi", "anti"):
            hit = bytearray(len(left))
            for i in lefts:
                hit[i] = 1
            wanted = 1 if kind == "semi" else 0
            return [row for row, is_hit in zip(left, hit) if is_hit == wanted]
        return self._with_unmatched(left, pairs, lefts)

    def _with_unmatched(self, left: Rows, pairs: Rows, lefts: list[int]) -> Rows:
        out: Rows = []
        at, count = 0, len(pairs)
        for i, row in enumerate(left):
            if at < count and lefts[at] == i:
                while at < count and lefts[at] == i:
                    out.append(pairs[at])
                    at += 1
            else:
                out.append(row + self.right_nulls)
        return out

    def rest(self, left_width: int) -> Rows:
        """Right rows that never matched, for right and full joins."""
        if self.matched is None:
            return []
        nulls = (None,) * left_width
        return [nulls + row for row, hit in zip(self.right, self.matched) if not hit]


class HashJoinOp(JoinOp):
    """Builds a table of the right side, probes with the left."""

    name = "Hash"

    def __init__(
        self,
        kind: str,
        left: Operator,
        right: Operator,
        condition: Expr | None,
        mask: RowsFunction | None,
        keys: tuple[KeyMaker, KeyMaker],
        equals: tuple[tuple[Expr, Expr], ...],
    ) -> None:
        super().__init__(kind, left, right, condition, mask)
        self.keys = keys
        self.equals = equals

    def details(self) -> list[tuple[str, Any]]:
        return [("Hash Cond", [f"({a!r} = {b!r})" for a, b in self.equals]), *super().details()]

    def open(self, run: Run) -> Stream:
        return HashJoinStream(self, run)


class HashJoinStream(Stream):
    def __init__(self, operator: HashJoinOp, run: Run) -> None:
        self.operator = operator
        self.run = run
        self.left: Stream | None = None
        self.matcher: Matcher | None = None
        self.table: dict[Any, list[Any]] = {}
        self.is_plain = operator.kind == "inner" and operator.mask is None
        self.pending: Rows = []
        self.ended = False

    async def _build(self) -> Matcher:
        operator, run = self.operator, self.run
        right = await drain(run.open(operator.right), run)
        keys = await operator.keys[1].keys(right, run)
        table = self.table
        for key, entry in zip(keys, right if self.is_plain else range(len(right))):
            if key is not None:
                found = table.get(key)
                if found is None:
                    table[key] = [entry]
                else:
                    found.append(entry)
        account(run.ctx, right)
        return Matcher(operator, right, run)

    async def next(self) -> Rows:
        if self.ended:
            return []
        if self.matcher is None:
            self.matcher = await self._build()
            if not self.table and self.operator.kind in ("inner", "semi", "right"):
                return self._finish()
            self.left = self.run.open(self.operator.left)
        while True:
            out = await self._probe()
            if out is None:
                return self._finish()
            if out:
                return out
            self.run.ctx.check_interrupt()

    def _finish(self) -> Rows:
        assert self.matcher is not None
        self.ended = True
        rest = self.matcher.rest(len(self.operator.left.columns))
        self.table = {}
        return rest

    async def _probe(self) -> Rows | None:
        """Output of some left rows; None at their end."""
        assert self.left is not None
        left = self.pending or await self.left.next()
        if not left:
            return None
        keys = await self.operator.keys[0].keys(left, self.run)
        get = self.table.get
        candidates: list[Any] = [None if key is None else get(key) for key in keys]
        left, candidates = self._chunk(left, candidates)
        if self.is_plain:
            return [row + other for row, found in zip(left, candidates) if found for other in found]
        assert self.matcher is not None
        return await self.matcher.join(left, candidates)

    def _chunk(self, left: Rows, candidates: list[Any]) -> tuple[Rows, list[Any]]:
        """Cuts the batch where it would make too many pairs at once; the rest waits."""
        self.pending = []
        total = 0
        for i, found in enumerate(candidates):
            if found is not None:
                total += len(found)
                if total > PAIRS_CHUNK and i + 1 < len(left):
                    self.pending = left[i + 1 :]
                    return left[: i + 1], candidates[: i + 1]
        return left, candidates

    def close(self) -> None:
        if self.left is not None:
            self.left.close()


class NestedLoopOp(JoinOp):
    """Every pair, the right side read once."""

    name = "Nested Loop"

    def open(self, run: Run) -> Stream:
        return NestedLoopStream(self, run)


class NestedLoopStream(Stream):
    def __init__(self, operator: NestedLoopOp, run: Run) -> None:
        self.operator = operator
        self.run = run
        self.left: Stream | None = None
        self.matcher: Matcher | None = None
        self.all: list[int] = []
        self.pending: Rows = []
        self.ended = False

    async def next(self) -> Rows:
        if self.ended:
            return []
        if self.matcher is None:
            right = await drain(self.run.open(self.operator.right), self.run)
            self.all = list(range(len(right)))
            self.matcher = Matcher(self.operator, right, self.run)
            self.left = self.run.open(self.operator.left)
        assert self.left is not None
        step = max(1, PAIRS_CHUNK // (len(self.all) or 1))
        while True:
            left = self.pending or await self.left.next()
            if not left:
                self.ended = True
                return self.matcher.rest(len(self.operator.left.columns))
            self.pending = left[step:]
            left = left[:step]
            out = await self.matcher.join(left, [self.all] * len(left))
            if out:
                return out
            self.run.ctx.check_interrupt()

    def close(self) -> None:
        if self.left is not None:
            self.left.close()


class ApplyOp(JoinOp):
    """Opens the right side anew per left row; ``bindings`` put the row's values into frame slots.

    ``bindings``: (position in the left row, frame slot).
    """

    name = "Nested Loop"

    def __init__(
        self,
        kind: str,
        left: Operator,
        right: Operator,
        condition: Expr | None,
        mask: RowsFunction | None,
        bindings: tuple[tuple[int, int], ...],
    ) -> None:
        super().__init__(kind, left, right, condition, mask)
        self.bindings = bindings

    def open(self, run: Run) -> Stream:
        return ApplyStream(self, run)


class ApplyStream(Stream):
    def __init__(self, operator: ApplyOp, run: Run) -> None:
        assert operator.kind in ("inner", "left", "semi", "anti"), operator.kind
        self.operator = operator
        self.run = run
        self.left = run.open(operator.left)
        self.pending: Rows = []
        self.row: Row = ()
        self.right: Stream | None = None
        self.hit = False
        self.nulls: Row = (None,) * len(operator.right.columns)

    async def next(self) -> Rows:
        out: Rows = []
        while len(out) < PAIRS_CHUNK // 4:
            if self.right is None:
                if not await self._next_left(bool(out)):
                    break
            out += await self._step()
        return out

    async def _next_left(self, has_output: bool) -> bool:
        if not self.pending:
            if has_output:
                return False
            self.pending = list(reversed(await self.left.next()))
            self.run.ctx.check_interrupt()
            if not self.pending:
                return False
        self.row = self.pending.pop()
        self.hit = False
        self._bind()
        self.right = self.run.open(self.operator.right)
        return True

    def _bind(self) -> None:
        frame, row = self.run.frame, self.row
        for position, slot in self.operator.bindings:
            frame[slot] = row[position]

    async def _step(self) -> Rows:
        """One batch of the current right side, or the end of this left row."""
        assert self.right is not None
        self._bind()
        kind = self.operator.kind
        batch = await self.right.next()
        if not batch:
            return self._end_row()
        row = self.row
        pairs = [row + other for other in batch]
        if self.operator.mask is not None:
            mask = await evaluate(self.operator.mask, pairs, self.run)
            pairs = [pair for pair, keep in zip(pairs, mask) if keep[0]]
        if not pairs:
            return pairs
        self.hit = True
        if kind in ("inner", "left"):
            return pairs
        self._close_right()
        return [row] if kind == "semi" else []

    def _end_row(self) -> Rows:
        self._close_right()
        if self.hit or self.operator.kind in ("inner", "semi"):
            return []
        return [self.row] if self.operator.kind == "anti" else [self.row + self.nulls]

    def _close_right(self) -> None:
        assert self.right is not None
        self.right.close()
        self.right = None

    def close(self) -> None:
        self.left.close()
        if self.right is not None:
            self.right.close()


class MaterializeOp(Operator):
    """Keeps its input's rows for the rest of the run; used below an apply for what does not depend on it."""

    def __init__(self, input: Operator) -> None:
        self.input = input
        self.columns = input.columns
        self.order = input.order

    def children(self) -> tuple[Operator, ...]:
        return (self.input,)

    def title(self) -> str:
        return "Materialize"

    def open(self, run: Run) -> Stream:
        return MaterializeStream(self, run)


class MaterializeStream(Buffered):
    def __init__(self, operator: MaterializeOp, run: Run) -> None:
        super().__init__()
        self.operator = operator
        self.run = run

    async def fill(self) -> Rows:
        kept = self.run.ctes.get(id(self.operator))
        if kept is None:
            kept = await drain(self.run.open(self.operator.input), self.run)
            self.run.ctes[id(self.operator)] = kept
        return list(kept)
