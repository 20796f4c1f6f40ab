"""push: the built image gets its release tag, once the registry holds exactly what the build reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.aws.errors import attempt, translated
from pytest_mlcc.drivers.native.names import REPOSITORY
from pytest_mlcc.drivers.native.work import Work
from pytest_mlcc.errors import StageError

__all__ = ["push"]


def push(work: Work) -> Mapping[str, Any]:
    """Release the build's image by manifest, no layer is copied; the facts hold its URI by digest, its digest and size in bytes.

    Raises StageError where ECR does not have the image, or has another under the build's tag.
    """
    built = str(work.fact("build", "digest"))
    image = _manifest(work, str(work.fact("build", "image_tag")))
    if image["imageId"]["imageDigest"] != built:
        raise StageError(f"ECR holds {image['imageId']['imageDigest']} under the build's tag, but the build pushed {built}")
    tag = work.names.release_tag
    work.intend("image", f"{REPOSITORY}:{tag}")
    _tag(work, image, tag)
    details = _details(work, tag)
    if details["imageDigest"] != built:
        raise StageError(f"{REPOSITORY}:{tag} is {details['imageDigest']} in ECR, but the build pushed {built}")
    work.log(f"{REPOSITORY}:{tag} is {built}, {details['imageSizeInBytes']} bytes")
    return {"image": f"{work.names.registry}/{REPOSITORY}@{built}", "digest": built, "size_bytes": details["imageSizeInBytes"], "tag": tag}


def _manifest(work: Work, tag: str) -> Mapping[str, Any]:
    with translated(f"read the manifest of {REPOSITORY}:{tag}"):
        answer = work.client("ecr").batch_get_image(repositoryName=REPOSITORY, imageIds=[{"imageTag": tag}])
    if not answer["images"]:
        failures = "; ".join(f"{one['failureCode']}: {one['failureReason']}" for one in answer.get("failures", []))
        raise StageError(f"ECR has no image {REPOSITORY}:{tag}: {failures or 'no reason given'}")
    image: Mapping[str, Any] = answer["images"][0]
    return image


def _tag(work: Work, image: Mapping[str, Any], tag: str) -> None:
    media = {"imageManifestMediaType": image["imageManifestMediaType"]} if image.get("imageManifestMediaType") else {}
    again = ("ImageAlreadyExistsException", "ImageTagAlreadyExistsException")  # the stage was run before
    with translated(f"tag {REPOSITORY}:{tag}"):
        attempt(
            work.client("ecr").put_image,
            refusals=again,
            repositoryName=REPOSITORY,
            imageManifest=image["imageManifest"],
            imageTag=tag,
            **media,
        )


def _details(work: Work, tag: str) -> Mapping[str, Any]:
    with translated(f"look at {REPOSITORY}:{tag}"):
        details: Mapping[str, Any] = work.client("ecr").describe_images(repositoryName=REPOSITORY, imageIds=[{"imageTag": tag}])[
            "imageDetails"
        ][0]
    return details
