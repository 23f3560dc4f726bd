"""Answers held until the loop has served every socket that was ready, then sent one after the other.

    ready sockets   read, answer   read, answer   read, answer | send, send, send | wait for sockets
                         held           held           held

A client that sleeps is woken by its answer, which costs more than the answer's way through the kernel; clients of one
process (a pool, a load generator) are woken once for all of a round, and read the others' answers while they are awake.
Redis does the same before it sleeps.  An answer is held no longer than the others' turns of one round, and a long one
not at all, so that a slow reader is noticed by the statement that writes to it.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

HELD_BYTES_MAX: Final = 4096
"""Longer answers go out at once."""


class Outbox:
    """What is held for all sockets of one loop."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], Any]) -> None:
        self._call_soon = call_soon
        self.held: list[tuple[Callable[[bytes], None], bytes]] = []

    def flush(self) -> None:
        """Sends everything, in the order in which it came."""
        held = self.held
        if held:
            self.held = []
            for send, data in held:
                send(data)

    def begin(self) -> None:
        """The first answer of a round is about to be held."""
        self._call_soon(self.flush)


class Sender:
    """One socket's way out; ``send`` is its transport's ``write``."""

    def __init__(self, outbox: Outbox, send: Callable[[bytes], None]) -> None:
        self._outbox = outbox
        self._send = send

    def write(self, data: bytes) -> None:
        outbox = self._outbox
        if len(data) > HELD_BYTES_MAX:
            outbox.flush()
            self._send(data)
            return
        if not outbox.held:
            outbox.begin()
        outbox.held.append((self._send, data))
