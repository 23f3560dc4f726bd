"""List-append: transactions that append unique elements to lists and read whole lists.

    [["append", "x", 3], ["r", "y", [1, 2]]]

A list that is read tells the order of its appends, so the version order of a key is the
longest list read, and every other read must be a prefix of it (Kingsbury & Alvaro,
"Elle: Inferring Isolation Anomalies from Experimental Observations", VLDB 2020)::

    order of x:      1    3    4         read [1, 3]   is version 2
    written by       T0   T2   T1        T0 -ww-> T2 -ww-> T1
    T5 read [1, 3]                       T2 -wr-> T5 -rw-> T1

An append that is known to be committed but was never read comes after everything that
was read, for lists only grow.  A transaction of unknown outcome (``info``) counts as
committed when somebody read what it appended; one that failed never does: reading it
is G1a.

Without cycles, these are found directly::

    G1a                 an element of a failed transaction was read
    G1b                 a list ends in what its writer went on to append to
    dirty-update        a committed append follows a failed one in the version order
    lost-update         two committed transactions read one version and both appended
    internal            a transaction disagrees with what it read or appended before
    future-read         a transaction read what it appended only later
    duplicate-elements  a list holds one element twice
    incompatible-order  two lists read of a key are no prefix of one another
    unwritten-read      an element that nobody appended
    duplicate-appends   the workload appended an element twice: the verdict is unknown
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sim.checkers.cycles import KIND_BITS, RW, WR, WW, Graph, judge, show, show_value
from sim.checkers.verdict import Verdict, forbidden_by
from sim.histories import FAIL, OK, Op, Paired, Transaction, Value, pair

UNREAD_LINKS_MAX: Final = 64
"""Anti-dependencies from one reader of a whole list to appends nobody read; the oldest are taken."""

NOBODY: Final = -1


class Key:
    """All that the history says about one list."""

    __slots__ = ("longest", "positions", "reads", "unread", "writers")

    def __init__(self) -> None:
        self.writers: dict[Value, int] = {}
        self.reads: list[tuple[int, list[Value]]] = []
        self.longest: list[Value] = []
        self.positions: dict[Value, int] = {}
        self.unread: list[int] = []


class Analysis:
    """The indexes of one history, and the verdict as it grows."""

    def __init__(self, paired: Paired, model: str) -> None:
        self.paired = paired
        self.transactions = paired.transactions
        self.forbidden = forbidden_by(model)
        self.verdict = Verdict()
        self.keys: dict[Value, Key] = {}
        self.intermediate: dict[tuple[Value, Value], int] = {}
        self.followers: dict[tuple[Value, Value], Value] = {}
        """(key, element) -> the element that the same transaction appended before it."""

    def note(self, name: str, text: str, *transactions: int) -> None:
        """Adds an anomaly, or lists it as permitted if the model allows it."""
        indexes = tuple(self.transactions[number].began for number in transactions)
        if name in self.forbidden:
            self.verdict.add(name, text, indexes)
        else:
            self.verdict.permit(name, text, indexes)

    def name(self, number: int) -> str:
        return repr(self.transactions[number]) if number >= 0 else "nobody"

    # -- what was asked and read --------------------------------------------------------

    def collect(self) -> None:
        """Fills ``keys``: who appended what, and who read what."""
        keys = self.keys
        for transaction in self.transactions:
            operations, number, is_ok = transaction.value, transaction.number, transaction.status == OK
            if not operations:
                continue
            appended = 0
            for f, name, value in operations:
                key = keys.get(name)
                if key is None:
                    key = keys[name] = Key()
                if f == "append":
                    appended += 1
                    if value in key.writers:
                        self._note_twice(name, value, key.writers[value], number)
                    key.writers[value] = number
                elif f != "r":
                    self.verdict.doubt("unknown-operation", f"{transaction} has {f!r}: this is no list-append history")
                elif is_ok:
                    key.reads.append((number, value or []))
            if len(operations) > 1:
                self._look_inside(transaction, appended)

    def _note_twice(self, name: Value, value: Value, one: int, other: int) -> None:
        text = f"{self.name(one)} and {self.name(other)} both append {value} to {name}"
        self.verdict.doubt("duplicate-appends", text, (self.transactions[one].began, self.transactions[other].began))

    def _look_inside(self, transaction: Transaction, appended: int) -> None:
        """Finds intermediate appends, and disagreement of a transaction with itself."""
        operations = transaction.value
        if len({operation[1] for operation in operations}) == len(operations):
            return
        if appended > 1:
            final: dict[Value, Value] = {}
            for f, name, value in operations:
                if f == "append":
                    if name in final:
                        self.intermediate[name, final[name]] = transaction.number
                        self.followers[name, value] = final[name]
                    final[name] = value
        if transaction.status == OK and appended < len(operations):
            self._check_internal(transaction)

    def _check_internal(self, transaction: Transaction) -> None:
        """Compares each read with the reads and appends before it in the transaction.

        ``expected`` is (is the whole list known, list or its end).
        """
        expected: dict[Value, tuple[bool, list[Value]]] = {}
        later = self._appended_later(transaction)
        for position, (f, name, value) in enumerate(transaction.value):
            if f == "append":
                whole, elements = expected.get(name, (False, []))
                expected[name] = (whole, [*elements, value])
                continue
            seen = value or []
            for element in seen:
                if later.get((name, element), NOBODY) > position:
                    text = f"{transaction} read its own later append of {element} to {name}: {show(transaction.value)}"
                    self.note("future-read", text, transaction.number)
                    return
            if name in expected:
                whole, elements = expected[name]
                if seen != elements if whole else elements and seen[-len(elements) :] != elements:
                    wanted = elements if whole else ["..", *elements]
                    text = f"{transaction} read {name} as {seen}, after its own operations expected {wanted}: {show(transaction.value)}"
                    self.note("internal", text, transaction.number)
                    return
            expected[name] = (True, seen)

    @staticmethod
    def _appended_later(transaction: Transaction) -> dict[tuple[Value, Value], int]:
        return {(name, value): position for position, (f, name, value) in enumerate(transaction.value) if f == "append"}

    # -- version orders -----------------------------------------------------------------

    def order_versions(self) -> None:
        """Finds the longest list of each key, and what contradicts it."""
        for name, key in self.keys.items():
            longest: list[Value] = []
            for _, elements in key.reads:
                if len(elements) > len(longest):
                    longest = elements
            if len(set(longest)) != len(longest):
                longest = self._note_duplicates(name, key, longest)
            key.longest = longest
            self._check_elements(name, key, longest)
            self._check_dirty(name, key, longest)
            self._check_own_order(name, key, longest)
            if len(longest) < len(key.writers):
                known = set(longest)
                statuses = self.transactions
                key.unread = [
                    number
                    for value, number in key.writers.items()
                    if value not in known and statuses[number].status == OK
                ]

    def _note_duplicates(self, name: Value, key: Key, longest: list[Value]) -> list[Value]:
        reader = next(number for number, elements in key.reads if elements is longest)
        twice = sorted({element for element in longest if longest.count(element) > 1}, key=repr)
        self.note(
            "duplicate-elements",
            f"{self.name(reader)} read {name} as {longest}: {twice} are there more than once",
            reader,
        )
        return list(dict.fromkeys(longest))

    def _check_elements(self, name: Value, key: Key, elements: list[Value]) -> None:
        """Finds elements that were never or should never have been there."""
        writers, transactions = key.writers, self.transactions
        for position, element in enumerate(elements):
            writer = writers.get(element, NOBODY)
            if writer != NOBODY and transactions[writer].status != FAIL:
                continue
            reader = next(number for number, seen in key.reads if element in seen)
            if writer == NOBODY:
                self.note(
                    "unwritten-read", f"{self.name(reader)} read {element} in {name}, which nobody appended", reader
                )
            else:
                text = f"{self.name(reader)} read {element} in {name} (position {position}), which {self.name(writer)} appended and failed"
                self.note("G1a", text, reader, writer)

    def _check_dirty(self, name: Value, key: Key, longest: list[Value]) -> None:
        """Finds a committed append that built on a failed one."""
        failed = NOBODY
        for element in longest:
            writer = key.writers.get(element, NOBODY)
            status = self.transactions[writer].status if writer >= 0 else FAIL
            if writer >= 0 and status == FAIL:
                failed = writer
            elif status == OK and failed != NOBODY:
                text = f"{self.name(writer)} appended {element} to {name} on top of {self.name(failed)}, which failed: {longest}"
                self.note("dirty-update", text, failed, writer)
                failed = NOBODY

    def _check_own_order(self, name: Value, key: Key, longest: list[Value]) -> None:
        """Finds appends of one transaction that are not in its order; no edge of a graph would show it."""
        latest: dict[int, Value] = {}
        if not self.followers:
            return
        for element in longest:
            writer = key.writers.get(element, NOBODY)
            before = self.followers.get((name, element))
            if before is not None and latest.get(writer) != before:
                text = f"{self.name(writer)} appended {before} to {name} before {element}: {show(self.transactions[writer].value)}, found {longest}"
                self.note("incompatible-order", text, writer)
            if before is not None or (name, element) in self.intermediate:
                latest[writer] = element

    # -- edges --------------------------------------------------------------------------

    def build_graph(self) -> Graph:
        """Links transactions by data, by client and by time."""
        graph = Graph(len(self.transactions))
        for name, key in self.keys.items():
            chain = self._link_writes(key, graph)
            self._link_reads(name, key, chain, graph)
        if any(base.endswith(("-process", "-realtime")) for base in self.forbidden):
            graph.add_process_order(self.paired)
            graph.add_real_time(self.paired)
        return graph

    def _link_writes(self, key: Key, graph: Graph) -> list[int]:
        """Adds the ww edges; returns the writer of each version, NOBODY if it cannot be a node."""
        transactions, out = self.transactions, graph.out
        chain = []
        before = NOBODY
        for element in key.longest:
            writer = key.writers.get(element, NOBODY)
            if writer != NOBODY and transactions[writer].status == FAIL:
                writer = NOBODY
            chain.append(writer)
            if writer != NOBODY:
                if before not in (NOBODY, writer):
                    out[before].append(writer << KIND_BITS | WW)
                before = writer
        if before != NOBODY:
            out[before].extend(writer << KIND_BITS | WW for writer in key.unread if writer != before)
        return chain

    def _link_reads(self, name: Value, key: Key, chain: list[int], graph: Graph) -> None:
        """Adds the wr and rw edges, and finds what disagrees with the version order."""
        out, longest, count, intermediate = graph.out, key.longest, len(chain), self.intermediate
        unread = key.unread[:UNREAD_LINKS_MAX]
        for number, elements in key.reads:
            size = len(elements)
            if size > count or (longest[:size] != elements if size < count else longest != elements):
                self._note_incompatible(name, key, number, elements)
                continue
            if size:
                writer = chain[size - 1]
                if writer == number:
                    continue
                if writer != NOBODY:
                    out[writer].append(number << KIND_BITS | WR)
                    if intermediate and intermediate.get((name, elements[-1]), NOBODY) == writer:
                        self._note_intermediate(name, number, writer, elements)
            if size < count:
                writer = chain[size]
                if writer not in (NOBODY, number):
                    out[number].append(writer << KIND_BITS | RW)
            else:
                out[number].extend(writer << KIND_BITS | RW for writer in unread if writer != number)

    def _note_incompatible(self, name: Value, key: Key, number: int, elements: list[Value]) -> None:
        """A list that is no prefix of the longest one: its elements are still checked one by one."""
        if len(set(elements)) != len(elements):
            if list(dict.fromkeys(elements)) != key.longest:
                self._note_duplicates(name, key, elements)
            return
        reader = next(other for other, seen in key.reads if len(seen) >= len(key.longest))
        text = f"{self.name(number)} read {name} as {elements}, {self.name(reader)} as {key.longest}"
        self.note("incompatible-order", text, number, reader)
        known = set(key.longest)
        self._check_elements(name, key, [element for element in elements if element not in known])

    def _note_intermediate(self, name: Value, number: int, writer: int, elements: list[Value]) -> None:
        text = f"{self.name(number)} read {elements[-1]} as the end of {name}, but {self.name(writer)} went on: {show(self.transactions[writer].value)}"
        self.note("G1b", text, number, writer)

    # -- lost updates -------------------------------------------------------------------

    def find_lost_updates(self) -> None:
        """Finds committed transactions that read one version of a key and appended to it."""
        for name, key in self.keys.items():
            versions: dict[int, int] = {}
            for number, elements in key.reads:
                if not self._appends_after_reading(number, name, elements):
                    continue
                other = versions.setdefault(len(elements), number)
                if other != number:
                    text = (
                        f"{self.name(other)} and {self.name(number)} both read {name} as {elements} and appended to it"
                    )
                    self.note("lost-update", text, other, number)

    def _appends_after_reading(self, number: int, name: Value, elements: list[Value]) -> bool:
        """Tells if the first operation on ``name`` is this read and a later one appends."""
        first = True
        for f, key, value in self.transactions[number].value:
            if key != name:
                continue
            if f == "append":
                return not first
            if first and (value or []) != elements:
                return False
            first = False
        return False

    # -- explanations -------------------------------------------------------------------

    def explain(self, source: int, target: int, kind: int) -> str:
        """Says why the data edge is there."""
        for key in self.keys.values():
            if not key.positions and key.longest:
                key.positions = {element: position for position, element in enumerate(key.longest)}
        if kind == WR:
            return self._explain_wr(source, target)
        return self._explain_write(source, target, kind)

    def _explain_wr(self, source: int, target: int) -> str:
        for f, name, value in self.transactions[target].value:
            if f == "r" and value and self.keys[name].writers.get(value[-1]) == source:
                return f"it read {value[-1]} at the end of {name}, appended by {self.name(source)}"
        raise AssertionError(f"no wr edge from {source} to {target}")

    def _explain_write(self, source: int, target: int, kind: int) -> str:
        for f, name, value in self.transactions[target].value:
            if f != "append":
                continue
            key = self.keys[name]
            position = key.positions.get(value, len(key.longest))
            if kind == RW:
                for g, read, seen in self.transactions[source].value:
                    if g == "r" and read == name and len(seen or []) == position:
                        return f"it read {name} as {show_value(seen or [])}, without {value} of {self.name(target)}"
            else:
                before = next(
                    (e for e in reversed(key.longest[:position]) if self._is_possible(key.writers.get(e, NOBODY))), None
                )
                if before is not None and key.writers[before] == source:
                    return f"it appended {before} to {name}, {self.name(target)} appended {value} after it"
        raise AssertionError(f"no edge {kind} from {source} to {target}")

    def _is_possible(self, number: int) -> bool:
        return number != NOBODY and self.transactions[number].status != FAIL


def check(history: Iterable[Op], model: str = "strict-serializable") -> Verdict:
    """Checks a list-append history against a consistency model (see ``verdict.FORBIDDEN``)."""
    analysis = Analysis(pair(history), model)
    analysis.collect()
    analysis.order_versions()
    graph = analysis.build_graph()
    analysis.find_lost_updates()
    verdict = analysis.verdict
    verdict.stats["transactions"] = len(analysis.transactions)
    judge(graph, analysis.paired, analysis.forbidden, analysis.explain, verdict)
    return verdict
