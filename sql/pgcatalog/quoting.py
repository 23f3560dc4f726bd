"""quote_ident: names as they stand in SQL text."""

from __future__ import annotations

from typing import Final

from sql.pgcatalog import builtin

_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


def quote_identifier(name: str) -> str:
    """Quotes a name where PostgreSQL's quote_ident would."""
    if (
        name
        and name[0] in "abcdefghijklmnopqrstuvwxyz_"
        and all(char in _PLAIN for char in name)
        and name not in _reserved()
    ):
        return name
    return '"' + name.replace('"', '""') + '"'


_reserved_words: frozenset[str] | None = None


def _reserved() -> frozenset[str]:
    global _reserved_words
    if _reserved_words is None:
        _reserved_words = frozenset(row[0] for row in builtin.keywords() if row[1] != "U")
    return _reserved_words
