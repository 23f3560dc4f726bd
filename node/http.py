"""/healthz and /metrics, on a port of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from node.process import Node

START_SECONDS_MAX: Final = 5.0
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class NodeCollector:
    """Reads the node's own counters when asked; nothing is counted twice."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def collect(self) -> Iterator[Metric]:
        node = self.node
        yield GaugeMetricFamily("meridian_connections", "Open SQL sessions.", value=len(node.sql.sessions))
        yield CounterMetricFamily("meridian_statements", "SQL statements run.", value=node.sql.statements)
        yield CounterMetricFamily("meridian_retries", "Statements and transactions run again after a conflict, unseen by clients.", value=node.sql.retries)
        for name, value in node.coordinator.counts.items():
            yield CounterMetricFamily(f"meridian_txn_{name}", f"Transactions: {name.replace('_', ' ')}.", value=value)
        yield GaugeMetricFamily("meridian_ranges", "Ranges of this store.", value=len(node.store.ranges))
        for name, value in node.engine.stats().items():
            yield GaugeMetricFamily(f"meridian_engine_{name.replace('-', '_').replace('.', '_')}", f"Storage engine: {name}.", value=value)


class _Server(uvicorn.Server):
    """uvicorn inside our loop: signals stay ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """The admin port of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._registry = CollectorRegistry()
        self._registry.register(NodeCollector(node))
        self._server: _Server | None = None
        self._task: asyncio.Task[Any] | None = None

    async def start(self, host: str, port: int) -> None:
        """Listens; raises OSError if the port is taken."""
        probe = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port)
        probe.close()
        await probe.wait_closed()
        app = Starlette(routes=[Route("/healthz", self._health), Route("/metrics", self._metrics)])
        config = uvicorn.Config(app, host=host, port=port, log_level="critical", access_log=False, lifespan="off")
        self._server = _Server(config)
        self._task = asyncio.get_running_loop().create_task(self._server.serve())

    async def stop(self) -> None:
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task

    async def _health(self, request: Request) -> Response:
        failure = self.node.store.failure
        status = "ok" if failure is None else "failed"
        return JSONResponse({"status": status, "connections": len(self.node.sql.sessions)}, status_code=200 if failure is None else 503)

    async def _metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=METRICS_TYPE)
