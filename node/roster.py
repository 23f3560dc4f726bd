"""The nodes of the cluster as an operator sees them, and what an operator does with one.

    status         every node's row in the directory, its replicas by the meta ranges; leases as it says itself
    drain          the node hands its leases away, ends its clients' sessions and stops, as after SIGTERM
    decommission   its replicas go elsewhere; once it has none it is gone, for good
    recommission   takes that back, as long as it is not gone

Whoever is asked asks the node concerned on the channel ``CHANNEL``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from base.errors import CallFailed, KvError, SqlError
from kvtier.replication.allocation import REPLICAS_MIN, voters_wanted
from kvtier.replication.directory import REFRESH_SECONDS, Standing
from kvtier.replication.overview import replicas_by_node
from sql.regions.topology import NodeStatus

if TYPE_CHECKING:
    from node.member import Member

CHANNEL: Final = "kv.node"
ANSWER_SECONDS_MAX: Final = 2.0
STATUS: Final = b"status"
DRAIN: Final = b"drain"
SETTLE_SECONDS: Final = 2 * REFRESH_SECONDS
"""After this every node that can be asked knows that one is leaving, and gives it nothing."""
DRAIN_DELAY_SECONDS: Final = 0.1
"""So that who asked is answered."""


class Figures(Struct, array_like=True):
    """What a node says of itself."""

    leases: int
    is_draining: bool


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Figures)


class Roster:
    """See the module docstring."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.on_stop: Callable[[], None] = lambda: None
        """Set by who runs the node: drains it and ends the process."""
        member.transport.on_call(CHANNEL, self._answer)

    # --- this node ------------------------------------------------------------------

    def _answer(self, node_id: int, request: bytes) -> bytes:
        if request == DRAIN:
            self._member.scheduler.call_later(DRAIN_DELAY_SECONDS, self.on_stop)
        elif request != STATUS:
            raise SqlError("this node does not know what it is asked for", sqlstate="0A000")
        return _encoder.encode(self.figures())

    def figures(self) -> Figures:
        replication = self._member.replication
        leases = sum([replication.holds_lease(group) for group in replication.groups.values()])
        alone = sum([replica.is_alone for replica in replication.store.ranges.all()])
        return Figures(leases + alone, replication.is_draining)

    # --- all nodes ------------------------------------------------------------------

    async def _ask(self, node_id: int, request: bytes) -> Figures:
        member = self._member
        if node_id == member.node_id:
            return _decoder.decode(self._answer(node_id, request))
        return _decoder.decode(await member.transport.call(node_id, CHANNEL, request, ANSWER_SECONDS_MAX))

    async def status(self) -> list[NodeStatus]:
        """Returns every node that belongs to the cluster or did, by id."""
        directory = self._member.directory
        await directory.refresh()
        replicas = await replicas_by_node(self._member.router)
        found: list[NodeStatus] = []
        for node_id in sorted({**directory.nodes, **directory.standing}):
            record = directory.nodes.get(node_id)
            if record is None:
                found.append(NodeStatus(node_id, "", "", (), False, "decommissioned", replicas.get(node_id, 0), None))
                continue
            figures = await self._figures_of(node_id)
            state = "active" if directory.standing.get(node_id) != Standing.LEAVING else "decommissioning"
            if figures is not None and figures.is_draining:
                state = "draining"
            found.append(
                NodeStatus(
                    node_id, record.address, record.sql_address, record.locality, figures is not None, state,
                    replicas.get(node_id, 0), None if figures is None else figures.leases,
                )
            )  # fmt: skip
        return found

    async def _figures_of(self, node_id: int) -> Figures | None:
        if not self._member.is_live(node_id):
            return None
        try:
            return await self._ask(node_id, STATUS)
        except (KvError, CallFailed, msgspec.DecodeError):
            return None

    async def drain(self, node_id: int) -> None:
        """Lets a node drain and stop; raises SqlError if it cannot be asked."""
        self._check_known(node_id)
        try:
            await self._ask(node_id, DRAIN)
        except (KvError, CallFailed) as problem:
            raise SqlError(f"node {node_id} cannot be asked", sqlstate="55000", detail=problem.message) from None

    async def decommission(self, node_id: int) -> int:
        """Begins to send a node away, or goes on; returns the replicas it still has, 0 once it is gone for good."""
        member = self._member
        directory = member.directory
        if directory.standing.get(node_id) != Standing.LEAVING:
            await directory.refresh()
            self._check_known(node_id)
            self._check_enough(node_id)
            await directory.set_standing(node_id, Standing.LEAVING)
            await member.clock.sleep(SETTLE_SECONDS)
        left = (await replicas_by_node(member.router)).get(node_id, 0)
        if left == 0:
            await directory.set_standing(node_id, Standing.GONE)
        return left

    async def recommission(self, node_id: int) -> None:
        """Takes a node back that is being sent away; raises SqlError if it is gone."""
        await self._member.directory.set_standing(node_id, Standing.ACTIVE)

    def _check_known(self, node_id: int) -> None:
        directory = self._member.directory
        if node_id not in directory.nodes:
            why = "was decommissioned" if directory.is_gone(node_id) else "does not exist"
            raise SqlError(f"node {node_id} {why}", sqlstate="42704")

    def _check_enough(self, node_id: int) -> None:
        """Raises SqlError if replicas would have nowhere to go."""
        member = self._member
        nodes = member.placement.node_states()
        standing = member.directory.standing
        staying = [node for node in nodes if node.node_id != node_id and standing.get(node.node_id) != Standing.LEAVING]
        spans = member.placement.spans()
        for config in () if spans is None else spans.configs():
            wanted = max(voters_wanted(config, nodes), REPLICAS_MIN)
            eligible = [node for node in staying if not config.confined_to or node.region == config.confined_to]
            if len(eligible) < wanted:
                raise SqlError(
                    f"node {node_id} cannot be decommissioned: {wanted} nodes are needed and {len(eligible)} would be left",
                    sqlstate="55000",
                    hint="Let another node join first.",
                )
