"""A Change as bytes: what the log of a replicated range carries.

    leaseholder   evaluate -> Change --encode--> bytes ──> log ──> every replica
    replica       bytes --decode--> Command --change_of--> Change --> Store.apply

A write is evaluated once.  Replicas repeat its effects, byte for byte, and decide nothing:
equal stores that apply equal commands in one order stay equal (design.md section 5).
What belongs to the leaseholder alone does not travel: its lock table, its timestamp
cache, and whom it still has to answer.

Transactions are written once per command and named by their place in ``txns``.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from kvtier.administration import Counts, RangeChange
from kvtier.change import Change
from kvtier.engine.batch import OpBatch, Operation
from kvtier.messages import TxnMeta
from kvtier.records import TxnRecord
from kvtier.replica import RangeState
from kvtier.runindex import Run, SpanIntent
from kvtier.state import StoreState

COMMAND_BYTES_MAX: Final = 64 << 20
"""Largest encoded command; a larger write must come in several batches (reliability 56)."""


class RangeEdit(Struct, array_like=True):
    """What a split, a merge or a garbage collection does to the map of ranges."""

    removed: list[int]
    """Range ids."""
    states: list[tuple[RangeState, Counts, bool]]
    raised: list[tuple[int, int]]
    """(range id, new garbage threshold)."""
    swept: tuple[int, int, bytes] | None
    subsumed: tuple[int, int, int] | None = None


class Command(Struct, array_like=True, omit_defaults=True):
    """See the module docstring; the fields are those of ``kvtier.change.Change``."""

    ops: list[Operation]
    """Of the engine batch."""
    commit_ts: int = 0
    keys: list[bytes] = []
    spans: list[tuple[bytes, bytes]] = []
    deltas: list[tuple[int, list[int]]] = []
    """(range id, delta)."""
    counted: list[int] = []
    txns: list[TxnMeta] = []
    intents: list[tuple[bytes, int, int, int]] = []
    """(key, index into txns, write_ts, seq)."""
    span_intents: list[tuple[int, bytes, bytes, int, int]] = []
    """(index into txns, start, end, write_ts, seq)."""
    resolved: list[tuple[bytes, bytes]] = []
    resolved_spans: list[tuple[bytes, bytes, bytes]] = []
    runs: list[tuple[int, bytes, bytes, int, int, int]] = []
    """(index into txns, start, end, write_ts, top_ts, seq)."""
    runs_gone: list[tuple[bytes, bytes, bytes]] = []
    records: list[TxnRecord] = []
    records_dropped: list[bytes] = []
    finished: list[tuple[bytes, int]] = []
    poisoned: list[bytes] = []
    forgotten: list[bytes] = []
    ranges: RangeEdit | None = None
    is_check: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Command)


class TxnTable:
    """Numbers the transactions of one command."""

    def __init__(self) -> None:
        self.txns: list[TxnMeta] = []
        self._places: dict[tuple[bytes, int, int], int] = {}

    def place(self, txn: TxnMeta) -> int:
        """Returns the number of a transaction at its state of now."""
        key = (txn.id, txn.epoch, txn.seq)
        found = self._places.get(key)
        if found is None:
            found = self._places[key] = len(self.txns)
            self.txns.append(txn)
        return found


def encode_command(change: Change, ranges: RangeChange | None = None) -> bytes:
    """Returns the bytes of a change, made before it is applied; equal changes give equal bytes."""
    table = TxnTable()
    command = Command(change.batch.ops, change.commit_ts)
    command.is_check = change.is_check
    command.keys = change.keys
    command.spans = change.spans
    command.deltas = [(replica.range_id, [int(n) for n in delta]) for replica, delta in change.deltas]
    command.counted = [replica.range_id for replica in change.counted]
    command.intents = [(key, table.place(txn), write_ts, seq) for key, txn, write_ts, seq in change.intents]
    command.span_intents = [
        (table.place(span.txn), span.start, span.end, span.write_ts, span.seq) for span in change.span_intents
    ]
    command.runs = [
        (table.place(run.txn), run.start, run.end, run.write_ts, run.top_ts, run.seq) for run in change.runs
    ]
    command.runs_gone = change.runs_gone
    command.txns = table.txns
    command.resolved = change.resolved
    command.resolved_spans = change.resolved_spans
    command.records = change.records
    command.records_dropped = change.records_dropped
    command.finished = change.finished
    command.poisoned = change.poisoned
    command.forgotten = change.forgotten
    if ranges is not None:
        command.ranges = _edit_of(ranges)
    encoded = _encoder.encode(command)
    assert len(encoded) <= COMMAND_BYTES_MAX, len(encoded)
    return encoded


def _edit_of(change: RangeChange) -> RangeEdit:
    swept = change.swept
    return RangeEdit(
        [replica.range_id for replica in change.removed],
        change.states,
        [(replica.range_id, threshold) for replica, threshold in change.raised],
        None if swept is None else (swept[0].range_id, swept[1], swept[2]),
        change.subsumed,
    )


def decode_command(encoded: bytes) -> Command:
    """Raises msgspec.ValidationError or msgspec.DecodeError on anything else."""
    return _decoder.decode(encoded)


def change_of(command: Command, state: StoreState) -> Change:
    """Returns what to apply to a store; the ranges named must be in it."""
    txns = command.txns
    change = Change(OpBatch.of(command.ops))
    change.commit_ts = command.commit_ts
    change.is_transactional = True
    change.is_check = command.is_check
    change.keys = command.keys
    change.spans = command.spans
    for range_id, delta in command.deltas:
        change.deltas.append((state.replica_by_id(range_id), delta))
    for range_id in command.counted:
        change.counted.append(state.replica_by_id(range_id))
    change.intents = [(key, txns[place], write_ts, seq) for key, place, write_ts, seq in command.intents]
    change.span_intents = [
        SpanIntent(txns[place], start, end, write_ts, seq) for place, start, end, write_ts, seq in command.span_intents
    ]
    change.runs = [
        Run(txns[place], start, end, write_ts, top_ts, seq) for place, start, end, write_ts, top_ts, seq in command.runs
    ]
    change.runs_gone = command.runs_gone
    change.resolved = command.resolved
    change.resolved_spans = command.resolved_spans
    change.records = command.records
    change.records_dropped = command.records_dropped
    change.finished = command.finished
    change.poisoned = command.poisoned
    change.forgotten = command.forgotten
    return change


def range_change_of(command: Command, change: Change, state: StoreState) -> RangeChange | None:
    """Returns what a command does to the map of ranges, around the change of the same command."""
    edit = command.ranges
    if edit is None:
        return None
    ranges = RangeChange(change)
    ranges.removed = [state.replica_by_id(range_id) for range_id in edit.removed]
    ranges.states = edit.states
    ranges.subsumed = edit.subsumed
    ranges.raised = [(state.replica_by_id(range_id), threshold) for range_id, threshold in edit.raised]
    if edit.swept is not None:
        range_id, threshold, swept_to = edit.swept
        ranges.swept = (state.replica_by_id(range_id), threshold, swept_to)
    return ranges
