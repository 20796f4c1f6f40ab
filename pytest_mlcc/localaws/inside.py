"""Calls from inside the server: what state machines and stacks use to reach our services, as an SDK does over HTTP.

Requests are written and answers read by botocore, so a call from inside meets the same checks and errors as any other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from pytest_mlcc.localaws.wire import service_model

__all__ = ["InsideCalls", "InsideRequest", "ServiceError", "fitted", "operation_model"]


@dataclass(frozen=True, slots=True)
class InsideRequest:
    """A request as a service's handler takes it; headers have lower-case names."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    query: dict[str, list[str]]


#: Hands a request to the handler of a service: status, headers and body of the answer.
Sender = Callable[[str, InsideRequest], tuple[int, Mapping[str, str], bytes]]

#: Services that sign as another one, whose handler answers for them.
_HANDLED_BY = {"sagemaker-runtime": "sagemaker"}


class ServiceError(Exception):
    """A service refused a call; ``code`` is AWS's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class InsideCalls:
    """``calls(service, operation, params, region=...)`` gives the answer's members; callable from any thread but the server's loop."""

    def __init__(self, send: Sender, *, agent: str = "") -> None:
        self._send, self._agent = send, agent

    def __call__(self, service: str, operation: str, params: Mapping[str, Any], *, region: str) -> dict[str, Any]:
        """Ask a service. Raises ServiceError in the service's words."""
        model = operation_model(service, operation)
        protocol = model.service_model.metadata["protocol"]
        request = create_serializer(protocol, include_validation=False).serialize_to_request(dict(params), model)
        headers = {name.lower(): value for name, value in request["headers"].items()}
        signed_for = _HANDLED_BY.get(service, service)
        headers["user-agent"] = self._agent
        headers["authorization"] = f"AWS4-HMAC-SHA256 Credential=inside/20260101/{region}/{signed_for}/aws4_request"
        query = parse_qs(urlencode(request["query_string"], doseq=True)) if request["query_string"] else {}
        body = _encoded(request["body"] or b"")
        status, headers_out, body_out = self._send(signed_for, InsideRequest(request["method"], request["url_path"], headers, body, query))
        answer = {"status_code": status, "headers": _Headers(headers_out), "body": body_out}
        parsed: dict[str, Any] = create_parser(protocol).parse(answer, model.output_shape)
        if status >= 300:
            raise ServiceError(parsed["Error"]["Code"], parsed["Error"]["Message"])
        parsed.pop("ResponseMetadata", None)
        return parsed


def _encoded(body: bytes | str | Mapping[str, Any]) -> bytes:
    """A body as it goes over the wire; that of the query protocol is a form."""
    text = urlencode(body, doseq=True) if isinstance(body, Mapping) else body
    return text.encode() if isinstance(text, str) else text


class _Headers(dict[str, str]):
    """Headers that are found whatever the case of their name, as botocore's parsers ask for them."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__({name.lower(): value for name, value in headers.items()})

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


def operation_model(service: str, operation: str) -> OperationModel:
    """botocore's model of an operation. Raises ServiceError where the service has none of that name."""
    model = service_model(service)
    if operation not in model.operation_names:
        raise ServiceError("UnknownOperationException", f"{service} has no operation {operation}")
    return model.operation_model(operation)


def fitted(value: Any, shape: Shape | None, *, unknown: Callable[[str], None] = lambda _: None) -> Any:
    """A template's value as the operation wants it: members by the model's names, whatever the case they came in, and scalars
    in the model's types (a template carries numbers and booleans as text). ``unknown`` hears of members there are not."""
    if isinstance(shape, StructureShape) and isinstance(value, Mapping):
        names = _names_by_fold(shape)
        made: dict[str, Any] = {}
        for key, item in value.items():
            name = names.get(str(key).casefold())
            if name is None:
                unknown(str(key))
            elif item is not None:
                made[name] = fitted(item, shape.members[name], unknown=unknown)
        return made
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [fitted(item, shape.member, unknown=unknown) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, Mapping):
        return {str(key): fitted(item, shape.value, unknown=unknown) for key, item in value.items()}
    return _scalar(value, shape)


def _scalar(value: Any, shape: Shape | None) -> Any:
    kind = shape.type_name if shape is not None else ""
    if isinstance(value, str) and kind == "boolean":
        return value.lower() == "true"
    if isinstance(value, str) and kind in ("integer", "long") and value.lstrip("-").isdigit():
        return int(value)
    if kind == "string" and isinstance(value, bool):
        return str(value).lower()
    if kind == "string" and isinstance(value, int | float):
        return str(value)
    if kind == "blob" and isinstance(value, str):
        return value.encode()
    return value


def _names_by_fold(shape: StructureShape) -> dict[str, str]:
    return _folded(tuple(shape.members))


@functools.lru_cache(maxsize=512)
def _folded(names: tuple[str, ...]) -> dict[str, str]:
    return {name.casefold(): name for name in names}
