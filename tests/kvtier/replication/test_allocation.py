"""Where replicas should be, case by case; and that a range gets there from anywhere, step by safe step."""

from __future__ import annotations

import random

import pytest

from kvtier.messages import Members
from kvtier.replication.allocation import (
    DEAD,
    LEAVING,
    LIVE,
    SILENT,
    Move,
    NodeState,
    Replicas,
    allocate,
    next_move,
    voters_wanted,
)
from kvtier.replication.constraints import Span, SpanConfig, SpanConfigs

NINE = "a a a b b b c c c"
THREE = "a b c"
ANYWHERE = SpanConfig()
ZONE = SpanConfig(3, (("a", 3),), False, ("a", "b", "c"), ("a",))
REGION = SpanConfig(5, (("a", 2),), True, ("a", "b", "c"), ("a",))
CONFINED = SpanConfig(3, (("a", 3),), False, ("a",), ("a",), "a")
NONE = Replicas(())


def nodes_of(text: str) -> list[NodeState]:
    """``a a b? c! d-``: regions of nodes 1, 2, ..; ? is silent, ! is dead, - is leaving."""
    found = []
    for node_id, word in enumerate(text.split(), 1):
        liveness = {"?": SILENT, "!": DEAD, "-": LEAVING}.get(word[-1], LIVE)
        found.append(NodeState(node_id, word.rstrip("?!-"), "", liveness))
    return found


CASES = [
    # Nothing asked: far apart; an even number is no better than one less.
    (ANYWHERE, "a", NONE, "1 |"),
    (ANYWHERE, "a a", NONE, "1 |"),
    (ANYWHERE, "a a b b c", NONE, "1 3 5 |"),
    (ANYWHERE, "a a b b", NONE, "1 2 3 |"),
    (ANYWHERE, "a a b b c", Replicas((2, 4, 5)), "2 4 5 |"),
    # Survives a zone: all voters at home, a copy in every other region.
    (ZONE, NINE, NONE, "1 2 3 | 4 7"),
    (ZONE, NINE, Replicas((3, 5, 9), (8,)), "1 2 3 | 5 8"),
    (ZONE, NINE, Replicas((1, 2, 3), (6, 9)), "1 2 3 | 6 9"),
    # Too few nodes at home: better elsewhere than too few.
    (ZONE, THREE, NONE, "1 2 3 |"),
    (ZONE, "a a b b c", NONE, "1 2 3 | 5"),
    (ZONE, "a", NONE, "1 |"),
    (ZONE, "a b", NONE, "1 | 2"),
    # Survives a region: two at home, never the majority in one.
    (REGION, NINE, NONE, "1 2 4 5 7 |"),
    (REGION, "a a a b c", NONE, "1 4 5 |"),
    (REGION, THREE, NONE, "1 2 3 |"),
    (REGION, "a a a b b b c c c d d d", NONE, "1 2 4 7 10 |"),
    # Confined: never elsewhere, even if that is too few.
    (CONFINED, NINE, NONE, "1 2 3 |"),
    (CONFINED, "a b c", Replicas((1, 2, 3)), "1 |"),
    # A silent node keeps what it has and gets nothing; a dead one is replaced, if there is another.
    (ANYWHERE, "a b? c d", Replicas((1, 2, 3)), "1 2 3 |"),
    (ANYWHERE, "a b? c d", NONE, "1 3 4 |"),
    (ANYWHERE, "a b! c d", Replicas((1, 2, 3)), "1 3 4 |"),
    (ANYWHERE, "a b! c", Replicas((1, 2, 3)), "1 3 |"),
    (ZONE, "a a a! b b b c c c", Replicas((1, 2, 3), (4, 7)), "1 2 4 | 7"),
    # One that leaves gets nothing and is replaced, if there is another.
    (ANYWHERE, "a b c d-", NONE, "1 2 3 |"),
    (ANYWHERE, "a b- c d", Replicas((1, 2, 3)), "1 3 4 |"),
    (ZONE, "a a a- b b b c c c-", Replicas((1, 2, 3), (4, 9)), "1 2 4 | 7"),
]


