"""Syncs through the kernel: only of a log that flush_wal has synced once, and told of once they are over."""

from __future__ import annotations

import os
import select

import pytest

from base.errors import StorageFailure
from base.seams import CF_DATA
from kvtier.engine import logsync
from kvtier.engine.logsync import LogSync, open_log_sync
from kvtier.engine.rocks import RocksEngine

SECONDS_MAX = 30


@pytest.fixture
def sync(tmp_path):
    opened = open_log_sync(str(tmp_path))
    if opened is None:
        pytest.skip("this machine has no asynchronous fdatasync")
    yield opened
    opened.close()


def ended(sync: LogSync) -> bool:
    """Waits for the event and takes the outcome."""
    assert select.select([sync.event], [], [], SECONDS_MAX)[0], "the sync does not end"
    return sync.end()


def adopt(sync: LogSync) -> None:
    sync.look()
    sync.adopt()


def test_a_log_is_synced_after_it_was_adopted(sync, tmp_path):
    log = tmp_path / "000004.log"
    log.write_bytes(b"first")
    assert not sync.begin(), "the first sync of a log is flush_wal's"
    adopt(sync)
    for _ in range(3):
        with log.open("ab") as file:
            file.write(b"more")
        assert sync.begin()
        assert sync.is_running
        assert ended(sync)
        assert not sync.is_running


def test_nothing_has_ended_before_anything_began(sync):
    assert not sync.end()


def test_a_new_file_sends_the_next_sync_the_long_way(sync, tmp_path):
    (tmp_path / "000004.log").write_bytes(b"first")
    adopt(sync)
    (tmp_path / "000009.log").write_bytes(b"second")
    assert not sync.begin()
    adopt(sync)
    assert sync.begin()
    assert ended(sync)
    assert os.readlink(f"/proc/self/fd/{sync._request.file}").endswith("000009.log")


def test_a_log_made_between_look_and_adopt_is_not_missed(sync, tmp_path):
    (tmp_path / "000004.log").write_bytes(b"first")
    sync.look()
    (tmp_path / "000009.log").write_bytes(b"second")
    sync.adopt()
    assert not sync.begin()


def test_the_newest_log_is_the_one_of_the_highest_number(sync, tmp_path):
    for name in ("000099.log", "000100.log", "LOG", "MANIFEST-000200", "x.log"):
        (tmp_path / name).write_bytes(b"")
    sync.look()
    assert os.readlink(f"/proc/self/fd/{sync._candidate}").endswith("000100.log")


def fail_next(sync: LogSync) -> int:
    """Puts a file that cannot be synced in the log's place; returns the other end of the pipe."""
    read_end, write_end = os.pipe()
    os.close(sync._file)
    sync._file = write_end
    return read_end


def test_a_failed_sync_raises(sync, tmp_path):
    (tmp_path / "000004.log").write_bytes(b"first")
    adopt(sync)
    read_end = fail_next(sync)
    with pytest.raises(OSError, match="Invalid"):
        assert sync.begin()
        ended(sync)
    os.close(read_end)


def test_without_the_kernels_help_every_sync_is_flush_wal(tmp_path, monkeypatch):
    monkeypatch.setattr(logsync.sys, "platform", "darwin")
    assert open_log_sync(str(tmp_path)) is None


@pytest.fixture
def engine(tmp_path):
    opened = RocksEngine(str(tmp_path / "store"))
    if opened.sync_event < 0:
        pytest.skip("this machine has no asynchronous fdatasync")
    yield opened
    opened.close()


def put(engine, number):
    batch = engine.batch()
    batch.put(CF_DATA, b"key%06d" % number, bytes(1000))
    engine.write(batch)


def finish(engine):
    assert select.select([engine.sync_event], [], [], SECONDS_MAX)[0]
    assert engine.end_sync()


def test_an_engine_syncs_through_the_kernel_once_its_log_is_known(engine):
    put(engine, 1)
    assert not engine.begin_sync()
    engine.sync()
    assert engine.synced_seq() == engine.write_seq()
    put(engine, 2)
    assert engine.begin_sync()
    put(engine, 3)
    finish(engine)
    assert engine.synced_seq() == engine.write_seq() - 1, "what was written after the sync began is not covered"


def logs_of(engine):
    return {name for name in os.listdir(engine.path) if name.endswith(".log")}


def test_a_rotated_log_is_synced_by_flush_wal_first(engine):
    """The log turns over inside a write: the batches of both logs must be synced."""
    put(engine, 0)
    engine.sync()
    logs = logs_of(engine)
    kernel = long_way = turns = 0
    for number in range(70_000):
        put(engine, number)
        if number % 500:
            continue
        now = logs_of(engine)
        has_turned = bool(now - logs)
        logs = now
        turns += has_turned
        if engine.begin_sync():
            assert not has_turned, "a new log was taken for the old one"
            kernel += 1
            finish(engine)
        else:
            long_way += 1
            engine.sync()
        assert engine.synced_seq() == engine.write_seq()
    assert turns, "the log never turned over"
    assert kernel > long_way, (kernel, long_way)


def test_a_failed_sync_of_the_kernel_poisons_the_engine(engine):
    put(engine, 1)
    engine.sync()
    put(engine, 2)
    read_end = fail_next(engine._log_sync)
    with pytest.raises(StorageFailure):
        assert engine.begin_sync()
        finish(engine)
    with pytest.raises(StorageFailure):
        engine.get(CF_DATA, b"key000001")
    os.close(read_end)
