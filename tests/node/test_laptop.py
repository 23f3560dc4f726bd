"""The prompt of a cluster on a laptop: scripts, places, what is told to whom; the cluster itself is in tests/real."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from node.laptop.chaos import Chaos
from node.laptop.cluster import DEAD, UP, Laptop, LaptopError
from node.laptop.command import _matrix
from node.laptop.prompt import Prompt, split
from node.transport.wan import WanError


class Quiet(Laptop):
    """Nodes without processes; keeps what would be told to them."""

    def __init__(self, directory, regions, nodes_per_region):
        super().__init__(directory, regions, nodes_per_region, "")
        self.said = []
        for node in self.nodes:
            node.node_id = node.number + 100
            node.state = UP

    def _tell(self, node, fault):
        self.said.append((node.number, fault))


@pytest.fixture
def laptop(tmp_path):
    return Quiet(tmp_path, ["us", "eu", "ap"], 2)


@pytest.fixture
def prompt(laptop):
    return Prompt(laptop, None, Console(file=io.StringIO(), width=200))


def printed(prompt):
    return prompt.console.file.getvalue()


def test_a_script_is_commands_by_line_and_statements_by_semicolon():
    assert split(["\\kill 1\nSELECT 1,\n  2;", "-- a remark", "\\wait 1", "TABLE t"]) == [
        "\\kill 1",
        "SELECT 1,\n  2;",
        "\\wait 1",
        "TABLE t",
    ]


def test_nodes_are_dealt_over_regions_and_zones(laptop):
    places = [(node.number, node.region, node.zone) for node in laptop.nodes]
    assert places == [
        (1, "us", "us-a"), (2, "eu", "eu-a"), (3, "ap", "ap-a"), (4, "us", "us-b"), (5, "eu", "eu-b"), (6, "ap", "ap-b"),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "numbers"), [("eu", [2, 5]), ("eu-b", [5]), ("3", [3]), ("n3", [3])])
def test_a_place_is_a_region_a_zone_or_a_node(laptop, name, numbers):
    assert [node.number for node in laptop.find(name)] == numbers


def test_a_partition_is_said_to_both_sides(prompt, laptop):
    assert prompt.obey("\\partition us eu")
    cuts = {node.number: sorted(node.cut_from) for node in laptop.nodes}
    assert cuts == {1: [102, 105], 2: [101, 104], 3: [], 4: [102, 105], 5: [101, 104], 6: []}
    assert (1, {"do": "cut", "to": [102, 105]}) in laptop.said
    assert prompt.obey("\\heal")
    assert not any(node.cut_from for node in laptop.nodes)


def test_a_partition_of_one_place_is_from_all_others(prompt, laptop):
    assert prompt.obey("\\partition ap")
    assert sorted(laptop.nodes[2].cut_from) == [101, 102, 104, 105]
    assert sorted(laptop.nodes[0].cut_from) == [103, 106]


def test_a_cut_is_one_way(prompt, laptop):
    assert prompt.obey("\\cut 1 2,3")
    assert [sorted(node.cut_from) for node in laptop.nodes[:3]] == [[102, 103], [], []]


def test_what_was_told_is_kept_for_a_restart(prompt, laptop):
    laptop.nodes[1].state = DEAD
    assert prompt.obey("\\skew eu -50")
    assert prompt.obey("\\latency us eu 30")
    assert laptop.nodes[1].told["skew"] == {"do": "skew", "ms": -50.0}
    assert 2 not in [number for number, _ in laptop.said], "a dead node cannot be told"
    assert (1, {"do": "delay", "to": [102, 105], "ms": 15.0}) in laptop.said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("\\explode", "unknown command"),
        ("\\kill", "expected 1 places"),
        ("\\kill mars", "mars is no region"),
        ("\\skew eu", "milliseconds is missing"),
        ("\\skew eu much", "could not convert"),
        ("\\latency", "FILE|builtin|off"),
        ("\\latency nowhere.toml", "cannot read nowhere.toml"),
        ("\\wait -1", "\\wait SECONDS"),
        ("\\bank", "the bank is closed"),
        ("\\partition us eu ap", "expected 1 or 2"),
        ('\\kill "', "No closing quotation"),
    ],
)
def test_what_cannot_be_obeyed_is_said(prompt, line, says):
    assert not prompt.obey(line)
    assert says in printed(prompt)


def test_a_script_ends_at_its_first_failure_or_at_quit(prompt):
    assert not prompt.run(["\\heal\n\\explode\n\\help"])
    assert "\\slow-disk" not in printed(prompt)
    assert prompt.run(["\\quit\n\\explode"])


def test_sizes_and_names_are_checked(tmp_path):
    for regions, count, says in ((["a"], 31, "31 nodes"), ([], 1, "0 nodes"), (["a", "a"], 1, "once")):
        with pytest.raises(LaptopError, match=says):
            Laptop(tmp_path, regions, count, "")


def test_a_region_without_a_latency_is_refused(tmp_path):
    with pytest.raises(WanError, match="for region mars"):
        _matrix("builtin", ["us-east", "mars"], tmp_path)
    matrix, source = _matrix("demo", ["us-east", "eu-west", "ap-south"], tmp_path)
    assert matrix is not None
    assert (matrix.rtt_ms("us-east", "ap-south"), matrix.rtt_ms("eu-west", "us-east")) == (140, 80)
    assert source.endswith("latency.toml")
    assert _matrix("off", ["mars"], tmp_path) == (None, "")


def test_chaos_breaks_one_thing_at_a_time_and_says_what_a_seed_does(laptop):
    def drawn(seed):
        chaos = Chaos(laptop, seed, lambda what: None)
        return [chaos.draw()[0] for _ in range(40)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert {line.split()[0] for line in drawn(1)} == {"kill", "pause", "skew", "slow", "partition", "cut"}
    chaos = Chaos(laptop, 1, lambda what: None)
    for _ in range(40):
        what, breaks, mends = chaos.draw()
        if not what.startswith(("kill", "pause")):  # These need processes.
            breaks()
            mends()
    assert not any(node.cut_from for node in laptop.nodes)
    assert all(fault.get("ms") == 0 for node in laptop.nodes for fault in node.told.values())
