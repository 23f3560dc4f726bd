"""What the simulator holds nodes to: each promise broken once, and kept once."""

from __future__ import annotations

import pytest

from base.seams import CF_DATA
from kvtier.command import Command
from kvtier.engine.batch import PUT
from kvtier.mvcc.versions import version_key
from kvtier.raft.messages import AppendReply, Entry, Message, Vote, VoteReply, encode
from kvtier.replication.envelope import CHANNEL, Closed, Envelope, RaftItem, encode_envelope
from kvtier.replication.liveness import Supported
from sim.cli import Choices, make_plan
from sim.invariants import Violation
from sim.loop import Loop
from sim.promises import Promises
from sim.run import play

RANGE = 7


def say(promises: Promises, *messages: Message, supported: Supported | None = None, closed: list[Closed] = []) -> None:
    """Node 1 says something to node 2."""
    items = [RaftItem(RANGE, encode(message)) for message in messages]
    envelope = Envelope(0, items, None, supported, closed, [], [], False, None, [])
    promises.hear(1, 2, CHANNEL, encode_envelope(envelope))
    promises.check_heard()


def writes(index: int, term: int, ts: int) -> Entry:
    """Returns an entry that puts a version."""
    command = Command([(PUT, CF_DATA, version_key(b"bank/01", ts), b"1")])
    return Entry(term, index, encode(command))


def test_a_replica_votes_once_in_a_term() -> None:
    promises = Promises()
    say(promises, VoteReply(1, 2, 5), VoteReply(1, 2, 5), VoteReply(1, 3, 6))
    say(promises, VoteReply(1, 3, 7, pre=True), VoteReply(1, 2, 7, reject=True), VoteReply(1, 2, 7))
    with pytest.raises(Violation, match="votes once"):
        say(promises, VoteReply(1, 3, 7))


def test_who_campaigns_has_voted_for_itself() -> None:
    promises = Promises()
    say(promises, Vote(1, 2, 5, 10, 4, pre=True), VoteReply(1, 3, 5), Vote(1, 2, 6, 10, 4))
    with pytest.raises(Violation, match="votes once"):
        say(promises, VoteReply(1, 3, 6))


def test_an_epoch_is_withdrawn_for_ever() -> None:
    promises = Promises()
    say(promises, supported=Supported(3, 1000))
    say(promises, supported=Supported(4, 0))
    say(promises, supported=Supported(4, 2000))
    with pytest.raises(Violation, match="withdrawn"):
        say(promises, supported=Supported(3, 2000))


def test_nothing_is_written_below_what_was_closed_before() -> None:
    promises = Promises()
    say(promises, closed=[Closed(RANGE, 2, 10, 1000)])
    # What was in the log at the time may be below, and what comes after is above.
    promises.check_entry(RANGE, writes(10, 2, 900))
    promises.check_entry(RANGE, writes(11, 2, 1001))
    with pytest.raises(Violation, match="below what is closed"):
        promises.check_entry(RANGE, writes(11, 2, 1000))
    with pytest.raises(Violation, match="below what is closed"):
        promises.check_entry(RANGE, writes(5, 3, 900))


def test_a_promise_of_an_earlier_term_that_comes_late_binds_later_terms() -> None:
    promises = Promises()
    say(promises, closed=[Closed(RANGE, 3, 4, 500)])
    say(promises, closed=[Closed(RANGE, 2, 10, 1000)])
    with pytest.raises(Violation, match="below what is closed"):
        promises.check_entry(RANGE, writes(5, 3, 900))


def test_what_was_intended_before_may_be_resolved_below() -> None:
    promises = Promises()
    say(promises, closed=[Closed(RANGE, 2, 10, 1000)])
    command = Command([(PUT, CF_DATA, version_key(b"bank/01", 900), b"1")], resolved=[(b"bank/01", b"txn")])
    promises.check_entry(RANGE, Entry(2, 11, encode(command)))


def test_other_messages_promise_nothing() -> None:
    promises = Promises()
    say(promises, AppendReply(1, 2, 5, 10, reject=True))
    promises.hear(1, 2, "kv", b"anything")


def test_watching_changes_nothing() -> None:
    """Whoever looks on draws nothing and takes no step."""

    def run(watches: bool) -> tuple[int, list[int]]:
        loop = Loop(3, explore=True)
        seen: list[int] = []
        if watches:
            end = loop.watch(lambda: seen.append(loop.now_ns), 0.25)
            loop.main.call_later(0.9, end)
        else:
            loop.main.call_later(0.9, lambda: None)
        for number in range(20):
            loop.main.call_later(number / 10, lambda: None)
        loop.run_for(3.0)
        return loop.digest, seen

    digest, seen = run(True)
    assert digest == run(False)[0]
    assert 3 <= len(seen) <= 5, seen


def test_a_restarted_store_keeps_the_support_it_was_told() -> None:
    """The end of an earlier withdrawal's sync took it away: bank, seed 3."""
    nemesis = ("crash", "pause", "partition")
    result = play(make_plan(3, Choices(("list-append", "bank"), nemesis, 10.0, nodes=3, regions=3)))
    assert result.failure == "", result.text
