"""Sets: elements are added once, and every read returns all of them.

    {"f": "add", "value": 17}       {"f": "read", "value": [1, 2, .., 17]}

An element is whatever the value of its ``add`` says; ``[0, 17]`` and ``17`` differ.

``check`` looks at the last read only.  ``check_full`` follows each element::

    add begins    add ok            reads: absent  present  present        stable
    ----|------------|-----------------------------------------------
                  known from here   an absence that begins after is stale, if it appears
                                    later, and lost if it never does again

    unexpected    was read although its add failed
    never-read    no read said anything about it after it was known, or it never was known
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sim.checkers.verdict import Verdict
from sim.histories import FAIL, NEVER, OK, Op, Transaction, Value, freeze, pair

NAMED_MAX: Final = 20
"""Elements that an explanation names."""


def check(history: Iterable[Op]) -> Verdict:
    """Compares the last read with what was added."""
    verdict = Verdict()
    attempted: dict[Value, None] = {}
    added: dict[Value, None] = {}
    final: Transaction | None = None
    for operation in pair(history).transactions:
        if operation.f == "add":
            attempted[freeze(operation.asked)] = None
            if operation.status == OK:
                added[freeze(operation.asked)] = None
        elif operation.f == "read" and operation.status == OK:
            final = operation
    if final is None:
        verdict.doubt("never-read", "nobody read the set")
        return verdict
    seen = [freeze(element) for element in final.value or []]
    present = frozenset(seen)
    verdict.stats.update(attempted=len(attempted), added=len(added), read=len(present))
    _note(verdict, "lost", final, [element for element in added if element not in present])
    _note(verdict, "unexpected", final, [element for element in dict.fromkeys(seen) if element not in attempted])
    _note(verdict, "duplicated", final, _repeated(seen))
    return verdict


def _note(verdict: Verdict, name: str, read: Transaction, elements: list[Value]) -> None:
    if elements:
        more = f" and {len(elements) - NAMED_MAX} more" if len(elements) > NAMED_MAX else ""
        verdict.add(name, f"{read} of process {read.process}: {name} {elements[:NAMED_MAX]}{more}", (read.began,))


def _repeated(seen: list[Value]) -> list[Value]:
    if len(frozenset(seen)) == len(seen):
        return []
    counts: dict[Value, int] = {}
    for element in seen:
        counts[element] = counts.get(element, 0) + 1
    return [element for element, count in counts.items() if count > 1]


@dataclass
class Element:
    """What is known of one element; the numbers are indexes of events, -1 for never."""

    add: Transaction
    known: int = NEVER
    present: int = -1
    absent: int = -1
    stale: int = -1

    def outcome(self) -> str:
        """Returns stable, lost or never-read."""
        if self.present > self.absent:
            return "stable"
        if self.known < self.absent and self.present < self.absent:
            return "lost"
        return "never-read"


def check_full(history: Iterable[Op], linearizable: bool = False, initially_empty: bool = False) -> Verdict:
    """Follows every element through all reads.

    ``linearizable`` makes stale elements an anomaly; ``initially_empty`` those that nobody tried to add.
    """
    verdict = Verdict()
    paired = pair(history)
    elements: dict[Value, Element] = {}
    failed = frozenset(freeze(add.asked) for add in paired.transactions if add.f == "add" and add.status == FAIL)
    for event in paired.events:
        operation = paired.transactions[event >> 1]
        if operation.f == "add" and operation.status != FAIL:
            element = elements.setdefault(freeze(operation.asked), Element(operation))
            if event & 1:
                element.known = min(element.known, operation.ended)
        elif operation.f == "read" and event & 1 and operation.status == OK:
            _follow(elements, operation, verdict)
            strange = [value for value in map(freeze, operation.value or []) if value not in elements]
            _note(verdict, "unexpected", operation, [value for value in strange if initially_empty or value in failed])
            verdict.count("reads")
    _classify(elements, linearizable, verdict)
    return verdict


def _follow(elements: dict[Value, Element], read: Transaction, verdict: Verdict) -> None:
    """Takes one finished read into account."""
    seen = [freeze(value) for value in read.value or []]
    present = frozenset(seen)
    _note(verdict, "duplicated", read, _repeated(seen))
    began = read.began
    for value, element in elements.items():
        if value in present:
            element.known = min(element.known, read.ended)
            element.present = max(element.present, began)
        else:
            if element.known < began:
                element.stale = max(element.stale, began)
            element.absent = max(element.absent, began)


def _classify(elements: dict[Value, Element], linearizable: bool, verdict: Verdict) -> None:
    groups: dict[str, list[Value]] = {"stable": [], "lost": [], "never-read": []}
    for value, element in elements.items():
        groups[element.outcome()].append(value)
    stale = [value for value in groups["stable"] if elements[value].stale >= 0]
    verdict.stats.update({name: len(group) for name, group in groups.items()}, stale=len(stale))
    for value in groups["lost"]:
        element = elements[value]
        text = f"{value}, added by {element.add} and known since {element.known}, was absent in T{element.absent} and never seen again"
        verdict.add("lost", text, (element.add.began, element.absent))
    for value in stale:
        element = elements[value]
        text = f"{value}, added by {element.add} and known since {element.known}, was not seen by T{element.stale}, but later"
        (verdict.add if linearizable else verdict.permit)("stale", text, (element.add.began, element.stale))
    if not groups["stable"] and verdict.valid is True:
        verdict.doubt("never-read", "no element was ever seen to stay")
