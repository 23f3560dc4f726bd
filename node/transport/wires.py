"""Streams over gRPC: one bidirectional RPC each, whose messages are bundles.

    writer task   take -> write, one bundle at a time: HTTP/2's flow control is the backpressure, and what
                  waits stays in the bounded outbox where it can still be dropped (reliability 126)
    reader task   read -> receive, and stops reading while the stream is congested

A writer that is woken in a tick runs in the next one, so everything queued in one tick leaves in one bundle.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from kvtier.rpc.stream import Stream, Wire


class GrpcWire(Wire):
    """What both ends do alike."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    def wake(self) -> None:
        waiting = self._waiting
        if waiting is not None:
            self._waiting = None
            if not waiting.done():
                waiting.set_result(None)

    async def write_all(self, rpc: Any) -> None:
        """Writes what the stream has, until it is over; a broken RPC ends it silently, the reader knows why."""
        stream = self.stream
        while stream.is_alive:
            bundle = stream.take()
            if bundle is None:
                await self._wait()
                continue
            try:
                await rpc.write(bundle)
            except (grpc.RpcError, grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError):
                return
            room = self._room
            if room is not None and not room.done() and not stream.is_congested():
                room.set_result(None)

    async def _wait(self) -> None:
        wait_ns = self.stream.wait_ns()
        waiting = self._waiting = self._loop.create_future()
        timer = None if wait_ns is None else self._loop.call_later(wait_ns / 1e9, self.wake)
        try:
            await waiting
        finally:
            if timer is not None:
                timer.cancel()

    async def read_all(self, rpc: Any) -> None:
        """Reads until the other end ends the stream, or this one does."""
        stream = self.stream
        while stream.is_alive:
            bundle = await rpc.read()
            if bundle is grpc.aio.EOF:
                return
            stream.receive(bundle)
            while stream.is_congested() and stream.is_alive:
                self._room = self._loop.create_future()
                await self._room

    def let_go(self) -> None:
        """Lets both loops see that the stream is over."""
        self.wake()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
