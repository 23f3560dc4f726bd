"""Power loss for one process: takes away what its files held but never synced.

``Disk`` builds the shim (shim/shim.c), gives the environment to preload it with, and
after the process was killed reads its journal and damages the files as a power loss may::

    appended, unsynced    gone, or torn at any byte in one of the ways of ``TEARS``:
                            cut      the file ends there
                            zeros    the size is there, the blocks are not: zeros from there on
                            garbage  the file ends there, and its last bytes are anything
    overwritten, unsynced each 512-byte sector has its old or its new content
    a sync that failed    its bytes may be lost even if a later sync succeeds, for the kernel
                          may have marked the pages clean (reliability 1.5, "fsyncgate")

What was synced stays as it is.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

SOURCE = Path(__file__).parent / "shim" / "shim.c"
RECORD = struct.Struct("<c3xiQQQQQQ")
CONTROL = struct.Struct("<iiii")
SECTOR = 512
TEARS = ("cut", "zeros", "garbage")
GARBAGE_MAX = 64


@cache
def missing_reason() -> str | None:
    """Returns why the shim cannot be built here, or None."""
    if os.uname().sysname != "Linux":
        return "LD_PRELOAD is used on Linux only"
    return None if shutil.which("cc") else "there is no C compiler (cc)"


def build(directory: Path) -> Path:
    """Compiles the shim."""
    library = directory / "shim.so"
    subprocess.run(
        ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-lpthread"],
        check=True,
    )
    return library


@dataclass
class Dirty:
    """A write that no sync has covered; ``old`` is what stood at its start of the range."""

    sequence: int
    offset: int
    length: int
    old: bytes
    is_doomed: bool = False


@dataclass
class File:
    """What the journal says of one file: ``durable`` bytes are safe but for the dirty ranges among them."""

    durable: int
    reach: int
    dirty: list[Dirty] = field(default_factory=list)
    syncs: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Sync in progress -> (last sequence it covers, size it makes durable)."""


@dataclass
class Loss:
    """What a power loss took."""

    files: int = 0
    bytes: int = 0
    sectors: int = 0


def _records(journal: bytes) -> Iterator[tuple[str, int, tuple[int, int], int, int, int, int, bytes]]:
    """Yields (kind, result, file, offset, length, size before, sync id, old bytes)."""
    position = 0
    while position + RECORD.size <= len(journal):
        kind, result, device, inode, offset, length, size, extra = RECORD.unpack_from(journal, position)
        position += RECORD.size
        old = b""
        if kind == b"W":
            old = journal[position : position + extra]
            position += extra
        yield kind.decode(), result, (device, inode), offset, length, size, extra, old


def read_journal(journal: bytes) -> dict[tuple[int, int], File]:
    """Returns the state of each file at the end of the journal."""
    files: dict[tuple[int, int], File] = {}
    for sequence, (kind, result, name, offset, length, size, sync, old) in enumerate(_records(journal)):
        file = files.get(name)
        if kind == "N":
            files[name] = File(0, 0)
            continue
        if file is None:
            # Bytes and records of B and E have no size: the file was not written before them.
            file = files[name] = File(size, size) if kind in "WT" else File(-1, -1)
        elif file.durable < 0 and kind in "WT":
            file.durable = file.reach = size
        if kind == "W":
            file.dirty.append(Dirty(sequence, offset, length, old))
            file.reach = max(file.reach, offset + length)
        elif kind == "T":
            file.durable, file.reach = min(file.durable, length), length
            file.dirty = [dirty for dirty in file.dirty if dirty.offset < length]
        elif kind == "B":
            file.syncs[sync] = (sequence, file.reach)
        else:
            _end_sync(file, sync, result)
    return files


def _end_sync(file: File, sync: int, result: int) -> None:
    covered, size = file.syncs.pop(sync, (-1, -1))
    if result != 0:
        for dirty in file.dirty:
            dirty.is_doomed = dirty.is_doomed or dirty.sequence <= covered
        return
    file.durable = max(file.durable, min(size, file.reach))
    file.dirty = [dirty for dirty in file.dirty if dirty.sequence > covered or dirty.is_doomed]


