"""What an endpoint is about to run: its variants, and the container of each that has a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["Plan", "planned", "restart_reason"]


@dataclass(frozen=True, slots=True)
class Plan:
    """One variant, as the endpoint's record keeps it; ``definition`` is None for one that hosts inference components."""

    variant: Mapping[str, Any]
    definition: Definition | None

    @property
    def name(self) -> str:
        """The variant's."""
        return str(self.variant["VariantName"])


def planned(resources: Resources, region: str, endpoint: str, variants: Sequence[Mapping[str, Any]]) -> list[Plan]:
    """The plans of these variants. Raises AwsError where a model or its package is missing, or can't be run here."""
    return [_planned(resources, region, endpoint, variant) for variant in variants]


def restart_reason(what: str) -> str:
    """Why something that ran is gone, when no container of it is known to this server."""
    return f"The local AWS was stopped; the process of {what} ended with it."


def _planned(resources: Resources, region: str, endpoint: str, variant: Mapping[str, Any]) -> Plan:
    if "ModelName" not in variant:
        return Plan(variant, None)
    model = resources.find(region, MODEL, variant["ModelName"])
    containers = [resolved(resources, region, container) for container in containers_of(model)]
    if len(containers) > 1:
        text = (
            f'The local AWS can not host model "{model["ModelArn"]}": it is a pipeline of {len(containers)} containers, '
            "and only models of one container are run here."
        )
        raise AwsError("ValidationException", text)
    container, name = containers[0], variant["VariantName"]
    definition = Definition(
        image=container["Image"], environment=container.get("Environment", {}), data=data_uri(container),
        label=f"production variant {name}", log_group=f"/aws/sagemaker/Endpoints/{endpoint}", log_stream=f"{name}/local",
        health_seconds=float(variant.get("ContainerStartupHealthCheckTimeoutInSeconds", HEALTH_SECONDS)),
        download_seconds=float(variant.get("ModelDataDownloadTimeoutInSeconds", DOWNLOAD_SECONDS)),
    )  # fmt: skip
    return Plan({**variant, "_images": [container["Image"]]}, definition)
