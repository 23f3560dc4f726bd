"""The application behind the HTTP port: /healthz and /metrics.

Only ``node.http`` imports this module, at the first request: it brings the whole HTTP stack.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

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
        app = Starlette(routes=[Route("/healthz", self._health), Route("/metrics", self._metrics)])
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
