"""Syncing RocksDB's current log without a thread: the kernel's asynchronous fdatasync.

``flush_wal(True)`` blocks, so it needs a thread, and a thread of a busy Python process waits for
the interpreter before and after its one system call, and makes the loop wait in turn.  Linux can
take the request instead (``io_submit`` with IOCB_CMD_FDSYNC, Linux 4.18) and signal an eventfd
that the loop watches:

    begin  ->  kernel: fdatasync of the log's inode ......  ->  eventfd readable  ->  end

What RocksDB does at a sync beyond fdatasync happens once per log file: earlier logs and the
directory are synced, too.  So a log may be synced here only after one ``flush_wal(True)`` that began
when it was the newest.  That it still is, inotify tells: the file of a new log is created inside the
write that rotates, before that write returns, and the kernel queues its event then and there.

    look    which log is the newest; no earlier event is left unread        (any thread)
            flush_wal(True)
    adopt   syncs of that log may go here                                   (any thread)
    begin   False if a file was created since ``look``                      (the loop)

Where the kernel, the C library or the file system does not offer it, ``open_log_sync`` gives None and
every sync goes through flush_wal.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import sys
import termios
from pathlib import Path
from typing import Any, Final

_CALLS: Final = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
"""Numbers of io_setup, io_destroy, io_getevents and io_submit."""
_IOCB_CMD_FDSYNC: Final = 3
_IOCB_FLAG_RESFD: Final = 1
_IN_CREATE: Final = 0x100
_IN_MOVED_TO: Final = 0x80
_EVENTS_BYTES: Final = 64 * 1024
"""Read at once; more events than that only mean that something was created."""


class _Request(ctypes.Structure):
    """struct iocb of linux/aio_abi.h, on a little-endian machine."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("file", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("result_file", ctypes.c_uint32),
    )


class _Event(ctypes.Structure):
    """struct io_event of linux/aio_abi.h."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("request", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class LogSync:
    """At most one sync at a time, of the newest log in a store's directory; see the module docstring.

    Raises OSError where the kernel refuses.  Everything is released by ``close``.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._library = ctypes.CDLL(None, use_errno=True)
        self._syscall: Any = self._library.syscall
        self._syscall.restype = ctypes.c_long
        self._numbers = _CALLS[platform.machine()]
        self._context = ctypes.c_ulong(0)
        self._events = (_Event * 1)()
        self._candidate = -1
        self._file = -1
        self.is_running = False
        self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable when a sync has ended; the loop watches it."""
        self._watch = self._checked(self._library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._checked(self._library.inotify_add_watch(self._watch, os.fsencode(directory), _IN_CREATE | _IN_MOVED_TO))
        self._checked(self._call(0, 1, ctypes.byref(self._context)))
        self._request = _Request(opcode=_IOCB_CMD_FDSYNC, flags=_IOCB_FLAG_RESFD, result_file=self.event)
        self._requests = (ctypes.POINTER(_Request) * 1)(ctypes.pointer(self._request))
        # Made once: each costs as much as the call.
        one = ctypes.c_long(1)
        self._submit = (ctypes.c_long(self._numbers[3]), self._context, one, self._requests)
        self._reap = (ctypes.c_long(self._numbers[2]), self._context, ctypes.c_long(0), one, self._events, None)
        self._unread = bytearray(4)

    def _call(self, which: int, *arguments: Any) -> int:
        return int(self._syscall(ctypes.c_long(self._numbers[which]), *arguments))

    def _checked(self, result: int) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    def _has_changed(self) -> bool:
        """True if a file was created since it was asked last."""
        # Asking for the number of unread bytes costs less than a read that fails.
        fcntl.ioctl(self._watch, termios.FIONREAD, self._unread)
        if not any(self._unread):
            return False
        os.read(self._watch, _EVENTS_BYTES)
        return True

    def look(self) -> None:
        """Notes which log is the newest; call it before flush_wal(True)."""
        while self._has_changed():
            pass
        self._forget(self._file)
        self._forget(self._candidate)
        self._file = self._candidate = -1
        logs = [path for path in self._directory.glob("*.log") if path.stem.isdigit()]
        if logs:
            newest = max(logs, key=lambda path: int(path.stem))
            self._candidate = os.open(newest, os.O_RDONLY | os.O_CLOEXEC)

    def adopt(self) -> None:
        """The flush_wal(True) after ``look`` has succeeded: that log may be synced here."""
        self._file, self._candidate = self._candidate, -1

    def begin(self) -> bool:
        """Asks the kernel to sync the log; False if it must be done the long way."""
        assert not self.is_running, "one sync at a time"
        if self._file < 0 or self._has_changed():
            return False
        self._request.file = self._file
        if self._checked(self._syscall(*self._submit)) != 1:
            return False
        self.is_running = True
        return True

    def end(self) -> bool:
        """Takes the outcome once ``event`` is readable; False if it has not ended yet."""
        try:
            os.read(self.event, 8)
        except BlockingIOError:
            return False
        if self._checked(self._syscall(*self._reap)) == 0:
            return False
        self.is_running = False
        result = int(self._events[0].result)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return True

    def _forget(self, file: int) -> None:
        if file >= 0:
            os.close(file)

    def close(self) -> None:
        """Waits for a sync under way and releases everything."""
        if self.event < 0:
            return
        self._call(1, self._context)
        for file in (self._file, self._candidate, self._watch, self.event):
            self._forget(file)
        self._file = self._candidate = self._watch = self.event = -1


def open_log_sync(directory: str) -> LogSync | None:
    """Returns a LogSync of a store's directory; None where it is not offered."""
    if not sys.platform.startswith("linux") or platform.machine() not in _CALLS or sys.byteorder != "little":
        return None
    try:
        return LogSync(Path(directory))
    except (OSError, AttributeError):
        return None
