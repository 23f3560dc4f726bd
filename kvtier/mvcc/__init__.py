"""Many versions of every value, and who may see which.

The keyspaces, one picture (``|`` joins bytes):

    family  key                                         value
    data    user key | 8 B of 2^64-1 - ts               the value, or empty: deleted      versions.py
    lock    b"i" | user key                             Intent                            intents.py
    lock    b"s" | start                                Intent over [start, end)s         intents.py
    lock    b"r" | start                                Run: rows of the data family      runs.py
                                                        that are not committed yet
    local   b"t\\0" | start | 0x00 0x01 | inverted ts    end                               tombstones.py

Newer versions of a key sort before older ones, so one seek to (key, ts) lands on what a
read at ``ts`` sees.  In time, for one key:

    ts          10        20         30          40         50
    versions    v1        v2      (deleted)      v3
    range tombstone                                     [a, z) at 45
    get @15 -> v1    @25 -> v2    @35 -> None    @42 -> v3     @45 -> None

Rules:

* A range tombstone at R hides versions below R over its span, and shows at R and after.
  A version at R itself is seen: within one transaction the later write wins, and what was
  written before the span's deletion is rewritten as deleted (``put_range_tombstone``,
  ``write_span_intent``).
* User keys are prefix-free (``kvtier.messages``), so all versions of a key are neighbours
  and no version of another key lies between them.
* Intents are not versions.  Reads here do not look at them; whoever evaluates a request
  finds conflicts in its index first, and hands a transaction's own writes in.
* Nothing here waits, looks at a clock, or keeps state, but for ``RangeTombstones``, the
  in-memory copy of the few range tombstones of a store.

Everything uses the engine's shared cursors: one tick, no write in between.
"""

from kvtier.mvcc.garbage import collect_garbage, drop_range_tombstones
from kvtier.mvcc.intents import (
    MISSING,
    Intent,
    Missing,
    get_intent,
    get_span_intent,
    intents_in,
    own_value,
    own_writes,
    resolve_intent,
    resolve_span_intents,
    span_intents_in,
    write_intent,
    write_span_intent,
)
from kvtier.mvcc.reads import find_conflict, find_newer, get, get_value, newest, newest_ts
from kvtier.mvcc.runs import stored_runs
from kvtier.mvcc.scans import Rows, scan, scan_own
from kvtier.mvcc.survey import SpanDigest, SpanStats, Survey, checksum, split_key, stats
from kvtier.mvcc.tombstones import (
    NO_TOMBSTONES,
    RangeTombstones,
    put_range_tombstone,
    split_range_tombstones,
)
from kvtier.mvcc.versions import put_version, split_version, version_key

__all__ = [
    "MISSING",
    "NO_TOMBSTONES",
    "Intent",
    "Missing",
    "RangeTombstones",
    "Rows",
    "SpanDigest",
    "SpanStats",
    "Survey",
    "checksum",
    "collect_garbage",
    "drop_range_tombstones",
    "find_conflict",
    "find_newer",
    "get",
    "get_intent",
    "get_span_intent",
    "get_value",
    "intents_in",
    "newest",
    "newest_ts",
    "own_value",
    "own_writes",
    "put_range_tombstone",
    "put_version",
    "resolve_intent",
    "resolve_span_intents",
    "scan",
    "scan_own",
    "span_intents_in",
    "split_key",
    "split_range_tombstones",
    "split_version",
    "stats",
    "stored_runs",
    "version_key",
    "write_intent",
    "write_span_intent",
]
