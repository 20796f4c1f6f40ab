"""How requests and answers look on the wire, read from botocore's own service models.

JSON 1.x (``X-Amz-Target``) and REST-JSON (path, header, query, payload, event stream) are understood. A service holds
behaviour only: it maps operation names to plain functions, and :class:`Service` does the rest.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextvars
import datetime as dt
import functools
import inspect
import json
import logging
import re
import struct
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from urllib.parse import unquote

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

from pytest_mlcc.localaws.constraints import broken_rules

__all__ = [
    "AwsError",
    "Call",
    "HttpAnswer",
    "Operation",
    "Response",
    "Service",
    "StreamedBody",
    "encode_event",
    "error_response",
    "parse_request",
    "render_response",
    "service_model",
]

_log = logging.getLogger(__name__)
_CREDENTIAL_SCOPE = re.compile(r"Credential=[^/,]+/\d{8}/([a-z0-9-]+)/")


class AwsError(Exception):
    """An error that a client sees: AWS's code, text, HTTP status and, for modelled errors, further members."""

    def __init__(self, code: str, message: str, status: int = 400, **extra: object) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.extra = code, message, status, extra


@dataclass(frozen=True, slots=True)
class Call:
    """One validated request: which operation, its parameters as botocore names them, and the region it was signed for."""

    operation: str
    params: dict[str, Any]
    region: str


class StreamedBody:
    """A response body that is sent piece by piece: ``await runner(send, receive)`` emits ASGI body messages."""

    __slots__ = ("runner",)

    def __init__(self, runner: Callable[[Any, Any], Awaitable[None]]) -> None:
        self.runner = runner


@dataclass(frozen=True, slots=True)
class Response:
    """What an operation answers when it must choose headers or stream; others just return the output members."""

    headers: dict[str, str]
    body: bytes | StreamedBody
    status: int = 200


Result = Mapping[str, Any] | Response | None
#: A plain function may block: it gets a thread. A coroutine function only waits, and needs none.
Operation = Callable[[Call], Result] | Callable[[Call], Coroutine[Any, Any, Result]]
HttpAnswer = tuple[int, dict[str, str], Any]


class _Stateful(Protocol):
    def snapshot(self) -> dict[str, Any]: ...
    def restore(self, data: Mapping[str, Any]) -> None: ...


@functools.cache
def service_model(name: str) -> ServiceModel:
    """botocore's model of a service, loaded once (about 0.25 s for the biggest)."""
    return ServiceModel(_loader().load_service_model(name, "service-2"), service_name=name)


@functools.cache
def _loader() -> Loader:
    """One for all models: it looks once which services there are. A session would set itself up first, which takes longer."""
    return Loader()


# --- JSON values -> Python values and back -------------------------------------------------------------------------


