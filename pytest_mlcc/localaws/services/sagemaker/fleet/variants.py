"""Production variants as an endpoint has them: those of its configuration, with the weight and the instances of this moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError

__all__ = ["Variant", "count_of", "deployed", "pending_summary", "rescaled", "retained", "summary", "type_of", "weight_of"]

_SHOWN = ("RoutingConfig", "ManagedInstanceScaling", "CapacityReservationConfig")
_COUNT, _WEIGHT = "DesiredInstanceCount", "DesiredWeight"

Variant = Mapping[str, Any]


def deployed(variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """The variants of a configuration as a new fleet starts with them."""
    return [
        {**variant, "_weight": float(variant.get("InitialVariantWeight", 1.0)), "_count": _initial_count(variant)} for variant in variants
    ]


def retained(new: Sequence[Variant], old: Sequence[Variant], *, excluded: Sequence[str]) -> list[dict[str, Any]]:
    """New variants with weight and instances of the old ones of the same name, but for the excluded properties."""
    before = {variant["VariantName"]: variant for variant in old}
    members = [member for name, member in ((_COUNT, "_count"), (_WEIGHT, "_weight")) if name not in excluded]
    kept = []
    for variant in new:
        same = before.get(variant["VariantName"], variant)
        if ("ServerlessConfig" in same) != ("ServerlessConfig" in variant):
            same = {**variant, "_weight": same["_weight"]}  # the one has instances, the other none
        kept.append({**variant, **{member: same[member] for member in members}})
    return kept


def rescaled(record: Record, asked: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """An endpoint's variants with the weights and instances of a request. Raises AwsError where they can't have them."""
    changes = {one["VariantName"]: one for one in asked}
    if len(changes) != len(asked):
        raise AwsError("ValidationException", "Variant names must be unique within DesiredWeightsAndCapacities.")
    missing = sorted(changes.keys() - {variant["VariantName"] for variant in record["_variants"]})
    if missing:
        config, names = record["EndpointConfigName"], ", ".join(missing)
        text = f'The variant name(s) "{names}" is/are not present within endpoint configuration "{config}".'
        raise AwsError("ValidationException", text)
    variants = [_changed(variant, changes.get(variant["VariantName"], {})) for variant in record["_variants"]]
    if not any(weight_of(variant) for variant in variants):
        raise AwsError("ValidationException", "The sum of the weights of all production variants must be greater than 0.")
    return variants


def weight_of(variant: Variant) -> float:
    """Its share of the traffic, over the sum of all shares."""
    return float(variant["_weight"])


def count_of(variant: Variant) -> int:
    """Its instances."""
    return int(variant["_count"])


def type_of(variant: Variant) -> str:
    """The type of its instances, of a pool the one that comes first; empty for a serverless variant."""
    pools = sorted(variant.get("InstancePools", ()), key=lambda pool: int(pool["Priority"]))
    return str(variant.get("InstanceType") or (pools[0]["InstanceType"] if pools else ""))


def summary(variant: Variant, images: Sequence[Mapping[str, Any]], desired: Variant | None = None) -> dict[str, Any]:
    """A ``ProductionVariantSummary``; ``desired`` is what an update makes of it."""
    wanted = desired or variant
    shown: dict[str, Any] = {
        "VariantName": variant["VariantName"], "DeployedImages": list(images) or None,
        "CurrentWeight": weight_of(variant), "DesiredWeight": weight_of(wanted),
        **{key: variant[key] for key in _SHOWN if key in variant},
    }  # fmt: skip
    if "ServerlessConfig" in variant:
        shown |= {"CurrentServerlessConfig": variant["ServerlessConfig"], "DesiredServerlessConfig": wanted["ServerlessConfig"]}
        return {**shown, "CurrentInstanceCount": 0, "DesiredInstanceCount": 0}
    pools = None
    if "InstancePools" in variant:  # the first choice is never short here
        pools = [
            {"InstanceType": pool["InstanceType"], "CurrentInstanceCount": count_of(variant) * (pool["InstanceType"] == type_of(variant))}
            for pool in variant["InstancePools"]
        ]
    return {**shown, "CurrentInstanceCount": count_of(variant), "DesiredInstanceCount": count_of(wanted), "InstancePools": pools}


def pending_summary(variant: Variant, images: Callable[[Variant], Sequence[Mapping[str, Any]]], started: float) -> dict[str, Any]:
    """A ``PendingProductionVariantSummary`` of a fleet that is being made."""
    kind = {key: variant[key] for key in ("InstanceType", "AcceleratorType") if key in variant}
    status = [{"Status": "Creating", "StartTime": started}]
    return {**summary(variant, images(variant)), "CurrentInstanceCount": 0, **kind, "VariantStatus": status}


def _changed(variant: Variant, change: Mapping[str, Any]) -> dict[str, Any]:
    name, serverless = variant["VariantName"], variant.get("ServerlessConfig")
    if serverless and _COUNT in change:
        raise AwsError("ValidationException", f"DesiredInstanceCount can not be set for the serverless variant {name}.")
    if not serverless and "ServerlessUpdateConfig" in change:
        raise AwsError("ValidationException", f"ServerlessUpdateConfig can only be set for a serverless variant; {name} has instances.")
    if "ModelName" in variant and change.get(_COUNT) == 0:
        raise AwsError("ValidationException", f"DesiredInstanceCount of variant {name} must be at least 1.")
    merged = {"ServerlessConfig": {**serverless, **change.get("ServerlessUpdateConfig", {})}} if serverless else {}
    weight, count = float(change.get(_WEIGHT, weight_of(variant))), int(change.get(_COUNT, count_of(variant)))
    return {**variant, **merged, "_weight": weight, "_count": count}


def _initial_count(variant: Variant) -> int:
    if "ServerlessConfig" in variant:
        return 0
    return int(variant.get("InitialInstanceCount", variant.get("ManagedInstanceScaling", {}).get("MinInstanceCount", 1)))
