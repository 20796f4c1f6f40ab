"""Models: which image and files a variant or component runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.resources import MODEL, Listing, Resources
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["Models"]

_LISTING = Listing(key="Models", name="ModelName")


class Models:
    """Create, describe, list and delete models."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "CreateModel": self.create,
            "DescribeModel": self.describe,
            "ListModels": self.list_rows,
            "DeleteModel": self.delete,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """Keep a model. Raises AwsError without a container."""
        if not call.params.get("PrimaryContainer") and not call.params.get("Containers"):
            raise AwsError("ValidationException", "One of [PrimaryContainer, Containers] must be provided.")
        return self._resources.create(call, MODEL)

    def describe(self, call: Call) -> Mapping[str, Any]:
        """The model."""
        record = self._resources.find(call.region, MODEL, call.params["ModelName"])
        return {"EnableNetworkIsolation": False, **record}

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The models, filtered, sorted and paged."""
        return _LISTING.answer(call.params, self._resources.rows(call.region, MODEL))

    def delete(self, call: Call) -> None:
        """Forget a model; endpoints that were made from it keep running, as on AWS."""
        self._resources.remove(call.region, MODEL, call.params["ModelName"])
