"""Writing into a key span that nobody reads yet: the rows of a rebuilt table, the entries of a new index.

    run       the transaction's own bulk (kvtier.runs): gone with it, whatever ends it
    direct    past the transaction, where runs are not taken: several stores, or remains of an attempt that a crash
              ended.  What was written is cleared if the transaction rolls back (``TransactionBlock.scrap``)

The first rows decide which.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from base.errors import ConditionFailed
from base.keys import is_ascending
from kvtier.messages import Batch, ConditionalPut, DeleteSpan, Lock, Op, Put, Scan
from sql.catalog.cache import call

if TYPE_CHECKING:
    from sql.session import Session


class Filling:
    """One span and the way it is filled."""

    def __init__(self, session: Session, span: tuple[bytes, bytes]) -> None:
        self._session = session
        self._txn = session.block.ensure()
        self._span = span
        self._is_direct: bool | None = None

    async def put(self, keys: list[bytes], values: list[bytes], is_distinct: bool = False) -> bytes | None:
        """Writes new keys; returns one that is there already, None if all are new.

        ``is_distinct``: the caller knows that no two keys of the span are equal.
        """
        if not keys:
            return None
        if not is_ascending(keys):
            order = sorted(range(len(keys)), key=keys.__getitem__)
            keys, values = [keys[i] for i in order], [values[i] for i in order]
            for before, key in pairwise(keys):
                if before == key:
                    return key
        if self._is_direct is None and await self._has_remains():
            return await self._begin_direct(keys, values, is_distinct)
        if self._is_direct:
            return await self._put_direct(keys, values, is_distinct)
        done = self._txn.put_run(keys, values, is_distinct)
        if not isinstance(done, int):
            done = await done
        if not done and self._is_direct is None:
            return await self._begin_direct(keys, values, is_distinct)
        self._is_direct = False
        return await self._put_one_by_one(keys[done:], values[done:]) if done < len(keys) else None

    async def _has_remains(self) -> bool:
        """True if something lies in the span.

        Read just below the transaction's snapshot and not by it: the writes that follow need not move above this read, and
        clearing what is found is no conflict.
        """
        ts = self._txn.read_ts
        batch = Batch([Scan(*self._span, limit=1)], ts=ts - 1 if ts else 0)
        return bool((await call(self._session.server.kv, batch)).results[0].keys)

    # --- one by one ------------------------------------------------------------

    async def _put_one_by_one(self, keys: list[bytes], values: list[bytes]) -> bytes | None:
        """Writes keys between those there already."""
        found = self._txn.get_many(keys, Lock.EXCLUSIVE)
        if not isinstance(found, list):
            found = await found
        for key, value, there in zip(keys, values, found):
            if there is not None:
                return key
            self._txn.put(key, value)
        if self._txn.needs_flush:
            flushed = self._txn.flush()
            if flushed is not None:
                await flushed
        return None

    # --- direct ----------------------------------------------------------------

    async def _begin_direct(self, keys: list[bytes], values: list[bytes], is_distinct: bool) -> bytes | None:
        self._is_direct = True
        self._session.block.scrap(*self._span)
        kv = self._session.server.kv
        if (await call(kv, Batch([Scan(*self._span, limit=1)]))).results[0].keys:
            reply = await call(kv, Batch([DeleteSpan(*self._span)]))
            await self._session.block.move_past(reply.write_ts)
        return await self._put_direct(keys, values, is_distinct)

    async def _put_direct(self, keys: list[bytes], values: list[bytes], is_distinct: bool) -> bytes | None:
        """Writes at the transaction's own snapshot, so that its later statements see it.

        No read comes before the writes: it would leave a timestamp that they, and with them the whole transaction, had to
        move above.
        """
        kind = Put if is_distinct else ConditionalPut
        puts: list[Op] = [kind(key, value) for key, value in zip(keys, values)]
        try:
            reply = await call(self._session.server.kv, Batch(puts, ts=self._txn.read_ts))
        except ConditionFailed as taken:
            return taken.key
        if self._txn.read_ts and reply.write_ts > self._txn.read_ts:
            await self._session.block.move_past(reply.write_ts)
        return None
