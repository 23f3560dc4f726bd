"""What one part promises, where the story of a whole group would hide it."""

from __future__ import annotations

import pytest

from base.errors import ProposalDropped
from kvtier.raft import Entry, MemoryLog, Message, Snapshot
from kvtier.raft.config import READS_MAX
from kvtier.raft.log import RaftLog
from kvtier.raft.messages import Append, AppendReply, ConfState, HardState, InstallSnapshot
from kvtier.raft.progress import PROBE, REPLICATE, SNAPSHOT, Progress, Window
from kvtier.raft.ticking import Ticker
from tests.kvtier.raft.cluster import Disk, Group, Node, SeededRng, group
from tests.kvtier.raft.stores import StoreLiveness, Stores


def led(voters: int, **options: int | bool) -> Group:
    cluster = group(voters, **options)
    cluster.nodes[1].raft.campaign()
    cluster.settle()
    return cluster


def with_log(id: int, terms: list[int], voters: list[int]) -> Node:
    """A replica that holds entries of these terms from index 1 on, none known to be committed."""
    disk = Disk()
    disk.conf = ConfState(voters)
    disk.log.append([Entry(term, index) for index, term in enumerate(terms, 1)])
    disk.state = HardState(max(terms, default=0), 0, 0)
    return Node(id, disk, SeededRng(id))


def refusals(leader: Node, follower: Node) -> int:
    """Elects the leader and counts the probes it takes to bring the follower's log into line."""
    leader.raft.campaign()
    count = 0
    for _ in range(1000):
        moved = False
        for node in (leader, follower):
            while node.raft.has_ready() or node.syncing:
                moved = True
                for message in node.handle():
                    count += isinstance(message, AppendReply) and message.reject
                    (follower if message.to == follower.id else leader).raft.step(message)
        if not moved:
            break
    assert follower.disk.log.stored == leader.disk.log.stored
    return count


def test_a_long_divergent_tail_of_one_term_takes_one_probe() -> None:
    """Reliability 55: 300k entries took ten hours, one by one."""
    leader = with_log(1, [1, 1] + [3] * 3000, [1, 2])
    follower = with_log(2, [1, 1] + [2] * 4000, [1, 2])
    assert refusals(leader, follower) <= 2


def test_a_divergent_tail_of_many_terms_takes_logarithmically_many_probes() -> None:
    """Each hint skips one term here; the doubling step does the rest."""
    leader = with_log(1, [1] + list(range(3, 2003, 2)), [1, 2])
    follower = with_log(2, [1] + list(range(2, 2002, 2)), [1, 2])
    assert refusals(leader, follower) <= 14


def step_old_tail() -> Node:
    """A follower with an uncommitted tail hears of a leader that has confirmed less of it."""
    follower = with_log(3, [1, 1, 1, 1], [1, 2, 3])
    follower.raft.step(Append(1, 3, 2, 2, 1, 4, []))
    return follower


def check_old_tail() -> None:
    replies: list[Message] = step_old_tail().handle()
    assert replies == [AppendReply(3, 1, 2, 2, 2)]


def test_an_old_tail_is_neither_acknowledged_nor_committed() -> None:
    check_old_tail()


def test_an_old_append_cuts_nothing() -> None:
    follower = with_log(3, [1, 1, 1, 1], [1, 2, 3])
    follower.raft.step(Append(1, 3, 1, 1, 1, 0, [Entry(1, 2)]))
    assert follower.raft.log.last_index() == 4


def test_a_snapshot_that_stalls_is_given_up() -> None:
    """Reliability 68; one that moves is not."""
    cluster = led(3, snapshot_ticks_max=5)
    leader = cluster.nodes[1]
    leader.raft.propose(b"a")
    cluster.settle()
    progress = leader.raft.progress[3]
    progress.become_snapshot(3)
    for _ in range(20):
        leader.raft.report_snapshot_progress(3)
        leader.raft.tick()
        progress.is_active = leader.raft.progress[2].is_active = True
    assert progress.state == SNAPSHOT
    for _ in range(6):
        leader.raft.tick()
    assert progress.state == PROBE


def test_a_snapshot_that_cannot_be_had_is_asked_for_again() -> None:
    cluster = led(3)
    leader = cluster.nodes[1]
    lost = cluster.nodes.pop(3)
    leader.raft.propose(b"a")
    cluster.settle()
    leader.disk.truncate(3)
    leader.disk.log.is_busy = True
    leader.raft.report_unreachable(3)
    cluster.nodes[3] = lost
    for _ in range(3):
        leader.raft.tick()
        cluster.settle()
    assert leader.raft.progress[3].state == PROBE
    leader.disk.log.is_busy = False
    for _ in range(3):
        leader.raft.tick()
        cluster.settle()
    assert leader.raft.progress[3].state == REPLICATE
    assert lost.disk.commands == [(3, b"a")]


def test_snapshots_that_are_old_or_not_for_us_are_answered_and_ignored() -> None:
    cluster = led(3)
    follower = cluster.nodes[2]
    follower.raft.step(InstallSnapshot(1, 2, 2, Snapshot(1, 1, ConfState([1, 2, 3]))))
    follower.raft.step(InstallSnapshot(1, 2, 2, Snapshot(9, 2, ConfState([1, 3]))))
    assert [reply.index for reply in follower.handle() if isinstance(reply, AppendReply)] == [2, 2]
    assert follower.raft.log.snapshot is None


