"""EXPLAIN (WAN): which round trips between regions a statement needs, one after the other, and what would spare them.

A prediction from descriptors, not from ranges as they happen to be: leaseholders and votes are taken to be where
``sql.regions.spans`` asks for them.  What depends on where a row is has a best and a worst case.

    read      the home of a table; of a REGIONAL BY ROW table the region that is named, or the gateway's and then the
              others at once, or, for a span, one region after the other
    rows      of an index that does not hold all columns: again where the entries were
    joins     by an index: all of this for each batch of outer rows, the regions of its rows at once
    keys      the unique keys of new rows, and parents of references, are looked for before they are written
    commit    to the leaseholder, and from there for votes, where those at home are not enough; before that, to what
              was read in other ranges; with writes in several ranges twice, for them and for the transaction's end

GLOBAL tables are read in the client's own region; what is locked or written there is at home in the primary one.
Their commits are told when the clock has passed them (``kvtier.replication.closing``), which comes beside the round trips.

What takes locks in several regions goes there one after the other (``kvtier.router``).  New keys are looked for
everywhere at once, and locked there, too, where the isolation level is weaker than SERIALIZABLE.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kvtier.messages import Isolation, Lock
from kvtier.replication.settings import ReplicationSettings
from planner.access import IndexAccess
from planner.exec.foreign import parents_lock
from planner.exec.lookup import LOOKUP_ROWS, LookupJoinOp, LookupSide
from planner.exec.modify import DeleteOp, InsertOp, ModifyOp, UpdateOp
from planner.exec.physical_plan import PhysicalPlan
from planner.exec.runtime import Operator
from planner.exec.scan import ScanOp
from planner.exec.source import WithOp
from planner.expr import Const
from planner.schema import DatabaseDesc, RegionConfig, TableDesc
from sql.catalog.state import CatalogState
from sql.regions.spans import span_config

Rtt = Callable[[str, str], float | None]
"""Milliseconds between two regions; None if nobody has measured."""


class Round(NamedTuple):
    """One wait: for answers from all of ``targets``, or, of votes, from the nearest."""

    source: str
    targets: tuple[str, ...]
    is_vote: bool = False

    def is_crossing(self) -> bool:
        return any(target != self.source for target in self.targets)

    def ms(self, rtt: Rtt) -> float | None:
        times = [rtt(self.source, target) for target in self.targets if target != self.source]
        known = [time for time in times if time is not None]
        if len(known) < len(times):
            return None
        return (min if self.is_vote else max)(known, default=0.0)


class Step(NamedTuple):
    """What a statement does at one point."""

    what: str
    best: tuple[Round, ...]
    worst: tuple[Round, ...]
    remedy: str = ""

    def crosses(self) -> bool:
        return any(turn.is_crossing() for turn in self.worst)


class Forecast:
    """The steps of a plan for clients of one region; see the module docstring."""

    def __init__(self, state: CatalogState, gateway: str, rtt: Rtt, is_serializable: bool = True) -> None:
        self._is_serializable = is_serializable
        self._state = state
        self._gateway = gateway
        self._rtt = rtt
        self.steps: list[Step] = []
        self.waits = False
        """A GLOBAL table is written."""
        self.unknown: dict[str, None] = {}
        """Tables of databases without regions: they may be anywhere."""

    def add_plan(self, plan: PhysicalPlan) -> None:
        """Adds what a plan does, and its subplans as if each ran once."""
        for subplan in plan.subplans:
            self._add(subplan.root)
        self._add(plan.root)
        written = list(_writers(plan.root))
        if written:
            self._add_commit(written)

    def lines(self) -> list[str]:
        """Returns what EXPLAIN prints."""
        crossing = [step for step in self.steps if step.crosses()]
        best = [turn for step in self.steps for turn in step.best]
        worst = [turn for step in self.steps for turn in step.worst]
        counts = [sum(1 for turn in rounds if turn.is_crossing()) for rounds in (best, worst)]
        times = [self._total(rounds) for rounds in (best, worst)]
        text = f"Predicted Cross-Region Round Trips: {_span(str(counts[0]), str(counts[1]))}"
        if counts[1]:
            text += f" ({_span(_ms(times[0]), _ms(times[1]))} ms)"
        found = [f"Gateway: {self._gateway}", text]
        for number, step in enumerate(crossing, 1):
            cost = _span(_ms(self._total(list(step.best))), _ms(self._total(list(step.worst))))
            found.append(f"  {number}. {step.what}: {cost} ms")
            if step.remedy:
                found.append(f"     spared by {step.remedy}")
        if self.waits:
            found.append(f"Predicted Commit Wait: {_commit_wait()} ms")
            found.append("  because a GLOBAL table is written")
        if self.unknown:
            found.append(f"  not predicted, because their database has no regions: {', '.join(self.unknown)}")
        return found

    def _total(self, rounds: list[Round]) -> float | None:
        times = [turn.ms(self._rtt) for turn in rounds]
        return None if None in times else sum([time for time in times if time is not None])

    # --- reading ------------------------------------------------------------------------

    def _add(self, operator: Operator) -> None:
        if isinstance(operator, WithOp):
            for _, plan, _ in operator.ctes:
                self._add(plan)
        for child in operator.children():
            if not isinstance(child, LookupSide):
                self._add(child)
        if isinstance(operator, ScanOp):
            self._read(operator.index, operator.path.positions, bool(operator.lock), operator.fetcher.covering)
        elif isinstance(operator, LookupJoinOp):
            self._look_up(operator)
        elif isinstance(operator, InsertOp):
            self._check_keys(operator)
        if isinstance(operator, InsertOp | UpdateOp):
            for foreign in operator.writer.outbound:
                if isinstance(operator, InsertOp) or operator.changed & set(foreign.key.columns):
                    positions = (_ANYWHERE,) if foreign.index.implicit else ()
                    isolation = Isolation.SERIALIZABLE if self._is_serializable else Isolation.READ_COMMITTED
                    locks = parents_lock(foreign.target.desc, isolation) != Lock.NONE
                    self._read(foreign.index, positions, locks, True, "look for parents in")
        if isinstance(operator, DeleteOp):
            for foreign in operator.writer.inbound:
                index = foreign.index if foreign.index is not None else foreign.child.primary
                self._read(index, (), False, True, "look for children in")

    def _config(self, table: TableDesc) -> RegionConfig | None:
        database = self._state.by_id.get(table.database_id)
        config = database.regions if isinstance(database, DatabaseDesc) else None
        if config is None:
            self.unknown[table.name] = None
        return config

    def _to(self, *targets: str) -> Round:
        return Round(self._gateway, targets)

    def _read(
        self, index: IndexAccess, positions: tuple[Any, ...], locks: bool, covering: bool, verb: str = "read"
    ) -> None:
        table = index.table.desc
        config = self._config(table)
        if config is None:
            return
        name = index.desc.name
        if table.locality.kind != "row":
            home = table.locality.region or config.primary
            if table.locality.kind == "global" and not locks and self._gateway in config.regions:
                home = self._gateway
            rounds = (self._to(home),) * (1 if covering or index.is_primary else 2)
            remedy = "" if table.locality.kind == "global" else (
                f'LOCALITY REGIONAL BY TABLE IN "{self._gateway}" or REGIONAL BY ROW'
                + ("" if locks else ", or AS OF SYSTEM TIME follower_read_timestamp()")
            )  # fmt: skip
            self.steps.append(Step(f"{verb} {name} in {home}", rounds, rounds, remedy))
            return
        again = not (covering or index.is_primary)
        regions = _named_regions(positions, config)
        if regions is None and positions and positions[0].kind == "regions" and _is_point(index, positions):
            self._search(name, config, locks, again, verb)
            return
        if regions is None and positions and positions[0].kind == "value":
            self._read_one(name, config, again, verb)
            return
        rounds = tuple([self._to(region) for region in (config.regions if regions is None else regions)])
        if len(rounds) > 1 and _is_point(index, positions) and not locks:
            rounds = (self._to(*config.regions),)
        rounds += rounds[-1:] if again else ()
        where = " and ".join([region for turn in rounds[: len(rounds) - again] for region in turn.targets])
        remedy = "" if regions is not None else "naming the region of the rows (crdb_region = ..)"
        self.steps.append(Step(f"{verb} {name} in {where}", rounds, rounds, remedy))

    def _look_up(self, operator: LookupJoinOp) -> None:
        """The inner side of a join: once for each batch of the outer rows that are expected."""
        index, covering = operator.index, operator.fetcher.covering
        first = len(self.steps)
        if index.table.desc.locality.kind != "row":
            self._read(index, (), False, covering)
        elif operator.is_anywhere and operator.is_point:
            self._read(index, (_ANYWHERE,), False, covering)
        else:
            self._look_up_spread(operator, not (covering or index.is_primary))
        batches = max(math.ceil(operator.left.rows / LOOKUP_ROWS), 1)
        if batches > 1:
            self.steps[first:] = [
                Step(f"{what}, {batches} times", best * batches, worst * batches, remedy)
                for what, best, worst, remedy in self.steps[first:]
            ]

    def _look_up_spread(self, operator: LookupJoinOp, again: bool) -> None:
        """Rows that may be at home in any region, and in several."""
        config = self._config(operator.index.table.desc)
        if config is None:
            return
        regions = _named_regions(operator.positions, config) or config.regions
        worst = self._to(*regions)
        best = worst if operator.is_anywhere or regions != config.regions else self._to(self._here(config))
        where, remedy = " and ".join(regions), "rows that are at home here"
        if operator.is_anywhere:
            remedy = "a condition on the region of the rows (crdb_region = ..)"
        elif regions == config.regions:
            where = "the regions that the outer rows tell"
        home = self._to(self._here(config)) if regions == config.regions else worst
        rounds = (best, home) if again else (best,)
        self.steps.append(Step(f"read {operator.index.desc.name} in {where}", rounds, (worst,) * (1 + again), remedy))

    def _read_one(self, name: str, config: RegionConfig, again: bool, verb: str) -> None:
        """A region that is known when the statement runs."""
        best, worst = ((self._to(at),) * (1 + again) for at in (self._here(config), self._farthest(config)))
        remedy = "rows that are at home here"
        self.steps.append(Step(f"{verb} {name} in the region that its key tells", best, worst, remedy))

    def _search(self, name: str, config: RegionConfig, locks: bool, again: bool, verb: str) -> None:
        """A key of which nobody knows where it is."""
        first = self._gateway if self._gateway in config.regions else config.regions[0]
        others = tuple([region for region in config.regions if region != first])
        rest = tuple([self._to(region) for region in others]) if locks else (self._to(*others),) if others else ()
        best: tuple[Round, ...] = (self._to(first),)
        worst: tuple[Round, ...] = (self._to(first), *rest)
        if again:
            best, worst = (*best, self._to(first)), (*worst, self._to(*others))
        what = f"{verb} {name} in {first}" + (f", else in {' and '.join(others)}" if others else "")
        self.steps.append(
            Step(what, best, worst, "rows that are at home here, or naming their region (crdb_region = ..)")
        )

    # --- writing ------------------------------------------------------------------------

    def _check_keys(self, operator: InsertOp) -> None:
        """New keys must not be anywhere."""
        writer = operator.writer
        table = writer.access.desc
        config = self._config(table)
        if config is None:
            return
        if table.locality.kind != "row":
            home = self._to(table.locality.region or config.primary)
            self.steps.append(Step(f"look for the new keys of {table.name} in {home.targets[0]}", (home,), (home,)))
            return
        best, worst = (self._new_rows_at(operator, config, is_worst) for is_worst in (False, True))
        if writer.rivaled(operator.drawn):
            best = worst = config.regions
        where = " or ".join(dict.fromkeys([" and ".join(best), " and ".join(worst)]))
        remedy = "keys that name or determine the region, or that are drawn here (gen_random_uuid())"
        rounds = [(self._to(*regions),) for regions in (best, worst)]
        self.steps.append(Step(f"look for the new keys of {table.name} in {where}", rounds[0], rounds[1], remedy))

    def _add_commit(self, written: list[ModifyOp]) -> None:
        """The end of a statement outside a block."""
        best: list[Round] = []
        worst: list[Round] = []
        homes: dict[str, None] = {}
        survives = False
        for operator in written:
            table = operator.writer.access.desc
            config = self._config(table)
            if config is None:
                continue
            survives = survives or config.survival == "region"
            self.waits = self.waits or table.locality.kind == "global"
            for is_worst, rounds in ((False, best), (True, worst)):
                home = self._written_at(operator, config, is_worst)
                homes[home] = None
                rounds += self._commit_rounds(operator, config, home, is_worst)
        if homes:
            remedy = "SURVIVE ZONE FAILURE, and a" if survives else "a"
            where = " or ".join(homes)
            self.steps.append(Step(f"commit in {where}", tuple(best), tuple(worst), f"{remedy} client in {where}"))

    def _new_rows_at(self, operator: InsertOp, config: RegionConfig, is_worst: bool) -> tuple[str, ...]:
        """Returns the regions that new rows are at home in."""
        here = self._here(config)
        if operator.homes is None:
            return (self._farthest(config) if is_worst else here,)
        return tuple(dict.fromkeys([region or here for region in operator.homes]))

    def _farthest(self, config: RegionConfig) -> str:
        return max(config.regions, key=lambda region: (self._rtt(self._gateway, region) or 0.0, region))

    def _written_at(self, operator: ModifyOp, config: RegionConfig, is_worst: bool) -> str:
        """Returns where the rows are that a statement writes."""
        locality = operator.writer.access.desc.locality
        if locality.kind != "row":
            return locality.region or config.primary
        if is_worst and not isinstance(operator, InsertOp) and self._is_searching(operator):
            return self._farthest(config)
        if isinstance(operator, InsertOp):
            at = self._new_rows_at(operator, config, is_worst)
            return max(at, key=lambda region: (self._rtt(self._gateway, region) or 0.0, region))
        return self._here(config)

    def _here(self, config: RegionConfig) -> str:
        return self._gateway if self._gateway in config.regions else config.primary

    def _is_searching(self, operator: Operator) -> bool:
        """True if the region of a scan's rows is known only when it runs."""
        if isinstance(operator, ScanOp):
            positions = operator.path.positions
            return bool(positions) and (
                positions[0].kind == "regions"
                or (positions[0].kind == "value" and not isinstance(positions[0].values[0], Const))
            )
        return any(self._is_searching(child) for child in operator.children())

    def _commit_rounds(self, operator: ModifyOp, config: RegionConfig, home: str, is_worst: bool) -> tuple[Round, ...]:
        """One batch, after a look at what was read elsewhere; or, with writes or a record in several ranges, two."""
        writer = operator.writer
        table = writer.access.desc
        once = self._at_leaseholder(config, table, home)
        if table.locality.kind != "row":
            return once
        here = self._here(config)
        others = [region for region in config.regions if region != here]
        if len(_changed_indexes(operator)) > 1 or home != here:
            once = (*once, *self._at_leaseholder(config, table, here))
        if isinstance(operator, InsertOp) and not self._is_serializable and writer.rivaled(operator.drawn) and others:
            return (self._to(*others), *once)
        return once

    def _at_leaseholder(self, config: RegionConfig, table: TableDesc, home: str) -> tuple[Round, ...]:
        """To a leaseholder, and from there for votes, where those at home are not enough."""
        asked = span_config(config, table.locality, home)
        if dict(asked.voter_regions).get(home, 0) > asked.voters // 2:
            return (self._to(home),)
        return (self._to(home), Round(home, tuple([region for region in config.regions if region != home]), True))


