"""Breaks what a run depends on, and mends it: shell commands of the operator's, in an order drawn from the seed.

    wait -> one command that breaks -> wait -> the one that mends it -> wait -> ..

One thing is broken at a time, and what is broken when the run ends is mended before its consistency is checked.
"""

from __future__ import annotations

import subprocess
import time
from random import Random
from threading import Event, Thread
from typing import Final, NamedTuple

from tpcc.result import ChaosEvent

ARROW: Final = "=>"
COMMAND_SECONDS_MAX: Final = 120.0
EVENTS_MAX: Final = 10_000
"""After these nothing is broken any more."""


class Breakage(NamedTuple):
    """One way to break something."""

    breaks: str
    mends: str


def parse_breakage(text: str) -> Breakage:
    """Reads ``BREAK => MEND``; raises ValueError."""
    breaks, arrow, mends = (part.strip() for part in text.partition(ARROW))
    if not arrow or not breaks or not mends:
        raise ValueError(f"expected 'COMMAND {ARROW} COMMAND', the second to mend what the first broke, not {text!r}")
    return Breakage(breaks, mends)


class Chaos(Thread):
    """Goes on until ``stop``."""

    def __init__(self, breakages: tuple[Breakage, ...], seed: int, every_seconds: float, lasts_seconds: float) -> None:
        super().__init__(name="chaos", daemon=True)
        assert breakages, "nothing to break"
        self._breakages = breakages
        self._rng = Random(f"{seed}/chaos")
        self._every_seconds = every_seconds
        self._lasts_seconds = lasts_seconds
        self._stopping = Event()
        self._started_at = time.monotonic()
        self.events: list[ChaosEvent] = []

    def run(self) -> None:
        """Half to one and a half times the seconds asked for pass between two steps."""
        while not self._pause(self._every_seconds) and len(self.events) < EVENTS_MAX:
            breakage = self._rng.choice(self._breakages)
            self._do(breakage.breaks)
            self._pause(self._lasts_seconds)
            self._do(breakage.mends)

    def stop(self) -> list[ChaosEvent]:
        """Mends what is broken and returns what was done."""
        self._stopping.set()
        self.join()
        return self.events

    def _pause(self, seconds: float) -> bool:
        return self._stopping.wait(seconds * (0.5 + self._rng.random()))

    def _do(self, command: str) -> None:
        event = ChaosEvent(round(time.monotonic() - self._started_at, 1), command)
        self.events.append(event)
        try:
            # What a command leaves running in the background must not be waited for: no pipes.
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                timeout=COMMAND_SECONDS_MAX, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            event.failure = f"took more than {COMMAND_SECONDS_MAX:g} s"
            return
        if done.returncode:
            event.failure = f"exit code {done.returncode}"
