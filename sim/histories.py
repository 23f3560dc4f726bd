"""Histories: what clients asked and what they were told, in the order it happened.

The form is Jepsen's.  One operation is one event::

    {"index": 4, "process": 1, "type": "invoke", "f": "txn", "value": [["append", 9, 1], ["r", 9, null]]}
    {"index": 7, "process": 1, "type": "ok",     "f": "txn", "value": [["append", 9, 1], ["r", 9, [1]]]}

    invoke   a process (a single-threaded client) begins
    ok       it was told that the operation happened, and the value says what was seen
    fail     it was told that the operation did not happen
    info     it was not told: the operation may have happened, may still happen, or never

A process does one thing at a time, so an event belongs to the invocation of its process
before it.  An invocation with no completion is ``info``.  Index order is real time.

``pair`` joins the two events to one ``Transaction``.  Files may hold one JSON array, one
operation a line, or EDN (``:type :invoke``); keywords may keep their colon.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from sim.edn import read_forms

OK: Final = 0
INFO: Final = 1
FAIL: Final = 2

STATUS: Final = {"ok": OK, "info": INFO, "fail": FAIL}
NEVER: Final = 1 << 62
"""The end of an operation whose end nobody saw."""

Value = Any
"""A value of a history is whatever JSON or EDN can say."""


class Op(msgspec.Struct):
    """One event; ``type`` is invoke, ok, fail or info."""

    index: int
    type: str
    process: int | str
    f: str
    value: Value = None
    time: int = 0
    error: str = ""


class Transaction:
    """An invocation and its completion.

    ``began`` and ``ended`` are indexes of events; ``asked`` is the invocation's value,
    ``value`` the completion's when ok, else the invocation's.
    """

    __slots__ = ("asked", "began", "ended", "f", "number", "process", "status", "value")

    def __init__(self, number: int, op: Op) -> None:
        self.number = number
        self.process = op.process
        self.f = op.f
        self.asked = op.value
        self.value = op.value
        self.status = INFO
        self.began = op.index
        self.ended = NEVER

    def __repr__(self) -> str:
        return f"T{self.began}"


class HistoryError(ValueError):
    """The text is not a history."""


class Paired:
    """Transactions in the order of their invocations, and the order of all begins and ends.

    ``events`` holds ``number << 1`` for a begin and ``number << 1 | 1`` for an end; an
    ``info`` transaction has no end.
    """

    __slots__ = ("events", "transactions")

    def __init__(self) -> None:
        self.transactions: list[Transaction] = []
        self.events: list[int] = []


def pair(history: Iterable[Op]) -> Paired:
    """Joins invocations and completions of clients; events of the nemesis are left out."""
    paired = Paired()
    transactions, events = paired.transactions, paired.events
    running: dict[int | str, Transaction] = {}
    for op in history:
        process = op.process
        if process == "nemesis":
            continue
        if op.type == "invoke":
            transaction = Transaction(len(transactions), op)
            transactions.append(transaction)
            events.append(transaction.number << 1)
            running[process] = transaction
            continue
        started = running.pop(process, None)
        if started is None:
            # Histories cut at the front, or written without invocations.
            started = Transaction(len(transactions), op)
            transactions.append(started)
            events.append(started.number << 1)
        _complete(started, op, events)
    return paired


def _complete(transaction: Transaction, op: Op, events: list[int]) -> None:
    status = STATUS.get(op.type)
    if status is None:
        raise HistoryError(f"operation {op.index} has the unknown type {op.type!r}")
    transaction.status = status
    if status == INFO:
        return
    transaction.ended = op.index
    events.append(transaction.number << 1 | 1)
    if status == OK:
        transaction.value = op.value
        transaction.f = op.f or transaction.f


def read_history(path: Path | str) -> list[Op]:
    """Reads a file in any of the forms."""
    return parse_history(Path(path).read_text(encoding="utf-8"))


def parse_history(text: str) -> list[Op]:
    """Reads a JSON array, JSON lines or EDN."""
    return [_into_op(position, record) for position, record in enumerate(_records(text))]


def write_history(history: Iterable[Op], path: Path | str) -> None:
    """Writes one JSON object a line, as ``read_history`` takes it."""
    encode = msgspec.json.Encoder().encode
    Path(path).write_bytes(b"".join(encode(op) + b"\n" for op in history))


def _records(text: str) -> list[Any]:
    try:
        return _unwrap([msgspec.json.decode(text)])
    except msgspec.DecodeError:
        pass
    try:
        return _unwrap([msgspec.json.decode(line.rstrip().rstrip(",")) for line in text.splitlines() if line.strip()])
    except msgspec.DecodeError:
        pass
    try:
        return _unwrap(read_forms(text))
    except ValueError as problem:
        raise HistoryError(f"neither JSON nor EDN: {problem}") from None


def _unwrap(forms: list[Any]) -> list[Any]:
    """Takes the operations out of one enclosing array, or of an object that has a history."""
    while len(forms) == 1:
        if isinstance(forms[0], list):
            forms = forms[0]
        elif isinstance(forms[0], dict) and isinstance(forms[0].get("history"), list):
            forms = forms[0]["history"]
        else:
            break
    return forms


def _into_op(position: int, record: Any) -> Op:
    if not isinstance(record, dict):
        raise HistoryError(f"operation {position} is no map: {record!r:.80}")
    fields = {str(key).removeprefix(":"): value for key, value in record.items()}
    kind = _word(fields.get("type"))
    if kind not in STATUS and kind != "invoke":
        raise HistoryError(f"operation {position} has the unknown type {kind!r}")
    index = fields.get("index")
    return Op(
        index=position if index is None else int(index),
        type=kind,
        process=_process(fields.get("process")),
        f=_word(fields.get("f")),
        value=_plain(fields.get("value")),
        time=int(fields.get("time") or 0),
        error=str(fields.get("error") or ""),
    )


def _word(value: Any) -> str:
    return "" if value is None else str(value).removeprefix(":")


def _process(value: Any) -> int | str:
    if value is None:
        return 0
    return value if isinstance(value, int) else str(value).removeprefix(":")


def _plain(value: Any) -> Value:
    """Strips the colon of keywords, and makes keys of micro-operations hashable."""
    if isinstance(value, str):
        return value.removeprefix(":")
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if value and all(isinstance(item, list) and len(item) == 3 and isinstance(item[0], str) for item in value):
        return [[_plain(f), freeze(key), _plain(item)] for f, key, item in value]
    return [_plain(item) for item in value]


def freeze(value: Value) -> Value:
    """Returns a hashable copy: lists become tuples, maps sorted tuples of pairs."""
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted(((freeze(key), freeze(item)) for key, item in value.items()), key=repr))
    return value


class Recorder:
    """Writes a history as it happens: one process per client, indexes in order of the calls."""

    def __init__(self) -> None:
        self.history: list[Op] = []

    def add(self, type: str, process: int | str, f: str, value: Value, error: str = "", time: int = 0) -> None:
        self.history.append(Op(len(self.history), type, process, f, value, time, error))

    def invoke(self, process: int | str, f: str, value: Value) -> None:
        self.add("invoke", process, f, value)

    def ok(self, process: int | str, f: str, value: Value) -> None:
        self.add("ok", process, f, value)

    def fail(self, process: int | str, f: str, value: Value, error: str = "") -> None:
        self.add("fail", process, f, value, error)

    def info(self, process: int | str, f: str, value: Value, error: str = "") -> None:
        """The outcome is unknown; the client must go on under a new process."""
        self.add("info", process, f, value, error)


def completions(history: Iterable[Op], f: str) -> Iterator[Transaction]:
    """Returns the transactions of ``f`` that are known to have happened."""
    for transaction in pair(history).transactions:
        if transaction.status == OK and transaction.f == f:
            yield transaction
