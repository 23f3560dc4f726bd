"""One node: every layer put together over the production seams.

    RocksEngine -> Store -> Router -> Coordinator -> Catalog, SqlServer -> Connections on a Listener
"""

from __future__ import annotations

import ssl
import traceback
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from base.hlc import Hlc
from base.seams import Clock, Engine, Rng, Scheduler
from kvtier.engine.contract import StoreEngine
from kvtier.router import Router
from kvtier.settings import StoreSettings
from kvtier.store import Store
from node.listener import Listener
from planner.functions import builtin_registry
from sql.catalog.cache import Catalog
from sql.pgcatalog import register_functions
from sql.server import SqlServer
from sql.settings import builtin_defaults
from txn.coordinator import Coordinator
from txn.settings import TxnSettings
from wire.connection import Connection, ConnectionSettings
from wire.io import ConnectionIo

SECRET_BYTES: Final = 32


class NodeSettings(Struct):
    """What a node is told at start."""

    host: str = "127.0.0.1"
    port: int = 26257
    insecure: bool = False
    defaults: dict[str, str] = {}
    connections_max: int = 500
    force_intents: bool = False
    """Commit every transaction by intents and a record, even where one batch would do."""
    range_max_bytes: int = 512 << 20


class Node:
    """An assembled node; ``start`` opens it for clients, ``stop`` drains it."""

    def __init__(
        self,
        engine: StoreEngine,
        clock: Clock,
        rng: Rng,
        scheduler: Scheduler,
        settings: NodeSettings,
        on_fatal: Callable[[BaseException], None] | None = None,
        log_bug: Callable[[str, str], None] | None = None,
    ) -> None:
        self.engine: Engine = engine
        self.clock = clock
        self.rng = rng
        self.scheduler = scheduler
        self.settings = settings
        self.log_bug = log_bug
        self.hlc = Hlc()
        store_settings = StoreSettings(range_max_bytes=settings.range_max_bytes)
        self.store = Store(engine, clock, scheduler, rng, self.hlc, store_settings, on_fatal=on_fatal)
        self.kv = Router(self.store)
        self.coordinator = Coordinator(self.kv, clock, scheduler, rng, TxnSettings(force_intents=settings.force_intents))
        self.catalog = Catalog(self.kv)
        registry = builtin_registry()
        register_functions(registry)
        defaults = {**builtin_defaults(), **settings.defaults}
        self.sql = SqlServer(
            self.kv, self.coordinator, self.catalog, registry, clock, rng, scheduler, defaults, settings.connections_max
        )
        self.connection_settings = ConnectionSettings(settings.insecure, False, not settings.insecure, rng.bytes(SECRET_BYTES))
        self.listener: Listener | None = None
        self.port = 0

    async def open(self) -> None:
        """Loads the catalog; the node can then serve connections made by ``connect``."""
        await self.catalog.load()

    async def start(self, tls: ssl.SSLContext | None = None, certificate: bytes = b"") -> int:
        """Opens the client port and returns it."""
        await self.open()
        self.connection_settings.has_tls = tls is not None
        self.listener = Listener(self.connect, tls, certificate)
        self.port = await self.listener.start(self.settings.host, self.settings.port)
        return self.port

    def connect(self, io: ConnectionIo) -> Connection:
        """Makes the connection of a new client."""
        return Connection(self.sql, io, self.scheduler, self.rng, self.connection_settings, self._on_bug)

    async def stop(self, drain_seconds: float = 10.0) -> None:
        """Lets running transactions end, closes every connection, gives sequences back, closes the store."""
        if self.listener is not None:
            await self.listener.drain(drain_seconds)
        await self.sql.sequences.release()
        self.engine.sync()
        self.engine.close()

    def _on_bug(self, bug: BaseException) -> str:
        reference = self.rng.bytes(6).hex()
        if self.log_bug is not None:
            self.log_bug(reference, "".join(traceback.format_exception(bug)))
        return reference
