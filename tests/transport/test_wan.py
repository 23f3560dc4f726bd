"""Tables of latency, and what can be done to the network between nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtier.rpc.conditions import Conditions
from kvtier.rpc.wan import LOCAL_RTT_MS, LatencyMatrix, builtin, from_table
from node.transport.wan import WanError, load


def test_the_builtin_table_is_whole_and_plausible() -> None:
    matrix = builtin()
    assert len(matrix.regions) == 10
    for one in matrix.regions:
        assert matrix.rtt_ms(one, one) == LOCAL_RTT_MS
        for other in matrix.regions:
            assert matrix.rtt_ms(one, other) == matrix.rtt_ms(other, one)
            if one != other:
                # Light in fibre does 100 km in a millisecond there and back; the Earth's circumference is 40,000 km.
                assert 5 <= matrix.rtt_ms(one, other) <= 400
    assert matrix.one_way_ns("us-east", "eu-gb") * 2 == matrix.rtt_ms("us-east", "eu-gb") * 1e6


def test_unknown_regions_are_local() -> None:
    assert builtin().rtt_ms("us-east", "the moon") == LOCAL_RTT_MS


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({}, "rtt_ms must hold"),
        ({"rtt_ms": {}}, "rtt_ms must hold"),
        ({"rtt_ms": 5}, "rtt_ms must hold"),
        ({"rtt_ms": {"a": 5}}, "rtt_ms must hold"),
        ({"rtt": {"a": {"b": 5}}}, "unknown table 'rtt'"),
        ({"rtt_ms": {"a": {"b": 5}}, "local": {"rtt": 1}}, "local may hold"),
        ({"rtt_ms": {"a": {"b": 5}}, "local": {"rtt_ms": -1}}, "not a number of milliseconds"),
        ({"rtt_ms": {"a": {"b": "5"}}}, "'5': not a number"),
        ({"rtt_ms": {"a": {"b": True}}}, "True: not a number"),
        ({"rtt_ms": {"a": {"b": float("nan")}}}, "nan: not a number"),
        ({"rtt_ms": {"a": {"b": 1e9}}}, "not a number"),
        ({"rtt_ms": {"a": {"a": 5}}}, "to itself"),
        ({"rtt_ms": {"a": {"b": 5}, "b": {"a": 6}}}, "two latencies between b and a: 5 and 6 ms"),
        ({"rtt_ms": {"a": {"b": 5, "c": 6}}}, "no latency from b to c"),
        ({"rtt_ms": {"a": {f"r{at}": 5 for at in range(200)}}}, "at most 100"),
    ],
)
def test_what_is_no_table(table: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        from_table(table)


def test_files(tmp_path: Path) -> None:
    toml, json = tmp_path / "wan.toml", tmp_path / "wan.json"
    toml.write_text("[rtt_ms.us]\neu = 70\nap = 150.5\n[rtt_ms.eu]\nap = 90\n[local]\nrtt_ms = 1\n")
    json.write_text('{"rtt_ms": {"us": {"eu": 70, "ap": 150.5}, "eu": {"ap": 90}}}')
    for path, local in ((toml, 1), (json, LOCAL_RTT_MS)):
        matrix = load(str(path))
        assert matrix.regions == ("ap", "eu", "us")
        assert (matrix.rtt_ms("ap", "us"), matrix.rtt_ms("us", "us")) == (150.5, local)
    assert load("builtin").regions == builtin().regions
    for name, text in (("a.toml", "x = = 1"), ("b.json", "[1]"), ("c.json", "{"), ("d.toml", "[rtt_ms]\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(WanError, match=name):
            load(str(tmp_path / name))
    with pytest.raises(WanError, match="No such file"):
        load(str(tmp_path / "nothing.toml"))


regions = st.sampled_from(["us", "eu", None])
actions = st.one_of(
    st.tuples(st.just("cut"), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.just("partition"), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.just("heal"), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.just("heal_all"), st.just(0), st.just(0)),
    st.tuples(st.just("loss"), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.just("extra"), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.just("latency"), st.integers(0, 1), st.just(0)),
)


@given(st.lists(actions, max_size=30), st.tuples(regions, regions, regions))
def test_conditions_against_plain_tables(steps: list[tuple[str, int, int]], where: tuple[str | None, ...]) -> None:
    conditions = Conditions()
    changes: list[None] = []
    conditions.watch(lambda: changes.append(None))
    matrix = LatencyMatrix({"us": {"eu": 70}})
    cut: dict[tuple[int, int], bool] = {}
    loss: dict[tuple[int, int], float] = {}
    extra: dict[tuple[int, int], int] = {}
    has_latency = False
    for what, one, other in steps:
        if what == "cut":
            conditions.cut(one, other)
            cut[one, other] = True
        elif what == "partition":
            conditions.partition(one, other)
            cut[one, other] = cut[other, one] = True
        elif what == "heal":
            conditions.heal(one, other)
            for pair in ((one, other), (other, one)):
                cut.pop(pair, None)
                loss.pop(pair, None)
        elif what == "heal_all":
            conditions.heal_all()
            cut, loss = {}, {}
        elif what == "loss":
            conditions.set_loss(one, other, 0.5)
            loss[one, other] = 0.5
        elif what == "extra":
            conditions.set_extra_delay(one, other, 0.25)
            extra[one, other] = 250_000_000
        else:
            has_latency = bool(one)
            conditions.set_latency(matrix if has_latency else None, lambda node_id: where[node_id - 1])
    assert len(changes) == len(steps)
    for source in (1, 2, 3):
        for target in (1, 2, 3):
            way = conditions.way(source, target)
            here, there = where[source - 1], where[target - 1]
            delay = extra.get((source, target), 0)
            if has_latency and here is not None and there is not None:
                delay += 35_000_000 if here != there else 1_000_000
            assert way.is_cut == cut.get((source, target), False)
            assert way.loss == loss.get((source, target), 0.0)
            assert way.delay_ns == delay
