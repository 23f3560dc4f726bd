"""Background work that leaves the loop to others: after each turn it rests a multiple of what the turn took."""

from __future__ import annotations

from typing import Final

from base.seams import Clock

REST_SECONDS_MIN: Final = 0.002


class Pace:
    """Keeps a task to one part in ``share_inverse`` of the loop's time; a turn begins where the last rest ended."""

    def __init__(self, clock: Clock, share_inverse: int) -> None:
        self._clock = clock
        self._rest_factor = share_inverse - 1
        self._turn_ns = clock.monotonic_ns()

    async def rest(self) -> None:
        """Ends a turn."""
        worked_seconds = (self._clock.monotonic_ns() - self._turn_ns) / 1e9
        await self._clock.sleep(max(REST_SECONDS_MIN, worked_seconds * self._rest_factor))
        self._turn_ns = self._clock.monotonic_ns()
