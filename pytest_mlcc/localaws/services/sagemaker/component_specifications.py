"""Specifications of inference components: which of them counts, what a base runs, and how Describe shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.fleet.definitions import (
    DOWNLOAD_SECONDS,
    HEALTH_SECONDS,
    Definition,
    containers_of,
    data_uri,
    resolved,
)
from pytest_mlcc.localaws.services.sagemaker.resources import MODEL, Resources
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["artifact_of", "chosen", "copies_of", "definition_of", "is_adapter", "shown"]

_OF_BASES = ("ModelName", "ComputeResourceRequirements")
_LONGEST_START = 120.0
"""Seconds. A twin answers within one; a container that does not in two minutes never will, and can't be deleted before it failed."""


def is_adapter(record: Mapping[str, Any]) -> bool:
    """Whether the component lives in another one's container."""
    return "BaseInferenceComponentName" in record["Specification"]


def copies_of(record: Mapping[str, Any]) -> int:
    """How many copies a base is to have."""
    return int(record.get("_copies", 1))


def chosen(params: Mapping[str, Any], variant: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The specification that counts on this variant: the one, or the one for its instance type; None where none is given.

    Raises AwsError for both forms at once, or for none that fits.
    """
    several: Sequence[Mapping[str, Any]] = params.get("Specifications", ())
    if not several:
        return params.get("Specification")
    if params.get("Specification"):
        raise AwsError("ValidationException", "Only one of Specification and Specifications can be provided.")
    kind = variant.get("InstanceType") or next((pool["InstanceType"] for pool in variant.get("InstancePools", ())), None)
    fitting = [one for one in several if one.get("InstanceType") in (None, kind)]
    if not fitting:
        text = f"None of the Specifications is for the instance type {kind} of production variant {variant['VariantName']}."
        raise AwsError("ValidationException", text)
    return max(fitting, key=lambda one: str(one.get("InstanceType", "")))


def artifact_of(specification: Mapping[str, Any]) -> str:
    """Where an adapter lies in S3. Raises AwsError where it is not said, or something is that only a base has."""
    container: Mapping[str, Any] = specification.get("Container", {})
    if "ArtifactUrl" not in container:
        raise AwsError("ValidationException", "Container.ArtifactUrl is required for an adapter inference component.")
    wrong = [name for name in _OF_BASES if name in specification] + (["Container.Image"] if "Image" in container else [])
    if wrong:
        raise AwsError("ValidationException", f"{wrong[0]} can not be specified for an adapter inference component: it is its base's.")
    return str(container["ArtifactUrl"])


def definition_of(resources: Resources, region: str, name: str, variant: str, specification: Mapping[str, Any]) -> Definition:
    """What a base runs: its own image, or its model's, with the component's environment on top. Raises AwsError where it has neither."""
    own: Mapping[str, Any] = specification.get("Container", {})
    startup: Mapping[str, float] = specification.get("StartupParameters", {})
    base: Mapping[str, Any] = _of_model(resources, region, specification["ModelName"]) if "ModelName" in specification else {}
    merged = {**base, **own, "Environment": {**base.get("Environment", {}), **own.get("Environment", {})}}
    if not merged.get("Image"):
        text = "Either ModelName or Container with an Image must be given in the Specification of a base inference component."
        raise AwsError("ValidationException", text)
    if "ComputeResourceRequirements" not in specification:
        raise AwsError("ValidationException", "ComputeResourceRequirements is required for a base inference component.")
    needs: Mapping[str, float] = specification["ComputeResourceRequirements"]
    if needs.get("MaxMemoryRequiredInMb", needs.get("MinMemoryRequiredInMb", 0)) < needs.get("MinMemoryRequiredInMb", 0):
        raise AwsError("ValidationException", "MaxMemoryRequiredInMb must not be less than MinMemoryRequiredInMb.")
    return Definition(
        image=merged["Image"], environment=merged["Environment"], data=data_uri({**base, **own}),
        label=f"inference component {name}", log_group=f"/aws/sagemaker/InferenceComponents/{name}", log_stream=f"{variant}/local",
        health_seconds=min(_LONGEST_START, float(startup.get("ContainerStartupHealthCheckTimeoutInSeconds", HEALTH_SECONDS))),
        download_seconds=float(startup.get("ModelDataDownloadTimeoutInSeconds", DOWNLOAD_SECONDS)),
    )  # fmt: skip


def shown(specification: Mapping[str, Any], image: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A specification as Describe shows it: the image under ``DeployedImage``, as ``image`` where it is known to run."""
    container = dict(specification.get("Container", {}))
    specified = container.pop("Image", None)
    if specified:
        container["DeployedImage"] = image or {"SpecifiedImage": specified}
    return {**specification, "Container": container} if container else dict(specification)


def _of_model(resources: Resources, region: str, name: str) -> Record:
    containers = containers_of(resources.find(region, MODEL, name))
    if len(containers) > 1:
        text = f'Model "{resources.arn(region, MODEL, name)}" is a pipeline of several containers; an inference component runs one.'
        raise AwsError("ValidationException", text)
    return resolved(resources, region, containers[0])
