"""Controls: statements that only begin, end or mark a transaction, parsed once per text.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Any, Final

from sql.parse import statements as ast

BEGIN: Final = 0
COMMIT: Final = 1
ROLLBACK: Final = 2
SAVEPOINT: Final = 3
RELEASE: Final = 4
ROLLBACK_TO: Final = 5


class Control:
    """What such a statement does."""

    __slots__ = ("ends", "kind", "modes", "name", "tag")

    def __init__(self, kind: int, tag: str, name: str = "", modes: dict[str, str] | None = None) -> None:
        self.kind = kind
        self.ends: bool = kind in (COMMIT, ROLLBACK, ROLLBACK_TO)
        """What a failed block still accepts."""
        self.tag = tag
        """Of CommandComplete, where it does what it says: COMMIT of a failed block does not."""
        self.name = name
        """Of the savepoint."""
        self.modes = modes
        """Of BEGIN, as ``TransactionBlock.begin`` takes them; None if it names none."""


def modes_of(modes: Any) -> dict[str, str]:
    """Returns modes of a statement as ``TransactionBlock`` takes them."""
    found: dict[str, str] = {}
    if modes.isolation is not None:
        found["isolation"] = modes.isolation
    if modes.read_only is not None:
        found["read_only"] = "on" if modes.read_only else "off"
    if modes.deferrable is not None:
        found["deferrable"] = "on" if modes.deferrable else "off"
    return found


def control_of(statement: Any) -> Control | None:
    """Returns what a statement is as a control; None for any other, also AND CHAIN and AS OF SYSTEM TIME."""
    cls = statement.__class__
    if cls is ast.Begin:
        if statement.modes.as_of is not None or statement.modes.priority is not None:
            return None
        return Control(
            BEGIN, "START TRANSACTION" if statement.is_start else "BEGIN", "", modes_of(statement.modes) or None
        )
    if cls is ast.Commit:
        return None if statement.chain else Control(COMMIT, "COMMIT")
    if cls is ast.Rollback:
        return None if statement.chain else Control(ROLLBACK, "ROLLBACK")
    if cls is ast.Savepoint:
        return Control(SAVEPOINT, "SAVEPOINT", statement.name)
    if cls is ast.ReleaseSavepoint:
        return Control(RELEASE, "RELEASE", statement.name)
    if cls is ast.RollbackToSavepoint:
        return Control(ROLLBACK_TO, "ROLLBACK", statement.name)
    return None