@pytest.mark.parametrize(("config", "text", "current", "wanted"), CASES)
def test_where_replicas_should_be(config: SpanConfig, text: str, current: Replicas, wanted: str) -> None:
    found = allocate(config, nodes_of(text), current, dict)
    voters, learners = wanted.split("|")
    assert found == Replicas(tuple(map(int, voters.split())), tuple(map(int, learners.split())))


def test_the_least_loaded_of_equals_is_taken() -> None:
    assert allocate(ANYWHERE, nodes_of("a a b b c c"), NONE, lambda: {1: 3, 2: 1, 3: 2, 4: 2, 5: 9}).voters == (2, 3, 6)


MOVES = [
    (ANYWHERE, "a b c", Replicas((1,)), (), Move(2, Members.ADD)),
    (ANYWHERE, "a b c", Replicas((1,), (2,)), (2,), Move(3, Members.ADD)),
    (ANYWHERE, "a b c", Replicas((1,), (2, 3)), (3,), Move(3, Members.PROMOTE)),
    (ANYWHERE, "a b c", Replicas((1,), (2, 3)), (), None),
    (ANYWHERE, "a b c! d", Replicas((1, 2, 3)), (), Move(4, Members.ADD)),
    (ANYWHERE, "a b c! d", Replicas((1, 2, 3), (4,)), (4,), Move(4, Members.PROMOTE)),
    (ANYWHERE, "a b c! d", Replicas((1, 2, 3, 4)), (), Move(3, Members.REMOVE)),
    (ANYWHERE, "a b c?", Replicas((1, 2, 3)), (), None),
    # Home is region a, the leaseholder's, and the others are elsewhere.
    (ZONE, NINE, Replicas((1, 4, 7)), (), Move(2, Members.ADD)),
    (ZONE, NINE, Replicas((1, 4, 7), (2, 3)), (2,), Move(2, Members.PROMOTE)),
    (ZONE, NINE, Replicas((1, 2, 4, 7), (3,)), (3,), Move(4, Members.DEMOTE)),
    (ZONE, NINE, Replicas((1, 2, 7), (3, 4)), (3,), Move(3, Members.PROMOTE)),
    (ZONE, NINE, Replicas((1, 2, 3, 7), (4,)), (), Move(7, Members.DEMOTE)),
    (ZONE, NINE, Replicas((1, 2, 3), (4, 7)), (), None),
    (ZONE, NINE, Replicas((1, 2, 3), (4, 5, 7)), (), Move(5, Members.REMOVE)),
    # One that leaves goes after its successor has come, one step after the other; without one it stays.
    (ANYWHERE, "a b- c d", Replicas((1, 2, 3)), (), Move(4, Members.ADD)),
    (ANYWHERE, "a b- c d", Replicas((1, 2, 3), (4,)), (), None),
    (ANYWHERE, "a b- c d", Replicas((1, 2, 3), (4,)), (4,), Move(4, Members.PROMOTE)),
    (ANYWHERE, "a b- c d", Replicas((1, 2, 3, 4)), (4,), Move(2, Members.REMOVE)),
    (ANYWHERE, "a- b c d", Replicas((1, 2, 3, 4)), (2, 3, 4), Move(2, None)),
    (ANYWHERE, "a b- c", Replicas((1, 2, 3)), (), None),
    (ANYWHERE, "a b- c? d", Replicas((1, 2, 3, 4)), (4,), None),
    # While a voter is silent no other one goes.
    (ZONE, "a a a b b b c? c c", Replicas((1, 2, 3, 4, 7)), (), None),
]


@pytest.mark.parametrize(("config", "text", "current", "ready", "move"), MOVES)
def test_the_next_step(
    config: SpanConfig, text: str, current: Replicas, ready: tuple[int, ...], move: Move | None
) -> None:
    assert next_move(config, nodes_of(text), current, 1, lambda node_id: node_id in ready, dict)[0] == move


