"""Inference components: base components run a container, adapter components live in their base's container."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pytest_mlcc.localaws.runtime.container import Container, ContainerState
from pytest_mlcc.localaws.services.sagemaker.clients import ArtifactError, Clients, unpack_archives
from pytest_mlcc.localaws.services.sagemaker.endpoints import Endpoints, restart_reason
from pytest_mlcc.localaws.services.sagemaker.hosting import Hosting, Owner
from pytest_mlcc.localaws.services.sagemaker.resources import INFERENCE_COMPONENT, MODEL, Listing, Resources
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["InferenceComponents"]

_LISTING = Listing(
    key="InferenceComponents", name="InferenceComponentName", status="InferenceComponentStatus",
    equals={"EndpointNameEquals": "EndpointName", "VariantNameEquals": "VariantName"},
)  # fmt: skip
_REASON_LIMIT = 1024
_HEALTH_SECONDS = 300.0
_LONGEST_START = 120.0
"""Seconds. A twin answers within one; a container that does not in two minutes never will, and can't be deleted before it failed."""
_ADAPTER_SECONDS = 60.0


@dataclass
class _Adapter:
    """An adapter in its base's container: the files on disk, and whether the container has taken it."""

    files: Path
    loaded: bool = False


def _shown(specification: Mapping[str, Any]) -> dict[str, Any]:
    """A Specification as Describe shows it: the image under ``DeployedImage``."""
    container = dict(specification.get("Container", {}))
    image = container.pop("Image", None)
    if image:
        container["DeployedImage"] = {"SpecifiedImage": image}
    return {**specification, "Container": container} if container else dict(specification)


