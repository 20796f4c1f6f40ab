"""Hubs: the public one, which is SageMaker's, and the private ones of an account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.public_hub import PUBLIC_HUB, public_hub
from pytest_mlcc.localaws.services.sagemaker.resources import HUB, HUB_CONTENT, Listing, Resources
from pytest_mlcc.localaws.store import Record
from pytest_mlcc.localaws.wire import AwsError, Call, Operation

__all__ = ["Hubs"]

_LISTING = Listing(key="HubSummaries", name="HubName", status="HubStatus")
_CHANGEABLE = ("HubDescription", "HubDisplayName", "HubSearchKeywords")


class Hubs:
    """Create, describe, list, update and delete hubs. Raises AwsError with the code ResourceNotFound for one that is not there."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def operations(self) -> dict[str, Operation]:
        """By AWS's names."""
        return {
            "CreateHub": self.create,
            "DescribeHub": self.describe,
            "ListHubs": self.list_rows,
            "UpdateHub": self.update,
            "DeleteHub": self.delete,
        }

    def create(self, call: Call) -> Mapping[str, Any]:
        """A private hub, in service at once."""
        name = call.params["HubName"]
        if name == PUBLIC_HUB:
            raise AwsError("ResourceInUse", f"Hub already exists: {public_hub(call.region)['HubArn']}")
        arn = f"arn:aws:sagemaker:{call.region}:{self._resources.context.account}:hub/{name}"  # not in lower case, as others are
        return self._resources.create(call, HUB, HubArn=arn, HubStatus="InService")

    def describe(self, call: Call) -> Mapping[str, Any]:
        """A hub, named by its name or ARN."""
        return self.find(call)

    def list_rows(self, call: Call) -> Mapping[str, Any]:
        """The public hub and those of the account, filtered, sorted and paged."""
        return _LISTING.answer(call.params, [public_hub(call.region), *self._resources.rows(call.region, HUB)])

    def update(self, call: Call) -> Mapping[str, Any]:
        """Change how a private hub is shown."""
        hub = self.own(call)
        changes = {key: call.params[key] for key in _CHANGEABLE if key in call.params}
        if self._resources.update(call.region, HUB, hub["HubName"], **changes) is None:
            raise self._resources.missing(call.region, HUB, hub["HubName"])
        return hub

    def delete(self, call: Call) -> None:
        """Forget a private hub. Raises AwsError while it holds anything."""
        hub = self.own(call)
        if any(row["HubName"] == hub["HubName"] for row in self._resources.rows(call.region, HUB_CONTENT)):
            raise AwsError("ResourceInUse", f"Hub {hub['HubName']} still has contents; delete them first.")
        self._resources.remove(call.region, HUB, hub["HubName"])

    def find(self, call: Call) -> Record:
        """The hub that a request names by its name or ARN."""
        name = _name(call)
        return public_hub(call.region) if name == PUBLIC_HUB else self._resources.find(call.region, HUB, name)

    def own(self, call: Call) -> Record:
        """The same for who wants to change it. Raises AwsError for the public hub, which nobody may."""
        if _name(call) == PUBLIC_HUB:
            raise AwsError("AccessDeniedException", f"{PUBLIC_HUB} belongs to SageMaker and can not be changed.")
        return self.find(call)


def _name(call: Call) -> str:
    return str(call.params["HubName"]).rpartition("/")[2]
