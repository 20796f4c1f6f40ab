"""What a fault plan does to a call before the service hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from pytest_mlcc.localaws.rehearsal.answers import Answer, refusal
from pytest_mlcc.localaws.rehearsal.calls import Call, Protocol, identify, is_form, names_in, service_of
from pytest_mlcc.localaws.rehearsal.connections import reset_connection
from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal
from pytest_mlcc.localaws.rehearsal.vocabulary import Fault, Trouble

__all__ = ["Meddler"]

_READ_BYTES = 8 << 20
"""A longer body is not looked into for names; no request that makes or names a resource is as long."""

_GONE_SECONDS = 1.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Meddler:
    """Stands in the door while a plan has rules about calls."""

    def __init__(self, rehearsal: Rehearsal, *, account: str) -> None:
        self._rehearsal = rehearsal
        self._account = account

    async def meet(self, scope: Mapping[str, Any], headers: Mapping[str, str], receive: Receive, send: Send) -> Receive | None:
        """Let the plan have its way with a request: None where it is answered (or cut off), else what to read the request from."""
        body = _Body(receive)
        call = await self._identify(scope, headers, body)
        trouble = await self._trouble(call, headers, body) if call else None
        if call is None or trouble is None:
            return body.again
        if trouble.fault is Fault.SLOW_ANSWER:
            await asyncio.sleep(trouble.seconds)
            return body.again
        if trouble.fault is Fault.CONNECTION_RESET:
            await _cut(scope, receive)
            return None
        await body.drain()  # a client that is not done with its request does not look for the answer
        await _send(send, refusal(call, trouble, account=self._account), head=scope["method"] == "HEAD")
        return None

    async def _identify(self, scope: Mapping[str, Any], headers: Mapping[str, str], body: _Body) -> Call | None:
        query_string = scope["query_string"].decode("latin-1")
        service = service_of(headers, query_string)
        if not service:
            return None
        text = await body.read() if is_form(headers) else None
        return identify(service, scope["method"], scope["path"], headers=headers, query_string=query_string, body=text)

    async def _trouble(self, call: Call, headers: Mapping[str, str], body: _Body) -> Trouble | None:
        rules = list(self._rehearsal.concerning(call.action))
        if not rules:
            return None
        names = call.names
        speaks = call.protocol not in (Protocol.S3, Protocol.REST_XML, Protocol.CBOR)
        if speaks and any(rule.asks_for_names for rule in rules) and int(headers.get("content-length") or 0) <= _READ_BYTES:
            names += names_in(call, await body.read())
        return self._rehearsal.trouble(call.action, names)


class _Body:
    """A request's body that can be read before the service reads it; it is kept once, and handed over as it is."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._whole: bytes | None = None

    async def read(self) -> bytes:
        """All of it."""
        if self._whole is None:
            parts: list[bytes] = []
            while True:
                message = await self._receive()
                parts += [message["body"]] if message.get("body") else []
                if not message.get("more_body"):
                    break
            self._whole = parts[0] if len(parts) == 1 else b"".join(parts)
        return self._whole

    async def drain(self) -> None:
        """Let the rest of it come, and keep none."""
        while self._whole is None and (await self._receive()).get("more_body"):
            pass

    @property
    def again(self) -> Receive:
        """What the service reads the request from."""
        return self._receive if self._whole is None else self._replay

    async def _replay(self) -> Message:
        if self._whole is None:
            return await self._receive()
        body, self._whole = self._whole, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _cut(scope: Mapping[str, Any], receive: Receive) -> None:
    """Reset the connection, then wait until the web server has seen it, or it would send an error of its own."""
    reset_connection((scope["client"][0], scope["client"][1]))
    try:
        async with asyncio.timeout(_GONE_SECONDS):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return


async def _send(send: Send, answer: Answer, *, head: bool) -> None:
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})
