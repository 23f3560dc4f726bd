"""Registers: transactions that write unique values and read.

    [["w", "x", 3], ["r", "y", 2], ["r", "z", null]]

A write does not say what it overwrote, so the version order of a key is known only in
part (Kingsbury & Alvaro, VLDB 2020, section 5)::

    initial            nil before every other version
    writes follow reads   T read x1 and wrote x2: x1 before x2       (``wfr``)
    sequential keys    one client's later transaction sees x1 or later    (if asked)
    linearizable keys  what began after T ended sees x1 or later          (if asked)

From the order of versions follow edges: wr from the writer of a value to its readers,
ww between the writers, rw from the readers of a version to the writers of later ones.
The two options assume what they name: ask only for what the system promises, for they
make the graph larger.  If the versions themselves run in a circle that is
``cyclic-versions``, and the source that closed the circle is left out.

A value that nobody wrote may be older than the history and is permitted, unless
``initial_values_known``: then it is unwritten-read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sim.checkers.cycles import KIND_BITS, RW, WR, WW, Graph, components, judge, show
from sim.checkers.verdict import Verdict, forbidden_by
from sim.histories import FAIL, OK, Op, Paired, Transaction, Value, freeze, pair

NOBODY: Final = -1

VersionEdges = dict[Value, dict[Value, None]]
"""version -> the versions known to come after it, in order of discovery."""


class Key:
    """All that the history says about one register."""

    __slots__ = ("after", "readers", "writers")

    def __init__(self) -> None:
        self.writers: dict[Value, int] = {}
        self.readers: dict[Value, list[int]] = {}
        self.after: VersionEdges = {}


class Analysis:
    """The indexes of one history, and the verdict as it grows."""

    def __init__(self, paired: Paired, model: str, initial_values_known: bool) -> None:
        self.paired = paired
        self.transactions = paired.transactions
        self.forbidden = forbidden_by(model)
        self.initial_values_known = initial_values_known
        self.verdict = Verdict()
        self.keys: dict[Value, Key] = {}
        self.intermediate: dict[tuple[Value, Value], int] = {}
        # Per transaction: the first value read before any own write, and the last value written.
        self.first_reads: list[dict[Value, Value]] = []
        self.last_writes: list[dict[Value, Value]] = []

    def note(self, name: str, text: str, *transactions: int) -> None:
        indexes = tuple(self.transactions[number].began for number in transactions)
        if name in self.forbidden:
            self.verdict.add(name, text, indexes)
        else:
            self.verdict.permit(name, text, indexes)

    def name(self, number: int) -> str:
        return repr(self.transactions[number])

    # -- what was asked and read --------------------------------------------------------

    def collect(self) -> None:
        """Fills ``keys`` and the external reads and writes of each transaction."""
        for transaction in self.transactions:
            reads: dict[Value, Value] = {}
            writes: dict[Value, Value] = {}
            for f, name, value in transaction.value or ():
                if f == "w":
                    self._write(transaction, name, freeze(value), writes)
                elif f != "r":
                    self.verdict.doubt("unknown-operation", f"{transaction} has {f!r}: this is no register history")
                elif transaction.status == OK and name not in writes:
                    reads.setdefault(name, freeze(value))
            self.first_reads.append(reads)
            self.last_writes.append(writes)
            for name, value in reads.items():
                self._key(name).readers.setdefault(value, []).append(transaction.number)
            if transaction.status == OK:
                self._check_internal(transaction)

    def _key(self, name: Value) -> Key:
        key = self.keys.get(name)
        if key is None:
            key = self.keys[name] = Key()
        return key

    def _write(self, transaction: Transaction, name: Value, value: Value, writes: dict[Value, Value]) -> None:
        writers = self._key(name).writers
        if value in writers:
            one = self.transactions[writers[value]]
            self.verdict.doubt(
                "duplicate-writes",
                f"{one} and {transaction} both write {value} to {name}",
                (one.began, transaction.began),
            )
        writers[value] = transaction.number
        if name in writes:
            self.intermediate[name, writes[name]] = transaction.number
        writes[name] = value

    def _check_internal(self, transaction: Transaction) -> None:
        """Finds a read that differs from the transaction's own read or write before it."""
        expected: dict[Value, Value] = {}
        for f, name, value in transaction.value or ():
            value = freeze(value)
            if f == "r" and name in expected and expected[name] != value:
                text = f"{transaction} read {name} = {value} where it knew {expected[name]}: {show(transaction.value)}"
                self.note("internal", text, transaction.number)
                return
            expected[name] = value

    # -- reads ----------------------------------------------------------------------------

    def check_reads(self) -> None:
        """Finds reads of values that were aborted, intermediate, their reader's own future, or nobody's."""
        for name, key in self.keys.items():
            for value, readers in key.readers.items():
                if value is None:
                    continue
                writer = key.writers.get(value, NOBODY)
                if writer == NOBODY:
                    self._note_unwritten(name, value, readers)
                elif self.transactions[writer].status == FAIL:
                    self.note(
                        "G1a",
                        f"{self.name(readers[0])} read {name} = {value}, which {self.name(writer)} wrote and failed",
                        readers[0],
                        writer,
                    )
                elif writer in readers:
                    self.note("future-read", f"{self.name(writer)} read {name} = {value} before it wrote it", writer)
                elif self.intermediate.get((name, value), NOBODY) == writer:
                    text = f"{self.name(readers[0])} read {name} = {value}, but {self.name(writer)} went on: {show(self.transactions[writer].value)}"
                    self.note("G1b", text, readers[0], writer)

    def _note_unwritten(self, name: Value, value: Value, readers: list[int]) -> None:
        text = f"{self.name(readers[0])} read {name} = {value}, which nobody wrote"
        if self.initial_values_known:
            self.note("unwritten-read", text, readers[0])
        else:
            self.verdict.permit("unwritten-read", text, (self.transactions[readers[0]].began,))

    def find_lost_updates(self) -> None:
        """Finds committed transactions that read one version of a key and overwrote it."""
        for name, key in self.keys.items():
            for value, readers in key.readers.items():
                writers = [number for number in readers if name in self.last_writes[number]]
                for other in writers[1:]:
                    text = f"{self.name(writers[0])} and {self.name(other)} both read {name} = {value} and overwrote it"
                    self.note("lost-update", text, writers[0], other)

    # -- version orders -------------------------------------------------------------------

    def order_versions(self, wfr: bool, sequential_keys: bool, linearizable_keys: bool) -> None:
        """Builds each key's ``after`` from the sources asked for."""
        sources: list[tuple[str, dict[Value, VersionEdges]]] = []
        if wfr:
            sources.append(("writes follow reads", self._wfr_edges()))
        if sequential_keys:
            sources.append(("process order", self._sequential_edges()))
        if linearizable_keys:
            sources.append(("real time", self._realtime_edges()))
        for source, edges_of in sources:
            for name, edges in edges_of.items():
                self._merge(source, name, edges)
        for key in self.keys.values():
            self._put_initial_first(key)

    def _merge(self, source: str, name: Value, edges: VersionEdges) -> None:
        """Adds edges to a key's order unless they close a circle."""
        key = self.keys[name]
        merged = {version: dict(after) for version, after in key.after.items()}
        for version, after in edges.items():
            merged.setdefault(version, {}).update(after)
        circle = _find_circle(merged)
        if circle:
            self.note(
                "cyclic-versions",
                f"{name} went through {circle} in a circle, says {source}",
                *self._involved(key, circle),
            )
        else:
            key.after = merged

    @staticmethod
    def _involved(key: Key, versions: list[Value]) -> list[int]:
        return [
            number
            for version in versions
            for number in [*key.readers.get(version, [])[:1], key.writers.get(version, NOBODY)]
            if number != NOBODY
        ]

    @staticmethod
    def _put_initial_first(key: Key) -> None:
        """Puts nil before every version that nothing else comes before."""
        later = {version for after in key.after.values() for version in after}
        first: dict[Value, None] = {}
        for version in [*key.writers, *key.readers]:
            if version is not None and version not in later:
                first[version] = None
        key.after.setdefault(None, {}).update(first)

    def _wfr_edges(self) -> dict[Value, VersionEdges]:
        found: dict[Value, VersionEdges] = {}
        for number, transaction in enumerate(self.transactions):
            if transaction.status != OK:
                continue
            for name, value in self.first_reads[number].items():
                written = self.last_writes[number].get(name)
                if written is not None and written != value:
                    found.setdefault(name, {}).setdefault(value, {})[written] = None
        return found

    def _first_version(self, number: int, name: Value) -> tuple[bool, Value]:
        """Returns the version of ``name`` the transaction met first, if it is known to have met one."""
        if name in self.first_reads[number]:
            return True, self.first_reads[number][name]
        return self._last_version(number, name)

    def _last_version(self, number: int, name: Value) -> tuple[bool, Value]:
        if name in self.last_writes[number]:
            return True, self.last_writes[number][name]
        if name in self.first_reads[number]:
            return True, self.first_reads[number][name]
        return False, None

    def _is_possible(self, number: int, name: Value) -> bool:
        """Tells if the transaction surely touched ``name``: committed, or seen by a reader."""
        status = self.transactions[number].status
        if status == OK:
            return True
        return status != FAIL and self.last_writes[number].get(name) in self.keys[name].readers

    def _sequential_edges(self) -> dict[Value, VersionEdges]:
        found: dict[Value, VersionEdges] = {}
        latest: dict[tuple[int | str, Value], Value] = {}
        for number, transaction in enumerate(self.transactions):
            for name in [*self.first_reads[number], *self.last_writes[number]]:
                if transaction.status != OK:
                    continue
                place = (transaction.process, name)
                version = self._first_version(number, name)[1]
                if place in latest and latest[place] != version:
                    found.setdefault(name, {}).setdefault(latest[place], {})[version] = None
            if transaction.status == OK:
                for name in [*self.first_reads[number], *self.last_writes[number]]:
                    latest[transaction.process, name] = self._last_version(number, name)[1]
        return found

    def _realtime_edges(self) -> dict[Value, VersionEdges]:
        """Links the last version of what ended to the first version of what began then, per key.

        ``frontier`` holds, per key, the ended transactions that no other of it follows:
        at most as many as there are clients.
        """
        found: dict[Value, VersionEdges] = {}
        frontier: dict[Value, list[int]] = {}
        for event in self.paired.events:
            number = event >> 1
            names = list(dict.fromkeys([*self.first_reads[number], *self.last_writes[number]]))
            for name in names:
                if not self._is_possible(number, name):
                    continue
                ended = frontier.setdefault(name, [])
                began = self.transactions[number].began
                if event & 1:
                    ended[:] = [other for other in ended if self.transactions[other].ended > began]
                    ended.append(number)
                    continue
                version = self._first_version(number, name)[1]
                for other in ended:
                    before = self._last_version(other, name)[1]
                    if before != version:
                        found.setdefault(name, {}).setdefault(before, {})[version] = None
        return found

    # -- edges ----------------------------------------------------------------------------

    def build_graph(self) -> Graph:
        """Links transactions by data, by client and by time."""
        graph = Graph(len(self.transactions))
        for name, key in self.keys.items():
            self._link_key(name, key, graph)
        if any(base.endswith(("-process", "-realtime")) for base in self.forbidden):
            graph.add_process_order(self.paired)
            graph.add_real_time(self.paired)
        return graph

    def _writer(self, name: Value, key: Key, value: Value) -> int:
        """Returns who installed the version: committed, or read by somebody."""
        writer = key.writers.get(value, NOBODY)
        if writer == NOBODY or not self._is_possible(writer, name):
            return NOBODY
        return writer if self.last_writes[writer].get(name) == value else NOBODY

    def _link_key(self, name: Value, key: Key, graph: Graph) -> None:
        for value, readers in key.readers.items():
            writer = self._writer(name, key, value)
            if writer != NOBODY:
                graph.out[writer].extend(number << KIND_BITS | WR for number in readers if number != writer)
        for before, after in key.after.items():
            writer = self._writer(name, key, before)
            readers = key.readers.get(before, [])
            for version in after:
                overwriter = self._writer(name, key, version)
                if overwriter == NOBODY:
                    continue
                if writer != NOBODY:
                    graph.add(writer, overwriter, WW)
                for number in readers:
                    graph.add(number, overwriter, RW)

    def explain(self, source: int, target: int, kind: int) -> str:
        """Says why the data edge is there."""
        if kind == WR:
            for name, value in self.first_reads[target].items():
                if self.last_writes[source].get(name, self) == value:
                    return f"it wrote {name} = {value}, which {self.name(target)} read"
        before = self.first_reads[source] if kind == RW else self.last_writes[source]
        verb = "read" if kind == RW else "wrote"
        for name, written in self.last_writes[target].items():
            if name in before and written in self.keys[name].after.get(before[name], {}):
                return f"it {verb} {name} = {before[name]}, which {self.name(target)} overwrote with {written}"
        raise AssertionError(f"no edge {kind} from {source} to {target}")


def _find_circle(edges: VersionEdges) -> list[Value]:
    """Returns the versions of one circle, or none."""
    numbers: dict[Value, int] = {}
    for version, after in edges.items():
        numbers.setdefault(version, len(numbers))
        for later in after:
            numbers.setdefault(later, len(numbers))
    versions = list(numbers)
    out = [[numbers[later] for later in edges.get(version, ())] for version in versions]
    found = components(out)
    return [versions[number] for number in found[0]] if found else []


def check(
    history: Iterable[Op],
    model: str = "strict-serializable",
    wfr: bool = True,
    sequential_keys: bool = False,
    linearizable_keys: bool = False,
    initial_values_known: bool = False,
) -> Verdict:
    """Checks a register history against a consistency model (see ``verdict.FORBIDDEN``)."""
    analysis = Analysis(pair(history), model, initial_values_known)
    analysis.collect()
    analysis.check_reads()
    analysis.find_lost_updates()
    analysis.order_versions(wfr, sequential_keys, linearizable_keys)
    graph = analysis.build_graph()
    analysis.verdict.stats["transactions"] = len(analysis.transactions)
    judge(graph, analysis.paired, analysis.forbidden, analysis.explain, analysis.verdict)
    return analysis.verdict
