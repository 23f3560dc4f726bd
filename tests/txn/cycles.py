"""A small dependency-cycle checker for list-append histories (after Elle, Kingsbury & Alvaro 2020).

Every append puts a number that is unique in the whole history at the end of a list, so the final
list of a key is its version order, and every list read says which version it was.

    ww   i appended the element right before j's
    wr   j read a list whose last element i appended
    rw   i read a list that j's element comes next to
    rt   i was confirmed before j began

An aborted element that is read is G1a, half of a transaction's elements G1b, a cycle without rw G1c, with
one rw G-single, else G2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise


@dataclass
class Op:
    """``append``: value is the number; ``read``: value is the list seen."""

    kind: str
    key: str
    value: object


@dataclass
class Entry:
    """A transaction that committed (or maybe: ``is_sure`` False)."""

    name: str
    began: int
    ended: int
    ops: list[Op] = field(default_factory=list)


class Anomaly(AssertionError):
    """What was found, with the transactions of the cycle."""


def check(history: list[Entry], final: dict[str, list[int]], realtime: bool) -> dict[str, int]:
    """Raises Anomaly, or returns the number of edges by kind."""
    writer: dict[tuple[str, int], Entry] = {}
    for entry in history:
        for op in entry.ops:
            if op.kind == "append":
                writer[op.key, op.value] = entry
    edges = Edges()
    for key, elements in final.items():
        if len(set(elements)) != len(elements):
            raise Anomaly(f"duplicate elements in {key}: {elements}")
        for element in elements:
            if (key, element) not in writer:
                raise Anomaly(f"G1a: {key} holds {element} of a transaction that aborted")
        for before, after in pairwise(elements):
            edges.add("ww", writer[key, before], writer[key, after])
    for (key, element), entry in writer.items():
        if element not in final.get(key, []):
            raise Anomaly(f"lost append of {element} to {key} by {entry.name}")
    for entry in history:
        _add_reads(entry, final, writer, edges)
    if realtime:
        for one in history:
            for other in history:
                if one.ended < other.began:
                    edges.add("rt", one, other)
    edges.check_acyclic(history)
    return edges.counts


def _add_reads(entry: Entry, final: dict[str, list[int]], writer: dict, edges: Edges) -> None:
    own: dict[str, list[int]] = {}
    for op in entry.ops:
        if op.kind == "append":
            own.setdefault(op.key, []).append(op.value)
            continue
        seen, mine = list(op.value), own.get(op.key, [])
        if mine and seen[-len(mine) :] != mine:
            raise Anomaly(f"internal: {entry.name} read {seen} after appending {mine} to {op.key}")
        external = seen[: len(seen) - len(mine)]
        order = final.get(op.key, [])
        if order[: len(external)] != external:
            raise Anomaly(f"incompatible order: {entry.name} read {external} of {op.key}, finally {order}")
        if external:
            source = writer[op.key, external[-1]]
            last = [other.value for other in source.ops if (other.kind, other.key) == ("append", op.key)][-1]
            if source is not entry and last != external[-1]:
                raise Anomaly(f"G1b: {entry.name} read {external[-1]} of {op.key}, {source.name} went on to {last}")
            edges.add("wr", source, entry)
        if len(external) < len(order):
            edges.add("rw", entry, writer[op.key, order[len(external)]])


class Edges:
    """The dependency graph."""

    def __init__(self) -> None:
        self.out: dict[str, list[tuple[str, str]]] = {}
        self.counts = {"ww": 0, "wr": 0, "rw": 0, "rt": 0}

    def add(self, kind: str, one: Entry, other: Entry) -> None:
        if one is not other:
            self.counts[kind] += 1
            self.out.setdefault(one.name, []).append((kind, other.name))

    def check_acyclic(self, history: list[Entry]) -> None:
        """Depth-first search; a back edge is a cycle."""
        color: dict[str, int] = {}
        for entry in history:
            stack: list[tuple[str, int]] = [(entry.name, 0)]
            while stack:
                name, index = stack.pop()
                color.setdefault(name, 1)
                targets = self.out.get(name, [])
                if index == len(targets):
                    color[name] = 2
                    continue
                stack.append((name, index + 1))
                target = targets[index][1]
                if color.get(target) == 1:
                    raise Anomaly(self._describe(stack, target))
                if target not in color:
                    stack.append((target, 0))

    def _describe(self, stack: list[tuple[str, int]], target: str) -> str:
        names = [name for name, _ in stack]
        cycle = stack[names.index(target) :]
        kinds = [self.out[name][index - 1][0] for name, index in cycle]
        number = kinds.count("rw")
        label = "G1c" if number == 0 else "G-single" if number == 1 else "G2"
        return f"{label}: " + " ".join(f"{name} -{kind}->" for (name, _), kind in zip(cycle, kinds)) + f" {target}"
