"""Columns of many row values at once, where all of them are of the newest layout and hold no NULL in these columns.

A generated loop that decodes row by row spends more on each row's decoding than on what it does with it.  Here a page is
taken column by column, and a page with anything unusual in it not at all: an older layout, wide offsets, a NULL, a
value that is not of the length it says.  Then the loop over rows does what it always did.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Any, Final

INT: Final = 0
"""Two's complement, little-endian."""
BYTES: Final = 1
"""A varying column as its stored bytes."""
TEXT: Final = 2
"""A varying column of UTF-8 as str."""


class Column:
    """Where one column lies in every row value of the layout."""

    def __init__(self, kind: int, at: int, width: int, start_at: int, null_at: int, null_mask: int) -> None:
        self.kind = kind
        self.at = at
        """Of INT: the value.  Of the others: their end offset (2 bytes)."""
        self.width = width
        """Of INT: 2, 4 or 8."""
        self.start_at = start_at
        """Of the others: the end offset of the varying column before, or minus the place where the first one starts."""
        self.null_at = null_at
        """Byte of the NULL bitmap."""
        self.null_mask = null_mask


class ColumnTaker:
    """Takes columns of row values; ``size_at`` is the last end offset, or minus the size where no column varies."""

    def __init__(self, layout_id: int, size_at: int, columns: list[Column]) -> None:
        self._low = layout_id & 0xFF
        self._high = layout_id >> 8
        self._size_at = size_at
        self._columns = columns
        self._nulls: dict[int, int] = {}
        """Byte of the bitmap to the bits of these columns."""
        for column in columns:
            self._nulls[column.null_at] = self._nulls.get(column.null_at, 0) | column.null_mask
        self._size_min = max([abs(size_at) + 2, *[column.at + column.width for column in columns]])

    def take(self, values: list[bytes]) -> list[list[Any]] | None:
        """Returns a list a column, of one datum a row; None where a row is not as all must be."""
        if not self._are_usual(values):
            return None
        taken: list[list[Any]] = []
        for column in self._columns:
            if column.kind == INT:
                taken.append(_ints(values, column.at, column.width))
                continue
            found = _bytes(values, column.at, column.start_at)
            if column.kind == BYTES:
                taken.append(found)
                continue
            try:
                taken.append([text.decode() for text in found])
            except UnicodeDecodeError:
                return None
        return taken

    def _are_usual(self, values: list[bytes]) -> bool:
        """True if every value is of this layout and length, with narrow offsets and no NULL among the columns."""
        low, high, size_at, size_min = self._low, self._high, self._size_at, self._size_min
        nulls = list(self._nulls.items())
        is_one = len(nulls) == 1
        null_at, null_mask = nulls[0]
        for value in values:
            size = len(value)
            if size_at > 0:
                if size < size_min or size != value[size_at] | value[size_at + 1] << 8:
                    return False
            elif size != -size_at:
                return False
            if value[0] != low or value[1] != high or value[null_at] & null_mask:
                return False
            if not is_one:
                for at, mask in nulls:
                    if value[at] & mask:
                        return False
        return True


def _ints(values: list[bytes], at: int, width: int) -> list[int]:
    if width == 2:
        return [(value[at] | value[at + 1] << 8) - ((value[at + 1] & 0x80) << 9) for value in values]
    if width == 4:
        return [
            (value[at] | value[at + 1] << 8 | value[at + 2] << 16 | value[at + 3] << 24)
            - ((value[at + 3] & 0x80) << 25)
            for value in values
        ]
    return [int.from_bytes(value[at : at + 8], "little", signed=True) for value in values]


def _bytes(values: list[bytes], at: int, start_at: int) -> list[bytes]:
    if start_at <= 0:
        first = -start_at
        return [value[first : value[at] | value[at + 1] << 8] for value in values]
    return [value[value[start_at] | value[start_at + 1] << 8 : value[at] | value[at + 1] << 8] for value in values]
