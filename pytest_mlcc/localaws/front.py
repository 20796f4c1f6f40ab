"""The door of the local AWS: who may talk to it, its own ``/_mlcc/`` paths, and which calls change something."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from pytest_mlcc.localaws.context import INSIDE
from pytest_mlcc.localaws.emulator import Receive, Scope, Send
from pytest_mlcc.localaws.rehearsal.door import Meddler
from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal
from pytest_mlcc.localaws.unserved import Unserved

__all__ = ["ADMIN", "Admin", "changes_state", "front", "is_local_host"]

#: Prefix of the paths that are about the server itself.
ADMIN = "/_mlcc/"

#: An admin operation: gets the request's JSON, gives status and answer.
Admin = Callable[[dict[str, Any]], Awaitable[tuple[int, dict[str, Any]]]]

log = logging.getLogger(__name__)

_READING = re.compile(r"^(Describe|List|Get|BatchGet|Head|Query|Scan|Search|Filter|Lookup|Simulate|Select|Check|Assume)")
_LOCAL_HOST = re.compile(r"^(127\.0\.0\.1|\[::1\]|([a-z0-9_.-]+\.)?localhost)(:\d+)?$", re.IGNORECASE)


def is_local_host(host: str) -> bool:
    """Whether a Host header names this machine. A page of a foreign site that got its name to resolve to 127.0.0.1 doesn't."""
    return bool(_LOCAL_HOST.match(host))


def changes_state(method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Whether a call may have changed what must be on disk. In doubt it has."""
    target = headers.get("x-amz-target", "")
    if target:
        return not _READING.match(target.rpartition(".")[2])
    return method not in ("GET", "HEAD", "OPTIONS") and not path.startswith("/endpoints/")


def front(
    app: Callable[[Scope, Receive, Send], Awaitable[None]],
    *,
    admin: Mapping[str, Admin],
    changed: Callable[[str, str, Mapping[str, str]], None],
    rehearsal: Rehearsal,
    unserved: Unserved,
    account: str,
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Put the door before ``app``: refuse foreign hosts and origins, answer ``/_mlcc/<name>`` from ``admin``.

    ``changed`` is told method, path and headers of each call that may have changed something, once it is answered.
    ``unserved`` is told of each operation that is not there. A fault plan of the ``rehearsal`` has its way with every call
    but those of ``admin``.
    """
    meddler = Meddler(rehearsal, account=account)

    async def serve(scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        if rehearsal.meddles and scope["type"] == "http" and INSIDE not in headers.get("user-agent", ""):
            met = await meddler.meet(scope, headers, receive, send)
            if met is None:
                return
            receive = met
        if scope["type"] == "http" and not scope["path"].endswith("/invocations"):  # there is no such hole in a plane of three operations
            receive, send = unserved.watch(scope, headers, receive, send)
        await app(scope, receive, send)
        _mark(scope, headers, changed)

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = _refusal(headers, scope["path"])
        if refusal and scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # before it was accepted: the client reads 403
        elif refusal:
            await _answer(send, 403, {"__type": "AccessDeniedException", "message": refusal})
        elif scope["path"].startswith(ADMIN):
            await _serve_admin(admin, scope, receive, send)
        else:
            await serve(scope, headers, receive, send)

    return door


def _mark(scope: Scope, headers: Mapping[str, str], changed: Callable[[str, str, Mapping[str, str]], None]) -> None:
    if scope["type"] == "http" and changes_state(scope["method"], scope["path"], headers):
        changed(scope["method"], scope["path"], headers)


def _refusal(headers: Mapping[str, str], path: str) -> str:
    host, origin = headers.get("host", ""), headers.get("origin")
    if not is_local_host(host):
        return f"The local AWS answers only 127.0.0.1 and localhost, not the host {host!r}."
    if origin is not None and not is_local_host(urlsplit(origin).netloc):
        return f"The local AWS does not answer web pages of {origin!r}."
    if origin is None and headers.get("sec-fetch-site") == "cross-site":  # an image, a link or a form: browsers name no origin
        return "The local AWS does not answer web pages of other sites."
    if not path.startswith("/"):
        return f"The local AWS is no proxy: {path!r} is not a path."
    if path.startswith(("/_ministack", "/_localstack")):
        return f"{path} is not served here; the server's own paths begin with {ADMIN}."
    return ""


async def _serve_admin(admin: Mapping[str, Admin], scope: Scope, receive: Receive, send: Send) -> None:
    operation = admin.get(scope["path"].removeprefix(ADMIN))
    if operation is None or scope["method"] != ("GET" if scope["path"].endswith("/health") else "POST"):
        await _answer(send, 404, {"message": f"no {scope['method']} {scope['path']}; there are {', '.join(sorted(admin))}"})
        return
    try:
        request = json.loads(await _body(receive) or b"{}")
        if not isinstance(request, dict):
            raise TypeError(f"{type(request).__name__}, not an object")
    except (ValueError, RecursionError, TypeError) as error:
        await _answer(send, 400, {"message": f"the body is not a JSON object: {error}"})
        return
    try:
        status, answer = await operation(request)
    except ValueError as error:
        status, answer = 400, {"message": str(error)}
    except Exception as error:
        log.exception("%s failed", scope["path"])
        status, answer = 500, {"message": f"{type(error).__name__}: {error}"}
    await _answer(send, status, answer)


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


async def _answer(send: Send, status: int, answer: Mapping[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
