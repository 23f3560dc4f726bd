"""Offsets of clocks: what a beat says, and when a node must stop itself (reliability 47, and 4.2 (59))."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtier.rpc.clocks import SAMPLE_AGE_MAX_NS, ClockMonitor, Offset, measure
from kvtier.rpc.frames import Beat
from tests.transport.test_contract import echo
from tests.transport.worlds import SETTINGS, SimWorld, World

MS = 1_000_000
YEARS_10 = 10 * 365 * 86400 * 10**9


@given(
    offset=st.integers(-(10**12), 10**12),
    out=st.integers(0, 10**9),
    held=st.integers(0, 10**9),
    back=st.integers(0, 10**9),
    epoch=st.integers(0, 2**62),
)
def test_the_true_offset_lies_within_the_error(offset: int, out: int, held: int, back: int, epoch: int) -> None:
    """However the two ways share the round trip."""
    sent, wall = 5_000, epoch
    peer_wall = wall + out + held + offset
    beat = Beat(sent_ns=77, wall_ns=peer_wall, echo_ns=sent, held_ns=held)
    sample = measure(beat, sent + out + held + back, wall + out + held + back)
    assert sample is not None
    assert abs(sample.offset_ns - offset) <= sample.error_ns
    assert sample.error_ns <= (out + back + 1) // 2


@pytest.mark.parametrize(
    "beat",
    [Beat(1, 1, 0, 0), Beat(1, 1, 10**12, 0), Beat(1, 1, 5, -1), Beat(1, 1, 5, 10**12), Beat(1, 1, -(10**12), 0)],
)
def test_beats_that_say_nothing(beat: Beat) -> None:
    assert measure(beat, 1_000, 1_000) is None


def monitor_with(*offsets_ms: float, error_ms: float = 1.0) -> ClockMonitor:
    monitor = ClockMonitor(250 * MS)
    for node_id, offset in enumerate(offsets_ms, start=2):
        monitor.note(node_id, Offset(round(offset * MS), round(error_ms * MS), 0))
    return monitor


@pytest.mark.parametrize(
    ("offsets_ms", "must_stop"),
    [
        ((), False),
        ((199.0,), False),
        ((202.0,), True),  # with one peer neither knows who is wrong
        ((-202.0,), True),
        ((300.0, 0.0), False),  # one of two: that one is wrong, not this node
        ((300.0, 300.0), True),
        ((300.0, 300.0, 0.0), True),
        ((300.0, 300.0, 0.0, 0.0), False),
        ((300.0, -300.0, 300.0, 0.0), True),
    ],
)
def test_who_strays_from_most_peers_stops(offsets_ms: tuple[float, ...], must_stop: bool) -> None:
    assert (monitor_with(*offsets_ms).verdict(1) is not None) == must_stop


def test_doubt_is_no_proof() -> None:
    """An offset that the round trip could explain stops nobody."""
    assert monitor_with(300.0, error_ms=150.0).verdict(1) is None
    assert monitor_with(400.0, error_ms=150.0).verdict(1) is not None


def test_the_most_exact_of_the_recent_samples_counts() -> None:
    monitor = ClockMonitor(250 * MS)
    for error, at in ((50, 1), (3, 2), (40, 3)):
        monitor.note(2, Offset(error * MS, error * MS, at))
    assert monitor.offset(2, 10) == Offset(3 * MS, 3 * MS, 2)
    assert monitor.offset(2, SAMPLE_AGE_MAX_NS + 3) == Offset(40 * MS, 40 * MS, 3)
    assert monitor.offset(2, SAMPLE_AGE_MAX_NS + 10) is None
    assert monitor.verdict(SAMPLE_AGE_MAX_NS + 10) is None
    monitor.forget(2)
    assert monitor.offsets(10) == {}


@pytest.mark.parametrize("error_ns", [-300 * MS, 300 * MS, YEARS_10])
def test_a_node_with_a_wrong_clock_is_told_and_the_others_are_not(error_ns: int) -> None:
    """Three nodes, far from each other; node 3's clock is off."""
    world = SimWorld()
    settings = msgspec.structs.replace(SETTINGS, beat_seconds=1.0, silence_seconds=3.0)

    async def main(world: World) -> list[Any]:
        assert isinstance(world, SimWorld)
        nodes = [await world.start(at, settings, register=echo) for at in (1, 2, 3)]
        verdicts: dict[int, str] = {}
        for node in nodes:
            node.on_stray = lambda why, node_id=node.node_id: verdicts.setdefault(node_id, why)
            for other in nodes:
                if other is not node:
                    world.conditions.set_extra_delay(node.node_id, other.node_id, 0.04)
                    await node.call(other.node_id, "kv.echo", b"", 10)
        await world.clock.sleep(5.0)
        assert verdicts == {}
        world.scope_of(nodes[2]).clock.offset_ns = error_ns
        await world.clock.sleep(60.0)
        assert list(verdicts) == [3]
        assert "away from those of 2 of 2 peers" in verdicts[3]
        return nodes

    world.run(main)
