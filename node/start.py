"""``meridian start``: opens the store, serves until SIGTERM, drains.

The exit code is 0 after a drain, 1 if the node could not start or its storage failed.
"""

from __future__ import annotations

import datetime
import gc
import os
import ssl
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from base.errors import SqlError, StorageFailure
from kvtier.engine.rocks import RocksEngine
from kvtier.messages import Batch, Put
from node import certificates
from node.config import Config, address, parse_locality
from node.http import HttpServer
from node.logs import Log
from node.process import MakeMember, Node, NodeSettings, session_defaults
from node.world import LoopScheduler, SystemClock, SystemRng, freeze_start_up
from node.world import run as run_loop
from sql.catalog.cache import call
from sql.catalog.changes import Change
from sql.catalog.keys import role_key
from sql.catalog.state import SUPERUSER

if TYPE_CHECKING:
    from kvtier.replication.consistency import Mismatch
    from node.cluster import ClusterSettings
    from node.member import Member

GC_THRESHOLDS: Final = (20_000, 20, 20)
"""New containers, then collections of the younger generation, before the garbage collector looks."""
PASSWORD_BYTES: Final = 12
EXIT_FAILURE: Final = 1
EXIT_INTERRUPTED: Final = 130


class StartFailed(Exception):
    """The node cannot start: what is wrong, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Stop:
    """What the operator wants: the first signal drains, the second cuts the drain short, the third ends the process."""

    def __init__(self, scheduler: LoopScheduler) -> None:
        self.signals = 0
        self.asked = scheduler.waiter()
        scheduler.on_signal(self._signal)

    def ask(self) -> None:
        """Drains as after the first signal; asked again, nothing more."""
        if not self.signals:
            self._signal()

    def _signal(self) -> None:
        self.signals += 1
        if self.signals == 1:
            self.asked.wake()
        elif self.signals == 2:
            print("meridian: stopping now; running transactions are rolled back", file=sys.stderr, flush=True)
        else:
            # Like a crash: what was acknowledged is on disk.
            os._exit(EXIT_INTERRUPTED)

    def is_hurried(self) -> bool:
        return self.signals > 1


def run(config: Config) -> int:
    """Runs a node to its end; returns the process's exit code."""
    log = Log(config.log_format, config.log_level)
    try:
        return run_loop(lambda scheduler: serve(config, scheduler, log))
    except StartFailed as failure:
        return _fail(failure.message, failure.hint)
    except StorageFailure as failure:
        # Nothing may be acknowledged after a failed write or sync: the process ends at once.
        return _fail(f"storage failed, the node stops: {failure.message}", _storage_hint(failure))


