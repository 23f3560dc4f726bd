"""The shape of a workload, and a client's transactions over the KV tier.

A workload is ``set_up``, ``operate`` (one operation of one client, again and again),
``finish`` and ``check`` (FoundationDB's composition).  A client records what it asked and what it was
told (``sim.histories``); after an unknown outcome it goes on as a new process.

``Work`` is a transaction as the workload's code sees it, running on the node.  It notes
every read, so that the run can read it again later (``sim.invariants``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from base.errors import AmbiguousResult, MeridianError, Retryable
from kvtier.messages import Isolation, Lock, ScanResult, Wait
from sim.checkers.verdict import Verdict
from sim.invariants import Read, Served, Violation
from sim.network import ConnectionLost, Refused
from sim.streams import Draws
from txn.coordinator import Transaction

if TYPE_CHECKING:
    from sim.process import Process
    from sim.world import World

T = TypeVar("T")

LEVELS: Final = {
    "serializable": Isolation.SERIALIZABLE,
    "repeatable read": Isolation.REPEATABLE_READ,
    "read committed": Isolation.READ_COMMITTED,
}
MODELS: Final = {
    "serializable": "strict-serializable",
    "repeatable read": "strong-snapshot-isolation",
    "read committed": "strong-read-committed",
}
"""What a history must satisfy whose weakest transactions ran at this level."""
REFUSED_PAUSE_SECONDS: Final = 0.05


async def value_of(eager: Any) -> Any:
    """Awaits what is not there yet."""
    return await eager if hasattr(eager, "__await__") else eager


class Work:
    """One attempt of a transaction."""

    def __init__(self, txn: Transaction, process: Process, rng: Draws) -> None:
        self.txn = txn
        self.process = process
        self.rng = rng
        self.reads: list[Read] = []
        self.written: dict[bytes, None] = {}
        self.written_spans: list[tuple[bytes, bytes]] = []

    async def get(self, key: bytes, lock: Lock = Lock.NONE, wait: Wait = Wait.BLOCK) -> Any:
        """Reads one key."""
        value = await value_of(self.txn.get(key, lock, wait))
        self.process.world.recent_ts.append(self.txn.read_ts)
        if wait != Wait.SKIP and not self._is_own(key):
            self.reads.append(Read(key, b"", {} if value is None else {key: value}))
        return value

    async def get_many(self, keys: list[bytes], lock: Lock = Lock.NONE) -> list[bytes | None]:
        """Reads several keys in one batch."""
        values: list[bytes | None] = await value_of(self.txn.get_many(keys, lock))
        for key, value in zip(keys, values):
            if not self._is_own(key):
                self.reads.append(Read(key, b"", {} if value is None else {key: value}))
        return values

    async def scan(
        self,
        start: bytes,
        end: bytes,
        lock: Lock = Lock.NONE,
        wait: Wait = Wait.BLOCK,
        reverse: bool = False,
        limit: int = 0,
        page: int = 0,
    ) -> list[tuple[bytes, bytes]]:
        """Reads a span, page after page, up to ``limit`` rows."""
        rows: list[tuple[bytes, bytes]] = []
        while True:
            wanted = min(page, limit - len(rows)) if page and limit else page or limit - len(rows)
            found: ScanResult = await value_of(
                self.txn.scan(start, end, reverse=reverse, limit=wanted, lock=lock, wait=wait)
            )
            rows += zip(found.keys, found.values)
            resume = found.resume
            self._note_scan(start, end, found, reverse, wait)
            if resume is None or (limit and len(rows) >= limit):
                return rows
            start, end = (start, resume) if reverse else (resume, end)

    def _note_scan(self, start: bytes, end: bytes, found: ScanResult, reverse: bool, wait: Wait) -> None:
        if wait == Wait.SKIP:
            return
        if found.resume is not None:
            start, end = (found.resume, end) if reverse else (start, found.resume)
        if start < end:
            self.reads.append(Read(start, end, dict(zip(found.keys, found.values))))

    def _is_own(self, key: bytes) -> bool:
        return key in self.written or any(start <= key < end for start, end in self.written_spans)

    def put(self, key: bytes, value: bytes) -> None:
        self.written[key] = None
        self.txn.put(key, value)

    def delete(self, key: bytes) -> None:
        self.written[key] = None
        self.txn.delete(key)

    async def delete_span(self, start: bytes, end: bytes) -> None:
        self.written_spans.append((start, end))
        await value_of(self.txn.delete_span(start, end))

    async def flush_if_full(self) -> None:
        """What an executor does between batches of rows."""
        if self.txn.needs_flush:
            await value_of(self.txn.flush())

    async def pause(self) -> None:
        """The client thinks, now and then; in the calm not for long."""
        if self.rng.chance(0.3):
            await self.process.scope.clock.sleep(self.rng.random() * self.process.world.dwell_seconds)

    async def statement(self, run: Callable[[], Awaitable[T]]) -> T:
        """Runs one statement, again where READ COMMITTED allows it."""
        txn = self.txn
        txn.begin_statement()
        while True:
            try:
                value = await run()
                await self.flush_if_full()
            except Retryable as error:
                if not await value_of(txn.retry_statement(error)):
                    raise
            else:
                return value


Body = Callable[[Work], Coroutine[Any, Any, Any]]


class Outcome:
    """How a client's request ended: ``ok`` with a value, ``fail`` or ``info`` with an error."""

    __slots__ = ("commit_ts", "error", "status", "value")

    def __init__(self, status: str, value: Any = None, error: str = "", commit_ts: int = 0) -> None:
        self.status = status
        self.value = value
        self.error = error
        self.commit_ts = commit_ts


