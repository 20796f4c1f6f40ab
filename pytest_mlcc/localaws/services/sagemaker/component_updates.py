"""Updates of inference components: other containers, more or fewer copies, another adapter; what fails is taken back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_mlcc.localaws.rehearsal.vocabulary import Delay
from pytest_mlcc.localaws.runtime.container import Container
from pytest_mlcc.localaws.services.sagemaker.component_specifications import artifact_of, chosen, copies_of, definition_of, is_adapter
from pytest_mlcc.localaws.services.sagemaker.endpoints import Endpoints
from pytest_mlcc.localaws.services.sagemaker.fleet.adapters import FAILURES, Adapters
from pytest_mlcc.localaws.services.sagemaker.fleet.copies import Copies
from pytest_mlcc.localaws.services.sagemaker.fleet.definitions import Definition
from pytest_mlcc.localaws.services.sagemaker.fleet.hosting import Hosting
from pytest_mlcc.localaws.services.sagemaker.fleet.outcomes import REASON_LIMIT
from pytest_mlcc.localaws.services.sagemaker.inference_components import InferenceComponents
from pytest_mlcc.localaws.services.sagemaker.resources import INFERENCE_COMPONENT, Resources
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["ComponentUpdates"]


class _FailedError(Exception):
    """The update can't be carried out; the text is for FailureReason."""


