"""Endpoint configurations, with a model per variant or without any (for inference components)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.resources import ENDPOINT_CONFIG, MODEL, Listing, Resources
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["EndpointConfigs"]

_LISTING = Listing(key="EndpointConfigs", name="EndpointConfigName")


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
        variants = call.params["ProductionVariants"]
        names = [variant["VariantName"] for variant in variants]
        if len(set(names)) != len(names):
            raise AwsError("ValidationException", "Variant names must be unique within an endpoint configuration.")
        modelled = [variant for variant in variants if "ModelName" in variant]
        for variant in modelled:
            self._resources.find(call.region, MODEL, variant["ModelName"])
        if modelled and len(modelled) != len(variants):
            text = "Either all production variants must have a ModelName, or none (to host inference components)."
            raise AwsError("ValidationException", text)
        if not modelled and "ExecutionRoleArn" not in call.params:
            text = "ExecutionRoleArn is required when ModelName is not specified in ProductionVariants."
            raise AwsError("ValidationException", text)
        return self._resources.create(call, ENDPOINT_CONFIG)

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The configuration."""
        return self._resources.find(call.region, ENDPOINT_CONFIG, call.params["EndpointConfigName"])

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The configurations, filtered, sorted and paged."""
        return _LISTING.answer(call.params, self._resources.rows(call.region, ENDPOINT_CONFIG))

    def delete(self, call: Call) -> None:
        """Forget a configuration; endpoints that use it keep running, as on AWS."""
        self._resources.remove(call.region, ENDPOINT_CONFIG, call.params["EndpointConfigName"])