class InferenceComponents:
    """Create, describe, list and delete inference components."""

    def __init__(self, resources: Resources, *, hosting: Hosting, endpoints: Endpoints, clients: Clients) -> None:
        self._resources, self._hosting, self._endpoints, self._clients = resources, hosting, endpoints, clients
        self._lock = threading.RLock()  # a base can't go while an adapter is added to it
        self._adapters: dict[Owner, _Adapter] = {}

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "CreateInferenceComponent": self.create,
            "DescribeInferenceComponent": self.describe,
            "ListInferenceComponents": self.list_rows,
            "DeleteInferenceComponent": self.delete,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """Start the container of a base component, or load an adapter into its base's; returns at once."""
        endpoint = self._endpoints.current(call.region, call.params["EndpointName"])
        if endpoint["EndpointStatus"] != "InService":
            text = f'Cannot create an inference component on endpoint "{endpoint["EndpointArn"]}" in status {endpoint["EndpointStatus"]}.'
            raise AwsError("ValidationException", text)
        if any("ModelName" in variant for variant in endpoint["_variants"]):
            text = f'Endpoint "{endpoint["EndpointArn"]}" hosts models and can not host inference components.'
            raise AwsError("ValidationException", text)
        specification = call.params.get("Specification")
        if not specification:
            raise AwsError("ValidationException", "Specification is required.")
        with self._lock:
            if "BaseInferenceComponentName" in specification:
                return self._create_adapter(call, endpoint, specification)
            return self._create_base(call, endpoint, specification)

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The component with its status of this moment."""
        record = self.current(call.region, call.params["InferenceComponentName"])
        shown = {**record, "Specification": _shown(record["Specification"])}
        if "BaseInferenceComponentName" in record["Specification"]:
            return {**shown, "RuntimeConfig": None}
        wanted = record.get("RuntimeConfig", {}).get("CopyCount", 1)
        running = wanted if record["InferenceComponentStatus"] == "InService" else 0
        return {**shown, "RuntimeConfig": {"DesiredCopyCount": wanted, "CurrentCopyCount": running}}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The components, filtered, sorted and paged."""
        rows = [self._with_status(call.region, row) for row in self._resources.rows(call.region, INFERENCE_COMPONENT)]
        return _LISTING.answer(call.params, rows)

    def delete(self, call: Call) -> None:
        """Begin to delete; the component is gone when its process, or the adapter in its base, is."""
        region, name = call.region, call.params["InferenceComponentName"]
        with self._lock:
            record = self.current(region, name)
            arn, status = record["InferenceComponentArn"], record["InferenceComponentStatus"]
            if status == "Creating":
                raise AwsError("ValidationException", f'Cannot update in-progress inference component "{arn}".')
            if self._adapters_of(region, name):
                text = (
                    f'Inference component "{arn}" is a base inference component for one or more associated '
                    "adapter inference components. Delete them first."
                )
                raise AwsError("ValidationException", text)
            if status == "Deleting":
                return
            self._resources.update(region, INFERENCE_COMPONENT, name, _deleting=True)
        self._hosting.in_background(lambda: self._finish(region, record))

    def current(self, region: str, name: str) -> Record:
        """The record with its status and reason as they are now. Raises AwsError when it is missing."""
        return self._with_status(region, self._resources.find(region, INFERENCE_COMPONENT, name))

    def container(self, region: str, record: Record) -> Container | None:
        """The container that answers for a component: its own, or its base's."""
        base = record["Specification"].get("BaseInferenceComponentName")
        return self._hosting.get((region, INFERENCE_COMPONENT.path, base or record["InferenceComponentName"]))

    def resume(self) -> None:
        """After a restart: what was being deleted has no process left, so it is gone."""
        for region in self._resources.store.regions():
            for record in self._resources.rows(region, INFERENCE_COMPONENT):
                if record.get("_deleting"):
                    self._resources.remove(region, INFERENCE_COMPONENT, record["InferenceComponentName"])

    # --- base components -------------------------------------------------------------------------------------------

    def _create_base(self, call: Call, endpoint: Record, specification: Mapping[str, Any]) -> Record:
        definition = self._definition(call.region, specification)
        variant = self._variant(call, endpoint)
        record = self._resources.create(
            call, INFERENCE_COMPONENT, EndpointArn=endpoint["EndpointArn"], VariantName=variant, _boot=self._hosting.boot
        )
        name = record["InferenceComponentName"]
        startup = specification.get("StartupParameters", {})

        def ended(dead: Container) -> None:
            failure = dead.failure[:_REASON_LIMIT]
            self._resources.update(call.region, INFERENCE_COMPONENT, name, _failure=failure, _died=dead.was_ready)

        self._hosting.start(
            (call.region, INFERENCE_COMPONENT.path, name), container=definition, label=f"inference component {name}",
            health_seconds=min(_LONGEST_START, float(startup.get("ContainerStartupHealthCheckTimeoutInSeconds", _HEALTH_SECONDS))),
            log_group=f"/aws/sagemaker/InferenceComponents/{name}", log_stream=f"{variant}/local", on_end=ended,
        )  # fmt: skip
        return record

    def _definition(self, region: str, specification: Mapping[str, Any]) -> dict[str, Any]:
        """What the component's container runs: its own image, or its model's, with the component's environment on top."""
        own = specification.get("Container", {})
        if "ModelName" in specification:
            model = self._resources.find(region, MODEL, specification["ModelName"])
            base = model.get("PrimaryContainer") or model["Containers"][0]
        else:
            base = {}
        merged = {**base, **own, "Environment": {**base.get("Environment", {}), **own.get("Environment", {})}}
        if not merged.get("Image"):
            text = "Either ModelName or Container with an Image must be given in the Specification of a base inference component."
            raise AwsError("ValidationException", text)
        return merged

    def _variant(self, call: Call, endpoint: Record) -> str:
        names = [variant["VariantName"] for variant in endpoint["_variants"]]
        asked: str = call.params.get("VariantName", names[0])
        if asked not in names:
            text = f'Could not find production variant "{asked}" on endpoint "{endpoint["EndpointArn"]}".'
            raise AwsError("ValidationException", text)
        return asked

    # --- adapters --------------------------------------------------------------------------------------------------

    def _create_adapter(self, call: Call, endpoint: Record, specification: Mapping[str, Any]) -> Record:
        base = self.current(call.region, specification["BaseInferenceComponentName"])
        self._check_base(base, endpoint)
        if "ArtifactUrl" not in specification.get("Container", {}):
            raise AwsError("ValidationException", "Container.ArtifactUrl is required for an adapter inference component.")
        record = self._resources.create(
            call, INFERENCE_COMPONENT, EndpointArn=endpoint["EndpointArn"], VariantName=base["VariantName"], _boot=self._hosting.boot
        )
        owner = (call.region, INFERENCE_COMPONENT.path, record["InferenceComponentName"])
        self._adapters[owner] = _Adapter(files=self._hosting.scratch(owner[2]))
        self._hosting.in_background(lambda: self._load(owner, record))
        return record

    def _check_base(self, base: Record, endpoint: Record) -> None:
        arn = base["InferenceComponentArn"]
        if "BaseInferenceComponentName" in base["Specification"]:
            text = f'Inference component "{arn}" is an adapter and can not be a base inference component.'
        elif base["EndpointName"] != endpoint["EndpointName"]:
            text = f'Inference component "{arn}" is not on endpoint "{endpoint["EndpointArn"]}".'
        elif base["InferenceComponentStatus"] != "InService":
            text = f'Base inference component "{arn}" must be InService; it is {base["InferenceComponentStatus"]}.'
        else:
            return
        raise AwsError("ValidationException", text)

    def _load(self, owner: Owner, record: Record) -> None:
        adapter, container = self._adapters[owner], self.container(owner[0], record)
        try:
            url = record["Specification"]["Container"]["ArtifactUrl"]
            unpack_archives(self._clients.download(url, adapter.files, region=owner[0]))
            if container is None:
                raise ArtifactError("the container of the base inference component is gone")
            body = json.dumps({"name": owner[2], "src": str(adapter.files)}).encode()
            self._ask(container, "POST", "/adapters", body=body)
            adapter.loaded = True
        except (ArtifactError, OSError, http.client.HTTPException, BotoCoreError, ClientError) as error:
            reason = f"Failed to load the adapter: {error or type(error).__name__}"
            self._resources.update(owner[0], INFERENCE_COMPONENT, owner[2], _failure=reason[:_REASON_LIMIT])

    def _ask(self, container: Container, method: str, path: str, *, body: bytes = b"", tolerated: int = 0) -> None:
        headers = {"Content-Type": "application/json"}
        answer = container.connections.request(method, path, headers=headers, body=body, timeout=_ADAPTER_SECONDS)
        if answer.status >= 400 and answer.status != tolerated:
            text = answer.body.decode(errors="replace")[:600]
            raise ArtifactError(f"the container answered {method} {path} with {answer.status}: {text}")

    def _adapters_of(self, region: str, name: str) -> list[Record]:
        rows = self._resources.rows(region, INFERENCE_COMPONENT)
        return [row for row in rows if row["Specification"].get("BaseInferenceComponentName") == name]

    def _unload(self, owner: Owner, record: Record) -> None:
        adapter, container = self._adapters.get(owner), self.container(owner[0], record)
        if adapter is None:
            return
        if adapter.loaded and container is not None and container.state is ContainerState.READY:
            try:
                self._ask(container, "DELETE", f"/adapters/{owner[2]}", tolerated=404)  # 404: it is gone already
            except (ArtifactError, OSError, http.client.HTTPException) as error:
                reason = f"Failed to unload the adapter: {error}"[:_REASON_LIMIT]
                self._resources.update(owner[0], INFERENCE_COMPONENT, owner[2], _deleting=False, _failure=reason)
                raise
        shutil.rmtree(adapter.files, ignore_errors=True)
        self._adapters.pop(owner, None)

    # --- both ------------------------------------------------------------------------------------------------------

    def _finish(self, region: str, record: Record) -> None:
        owner = (region, INFERENCE_COMPONENT.path, record["InferenceComponentName"])
        if "BaseInferenceComponentName" in record["Specification"]:
            self._unload(owner, record)
        else:
            self._hosting.stop(owner)
        self._resources.remove(region, INFERENCE_COMPONENT, owner[2])

    def _with_status(self, region: str, record: Record) -> Record:
        status, reason = self._status(region, record)
        return {**record, "InferenceComponentStatus": status, "FailureReason": reason or None}

    def _status(self, region: str, record: Record) -> tuple[str, str]:
        if record.get("_deleting"):
            return "Deleting", ""
        if record.get("_failure"):
            return "Failed", record["_failure"]
        name, base = record["InferenceComponentName"], record["Specification"].get("BaseInferenceComponentName")
        if record["_boot"] != self._hosting.boot:
            return "Failed", restart_reason(f"inference component {base or name}")
        container = self.container(region, record)
        ready = container is not None and container.state is ContainerState.READY
        if base is None:
            return ("InService" if ready else "Creating"), ""  # not there yet, or its failure is being written down
        if container is not None and not ready:
            return "Failed", f"Base inference component {base}: {container.failure}"[:_REASON_LIMIT]
        adapter = self._adapters.get((region, INFERENCE_COMPONENT.path, name))
        return ("InService" if adapter and adapter.loaded else "Creating"), ""
