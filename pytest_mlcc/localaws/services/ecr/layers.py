"""ECR's own way to push and pull a layer, beside the registry's: parts through the API, a link to fetch it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_mlcc.localaws.services.ecr.model import Registry
from pytest_mlcc.localaws.services.ecr.registry import RegistryDoor
from pytest_mlcc.localaws.wire import AwsError, Call

__all__ = ["Layers"]

_PART_BYTES = 20971520
_LEAST_PART_BYTES = 5242880


class Layers:
    """The layer operations over one registry; ``endpoint_url`` is where the links lead."""

    def __init__(self, registry: Registry, door: RegistryDoor, *, endpoint_url: str) -> None:
        self._registry, self._door, self._endpoint_url = registry, door, endpoint_url
        self._small: set[str] = set()

    def operations(self) -> dict[str, Callable[[Call], dict[str, Any]]]:
        """The operations, by AWS's name."""
        return {
            "BatchCheckLayerAvailability": self.batch_check_layer_availability,
            "GetDownloadUrlForLayer": self.get_download_url_for_layer,
            "InitiateLayerUpload": self.initiate_layer_upload,
            "UploadLayerPart": self.upload_layer_part,
            "CompleteLayerUpload": self.complete_layer_upload,
        }

    def batch_check_layer_availability(self, call: Call) -> dict[str, Any]:
        name = call.params["repositoryName"]
        self._registry.repository(call.region, name)
        layers, failures = [], []
        for digest in call.params["layerDigests"]:
            layer = self._registry.layer(call.region, name, digest)
            if layer is None:
                failures.append({"layerDigest": digest, "failureCode": "MissingLayerDigest", "failureReason": "Layer not found"})
            else:
                layers.append({"layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": layer["size"]})
        return {"layers": layers, "failures": failures}

    def get_download_url_for_layer(self, call: Call) -> dict[str, Any]:
        name, digest = call.params["repositoryName"], call.params["layerDigest"]
        self._registry.repository(call.region, name)
        if self._registry.layer(call.region, name, digest) is None:
            raise AwsError("LayersNotFoundException", f"The layer with digest '{digest}' does not exist in {self._where(name)}")
        return {"downloadUrl": self._endpoint_url + self._door.link(call.region, name, digest), "layerDigest": digest}

    def initiate_layer_upload(self, call: Call) -> dict[str, Any]:
        name = call.params["repositoryName"]
        self._registry.repository(call.region, name)
        return {"uploadId": self._registry.blobs.begin(_owner(call)), "partSize": _PART_BYTES}

    def upload_layer_part(self, call: Call) -> dict[str, Any]:
        params, upload, size = call.params, call.params["uploadId"], self._size(call)
        content: bytes = params["layerPartBlob"]
        first, last = params["partFirstByte"], params["partLastByte"]
        if first != size or last - first + 1 != len(content):
            message = f"The layer part is not valid: it must begin at byte {size} and hold as many bytes as it says"
            raise AwsError("InvalidLayerPartException", message, registryId=self._registry.account, lastValidByteReceived=size - 1,
                           repositoryName=params["repositoryName"], uploadId=upload)  # fmt: skip
        if upload in self._small:  # only the last part may be small, and this one follows it
            raise AwsError("LayerPartTooSmallException", f"Layer parts must be at least {_LEAST_PART_BYTES} bytes, except the last")
        if len(content) < _LEAST_PART_BYTES:
            self._small.add(upload)
        with self._registry.blobs.opened(upload) as file:
            file.write(content)
        return {**self._facts(call), "lastByteReceived": size + len(content) - 1}

    def complete_layer_upload(self, call: Call) -> dict[str, Any]:
        upload, name, size, blobs = call.params["uploadId"], call.params["repositoryName"], self._size(call), self._registry.blobs
        if size == 0:
            raise AwsError("EmptyUploadException", f"The upload '{upload}' to {self._where(name)} has no layer parts")
        digest = blobs.digest(upload)
        if digest not in call.params["layerDigests"]:
            raise AwsError("InvalidLayerException", f"The layer digest calculation performed by Amazon ECR, '{digest}', is not among the "
                                                    "digests that were given")  # fmt: skip
        self._small.discard(upload)
        if self._registry.layer(call.region, name, digest):
            blobs.cancel(upload)
            raise AwsError("LayerAlreadyExistsException", f"The layer with digest '{digest}' already exists in {self._where(name)}")
        blobs.finish(upload, digest)
        self._registry.link_layer(call.region, name, digest)
        return {**self._facts(call), "layerDigest": digest}

    def _size(self, call: Call) -> int:
        self._registry.repository(call.region, call.params["repositoryName"])
        size = self._registry.blobs.size(call.params["uploadId"], _owner(call))
        if size is None:
            message = f"The upload with id '{call.params['uploadId']}' does not exist in {self._where(call.params['repositoryName'])}"
            raise AwsError("UploadNotFoundException", message)
        return size

    def _facts(self, call: Call) -> dict[str, Any]:
        return {"registryId": self._registry.account, "repositoryName": call.params["repositoryName"], "uploadId": call.params["uploadId"]}

    def _where(self, name: str) -> str:
        return f"the repository with name '{name}' in the registry with id '{self._registry.account}'"


def _owner(call: Call) -> str:
    return f"{call.region}/{call.params['repositoryName']}"
