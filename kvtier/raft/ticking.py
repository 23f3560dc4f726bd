"""The ticks of all groups of a node: only those that are awake cost anything.

    ticker.add(range_id, machine)      a replica begins
    ticker.touch(range_id)             something was asked of it, or arrived for it
    ticker.tick() -> ids               time passes; these have something to do

A machine that has fallen asleep leaves the list of the next tick by itself; whoever calls
one (a message, a proposal, a read, the word that a store's support has begun or ended)
touches it, and it is back.

Invariant: a group that is not asleep is in the list.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from kvtier.raft.machine import Raft


class Ticker:
    """The groups of a node, by range id."""

    def __init__(self) -> None:
        self._groups: dict[int, Raft] = {}
        self._awake: dict[int, Raft] = {}
        """Those that are ticked, in the order in which they woke."""

    def add(self, id: int, raft: Raft) -> None:
        self._groups[id] = raft
        self._awake[id] = raft

    def remove(self, id: int) -> None:
        self._groups.pop(id, None)
        self._awake.pop(id, None)

    def get(self, id: int) -> Raft | None:
        return self._groups.get(id)

    def touch(self, id: int) -> None:
        """The group is awake, or about to be: its next tick counts."""
        if id not in self._awake and id in self._groups:
            self._awake[id] = self._groups[id]

    def wake(self, ids: list[int]) -> None:
        """Support given to, or had from, a member's store has begun or ended (reliability 74)."""
        for id in ids:
            raft = self._groups.get(id)
            if raft is not None:
                raft.wake()
                self._awake[id] = raft

    def awake_count(self) -> int:
        return len(self._awake)

    def tick(self) -> list[int]:
        """Ticks every group that is awake; returns the ids of those that have a Ready."""
        busy: list[int] = []
        asleep: list[int] = []
        for id, raft in self._awake.items():
            raft.tick()
            if raft.is_quiesced:
                asleep.append(id)
            elif raft.has_ready():
                busy.append(id)
        for id in asleep:
            del self._awake[id]
        return busy
