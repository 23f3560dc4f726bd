"""Cycles in the dependency graph of transactions, and their names.

Nodes are numbers.  An edge is one integer, ``target << KIND_BITS | kind``::

    ww  target overwrote what source wrote          process   same client, one after the other
    wr  target read what source wrote               realtime  source ended before target began
    rw  target overwrote what source read

Real time would be quadratic as pairs.  It is a chain of *instants* here: every run of
ends followed by a begin is one extra node, ``transaction -> instant -> later instant ->
transaction``, three edges a transaction.  Instants are not shown in explanations.

The strongly connected components of the whole graph (Tarjan, iterative) hold every
cycle.  There are none in a good history, so the search for names runs on small graphs.
Within a component names are tried from the worst to the mildest, and the shortest cycle
of the first name found is reported::

    G0             any cycle of ww
    G1c            a wr edge u -> v, and a path of ww, wr from v to u
    G-single       a rw edge u -> v, and a path of ww, wr from v to u
    G-nonadjacent  a closed walk through states (node, came by rw?), where rw leaves
                   only states that were not reached by rw
    G2-item        a rw edge u -> v, and any path from v to u

first with data edges alone, then with the process edges, then with real time: a cycle
that needs no process or real-time edge is not reported as one that does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sim.checkers.verdict import CYCLES, Verdict
from sim.histories import FAIL, OK, Paired

KIND_BITS: Final = 3
KIND_MASK: Final = 7
WW: Final = 0
WR: Final = 1
RW: Final = 2
PROCESS: Final = 3
REALTIME: Final = 4
KIND_NAMES: Final = ("ww", "wr", "rw", "process", "realtime")

LANES: Final = (
    ("", (WW, WR, RW)),
    ("-process", (WW, WR, RW, PROCESS)),
    ("-realtime", (WW, WR, RW, REALTIME)),
)
"""Real time contains the process order, so its lane needs no process edges."""

VISITS_MAX: Final = 3_000_000
"""Edges one search for one name may look at; giant components occur only in very wrong histories."""

SHORTER_VISITS_MAX: Final = 100_000
"""Edges to look at for a shorter cycle once there is one."""

COMPONENTS_MAX: Final = 64
"""Components that are named; the smallest first, for they explain best."""

SHOWN_MAX: Final = 12
"""Elements of a list that explanations show."""

Edge = tuple[int, int]
"""(target, kind)."""

Explain = Callable[[int, int, int], str]
"""(source, target, kind) -> why that edge is there, in one sentence."""


class Graph:
    """``out[node]`` lists packed edges; nodes from ``transactions`` on are instants."""

    def __init__(self, transactions: int) -> None:
        self.transactions = transactions
        self.out: list[list[int]] = [[] for _ in range(transactions)]

    def add(self, source: int, target: int, kind: int) -> None:
        if source != target:
            self.out[source].append(target << KIND_BITS | kind)

    def add_process_order(self, paired: Paired) -> None:
        """Links each transaction of a client that ended to the client's next."""
        latest: dict[int | str, int] = {}
        for transaction in paired.transactions:
            if transaction.status == FAIL:
                continue
            before = latest.pop(transaction.process, None)
            if before is not None:
                self.out[before].append(transaction.number << KIND_BITS | PROCESS)
            if transaction.status == OK:
                latest[transaction.process] = transaction.number

    def add_real_time(self, paired: Paired) -> None:
        """Links what ended to what began later, by way of instants."""
        out, transactions = self.out, paired.transactions
        instant, ended = -1, False
        for event in paired.events:
            number = event >> 1
            status = transactions[number].status
            if event & 1:
                if status != OK:
                    continue
                if not ended:
                    # The first end after a begin opens the next instant.
                    out.append([])
                    if instant >= 0:
                        out[instant].append(len(out) - 1 << KIND_BITS | REALTIME)
                    instant, ended = len(out) - 1, True
                out[number].append(instant << KIND_BITS | REALTIME)
            elif status != FAIL:
                ended = False
                if instant >= 0:
                    out[instant].append(number << KIND_BITS | REALTIME)


def components(out: list[list[int]]) -> list[list[int]]:
    """Returns the strongly connected components of more than one node, smallest first.

    ``out`` holds plain targets.  Tarjan 1972, with its own stack.
    """
    order = [0] * len(out)  # 0 is unvisited; else 1 + the order of the visit
    low = [0] * len(out)
    path: list[int] = []
    found: list[list[int]] = []
    clock = 0
    for root in range(len(out)):
        if order[root]:
            continue
        clock += 1
        order[root] = low[root] = clock
        path.append(root)
        stack = [(root, iter(out[root]))]
        while stack:
            node, edges = stack[-1]
            for target in edges:
                seen = order[target]
                if not seen:
                    clock += 1
                    order[target] = low[target] = clock
                    path.append(target)
                    stack.append((target, iter(out[target])))
                    break
                # low is -1 once the component of the target is closed.
                if low[target] > 0 and seen < low[node]:
                    low[node] = seen
            else:
                stack.pop()
                if low[node] == order[node]:
                    _close(node, path, low, found)
                elif stack and low[node] < low[stack[-1][0]]:
                    low[stack[-1][0]] = low[node]
    found.sort(key=len)
    return found


