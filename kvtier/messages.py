"""The KV interface: one call, ``send(Batch) -> Reply``.

The seam everything above is built on (design.md section 5).  In process a batch is
handed over as it is, no copy and no encoding; between nodes it is msgpack of the same
structs (``encode``/``decode``).  A batch is as large as the statement allows: all
keys of a lookup, all writes of a commit.

Rules of the key space:

* User keys are *prefix-free*: no key that holds data is a proper prefix of another.
  Tuple keys (``base.keys``) are by construction.  So the successor of key ``k``, for
  an exclusive span end or a resume key, is ``prefix_end(k)``, never ``k + b"\\0"``.
* A span is [start, end).  A point span is [k, prefix_end(k)).

Order and atomicity: the operations of a batch are evaluated in order, at one
timestamp, in one tick, and its writes become visible in one engine batch.  A batch
that spans ranges is split by the router, except where every range touched has its
only replica in this store: then the store evaluates it whole (one-batch commit).

Durability: a Reply to a batch that ends a transaction is given after its sync.  Any
other Reply may show data whose sync is still under way; ``Reply.unsynced`` is then the
engine sequence that must be durable before anything derived from it is told to
anybody outside (``await kv.wait_durable(seq)``).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, Union

import msgspec
from msgspec import Struct


class Isolation(IntEnum):
    """What a transaction asks for (design.md section 5)."""

    READ_COMMITTED = 1
    REPEATABLE_READ = 2
    SERIALIZABLE = 3


class Lock(IntEnum):
    """Lock strengths of a reading operation; writers hold EXCLUSIVE on what they write."""

    NONE = 0
    SHARE = 1
    """FOR SHARE / FOR KEY SHARE; compatible with itself."""
    EXCLUSIVE = 2
    """FOR UPDATE / FOR NO KEY UPDATE and the reads of UPDATE and DELETE."""


class Wait(IntEnum):
    """What to do at a conflicting lock."""

    BLOCK = 0
    NOWAIT = 1
    SKIP = 2


class Routing(IntEnum):
    LEASEHOLDER = 0
    NEAREST = 1
    """Any replica whose closed timestamp covers the read timestamp."""
    BOUNDED_STALENESS = 2
    PRESENT = 3
    """The leaseholder; plain reads of ranges whose closed timestamps lead the clock: any replica."""


KEYS_MAX: Final = 1 << 20
"""Most keys one batch may return; the rest comes by resume spans."""
BATCH_BYTES_MAX: Final = 4 << 20
"""Largest encoded batch between nodes (reliability.md 56)."""


class Skipped:
    """The one value ``SKIPPED``: a locking Get with Wait.SKIP met a lock and left the row out."""

    __slots__ = ()


SKIPPED: Final = Skipped()


class TxnMeta(Struct):
    """What a transaction tells every range it touches.

    In process one object is shared by the coordinator and its batches, so a range
    must never keep or change it; lock table and records copy what they need.
    """

    id: bytes
    isolation: Isolation = Isolation.SERIALIZABLE
    epoch: int = 0
    seq: int = 0
    """Of the latest write; a read sees its own intents up to this, less ``ignored``."""
    read_ts: int = 0
    write_ts: int = 0
    """Provisional commit timestamp, >= read_ts; moved up by replies."""
    uncertainty_limit: int = 0
    """Values in (read_ts, uncertainty_limit] may have been written before we began; 0 on a single node."""
    priority: int = 1
    anchor: bytes = b""
    """Key whose range holds the transaction record; b"" until the first lock or intent."""
    ignored: tuple[tuple[int, int], ...] = ()
    """Closed intervals of sequence numbers rolled back by savepoints."""
    lock_timeout_ms: int = 0
    """0 waits for ever."""
    start_ts: int = 0
    """Read timestamp of the first epoch; never moves (0: read_ts).  Orders transactions by age, and
    keeps a finished one from coming back (reliability 14)."""


# --- operations ----------------------------------------------------------------


class Get(Struct, tag="get", array_like=True):
    """Reads one key.  Result: ``bytes`` or ``None``."""

    key: bytes
    lock: Lock = Lock.NONE
    wait: Wait = Wait.BLOCK


class Scan(Struct, tag="scan", array_like=True):
    """Reads [start, end), ascending or descending.  Result: ScanResult."""

    start: bytes
    end: bytes
    reverse: bool = False
    limit: int = 0
    """Most rows to return; 0 is as many as the header's limits allow."""
    lock: Lock = Lock.NONE
    wait: Wait = Wait.BLOCK


class Put(Struct, tag="put", array_like=True):
    """Writes a value.  Result: None."""

    key: bytes
    value: bytes
    seq: int = 0


class ConditionalPut(Struct, tag="cput", array_like=True):
    """Writes if the newest value equals ``expected`` (None: must not exist), else ConditionFailed."""

    key: bytes
    value: bytes | None
    """None deletes."""
    expected: bytes | None = None
    seq: int = 0


class Delete(Struct, tag="del", array_like=True):
    """Writes a tombstone.  Result: None."""

    key: bytes
    seq: int = 0


