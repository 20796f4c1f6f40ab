"""The Docker Registry v2 paths: what ``docker push`` and ``docker pull`` speak.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md. Layers go from the socket to the disk and back
piece by piece; none is ever held in memory.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from pytest_mlcc.localaws.images.reference import password_region
from pytest_mlcc.localaws.services.ecr.blobs import digest_of
from pytest_mlcc.localaws.services.ecr.model import Registry
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["RegistryDoor"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_PATH = re.compile(r"^/v2/(?P<name>.+?)/(?P<kind>blobs/uploads|blobs|manifests|tags/list|referrers)(?:/(?P<what>[^/]*))?/?$")
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_TAG = re.compile(r"^\w[\w.-]{0,127}$", re.ASCII)
_CHUNK = 1 << 20
_MANIFEST_BYTES = 4 << 20
_LINK_SECONDS = 3600
_TAGS_PER_PAGE = 1000
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class _Answer:
    """A response; ``file`` (from ``start`` on, ``length`` bytes) is sent in place of a body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: Path | None = None
    start: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    region: str
    name: str
    what: str
    headers: Mapping[str, str]
    query: Mapping[str, list[str]]
    receive: Receive

    @property
    def owner(self) -> str:
        """Whose uploads this request may go on with."""
        return f"{self.region}/{self.name}"

    def asked(self, key: str) -> str:
        """The first value of a query parameter, or an empty text."""
        return self.query.get(key, [""])[0]


