"""``meridian doctor``: is this machine fit, and is this store well?  Each line is OK, WARN or FAIL with what to do."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SYNC_SAMPLES: Final = 20
SYNC_WARN_MS: Final = 10.0
FILES_MIN: Final = 1024
FREE_WARN: Final = 0.10
FREE_FAIL: Final = 0.05
Finding = tuple[str, str, str]


def examine(store: str) -> int:
    """Prints every finding; exit code 1 if one of them is FAIL."""
    worst = 0
    for verdict, what, advice in findings(Path(store)):
        print(f"{verdict:4}  {what}" + (f"\n      {advice}" if advice else ""))
        worst = max(worst, verdict == "FAIL")
    return worst


def findings(store: Path) -> Iterator[Finding]:
    directory = store if store.exists() else store.absolute().parent
    yield _space(directory)
    yield _sync(directory)
    yield _files()
    yield _clock()
    yield _store(store)


def _space(directory: Path) -> Finding:
    usage = shutil.disk_usage(directory)
    share = usage.free / usage.total
    text = f"free space in {directory}: {usage.free / 2**30:.1f} GiB ({share:.0%})"
    if share < FREE_FAIL:
        return "FAIL", text, "The node refuses writes on a full disk; free some space."
    return ("WARN", text, "Less than a tenth is free.") if share < FREE_WARN else ("OK", text, "")


def _sync(directory: Path) -> Finding:
    path = directory / f".meridian-doctor-{os.getpid()}"
    samples = []
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(SYNC_SAMPLES):
                file.write(b"x" * 4096)
                begin = time.perf_counter()
                os.fdatasync(file.fileno())
                samples.append((time.perf_counter() - begin) * 1000)
    except OSError as problem:
        return "FAIL", f"cannot write to {directory}: {problem.strerror}", "Choose another --store directory."
    finally:
        path.unlink(missing_ok=True)
    median = statistics.median(samples)
    text = f"disk sync: median {median:.2f} ms, worst {max(samples):.2f} ms"
    return (
        ("WARN", text, "Every commit waits for a sync; a faster disk makes commits faster.")
        if median > SYNC_WARN_MS
        else ("OK", text, "")
    )


def _files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"open files: up to {soft}"
    return ("WARN", text, f"Raise it to at least {FILES_MIN} (ulimit -n).") if soft < FILES_MIN else ("OK", text, "")


def _clock() -> Finding:
    before, begin = time.time(), time.monotonic()
    time.sleep(0.2)
    drift = abs((time.time() - before) - (time.monotonic() - begin)) * 1000
    text = f"clock: wall and monotonic time agree within {drift:.1f} ms"
    return (
        ("WARN", text, "The wall clock is being stepped; use a clock daemon that slews.")
        if drift > 20
        else ("OK", text, "")
    )


def _store(store: Path) -> Finding:
    if not (store / "engine").exists():
        return "OK", f"store {store} does not exist yet", ""
    from base.errors import StorageFailure
    from kvtier.engine.rocks import RocksEngine

    try:
        engine = RocksEngine(str(store / "engine"))
    except StorageFailure as problem:
        if "in use by another process" in problem.message:
            return "WARN", problem.message, "A running node holds its store; stop it to examine the store itself."
        return "FAIL", problem.message, "A node cannot start on this store before this is cured."
    engine.close()
    return "OK", f"store {store} opens and its log is whole", ""
