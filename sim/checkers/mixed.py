"""List-append with mixed isolation levels: each transaction is held to its own, and to no more.

A transaction is its moments in order: its snapshot, its statements and its commit.  A serializable one is a
single moment, of a repeatable read one its statements are at its snapshot::

                        reads at          what it overwrites was committed
    serializable        commit            before the commit
    repeatable read     snapshot          before the snapshot: first committer wins
    read committed      each statement    before the statement, which locks the row

(Adya's mixed serialization graph, Weak Consistency, section 5.5, has whole transactions for nodes and
drops the edges that a level does not promise; with moments for nodes no level needs a rule of its own.)

    T2 overwrote T1's append          T1's commit -> T2's statement
    T2 read T1's append               T1's commit -> T2's statement
    T2 overwrote what T1 read         T1's statement -> T2's commit
    T1 ended before T2 began          T1's commit -> T2's first moment

Every cycle breaks somebody's promise.  Real time is part of all: a statement of a read committed
transaction that misses what was committed before the transaction began is stale.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from sim.checkers.cycles import KIND_BITS, KIND_MASK, RW, WR, WW, components, show
from sim.checkers.list_append import NOBODY, UNREAD_LINKS_MAX, Analysis, Key
from sim.checkers.verdict import Verdict
from sim.histories import FAIL, OK, Op, Transaction, Value, pair

SERIALIZABLE: Final = "serializable"
REPEATABLE_READ: Final = "repeatable read"
READ_COMMITTED: Final = "read committed"

WITHIN: Final = 3
TIME: Final = 4
COMPONENTS_MAX: Final = 16
"""Components that are described; the smallest first."""
_WHY_TIME: Final = "it ended before the other began"

Edge = tuple[int, int]


class MixedAnalysis(Analysis):
    """What a history says, and whose promise an anomaly breaks."""

    def __init__(self, history: Iterable[Op], levels: Mapping[int, str]) -> None:
        super().__init__(pair(history), "strict-serializable")
        self.levels = [levels.get(transaction.began, SERIALIZABLE) for transaction in self.transactions]
        self.owners: list[int] = []
        """Node -> transaction; nodes beyond are instants."""
        self.first: list[int] = []
        """Transaction -> its first node."""

    def note(self, name: str, text: str, *transactions: int) -> None:
        levels = [self.levels[number] for number in transactions]
        if name == "lost-update" and READ_COMMITTED in levels:
            # Of two levels the order decides: the graph knows.
            self.verdict.permit(name, text, tuple([self.transactions[number].began for number in transactions]))
        else:
            super().note(name, text, *transactions)

    def _check_internal(self, transaction: Transaction) -> None:
        """Of statements with snapshots of their own, only that they see what the transaction has appended."""
        if self.levels[transaction.number] != READ_COMMITTED:
            super()._check_internal(transaction)
            return
        own: dict[Value, list[Value]] = {}
        later = self._appended_later(transaction)
        for position, (f, name, value) in enumerate(transaction.value):
            early = (
                [element for element in value or [] if later.get((name, element), NOBODY) > position]
                if f == "r"
                else []
            )
            if early:
                self.note(
                    "future-read", f"{transaction} read its own later append of {early} to {name}", transaction.number
                )
                return
            if f == "append":
                own.setdefault(name, []).append(value)
            elif name in own and (value or [])[-len(own[name]) :] != own[name]:
                text = f"{transaction} read {name} as {value}, after it had appended {own[name]}"
                self.note("internal", text, transaction.number)
                return

    # --- the graph -------------------------------------------------------------------------

    def place(self) -> None:
        """Gives each transaction its nodes, in order."""
        for transaction in self.transactions:
            number, level = transaction.number, self.levels[transaction.number]
            count = {SERIALIZABLE: 1, REPEATABLE_READ: 2}.get(level, len(transaction.value or ()) + 2)
            self.first.append(len(self.owners))
            self.owners += [number] * count

    def last(self, number: int) -> int:
        """Returns the node of a commit."""
        return (self.first[number + 1] if number + 1 < len(self.first) else len(self.owners)) - 1

    def moment(self, number: int, position: int) -> int:
        """Returns the node of an operation."""
        return self.first[number] + (position + 1 if self.levels[number] == READ_COMMITTED else 0)

    def build(self) -> list[list[int]]:
        """Returns the edges of all nodes, packed as ``target << KIND_BITS | kind``."""
        self.place()
        owners = self.owners
        out: list[list[int]] = [[] for _ in owners]
        for node in range(len(owners) - 1):
            if owners[node] == owners[node + 1]:
                out[node].append((node + 1) << KIND_BITS | WITHIN)
        chains = {name: self._chain(key) for name, key in self.keys.items()}
        for transaction in self.transactions:
            if transaction.status == FAIL:
                continue
            for position, (f, name, value) in enumerate(transaction.value or ()):
                node = self.moment(transaction.number, position)
                if f == "append":
                    self._link_append(self.keys[name], chains[name], value, transaction.number, node, out)
                elif transaction.status == OK:
                    self._link_read(self.keys[name], chains[name], value or [], transaction.number, node, out)
        self._link_time(out)
        return out

    def _chain(self, key: Key) -> list[int]:
        """Returns the writer of each version, NOBODY if it cannot be a node."""
        key.positions = {element: position for position, element in enumerate(key.longest)}
        writers = [key.writers.get(element, NOBODY) for element in key.longest]
        return [NOBODY if writer >= 0 and self.transactions[writer].status == FAIL else writer for writer in writers]

    def _link_append(
        self, key: Key, chain: list[int], element: Value, number: int, node: int, out: list[list[int]]
    ) -> None:
        """Links an append to the version before it; one that nobody read comes after all that were."""
        at = key.positions.get(element, -1)
        if at < 0 and self.transactions[number].status != OK:
            return
        before = next((writer for writer in reversed(chain[: at if at >= 0 else None]) if writer != NOBODY), NOBODY)
        if before not in (NOBODY, number):
            out[self.last(before)].append(node << KIND_BITS | WW)

    def _link_read(
        self, key: Key, chain: list[int], elements: list[Value], number: int, node: int, out: list[list[int]]
    ) -> None:
        size, count = len(elements), len(chain)
        if size > count or key.longest[:size] != elements:
            return  # ``_link_reads`` of the plain check says what is wrong.
        writer = chain[size - 1] if size else NOBODY
        if writer == number:
            return
        if writer != NOBODY:
            out[self.last(writer)].append(node << KIND_BITS | WR)
        for follower in key.unread[:UNREAD_LINKS_MAX] if size == count else chain[size : size + 1]:
            if follower not in (NOBODY, number):
                out[node].append(self.last(follower) << KIND_BITS | RW)

    def _link_time(self, out: list[list[int]]) -> None:
        """Links what ended to what began later, by way of instants (``cycles``)."""
        instant, ended = NOBODY, False
        for event in self.paired.events:
            number = event >> 1
            status = self.transactions[number].status
            if event & 1:
                if status != OK:
                    continue
                if not ended:
                    out.append([])
                    if instant >= 0:
                        out[instant].append((len(out) - 1) << KIND_BITS | TIME)
                    instant, ended = len(out) - 1, True
                out[self.last(number)].append(instant << KIND_BITS | TIME)
            elif status != FAIL:
                ended = False
                if instant >= 0:
                    out[instant].append(self.first[number] << KIND_BITS | TIME)

    # --- cycles ----------------------------------------------------------------------------

    def judge(self) -> None:
        """Notes a shortest cycle of each component."""
        out = self.build()
        found = components([[edge >> KIND_BITS for edge in edges] for edges in out])
        self.verdict.stats["components"] = len(found)
        for component in found[:COMPONENTS_MAX]:
            path = _shortest(out, component)
            numbers = [self.owners[node] for node, _ in path if node < len(self.owners)]
            began = tuple([self.transactions[number].began for number in dict.fromkeys(numbers)])
            self.verdict.add("mixed-cycle", self._describe(path), began)

    def _describe(self, path: list[Edge]) -> str:
        """Returns the transactions of a cycle with their levels, and why each edge is there."""
        moments = [(self.owners[node], kind) for node, kind in path if node < len(self.owners)]
        lines = [
            f"{self.name(number)} ({self.levels[number]}) = {show(self.transactions[number].value)}"
            for number in sorted(dict.fromkeys([number for number, _ in moments]))
        ]
        for at, (number, kind) in enumerate(moments):
            target = moments[(at + 1) % len(moments)][0]
            if kind != WITHIN:
                why = _WHY_TIME if kind == TIME else self.explain(number, target, kind)
                lines.append(f"  {self.name(number)} before {self.name(target)}: {why}")
        return "\n".join(lines)


def _shortest(out: list[list[int]], component: list[int]) -> list[Edge]:
    """Returns [(node, kind of the edge that leaves it), ..] of a shortest cycle through the component's first node."""
    inside = dict.fromkeys(component)
    source = component[0]
    came: dict[int, Edge] = {}
    queue = deque([source])
    while queue:
        node = queue.popleft()
        for edge in out[node]:
            target = edge >> KIND_BITS
            if target in inside and target not in came:
                came[target] = (node, edge & KIND_MASK)
                queue.append(target)
        if source in came:
            break
    path: list[Edge] = []
    at = source
    while not path or at != source:
        at, kind = came[at]
        path.append((at, kind))
    path.reverse()
    return path


def check(history: Iterable[Op], levels: Mapping[int, str]) -> Verdict:
    """Checks a list-append history; ``levels`` are by the index of the invocation, serializable where none is given."""
    analysis = MixedAnalysis(history, levels)
    analysis.collect()
    analysis.order_versions()
    analysis.build_graph()  # Its cycles are not looked at; it finds what agrees with no order at all.
    analysis.find_lost_updates()
    analysis.verdict.stats["transactions"] = len(analysis.transactions)
    analysis.judge()
    return analysis.verdict
