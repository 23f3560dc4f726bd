"""LISTEN and NOTIFY (PostgreSQL's reference pages of the two), within one node.

Notifications are queued by a transaction, delivered after its commit to every session that listens to the
channel, in commit order; the same channel and payload twice in one transaction is delivered once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.errors import SqlError

if TYPE_CHECKING:
    from sql.session import Session

PAYLOAD_BYTES_MAX: Final = 7999
PENDING_MAX: Final = 10_000
"""Notifications one transaction may queue."""


class Notifications:
    """Who listens to what."""

    def __init__(self) -> None:
        self._listeners: dict[str, dict[int, Session]] = {}

    def change(self, session: Session, changes: list[tuple[bool, str | None]]) -> None:
        """What a committed transaction asked for, in order."""
        for is_listen, channel in changes:
            if is_listen and channel is not None:
                self.listen(session, channel)
            else:
                self.unlisten(session, channel)

    def listen(self, session: Session, channel: str) -> None:
        self._listeners.setdefault(channel, {})[session.pid] = session

    def unlisten(self, session: Session, channel: str | None) -> None:
        """``None`` is UNLISTEN *."""
        for name in [channel] if channel is not None else list(self._listeners):
            listeners = self._listeners.get(name)
            if listeners is not None:
                listeners.pop(session.pid, None)
                if not listeners:
                    del self._listeners[name]

    def channels(self, session: Session) -> list[str]:
        return [name for name, listeners in self._listeners.items() if session.pid in listeners]

    def deliver(self, sender: Session, pending: list[tuple[str, str]]) -> None:
        """Sends a committed transaction's notifications."""
        for channel, payload in pending:
            for session in self._listeners.get(channel, {}).values():
                session.sink.notification(sender.pid, channel, payload)


def queue(pending: list[tuple[str, str]], channel: str, payload: str) -> None:
    """Adds a notification to a transaction's list."""
    if not channel:
        raise SqlError("channel name cannot be empty", sqlstate="22023")
    if len(channel.encode()) > 63:
        raise SqlError("channel name too long", sqlstate="22023")
    if len(payload.encode()) > PAYLOAD_BYTES_MAX:
        raise SqlError("payload string too long", sqlstate="22023")
    if len(pending) >= PENDING_MAX:
        raise SqlError("too many notifications in the NOTIFY queue", sqlstate="53400")
    if (channel, payload) not in pending:
        pending.append((channel, payload))
