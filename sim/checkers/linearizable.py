"""Linearizability of one object, by search.

Every operation must appear to happen at one instant between its invocation and its
completion (Herlihy & Wing 1990).  The search is Wing & Gong's with Lowe's memory of
what was tried ("Testing for linearizability", 2017): walk the events in order, lift an
operation out as soon as the object allows it, and go back when a completion is met that
was not lifted::

    events:   b0 [ b1 [ e0 ] b2 e1 ] e2        lift 0: skip b0 and e0, walk on
    seen:     {(mark of the lifted operations, state)}

An operation of unknown outcome may happen at any time after its invocation, or never;
one that failed did not happen.  Histories over many objects are split by key first, for
a history is linearizable when each object's is.  The search is bounded: past
``STATES_MAX`` remembered pairs the verdict is unknown.  A register whose writes are unique
needs no search (``zones``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Final

from sim.checkers.verdict import Verdict
from sim.checkers.zones import find_conflict
from sim.histories import FAIL, INFO, OK, Op, Transaction, Value, freeze, pair

STATES_MAX: Final = 1_000_000
"""Pairs remembered for one object, some 100 bytes each."""

IMPOSSIBLE: Final = ("impossible",)
"""A step's answer when the object cannot do that in this state."""

Step = Callable[[Value, Transaction], Value]
"""(state, operation) -> next state, or IMPOSSIBLE; the operation's value holds its result."""


def step_register(state: Value, operation: Transaction) -> Value:
    """A register with read, write and cas [expected, new]."""
    f, value = operation.f, operation.value
    if f == "read":
        return state if operation.status != OK or freeze(value) == state else IMPOSSIBLE
    if f == "write":
        return freeze(value)
    if f == "cas":
        expected, new = value
        return freeze(new) if freeze(expected) == state else IMPOSSIBLE
    return IMPOSSIBLE


def step_mutex(state: Value, operation: Transaction) -> Value:
    """A lock: acquire only when free, release only when held; the state is whether it is held."""
    wanted = operation.f == "release"
    return (not wanted) if bool(state) is wanted and operation.f in ("acquire", "release") else IMPOSSIBLE


class _Event:
    """A begin or an end in the doubly linked list of what is still to be explained."""

    __slots__ = ("after", "before", "end", "number", "operation")

    def __init__(self, number: int, operation: Transaction | None) -> None:
        self.number = number
        self.operation = operation  # None at an end.
        self.end: _Event | None = None
        self.before: _Event = self
        self.after: _Event | None = None

    def lift(self) -> None:
        """Takes begin and end out of the list."""
        _unlink(self)
        if self.end is not None:
            _unlink(self.end)

    def unlift(self) -> None:
        """Puts them back; only valid in the reverse order of ``lift``."""
        if self.end is not None:
            _relink(self.end)
        _relink(self)


def _unlink(event: _Event) -> None:
    event.before.after = event.after
    if event.after is not None:
        event.after.before = event.before


def _relink(event: _Event) -> None:
    event.before.after = event
    if event.after is not None:
        event.after.before = event


def _linked(operations: list[Transaction], order: list[int]) -> _Event:
    """Returns the head before the first event; ``order`` is as ``Paired.events``."""
    head = last = _Event(-1, None)
    begins: dict[int, _Event] = {}
    numbers = {operation.number: position for position, operation in enumerate(operations)}
    for code in order:
        number = numbers.get(code >> 1)
        if number is None:
            continue
        if code & 1:
            event = begins[number].end = _Event(number, None)
        else:
            event = begins[number] = _Event(number, operations[number])
        event.before = last
        last.after = event
        last = event
    return head


def _marks(count: int) -> list[int]:
    """Returns a random number for each operation; a set of operations is known by the XOR of theirs.

    As bits the sets of 50,000 operations would be 6 KB each.  Two sets have one mark with odds of
    2^-128 (Zobrist 1970), for a million sets 2^-89.
    """
    rng = Random(count)
    return [rng.getrandbits(128) for _ in range(count)]


