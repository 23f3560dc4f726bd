"""Privileges by word and by the letter aclitem uses (PostgreSQL table 5.1)."""

from __future__ import annotations

from typing import Final

LETTERS: Final = {
    "select": "r", "insert": "a", "update": "w", "delete": "d", "truncate": "D", "references": "x", "trigger": "t", "usage": "U",
    "create": "C", "connect": "c", "temporary": "T", "temp": "T", "execute": "X",
}  # fmt: skip
ALL_LETTERS: Final = {"table": "arwdDxt", "sequence": "rwU", "schema": "UC", "database": "CTc"}
