"""Inference components: base components run containers, adapter components live in their base's containers."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.rehearsal.vocabulary import Delay
from pytest_mlcc.localaws.runtime.container import Container, ContainerState
from pytest_mlcc.localaws.services.sagemaker.component_specifications import (
    artifact_of,
    chosen,
    copies_of,
    definition_of,
    is_adapter,
    shown,
)
from pytest_mlcc.localaws.services.sagemaker.endpoints import Endpoints
from pytest_mlcc.localaws.services.sagemaker.fleet.adapters import FAILURES, Adapters
from pytest_mlcc.localaws.services.sagemaker.fleet.copies import Copies
from pytest_mlcc.localaws.services.sagemaker.fleet.definitions import Definition
from pytest_mlcc.localaws.services.sagemaker.fleet.deployed_images import DeployedImages
from pytest_mlcc.localaws.services.sagemaker.fleet.hosting import Hosting, Owner
from pytest_mlcc.localaws.services.sagemaker.fleet.outcomes import REASON_LIMIT, doom, last_change, outcome, pending
from pytest_mlcc.localaws.services.sagemaker.fleet.plans import restart_reason
from pytest_mlcc.localaws.services.sagemaker.resources import INFERENCE_COMPONENT, Listing, Resources
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["InferenceComponents"]

_LISTING = Listing(
    key="InferenceComponents", name="InferenceComponentName", status="InferenceComponentStatus",
    equals={"EndpointNameEquals": "EndpointName", "VariantNameEquals": "VariantName"},
)  # fmt: skip
_HOSTS_MODELS = "Inference Components are not supported in this Endpoint. Please make sure this endpoint can deploy inference components."
_CREATE = "sagemaker:CreateInferenceComponent"


class InferenceComponents:
    """Create, describe, list and delete inference components."""

    def __init__(self, resources: Resources, *, hosting: Hosting, endpoints: Endpoints, adapters: Adapters) -> None:
        self._resources, self._hosting, self._endpoints, self._adapters = resources, hosting, endpoints, adapters
        self._images = DeployedImages(resources.context)
        #: Held by whoever decides about a component by its status: a base can't go while an adapter is added to it.
        self.lock = threading.RLock()

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "CreateInferenceComponent": self.create,
            "DescribeInferenceComponent": self.describe,
            "ListInferenceComponents": self.list_rows,
            "DeleteInferenceComponent": self.delete,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """Start the containers of a base component, or load an adapter into its base's; returns at once."""
        with self._endpoints.lock, self.lock:
            endpoint = self._endpoints.current(call.region, call.params["EndpointName"])
            if endpoint["EndpointStatus"] != "InService":
                status = endpoint["EndpointStatus"]
                text = f'Cannot create an inference component on endpoint "{endpoint["EndpointArn"]}" in status {status}.'
                raise AwsError("ValidationException", text)
            if any("ModelName" in variant for variant in endpoint["_variants"]):
                raise AwsError("ValidationException", _HOSTS_MODELS)
            variant = _variant(call.params, endpoint)
            specification = chosen(call.params, variant)
            if not specification:
                raise AwsError("ValidationException", "Specification is required.")
            self._resources.refuse_duplicate(call.region, INFERENCE_COMPONENT, call.params["InferenceComponentName"])
            if "BaseInferenceComponentName" in specification:
                return self._create_adapter(call, endpoint, specification)
            return self._create_base(call, endpoint, variant["VariantName"], specification)

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The component with its status of this moment."""
        record = self.current(call.region, call.params["InferenceComponentName"])
        container = self.container(call.region, record)
        image = record["Specification"].get("Container", {}).get("Image")
        specification = shown(record["Specification"], self._images.of(container, image) if image else None)
        if is_adapter(record):
            specification["ComputeResourceRequirements"] = self._needs(call.region, specification["BaseInferenceComponentName"])
        several = [shown(one) for one in record.get("Specifications") or ()]
        answer = {**record, "Specification": None if several else specification, "Specifications": several or None}
        answer["LastDeploymentConfig"] = record.get("DeploymentConfig")
        if is_adapter(record):
            return {**answer, "RuntimeConfig": None}
        desired = (record.get("_update") or {}).get("copies", copies_of(record))
        return {**answer, "RuntimeConfig": {"DesiredCopyCount": desired, "CurrentCopyCount": self._running(call.region, record)}}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The components, filtered, sorted and paged."""
        rows = [self._with_status(call.region, row) for row in self._resources.rows(call.region, INFERENCE_COMPONENT)]
        return _LISTING.answer(call.params, rows)

    def delete(self, call: Call) -> None:
        """Begin to delete; the component is gone when its processes are, or the adapter in its base's."""
        region, name = call.region, call.params["InferenceComponentName"]
        with self.lock:
            record = self.current(region, name)
            arn, status = record["InferenceComponentArn"], record["InferenceComponentStatus"]
            if status in ("Creating", "Updating"):
                raise AwsError("ValidationException", f'Cannot update in-progress inference component "{arn}".')
            if self.adapters_of(region, name):
                text = (
                    f'Inference component "{arn}" is a base inference component for one or more associated '
                    "adapter inference components. Delete them first."
                )
                raise AwsError("ValidationException", text)
            if status == "Deleting":
                raise AwsError("ValidationException", f'Cannot delete inference component "{arn}": its status is DELETE_IN_PROGRESS.')
            self._resources.update(region, INFERENCE_COMPONENT, name, _deleting=True)
        self._hosting.in_background(lambda: self._finish(region, record), name=f"delete inference component {name}")

    def current(self, region: str, name: str) -> Record:
        """The record with its status and reason as they are now. Raises AwsError when it is missing."""
        return self._with_status(region, self._resources.find(region, INFERENCE_COMPONENT, name))

    def copies(self, region: str, record: Record) -> Copies | None:
        """What answers for a component: its own containers, or its base's."""
        base = record["Specification"].get("BaseInferenceComponentName")
        return self._hosting.copies(self.owner(region, base or record["InferenceComponentName"]))

    def container(self, region: str, record: Record) -> Container | None:
        """The first of them."""
        copies = self.copies(region, record)
        return next(iter(copies.containers), None) if copies else None

    def owner(self, region: str, name: str) -> Owner:
        """Under which name the containers of a base, or an adapter, are known."""
        return (region, INFERENCE_COMPONENT.path, name)

    def adapters_of(self, region: str, name: str) -> list[Record]:
        """The adapters of a base."""
        rows = self._resources.rows(region, INFERENCE_COMPONENT)
        return [row for row in rows if row["Specification"].get("BaseInferenceComponentName") == name]

    def launch(self, region: str, name: str, definition: Definition, *, copies: int, serve: bool = False) -> Copies:
        """Start containers for a base. Where they can't serve, those that came up end, too: nobody is sent to them."""

        def failed(reason: str, was_ready: bool) -> None:
            self._resources.update(region, INFERENCE_COMPONENT, name, _failure=reason[:REASON_LIMIT], _died=was_ready)
            serving = self._hosting.copies(self.owner(region, name))
            left = [one for one in serving.containers if one.state is not ContainerState.FAILED] if serving else []
            if left:
                self._hosting.in_background(lambda: self._hosting.end(left), name=f"end the other copies of {name}")

        return self._hosting.launch(self.owner(region, name), definition, copies=copies, on_failure=failed, serve=serve)

    def resume(self) -> None:
        """After a restart: what was being deleted has no process left, so it is gone; what was being updated is as it was before."""
        for region in self._resources.store.regions():
            for record in self._resources.rows(region, INFERENCE_COMPONENT):
                name = record["InferenceComponentName"]
                if record.get("_deleting"):
                    self._resources.remove(region, INFERENCE_COMPONENT, name)
                elif record.get("_update"):
                    reason = restart_reason(f"the update of inference component {name}")
                    self._resources.update(region, INFERENCE_COMPONENT, name, _update=None, _update_failure=reason)

    # --- base components -------------------------------------------------------------------------------------------

    def _create_base(self, call: Call, endpoint: Record, variant: str, specification: Mapping[str, Any]) -> Record:
        region, name = call.region, call.params["InferenceComponentName"]
        definition = definition_of(self._resources, region, name, variant, specification)
        copies = call.params.get("RuntimeConfig", {}).get("CopyCount", 1)
        if not copies:  # AWS: a component is scaled to zero later, never made so
            raise AwsError("ValidationException", "Inference components copy count must be an integer larger than 0.")
        decided = outcome(self._hosting.rehearsal, _CREATE, name, Delay.COMPONENT_CREATE)
        record = self._resources.create(
            call, INFERENCE_COMPONENT, EndpointArn=endpoint["EndpointArn"], VariantName=variant, Specification=specification,
            _copies=copies, _boot=self._hosting.boot, **decided.members,
        )  # fmt: skip
        if not decided.reason:
            definition = dataclasses.replace(definition, dies_after=decided.dies_after)
            self.launch(region, name, definition, copies=copies, serve=True)
        return record

    def _running(self, region: str, record: Record) -> int:
        copies = self._hosting.copies(self.owner(region, record["InferenceComponentName"]))
        return len(copies.ready) if copies and record["InferenceComponentStatus"] in ("InService", "Updating") else 0

    # --- adapters --------------------------------------------------------------------------------------------------

    def _create_adapter(self, call: Call, endpoint: Record, specification: Mapping[str, Any]) -> Record:
        region, name = call.region, call.params["InferenceComponentName"]
        base = self.current(region, specification["BaseInferenceComponentName"])
        _check_base(base, endpoint)
        artifact_of(specification)
        decided = outcome(self._hosting.rehearsal, _CREATE, name, Delay.ADAPTER_CREATE)
        record = self._resources.create(
            call, INFERENCE_COMPONENT, EndpointArn=endpoint["EndpointArn"], VariantName=base["VariantName"], Specification=specification,
            _boot=self._hosting.boot, **decided.members,
        )  # fmt: skip
        if not decided.reason:
            self._adapters.register(self.owner(region, name))
            self._hosting.in_background(lambda: self._load(region, record), name=f"load adapter {name}")
        return record

    def _load(self, region: str, record: Record) -> None:
        name, copies = record["InferenceComponentName"], self.copies(region, record)
        try:
            url = record["Specification"]["Container"]["ArtifactUrl"]
            self._adapters.load(self.owner(region, name), url, copies.ready if copies else ())
        except FAILURES as error:
            reason = f"Failed to load the adapter: {error or type(error).__name__}"
            self._resources.update(region, INFERENCE_COMPONENT, name, _failure=reason[:REASON_LIMIT])

    def _unload(self, region: str, record: Record) -> None:
        name = record["InferenceComponentName"]
        try:
            self._adapters.unload(self.owner(region, name))
        except FAILURES as error:
            reason = f"Failed to unload the adapter: {error}"[:REASON_LIMIT]
            self._resources.update(region, INFERENCE_COMPONENT, name, _deleting=False, _failure=reason)
            raise

    def _needs(self, region: str, base: str) -> Any:
        """What a base needs: AWS shows it with the base's adapters, too."""
        record = self._resources.store.get(region, INFERENCE_COMPONENT.path, base) or {}
        return record.get("Specification", {}).get("ComputeResourceRequirements")

    # --- both ------------------------------------------------------------------------------------------------------

    def _finish(self, region: str, record: Record) -> None:
        name, adapter = record["InferenceComponentName"], is_adapter(record)
        if adapter:
            self._unload(region, record)
        else:
            self._hosting.stop(self.owner(region, name))
        seconds = self._hosting.rehearsal.delay(Delay.ADAPTER_DELETE if adapter else Delay.COMPONENT_DELETE)
        if seconds and self._hosting.closing.wait(seconds):
            return  # it is gone when the server starts again
        self._resources.remove(region, INFERENCE_COMPONENT, name)

    def _with_status(self, region: str, record: Record) -> Record:
        status, reason = self._status(region, record)
        changed = last_change(record, self._since(region, record) if status == "InService" else 0.0)
        return {**record, "InferenceComponentStatus": status, "FailureReason": reason or None, "LastModifiedTime": changed}

    def _since(self, region: str, record: Record) -> float:
        if is_adapter(record):
            return self._adapters.loaded_at(self.owner(region, record["InferenceComponentName"]))
        copies = self.copies(region, record)
        return copies.since if copies else 0.0

    def _status(self, region: str, record: Record) -> tuple[str, str]:
        if record.get("_deleting"):
            return "Deleting", ""
        if record.get("_update"):
            return "Updating", ""
        if record.get("_failure"):
            return "Failed", record["_failure"]
        doomed = doom(record)
        if doomed:
            return doomed
        status, reason = self._adapter_status(region, record) if is_adapter(record) else self._base_status(region, record)
        return ("Creating", "") if status == "InService" and pending(record) else (status, reason)

    def _base_status(self, region: str, record: Record) -> tuple[str, str]:
        name, explained = record["InferenceComponentName"], record.get("_update_failure") or ""
        if not copies_of(record):
            return "InService", explained
        if record["_boot"] != self._hosting.boot:
            return "Failed", restart_reason(f"inference component {name}")
        copies = self._hosting.copies(self.owner(region, name))
        if copies and copies.failure:
            return "Failed", copies.failure[:REASON_LIMIT]
        return ("InService", explained) if copies and copies.serving else ("Creating", "")

    def _adapter_status(self, region: str, record: Record) -> tuple[str, str]:
        name, base = record["InferenceComponentName"], record["Specification"]["BaseInferenceComponentName"]
        if record["_boot"] != self._hosting.boot:
            return "Failed", restart_reason(f"inference component {base}")
        copies = self.copies(region, record)
        if copies and copies.failure:
            return "Failed", f"Base inference component {base}: {copies.failure}"[:REASON_LIMIT]
        loaded = self._adapters.loaded_at(self.owner(region, name))
        return ("InService", record.get("_update_failure") or "") if loaded else ("Creating", "")