class Disk:
    """The disk below ``root`` as one process sees it."""

    def __init__(self, root: Path, scratch: Path, library: Path | None = None) -> None:
        self.root = root.resolve()
        self.library = library or build(scratch)
        self.journal = scratch / "journal"
        self.control = scratch / "control"
        self.control.write_bytes(bytes(64))
        self.reset()
        self.control.chmod(0o666)

    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self.library),
            "SHIM_ROOT": str(self.root),
            "SHIM_JOURNAL": str(self.journal),
            "SHIM_CONTROL": str(self.control),
        }

    def reset(self) -> None:
        """Forgets the journal: all that is there now is durable."""
        if self.journal.exists():
            self.journal.replace(self.journal.with_suffix(".last"))
        self.journal.write_bytes(b"")
        # The server may run as another user.
        self.journal.chmod(0o666)

    def _set(self, position: int, value: int) -> None:
        with self.control.open("r+b") as file, mmap.mmap(file.fileno(), 64) as page:
            struct.pack_into("<i", page, 4 * position, value)

    def delay_syncs(self, milliseconds: int) -> None:
        self._set(0, milliseconds)

    def fail_syncs(self, count: int) -> None:
        self._set(1, count)

    def fill(self, writes: int) -> None:
        """The next so many writes find no space."""
        self._set(3, writes)

    @property
    def syncs(self) -> int:
        """Syncs so far."""
        return int(CONTROL.unpack_from(self.control.read_bytes())[2])

    def lose_power(self, rng: Random, tears: tuple[str, ...] = TEARS) -> Loss:
        """Damages the files; the process must be dead."""
        files = read_journal(self.journal.read_bytes())
        loss = Loss()
        for path in sorted(path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()):
            state = path.stat()
            file = files.get((state.st_dev, state.st_ino))
            if file is not None and file.durable >= 0:
                _damage(path, file, state.st_size, rng, tears, loss)
        self.reset()
        self._set(0, 0)
        self._set(1, 0)
        self._set(3, 0)
        return loss


def _damage(path: Path, file: File, size: int, rng: Random, tears: tuple[str, ...], loss: Loss) -> None:
    durable = min(file.durable, size)
    if size <= durable and not file.dirty:
        return
    loses_all = rng.random() < 0.5
    decided: dict[int, bool] = {}
    with path.open("r+b") as handle:
        # The newest first, so that the oldest content is what stays.
        for dirty in reversed(file.dirty):
            _undo(handle.fileno(), dirty, durable, decided, loses_all, rng)
        torn = durable if loses_all else rng.randint(durable, size)
        tear = "cut" if loses_all else rng.choice(tears)
        if tear == "garbage" and torn > durable:
            count = min(torn - durable, rng.randint(1, GARBAGE_MAX))
            os.pwrite(handle.fileno(), rng.randbytes(count), torn - count)
        os.ftruncate(handle.fileno(), torn)
        if tear == "zeros":
            os.ftruncate(handle.fileno(), size)
    loss.files += 1
    loss.bytes += size - torn
    loss.sectors += sum(decided.values())


def _undo(handle: int, dirty: Dirty, durable: int, decided: dict[int, bool], loses_all: bool, rng: Random) -> None:
    """Puts old bytes back below ``durable``, sector by sector as decided."""
    position, end = dirty.offset, min(dirty.offset + dirty.length, durable)
    while position < end:
        sector = position // SECTOR
        stop = min(end, (sector + 1) * SECTOR)
        if decided.setdefault(sector, loses_all or rng.random() < 0.5):
            start = position - dirty.offset
            old = dirty.old[start : start + stop - position]
            os.pwrite(handle, old.ljust(stop - position, b"\0"), position)
        position = stop