class ComponentUpdates:
    """UpdateInferenceComponent and UpdateInferenceComponentRuntimeConfig.

    The record's ``_update`` is there from the request until the last container that has to go is gone.
    """

    def __init__(
        self, resources: Resources, *, hosting: Hosting, endpoints: Endpoints, components: InferenceComponents, adapters: Adapters
    ) -> None:  # fmt: skip
        self._resources, self._hosting, self._endpoints = resources, hosting, endpoints
        self._components, self._adapters = components, adapters

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "UpdateInferenceComponent": self.update,
            "UpdateInferenceComponentRuntimeConfig": self.update_runtime_config,
        }

    def update(self, call: Call) -> Mapping[str, Any]:
        """Another specification, another number of copies, or both."""
        params = call.params
        if not any(params.get(key) for key in ("Specification", "Specifications", "RuntimeConfig")):
            raise AwsError("ValidationException", "At least one of Specification, Specifications and RuntimeConfig must be provided.")
        return self._update(call, params.get("RuntimeConfig", {}).get("CopyCount"))

    def update_runtime_config(self, call: Call) -> Mapping[str, Any]:
        """Another number of copies."""
        return self._update(call, call.params["DesiredRuntimeConfig"]["CopyCount"])

    def _update(self, call: Call, copies: int | None) -> Record:
        region, name = call.region, call.params["InferenceComponentName"]
        with self._endpoints.lock, self._components.lock:
            record = self._updatable(region, name)
            specification = chosen(call.params, self._variant(region, record))
            if is_adapter(record):
                work = self._of_adapter(region, record, specification, copies)
            else:
                work = self._of_base(region, record, specification, copies)
            shown = {key: call.params[key] for key in ("Specifications", "DeploymentConfig") if key in call.params}
            update = {"token": uuid.uuid4().hex, "started": time.time(), **({} if copies is None else {"copies": copies})}
            self._resources.update(region, INFERENCE_COMPONENT, name, _update=update, _update_failure=None, **shown)
        self._hosting.in_background(lambda: self._carry_out(region, name, work), name=f"update inference component {name}")
        return record

    def _updatable(self, region: str, name: str) -> Record:
        record = self._components.current(region, name)
        rows = [record] if is_adapter(record) else [record, *self._components.adapters_of(region, name)]
        for row in rows:
            status = self._components.current(region, row["InferenceComponentName"])["InferenceComponentStatus"]
            if status not in ("InService", "Failed"):
                raise AwsError("ValidationException", f'Cannot update in-progress inference component "{row["InferenceComponentArn"]}".')
        return record

    def _variant(self, region: str, record: Record) -> Mapping[str, Any]:
        endpoint = self._endpoints.current(region, record["EndpointName"])
        if endpoint["EndpointStatus"] not in ("InService", "Failed"):  # Failed may be for this very component
            text = f'Cannot update an inference component on endpoint "{endpoint["EndpointArn"]}" in status {endpoint["EndpointStatus"]}.'
            raise AwsError("ValidationException", text)
        found: Mapping[str, Any] = next(variant for variant in endpoint["_variants"] if variant["VariantName"] == record["VariantName"])
        return found

    def _of_adapter(
        self, region: str, record: Record, specification: Mapping[str, Any] | None, copies: int | None
    ) -> Callable[[], Mapping[str, Any]]:  # fmt: skip
        arn, name = record["InferenceComponentArn"], record["InferenceComponentName"]
        if copies is not None:
            text = f'Inference component "{arn}" is an adapter: it has the copies of its base inference component.'
            raise AwsError("ValidationException", text)
        url, base = artifact_of(specification or {}), record["Specification"]["BaseInferenceComponentName"]
        if (specification or {}).get("BaseInferenceComponentName", base) != base:
            raise AwsError("ValidationException", f'The base of adapter inference component "{arn}" can not be changed.')
        merged = {**record["Specification"], **(specification or {})}

        def replace() -> Mapping[str, Any]:
            found = self._components.copies(region, record)
            self._adapters.replace(self._components.owner(region, name), url, found.ready if found else ())
            return {"Specification": merged, "_failure": None}

        return replace

    def _of_base(
        self, region: str, record: Record, specification: Mapping[str, Any] | None, copies: int | None
    ) -> Callable[[], Mapping[str, Any]]:  # fmt: skip
        arn, name = record["InferenceComponentArn"], record["InferenceComponentName"]
        if specification and "BaseInferenceComponentName" in specification:
            raise AwsError("ValidationException", f'Inference component "{arn}" is a base and can not become an adapter.')
        merged = {**record["Specification"], **(specification or {})}
        definition = definition_of(self._resources, region, name, record["VariantName"], merged)
        wanted = copies_of(record) if copies is None else copies
        present = self._hosting.copies(self._components.owner(region, name))
        if specification or present is None or record["InferenceComponentStatus"] == "Failed":
            return lambda: self._replace(region, record, definition, wanted, merged)
        return lambda: self._scale(region, record, definition, wanted, present)

    def _carry_out(self, region: str, name: str, work: Callable[[], Mapping[str, Any]]) -> None:
        try:
            changes = work()
        except (_FailedError, *FAILURES) as error:
            if self._hosting.closing.is_set():
                return  # the next start of the server finds the update undone
            changes = {"_update_failure": str(error)[:REASON_LIMIT]}
        except Exception as error:  # whatever it was, an update must end
            text = f"The update failed inside the local AWS: {type(error).__name__}: {error}"
            self._resources.update(region, INFERENCE_COMPONENT, name, _update=None, _update_failure=text[:REASON_LIMIT])
            raise
        if not self._hosting.closing.is_set():
            self._resources.update(region, INFERENCE_COMPONENT, name, _update=None, **changes)

    def _replace(
        self, region: str, record: Record, definition: Definition, wanted: int, specification: Mapping[str, Any]
    ) -> dict[str, Any]:
        """New containers in place of the old ones, which go once they have answered."""
        name = record["InferenceComponentName"]
        new = self._come_up(region, name, definition, wanted)
        owner = self._components.owner(region, name)
        self._resources.update(region, INFERENCE_COMPONENT, name, Specification=specification, _copies=wanted, _boot=self._hosting.boot,
                               _failure=None, _died=False, _doom=None, _ready_at=None)  # fmt: skip
        old = self._hosting.serve(owner, new)
        if old is not None:
            self._hosting.drain(old)
        return {}

    def _scale(self, region: str, record: Record, definition: Definition, wanted: int, present: Copies) -> dict[str, Any]:
        """More containers beside those that run, or fewer."""
        name, more = record["InferenceComponentName"], wanted - len(present.ready)
        for ended in (one for one in present.containers if one not in present.ready):
            self._hosting.end([ended])
        present.remove(len(present.containers) - len(present.ready))
        if more > 0:
            present.add(self._come_up(region, name, definition, more).containers)
            return {"_copies": wanted}
        self._resources.update(region, INFERENCE_COMPONENT, name, _copies=wanted)
        self._wait(time.monotonic())
        self._hosting.drain(present, present.remove(-more))
        return {}

    def _come_up(self, region: str, name: str, definition: Definition, count: int) -> Copies:
        """Containers that are ready and hold the base's adapters. Raises _FailedError, and leaves none behind then."""
        began = time.monotonic()
        new = self._components.launch(region, name, definition, copies=count)
        reason = new.await_serving(self._hosting.closing) or self._load_adapters(region, name, new.containers)
        self._wait(began)
        reason = reason or new.failure
        if reason:
            self._hosting.end(new.containers)
            raise _FailedError(reason)
        return new

    def _load_adapters(self, region: str, name: str, containers: Sequence[Container]) -> str:
        owners = [self._components.owner(region, row["InferenceComponentName"]) for row in self._components.adapters_of(region, name)]
        try:
            for container in containers:
                self._adapters.load_all(owners, container)
        except FAILURES as error:
            return f"Failed to load the adapters: {error or type(error).__name__}"
        return ""

    def _wait(self, began: float) -> None:
        """For as long as an update lasts at least."""
        seconds = self._hosting.rehearsal.delay(Delay.COMPONENT_UPDATE)
        self._hosting.closing.wait(max(0.0, seconds - (time.monotonic() - began)))
