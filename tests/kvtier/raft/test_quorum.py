"""The arithmetic of majorities against counting, and configurations against their definition."""

from __future__ import annotations

import itertools
import random

from kvtier.raft.confchange import Configuration, changed, is_leaving
from kvtier.raft.messages import ADD_LEARNER, ADD_VOTER, AUTO, EXPLICIT, IMPLICIT, REMOVE, UPDATE, ConfChange, Step
from kvtier.raft.quorum import LOST, PENDING, UNLIMITED, WON, joint_reached, joint_vote, reached, vote


def is_quorum(voters: list[int], some: tuple[int, ...]) -> bool:
    return 2 * len([id for id in voters if id in some]) > len(voters) or not voters


def counted(voters: list[int], values: dict[int, int]) -> int:
    """The greatest value that more than half have, by trying every one."""
    if not voters:
        return UNLIMITED
    tried = [0, *values.values()]
    return max(value for value in tried if 2 * sum(values.get(id, 0) >= value for id in voters) > len(voters))


def voted(voters: list[int], outgoing: list[int], votes: dict[int, bool]) -> int:
    """Won or lost if every way of voting of the others ends so."""
    open_ids = sorted({*voters, *outgoing} - set(votes))
    outcomes = []
    for rest in itertools.product([False, True], repeat=len(open_ids)):
        whole = {**votes, **dict(zip(open_ids, rest, strict=True))}
        yes = tuple(id for id in whole if whole[id])
        outcomes.append(is_quorum(voters, yes) and is_quorum(outgoing, yes))
    return WON if all(outcomes) else PENDING if any(outcomes) else LOST


def test_commit_indexes_are_what_counting_gives() -> None:
    rng = random.Random(1)
    for _ in range(10_000):
        voters = sorted(rng.sample(range(1, 9), rng.randrange(8)))
        outgoing = sorted(rng.sample(range(1, 9), rng.randrange(6)))
        values = {id: rng.randrange(10) for id in range(1, 9) if rng.random() < 0.8}
        assert reached(voters, values) == counted(voters, values)
        assert joint_reached(voters, outgoing, values) == min(counted(voters, values), counted(outgoing, values))


def test_votes_are_decided_when_nobody_can_change_them() -> None:
    """A joint vote may be lost earlier than either half sees alone; it is never decided wrongly."""
    rng = random.Random(2)
    for _ in range(3_000):
        voters = sorted(rng.sample(range(1, 7), rng.randrange(6)))
        outgoing = sorted(rng.sample(range(1, 7), rng.randrange(5)))
        votes = {id: rng.random() < 0.5 for id in range(1, 7) if rng.random() < 0.6}
        assert vote(voters, votes) == voted(voters, [], votes)
        said, true = joint_vote(voters, outgoing, votes), voted(voters, outgoing, votes)
        assert said == true, f"{voters=} {outgoing=} {votes=}"


def quorums(conf: Configuration) -> list[tuple[int, ...]]:
    """Every set of voters that decides in a configuration."""
    ids = conf.all_voters()
    sets = itertools.chain.from_iterable(itertools.combinations(ids, n) for n in range(1, len(ids) + 1))
    return [some for some in sets if is_quorum(conf.voters, some) and is_quorum(conf.outgoing, some)]


def test_neighbouring_configurations_share_a_voter_in_every_two_quorums() -> None:
    """What makes changes safe: nothing decided before a change can be contradicted right after it."""
    rng = random.Random(3)
    made = 0
    for _ in range(60):
        conf = Configuration([1, 2, 3], [], [], [], False)
        for _ in range(10):
            steps = [
                Step(rng.choice([ADD_VOTER, ADD_LEARNER, REMOVE, UPDATE]), rng.randrange(6))
                for _ in range(rng.randrange(4))
            ]
            change = ConfChange(steps, rng.choice([AUTO, AUTO, IMPLICIT, EXPLICIT]))
            if conf.is_joint() and rng.random() < 0.7:
                change = ConfChange()
            after, reason = changed(conf, change)
            if after is None:
                assert reason
                continue
            made += 1
            after.check()
            assert is_leaving(change) != after.is_joint() or not after.is_joint()
            # One element of each pair of smallest quorums suffices: larger ones contain them.
            for one in quorums(conf):
                for other in quorums(after):
                    assert any(id in other for id in one), f"{conf.describe()} -> {after.describe()}: {one} {other}"
            conf = after
    assert made > 200


def test_leaving_gives_what_was_asked_for() -> None:
    """Entering and leaving a joint configuration ends where the steps alone would, whatever they are."""
    rng = random.Random(4)
    for _ in range(2_000):
        conf = Configuration([1, 2, 3], [], [4], [], False)
        steps = [Step(rng.choice([ADD_VOTER, ADD_LEARNER, REMOVE]), rng.randint(1, 6)) for _ in range(4)]
        role = {1: "v", 2: "v", 3: "v", 4: "l"}
        for step in steps:
            if step.kind == REMOVE:
                role.pop(step.id, None)
            else:
                role[step.id] = "v" if step.kind == ADD_VOTER else "l"
        joint, reason = changed(conf, ConfChange(steps, EXPLICIT))
        voters = sorted(id for id in role if role[id] == "v")
        if joint is None:
            # Refused as soon as no voter is left, at the end.
            assert voters == [], f"{steps=} {reason=}"
            continue
        after, _ = changed(joint, ConfChange())
        assert after is not None
        assert after.voters == voters
        assert after.learners == sorted(id for id in role if role[id] == "l")
