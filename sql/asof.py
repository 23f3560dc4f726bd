"""AS OF SYSTEM TIME: reading the past.

    AS OF SYSTEM TIME '-10s'                          so long ago
    AS OF SYSTEM TIME '2026-01-31 12:00:00+01'        then
    AS OF SYSTEM TIME 875201234567890123              a timestamp of the clock, as cluster_logical_timestamp() tells
    AS OF SYSTEM TIME '0c25a71e9f3b1000'              the same in hexadecimal, 16 digits
    AS OF SYSTEM TIME follower_read_timestamp()       old enough for any replica to answer

A transaction that reads the past is read-only.  Tables are read with the shape they have now, so a table whose definition
changed since cannot be read from before that change.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from base import hlc
from base.errors import MeridianError, SqlError
from base.typeio import text_in
from base.types import INTERVAL, NUMERIC, TEXT, TIMESTAMPTZ
from sql.context import PG_EPOCH_US
from sql.parse.statements import SqlExpr

if TYPE_CHECKING:
    from sql.plancache import PlanEntry
    from sql.session import Session

FOLLOWER_READ_US: Final = 5_500_000
"""How far behind replicas may be and still answer: closed timestamps trail by 3 s,
those of idle ranges are told every 2 s, clocks differ by a quarter, and the rest is the way there."""
US_PER_DAY: Final = 86_400_000_000
DAYS_PER_MONTH: Final = 30
_FOLLOWER_READ: Final = re.compile(r"\s*follower_read_timestamp\s*\(\s*\)\s*", re.IGNORECASE)
_HEX: Final = re.compile(r"[0-9a-fA-F]{16}")
_NUMBER: Final = re.compile(r"\d+(\.\d*)?")


def as_of_timestamp(session: Session, expression: SqlExpr) -> int:
    """Returns the timestamp an AS OF SYSTEM TIME expression names; raises 22023 for one that is not in the past."""
    now_us = session.context.transaction_time + PG_EPOCH_US
    ts = _named(session, expression, now_us)
    if ts >= session.server.kv.now():
        raise SqlError("AS OF SYSTEM TIME: cannot specify timestamp in the future", sqlstate="22023")
    if ts <= 0:
        raise SqlError("AS OF SYSTEM TIME: timestamp before 2020-01-01 is invalid", sqlstate="22023")
    return ts


def _named(session: Session, expression: SqlExpr, now_us: int) -> int:
    if _FOLLOWER_READ.fullmatch(expression.text):
        return hlc.from_unix_us(now_us - FOLLOWER_READ_US)
    from sql.analyze import Analyzer

    analyzer = Analyzer(session)
    try:
        number: Decimal = analyzer.constant(expression, NUMERIC)
        return int(number)
    except MeridianError:
        text: str = analyzer.constant(expression, TEXT)
    if text is None:
        raise SqlError("AS OF SYSTEM TIME: timestamp must not be null", sqlstate="22004")
    return _read(session, text.strip(), now_us)


def _read(session: Session, text: str, now_us: int) -> int:
    if _HEX.fullmatch(text):
        return int(text, 16)
    if _NUMBER.fullmatch(text):
        return int(text.partition(".")[0])
    try:
        months, days, us = text_in(INTERVAL, -1, text, session.io)
        offset = us + (days + months * DAYS_PER_MONTH) * US_PER_DAY
        return hlc.from_unix_us(now_us + offset)
    except MeridianError:
        pass
    try:
        moment = text_in(TIMESTAMPTZ, -1, text, session.io, session.context.now_us)
    except MeridianError as problem:
        raise SqlError(
            f'AS OF SYSTEM TIME: value "{text}" is neither a timestamp, an interval, nor a number', sqlstate="22023"
        ) from problem
    return hlc.from_unix_us(int(moment) + PG_EPOCH_US)


def was_changed(session: Session, entry: PlanEntry, ts: int) -> bool:
    """True if a table of the statement may have had another definition at the timestamp."""
    modified = session.state().modified
    return any([modified.get(table_id, 0) >= ts for table_id in entry.statement.tables])