def _close(root: int, path: list[int], low: list[int], found: list[list[int]]) -> None:
    """Takes the component of ``root`` off the path."""
    if path[-1] == root:
        low[path.pop()] = -1
        return
    component = []
    while True:
        node = path.pop()
        low[node] = -1
        component.append(node)
        if node == root:
            break
    component.reverse()
    found.append(component)


@dataclass
class Cycle:
    """``nodes[i]`` is linked to ``nodes[i + 1]`` by ``kinds[i]``; the last to the first."""

    nodes: list[int]
    kinds: list[int]

    def name(self) -> str:
        """Returns Adya's name for it."""
        suffix = "-realtime" if REALTIME in self.kinds else "-process" if PROCESS in self.kinds else ""
        count = self.kinds.count(RW)
        if count == 0:
            return ("G1c" if WR in self.kinds else "G0") + suffix
        if count == 1:
            return "G-single" + suffix
        adjacent = any(kind == RW == self.kinds[position - 1] for position, kind in enumerate(self.kinds))
        return ("G2-item" if adjacent else "G-nonadjacent") + suffix


class Search:
    """The search for named cycles in one component, whose nodes are renumbered from 0."""

    def __init__(self, graph: Graph, component: list[int]) -> None:
        self.component = component
        self.instant_first = graph.transactions
        local = {node: position for position, node in enumerate(component)}
        self.out: list[list[Edge]] = []
        for node in component:
            edges = [
                (local[edge >> KIND_BITS], edge & KIND_MASK) for edge in graph.out[node] if edge >> KIND_BITS in local
            ]
            self.out.append(list(dict.fromkeys(edges)))
        self.visits = 0
        self.exhausted = False

    def find(self, wanted: frozenset[str]) -> Cycle | None:
        """Returns a shortest cycle of the worst name in ``wanted`` that occurs here."""
        for suffix, kinds in LANES:
            for base in CYCLES:
                if base + suffix in wanted:
                    self.visits = 0
                    cycle = self._find_base(base, kinds)
                    if cycle is not None:
                        return cycle
        return None

    def _find_base(self, base: str, kinds: tuple[int, ...]) -> Cycle | None:
        plain = tuple(kind for kind in kinds if kind != RW)
        if base == "G0":
            without_reads = tuple(kind for kind in plain if kind != WR)
            return self._through(WW, without_reads, without_reads)
        if base == "G1c":
            return self._through(WR, plain, plain)
        if base == "G-single":
            return self._through(RW, plain, kinds)
        if base == "G-nonadjacent":
            return self._alternating(kinds)
        return self._through(RW, kinds, kinds)

    def _through(self, first: int, back: tuple[int, ...], within: tuple[int, ...]) -> Cycle | None:
        """Returns a short cycle of one edge ``first`` and then edges ``back``.

        Only components of the subgraph ``within`` are searched.  Every edge is tried
        when the way back is restricted; one success is enough.
        """
        out = self._restricted(within)
        for component in components([[target for target, _ in edges] for edges in out]):
            inside = [False] * len(out)
            for node in component:
                inside[node] = True
            best: Cycle | None = None
            for node in component:
                for target, kind in out[node]:
                    if kind == first and inside[target]:
                        path = self._path(target, node, out, back, inside)
                        if path is not None:
                            cycle = self._cycle(node, first, path)
                            if best is None or len(cycle.nodes) < len(best.nodes):
                                best = cycle
                        if self.visits > VISITS_MAX:
                            self.exhausted = best is None
                            return best
                    if best is not None and (len(best.nodes) == 2 or self.visits > SHORTER_VISITS_MAX):
                        return best
            if best is not None:
                return best
        return None

    def _restricted(self, kinds: tuple[int, ...]) -> list[list[Edge]]:
        return [[edge for edge in edges if edge[1] in kinds] for edges in self.out]

    def _path(
        self, source: int, target: int, out: list[list[Edge]], kinds: tuple[int, ...], inside: list[bool]
    ) -> list[Edge] | None:
        """Returns the edges of a path with the fewest transactions, by breadth-first search.

        Steps to an instant cost nothing (0-1 search).
        """
        came: dict[int, Edge] = {source: (-1, -1)}
        queue = deque([source])
        while queue:
            node = queue.popleft()
            if node == target:
                return _trace(came, target)
            for nearby, kind in out[node]:
                self.visits += 1
                if kind in kinds and inside[nearby] and nearby not in came:
                    came[nearby] = (node, kind)
                    if self.component[nearby] >= self.instant_first:
                        queue.appendleft(nearby)
                    else:
                        queue.append(nearby)
            if self.visits > VISITS_MAX:
                return None
        return None

    def _alternating(self, kinds: tuple[int, ...]) -> Cycle | None:
        """Returns a closed walk in which rw edges never follow one another.

        State ``2 * node + 1`` is the node reached by rw.
        """
        size = len(self.out)
        states: list[list[Edge]] = [[] for _ in range(2 * size)]
        for node, edges in enumerate(self.out):
            for target, kind in edges:
                if kind == RW:
                    states[2 * node].append((2 * target + 1, kind))
                elif kind in kinds:
                    states[2 * node].append((2 * target, kind))
                    states[2 * node + 1].append((2 * target, kind))
        for component in components([[target for target, _ in edges] for edges in states]):
            inside = [False] * len(states)
            for state in component:
                inside[state] = True
            for state in component:
                for target, kind in states[state]:
                    if kind == RW and inside[target]:
                        return self._walk(state, target, states, inside)
        return None

    def _walk(self, state: int, target: int, states: list[list[Edge]], inside: list[bool]) -> Cycle | None:
        came: dict[int, Edge] = {target: (-1, -1)}
        queue = deque([target])
        while queue:
            place = queue.popleft()
            if place == state:
                path = [(node >> 1, kind) for node, kind in _trace(came, state)]
                return self._cycle(state >> 1, RW, path)
            for nearby, kind in states[place]:
                if inside[nearby] and nearby not in came:
                    came[nearby] = (place, kind)
                    queue.append(nearby)
        raise AssertionError(f"{state=} and {target=} are in one component")

    def _cycle(self, source: int, first: int, path: list[Edge]) -> Cycle:
        """Joins ``source -first-> path`` into a cycle, leaving the instants out."""
        nodes, kinds = [], []
        at, kind = source, first
        for follower, next_kind in [*path, (source, -1)]:
            if self.component[at] < self.instant_first:
                nodes.append(self.component[at])
                kinds.append(kind)
            at, kind = follower, next_kind
        return Cycle(nodes, kinds)


