"""The disk shim: what it takes for synced, what a power loss may take, and what it does to syncs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from .power_loss import RECORD, Disk, build, missing_reason, read_journal

REASON = missing_reason()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"{REASON}")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def disk(tmp_path: Path, library: Path) -> Disk:
    root, scratch = tmp_path / "root", tmp_path / "scratch"
    root.mkdir()
    scratch.mkdir()
    return Disk(root, scratch, library)


def run(disk: Disk, program: str) -> subprocess.CompletedProcess[str]:
    """Runs Python lines in a process on that disk; ``new(name)`` opens a file."""
    opening = "import os\ndef new(name, flags=os.O_CREAT): return os.open(name, os.O_RDWR | flags, 0o644)\n"
    return subprocess.run(
        [sys.executable, "-c", opening + program],
        cwd=disk.root,
        env=disk.environment(),
        capture_output=True,
        text=True,
        check=True,
    )


def outcomes(disk: Disk, program: str, tries: int = 40) -> list[bytes]:
    """Returns what file ``a`` may hold after power losses at the end of the program, in order of length."""
    seen = {}
    for seed in range(tries):
        (disk.root / "a").unlink(missing_ok=True)
        disk.reset()
        run(disk, program) if seed == 0 else _replay(disk)
        if seed == 0:
            _remember(disk)
        disk.lose_power(Random(seed))
        seen[(disk.root / "a").read_bytes()] = None
    return sorted(seen, key=lambda content: (len(content), content))


SAVED: dict[Path, tuple[bytes, bytes, int]] = {}


def _remember(disk: Disk) -> None:
    path = disk.root / "a"
    SAVED[disk.root] = (path.read_bytes(), disk.journal.read_bytes(), path.stat().st_ino)


def _replay(disk: Disk) -> None:
    """Puts file and journal back as they were before the power loss, without the process."""
    content, journal, inode = SAVED[disk.root]
    path = disk.root / "a"
    path.write_bytes(content)
    disk.journal.write_bytes(journal.replace(inode.to_bytes(8, "little"), path.stat().st_ino.to_bytes(8, "little")))


def test_synced_bytes_stay(disk: Disk):
    assert outcomes(disk, "f = new('a'); os.write(f, b'hello'); os.fsync(f)") == [b"hello"]
    assert outcomes(disk, "f = new('a'); os.write(f, b'hello'); os.fdatasync(f)") == [b"hello"]


def test_unsynced_appends_are_cut_anywhere(disk: Disk):
    found = outcomes(disk, "f = new('a'); os.write(f, b'hello'); os.fsync(f); os.write(f, b' world')")
    assert all(content.startswith(b"hello") for content in found)
    assert found[0] == b"hello"
    assert b"hello world" in found
    assert len({len(content) for content in found}) >= 4


def test_the_torn_end_may_be_zeros(disk: Disk):
    found = outcomes(disk, "f = new('a'); os.write(f, b'hello'); os.fsync(f); os.write(f, b' world')")
    zeros = [content for content in found if content.endswith(b"\0")]
    assert zeros
    assert all(len(content) == 11 and b"hello world".startswith(content.rstrip(b"\0")) for content in zeros)


def test_the_torn_end_may_be_garbage(disk: Disk):
    found = outcomes(disk, "f = new('a'); os.write(f, b'hello'); os.fsync(f); os.write(f, b' world')")
    assert any(not b"hello world".startswith(content.rstrip(b"\0")) for content in found)


def test_a_file_never_synced_may_be_empty(disk: Disk):
    assert outcomes(disk, "f = new('a'); os.write(f, b'hello')")[0] == b""


def test_unsynced_overwrites_are_undone_by_sector(disk: Disk):
    program = "f = new('a'); os.write(f, b'a' * 2048); os.fsync(f); os.pwrite(f, b'b' * 2048, 0)"
    found = outcomes(disk, program)
    assert b"a" * 2048 in found
    assert len(found) >= 4
    for content in found:
        assert all(content[at : at + 512] in (b"a" * 512, b"b" * 512) for at in range(0, 2048, 512))


def test_of_two_overwrites_the_oldest_content_comes_back(disk: Disk):
    program = "f = new('a'); os.write(f, b'1'); os.fsync(f); os.pwrite(f, b'2', 0); os.pwrite(f, b'3', 0)"
    assert outcomes(disk, program) == [b"1", b"3"]


def test_a_sync_covers_only_what_was_written_before_it(disk: Disk):
    program = "f = new('a'); os.write(f, b'1'); os.fsync(f); os.pwrite(f, b'2', 0); os.fsync(f); os.pwrite(f, b'3', 0)"
    assert outcomes(disk, program) == [b"2", b"3"]


def test_a_failed_sync_is_not_healed_by_the_next(disk: Disk):
    """reliability 1.5: the kernel may have marked the pages clean."""
    disk.fail_syncs(1)
    program = """
