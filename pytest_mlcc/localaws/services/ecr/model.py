"""What a registry holds: repositories, images by digest, and blobs on disk by content."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from pytest_mlcc.localaws.store import DuplicateRecordError, Record, Store
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["DEFAULT_MEDIA_TYPE", "Blobs", "Registry", "digest_of"]

DEFAULT_MEDIA_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
#: How long a push may take between asking for a layer and naming it in a manifest.
_PUSH_SECONDS = 600.0
_REPOSITORY, _LAYER, _IMAGE = "repository", "layers of ", "images of "


def digest_of(content: bytes) -> str:
    """The content's address, ``sha256:<hex>``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Blobs:
    """Layers and configs as files named by their digest; uploads in progress beside them."""

    def __init__(self, directory: Path) -> None:
        self._blobs, self._uploads = directory / "blobs" / "sha256", directory / "uploads"
        shutil.rmtree(self._uploads, ignore_errors=True)  # no client goes on with an upload of an earlier server
        for path in (self._blobs, self._uploads):
            path.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self._blobs / digest.removeprefix("sha256:")

    def begin(self) -> str:
        """Open an upload; the id names it."""
        upload = str(uuid.uuid4())
        (self._uploads / upload).touch()
        return upload

    def append(self, upload: str, content: bytes) -> int | None:
        """Add to an upload; its size now, or None where there is no such upload."""
        path = self._uploads / upload
        if not path.is_file():
            return None
        with path.open("ab") as file:
            file.write(content)
            return file.tell()

    def finish(self, upload: str, digest: str) -> bool:
        """Keep the upload as a blob if its content has that digest; False, and it is still an upload, if not."""
        path = self._uploads / upload
        with path.open("rb") as file:
            actual = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        if actual == digest:
            path.replace(self.path(digest))
        return actual == digest

    def cancel(self, upload: str) -> bool:
        """Forget an upload; False where there is none."""
        path = self._uploads / upload
        known = path.is_file()
        path.unlink(missing_ok=True)
        return known

    def remove(self, digest: str) -> None:
        """Delete a blob that nothing needs any more."""
        self.path(digest).unlink(missing_ok=True)


