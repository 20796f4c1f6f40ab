"""What a registry holds: repositories, and their images and layers by digest."""

from __future__ import annotations

import fnmatch
import threading
import time
from typing import Any

from pytest_mlcc.localaws.services.ecr.blobs import Blobs, digest_of
from pytest_mlcc.localaws.services.ecr.manifest import Manifest, ManifestError
from pytest_mlcc.localaws.store import DuplicateRecordError, Record, Store
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["Registry"]

#: How long a push may take between asking for a layer and naming it in a manifest.
_PUSH_SECONDS = 600.0
#: AWS notes a pull once a day.
_PULL_NOTED_SECONDS = 24 * 3600.0
_REPOSITORY, _LAYER, _IMAGE = "repository", "layers of ", "images of "


class Registry:
    """The repositories and images of every region of one account."""

    def __init__(self, store: Store, blobs: Blobs, *, account: str) -> None:
        self.store, self.blobs, self.account = store, blobs, account
        self._touched: dict[str, float] = {}
        self._lock = threading.Lock()  # a layer is not dropped while somebody says that it is wanted
        self._later: threading.Timer | None = None

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

    def has_repository(self, region: str, name: str) -> bool:
        """Whether there is such a repository."""
        return self.store.get(region, _REPOSITORY, name) is not None

    def repository(self, region: str, name: str) -> Record:
        """One repository; AWS's error where there is none."""
        record = self.store.get(region, _REPOSITORY, name)
        if record is None:
            raise self.no_repository(name)
        return record

    def no_repository(self, name: str, *, registry: str = "") -> AwsError:
        """AWS's words for a repository that is not there."""
        message = f"The repository with name '{name}' does not exist in the registry with id '{registry or self.account}'"
        return AwsError("RepositoryNotFoundException", message)

    def repositories(self, region: str) -> list[Record]:
        """Every repository of a region, by name."""
        return sorted(self.store.rows(region, _REPOSITORY), key=lambda row: str(row["repositoryName"]))

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
        self.blobs.cancel_all(f"{region}/{name}")
        self.store.remove(region, _REPOSITORY, name)
        return record

    # --- layers

    def touch(self, digest: str) -> None:
        """Somebody may be about to push an image of this layer: it stays for now."""
        with self._lock:
            self._touched[digest] = time.monotonic()

    def link_layer(self, region: str, name: str, digest: str) -> None:
        """Say that a repository has a blob that is on disk."""
        self.touch(digest)
        if self.store.get(region, _LAYER + name, digest) is None:
            size = self.blobs.path(digest).stat().st_size
            self.store.add(region, _LAYER + name, digest, {"digest": digest, "size": size})

    def layer(self, region: str, name: str, digest: str) -> Record | None:
        """Digest and size of a blob of a repository, or None. Who asks may be about to push an image of it."""
        record = self.store.get(region, _LAYER + name, digest)
        if record is not None:
            self.touch(digest)
        return record

    def tidy(self) -> None:
        """At a start: forget what pushes and deletions of a server that was killed have left. A push may go on for a while."""
        for region, name in self._everywhere():
            for row in self.store.rows(region, _LAYER + name):
                age = self.blobs.age(row["digest"])
                if age is None:
                    self.store.remove(region, _LAYER + name, row["digest"])
                elif age < _PUSH_SECONDS:
                    self.touch(row["digest"])
        self._drop_everywhere()
        for digest in self.blobs.digests():
            if not self._linked(digest):
                self.blobs.remove(digest)

    def _everywhere(self) -> list[tuple[str, str]]:
        return [(region, row["repositoryName"]) for region in self.store.regions() for row in self.repositories(region)]

    def _drop_everywhere(self) -> None:
        self._later = None
        for region, name in self._everywhere():
            self._drop_layers(region, name, untouched_seconds=_PUSH_SECONDS)

    def _drop_layers(self, region: str, name: str, *, untouched_seconds: float) -> None:
        """Unlink the layers that no image of the repository names, and delete the blobs that no repository links.

        A layer that was asked for a moment ago stays for now: an image of it may be on its way, as pushes run side by side.
        """
        needed = {digest for image in self.images(region, name) for digest in Manifest.parse(image["manifest"]).layers}
        for digest in {row["digest"] for row in self.store.rows(region, _LAYER + name)} - needed:
            with self._lock:
                if time.monotonic() - self._touched.get(digest, -untouched_seconds) < untouched_seconds:
                    self._drop_later()
                    continue
                self._touched.pop(digest, None)
                self.store.remove(region, _LAYER + name, digest)
                if not self._linked(digest):
                    self.blobs.remove(digest)

    def _drop_later(self) -> None:
        if self._later is None:
            self._later = threading.Timer(_PUSH_SECONDS, self._drop_everywhere)
            self._later.daemon = True
            self._later.start()

    def _linked(self, digest: str) -> bool:
        return any(self.store.get(region, _LAYER + name, digest) is not None for region, name in self._everywhere())

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

    def note_pull(self, region: str, name: str, image: Record) -> None:
        """Remember when an image was last fetched, as coarsely as AWS does."""
        now = time.time()
        if now - image.get("pulledAt", 0.0) > _PULL_NOTED_SECONDS:
            self.store.update(region, _IMAGE + name, image["digest"], pulledAt=now)

    def put_image(self, region: str, name: str, text: str, *, media_type: str, tag: str | None) -> Record:
        """Keep a manifest whose parts are here, and move the tag to it. The image as it is afterwards."""
        repository = self.repository(region, name)
        try:
            manifest = Manifest.parse(text, media_type=media_type)
        except ManifestError as error:
            raise AwsError(
                "InvalidParameterException", f"Invalid parameter at 'ImageManifest' failed to satisfy constraint: '{error}'"
            ) from None
        digest = digest_of(text.encode())
        self._require_parts(region, name, manifest)
        holder = self.image(region, name, tag=tag) if tag else None
        if holder and tag and holder["digest"] != digest:
            if _is_immutable(repository, tag):
                message = (
                    f"The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten "
                    "because the tag is immutable."
                )
                raise AwsError("ImageTagAlreadyExistsException", message)
            tags = [kept for kept in holder["tags"] if kept != tag]
            self.store.update(region, _IMAGE + name, holder["digest"], tags=tags)
        return self._kept(region, name, manifest, digest=digest, tag=tag)

    def _kept(self, region: str, name: str, manifest: Manifest, *, digest: str, tag: str | None) -> Record:
        known = self.image(region, name, digest=digest)
        tags = list(dict.fromkeys([*(known["tags"] if known else []), *([tag] if tag else [])]))
        if known:
            return self.store.update(region, _IMAGE + name, digest, tags=tags) or known
        record = {
            "digest": digest, "manifest": manifest.text, "mediaType": manifest.media_type, "tags": tags, "pushedAt": time.time(),
            "size": self._size(region, name, manifest), "artifactType": manifest.artifact_type, "subject": manifest.subject,
        }  # fmt: skip
        self.store.add(region, _IMAGE + name, digest, record)
        return record

    def referrers(self, region: str, name: str, digest: str) -> list[Record]:
        """The images whose manifests say that they are about this one: signatures, bills of materials."""
        return [image for image in self.images(region, name) if image.get("subject") == digest]

    def indexes_of(self, region: str, name: str, digest: str) -> list[str]:
        """The indexes that name an image; it can't go before them."""
        return [image["digest"] for image in self.images(region, name) if digest in Manifest.parse(image["manifest"]).images]

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

    def _require_parts(self, region: str, name: str, manifest: Manifest) -> None:
        """Every layer, and every image of an index, must have come before what names it."""
        missing = [digest for digest in manifest.layers if self.layer(region, name, digest) is None]
        code, what = "LayersNotFoundException", "Layers"
        if not missing:
            missing = [digest for digest in manifest.images if self.image(region, name, digest=digest) is None]
            code, what = "ReferencedImagesNotFoundException", "Images"
        if missing:
            message = (
                f"{what} with digests '[{', '.join(missing)}]' required for pushing image into repository with name '{name}' "
                f"in the registry with id '{self.account}' do not exist"
            )
            raise AwsError(code, message)

    def _size(self, region: str, name: str, manifest: Manifest) -> int:
        """The bytes of an image; of an index, those of its largest image."""
        if manifest.images:
            sizes = [image["size"] for digest in manifest.images if (image := self.image(region, name, digest=digest))]
            return max(sizes, default=0)
        layers = [self.layer(region, name, digest) for digest in manifest.layers]
        return len(manifest.text.encode()) + sum(int(layer["size"]) for layer in layers if layer)


def _is_immutable(repository: Record, tag: str) -> bool:
    """Whether the repository lets this tag move; filters make exceptions from the rule."""
    rule = str(repository.get("imageTagMutability", "MUTABLE"))
    filters = repository.get("imageTagMutabilityExclusionFilters", []) if rule.endswith("_WITH_EXCLUSION") else []
    excepted = any(fnmatch.fnmatchcase(tag, each["filter"]) for each in filters)
    return rule.startswith("IMMUTABLE") != excepted
