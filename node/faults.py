"""What a demonstration may do to a running node, over its HTTP port: ``meridian start --allow-faults``.

    POST /faults  {"do": "cut", "to": [2, 3]}             nothing reaches these nodes from here, until it heals
                  {"do": "heal"}                          ends cuts and losses; delays stay
                  {"do": "lose", "to": [2], "odds": 0.1}  single messages vanish
                  {"do": "delay", "to": [2], "ms": 50}    more on the way there; 0 takes it away
                  {"do": "latency", "rtt_ms": {..}}       another table of round trips; null for none
                  {"do": "skew", "ms": -100}              the wall clock is that far off
                  {"do": "slow-disk", "ms": 50}           each sync of the log takes so much longer

Each node delays and drops what it sends itself, so a partition in both directions is said to both ends.
"""

from __future__ import annotations

import time
from typing import Final, Union

import msgspec

from base.seams import Clock
from kvtier.engine.rocks import RocksEngine
from kvtier.replication.directory import Directory
from kvtier.rpc.conditions import Conditions, RegionOf
from kvtier.rpc.wan import LatencyMatrix
from node.world import SystemClock

MS_MAX: Final = 60_000.0
FOLLOW_SECONDS: Final = 0.25


class Cut(msgspec.Struct, tag="cut", tag_field="do", forbid_unknown_fields=True):
    to: list[int]


class Heal(msgspec.Struct, tag="heal", tag_field="do", forbid_unknown_fields=True):
    pass


class Lose(msgspec.Struct, tag="lose", tag_field="do", forbid_unknown_fields=True):
    to: list[int]
    odds: float


class Delay(msgspec.Struct, tag="delay", tag_field="do", forbid_unknown_fields=True):
    to: list[int]
    ms: float


class Latency(msgspec.Struct, tag="latency", tag_field="do", forbid_unknown_fields=True):
    rtt_ms: dict[str, dict[str, float]] | None


class Skew(msgspec.Struct, tag="skew", tag_field="do", forbid_unknown_fields=True):
    ms: float


class SlowDisk(msgspec.Struct, tag="slow-disk", tag_field="do", forbid_unknown_fields=True):
    ms: float


Fault = Union[Cut, Heal, Lose, Delay, Latency, Skew, SlowDisk]
_decoder = msgspec.json.Decoder(Fault)


class FaultClock(SystemClock):
    """A wall clock that can be wrong."""

    def __init__(self) -> None:
        self.offset_ns = 0

    def wall_ns(self) -> int:
        return super().wall_ns() + self.offset_ns


class FaultEngine(RocksEngine):
    """An engine whose disk can be slow."""

    sync_seconds: float = 0.0
    """Added to every sync."""

    def begin_sync(self) -> bool:
        return False if self.sync_seconds else super().begin_sync()

    def sync(self) -> None:
        if self.sync_seconds:
            time.sleep(self.sync_seconds)  # In the thread of blocking calls.
        super().sync()


class Faults:
    """Does what it is told; raises ValueError for what makes no sense."""

    def __init__(
        self, node_id: int, conditions: Conditions, region_of: RegionOf, clock: FaultClock, engine: FaultEngine
    ) -> None:
        self._node_id = node_id
        self._conditions = conditions
        self._region_of = region_of
        self._clock = clock
        self._engine = engine

    def apply(self, message: bytes) -> None:
        """Takes one fault as JSON."""
        try:
            fault = _decoder.decode(message)
        except msgspec.MsgspecError as problem:
            raise ValueError(str(problem)) from None
        if isinstance(fault, Cut | Lose | Delay):
            self._apply_to(fault)
        elif isinstance(fault, Heal):
            self._conditions.heal_all()
        elif isinstance(fault, Latency):
            matrix = None if fault.rtt_ms is None else LatencyMatrix(fault.rtt_ms)
            self._conditions.set_latency(matrix, self._region_of)
        elif isinstance(fault, Skew):
            self._clock.offset_ns = round(_checked(abs(fault.ms)) * 1e6) * (1 if fault.ms >= 0 else -1)
        else:
            self._engine.sync_seconds = _checked(fault.ms) / 1e3

    def _apply_to(self, fault: Cut | Lose | Delay) -> None:
        for node_id in fault.to:
            if node_id == self._node_id:
                continue
            if isinstance(fault, Cut):
                self._conditions.cut(self._node_id, node_id)
            elif isinstance(fault, Lose):
                if not 0 <= fault.odds <= 1:
                    raise ValueError(f"odds are between 0 and 1, not {fault.odds:g}")
                self._conditions.set_loss(self._node_id, node_id, fault.odds)
            else:
                self._conditions.set_extra_delay(self._node_id, node_id, _checked(fault.ms) / 1e3)


def _checked(ms: float) -> float:
    if not 0 <= ms <= MS_MAX:
        raise ValueError(f"{ms:g} ms is not between 0 and {MS_MAX:g}")
    return ms


async def follow_regions(conditions: Conditions, directory: Directory, clock: Clock) -> None:
    """Lets delays follow what becomes known of the regions of other nodes; ends with the node."""
    known: list[tuple[int, str]] = []
    while True:
        now = [(node_id, directory.region(node_id)) for node_id in sorted(directory.nodes)]
        if now != known:
            known = now
            conditions.refresh()
        await clock.sleep(FOLLOW_SECONDS)
