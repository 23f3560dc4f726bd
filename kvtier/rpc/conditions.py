"""What the network between nodes is made to be like: latency by region, and faults.

One object may be shared by all the nodes of a process (tests, simulation, a cluster on a laptop) or
belong to one node; each sender obeys what is said about its own direction::

    cut       nothing leaves, not even signs of life, until it heals; both ends then find the
              stream silent and give it up, as with a network that lost its route
    loss      single messages vanish, and calls and answers if that is said; signs of life do not.
              With odds of 1 this is the partition that a stream does not notice
    delay     half the round trip of the two regions, plus what was added by hand; what is sent
              leaves later, in the same order

All of it may change at any time; streams notice at once.
"""

from __future__ import annotations

from collections.abc import Callable

from kvtier.rpc.wan import LatencyMatrix

RegionOf = Callable[[int], str | None]


class Way:
    """The conditions from one node to another; read by senders, changed by ``Conditions`` alone."""

    __slots__ = ("call_loss", "delay_ns", "extra_ns", "is_cut", "loss")

    def __init__(self) -> None:
        self.is_cut = False
        self.loss = 0.0
        self.call_loss = 0.0
        self.extra_ns = 0
        self.delay_ns = 0


class Conditions:
    """See the module docstring."""

    def __init__(self) -> None:
        self._ways: dict[tuple[int, int], Way] = {}
        self._matrix: LatencyMatrix | None = None
        self._region_of: RegionOf = lambda node_id: None
        self._watchers: list[Callable[[], None]] = []

    def way(self, source: int, target: int) -> Way:
        """Returns the one object that always says how it is from source to target."""
        way = self._ways.get((source, target))
        if way is None:
            way = self._ways[source, target] = Way()
            self._set_delay(source, target, way)
        return way

    def watch(self, callback: Callable[[], None]) -> None:
        """Calls back after every change."""
        self._watchers.append(callback)

    def unwatch(self, callback: Callable[[], None]) -> None:
        """Ends ``watch``."""
        self._watchers.remove(callback)

    # --- latency ---------------------------------------------------------------------

    def set_latency(self, matrix: LatencyMatrix | None, region_of: RegionOf) -> None:
        """Lets messages take the time between regions from now on; None turns it off."""
        self._matrix = matrix
        self._region_of = region_of
        self.refresh()

    def set_extra_delay(self, source: int, target: int, seconds: float) -> None:
        """Adds to the delay of one direction; 0 takes it away."""
        self.way(source, target).extra_ns = round(seconds * 1e9)
        self.refresh()

    def _set_delay(self, source: int, target: int, way: Way) -> None:
        way.delay_ns = way.extra_ns
        here, there = self._region_of(source), self._region_of(target)
        if self._matrix is not None and here is not None and there is not None:
            way.delay_ns += self._matrix.one_way_ns(here, there)

    def refresh(self) -> None:
        """Looks again at the region of every node: some may have become known."""
        for (source, target), way in self._ways.items():
            self._set_delay(source, target, way)
        self._tell()

    # --- faults ----------------------------------------------------------------------

    def cut(self, source: int, target: int) -> None:
        """Stops one direction."""
        self.way(source, target).is_cut = True
        self._tell()

    def partition(self, one: int, other: int) -> None:
        """Stops both directions."""
        self.way(one, other).is_cut = True
        self.way(other, one).is_cut = True
        self._tell()

    def set_loss(self, source: int, target: int, odds: float, with_calls: bool = True) -> None:
        """Loses single messages of one direction with these odds, and (``with_calls``) single calls and answers.

        NB: no stream of ours loses a call and goes on, so who calls with patience without end waits as long.
        """
        assert 0.0 <= odds <= 1.0, f"{odds=}"
        way = self.way(source, target)
        way.loss = odds
        way.call_loss = odds if with_calls else 0.0
        self._tell()

    def heal(self, one: int, other: int) -> None:
        """Ends cuts and losses in both directions; delays stay."""
        for way in (self.way(one, other), self.way(other, one)):
            way.is_cut = False
            way.loss = way.call_loss = 0.0
        self._tell()

    def heal_all(self) -> None:
        """Ends every cut and loss; delays stay."""
        for way in self._ways.values():
            way.is_cut = False
            way.loss = way.call_loss = 0.0
        self._tell()

    def _tell(self) -> None:
        for callback in list(self._watchers):
            callback()
