"""Which images SageMaker takes when a model or a job is made: those that are in ECR, in a form that it can run.

The words are AWS's, from reports of people who met them. Images that AWS publishes are stood in for; of other accounts nothing is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from pytest_mlcc.localaws.images.reference import Reference, ecr_region
from pytest_mlcc.localaws.images.standin import is_stood_in_for
from pytest_mlcc.localaws.services.sagemaker.clients import Clients
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["ImageRules"]

_SERVED = "application/vnd.docker.distribution.manifest.v2+json"
"""The one kind of manifest that a model may have. Jobs run any."""
_KINDS = (
    _SERVED, "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
)  # fmt: skip
_PERMISSIONS = "has proper pull permissions for SageMaker: ecr:BatchCheckLayerAvailability, ecr:BatchGetImage, ecr:GetDownloadUrlForLayer"
_INVALID = "Please provide a valid Amazon Elastic Container Registry path of the Docker image to run."


@dataclass(frozen=True, slots=True)
class _Found:
    """What the account's ECR says of an image; ``digest`` is empty where the repository does not hold it."""

    repository: bool
    digest: str = ""
    media_type: str = ""


class ImageRules:
    """Looks images up in the account's own ECR."""

    def __init__(self, account: str, clients: Clients) -> None:
        self._account, self._clients = account, clients

    def check_model(self, container: Mapping[str, Any], role: str) -> None:
        """Raises AwsError for a container of a model whose image can't be served."""
        image = str(container["Image"])
        reference = _in_ecr(image)
        if reference is None:
            if container.get("ImageConfig", {}).get("RepositoryAccessMode") == "Vpc":
                return
            raise _refused(f'Using non-ECR image "{image}" without Vpc repository access mode is not supported.')
        found = self._found(reference)
        if found is None:
            if not is_stood_in_for(image):
                raise _refused(f"Role {role} cannot pull {image}. Ensure that the role exists and the image was granted pull permission.")
            return
        if not found.digest:
            raise _refused(f"Requested image {image} not found.")
        if found.media_type != _SERVED:
            which = f"{found.media_type} for image {reference.name}@{found.digest}"
            text = f"Unsupported manifest media type {which}. Ensure that valid manifest media type is used for specified image."
            raise _refused(text)

    def check_training(self, algorithm: Mapping[str, Any], role: str) -> None:
        """Raises AwsError for an ``AlgorithmSpecification`` whose image can't be had."""
        image = str(algorithm["TrainingImage"])
        reference = _in_ecr(image)
        if reference is None:
            if algorithm.get("TrainingImageConfig", {}).get("TrainingRepositoryAccessMode") == "Vpc":
                return
            raise _refused(f"Invalid training image. {_INVALID}")
        found = self._found(reference)
        if found is None or found.digest:
            return
        if found.repository:
            raise _refused(f"Cannot find the requested image: {image} Please check if your ECR image exists and role {role} {_PERMISSIONS}")
        where = f"{reference.repository} in registry ID: {self._account}"
        raise _refused(f"Cannot find repository: {where} Please check if your ECR repository exists and role {role} {_PERMISSIONS}")

    @staticmethod
    def check_processing(image: str) -> None:
        """Raises AwsError for an image that is not in ECR. One that is missing there fails the job, as on AWS."""
        if _in_ecr(image) is None:
            raise _refused(f"Invalid image URI {image}. {_INVALID}")

    def _found(self, reference: Reference) -> _Found | None:
        """What is known of an image of this account; None for those of others."""
        region = ecr_region(reference.host)
        if region is None or not reference.host.startswith(f"{self._account}."):
            return None
        wanted = {"imageDigest": reference.digest} if reference.digest else {"imageTag": reference.tag}
        ecr = self._clients.client("ecr", region)
        try:
            answer = ecr.batch_get_image(repositoryName=reference.repository, imageIds=[wanted], acceptedMediaTypes=list(_KINDS))
        except ClientError:  # RepositoryNotFoundException
            return _Found(repository=False)
        for one in answer["images"]:
            return _Found(True, one["imageId"]["imageDigest"], one.get("imageManifestMediaType", ""))
        return _Found(repository=True)


def _in_ecr(image: str) -> Reference | None:
    """The reference, where it names an image of any account's ECR."""
    try:
        reference = Reference.parse(image)
    except ValueError:
        return None
    return reference if ecr_region(reference.host) else None


def _refused(text: str) -> AwsError:
    return AwsError("ValidationException", text)
