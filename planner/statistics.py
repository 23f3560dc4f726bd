"""ANALYZE: statistics of a table from a scan that keeps an even sample of its rows.

Every row is counted; those whose key hashes into a shrinking share of all hashes are kept, and
decoded at the end.  When the sample is full the share is halved, so any large table gives between
half and all of the sample.  The same rows give the same sample, and no period in the data can
coincide with a period of the sampling.

Distinct values by Haas and Stokes, "Estimating the Number of Classes in a Finite Population"
(1998), their Duj1, as PostgreSQL: n d / (n - f1 + f1 n / N), where d values were seen in n of N
rows and f1 of them once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final
from zlib import crc32

from base.errors import MeridianError
from base.types import PgType
from kvtier.messages import ScanResult
from planner.access import TableAccess
from planner.context import ExecContext
from planner.exec.datums import stored_text
from planner.exec.order import equality_key, order_key
from planner.schema import ColumnStats, TableStats
from txn.transaction import Txn

SAMPLE_ROWS: Final = 30_000
"""PostgreSQL's 300 x default_statistics_target."""
PAGE_ROWS: Final = 2048
HASH_MASK: Final = (1 << 24) - 1
MOST_COMMON_MAX: Final = 100
BUCKETS_MAX: Final = 100
WIDTH_MAX: Final = 1024
"""Longer values are neither common values nor bounds."""


class Sample:
    """Rows of a stream of unknown length, chosen by the hash of their keys."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.mask = 0
        self.count = 0
        self.entries: list[tuple[int, bytes, bytes]] = []

    def add(self, keys: list[bytes], values: list[bytes]) -> None:
        """Takes the rows whose hash has zeros under the mask."""
        mask = self.mask
        for key, value in zip(keys, values):
            mixed = hash_of(key)
            if not mixed & mask:
                self.entries.append((mixed, key, value))
        self.count += len(keys)
        while len(self.entries) > self.size and self.mask != HASH_MASK:
            self.mask = mask = self.mask << 1 | 1
            self.entries = [entry for entry in self.entries if not entry[0] & mask]


def hash_of(key: bytes) -> int:
    """24 well mixed bits (CRC-32, then Knuth's multiplication)."""
    return (crc32(key) * 0x9E3779B1 & 0xFFFFFFFF) >> 8


async def analyze_table(
    access: TableAccess,
    txn: Txn,
    ctx: ExecContext,
    sample: int = SAMPLE_ROWS,
    pause: Callable[[], Awaitable[None]] | None = None,
) -> TableStats:
    """Scans a table and describes it; ``pause`` is awaited between pages, so that others get their turn."""
    kept = Sample(max(2, sample))
    start, end = access.span()
    while True:
        page = txn.scan(start, end, limit=PAGE_ROWS)
        if page.__class__ is not ScanResult:
            page = await page  # type: ignore[misc]  # narrowed by class
        assert isinstance(page, ScanResult)
        kept.add(page.keys, page.values)
        if page.resume is None:
            break
        start = page.resume
        ctx.check_interrupt()
        turn = pause() if pause is not None else ctx.end_turn()
        if turn is not None:
            await turn
    rows = [access.decode_row(key, value) for _, key, value in kept.entries]
    columns = {}
    for i, attnum in enumerate(access.attnums):
        columns[attnum] = column_stats([row[i] for row in rows], access.types[attnum], kept.count)
        turn = pause() if pause is not None else ctx.end_turn()
        if turn is not None:
            await turn
    return TableStats(rows=float(kept.count), columns=columns, collected_ts=txn.read_ts)


def column_stats(values: list[Any], pg_type: PgType, total: int) -> ColumnStats:
    """Statistics of one column from its sampled values."""
    if not values:
        return ColumnStats(null_fraction=0.0, distinct=0.0)
    present = [value for value in values if value is not None]
    nulls = 1.0 - len(present) / len(values)
    if not present:
        return ColumnStats(null_fraction=1.0, distinct=0.0)
    key = equality_key(pg_type)
    counts = Counter(present if key is None else [key(value) for value in present])
    shown = {value if key is None else key(value): value for value in present}
    distinct = estimate_distinct(counts, len(present), total * (1.0 - nulls))
    common = _most_common(counts, shown, len(values), distinct, pg_type)
    rest = present
    if common:
        rest = [value for value in present if (value if key is None else key(value)) not in common]
    width = sum(len(value) if isinstance(value, (str, bytes)) else 8 for value in present[:100]) // min(
        100, len(present)
    )
    return ColumnStats(nulls, distinct, max(1, width), tuple(common.values()), tuple(_histogram(rest, pg_type)))


def estimate_distinct(counts: Counter[Any], seen: int, total: float) -> float:
    """Duj1; all distinct in the sample means all distinct."""
    once = sum(1 for count in counts.values() if count == 1)
    if once == seen and seen > 1:
        return max(total, float(seen))
    if once == 0 or seen >= total:
        return float(len(counts))
    found = seen * len(counts) / (seen - once + once * seen / max(total, 1.0))
    return min(max(found, float(len(counts))), max(total, 1.0))


def _text(value: Any, pg_type: PgType) -> str | None:
    """The stored form of a value; None if it is too long or has none."""
    try:
        text = stored_text(value, pg_type)
    except (MeridianError, ValueError, KeyError):
        return None
    return text if len(text) <= WIDTH_MAX else None


def _most_common(
    counts: Counter[Any], shown: dict[Any, Any], sampled: int, distinct: float, pg_type: PgType
) -> dict[Any, tuple[str, float]]:
    """Values clearly more frequent than the average; all of them if they are few and the sample saw them all.

    By their key in ``counts``: (text, share of the rows).
    """
    average = sampled / max(distinct, 1.0)
    all_seen = len(counts) <= MOST_COMMON_MAX and distinct <= len(counts)
    out: dict[Any, tuple[str, float]] = {}
    for value, count in counts.most_common(MOST_COMMON_MAX):
        if not all_seen and (count < 2 or count < 1.25 * average):
            break
        text = _text(shown[value], pg_type)
        if text is not None:
            out[value] = (text, count / sampled)
    return out


def _histogram(rest: list[Any], pg_type: PgType) -> list[str]:
    """Equi-depth bounds of what is not among the common values."""
    if len(rest) < 2:
        return []
    try:
        ordered = sorted(rest, key=order_key(pg_type))
    except TypeError:
        return []
    buckets = min(BUCKETS_MAX, len(ordered) - 1)
    bounds = [_text(ordered[i * (len(ordered) - 1) // buckets], pg_type) for i in range(buckets + 1)]
    return [text for text in bounds if text is not None]
