"""What clients use of the local AWS: operations, members sent and answered, and errors, by client.

Off, and free, unless the environment variable ``MLCC_RECORD_CALLS`` names a directory: each server then writes one file of JSON
lines there. ``docs/parity.md`` is made of such files; a user's own tell which part of AWS a project needs.
"""

from __future__ import annotations

import contextvars
import inspect
import json
import os
import re
import threading
from collections.abc import Coroutine, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pytest_mlcc.localaws.context import INSIDE, HostedService
from pytest_mlcc.localaws.emulator import Receive, Scope, Send
from pytest_mlcc.localaws.rehearsal.calls import identify, is_form, service_of
from pytest_mlcc.localaws.wire import AwsError, Call, HttpAnswer, Operation, Service

__all__ = ["FROM_INSIDE", "VARIABLE", "Door", "Looked", "Recorded", "Recorder", "member_paths", "recorder"]

VARIABLE = "MLCC_RECORD_CALLS"

#: The client of calls that the emulator's own state machines and stacks make.
FROM_INSIDE = "state machines and stacks"

_APP = re.compile(r"(?:^|\s)app/(\S+)")
_REGISTRY = re.compile(r"^/v2/.+?/(blobs|manifests|tags)/(uploads)?")

_headers: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("headers")


class Looked(dict[str, Any]):
    """Parameters that note which of them an operation asks for by name; what is copied as a whole is not noted."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict's, noted."""
        self.names.add(name)
        return super().get(name, default)


class Recorder:
    """Writes each fact once; safe from any thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._written: set[str] = set()
        self._lock = threading.Lock()

    def watch(self, service: Service) -> None:
        """Note every call of the service's operations from now on."""
        service.operations = {name: self._watched(service.name, function) for name, function in service.operations.items()}

    def note(
        self,
        service: str,
        operation: str,
        headers: Mapping[str, str],
        *,
        sent: Looked | None = None,
        answered: Sequence[Any] = (),
        error: str = "",
    ) -> None:
        """One answered call; calls that the server makes of itself are not a client's."""
        client = _client(headers)
        if client is None:
            return
        looked = sorted(sent.names & sent.keys()) if sent else []
        fact = {
            "service": service, "operation": operation, "client": client, "sent": sorted(set(member_paths(sent))), "looked": looked,
            "answered": sorted({path for answer in answered for path in member_paths(answer)}), "error": error,
        }  # fmt: skip
        line = json.dumps(fact)
        with self._lock:
            if line not in self._written:
                self._written.add(line)
                with self._path.open("a") as file:
                    file.write(line + "\n")

    def _watched(self, service: str, function: Operation) -> Operation:
        @contextmanager
        def noting(call: Call) -> Iterator[tuple[Call, list[Any]]]:
            sent, error = Looked(call.params), ""
            answers: list[Any] = []
            try:
                yield replace(call, params=sent), answers
            except AwsError as refusal:
                error = refusal.code
                raise
            finally:
                self.note(service, call.operation, _headers.get({}), sent=sent, answered=answers, error=error)

        def run(call: Call) -> Any:
            with noting(call) as (watched, answers):
                answers.append(function(watched))
            return answers[0]

        async def wait(call: Call) -> Any:
            with noting(call) as (watched, answers):
                answers.append(await cast("Coroutine[Any, Any, Any]", function(watched)))
            return answers[0]

        return wait if inspect.iscoroutinefunction(function) else run


class Recorded:
    """A service whose calls are noted; ``planes`` are those of its services that have operations."""

    def __init__(self, service: HostedService, planes: Sequence[Service], recorder: Recorder) -> None:
        self._service = service
        for plane in planes:
            recorder.watch(plane)

    async def handle_request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]]
    ) -> HttpAnswer:
        """Answer as the service does."""
        _headers.set(headers)
        return await self._service.handle_request(method, path, headers, body, query)


class Door:
    """An ASGI application before another one; it notes the calls of services that are not ours, and of the image registry."""

    def __init__(self, app: Any, recorder: Recorder, *, ours: frozenset[str]) -> None:
        self._app, self._recorder, self._ours = app, recorder, ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection as the application does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        form, status = b"", 0

        async def receive_seen() -> MutableMapping[str, Any]:
            nonlocal form
            message = await receive()
            form += message.get("body", b"") if is_form(headers) else b""
            return message

        async def send_seen(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self._app(scope, receive_seen, send_seen)
        self._note(scope, headers, form, str(status) if status >= 400 else "")

    def _note(self, scope: Scope, headers: Mapping[str, str], form: bytes, error: str) -> None:
        query, path, method = scope["query_string"].decode("latin-1"), scope["path"], scope["method"]
        service = service_of(headers, query)
        if not service and path.startswith("/v2/"):
            self._recorder.note("registry", f"{method} {_registry_path(path)}", headers, error=error)
            return
        call = identify(service, method, path, headers=headers, query_string=query, body=form) if service else None
        if call is not None and call.service not in self._ours:
            self._recorder.note(call.service, call.operation, headers, error=error)


def _registry_path(path: str) -> str:
    """A path of the registry's API without the names in it: ``/v2/<name>/blobs/<digest>``."""
    found = _REGISTRY.match(path)
    if found is None:
        return "/v2/"
    last = {"tags": "list", "manifests": "<reference>", "blobs": "uploads" if found[2] else "<digest>"}[found[1]]
    return f"/v2/<name>/{found[1]}/{last}"


def _client(headers: Mapping[str, str]) -> str | None:
    """Who calls: the application id that an AWS client was given (``AWS_SDK_UA_APP_ID``), else its product; None for ourselves."""
    agent = headers.get("user-agent", "")
    if INSIDE in agent:
        return None
    if "Credential=inside/" in headers.get("authorization", ""):
        return FROM_INSIDE
    named = _APP.search(agent)
    return named[1] if named else agent.partition("/")[0].lower() or "unnamed"


def member_paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Every member of a request or an answer, as ``ProductionVariants[].InstanceType``; keys that a user chose are not members."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if item is not None and str(key).isidentifier() and not str(key).startswith("_"):
                path = f"{prefix}.{key}" if prefix else str(key)
                yield path
                yield from member_paths(item, path)
    elif isinstance(value, list | tuple):
        for item in value[:20]:
            yield from member_paths(item, f"{prefix}[]")


def recorder() -> Recorder | None:
    """This process's recorder, where the environment asks for one."""
    directory = os.environ.get(VARIABLE)
    return Recorder(Path(directory) / f"{os.getpid()}.jsonl") if directory else None