def test_a_lease_goes_home_before_its_replica_goes() -> None:
    everybody = lambda node_id: True  # noqa: E731
    assert next_move(ZONE, nodes_of(NINE), Replicas((1, 2, 3, 7), (4,)), 7, everybody, dict)[0] == Move(1, None)
    assert next_move(REGION, nodes_of(NINE), Replicas((1, 2, 4, 5, 7)), 4, everybody, dict)[0] == Move(1, None)
    assert next_move(REGION, nodes_of("a! a? a b b b c c c"), Replicas((1, 2, 4, 5, 7)), 4, lambda n: False, dict)[
        0
    ] == Move(3, Members.ADD)


@pytest.mark.parametrize("seed", range(300))
def test_a_range_gets_where_it_should_be_from_anywhere(seed: int) -> None:
    """Steps are taken until there is none; on the way no majority is lost, and at the end nothing moves."""
    rng = random.Random(seed)
    nodes = [NodeState(i, rng.choice("abc"), rng.choice("xy")) for i in range(1, rng.randint(2, 10))]
    config = rng.choice([ANYWHERE, ZONE, REGION, CONFINED])
    ids = [node.node_id for node in nodes]
    if rng.random() < 0.4:
        leaving = rng.choice(nodes)
        nodes = [node._replace(liveness=LEAVING) if node is leaving else node for node in nodes]
    rng.shuffle(ids)
    count = min(rng.choice([1, 3, 5]), len(ids))
    voters, learners = sorted(ids[:count]), sorted(ids[count : count + rng.randint(0, 2)])
    own = voters[0]
    for _ in range(60):
        current = Replicas(tuple(voters), tuple(learners))
        move, is_well = next_move(config, nodes, current, own, lambda node_id: rng.random() < 0.7, dict)
        if is_well:
            break
        if move is None:
            continue
        least = min(voters_wanted(config, nodes), len(voters))
        if move.members is None:
            assert move.node_id in voters
            own = move.node_id
        elif move.members == Members.ADD:
            learners = sorted([*learners, move.node_id])
        elif move.members == Members.PROMOTE:
            learners.remove(move.node_id)
            voters = sorted([*voters, move.node_id])
        else:
            assert move.node_id != own
            place = voters if move.node_id in voters else learners
            place.remove(move.node_id)
            if move.members == Members.DEMOTE:
                learners = sorted([*learners, move.node_id])
        assert len(voters) >= least
        assert len(voters) + len(learners) >= min(2, len(nodes), 1 + len(current.all()) - 1)
    wanted = allocate(config, nodes, Replicas(tuple(voters), tuple(learners)), dict)
    if len(wanted.all()) > 1 and len(wanted.voters) == voters_wanted(config, nodes):
        assert Replicas(tuple(voters), tuple(learners)) == wanted
        regions = {node.node_id: node.region for node in nodes}
        homes = [node_id for node_id in voters if regions[node_id] == "a"]
        if config.lease_regions and homes:
            assert regions[own] == "a"


def test_spans_say_what_is_asked_of_a_key() -> None:
    spans = SpanConfigs(
        [Span(b"d", b"f", ZONE), Span(b"f", b"g", ZONE), Span(b"g", b"h", REGION), Span(b"m", b"n", ANYWHERE)]
    )
    assert [spans.config(key) for key in (b"", b"c", b"d", b"fz", b"g", b"h", b"m")] == [
        ANYWHERE, ANYWHERE, ZONE, ZONE, REGION, ANYWHERE, ANYWHERE,
    ]  # fmt: skip
    assert spans.border(b"", b"\xff") == b"d"
    assert spans.border(b"d", b"\xff") == b"g"
    assert spans.border(b"g", b"h") is None
    assert spans.border(b"h", b"\xff") is None
    assert SpanConfigs().border(b"", b"\xff") is None
    assert SpanConfigs([], REGION).config(b"x") == REGION
