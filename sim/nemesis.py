"""The nemesis: makes the faults of a plan happen, and undoes them in time.

crash          power failure, some ticks after its time           restarted after a drawn time
crash-at-sync  power failure just before or after the next sync
sync-fails     the next sync fails: the node must die (reliability 5)
disk-full      writes fail for a while: it dies and cannot start
write-stall    writes are refused for a while
slow-disk      syncs take up to 300 times as long
pause          the process stops, time goes on
clock-jump     the wall clock steps, forwards or back            clock-drift  and runs wrong
split, merge   at a key of the workload, or one that was read lately
collect        garbage collection with next to no retention
reset          connections break                                 cancel  a statement is cancelled
cut-*          one direction of the network                      slow-reader  replies crawl
forget-reads   the timestamp cache gives up half of what it knows
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from base.hlc import LOGICAL_BITS, into_unix_us
from kvtier.descriptors import DATA_START
from kvtier.messages import CollectGarbage, Merge, Split
from sim.disk import AFTER, BEFORE
from sim.plan import KINDS, Fault

if TYPE_CHECKING:
    from sim.world import World

PAUSE_SECONDS_MAX: Final = 10.0
JUMP_SECONDS_MAX: Final = 10.0
DRIFT_PPM_MAX: Final = 200_000
LATELY: Final = 20
"""Reads among which a place to split at is chosen."""
TICKS_MAX: Final = 60
"""A crash comes within so many ticks after its time: at any await of what is going on."""


class Nemesis:
    """See the module docstring; ``keys`` gives places to split at."""

    def __init__(self, world: World, keys: list[bytes]) -> None:
        self.world = world
        self.keys = keys
        self._strike: dict[str, Callable[[Fault], None]] = {
            kind: getattr(self, "_" + kind.replace("-", "_")) for kind in KINDS
        }

    def start(self) -> None:
        """Sets a timer for every fault."""
        for fault in self.world.plan.faults:
            self.world.after(fault.at, lambda fault=fault: self.strike(fault))  # type: ignore[misc]  # the loop's value is bound

    def strike(self, fault: Fault) -> None:
        """Makes one fault happen."""
        world = self.world
        if world.is_calm:
            return
        world.faults_struck[fault.kind] = world.faults_struck.get(fault.kind, 0) + 1
        world.note("fault", str(fault))
        self._strike[fault.kind](fault)

    def heal(self) -> None:
        """Ends every fault that lasts, and gets the node up."""
        world = self.world
        process = world.process
        process.disk.slowness = 1.0
        process.disk.tail = 0.0
        process.disk.armed = 0
        process.is_full = process.is_stalled = False
        process.engine.faults.sync_fails = False
        process.apply_disk_faults()
        world.network.set_cut("requests", False)
        world.network.set_cut("replies", False)
        world.network.tail = 0.0
        process.hop.set_odds(0.0, 0.0)
        process.scope.resume()
        self._set_clock_right()

    def _set_clock_right(self) -> None:
        """A clock that was put back would stand still, in HLC time, for as long; now it runs again."""
        process = self.world.process
        behind_ns = into_unix_us(process.store.hlc.latest) * 1000 - process.scope.clock.wall_ns()
        process.set_clock(process.clock_offset_ns + max(behind_ns, 0), 0)

    def _later(self, fault: Fault, undo: Callable[[], None]) -> None:
        self.world.after(fault.seconds, undo)

    # --- the process -----------------------------------------------------------------

    def _crash(self, fault: Fault) -> None:
        self._crash_in(1 + fault.choice % TICKS_MAX)

    def _crash_in(self, ticks: int) -> None:
        if ticks <= 1:
            self.world.crash_soon("power failure")
        else:
            self.world.loop.main.call_soon(lambda: self._crash_in(ticks - 1))

    def _crash_at_sync(self, fault: Fault) -> None:
        self.world.process.disk.armed = AFTER if fault.choice % 2 else BEFORE

    def _pause(self, fault: Fault) -> None:
        scope = self.world.process.scope
        scope.pause()
        self.world.after(min(fault.seconds, PAUSE_SECONDS_MAX), scope.resume)

    # --- the disk --------------------------------------------------------------------

    def _sync_fails(self, fault: Fault) -> None:
        self.world.process.engine.faults.sync_fails = True

    def _disk_full(self, fault: Fault) -> None:
        self._set_full(True)
        self._later(fault, lambda: self._set_full(False))

    def _set_full(self, is_full: bool) -> None:
        self.world.process.is_full = is_full
        self.world.process.apply_disk_faults()

    def _write_stall(self, fault: Fault) -> None:
        self._set_stalled(True)
        self._later(fault, lambda: self._set_stalled(False))

    def _set_stalled(self, is_stalled: bool) -> None:
        self.world.process.is_stalled = is_stalled
        self.world.process.apply_disk_faults()

    def _slow_disk(self, fault: Fault) -> None:
        disk = self.world.process.disk
        disk.slowness = 1 + 300 * fault.amount
        self._later(fault, lambda: setattr(disk, "slowness", 1.0))

    # --- clocks ----------------------------------------------------------------------

    def _clock_jump(self, fault: Fault) -> None:
        process = self.world.process
        # Small steps and large ones are equally likely; so are both directions.
        size = JUMP_SECONDS_MAX * (1e-6 ** (1 - fault.amount)) * (1 if fault.choice % 2 else -1)
        process.set_clock(process.clock_offset_ns + int(size * 1e9), process.clock_drift_ppm)

    def _clock_drift(self, fault: Fault) -> None:
        process = self.world.process
        process.set_clock(process.clock_offset_ns, int(DRIFT_PPM_MAX * (2 * fault.amount - 1)))

    # --- ranges and versions -----------------------------------------------------------

    def _split(self, fault: Fault) -> None:
        self.world.process.command(Split(self._place(fault)))

    def _place(self, fault: Fault) -> bytes:
        """Returns a key of the workload, or one that was read lately."""
        process = self.world.process
        lately = list(process.store.state.tscache._points)[-LATELY:] if process.is_up and fault.choice % 2 else []
        keys = [key for key in lately if key >= DATA_START] or self.keys
        return keys[fault.choice // 2 % len(keys)]

    def _merge(self, fault: Fault) -> None:
        process = self.world.process
        if process.is_up:
            ranges = process.store.ranges.all()
            process.command(Merge(ranges[fault.choice % len(ranges)].start))

    def _collect(self, fault: Fault) -> None:
        process = self.world.process
        if process.is_up:
            ago = int(fault.amount * 1e6) << LOGICAL_BITS
            threshold = process.store.hlc.latest - ago
            # Twice: the first call only raises the threshold.
            process.command(CollectGarbage(self.keys[0], self.keys[-1] + b"\xff", threshold))
            process.command(CollectGarbage(self.keys[0], self.keys[-1] + b"\xff", threshold))

    def _forget_reads(self, fault: Fault) -> None:
        process = self.world.process
        if process.is_up:
            process.store.state.tscache._rotate_points()
            process.store.state.tscache._rotate_spans()

    # --- the network -----------------------------------------------------------------

    def _reset(self, fault: Fault) -> None:
        if fault.amount > 0.8:
            self.world.network.reset_all("reset")
        else:
            self.world.network.reset_one(fault.choice)

    def _cancel(self, fault: Fault) -> None:
        self.world.network.cancel_one(fault.choice)

    def _cut_requests(self, fault: Fault) -> None:
        self._cut("requests", fault)

    def _cut_replies(self, fault: Fault) -> None:
        self._cut("replies", fault)

    def _cut(self, way: str, fault: Fault) -> None:
        self.world.network.set_cut(way, True)
        self._later(fault, lambda: self.world.network.set_cut(way, False))

    def _slow_reader(self, fault: Fault) -> None:
        network = self.world.network
        before = network.tail
        network.tail = fault.amount
        self._later(fault, lambda: setattr(network, "tail", before))
