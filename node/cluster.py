"""A node of a cluster in production: ``node.member`` over gRPC.

A node that was started without ``--rpc`` has none of this, and imports none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvtier.engine.contract import StoreEngine
from kvtier.opening import is_fresh
from kvtier.rpc.settings import RpcSettings
from kvtier.rpc.transport import Callbacks
from node.member import MAX_OFFSET_SECONDS, Member, MemberSettings
from node.process import Node
from node.transport.security import Security
from node.transport.service import GrpcTransport, ask
from node.waiting import INIT, INIT_CHANNEL, Waiting, answer_as_member
from node.world import LoopScheduler, SystemClock, SystemRng

JOIN_SECONDS_MAX: Final = 10.0
INIT_SECONDS_MAX: Final = 60.0
"""The node asks those it knows of, first."""
NOBODY: Final = 0
"""The id of a node that has none yet."""


class ClusterSettings(MemberSettings):
    """What a node is told about its cluster."""

    join: list[str] = []
    """Addresses of nodes of the cluster to join, at the first start."""
    security: Security = Security()


async def wait_for_cluster(
    engine: StoreEngine,
    settings: ClusterSettings,
    scheduler: LoopScheduler,
    note: Callable[[str], None],
    is_stopped: Callable[[], bool],
) -> bool:
    """Makes an empty store one of a cluster's, or the first of a new one, whichever comes first; False if stopped.

    Does nothing to a store that is in use.  Raises OSError if the address for other nodes cannot be used.
    """
    if not is_fresh(engine):
        return True

    async def ask_over_grpc(address: str, channel: str, message: bytes) -> bytes:
        return await ask(address, settings.security, channel, message, JOIN_SECONDS_MAX)

    clock, rng = SystemClock(), SystemRng()
    waiting = Waiting(engine, settings.join, ask_over_grpc, clock, rng, note)
    transport = GrpcTransport(NOBODY, b"", lambda node_id: None, settings.security, clock, rng, scheduler)
    for channel, handler in waiting.handlers().items():
        transport.on_stranger(channel, handler)
    await transport.listen(settings.rpc)
    try:
        return await waiting.run(is_stopped)
    finally:
        await transport.stop()


async def init(address: str, security: Security) -> None:
    """Asks a node that waits to found its cluster; raises KvError or CallFailed."""
    await ask(address, security, INIT_CHANNEL, INIT, INIT_SECONDS_MAX)


def make_member(node: Node, scheduler: LoopScheduler, settings: ClusterSettings, callbacks: Callbacks) -> Member:
    """Makes a node one of several."""
    identity = node.store.identity
    rpc = RpcSettings(max_offset_seconds=MAX_OFFSET_SECONDS)
    member = Member(
        node.store, node.clock, node.rng, scheduler, settings,
        lambda resolve: GrpcTransport(
            identity.node_id, identity.cluster_id, resolve, settings.security, node.clock, node.rng, scheduler, rpc,
            callbacks=callbacks,
        ),
    )  # fmt: skip
    member.transport.on_stranger(INIT_CHANNEL, answer_as_member)
    return member