class Registry:
    """The repositories and images of every region of one account."""

    def __init__(self, store: Store, blobs: Blobs, *, account: str) -> None:
        self.store, self.blobs, self.account = store, blobs, account
        self._touched: dict[str, float] = {}

    # --- repositories

    def create_repository(self, region: str, name: str, facts: Record) -> Record:
        """Add an empty repository."""
        record = {
            "repositoryArn": f"arn:aws:ecr:{region}:{self.account}:repository/{name}",
            "registryId": self.account,
            "repositoryName": name,
            "repositoryUri": f"{self.account}.dkr.ecr.{region}.amazonaws.com/{name}",
            "createdAt": time.time(),
            **facts,
        }
        try:
            self.store.add(region, _REPOSITORY, name, record)
        except DuplicateRecordError:
            message = f"The repository with name '{name}' already exists in the registry with id '{self.account}'"
            raise AwsError("RepositoryAlreadyExistsException", message) from None
        return record

    def repository(self, region: str, name: str) -> Record:
        """One repository; AWS's error where there is none."""
        record = self.store.get(region, _REPOSITORY, name)
        if record is None:
            message = f"The repository with name '{name}' does not exist in the registry with id '{self.account}'"
            raise AwsError("RepositoryNotFoundException", message)
        return record

    def repositories(self, region: str) -> list[Record]:
        """Every repository of a region."""
        return self.store.rows(region, _REPOSITORY)

    def region_of(self, name: str, preferred: str | None) -> str | None:
        """The region whose repository a registry call means: the preferred one, else the only one that has it."""
        if preferred is not None:
            return preferred if self.store.get(preferred, _REPOSITORY, name) else None
        having = [region for region in self.store.regions() if self.store.get(region, _REPOSITORY, name)]
        return having[0] if len(having) == 1 else None

    def update_repository(self, region: str, name: str, **changes: Any) -> Record:
        """Change a repository's facts."""
        self.repository(region, name)
        return self.store.update(region, _REPOSITORY, name, **changes) or {}

    def delete_repository(self, region: str, name: str, *, force: bool) -> Record:
        """Remove a repository; one with images only by force."""
        record = self.repository(region, name)
        images = self.images(region, name)
        if images and not force:
            message = (
                f"The repository with name '{name}' in registry with id '{self.account}' cannot be deleted because it still contains images"
            )
            raise AwsError("RepositoryNotEmptyException", message)
        for image in images:
            self.store.remove(region, _IMAGE + name, image["digest"])
        self._drop_layers(region, name, untouched_seconds=0)
        self.store.remove(region, _REPOSITORY, name)
        return record

    # --- layers

    def link_layer(self, region: str, name: str, digest: str) -> None:
        """Say that a repository has a blob that is on disk."""
        if self.store.get(region, _LAYER + name, digest) is None:
            size = self.blobs.path(digest).stat().st_size
            self.store.add(region, _LAYER + name, digest, {"digest": digest, "size": size})

    def layer(self, region: str, name: str, digest: str) -> Record | None:
        """Digest and size of a blob of a repository, or None. Who asks may be about to push an image of it."""
        self._touched[digest] = time.monotonic()
        return self.store.get(region, _LAYER + name, digest)

    def _drop_layers(self, region: str, name: str, *, untouched_seconds: float) -> None:
        """Unlink the layers that no image of the repository names, and delete the blobs that no repository links.

        A layer that was asked for a moment ago stays: an image of it may be on its way, as pushes run side by side.
        """
        needed = {digest for image in self.images(region, name) for digest in _named_by(image["manifest"])}
        now = time.monotonic()
        for digest in {row["digest"] for row in self.store.rows(region, _LAYER + name)} - needed:
            if now - self._touched.get(digest, -untouched_seconds) < untouched_seconds:
                continue
            self._touched.pop(digest, None)
            self.store.remove(region, _LAYER + name, digest)
            if not any(self._linked(other, row["repositoryName"], digest) for other in self.store.regions()
                       for row in self.repositories(other)):  # fmt: skip
                self.blobs.remove(digest)

    def _linked(self, region: str, name: str, digest: str) -> bool:
        return self.store.get(region, _LAYER + name, digest) is not None

    # --- images

    def images(self, region: str, name: str) -> list[Record]:
        """Every image of a repository, oldest first."""
        return self.store.rows(region, _IMAGE + name)

    def image(self, region: str, name: str, *, digest: str | None = None, tag: str | None = None) -> Record | None:
        """The image with this digest (and tag, if both are given), or None."""
        for image in self.images(region, name):
            if digest in (None, image["digest"]) and (tag is None or tag in image["tags"]):
                return image
        return None

    def put_image(self, region: str, name: str, manifest: str, *, media_type: str, tag: str | None) -> Record:
        """Keep a manifest whose layers are here, and move the tag to it. The image as it is afterwards."""
        repository = self.repository(region, name)
        digest = digest_of(manifest.encode())
        self._require_layers(region, name, manifest)
        holder = self.image(region, name, tag=tag) if tag else None
        if holder and holder["digest"] != digest:
            if repository.get("imageTagMutability") == "IMMUTABLE":
                message = (
                    f"The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten "
                    "because the tag is immutable."
                )
                raise AwsError("ImageTagAlreadyExistsException", message)
            tags = [kept for kept in holder["tags"] if kept != tag]
            self.store.update(region, _IMAGE + name, holder["digest"], tags=tags)
        known = self.image(region, name, digest=digest)
        tags = [*(known["tags"] if known else []), *([tag] if tag else [])]
        facts = {"digest": digest, "manifest": manifest, "mediaType": media_type, "tags": list(dict.fromkeys(tags))}
        if known:
            return self.store.update(region, _IMAGE + name, digest, **facts) or known
        record = {**facts, "pushedAt": time.time(), "size": self._size(region, name, manifest)}
        self.store.add(region, _IMAGE + name, digest, record)
        return record

    def delete_image(self, region: str, name: str, *, digest: str | None, tag: str | None) -> list[Record] | None:
        """Remove an image, or only its tag where it has others. The image ids that are gone, or None."""
        image = self.image(region, name, digest=digest, tag=tag)
        if image is None:
            return None
        if digest is None and len(image["tags"]) > 1:
            self.store.update(region, _IMAGE + name, image["digest"], tags=[kept for kept in image["tags"] if kept != tag])
            return [{"imageDigest": image["digest"], "imageTag": tag}]
        self.store.remove(region, _IMAGE + name, image["digest"])
        self._drop_layers(region, name, untouched_seconds=_PUSH_SECONDS)
        gone = [{"imageDigest": image["digest"], "imageTag": kept} for kept in image["tags"]]
        return gone or [{"imageDigest": image["digest"]}]

    def _require_layers(self, region: str, name: str, manifest: str) -> None:
        missing = [digest for digest in _named_by(manifest) if self.layer(region, name, digest) is None]
        if missing:
            listed = ", ".join(f"'{digest}'" for digest in missing)
            message = (
                f"Layers with digests {listed} required for pushing image into repository with name '{name}' "
                f"in the registry with id '{self.account}' do not exist"
            )
            raise AwsError("LayersNotFoundException", message)

    def _size(self, region: str, name: str, manifest: str) -> int:
        layers = [self.layer(region, name, digest) for digest in _named_by(manifest)]
        return len(manifest.encode()) + sum(int(layer["size"]) for layer in layers if layer)


def _named_by(manifest: str) -> list[str]:
    """The digests of config and layers a manifest names; an index names other manifests, which are no layers."""
    try:
        document = json.loads(manifest)
        parts = [*([document["config"]] if "config" in document else []), *document.get("layers", [])]
        return [str(part["digest"]) for part in parts]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AwsError("InvalidParameterException", "Invalid parameter at 'imageManifest': it is no image manifest") from None
