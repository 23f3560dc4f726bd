"""The HTTP port.

It listens from the start, so that a port in use is told at once; what serves it (``node.admin``) is
imported in a thread when the first client comes.  Until then the client waits in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
from typing import TYPE_CHECKING, Any, Final

from base.seams import Scheduler

if TYPE_CHECKING:
    from node.admin import AdminServer
    from node.process import Node

BACKLOG: Final = 64


class HttpServer:
    """The HTTP port of one node."""

    def __init__(self, node: Node, scheduler: Scheduler) -> None:
        self._node = node
        self._scheduler = scheduler
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._admin: AdminServer | None = None
        self._task: Any = None
        self.port = 0

    def start(self, host: str, port: int) -> None:
        """Listens on ``self.port``; raises OSError if it is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._first_client)
        self.port = int(self._socket.getsockname()[1])

    def _first_client(self) -> None:
        assert self._socket is not None
        asyncio.get_running_loop().remove_reader(self._socket)
        self._task = self._scheduler.spawn(self._serve(), "http")

    async def _serve(self) -> None:
        assert self._socket is not None
        module = await asyncio.to_thread(importlib.import_module, "node.admin")
        admin: AdminServer = module.AdminServer(self._node)
        self._admin = admin
        self._server = await asyncio.get_running_loop().create_server(admin.protocol, sock=self._socket)

    async def stop(self) -> None:
        """Closes the port and its clients."""
        if self._socket is None:
            return
        if self._task is None:
            asyncio.get_running_loop().remove_reader(self._socket)
        else:
            await self._task
        if self._server is not None and self._admin is not None:
            self._server.close()
            self._admin.close()
        self._socket.close()
