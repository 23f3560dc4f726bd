"""Who belongs to the cluster: one row a node, and what is remembered of them here.

    03 'c' 'n' node id 4 B   ->  NodeRecord      written by the node itself, at every start
    03 'c' 'd' node id 4 B   ->  Standing, 1 B   written by who sends the node away; none: ACTIVE
    03 'c' 'i'               ->  next node id, 8 B
    03 'c' 'r'               ->  next range id, 8 B      (``kvtier.replication.publishing``)

    local family  b"j"       ->  Known: the records and the first range, as last seen

    ACTIVE <--> LEAVING (its replicas go elsewhere) --> GONE, once it has none: for good, nobody talks to it

Invariant: a node that is GONE has no replica of any range and gets none; its id never comes back.

A node that restarts must find the others before it can read a row, so it keeps what it knew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Final

import msgspec
from msgspec import Struct

from base.errors import ConditionFailed, KvError, SqlError
from base.seams import CF_LOCAL
from kvtier.client import Kv
from kvtier.descriptors import RangeDescriptor
from kvtier.engine.batch import OpBatch
from kvtier.engine.contract import StoreEngine
from kvtier.messages import Batch, ConditionalPut, Get, Op, Put, Scan, ScanResult
from kvtier.replication.publishing import send
from kvtier.router import Router
from kvtier.store import Store

NODES_PREFIX: Final = b"\x03cn"
NODES_END: Final = b"\x03co"
STANDING_PREFIX: Final = b"\x03cd"
STANDING_END: Final = b"\x03ce"
NEXT_NODE_KEY: Final = b"\x03ci"
FIRST_NODE_ID: Final = 2
"""Node 1 founds the cluster."""
KNOWN_KEY: Final = b"j"
REFRESH_SECONDS: Final = 2.0


class Standing(IntEnum):
    """What a node is to the cluster."""

    ACTIVE = 0
    LEAVING = 1
    """It is being decommissioned: gets no replica, those it has go elsewhere."""
    GONE = 2


class NodeRecord(Struct, array_like=True, frozen=True):
    """What others must know of a node."""

    node_id: int
    address: str
    """host:port for other nodes."""
    sql_address: str = ""
    """host:port for clients."""
    locality: tuple[tuple[str, str], ...] = ()
    """From the widest tier: (("region", "eu-west"), ("zone", "a"))."""

    def region(self) -> str:
        """Returns the region, "" if none was named."""
        return dict(self.locality).get("region", "")

    def zone(self) -> str:
        """Returns the tiers below the region, "" if there are none."""
        return ",".join([f"{key}={value}" for key, value in self.locality if key != "region"])


class Known(Struct, array_like=True):
    """What a store remembers of its cluster."""

    nodes: list[NodeRecord]
    first: RangeDescriptor | None = None
    gone: list[int] = []


_encoder = msgspec.msgpack.Encoder()
_record_decoder = msgspec.msgpack.Decoder(NodeRecord)
_known_decoder = msgspec.msgpack.Decoder(Known)


def node_key(node_id: int) -> bytes:
    """Returns the key of a node's record."""
    return NODES_PREFIX + node_id.to_bytes(4, "big")


def standing_key(node_id: int) -> bytes:
    """Returns the key of a node's standing."""
    return STANDING_PREFIX + node_id.to_bytes(4, "big")


async def draw_node_id(kv: Kv) -> int:
    """Returns an id that no node has or had (reliability 61 holds for nodes, too)."""
    while True:
        stored: bytes | None = (await send(kv, Batch([Get(NEXT_NODE_KEY)]))).results[0]
        node_id = FIRST_NODE_ID if stored is None else int.from_bytes(stored, "big")
        try:
            await send(kv, Batch([ConditionalPut(NEXT_NODE_KEY, (node_id + 1).to_bytes(8, "big"), stored)]))
        except ConditionFailed:
            continue
        return node_id


