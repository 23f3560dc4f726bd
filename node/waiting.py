"""A node that waits for its cluster: started with ``--join`` on an empty store, while none it knows of belongs to one.

    asks every address in turn        one belongs to a cluster: this node joins it
    is asked on ``INIT_CHANNEL``      founds a cluster of one, which the others that wait then join

``meridian init`` asks one node, once.  A node that belongs to a cluster refuses, and so does one that hears of another
that does.  Two nodes asked in the same moment would found a cluster each, and their joiners go to either: that is why
it is a command of an operator's and nothing that nodes do by themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from base.errors import CallFailed, KvError, SqlError
from base.hlc import Hlc
from base.seams import Clock, Rng
from kvtier.engine.contract import StoreEngine
from kvtier.opening import bootstrap, is_fresh
from node.member import JOIN_CHANNEL, JOIN_PAUSE_SECONDS, Ask, join_once

INIT_CHANNEL: Final = "cluster.init"
INIT: Final = b"init"
STATUS: Final = b"status"
WAITING: Final = b"waiting"
MEMBER: Final = b"member"
FOUNDED: Final = b"founded"
FOUNDER_ID: Final = 1
POLL_SECONDS: Final = 0.05


class Waiting:
    """See the module docstring; ``engine`` is empty at first and is a store at the end."""

    def __init__(
        self, engine: StoreEngine, addresses: list[str], ask: Ask, clock: Clock, rng: Rng, note: Callable[[str], None]
    ) -> None:
        self._engine = engine
        self._addresses = addresses
        self._ask = ask
        self._clock = clock
        self._rng = rng
        self._note = note
        """Told why it waits, whenever that changes."""

    def handlers(self) -> dict[str, Callable[[bytes], Awaitable[bytes]]]:
        """Returns what is to be answered meanwhile, by channel."""
        return {INIT_CHANNEL: self._init, JOIN_CHANNEL: self._refuse}

    async def run(self, is_stopped: Callable[[], bool]) -> bool:
        """Waits; False if it was stopped first."""
        told = ""
        while not is_stopped():
            reasons: dict[str, str] = {}
            if await join_once(self._engine, self._addresses, self._ask, reasons):
                return True
            why = "; ".join([f"{address}: {reason}" for address, reason in sorted(reasons.items())])
            if why != told:
                told = why
                self._note(why)
            until_ns = self._clock.monotonic_ns() + int(JOIN_PAUSE_SECONDS * 1e9)
            while self._clock.monotonic_ns() < until_ns and is_fresh(self._engine) and not is_stopped():
                await self._clock.sleep(POLL_SECONDS)
        return not is_fresh(self._engine)

    async def _refuse(self, request: bytes) -> bytes:
        raise SqlError("this node waits for its cluster, too", sqlstate="55000")

    async def _init(self, request: bytes) -> bytes:
        if request == STATUS:
            return WAITING if is_fresh(self._engine) else MEMBER
        for address in self._addresses:
            if await self._is_member(address):
                raise SqlError(f"the cluster is initialized already: {address} belongs to it", sqlstate="55000")
        if not is_fresh(self._engine):
            raise SqlError("the cluster is initialized already", sqlstate="55000")
        bootstrap(self._engine, self._rng, FOUNDER_ID, Hlc().now(self._clock.wall_ns()))
        return FOUNDED

    async def _is_member(self, address: str) -> bool:
        try:
            return await self._ask(address, INIT_CHANNEL, STATUS) == MEMBER
        except (KvError, CallFailed):
            return False


async def answer_as_member(request: bytes) -> bytes:
    """What a node of a cluster says on ``INIT_CHANNEL``."""
    if request == STATUS:
        return MEMBER
    raise SqlError("the cluster is initialized already: this node belongs to it", sqlstate="55000")
