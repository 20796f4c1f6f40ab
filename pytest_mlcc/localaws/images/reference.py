"""Image references (``host/repository:tag@digest``) and the registry hosts of ECR."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass

__all__ = ["Reference", "ecr_region", "password_region", "registry_password"]

_ECR_HOST = re.compile(r"^(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?$")
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"^{_PART}(?:/{_PART})*$")
_HOST = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d+)?$")
_TAG = re.compile(r"^\w[\w.-]{0,127}$")
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference. ``host`` is empty for a short name, which Docker takes for Docker Hub's."""

    host: str
    repository: str
    tag: str
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference as docker does; the tag is ``latest`` where neither tag nor digest is given.

        Raises ValueError in docker's words.
        """
        rest, _, digest = text.partition("@")
        head, slash, tail = rest.partition("/")
        is_host = bool(slash) and ("." in head or ":" in head or head == "localhost")
        host, name = (head, tail) if is_host else ("", rest)
        repository, _, tag = name.partition(":")
        tag = tag or ("" if digest else "latest")
        good = (
            _REPOSITORY.match(repository)
            and (not host or _HOST.match(host))
            and (not tag or _TAG.match(tag))
            and (not digest or _DIGEST.match(digest))
        )
        if not good:
            raise ValueError(f"invalid reference format: {text!r}")
        return cls(host, repository, tag, digest)

    @property
    def name(self) -> str:
        """Host and repository."""
        return f"{self.host}/{self.repository}" if self.host else self.repository

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def ecr_region(host: str) -> str | None:
    """The region of an ECR registry host, or None for any other host."""
    match = _ECR_HOST.match(host)
    return match["region"] if match else None


def registry_password(region: str) -> str:
    """The password of user ``AWS`` at the local registry: it says which region's repositories are meant.

    The registry host says so on AWS, but here every region is served at one address.
    """
    return base64.urlsafe_b64encode(json.dumps({"local-ecr": region}).encode()).decode()


def password_region(password: str) -> str | None:
    """The region a password was made for; None where ``registry_password`` did not make it."""
    try:
        region = json.loads(base64.urlsafe_b64decode(password))["local-ecr"]
    except (ValueError, KeyError, TypeError):
        return None
    return region if isinstance(region, str) else None
