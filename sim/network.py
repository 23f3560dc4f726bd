"""The network between clients and the node, and what a client can know of its requests.

A request travels for a drawn time, runs in a task of the node, and its answer travels back::

    client  --request-->  node          cut-requests holds these back until it heals
    client  <--answer---  node          cut-replies holds these
    reset                               the client knows at once; the node cancels what runs
    node lost                           as a reset of every connection

Streams lose, double and reorder nothing, so these are all the ways a TCP connection fails.
A client waits ``timeout_seconds`` and then gives the connection up; what it asked may still
happen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from base.seams import Waiter
from sim.loop import Task
from sim.streams import Draws

if TYPE_CHECKING:
    from sim.process import Process
    from sim.world import World

TAIL_FACTOR: Final = 100.0


class ConnectionLost(Exception):
    """The client does not know what became of its request."""


class Refused(Exception):
    """No node listens: the request was certainly not made."""


class Link(ABC):
    """Something of a client that faults can break while it waits for an answer."""

    process: Process | None = None
    """The node at the other end."""

    @abstractmethod
    def fail(self, why: str) -> None:
        """The client finds its connection gone."""

    @abstractmethod
    def cancel(self) -> None:
        """What runs for it is cancelled."""


class Request(Link):
    """One request under way."""

    __slots__ = ("is_abandoned", "process", "task", "waiter")

    def __init__(self, process: Process, waiter: Waiter) -> None:
        self.process = process
        self.waiter = waiter
        self.task: Task | None = None
        self.is_abandoned = False

    def fail(self, why: str) -> None:
        self.waiter.fail(ConnectionLost(why))

    def cancel(self) -> None:
        if self.task is not None and not self.task.is_done():
            self.task.cancel()


Serve = Callable[[Any], Coroutine[Any, Any, Any]]
"""Given the process, runs in a task of the node; its result is the answer."""


class Network:
    """See the module docstring."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng: Draws = world.streams.stream("network")
        self.latency_seconds = world.plan.knobs.latency_seconds
        self.tail = world.plan.knobs.latency_tail
        self.links: dict[Link, None] = {}
        """What waits for an answer."""
        self.idle: dict[Link, None] = {}
        """Open connections that wait for none; a lost node loses them too."""
        self._cut = {"requests": False, "replies": False}
        self._held: dict[str, list[Callable[[], None]]] = {"requests": [], "replies": []}

    def delay(self) -> float:
        """Draws the time of one way."""
        seconds = self.latency_seconds * self.rng.between(0.5, 2.0)
        return seconds * TAIL_FACTOR if self.rng.chance(self.tail) else seconds

    def carry(self, way: str, deliver: Callable[[], None]) -> None:
        """Delivers something one way after its time, or once the cut heals."""

        def arrive() -> None:
            if self._cut[way]:
                self._held[way].append(deliver)
            else:
                deliver()

        self.world.after(self.delay(), arrive)

    def set_cut(self, way: str, is_cut: bool) -> None:
        """Cuts one way or heals it."""
        self._cut[way] = is_cut
        if not is_cut:
            held, self._held[way] = self._held[way], []
            for deliver in held:
                self.world.after(self.delay(), deliver)

    async def call(self, process: Process, serve: Serve, timeout_seconds: float) -> Any:
        """A client's request to a node; raises ConnectionLost or Refused."""
        world = self.world
        if not process.is_up:
            raise Refused
        request = Request(process, world.loop.main.waiter())
        self.links[request] = None
        generation = process.generation
        self.carry("requests", lambda: self._begin(request, serve, generation))
        stop = world.after(timeout_seconds, lambda: request.waiter.fail(ConnectionLost("timeout")))
        try:
            return await request.waiter.wait()
        finally:
            stop()
            request.is_abandoned = True
            self.links.pop(request, None)
            if request.task is not None and not request.task.is_done() and not self._cut["requests"]:
                # The node learns that its client has left.
                self.carry("requests", request.cancel)

    def _begin(self, request: Request, serve: Serve, generation: int) -> None:
        process = request.process
        assert process is not None, "a request without a node"
        if not process.is_up or process.generation != generation:
            request.waiter.fail(ConnectionLost("the node is gone"))
            return
        request.task = process.scope.spawn(self._serve(request, process, serve), "session")

    async def _serve(self, request: Request, process: Process, serve: Serve) -> None:
        answer = await serve(process)
        self.carry("replies", lambda: request.waiter.wake(answer))

    # --- faults --------------------------------------------------------------------

    def reset_all(self, why: str, process: Process | None = None) -> None:
        """Every client (of one node, if it is named) notices, soon, that its connection is gone."""
        for link in [*self.links, *self.idle]:
            if process is None or link.process is process:
                self.reset(link, why)

    def reset(self, link: Link, why: str) -> None:
        self.world.after(self.delay(), lambda: link.fail(why))

    def reset_one(self, choice: int) -> None:
        """Resets one connection that waits for an answer."""
        links = list(self.links)
        if links:
            self.reset(links[choice % len(links)], "reset")

    def cancel_one(self, choice: int) -> None:
        """Cancels one running statement, as a cancel request does; its client still gets an answer."""
        links = list(self.links)
        if links:
            links[choice % len(links)].cancel()
