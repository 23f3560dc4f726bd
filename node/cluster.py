"""A node of a cluster in production: ``node.member`` over gRPC.

A node that was started without ``--rpc`` has none of this, and imports none of it.
"""

from __future__ import annotations

from typing import Final

from base.seams import Clock
from kvtier.engine.contract import StoreEngine
from kvtier.rpc.settings import RpcSettings
from kvtier.rpc.transport import Callbacks
from node.member import MAX_OFFSET_SECONDS, Member, MemberSettings
from node.member import join as join_by
from node.process import Node
from node.transport.security import Security
from node.transport.service import GrpcTransport, ask
from node.world import LoopScheduler

JOIN_SECONDS_MAX: Final = 10.0


class ClusterSettings(MemberSettings):
    """What a node is told about its cluster."""

    join: list[str] = []
    """Addresses of nodes of the cluster to join, at the first start."""
    security: Security = Security()


async def join(engine: StoreEngine, settings: ClusterSettings, clock: Clock) -> None:
    """Makes an empty store one of the cluster's; does nothing to a store that is in use.  Raises JoinFailed."""

    async def ask_over_grpc(address: str, channel: str, message: bytes) -> bytes:
        return await ask(address, settings.security, channel, message, JOIN_SECONDS_MAX)

    await join_by(engine, settings.join, ask_over_grpc, clock)


def make_member(node: Node, scheduler: LoopScheduler, settings: ClusterSettings, callbacks: Callbacks) -> Member:
    """Makes a node one of several."""
    identity = node.store.identity
    rpc = RpcSettings(max_offset_seconds=MAX_OFFSET_SECONDS)
    return Member(
        node.store, node.clock, node.rng, scheduler, settings,
        lambda resolve: GrpcTransport(
            identity.node_id, identity.cluster_id, resolve, settings.security, node.clock, node.rng, scheduler, rpc,
            callbacks=callbacks,
        ),
    )  # fmt: skip