class _Body:
    """A request's body as it arrives. A refusal that leaves it unread would reset the connection before the client reads why."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def drain(self, most: int) -> None:
        """Read what is left, at most so many bytes: who sends more to a refusal is not waited for."""
        while not self._ended and most > 0:
            most -= len((await self()).get("body", b""))


class RegistryDoor:
    """Answers the registry's paths from a Registry: ``handle`` is an ASGI application."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._secret = secrets.token_bytes(32)

    def link(self, region: str, name: str, digest: str) -> str:
        """A path from which a layer can be fetched without a login, for an hour."""
        expires = str(int(time.time()) + _LINK_SECONDS)
        signature = self._signature(region, name, digest, expires)
        return f"/v2/{name}/blobs/{digest}?" + urlencode({"region": region, "expires": expires, "signature": signature})

    def _signature(self, *parts: str) -> str:
        return hmac.new(self._secret, "\n".join(parts).encode(), hashlib.sha256).hexdigest()

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        body = _Body(receive)
        try:
            answer = await self._answer(scope["method"], scope["path"], headers, query, body)
        except AwsError as error:
            answer = _error(error.status, _REGISTRY_CODES.get(error.code, "DENIED"), error.message)
        await body.drain(_CHUNK)
        await _send(answer, send, head=scope["method"] == "HEAD")

    async def _answer(
        self, method: str, path: str, headers: Mapping[str, str], query: Mapping[str, list[str]], receive: Receive
    ) -> _Answer:
        match = _PATH.match(path)
        region = _region_of_login(headers) or (self._region_of_link(match, query) if method in ("GET", "HEAD") else None)
        if region is None:
            refused = _error(401, "UNAUTHORIZED", "Not Authorized")
            challenge = {"www-authenticate": f'Basic realm="http://{headers.get("host", "")}/",service="ecr.amazonaws.com"'}
            return _Answer(401, {**refused.headers, **challenge}, refused.body)
        if path in ("/v2", "/v2/"):
            return _json({})
        if path == "/v2/_catalog":
            return self._catalog(region, query)
        if match is None:
            return _error(404, "UNSUPPORTED", f"the registry has no {path}")
        name = match["name"]
        if not self._registry.has_repository(region, name):
            return _error(404, "NAME_UNKNOWN", self._registry.no_repository(name).message)
        request = _Request(method, region, name, match["what"] or "", headers, query, receive)
        kinds: dict[str, Callable[[_Request], Awaitable[_Answer]]] = {
            "blobs/uploads": self._upload, "blobs": self._blob, "manifests": self._manifest, "tags/list": self._tags,
            "referrers": self._referrers,
        }  # fmt: skip
        return await kinds[match["kind"]](request)

    def _region_of_link(self, match: re.Match[str] | None, query: Mapping[str, list[str]]) -> str | None:
        given = {key: query.get(key, [""])[0] for key in ("region", "expires", "signature")}
        if match is None or match["kind"] != "blobs" or not given["expires"].isdigit() or int(given["expires"]) < time.time():
            return None
        right = self._signature(given["region"], match["name"], match["what"] or "", given["expires"])
        return given["region"] if hmac.compare_digest(right.encode(), given["signature"].encode()) else None

    # --- uploads

    async def _upload(self, request: _Request) -> _Answer:
        blobs, upload = self._registry.blobs, request.what
        if request.method == "POST":
            return await self._begin_upload(request)
        size = blobs.size(upload, request.owner)
        if size is None:
            return _error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        if request.method == "DELETE":
            blobs.cancel(upload)
            return _Answer(204)
        if request.method == "GET":
            return _Answer(204, _upload_headers(request, upload, size))
        return await self._go_on(request, upload, size) if request.method in ("PATCH", "PUT") else _not_allowed()

    async def _go_on(self, request: _Request, upload: str, size: int) -> _Answer:
        first = request.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
        if first and (not first.isdigit() or int(first) != size):  # a part that does not follow what is there
            refused = _error(416, "BLOB_UPLOAD_INVALID", f"the next part must begin at byte {size}")
            return _Answer(416, {**refused.headers, **_upload_headers(request, upload, size)}, refused.body)
        size += await self._append(request, upload)
        return (
            await self._finish_upload(request, upload) if request.method == "PUT" else _Answer(202, _upload_headers(request, upload, size))
        )

    async def _begin_upload(self, request: _Request) -> _Answer:
        mount, source = request.asked("mount"), request.asked("from")
        if mount and source and self._registry.layer(request.region, source, mount):
            self._registry.link_layer(request.region, request.name, mount)
            return _created(f"/v2/{request.name}/blobs/{mount}", mount)
        upload = self._registry.blobs.begin(request.owner)
        if request.asked("digest"):
            await self._append(request, upload)
            return await self._finish_upload(request, upload)
        return _Answer(202, _upload_headers(request, upload, 0))

    async def _append(self, request: _Request, upload: str) -> int:
        """Write the request's body behind what is there; how many bytes it had."""
        total, pending = 0, bytearray()
        with self._registry.blobs.opened(upload) as file:
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    break
                pending += message.get("body", b"")
                if len(pending) >= _CHUNK or not message.get("more_body", False):
                    total += len(pending)
                    await asyncio.to_thread(file.write, bytes(pending))
                    pending.clear()
                if not message.get("more_body", False):
                    break
        return total

    async def _finish_upload(self, request: _Request, upload: str) -> _Answer:
        digest, blobs = request.asked("digest"), self._registry.blobs
        self._registry.touch(digest)
        if not _DIGEST.match(digest) or not await asyncio.to_thread(blobs.finish, upload, digest):
            blobs.cancel(upload)
            return _error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self._registry.link_layer(request.region, request.name, digest)
        return _created(f"/v2/{request.name}/blobs/{digest}", digest)

    # --- blobs

    async def _blob(self, request: _Request) -> _Answer:
        if request.method not in ("GET", "HEAD"):
            return _not_allowed()
        layer = self._registry.layer(request.region, request.name, request.what)
        if layer is None:
            return _error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        size = int(layer["size"])
        headers = {"content-type": "application/octet-stream", "docker-content-digest": request.what, "accept-ranges": "bytes"}
        path, span = self._registry.blobs.path(request.what), _range(request.headers.get("range", ""), size)
        if span is None:
            return _Answer(416, {"content-range": f"bytes */{size}"})
        first, last = span
        if "range" in request.headers:
            headers["content-range"] = f"bytes {first}-{last}/{size}"
        status = 206 if "range" in request.headers else 200
        return _Answer(status, headers, file=path, start=first, length=last - first + 1)

    # --- manifests

    async def _manifest(self, request: _Request) -> _Answer:
        by_digest = bool(_DIGEST.match(request.what))
        if request.method == "PUT":
            return await self._put_manifest(request, by_digest=by_digest)
        which = {"digest": request.what} if by_digest else {"tag": request.what}
        image = self._registry.image(request.region, request.name, **which)
        if image is None:
            return _error(404, "MANIFEST_UNKNOWN", "Requested image not found")
        if request.method == "DELETE":
            self._registry.delete_image(request.region, request.name, digest=which.get("digest"), tag=which.get("tag"))
            return _Answer(202)
        if request.method not in ("GET", "HEAD"):
            return _not_allowed()
        if request.method == "GET":
            self._registry.note_pull(request.region, request.name, image)
        return _Answer(200, {"content-type": image["mediaType"], "docker-content-digest": image["digest"]}, image["manifest"].encode())

    async def _put_manifest(self, request: _Request, *, by_digest: bool) -> _Answer:
        if not by_digest and not _TAG.match(request.what):
            return _error(400, "TAG_INVALID", f"manifest tag did not match URI: {request.what}")
        body = bytearray()
        while True:
            message = await request.receive()
            body += message.get("body", b"")
            if len(body) > _MANIFEST_BYTES:
                return _error(400, "MANIFEST_INVALID", "the manifest is larger than 4 MiB")
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                break
        if by_digest and digest_of(bytes(body)) != request.what:
            return _error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return _error(400, "MANIFEST_INVALID", "the manifest is not UTF-8")
        image = self._registry.put_image(
            request.region, request.name, text, media_type=request.headers.get("content-type", ""), tag=None if by_digest else request.what
        )
        answer = _created(f"/v2/{request.name}/manifests/{image['digest']}", image["digest"])
        return _Answer(201, {**answer.headers, **({"oci-subject": image["subject"]} if image.get("subject") else {})})

    # --- lists

    async def _tags(self, request: _Request) -> _Answer:
        if request.method != "GET":
            return _not_allowed()
        tags = sorted(tag for image in self._registry.images(request.region, request.name) for tag in image["tags"])
        page, more = _paged(tags, request.query)
        return _json(
            {"name": request.name, "tags": page}, link=f"/v2/{request.name}/tags/list" if more else "", query=request.query, page=page
        )

    async def _referrers(self, request: _Request) -> _Answer:
        if request.method != "GET":
            return _not_allowed()
        images, wanted = self._registry.referrers(request.region, request.name, request.what), request.asked("artifactType")
        described = [_descriptor(image) for image in images if wanted in ("", image.get("artifactType"))]
        index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": described}
        applied = {"oci-filters-applied": "artifactType"} if wanted else {}
        return _Answer(200, {"content-type": _INDEX_TYPE, **applied}, json.dumps(index).encode())

    def _catalog(self, region: str, query: Mapping[str, list[str]]) -> _Answer:
        page, more = _paged([row["repositoryName"] for row in self._registry.repositories(region)], query)
        return _json({"repositories": page}, link="/v2/_catalog" if more else "", query=query, page=page)


