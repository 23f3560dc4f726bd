"""The newest versions of keys that are locked or written again and again: what a read of them need not seek.

A hot row, or one that SELECT .. FOR UPDATE has just read and UPDATE reads again, costs a dictionary
look-up here and several microseconds in an iterator over memtables and files.

    note       a version was read as its key's newest
    put        a version was written: of a key that is here it is the newest, if it is not older
    forget     one was deleted (garbage, a run that moved)
    find       what is here

Keys come in by ``note`` only, so what is here is known to be the newest of all; every write
of the engine goes through ``put`` and ``forget``, so it stays so.  Range tombstones are not here: whoever
reads, looks at them.

Two generations bound it: the young one takes what is written, and becomes the old one when it is full.

Invariant: a key's entry, the young one first, is the version of that key with the highest timestamp
that the engine holds.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final

KEYS_MAX: Final = 8192
"""Most keys of one generation."""
VALUE_BYTES_MAX: Final = 2048
"""Longer values are not kept: 32 MiB are the most that both generations hold."""

Version = tuple[bytes, bytes]
"""(inverted timestamp, stored value) as ``kvtier.mvcc.versions`` has them."""


class NewestVersions:
    """See the module docstring."""

    __slots__ = ("_is_closed", "_keys_max", "_old", "_young")

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._young: dict[bytes, Version] = {}
        self._old: dict[bytes, Version] = {}
        self._is_closed = False

    def find(self, key: bytes) -> Version | None:
        """Returns a key's newest version, if it is here."""
        found = self._young.get(key)
        return found if found is not None else self._old.get(key)

    def note(self, key: bytes, suffix: bytes, stored: bytes) -> None:
        """Takes in the newest version that the engine holds of a key."""
        if len(stored) > VALUE_BYTES_MAX or self._is_closed:
            return
        young = self._young
        young[key] = (suffix, stored)
        if len(young) >= self._keys_max:
            self._old = young
            self._young = {}

    def put(self, key: bytes, suffix: bytes, stored: bytes) -> None:
        """A version was written."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None:
                return
        if suffix > found[0]:
            return
        if len(stored) > VALUE_BYTES_MAX:
            self.forget(key)
        else:
            self.note(key, suffix, stored)

    def forget(self, key: bytes) -> None:
        """One of a key's versions was deleted: which is the newest is no longer known."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def clear(self) -> None:
        """Forgets everything."""
        self._young = {}
        self._old = {}

    def close(self) -> None:
        """Forgets everything for good: the engine failed, and nothing may be read from it."""
        self._is_closed = True
        self.clear()

    def __len__(self) -> int:
        """Number of entries, those that a younger one hides included."""
        return len(self._young) + len(self._old)
