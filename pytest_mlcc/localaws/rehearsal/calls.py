"""What a request is: its service, its operation, the protocol it speaks, and the names it carries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote

from botocore.model import OperationModel, StructureShape

from pytest_mlcc.localaws.rehearsal.operations import canonical, models_of

__all__ = ["Call", "Protocol", "identify", "names_in", "service_of"]

_SCOPE = re.compile(r"Credential=[^/,]+/\d{8}/[^/,]+/([a-z0-9-]+)/aws4_request")
_NAMING = re.compile(r"(names?|ids?|arns?|urls?|uris?|bucket|key|tags?|location(override)?)$", re.IGNORECASE)
_CBOR_PATH = re.compile(r"/service/[^/]+/operation/(\w+)")


class Protocol(StrEnum):
    """How a service writes its errors."""

    JSON = "json"
    REST_JSON = "rest-json"
    QUERY = "query"
    EC2 = "ec2"
    REST_XML = "rest-xml"
    S3 = "s3"
    CBOR = "smithy-rpc-v2-cbor"


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``names`` are those in its path, its query and its headers; those in its body are :func:`names_in`."""

    service: str
    operation: str
    protocol: Protocol
    names: tuple[str, ...] = ()

    @property
    def action(self) -> str:
        """``sagemaker:CreateEndpoint``."""
        return f"{self.service}:{self.operation}"


def service_of(headers: Mapping[str, str], query_string: str) -> str:
    """The service that a request is signed for, in its header or its URL; empty for one without a signature."""
    found = _SCOPE.search(headers.get("authorization", ""))
    if found:
        return found[1]
    signed = parse_qs(query_string).get("X-Amz-Credential", [""])[0].split("/") if "X-Amz-Credential" in query_string else []
    return signed[3] if len(signed) == 5 else ""


def identify(service: str, method: str, path: str, *, headers: Mapping[str, str], query_string: str, body: bytes | None) -> Call | None:
    """The call that a request signed for ``service`` makes; None where nobody can tell.

    ``body`` is needed for the query protocol alone, whose operation stands there; without it such a request gives None.
    """
    service = canonical(f"{service}:").removesuffix(":")
    target = headers.get("x-amz-target", "")
    if target:
        return Call(service, target.rpartition(".")[2], Protocol.JSON)
    rpc = _CBOR_PATH.fullmatch(path)
    if rpc and headers.get("smithy-protocol") == "rpc-v2-cbor":
        return Call(service, rpc[1], Protocol.CBOR)
    if is_form(headers) or "Action=" in query_string:
        return _query_call(service, query_string, body)
    if service == "s3":
        path = _with_bucket(path, headers.get("host", ""))
    return _rest_call(service, method, path, headers=headers, query_string=query_string)


def is_form(headers: Mapping[str, str]) -> bool:
    """Whether a body is a form, as in the query protocol."""
    return headers.get("content-type", "").startswith("application/x-www-form-urlencoded")


def names_in(call: Call, body: bytes) -> tuple[str, ...]:
    """Every name in a request's body: values of its top level whose key ends in name, id, arn, tag, key, location or the like."""
    if call.protocol in (Protocol.QUERY, Protocol.EC2):
        form = parse_qs(body.decode("utf-8", "replace"))
        return tuple(value for key, values in form.items() if _NAMING.search(key.rstrip(".0123456789")) for value in values)
    if call.protocol not in (Protocol.JSON, Protocol.REST_JSON):
        return ()
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return ()
    return tuple(_named(document)) if isinstance(document, dict) else ()


def _named(document: Mapping[str, Any]) -> Iterator[str]:
    for key, value in document.items():
        if _NAMING.search(key):
            yield from (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str))


def _query_call(service: str, query_string: str, body: bytes | None) -> Call | None:
    text = query_string if "Action=" in query_string else (body or b"").decode("utf-8", "replace")
    form = parse_qs(text)
    action = form.get("Action", [""])[0]
    return Call(service, action, Protocol.EC2 if service == "ec2" else Protocol.QUERY) if action else None