def _decode(shape: Shape, value: Any) -> Any:
    """Wire JSON as the Python values that ParamValidator judges; members the model does not know are ignored, as AWS does."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        members = shape.members
        return {key: _decode(members[key], item) for key, item in value.items() if key in members and item is not None}
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_decode(shape.member, item) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {key: _decode(shape.value, item) for key, item in value.items()}
    if shape.type_name == "timestamp" and isinstance(value, int | float) and not isinstance(value, bool):
        return dt.datetime.fromtimestamp(value, dt.UTC)
    if shape.type_name == "blob" and isinstance(value, str):
        return base64.b64decode(value)
    return value


def _encode(shape: Shape, value: Any) -> Any:
    """Python values as wire JSON; members the model does not know (a record's private ones) are left out."""
    if isinstance(shape, StructureShape):
        members = shape.members
        return {key: _encode(members[key], item) for key, item in value.items() if key in members and item is not None}
    if isinstance(shape, ListShape):
        return [_encode(shape.member, item) for item in value]
    if isinstance(shape, MapShape):
        return {str(key): _encode(shape.value, item) for key, item in value.items()}
    if shape.type_name == "timestamp":
        return round(value.timestamp(), 3) if isinstance(value, dt.datetime) else value
    if shape.type_name == "blob":
        return base64.b64encode(value).decode()
    return value


# --- requests ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    pattern: re.Pattern[str]
    operation: str


def _route(operation: OperationModel) -> _Route:
    path = re.escape(operation.http["requestUri"].split("?")[0])
    labels = re.sub(r"\\\{(\w+)(\\\+)?\\\}", lambda m: f"(?P<{m[1]}>{'.+' if m[2] else '[^/]+'})", path)
    return _Route(operation.http["method"], re.compile(labels + "/?"), operation.name)


@functools.cache
def _routes(service: str) -> tuple[_Route, ...]:
    """Every REST operation of a service, most literal path first, so that a label never hides a fixed word."""
    model = service_model(service)
    operations = [model.operation_model(name) for name in model.operation_names]
    operations.sort(key=lambda op: (op.http["requestUri"].count("{"), -len(op.http["requestUri"])))
    return tuple(_route(operation) for operation in operations)


@functools.cache
def _operation_names(service: str) -> frozenset[str]:
    return frozenset(service_model(service).operation_names)


def _unknown(service: str, what: str) -> AwsError:
    status = 400 if service_model(service).metadata["protocol"] == "json" else 404
    return AwsError("UnknownOperationException", f"The operation {what} of {service} is not available.", status)


def _match(service: str, method: str, path: str) -> tuple[OperationModel, dict[str, Any]]:
    for route in _routes(service):
        hit = route.pattern.fullmatch(path) if route.method == method else None
        if hit:
            labels = {key: unquote(value) for key, value in hit.groupdict().items()}
            return service_model(service).operation_model(route.operation), labels
    raise _unknown(service, f"{method} {path}")


def _json_body(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise AwsError("SerializationException", "The request body is not valid JSON.") from None
    if not isinstance(value, dict):
        raise AwsError("SerializationException", "Start of structure or map found where not expected.")
    return value


def _scalar(shape: Shape, text: str) -> Any:
    """A header or query value in the type the model gives it."""
    try:
        if shape.type_name in ("integer", "long"):
            return int(text)
        if shape.type_name in ("float", "double"):
            return float(text)
    except ValueError:
        raise AwsError("SerializationException", f"{text!r} is not a number.") from None
    return text == "true" if shape.type_name == "boolean" else text


def _rest_params(
    shape: StructureShape, labels: dict[str, Any], headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]]
) -> dict[str, Any]:
    params: dict[str, Any] = {}
    payload = shape.serialization.get("payload")
    for key, member in shape.members.items():
        place, wire = member.serialization.get("location"), member.serialization.get("name", key)
        if place == "uri" and wire in labels:
            params[key] = labels[wire]
        elif place == "header" and wire.lower() in headers:
            params[key] = _scalar(member, headers[wire.lower()])
        elif place == "querystring" and query.get(wire):
            params[key] = _scalar(member, query[wire][0])
    if payload and shape.members[payload].type_name in ("blob", "string"):
        params[payload] = body
    elif payload:
        params[payload] = _decode(shape.members[payload], _json_body(body))
    elif body:
        params.update(_decode(shape, _json_body(body)))
    return params


def _asked_for(service: str, method: str, path: str, headers: Mapping[str, str]) -> tuple[OperationModel, dict[str, Any] | None]:
    """The operation, and the labels in the path of a REST service's."""
    model = service_model(service)
    if model.metadata["protocol"] != "json":
        return _match(service, method, path)
    name = headers.get("x-amz-target", "").rpartition(".")[2]
    if name not in _operation_names(service):
        raise _unknown(service, name or f"{method} {path}")
    return model.operation_model(name), None


def parse_request(
    service: str, method: str, path: str, *, headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]],
    invalid: str = "ValidationException", offered: Collection[str] | None = None,
) -> tuple[OperationModel, dict[str, Any]]:  # fmt: skip
    """The operation asked for and its checked parameters; ``headers`` have lower-case names.

    Raises AwsError in AWS's words for an operation that is unknown, or not one of those ``offered`` where only some are, for
    unreadable bodies and for every broken rule of the model; ``invalid`` is the code that the service gives to the last.
    """
    operation, labels = _asked_for(service, method, path, headers)
    if offered is not None and operation.name not in offered:
        raise _unknown(service, operation.name)
    shape = operation.input_shape
    if labels is None:
        raw = _json_body(body)
        params = _decode(shape, raw) if shape else {}
    else:
        params = _rest_params(shape, labels, headers, body, query) if isinstance(shape, StructureShape) else {}
    broken = broken_rules(operation, params)
    if broken:
        raise AwsError(invalid, broken)
    return operation, params


# --- answers -------------------------------------------------------------------------------------------------------


