"""A node that waits for its cluster: started with ``--join`` on an empty store, while none it knows of belongs to one.

    asks every address in turn        one belongs to a cluster: this node joins it
    is asked on ``INIT_CHANNEL``      founds a cluster of one, which the others that wait then join

``meridian init`` asks one node, once.  Before it founds anything, that node asks for the word of every other that it
knows of, and of itself, not to found or let found another cluster for a minute; in the order of their addresses, so
that of two told in the same moment one is refused where the other was first.  Whoever belongs to a cluster refuses,
too.  A node that does not answer is taken to be down: two that cannot reach each other, nor any third, would found a
cluster each.
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
CLAIM: Final = b"claim "
"""Before a founder's ticket."""
RELEASE: Final = b"release "
"""As above: nothing was founded."""
GRANTED: Final = b"granted"
MEMBER: Final = b"member"
FOUNDED: Final = b"founded"
FOUNDER_ID: Final = 1
POLL_SECONDS: Final = 0.05
TICKET_BYTES: Final = 16
PROMISE_SECONDS: Final = 60.0
"""How long a founder is waited for."""
CLAIM_SECONDS_MAX: Final = 45.0
"""In which a founder must have asked all; the promises then have a quarter of a minute left."""
BUSY: Final = "another node was told to found the cluster less than a minute ago"
ALREADY: Final = "the cluster is initialized already"


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
        self._promised = b""
        """The ticket of the founder that has this node's word, until ``_promised_until_ns``."""
        self._promised_until_ns = 0

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
        if request.startswith(CLAIM):
            return MEMBER if not is_fresh(self._engine) else self._promise(request.removeprefix(CLAIM))
        if request.startswith(RELEASE):
            if self._promised == request.removeprefix(RELEASE):
                self._promised = b""
            return GRANTED
        if request != INIT:
            raise SqlError("an unknown request about the founding of a cluster", sqlstate="08P01")
        return await self._found()

    def _promise(self, ticket: bytes) -> bytes:
        now_ns = self._clock.monotonic_ns()
        if self._promised not in (b"", ticket) and now_ns < self._promised_until_ns:
            raise SqlError(BUSY, sqlstate="55000")
        self._promised, self._promised_until_ns = ticket, now_ns + int(PROMISE_SECONDS * 1e9)
        return GRANTED

    async def _found(self) -> bytes:
        ticket = self._rng.bytes(TICKET_BYTES)
        began_ns = self._clock.monotonic_ns()
        granted: list[str] = []
        try:
            for address in sorted(self._addresses):
                if await self._claim(address, ticket):
                    granted.append(address)
            if not is_fresh(self._engine):
                raise SqlError(ALREADY, sqlstate="55000")
            if self._clock.monotonic_ns() - began_ns > CLAIM_SECONDS_MAX * 1e9:
                raise SqlError("the other nodes take too long to answer: nothing was founded", sqlstate="55000")
            self._promise(ticket)
        except SqlError:
            for address in granted:
                await self._release(address, ticket)
            raise
        bootstrap(self._engine, self._rng, FOUNDER_ID, Hlc().now(self._clock.wall_ns()))
        return FOUNDED

    async def _claim(self, address: str, ticket: bytes) -> bool:
        """Asks for a node's word; False if it does not answer.  Raises SqlError if it refuses."""
        try:
            answer = await self._ask(address, INIT_CHANNEL, CLAIM + ticket)
        except CallFailed as refusal:
            raise SqlError(f"{address}: {refusal.message}", sqlstate="55000") from None
        except KvError:
            return False
        if answer == MEMBER:
            raise SqlError(f"{ALREADY}: {address} belongs to it", sqlstate="55000")
        return True

    async def _release(self, address: str, ticket: bytes) -> None:
        try:
            await self._ask(address, INIT_CHANNEL, RELEASE + ticket)
        except (KvError, CallFailed):
            pass  # The promise runs out by itself.


async def answer_as_member(request: bytes) -> bytes:
    """What a node of a cluster says on ``INIT_CHANNEL``."""
    if request == INIT:
        raise SqlError(f"{ALREADY}: this node belongs to it", sqlstate="55000")
    return MEMBER