def explain_operations(
    operations: list[Transaction], order: list[int], initial: Value, step: Step
) -> tuple[bool | None, Transaction | None]:
    """Searches for an order; returns (found or None if the search was cut, the last operation that could not be placed)."""
    head = _linked(operations, order)
    required = sum(operation.status == OK for operation in operations)
    marks = _marks(len(operations))
    placed, state = 0, initial
    seen: set[tuple[int, Value]] = set()
    lifted: list[tuple[_Event, Value]] = []
    stuck, deepest = None, -1
    event = head.after
    while required:
        if event is None or event.operation is None:
            # An end of what was not placed, or nothing left to try: go back.
            if event is not None and len(lifted) > deepest:
                stuck, deepest = operations[event.number], len(lifted)
            if not lifted:
                return False, stuck
            event, state = lifted.pop()
            event.unlift()
            placed ^= marks[event.number]
            required += operations[event.number].status == OK
            event = event.after
            continue
        operation = event.operation
        following = step(state, operation)
        mark = placed ^ marks[event.number]
        if following is IMPOSSIBLE or (mark, following) in seen:
            event = event.after
            continue
        if len(seen) >= STATES_MAX:
            return None, stuck
        seen.add((mark, following))
        lifted.append((event, state))
        event.lift()
        required -= operation.status == OK
        placed, state = mark, following
        event = head.after
    return True, None


def check(history: Iterable[Op], keyed: bool = False, initial: Value = None, step: Step = step_register) -> Verdict:
    """Checks one object, or with ``keyed`` one per key: values are [key, value] then."""
    verdict = Verdict()
    paired = pair(history)
    by_key: dict[Value, list[Transaction]] = {}
    for transaction in paired.transactions:
        key = None
        if keyed:
            key, transaction.value = _split(transaction)
        # A read of unknown outcome says nothing; a failed operation did not happen.
        if transaction.status == FAIL or (transaction.status == INFO and transaction.f == "read"):
            continue
        by_key.setdefault(key, []).append(transaction)
    for key, operations in by_key.items():
        place = f" of key {key}" if keyed else ""
        verdict.count("keys")
        if step is step_register:
            operations = _without_unseen(operations)
            if _is_unique(operations, initial):
                conflict = find_conflict(operations, initial)
                if conflict is not None:
                    indexes = tuple(dict.fromkeys([operation.began for operation in conflict[1]]))
                    verdict.add("nonlinearizable", f"no order of the operations{place}: {conflict[0]}", indexes)
                continue
        found, stuck = explain_operations(operations, paired.events, initial, step)
        if found is None:
            verdict.doubt("unfinished", f"the search{place} went past {STATES_MAX} states")
        elif not found:
            assert stuck is not None, f"{key=} failed with nothing to place"
            text = f"no order of the operations{place} explains T{stuck.began}: process {stuck.process} {stuck.f} {stuck.value}"
            verdict.add("nonlinearizable", text, (stuck.began,))
    verdict.stats["operations"] = len(paired.transactions)
    return verdict


def _without_unseen(operations: list[Transaction]) -> list[Transaction]:
    """Leaves out what may have happened and left a value that nobody saw: to place it helps nobody.

    Each of them would double the states to be searched.
    """
    seen: dict[Value, None] = {}
    for operation in operations:
        if operation.f == "read":
            seen[freeze(operation.value)] = None
        elif operation.f == "cas":
            seen[freeze(operation.value[0])] = None
    return [operation for operation in operations if operation.status == OK or _left(operation) in seen]


def _is_unique(operations: list[Transaction], initial: Value) -> bool:
    """True if all are reads and writes, and no value is written twice."""
    values = [freeze(operation.value) for operation in operations if operation.f == "write"]
    count = sum([operation.f == "read" for operation in operations]) + len(values)
    return count == len(operations) and len(dict.fromkeys([*values, freeze(initial)])) == len(values) + 1


def _left(operation: Transaction) -> Value:
    """Returns the value of the register after a write or cas."""
    return freeze(operation.value[1] if operation.f == "cas" else operation.value)


def _split(transaction: Transaction) -> tuple[Value, Value]:
    """Takes [key, value] apart; a result that lost its key takes it from the invocation."""
    asked, value = transaction.asked, transaction.value
    key = freeze(asked[0]) if isinstance(asked, list | tuple) and asked else None
    if isinstance(value, list | tuple) and len(value) == 2 and freeze(value[0]) == key:
        return key, value[1]
    return key, value


def check_mutex(history: Iterable[Op]) -> Verdict:
    """Checks one lock, free at first."""
    return check(history, initial=False, step=step_mutex)


def check_transactions(history: Iterable[Op], initial: Value = None) -> Verdict:
    """Checks registers of histories whose transactions have one micro-operation each."""
    operations = []
    for op in history:
        if op.process != "nemesis" and op.value:
            assert len(op.value) == 1, f"{op.value=} is more than one operation"
            f, key, value = op.value[0]
            op = Op(op.index, op.type, op.process, "read" if f == "r" else "write", [key, value], op.time)
        operations.append(op)
    return check(operations, keyed=True, initial=initial)