class DeleteSpan(Struct, tag="delspan", array_like=True):
    """Writes one MVCC range tombstone over [start, end): O(1), snapshots keep what was."""

    start: bytes
    end: bytes
    seq: int = 0
    is_held: bool = False
    """Nobody else can have written there since the transaction's snapshot: it is not looked at."""


class PutRun(Struct, tag="putrun", array_like=True):
    """Fills a span with rows at once, if nothing is or was in it (``kvtier.runs``); alone in its batch.

    ``keys`` ascend strictly.  Result: True, or False if the rows must be written one by one.
    """

    keys: list[bytes]
    values: list[bytes]
    seq: int
    floor_seq: int = 0
    """Runs of the transaction up to this may be rolled back without this one, so it must not grow them."""
    is_distinct: bool = False
    """True if the caller knows that no key was written by this transaction before."""


class SettleRuns(Struct, tag="settleruns", array_like=True):
    """Makes the transaction's runs in [start, end) what it still sees of them.

    Rows rolled back are removed; with ``to_ts``, before a commit at that timestamp, also those
    deleted since, and the others are moved there.  A bounded step; result: where to go on, or None.
    """

    start: bytes
    end: bytes
    to_ts: int = 0


class Refresh(Struct, tag="refresh", array_like=True):
    """Checks that [start, end) reads the same at ``to_ts`` as at ``from_ts``; raises ReadConflict if not.

    ``projection`` narrows the check to the columns the transaction used: a new version
    whose projected columns equal the old one's is no conflict, because the read would
    have returned the same answer (``base.rows.projected_equal``).  b"" compares
    presence and whole value.  Inside a commit batch ``to_ts`` 0 means the commit timestamp.
    """

    start: bytes
    end: bytes
    from_ts: int
    to_ts: int = 0
    projection: bytes = b""
    is_point: bool = False
    """One key was read, and not the keys that begin like it: the same span can be either."""
    is_held: bool = False
    """Nobody else writes there any more, so the check leaves no mark in the timestamp cache."""


class EndTxn(Struct, tag="end", array_like=True):
    """Commits or aborts; always the last operation of its batch.

    One-phase (``in_flight`` empty, ``intents`` empty): the batch's own writes are the whole
    transaction and are written as committed versions.  Otherwise parallel commit: writes
    of the same batch and those listed ``in_flight`` are intents, the record goes to STAGING.
    Releases every unreplicated lock of the transaction in this store.
    """

    commit: bool
    deadline: int = 0
    """Commit timestamp must stay below this; 0 is none."""
    in_flight: tuple[tuple[bytes, int], ...] = ()
    """(key, seq) of intents not yet proven; parallel commit."""
    intents: tuple[bytes, ...] = ()
    """Keys of intents already proven."""
    intent_spans: tuple[tuple[bytes, bytes], ...] = ()
    can_forward: bool = True
    """False where nothing may be read at another timestamp than read_ts (no refresh possible)."""
    commit_key: str = ""
    """The client's name for the transaction (idempotent commit); kept with its outcome."""


class Heartbeat(Struct, tag="hb", array_like=True):
    """Keeps the record at ``anchor`` alive.  Result: the record's TxnStatus."""

    key: bytes
    now: int


class Push(Struct, tag="push", array_like=True):
    """Asks the record of ``pushee`` to move or abort.  Result: PushResult."""

    key: bytes
    pushee: TxnMeta
    push_to: int
    abort: bool
    now: int = 0
    pusher: bytes = b""
    """The transaction that waits for the pushee, with its ``dependents`` (``kvtier.dependents``)."""
    dependents: tuple[bytes, ...] = ()
    query: bool = False
    """Only asks: the record is left as it is."""


class QueryIntent(Struct, tag="qi", array_like=True):
    """Is the intent of (txn, seq) there?  If not, prevents it (timestamp cache).  Result: bool."""

    key: bytes
    txn: TxnMeta
    seq: int


class Recover(Struct, tag="recover", array_like=True):
    """Finishes a STAGING transaction: committed if all in-flight writes were found, else aborted."""

    key: bytes
    txn: TxnMeta
    implicitly_committed: bool


class ResolveIntents(Struct, tag="resolve", array_like=True):
    """Turns intents of a finished transaction into versions, or removes them."""

    keys: tuple[bytes, ...]
    spans: tuple[tuple[bytes, bytes], ...]
    txn: TxnMeta
    status: int
    commit_ts: int = 0


class Split(Struct, tag="split", array_like=True):
    """Divides the range at ``key``, and at those of ``more`` that are its own, too.

    Answers with the range that begins at the last key taken; those behind it are for another Split.
    """

    key: bytes
    range_id: int = 0
    """Of the right half; the router draws it where the store alone cannot."""
    is_sticky: bool = False
    """The borders were asked for by hand: they stay until they are given up by hand."""
    more: tuple[tuple[bytes, int], ...] = ()
    """Further keys, ascending, with the ids of the ranges that will begin there."""


SPLIT_KEYS_MAX: Final = 64
"""Keys of one Split: some milliseconds on every replica."""


class Unsplit(Struct, tag="unsplit", array_like=True):
    """Gives up that the border at ``key`` stays; answers with the range that begins there, or holds the key."""

    key: bytes