def _fail(message: str, hint: str = "") -> int:
    print(f"meridian: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)
    return EXIT_FAILURE


def _storage_hint(failure: StorageFailure) -> str:
    text = f"{failure.message} {failure.__cause__ or ''}".lower()
    if "no space" in text:
        return "The disk is full.  Free some space and start the node again: nothing acknowledged is lost."
    if "in use by another process" in text:
        return "One node per store: stop the other one, or choose another directory with --store."
    if "permission denied" in text or "not permitted" in text:
        return "The user who runs the node must own the store's directory and everything in it."
    if "corruption" in text:
        return "The store is damaged; `meridian doctor --store DIR` examines it."
    return failure.hint or ""


async def serve(config: Config, scheduler: LoopScheduler, log: Log) -> int:
    """Runs the node on the loop."""
    engine = open_engine(config)
    stop = Stop(scheduler)
    if config.join and not await _join(config, engine, scheduler, stop, log):
        engine.close()
        return 0
    node = make_node(config, engine, scheduler, log)
    http = HttpServer(node, scheduler)
    try:
        tls, der = _tls(config)
        await _listen(node, http, config, tls, der)
    except BaseException:
        await node.close()
        raise
    if config.latency or config.allow_faults:
        _imitate(node, config, scheduler)
    node.on_stop = stop.ask
    await _announce(node, http, config)
    freeze_start_up()
    # A session leaves few cycles; the default of 700 new objects looks for them every few statements.
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()
    await stop.asked.wait()
    log.info("draining", connections=len(node.sql.sessions), seconds=config.drain_seconds)
    await node.drain(config.drain_seconds, stop.is_hurried)
    await http.stop()
    await node.close()
    log.info("stopped")
    return 0


def open_engine(config: Config) -> RocksEngine:
    """Opens the store's engine, making the directory if there is none."""
    directory = Path(config.store)
    try:
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
        if not directory.is_dir():
            raise NotADirectoryError(20, "Not a directory")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
        if config.allow_faults:
            from node.faults import FaultEngine

            return FaultEngine(str(directory / "engine"), config.cache_mb << 20)
        return RocksEngine(str(directory / "engine"), config.cache_mb << 20)
    except StorageFailure as failure:
        raise StartFailed(failure.message, _storage_hint(failure)) from failure
    except OSError as failure:
        raise StartFailed(
            f"cannot use the store {directory}: {failure.strerror}", "Choose another directory with --store DIR."
        ) from None


def make_node(config: Config, engine: RocksEngine, scheduler: LoopScheduler, log: Log) -> Node:
    """Assembles the node over an open engine."""
    host, port = address(config.listen)
    settings = NodeSettings(
        host=host,
        port=port,
        insecure=config.insecure,
        defaults=dict(config.settings),
        connections_max=config.max_connections,
        merge_ranges=config.merge_ranges,
        split_requests=config.split_requests,
        locality=parse_locality(config.locality),
    )
    make_member = None
    if config.rpc:
        from node.member import MAX_OFFSET_SECONDS

        settings.max_offset_us = round(MAX_OFFSET_SECONDS * 1e6)
        make_member = _member_maker(config, scheduler, log)
    try:
        session_defaults(settings.defaults)
    except SqlError as problem:
        engine.close()
        raise StartFailed(f"configuration, [settings]: {problem.message}", problem.hint or "") from None
    return Node(
        engine,
        _clock(config),
        SystemRng(),
        scheduler,
        settings,
        on_fatal=scheduler.stop,
        log_bug=lambda reference, text: log.error("internal error", reference=reference, trace=text),
        sync_timing=scheduler.blocking,
        make_member=make_member,
    )


def _clock(config: Config) -> SystemClock:
    if config.allow_faults:
        from node.faults import FaultClock

        return FaultClock()
    return SystemClock()


def _imitate(node: Node, config: Config, scheduler: LoopScheduler) -> None:
    """Makes the network between nodes as slow as asked for, and opens it to faults."""
    from node.faults import FaultClock, FaultEngine, Faults, follow_regions
    from node.member import Member
    from node.transport.wan import WanError, load

    member = node.member
    assert isinstance(member, Member), member
    conditions = member.transport.conditions
    try:
        matrix = load(config.latency) if config.latency else None
    except WanError as problem:
        raise StartFailed(str(problem), "docs/transport.md says how such a file looks.") from None
    conditions.set_latency(matrix, member.directory.region)
    scheduler.spawn(follow_regions(conditions, member.directory, node.clock), "latency")
    if config.allow_faults:
        clock, engine = node.clock, node.store.engine
        assert isinstance(clock, FaultClock), clock
        assert isinstance(engine, FaultEngine), engine
        node.faults = Faults(member.node_id, conditions, member.directory.region, clock, engine)


def _cluster_settings(config: Config) -> ClusterSettings:
    from kvtier.replication.settings import ReplicationSettings
    from node.cluster import ClusterSettings
    from node.transport.security import Security, files_of

    return ClusterSettings(
        config.rpc,
        parse_locality(config.locality),
        join=config.join.split(",") if config.join else [],
        security=files_of(config.certs) if config.certs else Security(),
        replication=ReplicationSettings(consistency_seconds=config.consistency_hours * 3600.0),
    )


async def _join(config: Config, engine: RocksEngine, scheduler: LoopScheduler, stop: Stop, log: Log) -> bool:
    """Makes an empty store one of a cluster's; False if the operator stops the node while it waits for one."""
    from node.cluster import wait_for_cluster

    def note(why: str) -> None:
        log.info("waiting for a cluster, or for `meridian init`", why=why)

    try:
        return await wait_for_cluster(engine, _cluster_settings(config), scheduler, note, lambda: stop.signals > 0)
    except OSError as failure:
        engine.close()
        raise StartFailed(str(failure), "Choose another address with --rpc host:port.") from None


def _member_maker(config: Config, scheduler: LoopScheduler, log: Log) -> MakeMember:
    from kvtier.rpc.transport import Callbacks
    from node.cluster import make_member

    def stray(why: str) -> None:
        log.error("this node's clock is wrong, it stops", why=why)
        scheduler.stop(StorageFailure(f"the clock of this node is wrong: {why}"))

    def bug(problem: BaseException) -> str:
        log.error("internal error between nodes", trace="".join(traceback.format_exception(problem)))
        return ""

    callbacks = Callbacks(log.info, bug, stray)

    def differs(found: Mismatch) -> None:
        log.error("replicas of a range differ", range=found.range_id, index=found.index, digests=found.digests)

    def make(node: Node) -> Member:
        member = make_member(node, scheduler, _cluster_settings(config), callbacks)
        member.replication.consistency.on_mismatch = differs
        return member

    return make


def _tls(config: Config) -> tuple[ssl.SSLContext | None, bytes]:
    if config.insecure:
        return None, b""
    try:
        if config.certificate:
            return certificates.context(Path(config.certificate), Path(config.key))
        now = datetime.datetime.now(datetime.UTC)
        return certificates.context(*certificates.ensure(Path(config.store), now))
    except (OSError, ValueError) as problem:
        text = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise StartFailed(
            f"cannot use the certificate {config.certificate or config.store}: {text}",
            "certificate and key are PEM files; the node must be able to read both, and they must belong together.",
        ) from None


async def _listen(node: Node, http: HttpServer, config: Config, tls: ssl.SSLContext | None, der: bytes) -> None:
    """Opens both ports; the HTTP port first, so that nobody is served by a node that then cannot start."""
    try:
        if config.http:
            http.start(*address(config.http))
    except OSError as failure:
        raise _port_failure(config.http, failure, "--http host:port, or --http '' for none") from None
    try:
        await node.start(tls, der)
    except OSError as failure:
        await http.stop()
        raise _port_failure(config.listen, failure, "--listen host:port") from None


def _port_failure(where: str, failure: OSError, option: str) -> StartFailed:
    reason = os.strerror(failure.errno) if failure.errno is not None and failure.errno > 0 else str(failure)
    return StartFailed(f"cannot listen on {where}: {reason}", f"Choose another address with {option}.")


async def _announce(node: Node, http: HttpServer, config: Config) -> None:
    """Prints the URLs and, at the first start of a secure node, root's password."""
    host = config.listen.rpartition(":")[0] or "127.0.0.1"
    password = await _first_password(node) if not config.insecure else ""
    mode = "disable" if config.insecure else "require"
    credentials = f"root:{password}" if password else "root"
    lines = [
        f"MeridianDB node started, store {config.store}",
        f'  psql      psql "postgresql://{credentials}@{host}:{node.port}/defaultdb?sslmode={mode}"',
    ]
    if node.member is not None:
        lines.append(f"  nodes     {node.member.address}, node {node.store.identity.node_id}")
    if config.http:
        http_host = config.http.rpartition(":")[0] or "127.0.0.1"
        at = f"{http_host}:{http.port}"
        lines += [f"  health    http://{at}/healthz", f"  metrics   http://{at}/metrics"]
    if password:
        lines.append(f"  password of root: {password}")
        lines.append("  It is shown only this once; change it with ALTER ROLE root PASSWORD '...'.")
    print("\n".join(lines), flush=True)


async def _first_password(node: Node) -> str:
    """Gives root a random password if it has none; returns it, or "" if there was one."""
    from sql.passwords import scram_secret_of

    role = node.catalog.state.roles[SUPERUSER]
    if role.secret:
        return ""
    password = node.rng.bytes(PASSWORD_BYTES).hex()
    await set_password(node, SUPERUSER, scram_secret_of(password, node.rng))
    return password


async def set_password(node: Node, role_name: str, secret: str) -> None:
    """Stores a role's SCRAM verifier."""
    role: Any = msgspec.structs.replace(node.catalog.state.roles[role_name], secret=secret)
    stored = msgspec.msgpack.encode(role)
    if node.sql.agreement is not None:
        await node.sql.agreement.change_everywhere(Change(roles=(role_name,)), [(role_key(role_name), stored)])
        return
    await call(node.kv, Batch([Put(role_key(role_name), stored)]))
    node.catalog.publish({}, {role_name: role}, 0)