def _with_bucket(path: str, host: str) -> str:
    """The path as if the bucket stood in it: it may stand in the host's name (``bucket.localhost``, ``bucket.s3.<region>.localhost``)."""
    name = host.partition(":")[0]
    labels = name.removesuffix("localhost").rstrip(".") if name.endswith(".localhost") else ""
    bucket = re.sub(r"(^|\.)s3([.-][a-z0-9-]+)?$", "", labels)
    return f"/{bucket}{path}" if bucket else path


# --- REST: which operation a method, a path, a query and headers make ------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a request must have to be this operation; the more of it, the surer."""

    operation: str
    protocol: Protocol
    method: str
    pattern: re.Pattern[str]
    literals: int
    query: tuple[tuple[str, str], ...]
    headers: tuple[str, ...]
    named: tuple[tuple[str, str], ...]

    @property
    def weight(self) -> tuple[int, int]:
        return len(self.query) + len(self.headers), self.literals


def _rest_call(service: str, method: str, path: str, *, headers: Mapping[str, str], query_string: str) -> Call | None:
    query = parse_qs(query_string, keep_blank_values=True)
    for shape in _shapes(service):
        hit = shape.pattern.fullmatch(path) if shape.method == method else None
        if hit and _has(shape, query, headers):
            return Call(service, shape.operation, shape.protocol, _rest_names(service, shape, hit, query, headers))
    return None


def _has(shape: _Shape, query: Mapping[str, list[str]], headers: Mapping[str, str]) -> bool:
    in_query = all(key in query and value in ("", query[key][0]) for key, value in shape.query)
    return in_query and all(name in headers for name in shape.headers)


def _rest_names(
    service: str, shape: _Shape, hit: re.Match[str], query: Mapping[str, list[str]], headers: Mapping[str, str]
) -> tuple[str, ...]:
    labels = [unquote(value) for value in hit.groupdict().values() if value]
    if service == "s3" and len(labels) == 2:
        labels = [labels[0], "/".join(labels)]
    more = [headers.get(wire.lower(), "") if place == "header" else query.get(wire, [""])[0] for place, wire in shape.named]
    return tuple(labels + [one for one in more if one])


@cache
def _shapes(service: str) -> tuple[_Shape, ...]:
    """Every REST operation of a service, the one that asks for most first."""
    models = [model for model in models_of(service) if model.metadata["protocol"].startswith("rest-")]
    shapes = [_shape(service, model.operation_model(name)) for model in models for name in model.operation_names]
    return tuple(sorted(shapes, key=lambda one: one.weight, reverse=True))


def _shape(service: str, operation: OperationModel) -> _Shape:
    uri, _, asked = operation.http["requestUri"].partition("?")
    escaped = re.escape(uri)
    pattern = re.sub(r"\\\{(\w+)(\\\+)?\\\}", lambda m: f"(?P<{m[1]}>{'.+' if m[2] else '[^/]+'})", escaped)
    query = [(key, value) for key, _, value in (part.partition("=") for part in asked.split("&") if part)]
    headers: list[str] = []
    named: list[tuple[str, str]] = []
    shape = operation.input_shape
    for key, member in shape.members.items() if isinstance(shape, StructureShape) else ():
        place, wire = member.serialization.get("location"), member.serialization.get("name", key)
        if key in shape.required_members and place == "querystring":
            query.append((wire, ""))
        elif key in shape.required_members and place == "header":
            headers.append(wire.lower())
        if place in ("querystring", "header") and _NAMING.search(key):
            named.append((place, wire))
    protocol = Protocol.S3 if service == "s3" else Protocol(operation.service_model.metadata["protocol"])
    return _Shape(
        operation=operation.name,
        protocol=protocol,
        method=operation.http["method"],
        pattern=re.compile(pattern + "/?"),
        literals=len(re.sub(r"\{\w+\+?\}", "", uri)),
        query=tuple(query),
        headers=tuple(headers),
        named=tuple(named),
    )
