"""A client of the Docker Registry v2 protocol: what a push and a pull ask.

ECR's registry hosts are served by the local AWS, so they are never dialled: every request goes to its endpoint.
"""

from __future__ import annotations

import base64
import hashlib
import http
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote, urlsplit

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.images.imagestore import MANIFEST_TYPE

__all__ = ["Answer", "Registry", "RegistryError"]

_SECONDS = 60.0
_PIECE_BYTES = 1 << 20
_ACCEPTED = (MANIFEST_TYPE, "application/vnd.oci.image.manifest.v1+json")


class RegistryError(LocalAwsError):
    """The registry refused, or sent something else than was asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, headers with lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Registry:
    """One connection to the registry at ``endpoint_url``; close it, or use it in a ``with``."""

    def __init__(self, endpoint_url: str, *, repository: str, user: str, password: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(endpoint_url).netloc, timeout=_SECONDS)
        self._path = f"/v2/{quote(repository)}"
        self._login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._connection.close()

    def check_login(self) -> None:
        """Raise RegistryError unless the registry takes user and password."""
        self._ask("GET", "/v2/", wanted=200)

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has this content."""
        return self._send("HEAD", f"{self._path}/blobs/{digest}").status == 200

    def push_blob(self, content: bytes, digest: str) -> None:
        """Send content that the repository lacks."""
        started = self._ask("POST", f"{self._path}/blobs/uploads/", wanted=202)
        location = started.headers["location"]
        headers = {"Content-Type": "application/octet-stream"}
        self._ask("PUT", f"{location}?digest={quote(digest)}", content, headers=headers, wanted=201)

    def push_manifest(self, content: bytes, reference: str, *, media_type: str) -> str:
        """Send a manifest under a tag; its digest, as the registry computed it."""
        answer = self._ask("PUT", f"{self._path}/manifests/{reference}", content, headers={"Content-Type": media_type}, wanted=201)
        return answer.headers["docker-content-digest"]

    def manifest(self, reference: str) -> tuple[bytes, str]:
        """A manifest's bytes and digest by tag or digest. Raises RegistryError where the digest is not the content's."""
        headers = {"Accept": ", ".join(_ACCEPTED)}
        answer = self._ask("GET", f"{self._path}/manifests/{reference}", headers=headers, wanted=200)
        digest = "sha256:" + hashlib.sha256(answer.body).hexdigest()
        for claimed in (answer.headers.get("docker-content-digest", digest), reference if reference.startswith("sha256:") else digest):
            if claimed != digest:
                raise RegistryError(f"manifest {reference}: its content has digest {digest}, not {claimed}")
        return answer.body, digest

    def blob(self, digest: str) -> bytes:
        """A blob's bytes. Raises RegistryError where the digest is not the content's."""
        body = self._ask("GET", f"{self._path}/blobs/{digest}", wanted=200).body
        actual = "sha256:" + hashlib.sha256(body).hexdigest()
        if actual != digest:
            raise RegistryError(f"blob {digest}: its content has digest {actual}")
        return body

    def fetch(self, digest: str, *, into: IO[bytes]) -> None:
        """Write a blob to a file, piece by piece. Raises RegistryError where the digest is not the content's."""
        actual = hashlib.sha256()
        try:
            self._connection.request("GET", f"{self._path}/blobs/{digest}", headers={"Authorization": self._login})
            response = self._connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                raise RegistryError(_refusal(Answer(response.status, {}, response.read())))
            while chunk := response.read(_PIECE_BYTES):
                actual.update(chunk)
                into.write(chunk)
        except (OSError, http.client.HTTPException) as error:
            raise RegistryError(f"the registry does not answer: {error}") from error
        if f"sha256:{actual.hexdigest()}" != digest:
            raise RegistryError(f"blob {digest}: its content has digest sha256:{actual.hexdigest()}")

    def _ask(self, method: str, path: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None, wanted: int) -> Answer:
        answer = self._send(method, path, body, headers)
        if answer.status != wanted:
            raise RegistryError(_refusal(answer))
        return answer

    def _send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        try:
            self._connection.request(method, path, body=body or None, headers={"Authorization": self._login, **(headers or {})})
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise RegistryError(f"the registry does not answer: {error}") from error
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


def _refusal(answer: Answer) -> str:
    """The refusal in docker's words: ``name unknown: <what the registry said>``."""
    if answer.status == 401:
        return "no basic auth credentials"
    try:
        errors: list[dict[str, Any]] = json.loads(answer.body)["errors"]
        return "; ".join(f"{error['code'].lower().replace('_', ' ')}: {error['message']}" for error in errors)
    except (ValueError, KeyError, TypeError):
        return f"received unexpected HTTP status: {answer.status} {http.client.responses.get(answer.status, '')}".strip()
