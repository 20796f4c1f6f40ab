"""Updates of endpoints: a new fleet comes up beside the old one, traffic switches, the old one finishes its answers and ends."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_mlcc.localaws.rehearsal.vocabulary import Delay
from pytest_mlcc.localaws.services.sagemaker.endpoints import CONFIGURED, IN_PROGRESS, Endpoints
from pytest_mlcc.localaws.services.sagemaker.fleet.copies import Copies
from pytest_mlcc.localaws.services.sagemaker.fleet.hosting import Hosting
from pytest_mlcc.localaws.services.sagemaker.fleet.outcomes import REASON_LIMIT, Outcome, outcome
from pytest_mlcc.localaws.services.sagemaker.fleet.plans import planned
from pytest_mlcc.localaws.services.sagemaker.fleet.variants import deployed, rescaled, retained
from pytest_mlcc.localaws.services.sagemaker.resources import ENDPOINT, ENDPOINT_CONFIG, Resources
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["EndpointUpdates"]


class EndpointUpdates:
    """UpdateEndpoint and UpdateEndpointWeightsAndCapacities.

    The record's ``_update`` says what an update is about to make of it, from the request to the end of the old fleet: ``fleet``
    are the variants that come up beside those that serve, ``variants`` those that serve with other weights and counts.
    """

    def __init__(self, resources: Resources, *, hosting: Hosting, endpoints: Endpoints) -> None:
        self._resources, self._hosting, self._endpoints = resources, hosting, endpoints

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {"UpdateEndpoint": self.update, "UpdateEndpointWeightsAndCapacities": self.update_weights}

    def update(self, call: Call) -> Mapping[str, Any]:
        """Begin to move the endpoint to another configuration. Where its containers don't come up, the old ones go on."""
        region, name, params = call.region, call.params["EndpointName"], call.params
        with self._endpoints.lock:
            record = self._updatable(region, name)
            config = self._resources.find(region, ENDPOINT_CONFIG, params["EndpointConfigName"])
            self._check(region, record, config)
            variants, kept = _wanted(params, record, config)
            plans = planned(self._resources, region, name, variants)
            fleet = [dict(plan.variant) for plan in plans]
            models = any(plan.definition for plan in plans)
            self._endpoints.instances.check_change(region, [] if models else record["_variants"], fleet)
            decided = outcome(self._hosting.rehearsal, "sagemaker:UpdateEndpoint", name, Delay.ENDPOINT_UPDATE)
            change = {
                **kept, "EndpointConfigName": config["EndpointConfigName"], "DeploymentConfig": _deployment(params, record),
                "_variants": fleet,
            }  # fmt: skip
            token = self._begin(region, name, fleet=fleet, EndpointConfigName=config["EndpointConfigName"], beside=models)
            copies = {} if decided.reason else self._endpoints.launch(region, name, plans, dies_after=decided.dies_after)

        def carry_out() -> None:
            self._carry_out(region, name, token, copies, decided=decided, change=change)

        if copies or decided.seconds:
            self._hosting.in_background(carry_out, name=f"update endpoint {name}")
        else:
            carry_out()
        return record

    def update_weights(self, call: Call) -> Mapping[str, Any]:
        """Share the traffic out anew, and note other numbers of instances."""
        region, name = call.region, call.params["EndpointName"]
        with self._endpoints.lock:
            record = self._updatable(region, name)
            variants = rescaled(record, call.params["DesiredWeightsAndCapacities"])
            self._endpoints.instances.check_change(region, record["_variants"], variants)
            seconds = self._hosting.rehearsal.delay(Delay.ENDPOINT_UPDATE)
            token = self._begin(region, name, variants=variants)

        def apply() -> None:
            if not (seconds and self._hosting.closing.wait(seconds)):
                self._end(region, name, token, _variants=variants)

        if seconds:
            self._hosting.in_background(apply, name=f"update weights of {name}")
        else:
            apply()
        return record

    def _updatable(self, region: str, name: str) -> Record:
        record = self._endpoints.current(region, name)
        status, arn = record["EndpointStatus"], record["EndpointArn"]
        if status in IN_PROGRESS or status == "Deleting":
            raise AwsError("ValidationException", f'Cannot update in-progress endpoint "{arn}".')
        if status != "InService":
            raise AwsError("ValidationException", f'Cannot update endpoint "{arn}" in status {status}. Delete it and create it again.')
        return record

    def _check(self, region: str, record: Record, config: Record) -> None:
        """Whether the endpoint can become one of this configuration."""
        name, arn = record["EndpointName"], record["EndpointArn"]
        if config["EndpointConfigName"] == record["EndpointConfigName"]:
            text = f'Cannot update endpoint "{arn}": it uses endpoint configuration "{config["EndpointConfigArn"]}" already.'
            raise AwsError("ValidationException", text)
        self._resources.find(region, ENDPOINT_CONFIG, record["EndpointConfigName"])  # AWS needs the present one, to return to it
        if record.get("AsyncInferenceConfig") and not config.get("AsyncInferenceConfig"):
            raise AwsError("ValidationException", f"The AsyncInferenceConfig parameter cannot be removed from this endpoint {name}.")
        before, after = ({"ModelName" in one for one in variants} for variants in (record["_variants"], config["ProductionVariants"]))
        if before != after:
            text = f'Cannot update endpoint "{arn}" between hosting models and hosting inference components.'
            raise AwsError("ValidationException", text)
        kept = {variant["VariantName"] for variant in config["ProductionVariants"]}
        for component in self._endpoints.components(region, name):
            if component["VariantName"] not in kept:
                what = f'it hosts inference component "{component["InferenceComponentArn"]}"'
                text = f'Cannot remove production variant "{component["VariantName"]}" from endpoint "{arn}": {what}.'
                raise AwsError("ValidationException", text)

    def _begin(self, region: str, name: str, **members: Any) -> str:
        token = uuid.uuid4().hex
        self._resources.update(region, ENDPOINT, name, _update={"token": token, "started": time.time(), **members}, _update_failure=None)
        return token

    def _is_on(self, region: str, name: str, token: str) -> Record | None:
        """The record, while it is this update that goes on."""
        record = self._resources.store.get(region, ENDPOINT.path, name)
        return record if record is not None and (record.get("_update") or {}).get("token") == token else None

    def _end(self, region: str, name: str, token: str, **changes: Any) -> None:
        """Write what came of the update, where it still goes on."""
        with self._endpoints.lock:
            if self._is_on(region, name, token):
                self._resources.update(region, ENDPOINT, name, **{"_update": None, **changes})

    def _carry_out(
        self, region: str, name: str, token: str, copies: Mapping[str, Copies], *, decided: Outcome, change: Mapping[str, Any]
    ) -> None:  # fmt: skip
        began = time.monotonic()
        reason = decided.reason or next(filter(None, (one.await_serving(self._hosting.closing) for one in copies.values())), "")
        if self._hosting.closing.wait(max(0.0, decided.seconds - (time.monotonic() - began))):
            return  # the containers end with the server, and its next start finds the update undone
        reason = reason or next((one.failure for one in copies.values() if one.failure), "")
        if reason:
            self._hosting.end([container for one in copies.values() for container in one.containers])
            self._end(region, name, token, _update_failure=reason[:REASON_LIMIT])
            return
        for old in self._switch(region, name, token, copies, change=change):
            self._hosting.drain(old)
        if not self._hosting.closing.is_set():
            self._end(region, name, token)

    def _switch(
        self, region: str, name: str, token: str, copies: Mapping[str, Copies], *, change: Mapping[str, Any]
    ) -> list[Copies]:  # fmt: skip
        """The new containers serve, then the record names them, then those of variants that are no more go; what has to end."""
        with self._endpoints.lock:
            record = self._is_on(region, name, token)
            if record is None:  # deleted meanwhile, as it had failed
                return list(copies.values())
            owner = self._endpoints.owner
            old = [self._hosting.serve(owner(region, name, variant), new) for variant, new in copies.items()]
            going_on = {"token": token, "started": record["_update"]["started"]}
            done = {"_failure": None, "_ready_at": None, "_boot": self._hosting.boot, "_update": going_on}
            self._resources.update(region, ENDPOINT, name, **{**change, **done})
            gone = {variant["VariantName"] for variant in record["_variants"]} - set(copies)
            old += [self._hosting.forget(owner(region, name, variant)) for variant in sorted(gone)]
            return [one for one in old if one is not None]


def _wanted(params: Mapping[str, Any], record: Record, config: Record) -> tuple[Sequence[Mapping[str, Any]], dict[str, Any]]:
    """The variants of the new fleet, and what else of the new configuration counts."""
    new, kept = deployed(config["ProductionVariants"]), {key: config.get(key) for key in CONFIGURED}
    if not params.get("RetainAllVariantProperties"):
        if params.get("ExcludeRetainedVariantProperties"):
            text = "ExcludeRetainedVariantProperties can only be specified when RetainAllVariantProperties is true."
            raise AwsError("ValidationException", text)
        return new, kept
    excluded = [one["VariantPropertyType"] for one in params.get("ExcludeRetainedVariantProperties", ())]
    if "DataCaptureConfig" not in excluded:
        kept["DataCaptureConfig"] = record.get("DataCaptureConfig")
    return retained(new, record["_variants"], excluded=excluded), kept


def _deployment(params: Mapping[str, Any], record: Record) -> Any:
    return record.get("DeploymentConfig") if params.get("RetainDeploymentConfig") else params.get("DeploymentConfig")
