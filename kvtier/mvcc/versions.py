"""How a version is stored.

    key    | user key | 2^64-1 - ts, 8 B big-endian |
    value  | the value itself |        empty: a tombstone (the key is deleted at ts)

No flag byte: a scanned value is handed on as it was read, without a copy.  The empty
value must then be told from a tombstone, so values made only of zero bytes (the empty
one is the shortest) are stored with one zero more:

    value     b""      b"\\0"      b"\\0\\0"      b"\\0x"    b"row"
    stored    b"\\0"    b"\\0\\0"    b"\\0\\0\\0"    b"\\0x"    b"row"

One comparison settles nearly every read: whatever sorts above PLAIN_ABOVE has a non-zero
byte among its first sixteen, so it is neither a tombstone nor padded.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

import struct
from typing import Final

from base.hlc import TS_MAX
from base.seams import CF_DATA, WriteBatch

SUFFIX: Final = 8
"""Bytes of the inverted timestamp at the end of a version key."""
_inverted: Final = struct.Struct(">Q")

PLAIN_ABOVE: Final = bytes(15) + b"\x01"
"""A stored value above this is the value itself."""
AFTER_VERSIONS: Final = b"\xff" * 9
"""user key + this sorts above every version of the key and below the next key."""
NEWEST_SUFFIX: Final = bytes(8)
OLDEST_SUFFIX: Final = b"\xff" * 8


def suffix_of(ts: int) -> bytes:
    """Returns the inverted timestamp; newer sorts lower."""
    return _inverted.pack(TS_MAX - ts)


def ts_of(suffix: bytes) -> int:
    """Returns the timestamp of an inverted suffix."""
    inverted: int = _inverted.unpack(suffix)[0]
    return TS_MAX - inverted


def version_key(key: bytes, ts: int) -> bytes:
    """Returns the data key of a version."""
    return key + _inverted.pack(TS_MAX - ts)


def split_version(stored: bytes) -> tuple[bytes, int]:
    """Returns (user key, timestamp) of a data key."""
    assert len(stored) >= SUFFIX, f"{stored=}"
    return stored[:-SUFFIX], ts_of(stored[-SUFFIX:])


def into_stored(value: bytes | None) -> bytes:
    """Returns the stored form of a value; None is a tombstone."""
    if value is None:
        return b""
    if value > PLAIN_ABOVE or value.count(0) != len(value):
        return value
    return value + b"\0"


def from_stored(stored: bytes) -> bytes | None:
    """Returns the value of a stored form, None for a tombstone."""
    if stored > PLAIN_ABOVE:
        return stored
    if not stored:
        return None
    if stored.count(0) == len(stored):
        return stored[:-1]
    return stored


def put_version(batch: WriteBatch, key: bytes, ts: int, value: bytes | None) -> None:
    """Writes a committed version; None deletes the key at ``ts``."""
    batch.put(CF_DATA, key + _inverted.pack(TS_MAX - ts), into_stored(value))
