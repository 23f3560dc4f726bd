"""One sync serves everything written before it began, and nothing written after."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from base.errors import AmbiguousResult, StorageFailure
from kvtier.commit_group import CommitGroup
from tests.kvtier.kvloop import Loop


class Disk:
    """Just the part of an engine that group commit uses."""

    sync_event = -1

    def begin_sync(self):
        return False

    def __init__(self):
        self.written = 0
        self.syncs = 0
        self.marks = 0
        self.fails = False

    def write_seq(self):
        return self.written

    def sync(self):
        self.syncs += 1
        if self.fails:
            raise StorageFailure("disk is full")

    def mark_synced(self):
        self.marks += 1


def group_of():
    loop, disk = Loop(), Disk()
    fatal = []
    return SimpleNamespace(loop=loop, disk=disk, fatal=fatal, group=CommitGroup(disk, loop, fatal.append))


async def waiting(awaitable):
    await awaitable


def test_what_is_durable_is_answered_at_once():
    case = group_of()
    assert case.group.wait(0) is None


def test_commits_of_one_tick_share_a_sync():
    case = group_of()
    tasks = []
    for _ in range(8):
        case.disk.written += 1
        tasks.append(case.loop.start(waiting(case.group.wait(case.disk.written))))
    case.loop.run()
    assert all(task.done and task.error is None for task in tasks)
    assert case.disk.syncs == 1
    assert case.group.synced_seq == 8


def test_a_commit_during_a_sync_waits_for_the_next_one():
    case = group_of()
    case.disk.written = 1
    first = case.loop.start(waiting(case.group.wait(1)))
    case.loop.settle()
    case.disk.written = 2
    second = case.loop.start(waiting(case.group.wait(2)))
    case.loop.settle()
    case.loop.advance()
    case.loop.settle()
    assert first.done
    assert not second.done
    case.loop.run()
    assert second.done
    assert case.disk.syncs == 2


def test_idle_costs_nothing():
    case = group_of()
    case.disk.written = 1
    case.loop.finish(case.group.wait(1))
    case.loop.run()
    assert not case.loop.timers
    assert case.disk.syncs == 1


def test_the_last_sync_is_marked_once():
    """However many syncs a busy moment has, one mark follows (kvtier.engine.torn needs it)."""
    case = group_of()
    for seq in range(1, 5):
        case.disk.written = seq
        case.loop.finish(case.group.wait(seq))
    assert case.disk.marks == 0
    case.loop.run()
    assert (case.disk.syncs, case.disk.marks) == (4, 1)


def test_a_failed_sync_is_ambiguous_for_all_and_fatal_once():
    """reliability, section 0, item 5: a second sync would succeed and lie."""
    case = group_of()
    case.disk.fails = True
    case.disk.written = 2
    tasks = [case.loop.start(waiting(case.group.wait(seq))) for seq in (1, 2)]
    case.loop.run()
    assert [task.error.__class__ for task in tasks] == [AmbiguousResult, AmbiguousResult]
    assert tasks[0].error.sqlstate == "40003"
    assert len(case.fatal) == 1
    case.disk.fails = False
    with pytest.raises(AmbiguousResult):
        case.loop.finish(case.group.wait(3))
    assert case.disk.syncs == 1


def test_a_cancelled_waiter_does_not_disturb_the_others():
    case = group_of()
    case.disk.written = 1
    first = case.loop.start(waiting(case.group.wait(1)))
    second = case.loop.start(waiting(case.group.wait(1)))
    case.loop.settle()
    first.cancel()
    case.loop.run()
    assert second.done
    assert second.error is None
