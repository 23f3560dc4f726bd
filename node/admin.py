"""The application behind the HTTP port: /healthz and /metrics, and /faults in a demonstration.

Only ``node.http`` imports this module, at the first request: it brings the whole HTTP stack.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from node.metrics import metrics_text

if TYPE_CHECKING:
    from node.process import Node

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
REQUESTS_MAX: Final = 64
"""Requests served at a time; more get 503."""


class AdminServer:
    """uvicorn's protocol and our application; the sockets and the loop are the node's."""

    def __init__(self, node: Node) -> None:
        self._node = node
        routes = [Route("/healthz", self._health), Route("/metrics", self._metrics)]
        if node.member is not None:
            routes.append(Route("/consistency", self._consistency, methods=["POST"]))
        if node.faults is not None:
            routes.append(Route("/faults", self._fault, methods=["POST"]))
        app = Starlette(routes=routes)
        self._config = Config(
            app, log_config=None, log_level="critical", access_log=False, lifespan="off", limit_concurrency=REQUESTS_MAX
        )
        self._config.load()
        self._state = ServerState()

    def protocol(self) -> asyncio.Protocol:
        """Makes the protocol of one client."""
        return HttpToolsProtocol(self._config, self._state, {})

    def close(self) -> None:
        """Closes every client, those that still get an answer after it."""
        for connection in list(self._state.connections):
            connection.shutdown()

    async def _health(self, request: Request) -> Response:
        health: dict[str, Any] = self._node.health()
        return JSONResponse(health, status_code=200 if health["status"] == "ok" else 503)

    async def _metrics(self, request: Request) -> Response:
        return Response(metrics_text(self._node), media_type=METRICS_TYPE)

    async def _consistency(self, request: Request) -> Response:
        """Compares the replicas of every range that is led here, now."""
        assert self._node.member is not None
        consistency = self._node.member.replication.consistency
        outcome: dict[str, Any] = dict(await consistency.check_all())
        outcome["mismatches"] = [msgspec.to_builtins(found) for found in consistency.mismatches.values()]
        return JSONResponse(outcome)

    async def _fault(self, request: Request) -> Response:
        """``node.faults``: only where the node was started for it."""
        assert self._node.faults is not None
        try:
            self._node.faults.apply(await request.body())
        except ValueError as problem:
            return JSONResponse({"error": str(problem)}, status_code=400)
        return JSONResponse({})
