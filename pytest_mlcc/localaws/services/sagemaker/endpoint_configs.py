"""Endpoint configurations, with a model per variant or without any (for inference components)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.resources import ENDPOINT_CONFIG, MODEL, Listing, Resources
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["EndpointConfigs"]

_LISTING = Listing(key="EndpointConfigs", name="EndpointConfigName")
_NOT_SERVERLESS = ("InstanceType", "InitialInstanceCount", "InstancePools", "AcceleratorType", "VolumeSizeInGB", "ManagedInstanceScaling")


class EndpointConfigs:
    """Create, describe, list and delete endpoint configurations."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "CreateEndpointConfig": self.create,
            "DescribeEndpointConfig": self.describe,
            "ListEndpointConfigs": self.list_rows,
            "DeleteEndpointConfig": self.delete,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """Keep a configuration. Raises AwsError for a model that does not exist or variants that contradict each other."""
        params = call.params
        variants, shadows = params["ProductionVariants"], params.get("ShadowProductionVariants", [])
        _check_variants(variants, shadows)
        for variant in (*variants, *shadows):
            if "ModelName" in variant:
                self._resources.find(call.region, MODEL, variant["ModelName"])
        _check_models(params, variants)
        _check_members(params, variants, shadows)
        weighted = {
            key: [{"InitialVariantWeight": 1.0, **variant} for variant in params[key]]
            for key in ("ProductionVariants", "ShadowProductionVariants")
            if key in params
        }
        return self._resources.create(call, ENDPOINT_CONFIG, **weighted)

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The configuration."""
        record = self._resources.find(call.region, ENDPOINT_CONFIG, call.params["EndpointConfigName"])
        return {"EnableNetworkIsolation": False, **record}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The configurations, filtered, sorted and paged."""
        return _LISTING.answer(call.params, self._resources.rows(call.region, ENDPOINT_CONFIG))

    def delete(self, call: Call) -> None:
        """Forget a configuration; endpoints that use it keep running, as on AWS, but can not be updated any more."""
        self._resources.remove(call.region, ENDPOINT_CONFIG, call.params["EndpointConfigName"])


def _check_variants(variants: Sequence[Mapping[str, Any]], shadows: Sequence[Mapping[str, Any]]) -> None:
    names = [variant["VariantName"] for variant in (*variants, *shadows)]
    if len(set(names)) != len(names):
        raise AwsError("ValidationException", "Variant names must be unique within an endpoint configuration.")
    if not any(variant.get("InitialVariantWeight", 1.0) for variant in variants):
        raise AwsError("ValidationException", "At least one production variant must have a weight greater than 0.")
    for variant in (*variants, *shadows):
        _check_instances(variant)


def _check_instances(variant: Mapping[str, Any]) -> None:
    name = variant["VariantName"]
    if "ServerlessConfig" not in variant:
        _check_provisioned(variant)
        return
    wrong = [member for member in _NOT_SERVERLESS if member in variant]
    if wrong:
        text = f"Production variant {name} has a ServerlessConfig and can not have {', '.join(wrong)}."
        raise AwsError("ValidationException", text)
    if "ModelName" not in variant:
        raise AwsError("ValidationException", f"ModelName is required for the serverless production variant {name}.")
    config = variant["ServerlessConfig"]
    if config["MemorySizeInMB"] % 1024:
        raise AwsError("ValidationException", "MemorySizeInMB must be one of 1024, 2048, 3072, 4096, 5120, 6144.")
    if config.get("ProvisionedConcurrency", 0) > config["MaxConcurrency"]:
        raise AwsError("ValidationException", "ProvisionedConcurrency must not be greater than MaxConcurrency.")


def _check_provisioned(variant: Mapping[str, Any]) -> None:
    name, scaling = variant["VariantName"], variant.get("ManagedInstanceScaling", {})
    if ("InstanceType" in variant) == ("InstancePools" in variant):
        text = f"Either InstanceType or ServerlessConfig must be specified for production variant {name}."
        raise AwsError("ValidationException", text)
    if "InitialInstanceCount" not in variant and "MinInstanceCount" not in scaling:
        raise AwsError("ValidationException", f"InitialInstanceCount is required for production variant {name}.")
    least, most = scaling.get("MinInstanceCount"), scaling.get("MaxInstanceCount")
    count = variant.get("InitialInstanceCount", least)
    if least is not None and most is not None and least > most:
        raise AwsError("ValidationException", "MinInstanceCount must not be greater than MaxInstanceCount in ManagedInstanceScaling.")
    if (most is not None and count > most) or (least is not None and count < least):
        text = f"InitialInstanceCount of production variant {name} must be between MinInstanceCount and MaxInstanceCount."
        raise AwsError("ValidationException", text)


def _check_models(params: Mapping[str, Any], variants: Sequence[Mapping[str, Any]]) -> None:
    modelled = [variant for variant in variants if "ModelName" in variant]
    if modelled and len(modelled) != len(variants):
        text = "Either all production variants must have a ModelName, or none (to host inference components)."
        raise AwsError("ValidationException", text)
    if not modelled and "ExecutionRoleArn" not in params:
        text = "ExecutionRoleArn is required when ModelName is not specified in ProductionVariants."
        raise AwsError("ValidationException", text)
    if any("ManagedInstanceScaling" in variant for variant in modelled):
        raise AwsError("ValidationException", "ManagedInstanceScaling is only supported for inference component endpoints.")
    wrong = [member for member in ("AsyncInferenceConfig", "ExplainerConfig", "ShadowProductionVariants") if member in params]
    if wrong and not modelled:
        raise AwsError("ValidationException", f"{wrong[0]} can not be used when ModelName is not specified in ProductionVariants.")


def _check_members(
    params: Mapping[str, Any], variants: Sequence[Mapping[str, Any]], shadows: Sequence[Mapping[str, Any]]
) -> None:  # fmt: skip
    if shadows and (len(variants), len(shadows)) != (1, 1):
        text = "An endpoint configuration with ShadowProductionVariants must have exactly one production and one shadow variant."
        raise AwsError("ValidationException", text)
    if any("ModelName" not in variant for variant in shadows):
        raise AwsError("ValidationException", "ModelName is required for shadow production variants.")
    wrong = [member for member in ("AsyncInferenceConfig", "ExplainerConfig") if member in params]
    if wrong and any("ServerlessConfig" in variant for variant in variants):
        raise AwsError("ValidationException", f"{wrong[0]} is not supported for serverless production variants.")
    if len(wrong) > 1:
        raise AwsError("ValidationException", "ExplainerConfig and AsyncInferenceConfig can not be used together.")
    if shadows and wrong:
        raise AwsError("ValidationException", f"{wrong[0]} is not supported with ShadowProductionVariants.")
