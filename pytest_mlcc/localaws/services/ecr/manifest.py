"""What an image manifest says: an image's config and layers, or the images of an index.

https://github.com/opencontainers/image-spec/blob/main/manifest.md and image-index.md; Docker's version 2 has the same members.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

__all__ = ["DEFAULT_MEDIA_TYPE", "Manifest", "ManifestError"]

DEFAULT_MEDIA_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
#: ECR takes no larger manifest.
_MOST_BYTES = 4 << 20


class ManifestError(ValueError):
    """The text is no manifest that could be kept."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as its author wrote it (its digest is that of the very bytes), and what it names."""

    text: str
    media_type: str
    layers: tuple[str, ...]
    """Digests of the config and the layers; empty for an index."""
    images: tuple[str, ...]
    """Digests of an index's images; empty for an image."""
    artifact_type: str
    subject: str

    @classmethod
    def parse(cls, text: str, *, media_type: str = "") -> Manifest:
        """Read a manifest; ``media_type`` is what the client said of it. Raises ManifestError."""
        if len(text) > _MOST_BYTES:
            raise ManifestError("it is larger than 4 MiB")
        try:
            document = json.loads(text)
            layers = _digests([*([document["config"]] if "config" in document else []), *document.get("layers", [])])
            images = _digests(document.get("manifests", []))
            artifact = document.get("artifactType") or document.get("config", {}).get("mediaType") or ""
            subject = (document.get("subject") or {}).get("digest", "")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ManifestError("it is no image manifest") from None
        if not layers and "manifests" not in document:
            raise ManifestError("it names neither a config and layers nor manifests")
        said = document.get("mediaType") or media_type or DEFAULT_MEDIA_TYPE
        return cls(text, str(said), layers, images, str(artifact), str(subject))


def _digests(parts: list[dict[str, Any]]) -> tuple[str, ...]:
    """The digests of parts that a registry keeps; a foreign layer lies at its ``urls``."""
    digests = [str(part["digest"]) for part in parts if not part.get("urls")]
    if not all(_DIGEST.match(digest) for digest in digests):
        raise ValueError("a digest is not sha256")
    return tuple(digests)
