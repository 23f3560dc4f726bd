"""Tables of what stands before a field, by the field's length: looking up costs a third of packing."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

KEPT_MAX: Final = 4096
"""Longest field whose prefix is kept."""
_pack_length = struct.Struct("!i").pack
_pack_first = struct.Struct("!cihi").pack


class PrefixTable(dict[int, bytes]):
    """Length of a field -> the bytes before it; filled as lengths are met, with at most KEPT_MAX of them."""

    def __init__(self, make: Callable[[int], bytes]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, length: int) -> bytes:
        prefix = self._make(length)
        if length < KEPT_MAX:
            self[length] = prefix
        return prefix


LENGTHS: Final = PrefixTable(_pack_length)
"""The length itself."""
FIRST_FIELDS: Final = PrefixTable(lambda length: _pack_first(b"D", length + 10, 1, length))
"""The head of a DataRow of one field, and the field's length."""
