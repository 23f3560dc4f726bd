"""What POST /faults does to a node: the network it sends into, its clock, its disk."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from kvtier.rpc.conditions import Conditions
from node.faults import FaultClock, FaultEngine, Faults

REGIONS = {1: "us", 2: "eu", 3: "ap"}


def make():
    conditions, clock, engine = Conditions(), FaultClock(), SimpleNamespace(sync_seconds=0.0)
    return SimpleNamespace(
        conditions=conditions, clock=clock, engine=engine, faults=Faults(1, conditions, REGIONS.get, clock, engine)
    )


def tell(case, **fault):
    case.faults.apply(json.dumps(fault).encode())


def test_a_cut_stops_what_this_node_sends_until_it_heals():
    case = make()
    tell(case, do="cut", to=[1, 2])
    assert case.conditions.way(1, 2).is_cut
    assert not case.conditions.way(2, 1).is_cut, "the other direction is the other node's"
    assert not case.conditions.way(1, 1).is_cut
    tell(case, do="heal")
    assert not case.conditions.way(1, 2).is_cut


def test_losses_and_delays():
    case = make()
    tell(case, do="lose", to=[3], odds=0.25)
    tell(case, do="delay", to=[3], ms=20)
    assert case.conditions.way(1, 3).loss == 0.25
    assert case.conditions.way(1, 3).delay_ns == 20_000_000


def test_another_table_of_latencies():
    case = make()
    tell(case, do="latency", rtt_ms={"us": {"eu": 80, "ap": 140}, "eu": {"ap": 60}})
    assert case.conditions.way(1, 2).delay_ns == 40_000_000
    tell(case, do="latency", rtt_ms=None)
    assert case.conditions.way(1, 2).delay_ns == 0


@pytest.mark.parametrize("ms", [250.0, -250.0])
def test_the_clock_is_wrong(ms):
    case = make()
    before = case.clock.wall_ns()
    tell(case, do="skew", ms=ms)
    assert case.clock.wall_ns() - before == pytest.approx(ms * 1e6, abs=5e9 if ms > 0 else 0.2e9)
    assert case.clock.offset_ns == ms * 1e6


def test_the_disk_is_slow(tmp_path):
    case = make()
    tell(case, do="slow-disk", ms=30)
    assert case.engine.sync_seconds == 0.03
    engine = FaultEngine(str(tmp_path))
    engine.sync_seconds = 0.01
    assert not engine.begin_sync(), "the kernel would not wait"
    engine.sync()
    engine.close()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[]",
        b'{"do": "explode"}',
        b'{"do": "cut"}',
        b'{"do": "cut", "to": ["x"]}',
        b'{"do": "lose", "to": [2], "odds": 2}',
        b'{"do": "delay", "to": [2], "ms": -1}',
        b'{"do": "skew", "ms": 1e9}',
        b'{"do": "latency", "rtt_ms": {"us": {"us": 3}}}',
    ],
)
def test_nonsense_is_refused(message):
    with pytest.raises(ValueError):
        make().faults.apply(message)
