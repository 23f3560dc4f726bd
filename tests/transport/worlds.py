"""Two worlds for one contract: gRPC on loopback, and the simulated network on virtual time."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from base.seams import Clock, Scheduler, Waiter
from kvtier.rpc.conditions import Conditions
from kvtier.rpc.settings import RpcSettings
from kvtier.rpc.transport import Callbacks, StreamTransport
from sim.loop import Loop, Scope
from sim.streams import Streams
from sim.transport import SimNodes

CLUSTER = b"0123456789abcdef"
SECONDS_MAX = 60.0
SETTINGS = RpcSettings(beat_seconds=0.1, silence_seconds=10.0, backoff_seconds_min=0.01, backoff_seconds_max=0.1)
"""A machine that does other things too may need seconds to connect; only tests of silence itself shorten it."""
SHORT_SILENCE = RpcSettings(beat_seconds=0.1, silence_seconds=1.5, backoff_seconds_min=0.01, backoff_seconds_max=0.1)


class Notes:
    """What the transports of a test logged, and the bugs they met."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.bugs: list[BaseException] = []
        self.strays: list[str] = []
        self.callbacks = Callbacks(self._note, self._bug, self.strays.append)

    def _note(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    def _bug(self, bug: BaseException) -> str:
        self.bugs.append(bug)
        return "f00d"

    def text(self) -> str:
        return "\n".join(f"{event} {fields}" for event, fields in self.lines)


class World(ABC):
    """Nodes that can reach each other."""

    def __init__(self) -> None:
        self.conditions = Conditions()
        self.notes = Notes()

    kind: str
    clock: Clock
    scheduler: Scheduler

    @abstractmethod
    async def start(
        self, node_id: int, settings: RpcSettings = SETTINGS, cluster: bytes = CLUSTER, register: Any = None
    ) -> StreamTransport:
        """Starts a node's transport, after ``register`` has added the handlers."""

    @abstractmethod
    async def stop(self, transport: StreamTransport) -> None:
        """Stops it in order."""

    async def pair(
        self, settings: RpcSettings = SETTINGS, register: Callable[[StreamTransport], None] | None = None
    ) -> tuple[StreamTransport, StreamTransport]:
        """Starts nodes 1 and 2."""
        return await self.start(1, settings, register=register), await self.start(2, settings, register=register)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs a task whose outcome the test looks at."""
        return self.scheduler.spawn(coroutine, "test").observe()

    async def outcome(self, awaitable: Awaitable[Any]) -> Any:
        """Returns what came of it: the value, or the exception."""
        try:
            return await awaitable
        except Exception as error:
            return error


class Inbox:
    """Collects what a node receives; a test awaits the n-th message."""

    def __init__(self, world: World, transport: StreamTransport, *channels: str) -> None:
        self.got: list[tuple[int, str, bytes]] = []
        self._scheduler = world.scheduler
        self._waits: list[tuple[int, Waiter]] = []
        for channel in channels:
            transport.on_message(
                channel, lambda node_id, message, channel=channel: self._add(node_id, channel, message)
            )

    def _add(self, node_id: int, channel: str, message: bytes) -> None:
        self.got.append((node_id, channel, message))
        for count, waiter in self._waits:
            if len(self.got) >= count:
                waiter.wake()

    async def until(self, count: int) -> list[tuple[int, str, bytes]]:
        """Waits for the n-th message; returns all so far."""
        if len(self.got) < count:
            waiter = self._scheduler.waiter()
            self._waits.append((count, waiter))
            await waiter.wait()
        return self.got

    def messages(self) -> list[bytes]:
        return [message for _, _, message in self.got]


class SimWorld(World):
    """Virtual time: seconds cost nothing, and every run of a seed is the same."""

    kind = "sim"

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        self.loop = Loop(seed)
        self.loop.steps_max = 2_000_000
        self.clock = self.loop.main.clock
        self.scheduler = self.loop.main
        self.streams = Streams(seed)
        self.nodes = SimNodes(self.streams.stream("network"), self.conditions)
        self.lives = 0

    def scope_of(self, transport: StreamTransport) -> Scope:
        return self.nodes.scopes[transport.node_id]

    async def start(
        self, node_id: int, settings: RpcSettings = SETTINGS, cluster: bytes = CLUSTER, register: Any = None
    ) -> StreamTransport:
        self.lives += 1
        transport = self.nodes.join(
            node_id,
            cluster,
            self.loop.scope(f"node{node_id}"),
            self.streams.stream(f"rng{self.lives}"),
            msgspec.structs.replace(settings),
            self.notes.callbacks,
        )
        if register is not None:
            register(transport)
        return transport

    async def stop(self, transport: StreamTransport) -> None:
        transport.close()
        self.nodes.transports.pop(transport.node_id, None)

    def run(self, main: Callable[[World], Coroutine[Any, Any, Any]]) -> Any:
        return self.loop.run(main(self))


class GrpcWorld(World):
    """Real gRPC on loopback, in one loop."""

    kind = "grpc"

    def __init__(self) -> None:
        super().__init__()
        self.addresses: dict[int, str] = {}
        self.started: list[Any] = []
        self.security: Any = None

    async def start(
        self, node_id: int, settings: RpcSettings = SETTINGS, cluster: bytes = CLUSTER, register: Any = None
    ) -> StreamTransport:
        transport = self.make(node_id, settings, cluster)
        if register is not None:
            register(transport)
        self.addresses[node_id] = f"127.0.0.1:{await transport.listen('127.0.0.1:0')}"
        return transport

    def make(
        self, node_id: int, settings: RpcSettings = SETTINGS, cluster: bytes = CLUSTER, security: Any = None
    ) -> Any:
        """Returns a transport that does not listen yet."""
        from node.transport.security import Security
        from node.transport.service import GrpcTransport
        from node.world import SystemRng

        transport = GrpcTransport(
            node_id,
            cluster,
            self.addresses.get,
            security or self.security or Security(),
            self.clock,
            SystemRng(),
            self.scheduler,
            msgspec.structs.replace(settings),
            self.conditions,
            self.notes.callbacks,
        )
        self.started.append(transport)
        return transport

    async def stop(self, transport: StreamTransport) -> None:
        await transport.stop()
        self.started.remove(transport)

    def run(self, main: Callable[[World], Coroutine[Any, Any, Any]]) -> Any:
        from node.world import SystemClock, run

        async def with_limit(scheduler: Any) -> Any:
            self.scheduler = scheduler
            self.clock = SystemClock()
            async with asyncio.timeout(SECONDS_MAX):
                try:
                    return await main(self)
                finally:
                    for transport in list(self.started):
                        await self.stop(transport)
                    assert [task.name for task in scheduler.tasks if "test" not in task.name] == []

        return run(with_limit)


WORLDS = {"sim": SimWorld, "grpc": GrpcWorld}
