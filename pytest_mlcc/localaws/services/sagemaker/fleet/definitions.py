"""What a container runs: its image, environment and model data, from a model, its package or a component's specification."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients, relative_key, split_uri, unpack_archives
from pytest_mlcc.localaws.services.sagemaker.model_package_groups import by_name_or_arn
from pytest_mlcc.localaws.services.sagemaker.resources import MODEL_PACKAGE, Resources
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["DOWNLOAD_SECONDS", "HEALTH_SECONDS", "Definition", "containers_of", "data_uri", "download_of", "resolved"]

HEALTH_SECONDS = 300.0
DOWNLOAD_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Definition:
    """One container as hosting starts it. ``data`` is an S3 URI or empty; ``dies_after`` so many answers it is killed, 0 for never."""

    image: str
    label: str
    log_group: str
    log_stream: str
    environment: Mapping[str, str] = field(default_factory=dict)
    data: str = ""
    health_seconds: float = HEALTH_SECONDS
    download_seconds: float = DOWNLOAD_SECONDS
    dies_after: int = 0


def containers_of(model: Record) -> list[dict[str, Any]]:
    """The ContainerDefinitions of a model, in the order in which they would be invoked."""
    return [dict(one) for one in model.get("Containers") or [model.get("PrimaryContainer") or {}]]


def resolved(resources: Resources, region: str, container: Mapping[str, Any]) -> dict[str, Any]:
    """A ContainerDefinition with image, data and environment of its model package, where it names one.

    Raises AwsError where the package is missing or holds no container.
    """
    name = container.get("ModelPackageName")
    if not name:
        return dict(container)
    package = by_name_or_arn(resources, region, MODEL_PACKAGE, name)
    wanted = container.get("InferenceSpecificationName")
    among = [one for one in package.get("AdditionalInferenceSpecifications", ()) if one["Name"] == wanted]
    specification = package.get("InferenceSpecification") if not wanted else among[0] if among else None
    inside = (specification or {}).get("Containers") or []
    if not inside:
        what = f"inference specification {wanted!r}" if wanted else "inference specification"
        raise AwsError("ValidationException", f"ModelPackage {package['ModelPackageArn']} has no {what}.")
    first = inside[0]
    environment = {**first.get("Environment", {}), **container.get("Environment", {})}
    return {**first, **container, "Image": first["Image"], "Environment": environment}


def data_uri(container: Mapping[str, Any]) -> str:
    """Where the model's files lie in S3; empty for an image that has all it needs."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri")
    return str(container.get("ModelDataUrl") or container.get("ArtifactUrl") or source or "")


def download_of(uri: str, clients: Clients, *, region: str, seconds: float = DOWNLOAD_SECONDS) -> Callable[[Path], None] | None:
    """What puts the model's files into ``/opt/ml/model`` before the start, in ``seconds`` at most; None where there are none.

    What it gives raises OSError with AWS's words for files that are not there, are damaged, or take too long.
    """
    if not uri:
        return None

    def download(into: Path) -> None:
        deadline = time.monotonic() + seconds
        try:
            bucket, prefix = split_uri(uri)
            keys = clients.objects(uri, region=region)
            if not keys:
                raise ArtifactError(f"No S3 objects found under S3 URL {uri!r}")
            files = []
            for key in keys:
                if time.monotonic() > deadline:
                    raise ArtifactError(f"it took longer than ModelDataDownloadTimeoutInSeconds, {seconds:g} seconds")
                files.append(clients.fetch(f"s3://{bucket}/{key}", into / "model" / relative_key(key, prefix), region=region))
            unpack_archives(files)
        except ArtifactError as error:
            raise OSError(f"Failed to download model data: {error}") from error

    return download
