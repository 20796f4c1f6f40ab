"""The Docker Registry v2 paths: what ``docker push`` and ``docker pull`` speak.

https://distribution.github.io/distribution/spec/api/
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_mlcc.localaws.images.reference import password_region
from pytest_mlcc.localaws.services.ecr.model import DEFAULT_MEDIA_TYPE, Registry, digest_of
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["RegistryDoor"]

Answer = tuple[int, dict[str, str], bytes]

_PATH = re.compile(r"^/v2/(?P<name>.+?)/(?P<kind>blobs/uploads|blobs|manifests|tags/list)(?:/(?P<what>[^/]*))?/?$")
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_UPLOAD = re.compile(r"^[0-9a-f-]{36}$")


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    region: str
    name: str
    what: str
    headers: Mapping[str, str]
    query: Mapping[str, list[str]]
    body: bytes


class RegistryDoor:
    """Answers the registry's paths from a Registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]]) -> Answer:
        """Answer one request; files are read and written in a thread."""
        status, headers_out, body_out = await asyncio.to_thread(self._answer, method, path, headers, body, query)
        return status, {"docker-distribution-api-version": "registry/2.0", **headers_out}, body_out

    def _answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]]) -> Answer:
        region = _region_of_login(headers)
        if region is None:
            return 401, {"www-authenticate": 'Basic realm="local ECR",service="ecr.amazonaws.com"'}, b"Not Authorized"
        if path in ("/v2", "/v2/"):
            return 200, {"content-type": "application/json"}, b"{}"
        match = _PATH.match(path)
        if match is None:
            return _error(404, "UNSUPPORTED", f"the registry has no {path}")
        name = match["name"]
        if self._registry.region_of(name, region) is None:
            message = f"The repository with name '{name}' does not exist in the registry with id '{self._registry.account}'"
            return _error(404, "NAME_UNKNOWN", message)
        request = _Request(method, region, name, match["what"] or "", headers, query, body)
        kinds = {"blobs/uploads": self._upload, "blobs": self._blob, "manifests": self._manifest, "tags/list": self._tags}
        try:
            return kinds[match["kind"]](request)
        except AwsError as error:
            return _error(error.status, _REGISTRY_CODES.get(error.code, "DENIED"), error.message)

    # --- blobs

    def _upload(self, request: _Request) -> Answer:
        blobs, upload = self._registry.blobs, request.what
        if request.method == "POST":
            return self._begin_upload(request)
        if not _UPLOAD.match(upload) or (size := blobs.append(upload, request.body if request.method in ("PATCH", "PUT") else b"")) is None:
            return _error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        if request.method == "PUT":
            return self._finish_upload(request, upload)
        if request.method == "DELETE":
            blobs.cancel(upload)
            return 204, {}, b""
        if request.method in ("PATCH", "GET"):
            return (202 if request.method == "PATCH" else 204), _upload_headers(request.name, upload, size), b""
        return _not_allowed()

    def _begin_upload(self, request: _Request) -> Answer:
        mount = _first(request.query, "mount")
        source = _first(request.query, "from")
        if mount and source and self._registry.layer(request.region, source, mount):
            self._registry.link_layer(request.region, request.name, mount)
            return _created(f"/v2/{request.name}/blobs/{mount}", mount)
        upload = self._registry.blobs.begin()
        if _first(request.query, "digest"):
            self._registry.blobs.append(upload, request.body)
            return self._finish_upload(request, upload)
        return 202, _upload_headers(request.name, upload, 0), b""

    def _finish_upload(self, request: _Request, upload: str) -> Answer:
        digest = _first(request.query, "digest")
        if not _DIGEST.match(digest) or not self._registry.blobs.finish(upload, digest):
            self._registry.blobs.cancel(upload)
            return _error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self._registry.link_layer(request.region, request.name, digest)
        return _created(f"/v2/{request.name}/blobs/{digest}", digest)

    def _blob(self, request: _Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return _not_allowed()
        layer = self._registry.layer(request.region, request.name, request.what)
        if layer is None:
            return _error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        headers = {"content-type": "application/octet-stream", "docker-content-digest": request.what, "content-length": str(layer["size"])}
        content = self._registry.blobs.path(request.what).read_bytes() if request.method == "GET" else b""
        return 200, headers, content

    # --- manifests

    def _manifest(self, request: _Request) -> Answer:
        by_digest = bool(_DIGEST.match(request.what))
        if request.method == "PUT":
            return self._put_manifest(request, by_digest=by_digest)
        image = self._registry.image(
            request.region, request.name, digest=request.what if by_digest else None, tag=None if by_digest else request.what
        )
        if image is None:
            return _error(404, "MANIFEST_UNKNOWN", "Requested image not found")
        if request.method == "DELETE":
            self._registry.delete_image(request.region, request.name, digest=image["digest"], tag=None)
            return 202, {}, b""
        if request.method not in ("GET", "HEAD"):
            return _not_allowed()
        content = image["manifest"].encode()
        headers = {"content-type": image["mediaType"], "docker-content-digest": image["digest"], "content-length": str(len(content))}
        return 200, headers, content if request.method == "GET" else b""

    def _put_manifest(self, request: _Request, *, by_digest: bool) -> Answer:
        if by_digest and digest_of(request.body) != request.what:
            return _error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        media_type = request.headers.get("content-type", DEFAULT_MEDIA_TYPE)
        image = self._registry.put_image(
            request.region, request.name, request.body.decode(), media_type=media_type, tag=None if by_digest else request.what
        )
        return _created(f"/v2/{request.name}/manifests/{image['digest']}", image["digest"])

    def _tags(self, request: _Request) -> Answer:
        tags = sorted(tag for image in self._registry.images(request.region, request.name) for tag in image["tags"])
        return 200, {"content-type": "application/json"}, json.dumps({"name": request.name, "tags": tags}).encode()


_REGISTRY_CODES = {
    "LayersNotFoundException": "MANIFEST_BLOB_UNKNOWN",
    "InvalidParameterException": "MANIFEST_INVALID",
    "ImageTagAlreadyExistsException": "TAG_INVALID",
}


def _region_of_login(headers: Mapping[str, str]) -> str | None:
    kind, _, credentials = headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(credentials).decode().partition(":")
    except ValueError:
        return None
    return password_region(password) if user == "AWS" else None


def _first(query: Mapping[str, list[str]], key: str) -> str:
    return query.get(key, [""])[0]


def _upload_headers(name: str, upload: str, size: int) -> dict[str, str]:
    location = f"/v2/{name}/blobs/uploads/{upload}"
    return {"location": location, "range": f"0-{max(0, size - 1)}", "docker-upload-uuid": upload}


def _created(location: str, digest: str) -> Answer:
    return 201, {"location": location, "docker-content-digest": digest}, b""


def _not_allowed() -> Answer:
    return _error(405, "UNSUPPORTED", "The operation is unsupported.")


def _error(status: int, code: str, message: str) -> Answer:
    body = {"errors": [{"code": code, "message": message}]}
    return status, {"content-type": "application/json"}, json.dumps(body).encode()
