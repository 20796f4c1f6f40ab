"""ECR's operations on images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_mlcc.localaws.services.ecr.blobs import digest_of
from pytest_mlcc.localaws.services.ecr.model import Registry
from pytest_mlcc.localaws.services.ecr.paging import page
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call

__all__ = ["Images"]


class Images:
    """The image operations over one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def operations(self) -> dict[str, Callable[[Call], dict[str, Any]]]:
        """The operations, by AWS's name."""
        return {
            "ListImages": self.list_images,
            "DescribeImages": self.describe_images,
            "BatchGetImage": self.batch_get_image,
            "PutImage": self.put_image,
            "BatchDeleteImage": self.batch_delete_image,
        }

    def list_images(self, call: Call) -> dict[str, Any]:
        name = call.params["repositoryName"]
        self._registry.repository(call.region, name)
        ids: list[Record] = []
        for image in _filtered(call, self._registry.images(call.region, name)):
            tags = [{"imageDigest": image["digest"], "imageTag": tag} for tag in image["tags"]]
            ids += tags or [{"imageDigest": image["digest"]}]
        return page(call, ids, "imageIds")

    def describe_images(self, call: Call) -> dict[str, Any]:
        name, asked = call.params["repositoryName"], call.params.get("imageIds")
        self._registry.repository(call.region, name)
        if asked and ("maxResults" in call.params or "nextToken" in call.params):
            message = "Invalid parameter at 'imageIds' failed to satisfy constraint: 'imageIds and pagination cannot be used together'"
            raise AwsError("InvalidParameterException", message)
        if not asked:
            images = _filtered(call, self._registry.images(call.region, name))
            return page(call, [self._detail(name, image) for image in images], "imageDetails")
        images = list({image["digest"]: image for image in (self._image(call.region, name, each) for each in asked)}.values())
        return {"imageDetails": [self._detail(name, image) for image in _filtered(call, images)]}

    def _detail(self, name: str, image: Record) -> Record:
        detail = {
            "registryId": self._registry.account,
            "repositoryName": name,
            "imageDigest": image["digest"],
            "imageTags": image["tags"] or None,
            "imageSizeInBytes": image["size"],
            "imagePushedAt": image["pushedAt"],
            "imageManifestMediaType": image["mediaType"],
            "artifactMediaType": image.get("artifactType") or None,
            "lastRecordedPullTime": image.get("pulledAt"),
            "subjectManifestDigest": image.get("subject") or None,
        }
        return {key: value for key, value in detail.items() if value is not None}

    def _image(self, region: str, name: str, asked: Record) -> Record:
        image = self._find(region, name, asked)
        if image is None:
            shown = ", ".join(f"{key}:'{asked.get(key, 'null')}'" for key in ("imageDigest", "imageTag"))
            message = (
                f"The image with imageId {{{shown}}} does not exist within the repository with name '{name}' "
                f"in the registry with id '{self._registry.account}'"
            )
            raise AwsError("ImageNotFoundException", message)
        return image

    def _find(self, region: str, name: str, asked: Record) -> Record | None:
        digest, tag = asked.get("imageDigest"), asked.get("imageTag")
        if digest is None and tag is None:
            message = "Invalid parameter at 'imageIds' failed to satisfy constraint: 'imageDigest and imageTag cannot both be null'"
            raise AwsError("InvalidParameterException", message)
        return self._registry.image(region, name, digest=digest, tag=tag)

    def batch_get_image(self, call: Call) -> dict[str, Any]:
        name = call.params["repositoryName"]
        self._registry.repository(call.region, name)
        images, failures = [], []
        for asked in call.params["imageIds"]:
            image, failure = self._look_up(call, name, asked)
            if failure:
                failures.append({"imageId": asked, **failure})
            elif image:
                self._registry.note_pull(call.region, name, image)
                images.append(self._shown(name, image, asked.get("imageTag")))
        return {"images": images, "failures": failures}

    def _look_up(self, call: Call, name: str, asked: Record) -> tuple[Record | None, Record | None]:
        """An image, or why it can't be had, as the batch operations say it."""
        digest, tag = asked.get("imageDigest"), asked.get("imageTag")
        if digest is None and tag is None:
            return None, _failure("MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null")
        if digest is not None and not digest.startswith("sha256:"):
            return None, _failure("InvalidImageDigest", "Invalid request parameters: image digest should satisfy the regex "
                                                        "'[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'")  # fmt: skip
        image = self._registry.image(call.region, name, digest=digest, tag=tag)
        if image is None and digest is not None and tag is not None and self._registry.image(call.region, name, tag=tag):
            return None, _failure("ImageTagDoesNotMatchDigest", "Requested image tag does not match the digest")
        if image is None:
            return None, _failure("ImageNotFound", "Requested image not found")
        return image, None

    def _shown(self, name: str, image: Record, tag: str | None) -> Record:
        image_id = {"imageDigest": image["digest"], **({"imageTag": tag} if tag else {})}
        return {"registryId": self._registry.account, "repositoryName": name, "imageId": image_id,
                "imageManifest": image["manifest"], "imageManifestMediaType": image["mediaType"]}  # fmt: skip

    def put_image(self, call: Call) -> dict[str, Any]:
        params, name, tag = call.params, call.params["repositoryName"], call.params.get("imageTag")
        self._registry.repository(call.region, name)
        digest = digest_of(params["imageManifest"].encode())
        if params.get("imageDigest", digest) != digest:
            message = (
                f"The calculated digest '{digest}' of the image manifest does not match the digest '{params['imageDigest']}' that was given"
            )
            raise AwsError("ImageDigestDoesNotMatchException", message)
        before = self._registry.image(call.region, name, digest=digest, tag=tag)
        image = self._registry.put_image(
            call.region, name, params["imageManifest"], media_type=params.get("imageManifestMediaType", ""), tag=tag
        )
        if before:
            message = (
                f"Image with digest '{digest}' and tag '{tag or 'null'}' already exists in the repository "
                f"with name '{name}' in registry with id '{self._registry.account}'"
            )
            raise AwsError("ImageAlreadyExistsException", message)
        return {"image": self._shown(name, image, tag)}

    def batch_delete_image(self, call: Call) -> dict[str, Any]:
        name = call.params["repositoryName"]
        self._registry.repository(call.region, name)
        deleted: list[Record] = []
        failures: list[Record] = []
        # indexes first: one call may name an index and its images, in any order
        for asked in sorted(call.params["imageIds"], key=lambda each: not self._is_index(call, name, each)):
            gone, failure = self._delete(call, name, asked)
            deleted += gone
            failures += [{"imageId": asked, **failure}] if failure else []
        return {"imageIds": deleted, "failures": failures}

    def _is_index(self, call: Call, name: str, asked: Record) -> bool:
        image, _ = self._look_up(call, name, asked)
        return image is not None and "manifests" in image["manifest"]

    def _delete(self, call: Call, name: str, asked: Record) -> tuple[list[Record], Record | None]:
        image, failure = self._look_up(call, name, asked)
        if image is None:
            return [], failure
        only_a_tag = "imageDigest" not in asked and len(image["tags"]) > 1
        indexes = self._registry.indexes_of(call.region, name, image["digest"])
        if indexes and not only_a_tag:
            reason = f"Requested image referenced by manifest list: [{', '.join(indexes)}]"
            return [], _failure("ImageReferencedByManifestList", reason)
        gone = self._registry.delete_image(call.region, name, digest=asked.get("imageDigest"), tag=asked.get("imageTag"))
        return gone or [], None


def _filtered(call: Call, images: list[Record]) -> list[Record]:
    wanted = call.params.get("filter", {}).get("tagStatus", "ANY")
    return [image for image in images if wanted == "ANY" or bool(image["tags"]) == (wanted == "TAGGED")]


def _failure(code: str, reason: str) -> Record:
    return {"failureCode": code, "failureReason": reason}
