"""HTTP to a container over connections that stay open: no TCP handshake per invocation."""

from __future__ import annotations

import collections
import http.client
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Answer", "Connections", "Stream"]

_KEPT = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Stream:
    """An HTTP answer whose body is read as it arrives. ``close`` it, or read it to its end."""

    def __init__(self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> None:
        self._response, self._connection = response, connection
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    def read(self, limit: int = 65536) -> bytes:
        """What has arrived, at least one byte and at most ``limit``; empty at the end. Raises OSError when it breaks off."""
        return self._response.read1(limit)

    def rest(self) -> bytes:
        """Everything that is still to come."""
        return self._response.read()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class Connections:
    """Connections to one port of 127.0.0.1, reused; safe to use from any thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: collections.deque[http.client.HTTPConnection] = collections.deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def request(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout: float) -> Answer:
        """Send one request and read its answer. Raises OSError or http.client.HTTPException where there is none in time."""
        connection, response = self._send(method, path, headers=headers or {}, body=body, timeout=timeout)
        try:
            content = response.read()
        except BaseException:
            connection.close()
            raise
        if not response.will_close:
            self._keep(connection)
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, content)

    def stream(self, method: str, path: str, *, headers: Mapping[str, str], body: bytes, timeout: float) -> Stream:
        """Send one request; its answer is read by the caller piece by piece, on a connection that is not reused."""
        connection, response = self._send(method, path, headers=headers, body=body, timeout=timeout)
        return Stream(response, connection)

    def close(self) -> None:
        """Hang up the idle connections."""
        for connection in self._take_all():
            connection.close()

    def _take_all(self) -> Iterator[http.client.HTTPConnection]:
        while self._idle:
            yield self._idle.pop()

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            dropped = self._idle.popleft() if len(self._idle) == _KEPT else None
            self._idle.append(connection)
        if dropped is not None:
            dropped.close()

    def _take(self) -> http.client.HTTPConnection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _send(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        kept = self._take()
        if kept is not None:
            try:
                return self._exchange(kept, method, path, headers=headers, body=body, timeout=timeout)
            except (http.client.RemoteDisconnected, ConnectionError, http.client.CannotSendRequest):
                # The server had closed an idle connection: nothing was answered, so a fresh one may try.
                kept.close()
        fresh = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)
        return self._exchange(fresh, method, path, headers=headers, body=body, timeout=timeout)

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, *, headers: Mapping[str, str], body: bytes,
        timeout: float,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:  # fmt: skip
        try:
            connection.timeout = timeout
            if connection.sock is not None:
                connection.sock.settimeout(timeout)
            connection.request(method, path, body=body or None, headers=dict(headers))
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise
