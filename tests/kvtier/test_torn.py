"""The end of a log after a crash: torn is mended, damaged is refused (reliability 110)."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from base.errors import StorageFailure
from base.seams import CF_DATA, CF_LOCK
from kvtier.engine import wal
from kvtier.engine.rocks import RocksEngine
from kvtier.engine.torn import mend

CACHE_BYTES = 1 << 20


class Written:
    """A store whose batches 0 .. synced-1 were synced, copied as a power loss finds it."""

    def __init__(self, directory: Path, synced: int, unsynced: int, size: int = 40, seed: int = 1) -> None:
        rng = Random(seed)
        path = directory / "store"
        engine = RocksEngine(str(path), CACHE_BYTES)
        self.synced = synced
        self.total = synced + unsynced
        for number in range(self.total):
            if number == synced:
                engine.sync()
            batch = engine.batch()
            batch.put(CF_DATA, b"k%05d" % number, rng.randbytes(size))
            batch.put(CF_LOCK, b"l%05d" % number, b"")
            engine.write(batch)
            if number == synced - 1:
                self.synced_bytes = log_of(path).stat().st_size
        if not unsynced:
            engine.sync()
            engine.mark_synced()
        self.path = directory / "copy"
        shutil.copytree(path, self.path, ignore=shutil.ignore_patterns("LOCK"))
        engine.close()
        self.log = log_of(self.path)
        self.size = self.log.stat().st_size

    def change(self, offset: int, data: bytes) -> None:
        with self.log.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def recovered(self) -> int:
        """Opens the store; returns how many batches it has, which must be the first so many."""
        engine = RocksEngine(str(self.path), CACHE_BYTES)
        try:
            for cf, name in ((CF_DATA, b"k%05d"), (CF_LOCK, b"l%05d")):
                found = [engine.get(cf, name % number) is not None for number in range(self.total)]
                count = sum(found)
                assert found == [True] * count + [False] * (self.total - count), "batches are missing in the middle"
            return count
        finally:
            engine.close()


def log_of(path: Path) -> Path:
    return max(path.glob("*.log"), key=lambda file: file.stat().st_size)


def test_the_checksum_is_castagnolis():
    """The check value of RFC 3720."""
    assert wal.crc32c(b"123456789") == 0xE3069283
    assert wal.crc32c(b"") == 0


def test_batches_are_found_whole_and_in_order(tmp_path: Path):
    written = Written(tmp_path, 20, 5, size=9_000)
    found = list(wal.batches(written.log.read_bytes()))
    assert len(found) == written.total
    assert [batch.first for batch in found[1:]] == [batch.next for batch in found[:-1]]
    assert found[-1].end == written.size
    assert max(batch.synced for batch in found) == found[19].next - 1


def test_a_whole_log_is_left_alone(tmp_path: Path):
    written = Written(tmp_path, 10, 10)
    assert mend(written.path) == 0
    assert written.log.stat().st_size == written.size
    assert written.recovered() == 20


@pytest.mark.parametrize("size", [40, 9_000])
def test_a_torn_end_of_any_kind_opens(tmp_path: Path, size: int):
    """Cut at any byte; then nothing, zeros, or garbage: RocksDB alone refuses the last two."""
    written = Written(tmp_path / "whole", 8, 8, size)
    rng = Random(7)
    for number in range(30):
        attempt = tmp_path / str(number)
        shutil.copytree(written.path, attempt)
        log = attempt / written.log.name
        torn = rng.randint(written.synced_bytes, written.size)
        end = (b"", bytes(written.size - torn), rng.randbytes(rng.randint(1, 64)))[number % 3]
        log.write_bytes(log.read_bytes()[:torn] + end)
        mended = Written.__new__(Written)
        mended.path, mended.total = attempt, written.total
        assert mended.recovered() >= written.synced
        assert mended.recovered() >= written.synced, "it opens again, too"


def test_a_hole_in_what_was_not_synced_cuts_what_follows(tmp_path: Path):
    """The second block reached the disk and the first did not; RocksDB alone passes over zeros, silently."""
    written = Written(tmp_path, 10, 200, size=1_000)
    hole = written.synced_bytes + 5_000
    written.change(hole, bytes(wal.BLOCK_BYTES))
    assert 10 <= written.recovered() < 20


def test_damage_to_synced_batches_is_refused(tmp_path: Path):
    """A later batch says that they were synced: no store that lost acknowledged commits opens."""
    written = Written(tmp_path, 100, 5)
    whole = written.log.read_bytes()
    rng = Random(3)
    for _ in range(40):
        offset = rng.randrange(written.synced_bytes)
        for damage in (bytes((whole[offset] ^ 0x10,)), bytes(rng.randint(8, 300))):
            damaged = bytearray(whole)
            stop = min(offset + len(damage), written.synced_bytes)
            damaged[offset:stop] = damage[: stop - offset]
            if damaged == whole:
                continue
            written.log.write_bytes(damaged)
            with pytest.raises(StorageFailure, match="damaged at byte"):
                mend(written.path)


def test_the_last_sync_is_protected_by_its_mark(tmp_path: Path):
    written = Written(tmp_path, 50, 0)
    written.change(written.synced_bytes // 2, b"\xff\xff\xff")
    with pytest.raises(StorageFailure, match="damaged at byte"):
        RocksEngine(str(written.path), CACHE_BYTES)


def test_a_mark_is_enough_whatever_the_size_of_the_log(tmp_path: Path):
    """Only the end is read: damage long before it is RocksDB's to find, and it does."""
    written = Written(tmp_path, 400, 3, size=4_000)
    written.change(50_000, b"\xff" * 10)
    assert mend(written.path) == 0
    with pytest.raises(StorageFailure, match="could not open store directory"):
        RocksEngine(str(written.path), CACHE_BYTES)


def test_newer_logs_go_with_the_hole_before_them(tmp_path: Path):
    """The old log lost its unsynced end, the new one is there: what is in the new one came later."""
    written = Written(tmp_path, 10, 20)
    whole = written.log.read_bytes()
    found = list(wal.batches(whole))
    newer = written.path / f"{int(written.log.stem) + 50:06}.log"
    # A log is position-independent up to its blocks: these all lie in the first.
    newer.write_bytes(whole[found[20].start :])
    written.log.write_bytes(whole[: found[17].start])
    assert mend(written.path) == newer.stat().st_size + len(whole) - found[20].start
    assert newer.stat().st_size == 0
    assert written.recovered() == 17


def test_a_lost_end_of_an_old_log_that_was_synced_is_refused(tmp_path: Path):
    written = Written(tmp_path, 20, 10)
    whole = written.log.read_bytes()
    found = list(wal.batches(whole))
    newer = written.path / f"{int(written.log.stem) + 50:06}.log"
    newer.write_bytes(whole[found[20].start :])
    written.log.write_bytes(whole[: found[17].start])
    with pytest.raises(StorageFailure, match="damaged at byte"):
        mend(written.path)
