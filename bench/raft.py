"""CPU of the Raft machines alone: entries through a group of three in one process, and ticks of ten thousand groups.

    python -m bench.raft        (or with PYTHONPATH=build/compiled for the compiled tree)

Each entry is proposed, sent to two followers, acknowledged, committed and handed out for
application on all three, so a figure is the work of three replicas together.  A number is
the best of ROUNDS of process CPU time.
"""

from __future__ import annotations

import random
import time

from base.seams import Rng
from kvtier.raft import Config, ConfState, HardState, Liveness, MemoryLog, Message, Raft, machine
from kvtier.raft.ticking import Ticker

ROUNDS = 5
ENTRIES = 4096
GROUPS = 10_000


class SeededRng(Rng):
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)

    def below(self, n: int) -> int:
        return self._random.randrange(n)

    def random(self) -> float:
        return self._random.random()


class Supported(Liveness):
    """Everybody supports everybody for ever."""

    def supports(self, peer: int, epoch: int) -> bool:
        return epoch == 1

    def epoch_of(self, peer: int) -> int:
        return 1

    def supported_until(self, peer: int, epoch: int) -> int:
        return 1 << 60

    def has_passed(self, until: int) -> bool:
        return until == 0


class Group:
    """Three replicas that hear each other at once."""

    def __init__(self, liveness: Liveness | None = None) -> None:
        self.logs = {id: MemoryLog() for id in (1, 2, 3)}
        conf = ConfState([1, 2, 3])
        self.rafts = {
            id: Raft(Config(id), log, HardState(), conf, 0, SeededRng(id), liveness) for id, log in self.logs.items()
        }
        self.rafts[1].campaign()
        self.settle()

    def settle(self) -> None:
        is_moving = True
        while is_moving:
            is_moving = False
            messages: list[Message] = []
            for id, raft in self.rafts.items():
                if raft.has_ready():
                    is_moving = True
                    ready = raft.ready()
                    self.logs[id].append(ready.entries)
                    messages += ready.messages
                    messages += ready.after_sync
                    raft.advance()
            for message in messages:
                self.rafts[message.to].step(message)


def entries(batch: int) -> float:
    """Seconds per entry when so many are proposed before each Ready."""
    best = 1e9
    for _ in range(ROUNDS):
        group = Group()
        leader = group.rafts[1]
        start = time.process_time()
        for _ in range(0, ENTRIES, batch):
            for _ in range(batch):
                leader.propose(b"x" * 100)
            group.settle()
        best = min(best, (time.process_time() - start) / ENTRIES)
        assert group.rafts[3].log.applied >= ENTRIES
    return best


def ticks() -> tuple[float, float]:
    """Seconds per tick of a node that leads GROUPS groups: with all of them awake, and asleep."""
    template = Group(Supported())
    ticker = Ticker()
    for id in range(GROUPS):
        log = MemoryLog()
        log.append(template.logs[2].stored)
        state = HardState(1, 1, log.last_index(), 1, 1)
        conf = ConfState([1, 2, 3])
        ticker.add(id, Raft(Config(2), log, state, conf, log.last_index(), SeededRng(id), Supported()))
    best_awake = best_asleep = 1e9
    for _ in range(Config(2).quiesce_ticks - 1):
        start = time.process_time()
        ticker.tick()
        best_awake = min(best_awake, time.process_time() - start)
    ticker.tick()
    assert ticker.awake_count() == 0
    for _ in range(1000):
        start = time.process_time()
        ticker.tick()
        best_asleep = min(best_asleep, time.process_time() - start)
    return best_awake, best_asleep


def main() -> None:
    print("compiled" if machine.__file__.endswith(".so") else "pure")
    for batch in (1, 4, 16, 64):
        seconds = entries(batch)
        print(f"{batch:3} entries a Ready: {1 / seconds:9,.0f} entries/s  {seconds * 1e6:5.1f} us each")
    awake, asleep = ticks()
    print(f"tick of {GROUPS:,} groups: awake {awake * 1e3:.1f} ms, asleep {asleep * 1e6:.1f} us")


if __name__ == "__main__":
    main()
