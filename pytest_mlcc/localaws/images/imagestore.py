"""Images on this machine, as ``docker images`` lists them: blobs by digest and a table of names."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlcc.localaws.images.layer import Layer
from pytest_mlcc.localaws.images.reference import Reference

__all__ = ["CONFIG_TYPE", "LAYER_TYPE", "MANIFEST_TYPE", "ImageStore", "StoredImage"]

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image: its manifest's bytes and digest, the parsed manifest and config."""

    raw: bytes
    digest: str
    manifest: dict[str, Any]
    config: dict[str, Any]

    @property
    def id(self) -> str:
        """What docker calls the image's id: the digest of its config."""
        return str(self.manifest["config"]["digest"])

    @property
    def size(self) -> int:
        """Bytes of all layers as they are stored."""
        return sum(int(layer["size"]) for layer in self.manifest["layers"])


class ImageStore:
    """Images under one directory."""

    def __init__(self, directory: Path) -> None:
        self._blobs, self._names = directory / "blobs", directory / "names.json"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._lock = directory / "names.lock"

    def blob(self, digest: str) -> bytes:
        """The content with this digest."""
        return (self._blobs / digest.removeprefix("sha256:")).read_bytes()

    def add_blob(self, content: bytes) -> str:
        """Keep content; its digest."""
        digest = hashlib.sha256(content).hexdigest()
        scratch = self._blobs / f"{digest}.{os.getpid()}.tmp"
        scratch.write_bytes(content)
        scratch.replace(self._blobs / digest)
        return f"sha256:{digest}"

    def add_image(self, config: dict[str, Any], layers: list[Layer | dict[str, Any]]) -> StoredImage:
        """Keep an image of new layers and descriptors of layers that are here."""
        raw_config = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
        described = []
        for layer in layers:
            if isinstance(layer, Layer):
                self.add_blob(layer.content)
                described.append({"mediaType": LAYER_TYPE, "size": len(layer.content), "digest": layer.digest})
            else:
                described.append(layer)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "size": len(raw_config), "digest": self.add_blob(raw_config)},
            "layers": described,
        }
        raw = json.dumps(manifest, indent=3).encode()
        return StoredImage(raw, self.add_blob(raw), manifest, config)

    def tag(self, image: StoredImage, reference: Reference) -> None:
        """Let a name stand for an image."""
        with self._locked():
            names = self.names()
            names[str(reference)] = image.digest
            scratch = self._names.with_suffix(".tmp")
            scratch.write_text(json.dumps(names, indent=1))
            scratch.replace(self._names)

    def untag(self, reference: Reference) -> None:
        """Let a name stand for nothing; one that is not there is no mistake."""
        if str(reference) not in self.names():
            return
        with self._locked():
            names = self.names()
            names.pop(str(reference), None)
            scratch = self._names.with_suffix(".tmp")
            scratch.write_text(json.dumps(names, indent=1))
            scratch.replace(self._names)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer of the names at a time. By flock, because loading a library for it would double docker's start-up time."""
        with self._lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def names(self) -> dict[str, str]:
        """Manifest digest by full name."""
        return dict(json.loads(self._names.read_text())) if self._names.exists() else {}

    def find(self, text: str) -> StoredImage | None:
        """The image with this name, digest or id (or the beginning of one), or None."""
        names = self.names()
        try:
            digest = names.get(str(Reference.parse(text)))
        except ValueError:
            digest = None
        if digest:
            return self._load(digest)
        wanted = text.removeprefix("sha256:")
        for candidate in dict.fromkeys(names.values()):
            image = self._load(candidate)
            if len(wanted) >= 4 and any(each.removeprefix("sha256:").startswith(wanted) for each in (image.id, image.digest)):
                return image
        return None

    def _load(self, digest: str) -> StoredImage:
        raw = self.blob(digest)
        manifest = json.loads(raw)
        return StoredImage(raw, digest, manifest, json.loads(self.blob(manifest["config"]["digest"])))
