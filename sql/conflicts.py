"""What a client is told of a conflict (40001, 40P01): the row by its column values, the other transaction, and why.

The storage tier knows keys and timestamps only; here a key becomes ``Key (id)=(5) of table "t"``.  Values are shown to
whoever may read the table.  The other transaction is told by its commit timestamp, as AS OF SYSTEM TIME takes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.errors import MeridianError, ReadConflict, Retryable, Uncertain, WriteTooOld
from base.keys import CORRUPTION_ERRORS, PREFIX_SIZE, USER, split_prefix
from planner.access import IndexAccess, table_access
from planner.exec.datums import datum_text
from planner.schema import TableDesc

if TYPE_CHECKING:
    from sql.session import Session

HINT: Final = "The transaction might succeed if retried."
VALUE_CHARS_MAX: Final = 64
"""Longer values are cut, as those of failing rows."""
_REASONS: Final = {
    "aborted": "Another transaction aborted this one.",
    "aborted_record": "Another transaction that waited for this one aborted it.",
    "cannot_forward": "This transaction has read at a fixed time, and must commit later than that.",
    "closed_ahead": "A GLOBAL table moved this transaction ahead of the clock, where it could not follow.",
    "deadline": "The transaction could not commit before its deadline.",
    "pushed": "A transaction of higher priority pushed this one to a later time, at which what it had read was changed.",
    "table_written": "A table that this transaction changes was written by another one after its snapshot.",
    "schema_change": "A table that this transaction uses was altered by another one.",
}


def explain(session: Session, error: MeridianError) -> None:
    """Fills in detail and hint of a conflict that nothing has explained yet."""
    if not isinstance(error, Retryable) or error.detail is not None:
        return
    found = _place(session, error.key)
    if found is not None:
        error.table, error.schema = found[0].name, session.view().schema_name(found[0].schema_id)
    error.detail = _why(error, "A key" if found is None else found[1])
    if error.hint is None:
        error.hint = HINT


def _why(error: Retryable, place: str) -> str:
    if isinstance(error, WriteTooOld):
        return f"{place} was written by a transaction that committed at {error.existing_ts}, after this one had begun."
    if isinstance(error, ReadConflict):
        return f"{place} was read by this transaction, and then written by one that committed at {error.conflict_ts}."
    if isinstance(error, Uncertain):
        return (
            f"{place} has a value of {error.value_ts}, which another node's clock may have put after this transaction."
        )
    if error.reason == "deadlock":
        return (
            f"{place} is held by a transaction that waits for this one."
            if error.key
            else "Transactions wait for each other."
        )
    return _REASONS.get(error.reason) or f"The reason is {error.reason or 'not known'}."


def _place(session: Session, key: bytes) -> tuple[TableDesc, str] | None:
    """The table a key belongs to, and the key in words."""
    if len(key) < PREFIX_SIZE or key[:1] != USER:
        return None
    table_id, index_id = split_prefix(key)
    for table in session.state().tables(session.database_id):
        if table.kind in ("r", "m") and (table.key_prefix_table or table.id) == table_id:
            break
    else:
        return None
    values = None
    if session.view().has_privilege(table.owner, table.privileges, "r"):
        values = _values(session, table, index_id, key)
    where = f'of table "{table.name}"'
    return table, f"A key {where}" if values is None else f"Key {values} {where}"


def _values(session: Session, table: TableDesc, index_id: int, key: bytes) -> str | None:
    """``(a, b)=(1, x)`` of a key of one of the table's indexes; None where its columns cannot be told."""
    access = table_access(table, session.state().type_by_oid)
    index = access.by_id.get(index_id)
    if index is None or not index.is_known or 0 in index.attnums:
        return None
    if any(access.columns[attnum].hidden for attnum in index.attnums):
        return None
    datums = _decoded(index, key)
    if datums is None:
        return None
    names, shown = [], []
    for attnum, datum in zip(index.attnums, datums):
        names.append(access.columns[attnum].name)
        text = "null" if datum is None else datum_text(datum, access.types[attnum], session.context)
        shown.append(text if len(text) <= VALUE_CHARS_MAX else text[:VALUE_CHARS_MAX] + "...")
    return f"({', '.join(names)})=({', '.join(shown)})"


def _decoded(index: IndexAccess, key: bytes) -> tuple[object, ...] | None:
    """The key's columns: unique keys have only those, others the primary key behind them."""
    for codec in (index.unique_codec, index.codec):
        try:
            return codec.decode(key)[: index.width]
        except (MeridianError, *CORRUPTION_ERRORS):
            continue
    return None
