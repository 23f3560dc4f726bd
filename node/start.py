"""``meridian start``: opens the store, serves until SIGTERM, drains."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Any, Final

import structlog

from base.errors import StorageFailure
from kvtier.engine.rocks import RocksEngine
from node import certificates
from node.config import Config, address
from node.http import HttpServer
from node.logs import configure
from node.process import Node, NodeSettings
from node.world import LoopScheduler, SystemClock, SystemRng, freeze_start_up
from node.world import run as run_loop
from sql.catalog.state import SUPERUSER
from sql.passwords import scram_secret_of

PASSWORD_BYTES: Final = 12
EXIT_FAILURE: Final = 1


def run(config: Config) -> int:
    """Runs a node to its end; returns the process's exit code."""
    configure(config.log_format, config.log_level)
    try:
        return run_loop(lambda scheduler: serve(config, scheduler))
    except StorageFailure as failure:
        # Nothing may be acknowledged after a failed write or sync: the process ends at once.
        return _fail(f"storage failed, the node stops: {failure.message}")


def _fail(message: str, hint: str = "") -> int:
    print(f"meridian: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)
    return EXIT_FAILURE


async def serve(config: Config, scheduler: LoopScheduler) -> int:
    log = structlog.get_logger()
    directory = Path(config.store)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        engine = RocksEngine(str(directory / "engine"), config.cache_mb << 20)
    except StorageFailure as failure:
        return _fail(failure.message, failure.hint or "Another process may use this store: one node per directory.")
    except OSError as failure:
        return _fail(f"cannot use the store {directory}: {failure.strerror}")
    stop = scheduler.waiter()
    scheduler.on_signal(stop.wake)
    clock, rng = SystemClock(), SystemRng()
    host, port = address(config.listen)
    settings = NodeSettings(host=host, port=port, insecure=config.insecure, defaults=dict(config.settings), connections_max=config.max_connections)
    node = Node(engine, clock, rng, scheduler, settings, on_fatal=scheduler.stop, log_bug=lambda reference, text: log.error("internal error", reference=reference, trace=text))
    tls, der = None, b""
    if not config.insecure:
        if config.certificate:
            tls, der = certificates.context(Path(config.certificate), Path(config.key))
        else:
            tls, der = certificates.context(*certificates.ensure(directory, datetime.datetime.now(datetime.UTC)))
    try:
        await node.start(tls, der)
    except OSError as failure:
        engine.close()
        return _fail(f"cannot listen on {config.listen}: {failure.strerror}", "Choose another port with --listen host:port.")
    http = HttpServer(node)
    if config.http:
        try:
            await http.start(*address(config.http))
        except OSError as failure:
            await node.stop(0)
            return _fail(f"cannot listen on {config.http}: {failure.strerror}", "Choose another port with --http host:port, or --http '' for none.")
    await _announce(node, config)
    freeze_start_up()
    await stop.wait()
    log.info("draining", connections=len(node.sql.sessions))
    await http.stop()
    await node.stop(config.drain_seconds)
    log.info("stopped")
    return 0


async def _announce(node: Node, config: Config) -> None:
    """Prints the URLs and, at the first start of a secure node, root's password."""
    host, _ = address(config.listen)
    password = await _first_password(node) if not config.insecure else ""
    mode = "disable" if config.insecure else "require"
    credentials = f"root:{password}" if password else "root"
    lines = [
        f"MeridianDB node started, store {config.store}",
        f"  psql      psql 'postgresql://{credentials}@{host}:{node.port}/defaultdb?sslmode={mode}'",
    ]
    if config.http:
        lines.append(f"  health    http://{config.http}/healthz")
        lines.append(f"  metrics   http://{config.http}/metrics")
    if password:
        lines.append("  The password of root is shown only this once; change it with ALTER ROLE root PASSWORD '...'.")
    print("\n".join(lines), flush=True)


async def _first_password(node: Node) -> str:
    """Gives root a random password if it has none; returns it, or "" if there was one."""
    role = node.catalog.state.roles[SUPERUSER]
    if role.secret:
        return ""
    password = node.rng.bytes(PASSWORD_BYTES).hex()
    await set_password(node, SUPERUSER, scram_secret_of(password, node.rng))
    return password


async def set_password(node: Node, role_name: str, secret: str) -> None:
    """Stores a role's SCRAM verifier."""
    import msgspec

    from kvtier.messages import Batch, Put
    from sql.catalog.cache import call
    from sql.catalog.keys import role_key

    role: Any = msgspec.structs.replace(node.catalog.state.roles[role_name], secret=secret)
    await call(node.kv, Batch([Put(role_key(role_name), msgspec.msgpack.encode(role))]))
    node.catalog.publish({}, {role_name: role}, 0)