f = new('a'); os.write(f, b'hello')
try: os.fsync(f)
except OSError as problem: assert problem.errno == 5
else: raise AssertionError('no error')
os.fsync(f)
"""
    assert outcomes(disk, program) == [b"\0" * 5, b"hello"]


def test_files_from_before_are_durable(disk: Disk):
    (disk.root / "a").write_bytes(b"before")
    run(disk, "f = new('a', os.O_APPEND); os.write(f, b' after')")
    disk.lose_power(Random(1))
    assert (disk.root / "a").read_bytes().startswith(b"before")


def test_truncation_and_renames(disk: Disk):
    run(disk, "f = new('b'); os.write(f, b'hello'); os.fsync(f); os.ftruncate(f, 2); os.rename('b', 'a'); os.close(f)")
    disk.lose_power(Random(2))
    assert (disk.root / "a").read_bytes() == b"he"


def test_files_elsewhere_are_left_alone(disk: Disk, tmp_path: Path):
    run(disk, f"f = new({str(tmp_path / 'outside')!r}); os.write(f, b'hello')")
    assert disk.journal.read_bytes() == b""
    assert (tmp_path / "outside").read_bytes() == b"hello"


def test_all_kinds_of_writes_are_seen(disk: Disk):
    run(
        disk,
        "f = new('a'); os.write(f, b'1'); os.pwrite(f, b'2', 1); os.writev(f, [b'x', b'y']); os.pwritev(f, [b'3', b'4'], 3); os.fsync(f)",
    )
    (file,) = read_journal(disk.journal.read_bytes()).values()
    assert (file.durable, file.dirty) == (5, [])
    assert (disk.root / "a").read_bytes() == b"1xy34"


def test_syncs_can_be_slow_and_counted(disk: Disk):
    disk.delay_syncs(150)
    begin = time.monotonic()
    run(disk, "f = new('a'); os.write(f, b'1'); os.fsync(f); os.fdatasync(f)")
    assert time.monotonic() - begin >= 0.3
    assert disk.syncs == 2


def test_the_disk_can_be_full(disk: Disk):
    disk.fill(1)
    program = """
f = new('a')
try: os.write(f, b'1')
except OSError as problem: assert problem.errno == 28
else: raise AssertionError('no error')
os.write(f, b'2')
"""
    run(disk, program)
    assert (disk.root / "a").read_bytes() == b"2"


def test_writes_of_many_threads_are_whole_records(disk: Disk):
    program = """
import threading
def work(n):
    f = new(f't{n}')
    for i in range(200):
        os.write(f, bytes([n]) * (i % 50 + 1))
        if i % 10 == 0: os.fdatasync(f)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for t in threads: t.start()
for t in threads: t.join()
"""
    run(disk, program)
    files = read_journal(disk.journal.read_bytes())
    assert len(files) == 8
    for path in disk.root.iterdir():
        state = path.stat()
        file = files[state.st_dev, state.st_ino]
        assert file.reach == state.st_size
        assert [dirty.offset for dirty in file.dirty] == sorted(dirty.offset for dirty in file.dirty)
        assert len(file.dirty) == 9


def test_a_journal_cut_in_the_middle_is_read_to_there(disk: Disk):
    run(disk, "f = new('a'); os.write(f, b'hello'); os.fsync(f)")
    whole = disk.journal.read_bytes()
    assert len(whole) == 4 * RECORD.size
    (file,) = read_journal(whole[:-1]).values()
    assert (file.durable, len(file.dirty)) == (0, 1)