class _Anywhere(NamedTuple):
    """Stands for the position of a region of which nothing is said, in a key that is given otherwise."""

    kind: str = "regions"


_ANYWHERE = _Anywhere()


def _is_point(index: IndexAccess, positions: tuple[Any, ...]) -> bool:
    if positions == (_ANYWHERE,):
        return True
    return index.is_unique and len(positions) == index.width and all(p.kind not in ("range", "null") for p in positions)


def _named_regions(positions: tuple[Any, ...], config: RegionConfig) -> tuple[str, ...] | None:
    """Returns the regions that a condition names, None if it names none or nobody knows which."""
    if not positions or positions[0].kind not in ("value", "list"):
        return None
    values = [value.value for value in positions[0].values if isinstance(value, Const)]
    return tuple(values) if len(values) == len(positions[0].values) else None


def _writers(operator: Operator) -> Iterator[ModifyOp]:
    if isinstance(operator, WithOp):
        for _, plan, _ in operator.ctes:
            yield from _writers(plan)
    for child in operator.children():
        yield from _writers(child)
    if isinstance(operator, ModifyOp):
        yield operator


def _changed_indexes(operator: ModifyOp) -> list[IndexAccess]:
    """The indexes that a statement writes to."""
    indexes = operator.writer.access.indexes
    if not isinstance(operator, UpdateOp):
        return indexes
    changed = operator.changed
    return [i for i in indexes if i.is_primary or changed & {*i.attnums, *i.include, *i.table.key_attnums}]


def _commit_wait() -> str:
    """Milliseconds from the write to the time that a leaseholder has closed, just now or an interval ago."""
    settings = ReplicationSettings()
    most = settings.closed_lead_seconds
    return _span(_ms((most - settings.closed_interval_seconds) * 1e3), _ms(most * 1e3))


def _ms(time: float | None) -> str:
    return "?" if time is None else f"{time:.0f}"


def _span(best: str, worst: str) -> str:
    return best if best == worst else f"{best} to {worst}"
