"""A transaction over a sorted dict: the Txn interface without concurrency, for tests of the executor."""

from __future__ import annotations

from typing import Any

from sortedcontainers import SortedDict

from base.eager import Eager
from kvtier.messages import Isolation, Lock, ScanResult, Wait
from txn.transaction import SKIPPED, Txn


class Immediate:
    """An awaitable that suspends once, then gives its value: stands for a remote range."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield self
        return self.value


class ModelTxn(Txn):
    """``store`` is shared by transactions and changed at once; ``suspends`` makes every read wait."""

    def __init__(
        self, store: SortedDict[bytes, bytes] | None = None, page_rows: int = 0, suspends: bool = False
    ) -> None:
        self.isolation = Isolation.SERIALIZABLE
        self.read_ts = 1
        self.is_read_only = True
        self.store = SortedDict() if store is None else store
        self.page_rows = page_rows
        self.suspends = suspends
        self.locked_elsewhere: set[bytes] = set()
        self.locks: list[tuple[bytes, Lock]] = []
        self.reads: list[str] = []
        self.writes: list[tuple[str, bytes]] = []
        self.newer: dict[bytes, bytes | None] = {}
        """Versions that only locked reads see (committed after the snapshot)."""

    def _lock(self, key: bytes, lock: Lock, wait: Wait) -> Any:
        if lock == Lock.NONE:
            return self.store.get(key)
        if key in self.locked_elsewhere:
            assert wait == Wait.SKIP, "would wait for ever"
            return SKIPPED
        self.locks.append((key, lock))
        return self.newer[key] if key in self.newer else self.store.get(key)

    def _answer(self, value: Any) -> Any:
        return Immediate(value) if self.suspends else value

    def get(
        self, key: bytes, lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK, projection: bytes = b""
    ) -> Eager[bytes | None]:
        self.reads.append("get")
        return self._answer(self._lock(key, lock, wait))

    def get_many(
        self, keys: list[bytes], lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK, projection: bytes = b""
    ) -> Eager[list[bytes | None]]:
        self.reads.append(f"get_many {len(keys)}")
        return self._answer([self._lock(key, lock, wait) for key in keys])

    def claim(self, keys: list[bytes], rivals: list[bytes]) -> Eager[list[bytes | None]]:
        self.reads.append(f"claim {len(keys)} {len(rivals)}")
        found = [self._lock(key, Lock.EXCLUSIVE, Wait.BLOCK) for key in keys]
        return self._answer(found + [self.store.get(key) for key in rivals])

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False, limit: int = 0, lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK, projection: bytes = b"") -> Eager[ScanResult]:  # fmt: skip
        self.reads.append("scan")
        assert start < end, f"{start=} {end=}"
        most = min(limit or 1 << 30, self.page_rows or 1 << 30)
        keys: list[bytes] = []
        resume = None
        for key in self.store.irange(start, end, inclusive=(True, False), reverse=reverse):
            if len(keys) == most:
                resume = keys[-1] if reverse else key
                break
            keys.append(key)
        return self._answer(ScanResult(keys, [self.store[key] for key in keys], resume))

    def put(self, key: bytes, value: bytes) -> None:
        self.is_read_only = False
        self.writes.append(("put", key))
        self.store[key] = value

    def delete(self, key: bytes) -> None:
        self.is_read_only = False
        self.writes.append(("delete", key))
        self.store.pop(key, None)

    def delete_span(self, start: bytes, end: bytes) -> Eager[None]:
        for key in list(self.store.irange(start, end, inclusive=(True, False))):
            del self.store[key]
        return None

    def hold_span(self, start: bytes, end: bytes) -> Eager[bool]:
        return True

    def put_run(self, keys: list[bytes], values: list[bytes], is_distinct: bool = False) -> Eager[int]:
        """Refuses a run at the first key that is there, as the store may; locks are not its affair."""
        assert keys == sorted(set(keys)), "keys of a run ascend"
        for count, (key, value) in enumerate(zip(keys, values)):
            if key in self.store:
                return self._answer(count)
            self.put(key, value)
        return self._answer(len(keys))

    def flush(self) -> Eager[None]:
        return None

    @property
    def needs_flush(self) -> bool:
        return False

    def begin_statement(self) -> None: ...

    def savepoint(self) -> int:
        return 0

    def rollback_to(self, token: int) -> None:
        raise NotImplementedError

    def commit(self) -> Eager[int]:
        return 1

    def rollback(self) -> Eager[None]:
        return None

    def restart(self, error: Exception) -> Eager[bool]:
        return False

    def retry_statement(self, error: Exception) -> Eager[bool]:
        return False

    def refresh_to(self, ts: int) -> Eager[bool]:
        return True
