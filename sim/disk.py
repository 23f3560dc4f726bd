"""The node's share of the loop with a disk that takes its time.

``NodeScope.run_blocking`` is where a node waits for its disk: a delay is drawn for every call,
the call itself happens at its start or at its end as drawn (callers may rely on neither),
and a crash can be armed to strike before it, after it, or while it is under way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from base.errors import StorageFailure
from sim.loop import Loop, Scope
from sim.streams import Draws

T = TypeVar("T")

SLOW_FACTOR: Final = 100.0
"""How much longer a slow sync takes than a usual one."""
DELAY_SECONDS_MAX: Final = 3.0
"""Longest call: one that began in the storm must not outlast the calm."""
BEFORE: Final = 1
AFTER: Final = 2


class Disk:
    """How long calls take, and what is armed; outlives the node's crashes."""

    def __init__(self, rng: Draws, seconds: float, tail: float) -> None:
        self.rng = rng
        self.seconds = seconds
        self.tail = tail
        self.slowness = 1.0
        self.armed = 0
        """Crash at the next call: 0 not, BEFORE or AFTER it."""
        self.on_armed: Callable[[], None] = lambda: None
        self.calls = 0

    def delay(self) -> float:
        """Draws the length of one call."""
        seconds = self.rng.between(0.3, 1.7) * self.seconds * self.slowness
        if self.rng.chance(self.tail):
            seconds *= SLOW_FACTOR
        return min(seconds, DELAY_SECONDS_MAX)


class NodeScope(Scope):
    """See the module docstring."""

    def __init__(self, loop: Loop, name: str, disk: Disk, on_disk_failure: Callable[[str], None]) -> None:
        super().__init__(loop, name)
        loop.scopes.append(self)
        self._disk = disk
        self._on_disk_failure = on_disk_failure

    def task_failed(self, name: str, error: BaseException) -> None:
        """That a task met the failed disk ends the node, as in production, and is no bug."""
        if _is_of_disk(error):
            self._on_disk_failure(f"{name}: {error}")
        else:
            super().task_failed(name, error)

    def callback_failed(self, error: Exception) -> bool:
        """As ``task_failed``."""
        if _is_of_disk(error):
            self._on_disk_failure(str(error))
            return True
        return False

    async def run_blocking(self, function: Callable[[], T]) -> T:
        disk = self._disk
        disk.calls += 1
        is_early = disk.rng.below(2) == 0
        seconds = disk.delay()
        armed, disk.armed = disk.armed, 0
        if armed == BEFORE:
            disk.on_armed()
            await self.clock.sleep(seconds)  # Nobody comes back from here.
        if is_early:
            result = function()
            if armed:
                disk.on_armed()
            await self.clock.sleep(seconds)
            return result
        await self.clock.sleep(seconds)
        result = function()
        if armed:
            disk.on_armed()
            await self.clock.sleep(0)
        return result


def _is_of_disk(error: BaseException) -> bool:
    """True for the failure of a disk, and for a write whose outcome is unknown because of one."""
    return isinstance(error, StorageFailure) or isinstance(error.__cause__, StorageFailure)