def test_the_uncommitted_tail_is_accounted_exactly() -> None:
    """Reliability 55: what is left over would one day refuse every proposal."""
    cluster = led(3, uncommitted_bytes_max=100, prevote=False, check_quorum=False)
    leader = cluster.nodes[1].raft
    for size in (0, 1, 50, 49):
        leader.propose(b"x" * size)
    assert leader.uncommitted.bytes == 100
    with pytest.raises(ProposalDropped):
        leader.propose(b"x")
    leader.propose(b"")
    cluster.settle()
    assert leader.uncommitted.bytes == 0
    # A tail that another leader left is accounted too.
    leader.propose(b"y" * 60)
    cluster.nodes[1].handle()
    cluster.nodes[1].crash(1000)
    cluster.nodes[1].raft.campaign()
    cluster.settle()
    assert cluster.nodes[1].raft.uncommitted.bytes == 0
    assert cluster.nodes[2].disk.commands[-1][1] == b"y" * 60


def test_windows_are_bounded_in_messages_and_in_bytes() -> None:
    window = Window(3, 100)
    window.add(5, 60)
    assert not window.is_full()
    window.add(6, 60)
    assert window.is_full()
    window.free_to(5)
    assert (window.count(), window.bytes, window.is_full()) == (1, 60, False)
    window.add(7, 1)
    window.add(8, 1)
    assert window.is_full()
    window.free_to(100)
    assert (window.count(), window.bytes) == (0, 0)


def test_a_window_that_is_never_empty_does_not_grow() -> None:
    window = Window(1 << 62, 1 << 62)
    for index in range(10_000):
        window.add(index, 3)
        window.free_to(index - 10)
    assert (window.count(), window.bytes) == (10, 30)
    assert len(window._indexes) < 1000


def test_news_of_a_follower_that_are_old_change_nothing() -> None:
    progress = Progress(2, 11, False, 10, 1000)
    progress.become_replicate()
    assert progress.acknowledge(7)
    assert not progress.acknowledge(6)
    assert not progress.refuse(5, 3)
    assert (progress.match, progress.next) == (7, 8)
    progress.become_probe()
    assert not progress.refuse(9, 3)
    assert progress.refuse(7, 3)
    assert progress.next == 8


def test_reads_are_bounded() -> None:
    cluster = led(3)
    for number in range(READS_MAX):
        cluster.nodes[1].raft.read_index(b"%d" % number)
    with pytest.raises(ProposalDropped):
        cluster.nodes[1].raft.read_index(b"more")
    cluster.settle()
    assert len(cluster.nodes[1].reads) == READS_MAX


def test_the_tail_in_memory_is_bounded_and_the_rest_is_read() -> None:
    cluster = led(3, tail_bytes_max=1000)
    leader = cluster.nodes[1].raft
    for _ in range(50):
        for _ in range(10):
            leader.propose(b"x" * 100)
        cluster.settle()
    assert leader.log.tail_bytes <= 20 * 100
    assert [entry.index for entry in leader.log.entries(3, 502, 1 << 20)] == list(range(3, 502))
    assert len(leader.log.entries(100, 502, 1160)) == 10


def test_the_last_place_of_a_term_is_found_where_a_walk_finds_it() -> None:
    storage = MemoryLog()
    storage.append([Entry(term, index) for index, term in enumerate([1, 1, 2, 2, 2, 5, 5, 9], 1)])
    log = RaftLog(storage, 0, 0, 1000)
    for index in range(10):
        for term in range(11):
            place = min(index, 8)
            while place > 0 and log.term(place) > term:
                place -= 1
            assert log.last_at_or_below(index, term) == place


def sleeping_groups(count: int) -> tuple[Ticker, list[Group], Stores]:
    stores = Stores()
    for one in (1, 2, 3):
        for other in (1, 2, 3):
            stores.heartbeat(one, other, True)
    groups = []
    ticker = Ticker()
    for number in range(count):
        cluster = group(3, seed=number)
        for node in cluster.nodes.values():
            node.liveness = StoreLiveness(stores, node.id)
            node.raft = node.start()
        cluster.nodes[1].raft.campaign()
        cluster.settle()
        groups.append(cluster)
        for node in cluster.nodes.values():
            ticker.add(number * 10 + node.id, node.raft)
    return ticker, groups, stores


def test_groups_with_nothing_to_do_are_not_even_looked_at() -> None:
    """Reliability 74."""
    ticker, groups, stores = sleeping_groups(5)
    for _ in range(20):
        ticker.tick()
        for cluster in groups:
            cluster.settle()
    assert ticker.awake_count() == 0
    assert ticker.tick() == []
    # A proposal wakes one group, and it falls asleep again.
    groups[3].nodes[1].raft.propose(b"a")
    ticker.touch(31)
    assert ticker.tick() == [31]
    groups[3].settle()
    for _ in range(20):
        ticker.tick()
        groups[3].settle()
    assert ticker.awake_count() == 0
    # Store 1 is gone: the word wakes those who counted on it, and they elect another leader.
    ticker.wake([2, 3])
    stores.now += 100
    for one in (2, 3):
        for other in (2, 3):
            stores.heartbeat(one, other, True)
    gone = groups[0].nodes.pop(1)
    for _ in range(60):
        ticker.tick()
        groups[0].settle()
    assert groups[0].nodes[2].raft.lead in (2, 3)
    assert gone.raft.is_quiesced
