"""HTTP for the local AWS: hypercorn on a socket that is bound already."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["bind", "serve"]

_BACKLOG = 512
_KEEP_ALIVE_SECONDS = 75  # longer than any client keeps an idle connection, so that none is closed as it is used again
_LONGEST_HEAD = 1 << 18


def bind() -> socket.socket:
    """A free port of this machine, which no other machine can reach."""
    bound = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    bound.setblocking(False)
    return bound


async def serve(application: Any, bound: socket.socket, *, until: Callable[[], Awaitable[object]]) -> None:
    """Serve the ASGI application on ``bound`` until ``until`` returns."""
    from hypercorn import asyncio as server
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{bound.fileno()}"]
    config.loglevel, config.graceful_timeout, config.keep_alive_timeout = "WARNING", 1.0, _KEEP_ALIVE_SECONDS
    config.backlog = _BACKLOG
    config.h11_max_incomplete_size = _LONGEST_HEAD
    _let_go_at_once()
    await server.serve(application, config, shutdown_trigger=until)


def _let_go_at_once() -> None:
    """Have hypercorn close its side of a connection when the client has closed the other.

    Upstream waits for the keep-alive timeout first, so each client that comes and goes (a command, a build's step) would hold a
    descriptor for that long; a busy run reaches the limit of open files.
    """
    from hypercorn.asyncio import run
    from hypercorn.asyncio.tcp_server import TCPServer
    from hypercorn.events import Updated

    class Connection(TCPServer):  # type: ignore[misc]  # a library without type information
        async def protocol_send(self, event: Any) -> None:
            if isinstance(event, Updated) and self.reader.at_eof():
                await self.idle_task.stop()
            else:
                await super().protocol_send(event)

        async def _read_data(self) -> None:
            await super()._read_data()
            await self.idle_task.stop()

    run.TCPServer = Connection
