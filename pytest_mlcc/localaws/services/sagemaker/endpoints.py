"""Endpoints: a name for what runs behind it. Status and reason are read from the containers, never set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.runtime.container import Container, ContainerState
from pytest_mlcc.localaws.services.sagemaker.hosting import Hosting, Owner
from pytest_mlcc.localaws.services.sagemaker.resources import (
    ENDPOINT,
    ENDPOINT_CONFIG,
    INFERENCE_COMPONENT,
    MODEL,
    Listing,
    Resources,
)
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["Endpoints", "restart_reason"]

_LISTING = Listing(key="Endpoints", name="EndpointName", status="EndpointStatus")
_REASON_LIMIT = 1024
_HEALTH_SECONDS = 300.0


def restart_reason(what: str) -> str:
    """Why something that ran is gone, when no container of it is known to this server."""
    return f"The local AWS was stopped; the process of {what} ended with it."


def _variant_summary(variant: Mapping[str, Any]) -> dict[str, Any]:
    count, weight = variant.get("InitialInstanceCount", 1), variant.get("InitialVariantWeight", 1.0)
    kept = {key: variant[key] for key in ("RoutingConfig", "ManagedInstanceScaling") if key in variant}
    return {
        "VariantName": variant["VariantName"], "CurrentWeight": weight, "DesiredWeight": weight,
        "CurrentInstanceCount": count, "DesiredInstanceCount": count, **kept,
    }  # fmt: skip


class Endpoints:
    """Create, describe, list and delete endpoints."""

    def __init__(self, resources: Resources, hosting: Hosting) -> None:
        self._resources, self._hosting = resources, hosting

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "CreateEndpoint": self.create,
            "DescribeEndpoint": self.describe,
            "ListEndpoints": self.list_rows,
            "DeleteEndpoint": self.delete,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """Start a container for each variant with a model; one without models is ready for inference components."""
        config = self._resources.find(call.region, ENDPOINT_CONFIG, call.params["EndpointConfigName"])
        variants = config["ProductionVariants"]
        models = {
            variant["VariantName"]: self._resources.find(call.region, MODEL, variant["ModelName"])
            for variant in variants
            if "ModelName" in variant
        }
        record = self._resources.create(call, ENDPOINT, _variants=variants, _boot=self._hosting.boot)
        for variant in variants:
            if variant["VariantName"] in models:
                self._start(call.region, record, variant, models[variant["VariantName"]])
        return record

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The endpoint with its status of this moment."""
        record = self.current(call.region, call.params["EndpointName"])
        return {**record, "ProductionVariants": [_variant_summary(variant) for variant in record["_variants"]]}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The endpoints, filtered, sorted and paged."""
        rows = [self._with_status(call.region, row) for row in self._resources.rows(call.region, ENDPOINT)]
        return _LISTING.answer(call.params, rows)

    def delete(self, call: Call) -> None:
        """Begin to delete; the endpoint is gone when its last process is. Refused in AWS's words where AWS refuses."""
        region, name = call.region, call.params["EndpointName"]
        record = self.current(region, name)
        if record["EndpointStatus"] in ("Creating", "Updating"):
            raise AwsError("ValidationException", f'Cannot update in-progress endpoint "{record["EndpointArn"]}".')
        if self._components(region, name):
            text = f'Cannot delete endpoint "{record["EndpointArn"]}" while it hosts inference components. Delete them first.'
            raise AwsError("ValidationException", text)
        if record["EndpointStatus"] == "Deleting":
            return
        self._resources.update(region, ENDPOINT, name, _deleting=True)
        self._finish(region, record)

    def current(self, region: str, name: str) -> Record:
        """The record with ``EndpointStatus`` and ``FailureReason`` as they are now. Raises AwsError when it is missing."""
        return self._with_status(region, self._resources.find(region, ENDPOINT, name))

    def owner(self, region: str, endpoint: str, variant: str) -> Owner:
        """Under which name the container of a variant is known."""
        return (region, ENDPOINT.path, f"{endpoint}/{variant}")

    def resume(self) -> None:
        """After a restart: what was being deleted has no process left, so it is gone."""
        for region in self._resources.store.regions():
            for record in self._resources.rows(region, ENDPOINT):
                if record.get("_deleting"):
                    self._resources.remove(region, ENDPOINT, record["EndpointName"])

    def _finish(self, region: str, record: Record) -> None:
        owners = [self.owner(region, record["EndpointName"], variant["VariantName"]) for variant in record["_variants"]]
        live = [owner for owner in owners if self._hosting.get(owner) is not None]

        def finish() -> None:
            for owner in live:
                self._hosting.stop(owner)
            self._resources.remove(region, ENDPOINT, record["EndpointName"])

        if live:
            self._hosting.in_background(finish)
        else:
            finish()

    def _start(self, region: str, record: Record, variant: Mapping[str, Any], model: Record) -> None:
        name, variant_name = record["EndpointName"], variant["VariantName"]
        container = model.get("PrimaryContainer") or model["Containers"][0]
        seconds = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", _HEALTH_SECONDS)

        def ended(dead: Container) -> None:
            self._resources.update(region, ENDPOINT, name, _failure=dead.failure[:_REASON_LIMIT])

        self._hosting.start(
            self.owner(region, name, variant_name), container=container, health_seconds=float(seconds),
            label=f"production variant {variant_name}", log_group=f"/aws/sagemaker/Endpoints/{name}",
            log_stream=f"{variant_name}/local", on_end=ended,
        )  # fmt: skip

    def _components(self, region: str, name: str) -> list[Record]:
        rows = self._resources.rows(region, INFERENCE_COMPONENT)
        return [row for row in rows if row["EndpointName"] == name]

    def _with_status(self, region: str, record: Record) -> Record:
        status, reason = self._status(region, record)
        return {**record, "EndpointStatus": status, "FailureReason": reason or None}

    def _status(self, region: str, record: Record) -> tuple[str, str]:
        if record.get("_deleting"):
            return "Deleting", ""
        if record.get("_failure"):
            return "Failed", record["_failure"]
        reason = self._component_death(region, record)
        if reason:
            return "Failed", reason[:_REASON_LIMIT]
        states = self._states(region, record)
        if states and record["_boot"] != self._hosting.boot:
            return "Failed", restart_reason(f"endpoint {record['EndpointName']}")
        # Not there yet, or its reason is being written down this very moment: Creating, too.
        return ("InService" if all(state is ContainerState.READY for state in states) else "Creating"), ""

    def _component_death(self, region: str, record: Record) -> str:
        """Why an endpoint whose inference component served once no longer does, or nothing."""
        for component in self._components(region, record["EndpointName"]):
            name, reason = component["InferenceComponentName"], component.get("_failure", "")
            lost = component["_boot"] != self._hosting.boot and not reason
            if component.get("_died") or lost:
                return f"Inference component {name}: {reason or restart_reason(name)}"
        return ""

    def _states(self, region: str, record: Record) -> list[ContainerState | None]:
        states: list[ContainerState | None] = []
        for variant in record["_variants"]:
            if "ModelName" in variant:
                container = self._hosting.get(self.owner(region, record["EndpointName"], variant["VariantName"]))
                states.append(container.state if container else None)
        return states
