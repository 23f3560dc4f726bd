"""The machine's calls one by one, on a network that loses nothing."""

from __future__ import annotations

import pytest

from base.errors import ProposalDropped
from kvtier.raft import FOLLOWER, LEADER, ConfChange, Step
from kvtier.raft.messages import ADD_VOTER, AUTO, REMOVE
from tests.kvtier.raft.cluster import booted, group


def test_a_group_elects_and_replicates() -> None:
    cluster = group(3)
    assert cluster.nodes[1].raft.campaign()
    cluster.settle()
    assert [node.raft.role for node in cluster.nodes.values()] == [LEADER, FOLLOWER, FOLLOWER]
    assert cluster.nodes[1].raft.propose(b"a") == 3
    assert cluster.nodes[1].raft.propose(b"b") == 4
    cluster.settle()
    assert [node.disk.commands for node in cluster.nodes.values()] == [[(3, b"a"), (4, b"b")]] * 3


def test_a_single_voter_commits_without_messages() -> None:
    cluster = group(1)
    node = cluster.nodes[1]
    node.raft.campaign()
    cluster.settle()
    node.raft.propose(b"a")
    ready, messages = node.take_ready()
    assert messages == []
    assert [entry.data for entry in ready.entries] == [b"a"]
    assert ready.committed == []
    node.sync()
    assert [entry.data for entry in node.raft.ready().committed] == [b"a"]


def test_the_leaders_own_entry_counts_only_after_its_sync() -> None:
    """Reliability 50."""
    cluster = group(3)
    leader = cluster.nodes[1]
    leader.raft.campaign()
    cluster.settle()
    leader.raft.propose(b"a")
    _, messages = leader.take_ready()
    first = next(message for message in messages if message.to == 2)
    cluster.nodes[2].raft.step(first)
    for reply in cluster.nodes[2].handle():
        leader.raft.step(reply)
    assert leader.raft.log.commit == 2
    leader.sync()
    assert leader.raft.log.commit == 3


def test_proposals_are_refused_with_their_reason() -> None:
    cluster = group(3, entry_bytes_max=10, uncommitted_bytes_max=15)
    with pytest.raises(ProposalDropped) as dropped:
        cluster.nodes[1].raft.propose(b"a")
    assert dropped.value.reason == "no leader"
    cluster.nodes[1].raft.campaign()
    cluster.settle()
    with pytest.raises(ProposalDropped) as dropped:
        cluster.nodes[2].raft.propose(b"a")
    assert (dropped.value.reason, dropped.value.lead) == ("not leader", 1)
    leader = cluster.nodes[1].raft
    with pytest.raises(ProposalDropped) as dropped:
        leader.propose(b"x" * 11)
    assert dropped.value.reason == "too large"
    leader.propose(b"x" * 10)
    with pytest.raises(ProposalDropped) as dropped:
        leader.propose(b"x" * 6)
    assert dropped.value.reason == "uncommitted tail full"
    leader.propose(b"x" * 5)
    cluster.settle()
    leader.propose(b"x" * 10)
    leader.transfer_leader(2)
    with pytest.raises(ProposalDropped) as dropped:
        leader.propose(b"x")
    assert (dropped.value.reason, dropped.value.lead) == ("transferring", 2)


def test_leadership_is_handed_over() -> None:
    cluster = group(3)
    cluster.nodes[1].raft.campaign()
    cluster.settle()
    cluster.nodes[1].raft.propose(b"a")
    cluster.nodes[1].raft.transfer_leader(3)
    cluster.settle()
    assert cluster.nodes[3].raft.role == LEADER
    assert cluster.nodes[3].disk.commands == [(3, b"a")]


def test_reads_get_the_commit_index_of_a_confirmed_leader() -> None:
    cluster = group(3)
    cluster.nodes[1].raft.campaign()
    cluster.settle()
    cluster.nodes[1].raft.propose(b"a")
    cluster.settle()
    cluster.nodes[1].raft.read_index(b"r1")
    cluster.nodes[2].raft.read_index(b"r2")
    cluster.settle()
    assert cluster.nodes[1].reads == [(3, b"r1")]
    assert cluster.nodes[2].reads == [(3, b"r2")]


def test_voters_are_exchanged_through_a_joint_configuration() -> None:
    from tests.kvtier.raft.cluster import Node, SeededRng

    cluster = group(3)
    cluster.nodes[1].raft.campaign()
    cluster.settle()
    empty = booted([])
    empty.log.truncated_index = empty.applied = 0
    empty.log.truncated_term = 0
    empty.state.commit = empty.state.term = 0
    cluster.nodes[4] = Node(4, empty, SeededRng(4))
    leader = cluster.nodes[1].raft
    cluster.nodes[1].disk.truncate(2)
    leader.propose_conf_change(ConfChange([Step(ADD_VOTER, 4), Step(REMOVE, 3)], AUTO))
    cluster.settle()
    assert leader.conf.describe() == "voters=(1 2 4)"
    leader.propose(b"a")
    cluster.settle()
    assert [cluster.nodes[id].disk.commands[-1:] for id in (1, 2, 4)] == [[(5, b"a")]] * 3
