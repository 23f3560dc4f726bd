"""The log of catalog changes: how one node learns what another one has changed.

    03 'a' 'v'          the version: grows by one with every change
    03 'a' 'c' version  ids of descriptors, names of roles... that this change touched

A transaction that changes the catalog stamps itself last of all: it takes the next version and writes what it touched.
Whoever knows version v reads the changes after v and the descriptors they name; if some of them are no longer
there, it reads everything.  A node that is alone, and was never one of several, keeps no log.

The lock of the version's row, which a node that is alone takes too, makes one line of all schema changes: whoever has
it looks whether others have left what its own change refers to (``sql.catalog.references``), and then commits.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from base.eager import Eager
from base.errors import TxnRetry
from kvtier.messages import Lock, ScanResult
from planner.schema import TableStats
from sql.catalog import keys
from sql.catalog.state import CatalogState, Desc, RoleDesc, decode_descriptor
from txn.transaction import Txn

T = TypeVar("T")

CHANGES_KEPT: Final = 1_000
"""A node that is further behind reads everything."""
SCAN_PAGE_KEYS: Final = 10_000


class Change(Struct, array_like=True, frozen=True):
    """What one version of the catalog touched."""

    ids: tuple[int, ...] = ()
    """Of descriptors, put or dropped."""
    roles: tuple[str, ...] = ()
    stats: tuple[int, ...] = ()
    """Of tables whose statistics are new."""
    sequences: tuple[int, ...] = ()
    """Whose values were set: blocks taken before are worth nothing."""


class News(NamedTuple):
    """What changed since a version, as of ``ts``."""

    version: int
    ts: int
    descs: dict[int, Desc | None]
    roles: dict[str, RoleDesc | None]
    stats: dict[int, TableStats | None]
    sequences: tuple[int, ...] | None
    """None: perhaps all of them."""


_encoder = msgspec.msgpack.Encoder()
_change_decoder = msgspec.msgpack.Decoder(Change)
_role_decoder = msgspec.msgpack.Decoder(RoleDesc)
_stats_decoder = msgspec.msgpack.Decoder(TableStats)


async def settled(result: Eager[T]) -> T:
    """Waits for a result if that is needed."""
    return await result if isinstance(result, Awaitable) else result


async def version_of(txn: Txn, lock: Lock = Lock.NONE) -> int:
    """Returns the catalog's version as a transaction reads it."""
    raw = await settled(txn.get(keys.VERSION_KEY, lock))
    return 0 if raw is None else int.from_bytes(raw, "big")


async def stamp(txn: Txn, change: Change) -> int:
    """Makes a transaction the next version of the catalog, and returns that; its last step before the commit."""
    version = await version_of(txn, Lock.EXCLUSIVE) + 1
    txn.put(keys.VERSION_KEY, version.to_bytes(8, "big"))
    txn.put(keys.change_key(version), _encoder.encode(change))
    if version > CHANGES_KEPT:
        txn.delete(keys.change_key(version - CHANGES_KEPT))
    return version


async def state_of(txn: Txn, version: int, known: int, state: CatalogState) -> CatalogState:
    """Returns the catalog of a version that a transaction has read, from the state of an earlier one that is known.

    Raises TxnRetry if that is too long ago.
    """
    if version == known:
        return state
    changes = await _read_changes(txn, known, version)
    if changes is None:
        raise TxnRetry("could not serialize access due to concurrent schema change", reason="schema_change")
    news = await _read_changed(txn, version, [Change(change.ids, change.roles) for change in changes])
    return state.replace(news.descs, news.roles, generation=0)


async def read_back(txn: Txn, change: Change) -> News:
    """Returns what is stored now of what a change touched that nobody knows the outcome of."""
    return await _read_changed(txn, 0, [change])


async def read_span(txn: Txn, start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
    """Reads a whole small span."""
    rows: list[tuple[bytes, bytes]] = []
    while True:
        page: ScanResult = await settled(txn.scan(start, end, limit=SCAN_PAGE_KEYS))
        rows.extend(zip(page.keys, page.values))
        if page.resume is None:
            return rows
        start = page.resume


async def read_news(txn: Txn, known: int | None, state: CatalogState) -> News:
    """Returns what changed after version ``known`` (None: nothing is known), as a fresh transaction reads it."""
    version = await version_of(txn)
    changes = None if known is None else await _read_changes(txn, known, version)
    if changes is not None:
        return await _read_changed(txn, version, changes)
    return await _read_all(txn, version, state)


async def _read_changes(txn: Txn, known: int, version: int) -> list[Change] | None:
    """Returns the changes after one version and up to another; None if some are not kept any more."""
    rows = await read_span(txn, keys.change_key(known + 1), keys.change_key(version + 1))
    return [_change_decoder.decode(value) for _, value in rows] if len(rows) == version - known else None


async def _read_changed(txn: Txn, version: int, changes: list[Change]) -> News:
    descs: dict[int, Desc | None] = {}
    roles: dict[str, RoleDesc | None] = {}
    stats: dict[int, TableStats | None] = {}
    for id in dict.fromkeys(id for change in changes for id in change.ids):
        raw = await settled(txn.get(keys.descriptor_key(id)))
        descs[id] = None if raw is None else decode_descriptor(raw)
    for name in dict.fromkeys(name for change in changes for name in change.roles):
        raw = await settled(txn.get(keys.role_key(name)))
        roles[name] = None if raw is None else _role_decoder.decode(raw)
    for id in dict.fromkeys(id for change in changes for id in change.stats):
        raw = await settled(txn.get(keys.stats_key(id)))
        stats[id] = None if raw is None else _stats_decoder.decode(raw)
    sequences = tuple(dict.fromkeys(id for change in changes for id in change.sequences))
    return News(version, txn.read_ts, descs, roles, stats, sequences)


async def _read_all(txn: Txn, version: int, state: CatalogState) -> News:
    descs: dict[int, Desc | None] = dict.fromkeys(state.by_id)
    roles: dict[str, RoleDesc | None] = dict.fromkeys(state.roles)
    stats: dict[int, TableStats | None] = {}
    for _, value in await read_span(txn, *keys.descriptor_span()):
        desc = decode_descriptor(value)
        # What is known already keeps the time of its change.
        if state.by_id.get(desc.id) == desc:
            del descs[desc.id]
        else:
            descs[desc.id] = desc
    for _, value in await read_span(txn, *keys.role_span()):
        role = _role_decoder.decode(value)
        roles[role.name] = role
    for key, value in await read_span(txn, *keys.stats_span()):
        stats[int.from_bytes(key[-4:], "big")] = _stats_decoder.decode(value)
    return News(version, txn.read_ts, descs, roles, stats, None)
