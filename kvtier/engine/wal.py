"""RocksDB's write-ahead log as bytes: finds the whole batches in it, also behind damage.

A log is blocks of 32 KiB; a batch is one fragment or several, and no fragment crosses a block
(RocksDB wiki, "Write Ahead Log File Format")::

    fragment   | CRC-32C of type and payload, masked 4B | length 2B | type 1B | payload |
    type       1 whole batch    2 first    3 middle    4 last fragment of one
    payload    | first sequence number 8B | operations 4B | operations .. |

Every number is little-endian.  A block's last bytes are zeros if no header fits.

The engine puts a *watermark* in front of the first batch it writes after a sync: an operation
on a key of its own that says up to which sequence number the log was synced (Pebble's
"WAL sync chunks" carry the same).  So a log tells by itself what a power loss may not take.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

BLOCK_BYTES: Final = 32 << 10
WATERMARK_KEY: Final = b"synced"
"""In RocksDB's own family ``default``, which nothing else uses."""
_HEADER: Final = struct.Struct("<IHB")
_BATCH: Final = struct.Struct("<QI")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_WATERMARK_START: Final = b"\x01" + bytes((len(WATERMARK_KEY),)) + WATERMARK_KEY + b"\x08"
_TYPES: Final = re.compile(rb"[\x01-\x04]")
_POLYNOMIAL: Final = 0x82F63B78
_MASK_DELTA: Final = 0xA282EAD8


class Logged(NamedTuple):
    """One whole batch of a log: where it is, its sequence numbers [first, next), its watermark (0: none)."""

    start: int
    end: int
    first: int
    next: int
    synced: int


class _Fragment(NamedTuple):
    start: int
    end: int
    type: int
    payload: bytes


def watermark(sequence: int) -> bytes:
    """Returns the value that says "synced up to this sequence number"."""
    return sequence.to_bytes(8, "little")


def batches(data: bytes, base: int = 0) -> Iterator[Logged]:
    """Yields the whole batches of a log's bytes from offset ``base``, a multiple of the block size."""
    assert base % BLOCK_BYTES == 0, f"{base=}"
    parts: list[_Fragment] = []
    for fragment in _fragments(data):
        if fragment.type in (_FULL, _FIRST):
            parts = [fragment]
        elif parts and _follows(parts[-1], fragment):
            parts.append(fragment)
        else:
            parts = []
        if parts and fragment.type in (_FULL, _LAST):
            logged = _into_logged(parts, base)
            parts = []
            if logged is not None:
                yield logged


def follows(end: int, start: int) -> bool:
    """True if nothing but a block's padding lies between two places."""
    return start == end or (start % BLOCK_BYTES == 0 and 0 < start - end < _HEADER.size)


def _follows(before: _Fragment, after: _Fragment) -> bool:
    return before.type in (_FIRST, _MIDDLE) and follows(before.end, after.start)


def _into_logged(parts: list[_Fragment], base: int) -> Logged | None:
    payload = parts[0].payload if len(parts) == 1 else b"".join([part.payload for part in parts])
    if len(payload) < _BATCH.size:
        return None
    first, count = _BATCH.unpack_from(payload)
    synced = 0
    if payload.startswith(_WATERMARK_START, _BATCH.size):
        at = _BATCH.size + len(_WATERMARK_START)
        synced = int.from_bytes(payload[at : at + 8], "little")
    return Logged(base + parts[0].start, base + parts[-1].end, first, first + count, synced)


def _fragments(data: bytes) -> Iterator[_Fragment]:
    """Yields valid fragments; behind an invalid one it looks for the next at every byte."""
    at = 0
    while at + _HEADER.size <= len(data):
        left = BLOCK_BYTES - at % BLOCK_BYTES
        if left < _HEADER.size:
            at += left
            continue
        fragment = _fragment_at(data, at)
        if fragment is not None:
            yield fragment
            at = fragment.end
        else:
            at = _next_header(data, at + 1)


def _next_header(data: bytes, at: int) -> int:
    """Returns the next place that could be a fragment's start: its type byte is one."""
    found = _TYPES.search(data, at + _HEADER.size - 1)
    return len(data) if found is None else found.start() - (_HEADER.size - 1)


def _fragment_at(data: bytes, at: int) -> _Fragment | None:
    """Returns the fragment at a place, or None if what is there is none."""
    checksum, length, kind = _HEADER.unpack_from(data, at)
    start = at + _HEADER.size
    end = start + length
    if not _FULL <= kind <= _LAST or end > len(data) or at % BLOCK_BYTES + _HEADER.size + length > BLOCK_BYTES:
        return None
    if _masked(crc32c(data[start - 1 : end])) != checksum:
        return None
    return _Fragment(at, end, kind, data[start:end])


def _masked(crc: int) -> int:
    """A checksum of data that holds checksums is weak, so RocksDB stores it turned."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _make_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE: Final = _make_table()


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC.  NB: about 15 MB/s; only the end of a log is read after a crash."""
    table = _TABLE
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