def render_response(operation: OperationModel, result: Mapping[str, Any]) -> HttpAnswer:
    """Status, lower-case headers and body of a success, shaped by the operation's output."""
    metadata, shape = operation.service_model.metadata, operation.output_shape
    if metadata["protocol"] == "json":
        content_type = f"application/x-amz-json-{metadata.get('jsonVersion', '1.1')}"
        # An operation without output answers an empty body on AWS, not "{}".
        body = json.dumps(_encode(shape, result)).encode() if shape else b""
        return 200, {"content-type": content_type}, body
    headers: dict[str, str] = {}
    rest: dict[str, Any] = {}
    members = shape.members if isinstance(shape, StructureShape) else {}
    payload = shape.serialization.get("payload") if shape else None
    for key, value in result.items():
        if key == payload or key not in members or value is None:
            continue
        if members[key].serialization.get("location") == "header":
            headers[members[key].serialization["name"].lower()] = str(value)
        else:
            rest[key] = _encode(members[key], value)
    headers.setdefault("content-type", "application/json")
    body = result.get(payload, b"") if payload else json.dumps(rest).encode()
    return operation.http.get("responseCode", 200), headers, body


def error_response(service: str, error: AwsError) -> HttpAnswer:
    """An error in the form the service's protocol gives it."""
    metadata = service_model(service).metadata
    if metadata["protocol"] == "json":
        headers = {"content-type": f"application/x-amz-json-{metadata.get('jsonVersion', '1.1')}"}
        body = {"__type": error.code, "message": error.message, **error.extra}
    else:
        headers = {"content-type": "application/json"}
        body = {"Message": error.message, "message": error.message, **error.extra}
    headers["x-amzn-errortype"] = error.code
    return error.status, headers, json.dumps(body).encode()


def encode_event(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message of ``application/vnd.amazon.eventstream``: prelude, string headers, payload, two checksums."""
    packed = b"".join(
        struct.pack("!B", len(key)) + key.encode() + b"\x07" + struct.pack("!H", len(value.encode())) + value.encode()
        for key, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + packed + payload
    return message + struct.pack("!I", binascii.crc32(message))


# --- a service -----------------------------------------------------------------------------------------------------


def _region(headers: Mapping[str, str], default: str) -> str:
    """The region a request was signed for; calls from inside the server (Step Functions) may carry no signature."""
    scope = _CREDENTIAL_SCOPE.search(headers.get("authorization", ""))
    return scope[1] if scope else default


@dataclass
class Service:
    """One AWS service: operations by name over botocore's model, in the handler contract of the server.

    A plain operation may block: it runs in one of ``threads`` threads of the service, context variables travel along. One
    that is a coroutine function runs on the event loop.
    ``invalid`` is the service's code for parameters that break a rule of the model. ``store`` is what
    ``snapshot``/``restore`` persist; ``activity`` and ``on_close`` answer the server's questions.
    """

    name: str
    operations: Mapping[str, Operation]
    region: str = field(kw_only=True)
    store: _Stateful | None = field(default=None, kw_only=True)
    invalid: str = field(default="ValidationException", kw_only=True)
    threads: int = field(default=16, kw_only=True)
    count_activity: Callable[[], dict[str, int]] | None = field(default=None, kw_only=True)
    on_close: Callable[[], None] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.operations) - _operation_names(self.name))
        if unknown:
            raise ValueError(f"{self.name} has no operation named {', '.join(unknown)}")
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=self.name)

    async def handle_request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]]
    ) -> HttpAnswer:
        """Answer one request; an error of ours answers 500 in AWS's form and is logged with its traceback."""
        try:
            operation, params = parse_request(
                self.name, method, path, headers=headers, body=body, query=query, invalid=self.invalid, offered=self.operations
            )
            result = await self._run(Call(operation.name, params, _region(headers, self.region)))
            if isinstance(result, Response):
                return result.status, result.headers, result.body
            return render_response(operation, result or {})
        except AwsError as error:
            return error_response(self.name, error)
        except Exception:
            _log.exception("%s: %s %s failed", self.name, headers.get("x-amz-target", method), path)
            return error_response(self.name, AwsError("InternalFailure", "The local AWS failed; see its log.", 500))

    async def _run(self, call: Call) -> Result:
        function = self.operations[call.operation]
        if inspect.iscoroutinefunction(function):
            waited: Result = await function(call)
            return waited
        plain = cast("Callable[[Call], Result]", function)
        return await asyncio.get_running_loop().run_in_executor(self._pool, contextvars.copy_context().run, plain, call)

    def snapshot(self) -> dict[str, Any]:
        """The state to persist, as plain JSON data."""
        return self.store.snapshot() if self.store else {}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take back what ``snapshot`` gave before the server stopped."""
        if self.store:
            self.store.restore(data)

    def activity(self) -> dict[str, int]:
        """Counts of what runs, by kind."""
        return self.count_activity() if self.count_activity else {}

    def close(self) -> None:
        """End every process the service started, then its threads; blocks until they are gone."""
        if self.on_close:
            self.on_close()
        self._pool.shutdown(wait=False, cancel_futures=True)