class Merge(Struct, tag="merge", array_like=True):
    """Joins the range starting at ``key`` with its right neighbour."""

    key: bytes


class Members(IntEnum):
    """What ChangeReplicas does with a node."""

    ADD = 0
    """A learner: it gets the data and does not vote."""
    PROMOTE = 1
    REMOVE = 2
    DEMOTE = 3
    """A voter becomes a learner."""


class ChangeReplicas(Struct, tag="replicas", array_like=True):
    """Gives the range of ``key`` a replica more or less, one step at a time.  Result: its descriptor."""

    key: bytes
    node_id: int
    members: Members


class TransferLease(Struct, tag="lease", array_like=True):
    """Hands the lease of the range of ``key`` to the replica on another node.  Result: None, when it was told to."""

    key: bytes
    node_id: int


class ClosePolicy(Struct, tag="policy", array_like=True):
    """Lets the closed timestamps of the range of ``key`` lead the clock, or trail it again.  Result: its descriptor.

    Refused with 55000 as long as it has promised more than its clock has passed.
    """

    key: bytes
    leads: bool


class CollectGarbage(Struct, tag="gc", array_like=True):
    """Removes versions in [start, end) that no read at or above ``threshold`` can see."""

    start: bytes
    end: bytes
    threshold: int


class Checksum(Struct, tag="checksum", array_like=True):
    """Digest of the range's data and its counted statistics.  Result: (digest, stats)."""

    start: bytes
    end: bytes


Op = Union[
    Get, Scan, Put, ConditionalPut, Delete, DeleteSpan, PutRun, SettleRuns, Refresh, EndTxn, Heartbeat, Push, QueryIntent,
    Recover, ResolveIntents, Split, Unsplit, Merge, ChangeReplicas, TransferLease, ClosePolicy, CollectGarbage, Checksum,
]  # fmt: skip


class TxnStatus(IntEnum):
    PENDING = 0
    STAGING = 1
    COMMITTED = 2
    ABORTED = 3


class ScanResult(Struct, array_like=True):
    """Rows of a scan, in order; ``resume`` is the start (reverse: end) of the rest, or None."""

    keys: list[bytes]
    values: list[bytes]
    resume: bytes | None = None


class PushResult(Struct, array_like=True):
    """What a record says of a transaction, for whoever met an intent of it."""

    status: TxnStatus
    commit_ts: int = 0
    ignored: tuple[tuple[int, int], ...] = ()
    """Sequence numbers its savepoints rolled back: they do not become versions (reliability 32)."""
    dependents: tuple[bytes, ...] = ()
    """Transactions that wait for it."""


class Batch(Struct):
    """Header and operations; see the module docstring."""

    ops: list[Op]
    ts: int = 0
    """Read timestamp of a batch outside transactions; 0: the range takes its clock's now."""
    txn: TxnMeta | None = None
    keys_max: int = KEYS_MAX
    bytes_max: int = 0
    """Target size of all results together; 0 is unlimited in process."""
    routing: Routing = Routing.LEASEHOLDER
    staleness_floor: int = 0
    range_id: int = 0
    """Set by the router."""
    generation: int = 0
    deadline_ns: int = 0
    admission: int = 0
    """0 normal, 1 background, 2 system (never queued behind 0 and 1)."""
    trace: str = ""
    at_once: bool = False
    """Reads that need not wait for each other, even for locks: each Scan goes forward, is of a span that is not empty, and
    is answered up to the border of its first range at most; limits are those of each range's answer."""


class Reply(Struct):
    """One result per operation, in order."""

    results: list[Any]
    ts: int = 0
    """Timestamp the batch was evaluated at."""
    write_ts: int = 0
    """The transaction's provisional (or, after EndTxn, real) commit timestamp; 0 if unchanged."""
    unsynced: int = 0
    """Engine sequence this answer depends on, if not yet durable; else 0."""
    staged: bool = False
    """EndTxn left the record STAGING (parallel commit); the transaction is implicitly committed
    when this and every in-flight write succeeded at write_ts."""


def is_followed(batch: Batch) -> bool:
    """True if a replica without the lease can answer: the batch only reads, and locks nothing."""
    for op in batch.ops:
        if isinstance(op, Get | Scan):
            if op.lock:
                return False
        elif not (isinstance(op, Refresh) and op.to_ts):
            return False
    return True


_batch_encoder = msgspec.msgpack.Encoder()
_batch_decoder = msgspec.msgpack.Decoder(Batch)


def encode_batch(batch: Batch) -> bytes:
    """Returns the message between nodes."""
    return _batch_encoder.encode(batch)


def decode_batch(message: bytes) -> Batch:
    """Raises msgspec.ValidationError on anything that is not a batch."""
    return _batch_decoder.decode(message)


def prefix_end(key: bytes) -> bytes:
    """Returns the smallest byte string above every string that starts with ``key``; b"" if none."""
    trimmed = key.rstrip(b"\xff")
    if not trimmed:
        return b""
    return trimmed[:-1] + bytes((trimmed[-1] + 1,))
