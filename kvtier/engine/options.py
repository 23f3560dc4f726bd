"""RocksDB options of a store, for a machine of 2 cores and 24 GiB.

Idle residency stays below 100 MiB: memtables and block cache are bounds that fill with
use, and nothing is preallocated.

What each family is read for decides its table format:

    data   seeks to (key, timestamp).  A Bloom filter cannot help a seek whose prefix has no
           fixed length, so: small blocks, short restart intervals, index in memory.
    lock   gets of a key that is nearly always absent: Bloom filter on the whole key.
    raft   appended, read once in order, then deleted from the front: compaction is
           triggered by tombstones (reliability 113).
    local  small, hot, rewritten: Bloom filter.
"""

from __future__ import annotations

from typing import Any, Final

import rocksdict as rocks

from base.seams import CF_NAMES

KIB: Final = 1 << 10
MIB: Final = 1 << 20

BLOCK_CACHE_BYTES: Final = 512 * MIB
"""Default; shared by all families of a store, filled on demand."""
MEMTABLE_BYTES: Final = {"data": 64 * MIB, "lock": 8 * MIB, "raft": 32 * MIB, "local": 8 * MIB}
MEMTABLES_MAX: Final = 4
"""Memtables per family before writes stall: three may wait for the disk."""
MEMTABLES_TOTAL_BYTES: Final = 256 * MIB
WAL_TOTAL_BYTES: Final = 512 * MIB
"""Beyond it the families that hold the oldest log back are flushed; bounds recovery time."""
BLOCK_BYTES: Final = {"data": 8 * KIB, "lock": 4 * KIB, "raft": 32 * KIB, "local": 4 * KIB}
BLOOM_BITS: Final = 10
BACKGROUND_JOBS: Final = 2
"""One flush and one compaction: the cores are two."""
L0_COMPACT: Final = 4
L0_SLOWDOWN: Final = 24
L0_STOP: Final = 40
BYTES_PER_SYNC: Final = 1 * MIB
"""Background files reach the disk evenly, not in one burst before their fsync."""
LOG_FILE_BYTES: Final = 4 * MIB
LOG_FILES_MAX: Final = 4
DELETION_WINDOW: Final = 2048
DELETION_TRIGGER: Final = 1024
"""Half the keys of a window deleted: the file is worth compacting for that alone."""


def block_cache(capacity: int) -> Any:
    """Returns a cache to share among families (and, if wished, among stores)."""
    return rocks.Cache(capacity)


def database_options() -> Any:
    """Options of the whole database (and of RocksDB's own, unused, ``default`` family)."""
    options = rocks.Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    # A corrupted record in mid-log must refuse to open rather than silently drop what
    # follows it (reliability 110).  What a crash leaves at the end is cut before RocksDB
    # looks (``kvtier.engine.torn``), which cannot read recycled logs.
    options.set_wal_recovery_mode(rocks.DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_recycle_log_file_num(0)
    options.set_max_total_wal_size(WAL_TOTAL_BYTES)
    options.set_db_write_buffer_size(MEMTABLES_TOTAL_BYTES)
    options.set_max_background_jobs(BACKGROUND_JOBS)
    options.set_max_open_files(-1)
    options.set_paranoid_checks(True)
    options.set_bytes_per_sync(BYTES_PER_SYNC)
    options.set_wal_bytes_per_sync(BYTES_PER_SYNC)
    # Deleting files inside a reader's or the loop's call would block the loop.
    options.set_avoid_unnecessary_blocking_io(True)
    options.set_max_log_file_size(LOG_FILE_BYTES)
    options.set_keep_log_file_num(LOG_FILES_MAX)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def family_options(name: str, cache: Any) -> Any:
    """Options of one column family; see the module docstring."""
    assert name in CF_NAMES, f"{name=}"
    options = database_options()
    options.set_write_buffer_size(MEMTABLE_BYTES[name])
    options.set_max_write_buffer_number(MEMTABLES_MAX)
    options.set_level_zero_file_num_compaction_trigger(L0_COMPACT)
    options.set_level_zero_slowdown_writes_trigger(L0_SLOWDOWN)
    options.set_level_zero_stop_writes_trigger(L0_STOP)
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_compression_type(rocks.DBCompressionType.lz4())
    options.add_compact_on_deletion_collector_factory(DELETION_WINDOW, DELETION_TRIGGER, 0.5)
    if name in ("lock", "local"):
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(0.05)
    options.set_block_based_table_factory(_table_options(name, cache))
    return options


def _table_options(name: str, cache: Any) -> Any:
    table = rocks.BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_block_size(BLOCK_BYTES[name])
    table.set_format_version(5)
    if name == "data":
        table.set_block_restart_interval(8)
    elif name in ("lock", "local"):
        table.set_bloom_filter(BLOOM_BITS, False)
    return table