def _trace(came: dict[int, Edge], target: int) -> list[Edge]:
    """Returns [(node, kind of the edge that leaves it), ..] from the source up to the target."""
    path = []
    node, kind = came[target]
    while node >= 0:
        path.append((node, kind))
        node, kind = came[node]
    path.reverse()
    return path


def judge(graph: Graph, paired: Paired, wanted: frozenset[str], explain: Explain, verdict: Verdict) -> None:
    """Finds the cycles and adds them to the verdict: forbidden ones, else what is permitted."""
    targets = [[edge >> KIND_BITS for edge in edges] for edges in graph.out]
    verdict.stats["edges"] = sum(map(len, targets))
    found = components(targets)
    verdict.stats["components"] = len(found)
    everything = frozenset(base + suffix for base in CYCLES for suffix, _ in LANES)
    for component in found[:COMPONENTS_MAX] + found[COMPONENTS_MAX:][-1:]:
        search = Search(graph, component)
        cycle = search.find(wanted)
        if cycle is not None:
            verdict.add(cycle.name(), describe(cycle, paired, explain), _indexes(cycle, paired))
            continue
        if search.exhausted:
            verdict.doubt("unfinished", f"a component of {len(component)} nodes was too large to search")
        cycle = search.find(everything - wanted)
        if cycle is not None:
            verdict.permit(cycle.name(), describe(cycle, paired, explain), _indexes(cycle, paired))


def _indexes(cycle: Cycle, paired: Paired) -> tuple[int, ...]:
    return tuple(paired.transactions[node].began for node in cycle.nodes)


def describe(cycle: Cycle, paired: Paired, explain: Explain) -> str:
    """Returns the transactions of a cycle and, edge by edge, why it is one."""
    lines = []
    for node in sorted(dict.fromkeys(cycle.nodes)):
        lines.append(f"T{paired.transactions[node].began} = {show(paired.transactions[node].value)}")
    count = len(cycle.nodes)
    for position, source in enumerate(cycle.nodes):
        target, kind = cycle.nodes[(position + 1) % count], cycle.kinds[position]
        one, other = paired.transactions[source], paired.transactions[target]
        if kind == PROCESS:
            why = f"client {one.process} ran it first"
        elif kind == REALTIME:
            why = f"it ended (at {one.ended}) before the other began"
        else:
            why = explain(source, target, kind)
        lines.append(f"  T{one.began} -{KIND_NAMES[kind]}-> T{other.began}: {why}")
    return "\n".join(lines)


def show(operations: object) -> str:
    """Returns micro-operations as ``append x 1, r y [2]``; of a long list only the end."""
    if isinstance(operations, list | tuple) and all(isinstance(op, list | tuple) for op in operations):
        return ", ".join(" ".join(show_value(part) for part in op) for op in operations)
    return show_value(operations)


def show_value(part: object) -> str:
    """Returns a value; of a long list only the end."""
    if isinstance(part, list) and len(part) > SHOWN_MAX:
        return "[.., " + ", ".join(map(str, part[-SHOWN_MAX:])) + "]"
    return str(part)
