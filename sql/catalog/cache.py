"""The node's catalog: the newest committed state, id allocation, statistics.

One process holds one ``Catalog``.  It loads every descriptor at start and is told of each
committed change by the session that made it (``publish``), in the tick after its commit; until then the
exclusive table locks of that session keep writers away, so no statement plans with a version that
is already replaced on disk.  Of what other nodes change ``sql.agreement`` tells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from base.errors import ConditionFailed, StorageFailure
from base.seams import Waiter
from kvtier.client import Kv
from kvtier.messages import Batch, ConditionalPut, Get, Op, Put, Reply, Scan, ScanResult
from planner.schema import DatabaseDesc, SchemaDesc, TableDesc, TableStats
from sql.catalog import keys
from sql.catalog.state import SUPERUSER, CatalogState, Desc, RoleDesc, decode_descriptor, encode_descriptor, name_of

FORMAT_VERSION: Final = b"1"
ID_BLOCK: Final = 64
"""Ids claimed from the store at a time; a crash may leave a gap of this many."""
SCAN_PAGE_KEYS: Final = 10_000
PAST_STATES_MAX: Final = 16
"""Older states kept for AS OF SYSTEM TIME."""
_stats_decoder = msgspec.msgpack.Decoder(TableStats)
_role_decoder = msgspec.msgpack.Decoder(RoleDesc)


async def call(kv: Kv, batch: Batch) -> Reply:
    """Sends a batch from a coroutine."""
    reply = kv.send(batch)
    return reply if isinstance(reply, Reply) else await reply


async def scan_all(kv: Kv, start: bytes, end: bytes, ts: int = 0) -> list[tuple[bytes, bytes]]:
    """Reads a whole small span, now or as of a timestamp."""
    rows: list[tuple[bytes, bytes]] = []
    while True:
        page: ScanResult = (await call(kv, Batch([Scan(start, end, limit=SCAN_PAGE_KEYS)], ts))).results[0]
        rows.extend(zip(page.keys, page.values))
        if page.resume is None:
            return rows
        start = page.resume


class Catalog:
    """The shared catalog of one node; see the module docstring."""

    def __init__(self, kv: Kv) -> None:
        self.kv = kv
        self.state = CatalogState.empty()
        self.stats: dict[int, TableStats] = {}
        self.version = 0
        """Of the log of changes (``sql.catalog.changes``): all of them up to this one are in ``state``."""
        self.publications = 0
        self.moving: dict[int, int] = {}
        """Tables whose rows go to another place by a commit under way, and by how many: see ``begin_move``."""
        self._committing: list[Waiter] = []
        self._past: dict[tuple[int, int], CatalogState] = {}
        self._next_id = 0
        self._id_limit = 0
        self._drafts = 0

    def draft_generation(self) -> int:
        """Returns a generation no other state has; uncommitted ones are negative."""
        self._drafts -= 1
        return self._drafts

    async def load(self) -> None:
        """Reads everything; creates the first databases on a fresh store."""
        await self.prepare()
        descs: dict[int, Desc | None] = {}
        for _, value in await scan_all(self.kv, *keys.descriptor_span()):
            desc = decode_descriptor(value)
            descs[desc.id] = desc
        roles: dict[str, RoleDesc | None] = {}
        for _, value in await scan_all(self.kv, *keys.role_span()):
            role = _role_decoder.decode(value)
            roles[role.name] = role
        # When they were changed is not stored: at the latest now.
        self.state = CatalogState.empty().replace(descs, roles, self.kv.now())
        for key, value in await scan_all(self.kv, *keys.stats_span()):
            self.stats[int.from_bytes(key[-4:], "big")] = _stats_decoder.decode(value)

    async def prepare(self) -> None:
        """Makes sure that there is a catalog, of a format that this program reads."""
        while True:
            version = (await call(self.kv, Batch([Get(keys.FORMAT_KEY)]))).results[0]
            if version == FORMAT_VERSION:
                return
            if version is not None:
                raise StorageFailure(f"the store has catalog format {version!r}, this program reads {FORMAT_VERSION!r}")
            try:
                await self._bootstrap()
            except ConditionFailed:
                continue  # Another node was first.

    async def new_id(self) -> int:
        """Returns an id never given before, by no node, also across crashes and rollbacks."""
        while self._next_id >= self._id_limit:
            raw: bytes = (await call(self.kv, Batch([Get(keys.NEXT_ID_KEY)]))).results[0]
            first = int.from_bytes(raw, "big")
            limit = first + ID_BLOCK
            try:
                await call(self.kv, Batch([ConditionalPut(keys.NEXT_ID_KEY, limit.to_bytes(8, "big"), raw)]))
            except ConditionFailed:
                continue
            self._next_id, self._id_limit = first, limit
        self._next_id += 1
        return self._next_id - 1

    def publish(self, descs: Mapping[int, Desc | None], roles: Mapping[str, RoleDesc | None], ts: int) -> None:
        """Makes a committed change the newest state."""
        self.publications += 1
        self.state = self.state.replace(descs, roles, ts)
        for id, desc in descs.items():
            if desc is None:
                self.stats.pop(id, None)

    def begin_move(self, table_ids: list[int]) -> None:
        """From a commit that moves tables until its publication nobody may begin to read where they were."""
        for id in table_ids:
            self.moving[id] = self.moving.get(id, 0) + 1

    def end_move(self, table_ids: list[int]) -> None:
        """The commit is published, or has failed."""
        for id in table_ids:
            self.moving[id] -= 1
            if not self.moving[id]:
                del self.moving[id]

    def begin_commit(self, waiter: Waiter) -> None:
        """A schema change is about to commit, and to be published: ``end_commit`` it."""
        self._committing.append(waiter)

    def end_commit(self, waiter: Waiter) -> None:
        """It is published, or has failed."""
        self._committing.remove(waiter)
        waiter.wake()

    async def settle(self) -> None:
        """Waits for the commits under way; for whoever holds the version's lock, so that no further one begins."""
        while self._committing:
            await self._committing[0].wait()

    async def state_at(self, ts: int) -> CatalogState:
        """Returns the catalog as it was; owners and privileges are those of today."""
        key = (ts, self.state.generation)
        found = self._past.get(key)
        if found is None:
            descs: dict[int, Desc | None] = {}
            for _, value in await scan_all(self.kv, *keys.descriptor_span(), ts):
                desc = decode_descriptor(value)
                now = self.state.by_id.get(desc.id)
                if isinstance(desc, TableDesc) and isinstance(now, TableDesc):
                    desc = msgspec.structs.replace(desc, owner=now.owner, privileges=now.privileges)
                descs[desc.id] = desc
            found = CatalogState.empty().replace(descs, dict(self.state.roles), 0, self.draft_generation())
            if len(self._past) >= PAST_STATES_MAX:
                del self._past[next(iter(self._past))]
            self._past[key] = found
        return found

    async def save_stats(self, table_id: int, stats: TableStats) -> None:
        """Keeps ANALYZE's result."""
        self.stats[table_id] = stats
        await call(self.kv, Batch([Put(keys.stats_key(table_id), msgspec.msgpack.encode(stats))]))

    async def _bootstrap(self) -> None:
        """A fresh store has the superuser, and the databases defaultdb and postgres, each with its schema public."""
        descs: list[Desc] = [
            DatabaseDesc(id=5, version=1, name="postgres"),
            SchemaDesc(id=2200, version=1, database_id=5, name="public", privileges=(("public", "UC"),)),
            DatabaseDesc(id=keys.FIRST_USER_ID, version=1, name="defaultdb"),
            SchemaDesc(
                id=keys.FIRST_USER_ID + 1,
                version=1,
                database_id=keys.FIRST_USER_ID,
                name="public",
                privileges=(("public", "UC"),),
            ),
        ]
        root = RoleDesc(
            name=SUPERUSER,
            oid=10,
            can_login=True,
            superuser=True,
            create_db=True,
            create_role=True,
            bypass_rls=True,
            replication=True,
        )
        puts: list[Op] = [
            ConditionalPut(keys.FORMAT_KEY, FORMAT_VERSION, None),
            Put(keys.NEXT_ID_KEY, (keys.FIRST_USER_ID + 16).to_bytes(8, "big")),
        ]
        for desc in descs:
            puts.append(Put(keys.descriptor_key(desc.id), encode_descriptor(desc)))
            puts.append(Put(keys.name_key(*name_of(desc)), desc.id.to_bytes(4, "big")))
        puts.append(Put(keys.role_key(SUPERUSER), msgspec.msgpack.encode(root)))
        await call(self.kv, Batch(puts))
