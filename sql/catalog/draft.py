"""A transaction's own catalog changes, until it commits or rolls back.

Each change is written to the transaction at once (so it commits and rolls back with it), and kept
here as a derived ``CatalogState`` that the transaction's later statements plan with.
"""

from __future__ import annotations

import msgspec

from base.errors import TxnRetry
from kvtier.messages import Lock
from planner.schema import TableDesc
from sql.catalog import keys
from sql.catalog.cache import Catalog
from sql.catalog.references import conflict
from sql.catalog.state import CatalogState, Desc, RoleDesc, decode_descriptor, encode_descriptor, name_of
from txn.transaction import Txn

_role_decoder = msgspec.msgpack.Decoder(RoleDesc)
Snapshot = tuple[CatalogState, dict[int, "Desc | None"], dict[str, "RoleDesc | None"]]


class Draft:
    """Uncommitted DDL of one transaction."""

    def __init__(self, catalog: Catalog, txn: Txn, base: CatalogState) -> None:
        self.catalog = catalog
        self.txn = txn
        self.base = base
        """The catalog before any of it, or earlier: what was decided upon was not older."""
        self.state = catalog.state
        self.descs: dict[int, Desc | None] = {}
        self.roles: dict[str, RoleDesc | None] = {}
        self.moved: list[int] = []
        """Tables whose rows are in another place since, each once."""

    @property
    def is_empty(self) -> bool:
        return not self.descs and not self.roles

    def snapshot(self) -> Snapshot:
        """What ``restore`` needs at ROLLBACK TO SAVEPOINT; the writes are undone by the transaction itself."""
        return self.state, dict(self.descs), dict(self.roles)

    def restore(self, snapshot: Snapshot) -> None:
        self.state, self.descs, self.roles = snapshot[0], dict(snapshot[1]), dict(snapshot[2])

    async def new_id(self) -> int:
        return await self.catalog.new_id()

    async def put(self, desc: Desc) -> None:
        """Creates a descriptor or replaces its older version; claims its name."""
        old = self.state.by_id.get(desc.id)
        await self._lock(desc.id, old)
        if old is None or name_of(old) != name_of(desc):
            await self._claim(desc)
            if old is not None:
                self.txn.delete(keys.name_key(*name_of(old)))
        if isinstance(old, TableDesc) and isinstance(desc, TableDesc) and old.key_prefix_table != desc.key_prefix_table:
            if desc.id not in self.moved:
                self.moved.append(desc.id)
        self.txn.put(keys.descriptor_key(desc.id), encode_descriptor(desc))
        self._remember(desc.id, desc)

    async def drop(self, desc: Desc) -> None:
        """Removes a descriptor and frees its name."""
        await self._lock(desc.id, desc)
        self.txn.delete(keys.descriptor_key(desc.id))
        name_key = keys.name_key(*name_of(desc))
        await self._get(name_key)
        self.txn.delete(name_key)
        self._remember(desc.id, None)

    async def hold(self, desc: Desc) -> None:
        """Makes sure that a descriptor stays as it is until this transaction has ended."""
        await self._lock(desc.id, desc)

    async def put_role(self, role: RoleDesc) -> None:
        key = keys.role_key(role.name)
        await self._lock_role(role.name)
        self.txn.put(key, msgspec.msgpack.encode(role))
        self._remember_role(role.name, role)

    async def drop_role(self, name: str) -> None:
        await self._lock_role(name)
        self.txn.delete(keys.role_key(name))
        self._remember_role(name, None)

    def require_sound(self, current: CatalogState) -> None:
        """Raises TxnRetry if with what others have committed meanwhile something would refer to what is not there.

        To be asked while no schema change but this one can commit.
        """
        if current is self.base:
            return
        merged = current.replace(self.descs, self.roles, generation=0)
        problem = conflict(self.base, self.state, current, merged)
        if problem:
            text = "could not serialize access due to concurrent schema change"
            raise TxnRetry(f"{text}: {problem}", reason="schema_change")

    async def update_table(self, table: TableDesc, **changes: object) -> TableDesc:
        """Puts the table's next version with some fields changed and returns it."""
        new = msgspec.structs.replace(table, version=table.version + 1, **changes)
        await self.put(new)
        return new

    async def _lock(self, id: int, known: Desc | None) -> None:
        """Locks the descriptor's row; what is on disk must be what this transaction planned with."""
        raw = await self._get(keys.descriptor_key(id))
        stored = None if raw is None else decode_descriptor(raw)
        if (stored.version if stored else 0) != (known.version if known else 0):
            raise TxnRetry("could not serialize access due to concurrent schema change", reason="schema_change")

    async def _lock_role(self, name: str) -> None:
        raw = await self._get(keys.role_key(name))
        if (None if raw is None else _role_decoder.decode(raw)) != self.state.roles.get(name):
            raise TxnRetry("could not serialize access due to concurrent schema change", reason="schema_change")

    async def _claim(self, desc: Desc) -> None:
        key = keys.name_key(*name_of(desc))
        if await self._get(key) is not None:
            raise TxnRetry("could not serialize access due to concurrent schema change", reason="schema_change")
        self.txn.put(key, desc.id.to_bytes(4, "big"))

    async def _get(self, key: bytes) -> bytes | None:
        value = self.txn.get(key, Lock.EXCLUSIVE)
        return value if value is None or isinstance(value, bytes) else await value

    def _remember(self, id: int, desc: Desc | None) -> None:
        self.descs[id] = desc
        self.state = self.state.replace({id: desc}, generation=self.catalog.draft_generation())

    def _remember_role(self, name: str, role: RoleDesc | None) -> None:
        self.roles[name] = role
        self.state = self.state.replace({}, {name: role}, generation=self.catalog.draft_generation())