class Client:
    """One client: its number, its present process id, its draws for this operation."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.process = number
        self.rng: Draws = world.streams.stream(f"client{number}")
        self.operations = 0
        self.successes = 0
        self.last_success = 0.0
        self.doing = ""

    async def transact(
        self,
        f: str,
        asked: Any,
        body: Body,
        isolation: Isolation = Isolation.SERIALIZABLE,
        commit_key: str = "",
        **options: Any,
    ) -> Outcome:
        """Runs a transaction on the node and records it; the ok value is what ``body`` returned."""
        world = self.world
        process = self.process
        world.record("invoke", process, f, asked)
        who = f"client{process}"
        rng = self.rng

        async def serve(node: Process) -> Outcome:
            return await run_transaction(world, node, body, rng, who, isolation, commit_key, options)

        outcome = await self.request(serve)
        value = asked if outcome.status != "ok" or outcome.value is None else outcome.value
        world.record(outcome.status, process, f, value, outcome.error)
        self.note(outcome)
        if outcome.status != "ok" and outcome.error == "refused":
            await world.sleep(REFUSED_PAUSE_SECONDS)
        return outcome

    def note(self, outcome: Outcome) -> None:
        """Counts an operation; an unknown outcome ends this process."""
        self.operations += 1
        if outcome.status == "ok":
            self.successes += 1
            self.last_success = self.world.now
        elif outcome.status == "info":
            self.process += self.world.plan.clients

    async def spy(self, keys: list[bytes]) -> None:
        """Reads as of exactly the timestamp another transaction reads at; no history, but the reads must hold."""
        world = self.world
        recent = [ts for ts in world.recent_ts if ts]
        if not recent:
            return
        as_of_ts = self.rng.pick(recent)
        rng = self.rng

        async def look(work: Work) -> None:
            for key in keys:
                await work.get(key)

        async def serve(node: Process) -> Outcome:
            return await run_transaction(
                world, node, look, rng, f"spy{self.number}", Isolation.SERIALIZABLE, "", {"as_of_ts": as_of_ts}
            )

        await self.request(serve)

    async def request(self, serve: Callable[[Process], Coroutine[Any, Any, Outcome]]) -> Outcome:
        """Makes a request; what the network says of it becomes an outcome."""
        timeout = self.world.plan.knobs.timeout_seconds if not self.world.is_calm else 60.0
        try:
            outcome: Outcome = await self.world.network.call(self.world.choose(self.rng), serve, timeout)
        except Refused:
            return Outcome("fail", error="refused")
        except ConnectionLost as lost:
            return Outcome("info", error=str(lost))
        return outcome


async def run_transaction(
    world: World,
    process: Process,
    body: Body,
    rng: Draws,
    who: str,
    isolation: Isolation,
    commit_key: str,
    options: dict[str, Any],
) -> Outcome:
    """What a session does on the node: runs, retries, commits or rolls back."""
    txn = process.coordinator.begin(isolation, lock_timeout_ms=world.plan.knobs.lock_timeout_ms, **options)
    if commit_key:
        txn.set_commit_key(commit_key)
    try:
        while True:
            work = Work(txn, process, rng)
            try:
                value = await body(work)
                commit_ts = await value_of(txn.commit())
            except Retryable as error:
                if not await value_of(txn.restart(error)):
                    raise
            else:
                _note_served(world, who, work, commit_ts)
                return Outcome("ok", value, commit_ts=commit_ts)
    except AmbiguousResult as error:
        return Outcome("info", error=f"{error.sqlstate} {error}")
    except MeridianError as error:
        is_open = txn.state == "open"
        await value_of(txn.rollback())
        return Outcome("fail" if is_open or txn.state == "aborted" else "info", error=f"{error.sqlstate} {error}")
    except CancelledError:
        state = txn.state
        released = txn.rollback()
        if released is not None:
            await released
        return Outcome("fail" if state == "open" else "info", error="57014 canceled")


def _note_served(world: World, who: str, work: Work, commit_ts: int) -> None:
    """Keeps the reads of a transaction whose level promises that they hold at one timestamp."""
    txn = work.txn
    if txn.isolation == Isolation.READ_COMMITTED:
        reads: list[Read] = []
    else:
        reads = work.reads
    ts = commit_ts
    if txn.isolation == Isolation.REPEATABLE_READ and work.written:
        ts = txn.read_ts
    served = Served(who, ts, reads, work.written, work.written_spans)
    world.serve(served)
    if commit_ts > world.served_ts:
        world.served_ts = commit_ts
    if ts > work.process.served_ts or commit_ts > work.process.served_ts:
        work.process.served_ts = max(ts, commit_ts)
    if world.journal.detailed:
        world.detail(who, f"txn {txn.id.hex()[:8]} committed at {commit_ts:x}, reads at {txn.read_ts:x}")


class Workload(ABC):
    """See the module docstring."""

    name: ClassVar[str] = ""
    isolations: ClassVar[tuple[str, ...]] = ("serializable",)
    """Levels this workload can be checked at; the first is the usual one."""
    is_sql: ClassVar[bool] = False

    def __init__(self, world: World) -> None:
        self.world = world
        self.isolation = LEVELS[world.plan.isolation]
        self.rng = world.streams.stream("workload")

    def split_keys(self) -> list[bytes]:
        """Returns keys, in order, where ranges may be divided."""
        return [b"a", b"z"]

    async def set_up(self) -> None:  # noqa: B027  # a hook most need not fill
        """Loads what must be there; no faults yet."""

    @abstractmethod
    async def operate(self, client: Client) -> None:
        """Does one operation."""

    async def finish(self) -> None:  # noqa: B027  # a hook most need not fill
        """Reads the final state; nothing else is going on."""

    @abstractmethod
    def check(self) -> None:
        """Raises Violation if the history is wrong."""

    # --- for subclasses --------------------------------------------------------------

    def level_of(self, client: Client) -> Isolation:
        """Returns an isolation level, at least as strong as the run's: levels are mixed."""
        if client.rng.chance(0.7):
            return self.isolation
        return Isolation(client.rng.pick([level for level in (1, 2, 3) if level >= self.isolation]))

    async def load(self, rows: dict[bytes, bytes]) -> None:
        """Writes rows in one transaction and demands success."""

        async def write(work: Work) -> None:
            for key, value in rows.items():
                work.put(key, value)

        await self.must(write)

    async def must(self, body: Body) -> Any:
        """Runs a transaction that nothing may stop, without recording it."""
        client = Client(self.world, -1)
        world = self.world

        async def serve(node: Process) -> Outcome:
            return await run_transaction(world, node, body, client.rng, "setup", Isolation.SERIALIZABLE, "", {})

        outcome = await client.request(serve)
        if outcome.status != "ok":
            raise Violation("a calm transaction succeeds", f"{outcome.status} {outcome.error}")
        return outcome.value

    def judge(self, verdict: Verdict, words: tuple[str, ...] = ()) -> None:
        """Raises Violation for a verdict that is not valid."""
        if verdict.valid is not True:
            name = next(iter(verdict.anomalies), "unknown")
            explanations = verdict.anomalies.get(name, [])
            clients: tuple[str, ...] = ()
            if explanations:
                history = self.world.history.history
                clients = tuple([f"client{history[index].process}" for index in explanations[0].transactions])
            raise Violation(name, str(verdict)[:2000], words or clients)
