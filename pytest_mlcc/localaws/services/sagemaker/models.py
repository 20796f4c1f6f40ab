"""Models: which image and files a variant or component runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients, split_uri
from pytest_mlcc.localaws.services.sagemaker.fleet.definitions import containers_of, data_uri, resolved
from pytest_mlcc.localaws.services.sagemaker.image_rules import ImageRules
from pytest_mlcc.localaws.services.sagemaker.resources import MODEL, Listing, Resources
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["Models"]

_LISTING = Listing(key="Models", name="ModelName")
_MOST_CONTAINERS = 15  # AWS: of an inference pipeline


class Models:
    """Create, describe, list and delete models."""

    def __init__(self, resources: Resources, *, clients: Clients, images: ImageRules) -> None:
        self._resources, self._clients, self._images = resources, clients, images

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "CreateModel": self.create,
            "DescribeModel": self.describe,
            "ListModels": self.list_rows,
            "DeleteModel": self.delete,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """Keep a model. Raises AwsError for one that says not, or twice, what to run."""
        params = call.params
        given = [key for key in ("PrimaryContainer", "Containers") if params.get(key)]
        if len(given) != 1:
            how = "Only one" if given else "One"
            raise AwsError("ValidationException", f"{how} of [PrimaryContainer, Containers] must be provided.")
        containers = containers_of(params)
        for container in containers:
            self._check(call.region, container, str(params.get("ExecutionRoleArn")))
        if len(containers) > 1:
            _check_pipeline(containers)
        if not any("ModelPackageName" in container for container in containers) and "ExecutionRoleArn" not in params:
            raise AwsError("ValidationException", "ExecutionRoleArn is required to create a model.")
        return self._resources.create(call, MODEL)

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The model."""
        record = self._resources.find(call.region, MODEL, call.params["ModelName"])
        single = {"InferenceExecutionConfig": {"Mode": "Serial"}} if len(record.get("Containers", ())) > 1 else {}
        return {"EnableNetworkIsolation": False, **single, **record}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The models, filtered, sorted and paged."""
        return _LISTING.answer(call.params, self._resources.rows(call.region, MODEL))

    def delete(self, call: Call) -> None:
        """Forget a model; endpoints that were made from it keep running, as on AWS."""
        self._resources.remove(call.region, MODEL, call.params["ModelName"])

    def _check(self, region: str, container: Mapping[str, Any], role: str) -> None:
        if "Image" not in container and "ModelPackageName" not in container:
            raise AwsError("ValidationException", "Either Image or ModelPackageName must be provided in a container definition.")
        if "ModelPackageName" in container and ("Image" in container or "ModelDataUrl" in container):
            text = "Specify one of either Image and Model Data URL or ModelPackageName in container definition."
            raise AwsError("ValidationException", text)
        if container.get("ModelDataUrl") and container.get("ModelDataSource"):
            raise AwsError("ValidationException", "Only one of ModelDataUrl and ModelDataSource can be provided in a container definition.")
        if "Image" in container:
            self._images.check_model(container, role)
        self._check_data(region, data_uri(resolved(self._resources, region, container)))

    def _check_data(self, region: str, uri: str) -> None:
        """AWS looks for the files when the model is made, not only when it is deployed."""
        if not uri:
            return
        try:
            bucket, prefix = split_uri(uri)
            found = self._clients.client("s3", region).list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get("KeyCount", 0)
        except (ArtifactError, ClientError):  # it is no S3 URI, or there is no such bucket
            found = 0
        if not found:
            raise AwsError("ValidationException", f"Could not find model data at {uri}.")


def _check_pipeline(containers: list[dict[str, Any]]) -> None:
    if len(containers) > _MOST_CONTAINERS:
        raise AwsError("ValidationException", f"A model can not have more than {_MOST_CONTAINERS} containers.")
    names = [container["ContainerHostname"] for container in containers if "ContainerHostname" in container]
    if len(set(names)) != len(names):
        raise AwsError("ValidationException", "ContainerHostname must be unique for each container of a model.")
