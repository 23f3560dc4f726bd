"""The journal of a run: what happened, in order, for people and for the digest.

``note`` costs a checksum; only the last NOTES_MAX notes are kept unless ``keep_all``.  The
digest covers every note, so it covers every client operation and its outcome, every fault and
every restart; with ``sim.loop``'s digest of steps it is the fingerprint of a run.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Final
from zlib import crc32

NOTES_MAX: Final = 4_000
"""Notes kept for the story of a failure."""


class Journal:
    """Notes as (virtual ns, who, what)."""

    def __init__(self, echo: bool = False, detailed: bool = False) -> None:
        self.notes: deque[tuple[int, str, str]] = deque(maxlen=None if detailed else NOTES_MAX)
        self.digest = 0
        self.echo = echo
        self.detailed = detailed
        """Also every batch between coordinator and store; what ``--trace`` and stories need."""
        self.checkpoints: list[int] = []
        """Digest at every virtual second, to find where two runs part."""

    def note(self, now_ns: int, who: str, what: str) -> None:
        """Takes a note."""
        self.digest = crc32(f"{now_ns} {who} {what}".encode(), self.digest)
        self.notes.append((now_ns, who, what))
        if self.echo:
            print(show(now_ns, who, what), file=sys.stdout)

    def detail(self, now_ns: int, who: str, what: str) -> None:
        """Takes a note that is not part of the digest, because usually nobody takes it."""
        self.notes.append((now_ns, who, what))
        if self.echo:
            print(show(now_ns, who, what), file=sys.stdout)

    def story(self, words: list[str], count: int = 40) -> list[str]:
        """Returns the last notes that contain one of the words; with no words the last of all."""
        found = [
            show(*note) for note in self.notes if not words or any(word in note[2] or word == note[1] for word in words)
        ]
        return found[-count:]


def show(now_ns: int, who: str, what: str) -> str:
    """Returns one line."""
    return f"{now_ns / 1e9:12.6f}  {who:<10} {what}"