_REGISTRY_CODES = {
    "LayersNotFoundException": "MANIFEST_BLOB_UNKNOWN",
    "ReferencedImagesNotFoundException": "MANIFEST_BLOB_UNKNOWN",
    "InvalidParameterException": "MANIFEST_INVALID",
    "ImageTagAlreadyExistsException": "TAG_INVALID",
}


async def _send(answer: _Answer, send: Send, *, head: bool) -> None:
    size = answer.length if answer.file else len(answer.body)
    headers = {"docker-distribution-api-version": "registry/2.0", **answer.headers}
    if answer.status != 204:
        headers["content-length"] = str(size)
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    if head or answer.file is None:
        await send({"type": "http.response.body", "body": b"" if head else answer.body})
        return
    with answer.file.open("rb") as file:
        file.seek(answer.start)
        left = answer.length
        while left > 0 and (chunk := await asyncio.to_thread(file.read, min(_CHUNK, left))):
            left -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _range(asked: str, size: int) -> tuple[int, int] | None:
    """First and last byte of one ``bytes=a-b`` range (or of all); None where it lies outside."""
    if not asked:
        return 0, size - 1
    first, dash, last = asked.removeprefix("bytes=").partition("-")
    if not dash or not (first or last) or not (first + last).isdigit():
        return None
    begin = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    return (begin, end) if begin <= end else None


def _paged(items: list[str], query: Mapping[str, list[str]]) -> tuple[list[str], bool]:
    """The page after ``last`` with at most ``n`` items, and whether there are more."""
    last, count = query.get("last", [""])[0], query.get("n", [""])[0]
    rest = [item for item in items if item > last]
    most = int(count) if count.isdigit() else _TAGS_PER_PAGE
    return rest[:most], len(rest) > most


def _region_of_login(headers: Mapping[str, str]) -> str | None:
    kind, _, credentials = headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(credentials).decode().partition(":")
    except ValueError:
        return None
    return password_region(password) if user == "AWS" else None


def _descriptor(image: Mapping[str, Any]) -> dict[str, Any]:
    text = str(image["manifest"])
    optional = {"artifactType": image.get("artifactType"), "annotations": json.loads(text).get("annotations")}
    described = {"mediaType": image["mediaType"], "digest": image["digest"], "size": len(text.encode())}
    return {**described, **{key: value for key, value in optional.items() if value}}


def _upload_headers(request: _Request, upload: str, size: int) -> dict[str, str]:
    location = f"/v2/{request.name}/blobs/uploads/{upload}"
    return {"location": location, "range": f"0-{max(0, size - 1)}", "docker-upload-uuid": upload}


def _created(location: str, digest: str) -> _Answer:
    return _Answer(201, {"location": location, "docker-content-digest": digest})


def _not_allowed() -> _Answer:
    return _error(405, "UNSUPPORTED", "The operation is unsupported.")


def _json(value: dict[str, Any], *, link: str = "", query: Mapping[str, list[str]] | None = None, page: list[str] | None = None) -> _Answer:
    headers = {"content-type": "application/json"}
    if link and page:
        headers["link"] = f'<{link}?n={quote((query or {}).get("n", [str(len(page))])[0])}&last={quote(page[-1])}>; rel="next"'
    return _Answer(200, headers, json.dumps(value).encode())


def _error(status: int, code: str, message: str) -> _Answer:
    body = {"errors": [{"code": code, "message": message}]}
    return _Answer(status, {"content-type": "application/json"}, json.dumps(body).encode())
