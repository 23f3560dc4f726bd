"""Aggregates inside a generated loop over entries: states are local variables, the commonest steps are written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.exec.aggregate import AggPlan
from planner.exec.blocks import EntryLoop
from planner.exec.fold import fold
from planner.expr import Col, Expr
from planner.functions.aggregates import pair_step, plain_max, plain_min


def split_arguments(
    plans: Sequence[AggPlan], arguments: Sequence[Sequence[Expr]], filters: Sequence[Expr | None]
) -> tuple[list[Expr], list[Expr]]:
    """Returns the expressions whose datums are needed, and those that are only tested for NULL."""
    passed = [expr for plan, exprs in zip(plans, arguments) if plan.is_count for expr in exprs]
    computed = [expr for plan, exprs in zip(plans, arguments) if not plan.is_count for expr in exprs]
    computed += [expr for expr in filters if expr is not None]
    return computed + [expr for expr in passed if not isinstance(expr, Col)], passed


class Steps:
    """The lines of all aggregates without DISTINCT and ORDER BY, for one group.

    ``takes_all``: no entry is left out, so count(*) is the length of the page.
    """

    def __init__(
        self,
        plans: Sequence[AggPlan],
        arguments: Sequence[Sequence[Expr]],
        filters: Sequence[Expr | None],
        loop: EntryLoop,
        takes_all: bool,
    ) -> None:
        self.namespace: dict[str, Any] = {}
        self.before: list[str] = []
        """Before the loop: initial states."""
        self.resumed: list[str] = []
        """The same, from the list ``states`` that an earlier page left."""
        self.body: list[str] = []
        self.states: list[str] = []
        """Sources of the states after the loop."""
        self.whole: list[str] | None = []
        """The same as ``body`` over whole columns without NULLs; None where a step has no such form."""
        for i, plan in enumerate(plans):
            step = _Step(i, plan, loop, arguments[i], filters[i])
            self.namespace |= step.namespace
            self.states.append(step.state)
            if takes_all and step.counts_all:
                self.before.append(f"s{i} = len(values)")
                self.resumed.append(f"s{i} = states[{i}] + len(values)")
            else:
                self.before += step.init
                self.resumed += step.resumed
                self.body += step.lines
                self.whole = None if self.whole is None or step.whole is None else [*self.whole, *step.whole]


class _Step:
    """One aggregate's part of the loop; the commonest are written out."""

    def __init__(
        self, i: int, plan: AggPlan, loop: EntryLoop, arguments: Sequence[Expr], condition: Expr | None
    ) -> None:
        self.namespace: dict[str, Any] = {f"step{i}": plan.aggregate.step}
        self.state = f"s{i}"
        """Source of the finished state."""
        self.init = [f"s{i} = init{i}()"]
        self.resumed = [f"s{i} = states[{i}]"]
        self.counts_all = plan.is_count and not arguments and condition is None
        tests: list[str] = []
        before: list[str] = []
        names: list[str] = []
        for place, expr in enumerate(arguments):
            source = loop.datum(expr)
            if not source.isidentifier():
                before.append(f"x{i}_{place} = {source}")
                source = f"x{i}_{place}"
            names.append(source)
            if (plan.is_count or plan.aggregate.strict) and loop.nullable(expr):
                tests.append(f"{source} is not None")
        action = self._action(i, plan, names)
        # Only a column is a list there: what is the same for every entry is not.
        is_column = condition is None and len(arguments) == 1 and isinstance(arguments[0], Col)
        self.whole = self._whole(i, plan, names[0]) if is_column else None
        if tests:
            action = [f"if {' and '.join(tests)}:", *["    " + line for line in action]]
        self.lines = [*before, *action]
        if condition is not None:
            # Arguments are not even computed for what FILTER leaves out.
            self.lines = [f"if {loop.compiler.truth(fold(condition))}:", *["    " + line for line in self.lines]]

    def _whole(self, i: int, plan: AggPlan, column: str) -> list[str] | None:
        """Lines that step over a list of datums at once; integers and text only come so."""
        step = plan.aggregate.step
        if plan.is_count:
            return [f"s{i} += len({column})"]
        if step is pair_step:
            return [f"n{i} += len({column})", f"s{i} += sum({column})"]
        if step is plain_min or step is plain_max:
            name, sign = ("min", "<") if step is plain_min else ("max", ">")
            return [
                f"m{i} = {name}({column}, default=None)",
                f"if m{i} is not None and (s{i} is None or m{i} {sign} s{i}):",
                f"    s{i} = m{i}",
            ]
        return None

    def _action(self, i: int, plan: AggPlan, names: list[str]) -> list[str]:
        step = plan.aggregate.step
        if plan.is_count:
            self.init = [f"s{i} = 0"]
            return [f"s{i} += 1"]
        if step is pair_step:
            self.init = [f"n{i} = s{i} = 0"]
            self.resumed = [f"n{i}, s{i} = states[{i}]"]
            self.state = f"[n{i}, s{i}]"
            return [f"n{i} += 1", f"s{i} += {names[0]}"]
        if step is plain_min or step is plain_max:
            sign = "<" if step is plain_min else ">"
            return [f"if s{i} is None or {names[0]} {sign} s{i}:", f"    s{i} = {names[0]}"]
        lead = ["ctx"] if plan.with_ctx else []
        return [f"s{i} = step{i}({', '.join([*lead, f's{i}', *names])})"]
