"""Endpoints: a name for what runs behind it. Status and reason are read from the containers, never set."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_mlcc.localaws.rehearsal.vocabulary import Delay
from pytest_mlcc.localaws.services.sagemaker.endpoint_views import described
from pytest_mlcc.localaws.services.sagemaker.fleet.copies import Copies
from pytest_mlcc.localaws.services.sagemaker.fleet.deployed_images import DeployedImages
from pytest_mlcc.localaws.services.sagemaker.fleet.hosting import Hosting, Owner
from pytest_mlcc.localaws.services.sagemaker.fleet.instances import Instances
from pytest_mlcc.localaws.services.sagemaker.fleet.outcomes import REASON_LIMIT, doom, last_change, outcome, pending
from pytest_mlcc.localaws.services.sagemaker.fleet.plans import Plan, planned, restart_reason
from pytest_mlcc.localaws.services.sagemaker.fleet.variants import deployed
from pytest_mlcc.localaws.services.sagemaker.resources import ENDPOINT, ENDPOINT_CONFIG, INFERENCE_COMPONENT, Listing, Resources
from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["CONFIGURED", "IN_PROGRESS", "Endpoints"]

_LISTING = Listing(key="Endpoints", name="EndpointName", status="EndpointStatus")
IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack")

#: What an endpoint keeps of its configuration, which may be deleted before it.
CONFIGURED = ("AsyncInferenceConfig", "DataCaptureConfig", "ExplainerConfig", "MetricsConfig", "ShadowProductionVariants")


class Endpoints:
    """Create, describe, list and delete endpoints."""

    def __init__(self, resources: Resources, *, hosting: Hosting, quotas: Quotas) -> None:
        self._resources, self._hosting = resources, hosting
        self._images = DeployedImages(resources.context)
        self.instances = Instances(quotas, self._living)
        #: Held by whoever decides about an endpoint by its status, or about the account's instances.
        self.lock = threading.RLock()

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
        region, name = call.region, call.params["EndpointName"]
        config = self._resources.find(region, ENDPOINT_CONFIG, call.params["EndpointConfigName"])
        plans = planned(self._resources, region, name, deployed(config["ProductionVariants"]))
        with self.lock:
            self._resources.refuse_duplicate(region, ENDPOINT, name)
            self.instances.check(region, self.instances.of(plan.variant for plan in plans))
            decided = outcome(self._hosting.rehearsal, "sagemaker:CreateEndpoint", name, Delay.ENDPOINT_CREATE)
            record = self._resources.create(
                call, ENDPOINT, **{key: config.get(key) for key in CONFIGURED}, **decided.members,
                _variants=[plan.variant for plan in plans], _boot=self._hosting.boot,
            )  # fmt: skip
            if not decided.reason:
                self.launch(region, name, plans, dies_after=decided.dies_after, serve=True)
        return record

    def launch(self, region: str, name: str, plans: Sequence[Plan], *, dies_after: int, serve: bool = False) -> dict[str, Copies]:
        """Start the containers of the variants that have a model, by variant."""

        def failed(reason: str, _: bool) -> None:
            self._resources.update(region, ENDPOINT, name, _failure=reason[:REASON_LIMIT])

        return {
            plan.name: self._hosting.launch(
                self.owner(region, name, plan.name), dataclasses.replace(plan.definition, dies_after=dies_after),
                on_failure=failed, serve=serve,
            )
            for plan in plans
            if plan.definition is not None
        }  # fmt: skip

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The endpoint with its status of this moment."""
        region, record = call.region, self.current(call.region, call.params["EndpointName"])

        def images(variant: Mapping[str, Any]) -> list[dict[str, Any]]:
            container = self._hosting.get(self.owner(region, record["EndpointName"], variant["VariantName"]))
            return [self._images.of(container, image) for image in variant.get("_images", ())]

        return described(record, images)

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The endpoints, filtered, sorted and paged."""
        rows = [self._with_status(call.region, row) for row in self._resources.rows(call.region, ENDPOINT)]
        return _LISTING.answer(call.params, rows)

    def delete(self, call: Call) -> None:
        """Begin to delete; the endpoint is gone when its last process is. Refused in AWS's words where AWS refuses."""
        region, name = call.region, call.params["EndpointName"]
        with self.lock:
            record = self.current(region, name)
            if record["EndpointStatus"] in IN_PROGRESS:
                raise AwsError("ValidationException", f'Cannot update in-progress endpoint "{record["EndpointArn"]}".')
            if self.components(region, name):
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
        """Under which name the containers of a variant are known."""
        return (region, ENDPOINT.path, f"{endpoint}/{variant}")

    def components(self, region: str, name: str) -> list[Record]:
        """The records of the inference components on an endpoint."""
        rows = self._resources.rows(region, INFERENCE_COMPONENT)
        return [row for row in rows if row["EndpointName"] == name]

    def resume(self) -> None:
        """After a restart: what was being deleted has no process left, so it is gone; what was being updated is as it was before."""
        for region in self._resources.store.regions():
            for record in self._resources.rows(region, ENDPOINT):
                name = record["EndpointName"]
                if record.get("_deleting"):
                    self._resources.remove(region, ENDPOINT, name)
                elif record.get("_update"):
                    undone = "fleet" in record["_update"] or "variants" in record["_update"]
                    reason = restart_reason(f"the update of endpoint {name}") if undone else None
                    self._resources.update(region, ENDPOINT, name, _update=None, _update_failure=reason)

    def _finish(self, region: str, record: Record) -> None:
        name, seconds = record["EndpointName"], self._hosting.rehearsal.delay(Delay.ENDPOINT_DELETE)
        owners = [self.owner(region, name, variant["VariantName"]) for variant in record["_variants"]]
        live = [owner for owner in owners if self._hosting.copies(owner) is not None]

        def finish() -> None:
            for owner in live:
                self._hosting.stop(owner)
            if seconds and self._hosting.closing.wait(seconds):
                return  # it is gone when the server starts again
            self._resources.remove(region, ENDPOINT, name)

        if live or seconds:
            self._hosting.in_background(finish, name=f"delete endpoint {name}")
        else:
            finish()

    def _living(self, region: str) -> Iterator[Record]:
        """The endpoints that hold instances: one that failed has none."""
        for record in self._resources.rows(region, ENDPOINT):
            if self._status(region, record)[0] != "Failed":
                yield record

    def _with_status(self, region: str, record: Record) -> Record:
        status, reason = self._status(region, record)
        since = max((copies.since for copies in self._copies(region, record) if copies), default=0.0)
        changed = last_change(record, since if status == "InService" else 0.0)
        return {**record, "EndpointStatus": status, "FailureReason": reason or None, "LastModifiedTime": changed}

    def _copies(self, region: str, record: Record) -> list[Copies | None]:
        """What serves each of its variants that has a model."""
        names = [variant["VariantName"] for variant in record["_variants"] if "ModelName" in variant]
        return [self._hosting.copies(self.owner(region, record["EndpointName"], name)) for name in names]

    def _status(self, region: str, record: Record) -> tuple[str, str]:
        if record.get("_deleting"):
            return "Deleting", ""
        if record.get("_update"):
            return "Updating", ""
        if record.get("_failure"):
            return "Failed", record["_failure"]
        return doom(record) or self._living_status(region, record)

    def _living_status(self, region: str, record: Record) -> tuple[str, str]:
        copies = self._copies(region, record)
        if copies and record["_boot"] != self._hosting.boot:
            return "Failed", restart_reason(f"endpoint {record['EndpointName']}")
        reason = next((one.failure for one in copies if one and one.failure), "")
        reason = reason or ("" if copies else self._component_death(region, record))
        if reason:
            return "Failed", reason[:REASON_LIMIT]
        if pending(record) or not all(one and one.serving for one in copies):
            return "Creating", ""
        return "InService", record.get("_update_failure") or ""

    def _component_death(self, region: str, record: Record) -> str:
        """Why an endpoint whose inference component served once no longer does, or nothing."""
        for component in self.components(region, record["EndpointName"]):
            name, reason = component["InferenceComponentName"], component.get("_failure") or ""
            lost = component["_boot"] != self._hosting.boot and not reason and component.get("_copies", 1) > 0
            if component.get("_died") or lost:
                return f"Inference component {name}: {reason or restart_reason(name)}"
        return ""
