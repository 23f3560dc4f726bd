"""Whether two row values agree in some columns, for code that knows no catalog.

A serializable transaction that must move its reads to a later timestamp asks each
range: would the reads return the same?  A new version of a row that differs only in
columns the transaction did not look at changes nothing (``kvtier.messages.Refresh``).  The
request carries a *projection*: per layout of the table, where the columns of interest are.
Ranges compare bytes; they never decode a datum.

A projection is msgpack of a list of ProjectedLayout, so it may come from another node.

Answers err on one side only: "equal" means the decoded columns are equal.  Equal
numbers with different bytes (1.0 and 1.00, 0 and -0) read differently and count as
different, and so does everything that cannot be read.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
from msgspec import Struct

from base.errors import InternalError

WIDE: Final = 0x8000
COMPARERS_MAX: Final = 4096
"""Most compiled projections kept; one per statement shape and table version."""


class ProjectedColumn(Struct, array_like=True):
    """Where one column is in the values of one layout."""

    type_oid: int
    bit: int
    """In the NULL bitmap; -1 if the layout lacks the column."""
    offset: int = 0
    width: int = 0
    """Of a fixed-width column, else 0."""
    varying: int = -1
    """Index of a varying column, else -1."""
    missing: bytes | None = None
    """The stored form of what a layout without the column reads as."""


class ProjectedLayout(Struct, array_like=True):
    """One layout; ``columns`` are the same columns in the same order in every layout."""

    id: int
    offsets_at: int
    varying_count: int
    columns: list[ProjectedColumn]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[ProjectedLayout])


def encode_projection(layouts: list[ProjectedLayout]) -> bytes:
    return _encoder.encode(layouts)


def projected_equal(old: bytes | None, new: bytes | None, projection: bytes) -> bool:
    """Returns whether two values of one key are equal in the projected columns; None is an absent row.

    b"" compares whole values, and so does a layout that the projection does not describe.
    """
    if old is None or new is None:
        return old is new
    if old == new:
        return True
    if not projection:
        return False
    comparer = _comparers.get(projection)
    if comparer is None:
        comparer = _remember(projection)
    try:
        return comparer.equal(old, new)
    except (IndexError, struct.error):
        # A value too short for its layout: no claim but that the bytes differ.
        return False


class _LayoutView:
    """The projected columns of values with one header.

    One unpack reads the bitmap bytes, then the fixed-width columns (neighbours
    joined) as byte strings, then the end offsets that matter, the last one always.
    """

    __slots__ = ("columns", "head_size", "masks", "offsets_at", "size", "start", "unpack", "unpack_ends", "varying")

    def __init__(self, layout: ProjectedLayout, wide: bool) -> None:
        count = layout.varying_count
        self.columns = layout.columns
        self.offsets_at = layout.offsets_at
        self.unpack_ends = struct.Struct(f"<{count}{'I' if wide else 'H'}").unpack_from
        self.start = layout.offsets_at + count * (4 if wide else 2)
        """Where the first varying column starts."""
        self.size = 0 if count else layout.offsets_at
        """Of every value, or 0 if it varies."""
        self.masks = self._bitmap_masks()
        ranges = self._fixed_ranges()
        self.head_size = len(self.masks) + len(ranges)
        varying = sorted([column.varying for column in layout.columns if column.bit >= 0 and column.varying >= 0])
        ends = (
            sorted({end for index in [*varying, count - 1] for end in (index - 1, index) if end >= 0}) if count else []
        )
        self.varying = [(self._end_position(ends, index - 1), self._end_position(ends, index)) for index in varying]
        """Positions among what is unpacked of each varying column's start (-1: ``start``) and end."""
        self.unpack = self._struct(ranges, ends, wide).unpack_from

    def _end_position(self, ends: list[int], index: int) -> int:
        return -1 if index < 0 else self.head_size + ends.index(index)

    def _struct(self, ranges: list[tuple[int, int]], ends: list[int], wide: bool) -> struct.Struct:
        width, code = (4, "I") if wide else (2, "H")
        pieces = [(at, 1, "B") for at, _ in self.masks]
        pieces += [(start, end - start, f"{end - start}s") for start, end in ranges]
        pieces += [(self.offsets_at + index * width, width, code) for index in ends]
        source, at = "<", 0
        for offset, size, piece in pieces:
            source += f"{offset - at}x{piece}"
            at = offset + size
        return struct.Struct(source)

    def _bitmap_masks(self) -> list[tuple[int, int]]:
        masks: dict[int, int] = {}
        for column in self.columns:
            if column.bit >= 0:
                at = 2 + column.bit // 8
                masks[at] = masks.get(at, 0) | 1 << column.bit % 8
        return sorted(masks.items())

    def _fixed_ranges(self) -> list[tuple[int, int]]:
        """Returns the bytes of the fixed-width columns, neighbours joined."""
        ranges: list[tuple[int, int]] = []
        fixed = [column for column in self.columns if column.bit >= 0 and column.width]
        for start, end in sorted([(column.offset, column.offset + column.width) for column in fixed]):
            if ranges and ranges[-1][1] == start:
                start = ranges.pop()[0]
            ranges.append((start, end))
        return ranges

    def ends(self, value: bytes) -> tuple[int, ...]:
        """Returns the ends of the varying columns, checked against the value's length."""
        ends: tuple[int, ...] = self.unpack_ends(value, self.offsets_at)
        if (ends[-1] if ends else self.size) != len(value):
            raise IndexError("row value of another length than it says")
        return ends

    def equal(self, old: bytes, new: bytes) -> bool:
        """Compares two values of this layout."""
        a, b = self.unpack(old), self.unpack(new)
        head = self.head_size
        if a[:head] != b[:head]:
            bitmaps = len(self.masks)
            if a[bitmaps:head] != b[bitmaps:head]:
                return False
            for i in range(bitmaps):
                if (a[i] ^ b[i]) & self.masks[i][1]:
                    return False
        if self.size:
            return len(old) == len(new) == self.size
        if a[-1] != len(old) or b[-1] != len(new):
            return False
        for before, end in self.varying:
            if before < 0:
                if old[self.start : a[end]] != new[self.start : b[end]]:
                    return False
            elif old[a[before] : a[end]] != new[b[before] : b[end]]:
                return False
        return True

    def extract(self, value: bytes) -> list[tuple[int, bytes | None]]:
        """Returns type and stored bytes (None: NULL) of each projected column."""
        ends = self.ends(value)
        found: list[tuple[int, bytes | None]] = []
        for column in self.columns:
            if column.bit < 0:
                found.append((column.type_oid, column.missing))
            elif value[2 + column.bit // 8] >> column.bit % 8 & 1:
                found.append((column.type_oid, None))
            elif column.varying >= 0:
                start = ends[column.varying - 1] if column.varying else self.start
                found.append((column.type_oid, value[start : ends[column.varying]]))
            else:
                found.append((column.type_oid, value[column.offset : column.offset + column.width]))
        return found


class _Comparer:
    """A projection made ready."""

    __slots__ = ("_views",)

    def __init__(self, projection: bytes) -> None:
        self._views: dict[bytes, _LayoutView] = {}
        for layout in _decoder.decode(projection):
            self._views[layout.id.to_bytes(2, "little")] = _LayoutView(layout, False)
            self._views[(layout.id | WIDE).to_bytes(2, "little")] = _LayoutView(layout, True)

    def equal(self, old: bytes, new: bytes) -> bool:
        """Compares values that are not identical."""
        header = old[:2]
        old_view = self._views.get(header)
        if old_view is None:
            return False
        if new.startswith(header):
            return old_view.equal(old, new)
        new_view = self._views.get(new[:2])
        if new_view is None:
            return False
        return old_view.extract(old) == new_view.extract(new)


_comparers: dict[bytes, _Comparer] = {}


def _remember(projection: bytes) -> _Comparer:
    try:
        comparer = _Comparer(projection)
    except (msgspec.MsgspecError, OverflowError, ValueError, struct.error) as problem:
        raise InternalError(f"malformed projection: {problem}") from problem
    if len(_comparers) >= COMPARERS_MAX:
        _comparers.clear()
    _comparers[projection] = comparer
    return comparer
