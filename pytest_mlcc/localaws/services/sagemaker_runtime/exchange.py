"""HTTP to containers on the server's own event loop: an invocation costs no thread and no new connection."""

from __future__ import annotations

import asyncio
import collections
import weakref
from collections.abc import Mapping

from pytest_mlcc.localaws.runtime.container import Container

__all__ = ["BadAnswerError", "Containers", "Reply", "TooLongError"]

_KEPT = 64
_PIECE = 65536


class BadAnswerError(OSError):
    """What a container answered is not HTTP."""


class TooLongError(OSError):
    """What a container answered has more bytes than may be passed on."""


class Containers:
    """Connections to the containers that are invoked, kept open between invocations; for one event loop.

    A connection that the container closes is closed on our side at once, so none outlives its container.
    """

    def __init__(self) -> None:
        self._idle: weakref.WeakKeyDictionary[Container, collections.deque[_Connection]] = weakref.WeakKeyDictionary()

    async def post(self, container: Container, path: str, *, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send a request and wait for the head of its answer. Raises OSError where none comes.

        The caller limits the time; it reads the reply to its end or closes it.
        """
        request = _request(path, container.port, headers, body)
        kept = self._take(container)
        if kept is not None:
            try:
                return await self._ask(container, kept, request)
            except ConnectionError:
                pass  # it was being closed as we took it: nothing was answered, so a fresh one may try
        return await self._ask(container, await _connect(container.port), request)

    async def _ask(self, container: Container, connection: _Connection, request: bytes) -> Reply:
        try:
            connection.transport.write(request)
            status, headers = _parsed(await connection.until(b"\r\n\r\n"))
            while 100 <= status < 200:
                status, headers = _parsed(await connection.until(b"\r\n\r\n"))
        except BaseException:
            connection.transport.close()
            raise
        return Reply(status, headers, connection, idle=self._idle.setdefault(container, collections.deque(maxlen=_KEPT)))

    def _take(self, container: Container) -> _Connection | None:
        idle = self._idle.get(container)
        while idle:
            connection = idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None


class Reply:
    """An answer whose body is read as it arrives."""

    def __init__(self, status: int, headers: Mapping[str, str], connection: _Connection, *, idle: collections.deque[_Connection]) -> None:
        self.status, self.headers = status, headers
        self._connection, self._idle = connection, idle
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._left = _length(headers, status) if not self._chunked else None
        self._done = self._left == 0
        self._kept = False

    async def read(self) -> bytes:
        """What has arrived, at least one byte; empty at the end. Raises OSError where the container breaks off."""
        if self._done:
            self._keep()
            return b""
        if self._chunked and not self._left:
            await self._next_chunk()
            return await self.read()
        piece = await self._connection.reader.read(_PIECE if self._left is None else min(self._left, _PIECE))
        if not piece:
            self._ended_early()
            return b""
        if self._left is not None:
            self._left -= len(piece)
            await self._finish_piece()
        return piece

    async def whole(self, most: int | None = None) -> bytes:
        """All of it. Raises TooLongError where that is more than ``most`` bytes, and hangs up."""
        pieces, size = [], 0
        try:
            while piece := await self.read():
                pieces.append(piece)
                size += len(piece)
                if most is not None and size > most:
                    raise TooLongError(f"the answer has more than {most} bytes")
        except BaseException:
            self.close()
            raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Hang up, unless it was read to its end."""
        if not self._done:
            self._connection.transport.close()

    async def _next_chunk(self) -> None:
        line = await self._connection.until(b"\r\n")
        try:
            self._left = int(line.partition(b";")[0], 16)
        except ValueError:
            raise BadAnswerError(f"a chunk begins with {line[:40]!r}") from None
        if self._left == 0:
            while await self._connection.until(b"\r\n") != b"\r\n":
                continue  # trailers say nothing we pass on
            self._done = True

    async def _finish_piece(self) -> None:
        if self._left:
            return
        if self._chunked:
            await self._connection.until(b"\r\n")
        else:
            self._done = True
            self._keep()  # so that the connection is free as soon as the last byte is here

    def _ended_early(self) -> None:
        if self._left is not None or self._chunked:
            raise ConnectionResetError("the container closed the connection in the middle of its answer")
        self._done = True  # without a length the end of the connection is the end of the answer

    def _keep(self) -> None:
        """Give the connection back, once: from then on it may be another invocation's."""
        if self._kept:
            return
        self._kept = True
        if self._left is None or self.headers.get("connection", "").lower() == "close":
            self._connection.transport.close()
        elif not self._connection.transport.is_closing():
            self._idle.append(self._connection)


class _Connection(asyncio.StreamReaderProtocol):
    """One connection; unlike asyncio's own it does not stay half open when the other side closes."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader(limit=_PIECE)
        super().__init__(self.reader)
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        super().connection_made(transport)

    def eof_received(self) -> bool:
        super().eof_received()
        return False

    async def until(self, end: bytes) -> bytes:
        """The bytes up to and with ``end``. Raises OSError where they don't come."""
        try:
            return await self.reader.readuntil(end)
        except asyncio.IncompleteReadError:
            raise ConnectionResetError("the container closed the connection") from None
        except asyncio.LimitOverrunError:
            raise BadAnswerError(f"{_PIECE} bytes of an answer hold no {end!r}") from None


async def _connect(port: int) -> _Connection:
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
    return connection


def _request(path: str, port: int, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise BadAnswerError(f"an answer begins with {first[:40]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    if version == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return int(rest[:3]), headers


def _length(headers: Mapping[str, str], status: int) -> int | None:
    if status in (204, 304):
        return 0
    length = headers.get("content-length")
    if length is not None and not length.isdigit():
        raise BadAnswerError(f"an answer has the length {length[:40]!r}")
    return int(length) if length is not None else None
