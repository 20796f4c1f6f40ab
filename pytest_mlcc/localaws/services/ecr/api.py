"""ECR's operations: what clients ask for, in AWS's words. Here those on repositories; images, layers and policies beside it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from typing import Any

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.images.reference import registry_password
from pytest_mlcc.localaws.services.ecr.blobs import Blobs
from pytest_mlcc.localaws.services.ecr.images import Images
from pytest_mlcc.localaws.services.ecr.layers import Layers
from pytest_mlcc.localaws.services.ecr.model import Registry
from pytest_mlcc.localaws.services.ecr.paging import page
from pytest_mlcc.localaws.services.ecr.policies import Policies
from pytest_mlcc.localaws.services.ecr.registry import RegistryDoor
from pytest_mlcc.localaws.store import Record, Store
from pytest_mlcc.localaws.wire import AwsError, Call, Service

__all__ = ["EcrService", "Repositories", "service"]

_TOKEN_SECONDS = 12 * 3600
_MOST_TAGS = 50
_DEFAULTS: Record = {
    "imageTagMutability": "MUTABLE",
    "imageScanningConfiguration": {"scanOnPush": False},
    "encryptionConfiguration": {"encryptionType": "AES256"},
}
_Operation = Callable[[Call], dict[str, Any]]


class EcrService(Service):
    """The API service, with the registry's own HTTP paths at hand as ``registry_door``."""

    registry: Registry
    registry_door: RegistryDoor

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take back what ``snapshot`` gave before the server stopped."""
        super().restore(data)
        self.registry.tidy()


def service(context: ServerContext) -> EcrService:
    """ECR of this server; blobs lie under ``<state_dir>/images``."""
    store = Store(context.changed)
    registry = Registry(store, Blobs(context.state_dir / "images"), account=context.account)
    door = RegistryDoor(registry)
    parts = (
        Repositories(registry),
        Images(registry),
        Layers(registry, door, endpoint_url=context.endpoint_url),
        Policies(registry),
    )
    operations: dict[str, _Operation] = {}
    for part in parts:
        operations |= {name: _of_this_registry(registry, operation) for name, operation in part.operations().items()}
    built = EcrService("ecr", operations, region=context.region, store=store, invalid="InvalidParameterException")
    built.registry, built.registry_door = registry, door
    return built


def _of_this_registry(registry: Registry, operation: _Operation) -> _Operation:
    """Another account's registry has none of our repositories."""

    def run(call: Call) -> dict[str, Any]:
        other = call.params.get("registryId", registry.account)
        if other != registry.account and "repositoryName" in call.params:
            raise registry.no_repository(call.params["repositoryName"], registry=other)
        return operation(call)

    return run


class Repositories:
    """The operations on repositories, their tags and the login."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def operations(self) -> Mapping[str, _Operation]:
        """The operations, by AWS's name."""
        return {
            "CreateRepository": self.create_repository,
            "DescribeRepositories": self.describe_repositories,
            "DeleteRepository": self.delete_repository,
            "GetAuthorizationToken": self.get_authorization_token,
            "PutImageTagMutability": self.put_image_tag_mutability,
            "PutImageScanningConfiguration": self.put_image_scanning_configuration,
            "TagResource": self.tag_resource,
            "UntagResource": self.untag_resource,
            "ListTagsForResource": self.list_tags_for_resource,
        }

    def create_repository(self, call: Call) -> dict[str, Any]:
        _check_tags(call.params.get("tags", []))
        given = {key: call.params[key] for key in (*_DEFAULTS, "imageTagMutabilityExclusionFilters") if key in call.params}
        facts = {**_DEFAULTS, **given, "tags": call.params.get("tags", [])}
        return {"repository": self.registry.create_repository(call.region, call.params["repositoryName"], facts)}

    def describe_repositories(self, call: Call) -> dict[str, Any]:
        names = call.params.get("repositoryNames")
        if names:
            return {"repositories": [self.registry.repository(call.region, name) for name in names]}
        return page(call, self.registry.repositories(call.region), "repositories")

    def delete_repository(self, call: Call) -> dict[str, Any]:
        name, force = call.params["repositoryName"], call.params.get("force", False)
        return {"repository": self.registry.delete_repository(call.region, name, force=force)}

    def put_image_tag_mutability(self, call: Call) -> dict[str, Any]:
        filters = call.params.get("imageTagMutabilityExclusionFilters", [])
        if bool(filters) != call.params["imageTagMutability"].endswith("_WITH_EXCLUSION"):
            message = "imageTagMutabilityExclusionFilters go with IMMUTABLE_WITH_EXCLUSION and MUTABLE_WITH_EXCLUSION, and only with them"
            raise AwsError("InvalidParameterException", f"Invalid parameter at 'imageTagMutabilityExclusionFilters': {message}")
        return self._set(call, imageTagMutability=call.params["imageTagMutability"], imageTagMutabilityExclusionFilters=filters)

    def put_image_scanning_configuration(self, call: Call) -> dict[str, Any]:
        return self._set(call, imageScanningConfiguration=call.params["imageScanningConfiguration"])

    def _set(self, call: Call, **facts: Any) -> dict[str, Any]:
        record = self.registry.update_repository(call.region, call.params["repositoryName"], **facts)
        return {
            "registryId": record["registryId"],
            "repositoryName": record["repositoryName"],
            **{key: facts[key] for key in facts if facts[key]},
        }

    # --- tags of repositories

    def tag_resource(self, call: Call) -> dict[str, Any]:
        tags = {tag["Key"]: tag for tag in [*self._by_arn(call).get("tags", []), *call.params["tags"]]}
        _check_tags(list(tags.values()))
        return self._set_tags(call, list(tags.values()))

    def untag_resource(self, call: Call) -> dict[str, Any]:
        kept = [tag for tag in self._by_arn(call).get("tags", []) if tag["Key"] not in call.params["tagKeys"]]
        return self._set_tags(call, kept)

    def list_tags_for_resource(self, call: Call) -> dict[str, Any]:
        return {"tags": self._by_arn(call).get("tags", [])}

    def _by_arn(self, call: Call) -> Record:
        arn = call.params["resourceArn"]
        head, _, name = arn.partition(":repository/")
        if not name or not head.startswith("arn:"):
            message = f"Invalid parameter at 'resourceArn' failed to satisfy constraint: 'Invalid ARN': {arn}"
            raise AwsError("InvalidParameterException", message)
        return self.registry.repository(call.region, name)

    def _set_tags(self, call: Call, tags: list[Record]) -> dict[str, Any]:
        self.registry.update_repository(call.region, self._by_arn(call)["repositoryName"], tags=tags)
        return {}

    # --- login

    def get_authorization_token(self, call: Call) -> dict[str, Any]:
        token = base64.b64encode(f"AWS:{registry_password(call.region)}".encode()).decode()
        hosts = [f"{account}.dkr.ecr.{call.region}.amazonaws.com" for account in call.params.get("registryIds") or [self.registry.account]]
        expires = time.time() + _TOKEN_SECONDS
        return {
            "authorizationData": [{"authorizationToken": token, "expiresAt": expires, "proxyEndpoint": f"https://{host}"} for host in hosts]
        }


def _check_tags(tags: list[Record]) -> None:
    if len(tags) > _MOST_TAGS:
        raise AwsError("TooManyTagsException", f"The number of tags ({len(tags)}) exceeds the limit of {_MOST_TAGS}")
    if len({tag["Key"] for tag in tags}) != len(tags):
        raise AwsError("InvalidTagParameterException", "Duplicate tag keys found. Please note that tag keys are case sensitive.")
