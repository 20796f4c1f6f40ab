"""What DescribeEndpoint shows of an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.fleet.variants import Variant, deployed, pending_summary, summary
from pytest_mlcc.localaws.store import Record

__all__ = ["described"]


def described(record: Record, images: Callable[[Variant], Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The answer, from the record with its status; ``images`` gives the DeployedImages of a variant.

    As on AWS an endpoint that is being created has no production variants yet, only a pending deployment.
    """
    update = record.get("_update") or {}
    status = record["EndpointStatus"]
    shown = {
        **record, "LastDeploymentConfig": record.get("DeploymentConfig"),
        "DataCaptureConfig": _capture(record.get("DataCaptureConfig"), status), "ShadowProductionVariants": _shadows(record),
    }  # fmt: skip
    if status == "Creating":
        pending = _pending(record["EndpointConfigName"], record["_variants"], record["CreationTime"])
        return {**shown, "PendingDeploymentSummary": pending, "ShadowProductionVariants": None}
    if record.get("_doom"):  # it never had an instance
        return shown
    if update.get("fleet"):
        shown["PendingDeploymentSummary"] = _pending(update["EndpointConfigName"], update["fleet"], update["started"])
    desired = {variant["VariantName"]: variant for variant in update.get("variants", ())}
    summaries = [summary(variant, images(variant), desired.get(variant["VariantName"])) for variant in record["_variants"]]
    return {**shown, "ProductionVariants": summaries}


def _capture(config: Mapping[str, Any] | None, status: str) -> dict[str, Any] | None:
    """A ``DataCaptureConfigSummary``."""
    if not config:
        return None
    enabled = bool(config.get("EnableCapture"))
    return {
        "EnableCapture": enabled, "CaptureStatus": "Started" if enabled and status in ("InService", "Updating") else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"], "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }  # fmt: skip


def _shadows(record: Record) -> list[dict[str, Any]] | None:
    """No traffic is mirrored here, so shadow variants have no instance."""
    shadows = deployed(record.get("ShadowProductionVariants") or ())
    return [{**summary(variant, ()), "CurrentInstanceCount": 0} for variant in shadows] or None


def _pending(config: str, variants: Sequence[Variant], started: float) -> dict[str, Any]:
    """A ``PendingDeploymentSummary``."""

    def images(variant: Variant) -> list[dict[str, Any]]:
        return [{"SpecifiedImage": image} for image in variant.get("_images", ())]

    return {
        "EndpointConfigName": config, "StartTime": started,
        "ProductionVariants": [pending_summary(variant, images, started) for variant in variants],
    }  # fmt: skip
