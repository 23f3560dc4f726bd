"""The real store in memory behind the same words as the model, so that both run the same tests."""

from __future__ import annotations

from typing import Any

from base.hlc import Hlc
from kvtier.client import Kv
from kvtier.engine import MemoryEngine
from kvtier.messages import Batch, Put, Reply, Scan
from kvtier.router import Router
from kvtier.store import Store


class RealKv(Kv):
    """A Router over one Store; ``fail_next`` as in the model."""

    def __init__(self, scheduler: Any, clock: Any, rng: Any, sync_seconds: float = 0.0) -> None:
        self.store = Store(MemoryEngine(), clock, scheduler, rng, Hlc())
        self.router = Router(self.store)
        self.scheduler = scheduler
        self.fail_next: list[Any] = []
        self.sent: list[Batch] = []
        self.loop = scheduler.loop

    def send(self, batch: Batch):
        self.sent.append(batch)
        self._maybe_fail(batch, True)
        reply = self.router.send(batch)
        if isinstance(reply, Reply) or not self.fail_next:
            if self.fail_next:
                self._maybe_fail(batch, False)
            return reply
        return self._fail_later(batch, reply)

    async def _fail_later(self, batch: Batch, reply: Any) -> Reply:
        answer = await reply
        self._maybe_fail(batch, False)
        return answer

    def _maybe_fail(self, batch: Batch, before: bool) -> None:
        for failing in list(self.fail_next):
            error = failing(batch, before)
            if error is not None:
                self.fail_next.remove(failing)
                raise error

    def wait_durable(self, seq: int):
        return self.router.wait_durable(seq)

    def now(self) -> int:
        return self.router.now()

    def is_local(self, keys: list[bytes]) -> bool:
        return self.router.is_local(keys)

    def load(self, **rows: int) -> None:
        reply = self.router.send(Batch([Put(key.encode(), b"%d" % value) for key, value in rows.items()]))
        if not isinstance(reply, Reply):
            self.loop.run(_await(reply))

    def newest(self) -> dict[bytes, bytes]:
        reply = self.router.send(Batch([Scan(b"a", b"zzz")]))
        if not isinstance(reply, Reply):
            reply = self.loop.run(_await(reply))
        return dict(zip(reply.results[0].keys, reply.results[0].values))

    def check_idle(self) -> None:
        state = self.store.state
        assert not state.locks.states, state.locks.states
        assert not state.locks.waiters()
        assert not state.intents.points, state.intents.points
        assert not state.intents.spans, state.intents.spans
        state.locks.check()


async def _await(eager: Any) -> Any:
    return await eager
