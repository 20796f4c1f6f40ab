"""What clients asked for that the local AWS does not have: a hole that nobody sees is never filled."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from pytest_mlcc.localaws.emulator import Receive, Scope, Send
from pytest_mlcc.localaws.rehearsal.calls import identify, is_form, service_of

__all__ = ["Unserved"]

_KEPT = 1000
"""Moments that are remembered of each operation, and operations that are told apart."""

_UNKNOWN = re.compile(
    rb'"(?:__type|[cC]ode)"\s*:\s*"(?:[^"]*#)?(?:UnknownOperation\w*|InvalidAction)"'
    rb"|<Code>(?:UnknownOperation\w*|InvalidAction|NotImplemented|MethodNotAllowed)</Code>"
)
"""The codes alone: the words may be a name that somebody gave to a table."""

_ACTION = re.compile(rb"(?:^|&)Action=(\w+)")


class Unserved:
    """Counts the answers that say "there is no such operation", by service and operation."""

    def __init__(self) -> None:
        self._moments: dict[str, deque[float]] = {}

    def since(self, moment: float = 0.0) -> dict[str, int]:
        """How often each ``<service>:<operation>`` was asked for from ``moment`` (seconds since the epoch) on."""
        counts = {name: sum(one >= moment for one in moments) for name, moments in self._moments.items()}
        return {name: count for name, count in sorted(counts.items()) if count}

    def watch(self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> tuple[Receive, Send]:
        """The same two, with a look at what the answer says."""
        watched = _Watched(self, scope, headers, receive, send)
        return (watched.receive if is_form(headers) else receive), watched.send

    def note(self, name: str) -> None:
        """One more call of an operation that is not there."""
        if name in self._moments or len(self._moments) < _KEPT:
            self._moments.setdefault(name, deque(maxlen=_KEPT)).append(time.time())


class _Watched:
    """One request. Its answer is looked at only where it is an error."""

    def __init__(self, unserved: Unserved, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        self._unserved, self._scope, self._headers = unserved, scope, headers
        self._receive, self._send = receive, send
        self._refused = False
        self._action = ""

    async def receive(self) -> MutableMapping[str, Any]:
        """A form names its operation in the body."""
        message = await self._receive()
        found = _ACTION.search(message.get("body", b""))
        self._action = found[1].decode() if found else self._action
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._refused = message["status"] in (400, 404, 405, 501)
        elif self._refused and _UNKNOWN.search(message.get("body", b"")):
            self._refused = False
            self._unserved.note(self._name())
        await self._send(message)

    def _name(self) -> str:
        query_string = self._scope["query_string"].decode("latin-1")
        service = service_of(self._headers, query_string)
        if self._action or "Action=" in query_string:
            return f"{service or 'unsigned'}:{self._action or parse_qs(query_string)['Action'][0]}"
        method, path = self._scope["method"], self._scope["path"]
        call = identify(service, method, path, headers=self._headers, query_string=query_string, body=None) if service else None
        return call.action if call else f"{service or 'unsigned'}:{method} {path}"