class Directory:
    """The nodes as this one knows them; refreshed from the rows in the background."""

    def __init__(self, store: Store, router: Router) -> None:
        self._store = store
        self._router = router
        self.nodes: dict[int, NodeRecord] = {}
        """All that are not gone."""
        self.standing: dict[int, Standing] = {}
        """Of those that are not, or were once not, active."""
        self.on_gone: Callable[[int], None] = lambda node_id: None
        """Told of each node that has left for good."""
        self.ask_others: Callable[[], Awaitable[None]] = _nobody
        """Learns what other nodes know, when the directory's range cannot be found by what is known here."""
        stored = store.engine.get(CF_LOCAL, KNOWN_KEY)
        if stored is not None:
            self.learn(_known_decoder.decode(stored))
        self._is_stopped = False

    def learn(self, known: Known) -> None:
        """Takes what somebody else knew."""
        self.standing.update(dict.fromkeys(known.gone, Standing.GONE))
        for record in known.nodes:
            if not self.is_gone(record.node_id):
                self.nodes.setdefault(record.node_id, record)
        first, told = self._router.first, known.first
        if first is None or (told is not None and told.generation > first.generation):
            self._router.first = told
            if first is not None and told is not None:
                self._router.cache.insert(told)  # In the place of what led nowhere.

    def known(self) -> Known:
        """Returns what another node needs to find everybody."""
        here = self._store.ranges.find(b"")
        first = here.descriptor if here is not None else self._router.cache.find(b"") or self._router.first
        gone = [node_id for node_id in sorted(self.standing) if self.is_gone(node_id)]
        return Known([self.nodes[node_id] for node_id in sorted(self.nodes)], first, gone)

    def is_gone(self, node_id: int) -> bool:
        """True for a node that was decommissioned."""
        return self.standing.get(node_id) == Standing.GONE

    def address(self, node_id: int) -> str | None:
        """Returns where a node listens for others."""
        record = self.nodes.get(node_id)
        return None if record is None else record.address

    def region(self, node_id: int) -> str:
        """Returns a node's region, "" if it is not known."""
        record = self.nodes.get(node_id)
        return "" if record is None else record.region()

    async def register(self, record: NodeRecord) -> None:
        """Writes a node's record."""
        self.nodes[record.node_id] = record
        await send(self._router, Batch([Put(node_key(record.node_id), _encoder.encode(record))]))

    async def refresh(self) -> None:
        """Reads the records and standings of all nodes."""
        scans: list[Op] = [Scan(STANDING_PREFIX, STANDING_END), Scan(NODES_PREFIX, NODES_END)]
        reply = await send(self._router, Batch(scans, admission=2))
        marks: ScanResult = reply.results[0]
        rows: ScanResult = reply.results[1]
        standing = {int.from_bytes(key[-4:], "big"): Standing(value[0]) for key, value in zip(marks.keys, marks.values)}
        records = [_record_decoder.decode(value) for value in rows.values]
        found = {record.node_id: record for record in records if standing.get(record.node_id) != Standing.GONE}
        if found != self.nodes or standing != self.standing:
            gone = [node_id for node_id in self.nodes if node_id not in found]
            self.nodes, self.standing = found, standing
            self.remember()
            for node_id in gone:
                self.on_gone(node_id)

    async def set_standing(self, node_id: int, standing: Standing) -> None:
        """Changes what a node is to the cluster; raises SqlError for one that is not known, or gone."""
        await self.refresh()
        current = self.standing.get(node_id, Standing.ACTIVE)
        if current == Standing.GONE or node_id not in self.nodes:
            why = "was decommissioned" if current == Standing.GONE else "does not exist"
            raise SqlError(f"node {node_id} {why}", sqlstate="42704")
        if current != standing:
            before = bytes((current,)) if node_id in self.standing else None
            await send(self._router, Batch([ConditionalPut(standing_key(node_id), bytes((standing,)), before)]))
            await self.refresh()

    def remember(self) -> None:
        """Keeps what is known for the next start."""
        remember_known(self._store.engine, self.known())

    async def run(self) -> None:
        """Refreshes from time to time, until stopped."""
        while not self._is_stopped and self._store.failure is None:
            try:
                await self.refresh()
            except KvError:
                # Its range may have moved away from all the nodes where it was when this one last heard of it.
                await self.ask_others()
            await self._store.clock.sleep(REFRESH_SECONDS)

    def stop(self) -> None:
        """Refreshes no more."""
        self._is_stopped = True


async def _nobody() -> None: ...


def remember_known(engine: StoreEngine, known: Known) -> None:
    """Keeps what is known of the cluster for the next start."""
    batch = OpBatch()
    batch.put(CF_LOCAL, KNOWN_KEY, _encoder.encode(known))
    engine.write(batch)