def _variant(params: Mapping[str, Any], endpoint: Record) -> Mapping[str, Any]:
    """Where a component goes. A base must say it, and an adapter must not: it goes where its base is."""
    variants = {variant["VariantName"]: variant for variant in endpoint["_variants"]}
    asked, adapter = params.get("VariantName"), is_adapter({"Specification": {}, **params})
    if adapter and asked:
        raise AwsError("ValidationException", "VariantName can not be specified for an adapter inference component: it is its base's.")
    if not adapter and not asked:
        raise AwsError("ValidationException", "VariantName is required for a base inference component.")
    if adapter:
        return dict(endpoint["_variants"][0])
    if asked not in variants:
        text = f'Could not find production variant "{asked}" on endpoint "{endpoint["EndpointArn"]}".'
        raise AwsError("ValidationException", text)
    found: Mapping[str, Any] = variants[asked]
    return found


def _check_base(base: Record, endpoint: Record) -> None:
    arn = base["InferenceComponentArn"]
    if is_adapter(base):
        text = f'Inference component "{arn}" is an adapter and can not be a base inference component.'
    elif base["EndpointName"] != endpoint["EndpointName"]:
        text = f'Inference component "{arn}" is not on endpoint "{endpoint["EndpointArn"]}".'
    elif base["InferenceComponentStatus"] != "InService":
        text = f'Base inference component "{arn}" must be InService; it is {base["InferenceComponentStatus"]}.'
    else:
        return
    raise AwsError("ValidationException", text)
