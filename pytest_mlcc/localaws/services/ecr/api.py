"""ECR's operations: what clients ask for, in AWS's words."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.images.reference import registry_password
from pytest_mlcc.localaws.services.ecr.model import DEFAULT_MEDIA_TYPE, Blobs, Registry
from pytest_mlcc.localaws.services.ecr.registry import RegistryDoor
from pytest_mlcc.localaws.store import Record, Store
from pytest_mlcc.localaws.wire import AwsError, Call, Service

__all__ = ["Ecr", "EcrService", "service"]

_TOKEN_SECONDS = 12 * 3600
_DEFAULTS: Record = {
    "imageTagMutability": "MUTABLE",
    "imageScanningConfiguration": {"scanOnPush": False},
    "encryptionConfiguration": {"encryptionType": "AES256"},
}


class EcrService(Service):
    """The API service, with the registry's own HTTP paths at hand as ``handle_registry``."""

    registry_door: RegistryDoor


def service(context: ServerContext) -> EcrService:
    """ECR of this server; blobs lie under ``<state_dir>/images``."""
    store = Store(context.changed)
    registry = Registry(store, Blobs(context.state_dir / "images"), account=context.account)
    api = Ecr(registry)
    built = EcrService("ecr", api.operations(), region=context.region, store=store)
    built.registry_door = RegistryDoor(registry)
    return built


class Ecr:
    """The operations over one registry."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def operations(self) -> dict[str, Callable[[Call], dict[str, Any]]]:
        """Every operation that is served, by AWS's name."""
        return {
            "CreateRepository": self.create_repository,
            "DescribeRepositories": self.describe_repositories,
            "DeleteRepository": self.delete_repository,
            "ListImages": self.list_images,
            "DescribeImages": self.describe_images,
            "BatchGetImage": self.batch_get_image,
            "PutImage": self.put_image,
            "BatchDeleteImage": self.batch_delete_image,
            "BatchCheckLayerAvailability": self.batch_check_layer_availability,
            "GetAuthorizationToken": self.get_authorization_token,
            "PutImageTagMutability": self.put_image_tag_mutability,
            "PutImageScanningConfiguration": self.put_image_scanning_configuration,
            "PutLifecyclePolicy": self.put_lifecycle_policy,
            "GetLifecyclePolicy": self.get_lifecycle_policy,
            "DeleteLifecyclePolicy": self.delete_lifecycle_policy,
            "SetRepositoryPolicy": self.set_repository_policy,
            "GetRepositoryPolicy": self.get_repository_policy,
            "DeleteRepositoryPolicy": self.delete_repository_policy,
            "TagResource": self.tag_resource,
            "UntagResource": self.untag_resource,
            "ListTagsForResource": self.list_tags_for_resource,
        }

    # --- repositories

    def create_repository(self, call: Call) -> dict[str, Any]:
        given = {key: call.params[key] for key in _DEFAULTS if key in call.params}
        facts = {**_DEFAULTS, **given, "tags": call.params.get("tags", [])}
        return {"repository": self.registry.create_repository(call.region, call.params["repositoryName"], facts)}

    def describe_repositories(self, call: Call) -> dict[str, Any]:
        names = call.params.get("repositoryNames")
        if names:
            return {"repositories": [self.registry.repository(call.region, name) for name in names]}
        return _page(call, self.registry.repositories(call.region), "repositories")

    def delete_repository(self, call: Call) -> dict[str, Any]:
        name, force = call.params["repositoryName"], call.params.get("force", False)
        return {"repository": self.registry.delete_repository(call.region, name, force=force)}

    def put_image_tag_mutability(self, call: Call) -> dict[str, Any]:
        return self._set(call, "imageTagMutability")

    def put_image_scanning_configuration(self, call: Call) -> dict[str, Any]:
        return self._set(call, "imageScanningConfiguration")

    def _set(self, call: Call, key: str) -> dict[str, Any]:
        record = self.registry.update_repository(call.region, call.params["repositoryName"], **{key: call.params[key]})
        return {"registryId": record["registryId"], "repositoryName": record["repositoryName"], key: record[key]}

    # --- policies: kept and given back; nothing here acts on them

    def put_lifecycle_policy(self, call: Call) -> dict[str, Any]:
        return self._put_text(call, "lifecyclePolicyText", call.params["lifecyclePolicyText"])

    def get_lifecycle_policy(self, call: Call) -> dict[str, Any]:
        return self._text(call, "lifecyclePolicyText", "LifecyclePolicyNotFoundException", "Lifecycle policy")

    def delete_lifecycle_policy(self, call: Call) -> dict[str, Any]:
        answer = self.get_lifecycle_policy(call)
        self._put_text(call, "lifecyclePolicyText", None)
        return answer

    def set_repository_policy(self, call: Call) -> dict[str, Any]:
        return self._put_text(call, "policyText", call.params["policyText"])

    def get_repository_policy(self, call: Call) -> dict[str, Any]:
        return self._text(call, "policyText", "RepositoryPolicyNotFoundException", "Repository policy")

    def delete_repository_policy(self, call: Call) -> dict[str, Any]:
        answer = self.get_repository_policy(call)
        self._put_text(call, "policyText", None)
        return answer

    def _put_text(self, call: Call, key: str, text: str | None) -> dict[str, Any]:
        name = call.params["repositoryName"]
        self.registry.update_repository(call.region, name, **{key: text})
        return {"registryId": self.registry.account, "repositoryName": name, key: text}

    def _text(self, call: Call, key: str, code: str, what: str) -> dict[str, Any]:
        name = call.params["repositoryName"]
        text = self.registry.repository(call.region, name).get(key)
        if text is None:
            raise AwsError(code, f"{what} does not exist for the repository with name '{name}' in the registry with id "
                                 f"'{self.registry.account}'")  # fmt: skip
        return {"registryId": self.registry.account, "repositoryName": name, key: text}

    # --- tags of repositories

    def tag_resource(self, call: Call) -> dict[str, Any]:
        tags = {tag["Key"]: tag for tag in [*self._by_arn(call).get("tags", []), *call.params["tags"]]}
        return self._set_tags(call, list(tags.values()))

    def untag_resource(self, call: Call) -> dict[str, Any]:
        kept = [tag for tag in self._by_arn(call).get("tags", []) if tag["Key"] not in call.params["tagKeys"]]
        return self._set_tags(call, kept)

    def list_tags_for_resource(self, call: Call) -> dict[str, Any]:
        return {"tags": self._by_arn(call).get("tags", [])}

    def _by_arn(self, call: Call) -> Record:
        return self.registry.repository(call.region, call.params["resourceArn"].partition(":repository/")[2])

    def _set_tags(self, call: Call, tags: list[Record]) -> dict[str, Any]:
        self.registry.update_repository(call.region, self._by_arn(call)["repositoryName"], tags=tags)
        return {}

    # --- images

    def list_images(self, call: Call) -> dict[str, Any]:
        name = call.params["repositoryName"]
        self.registry.repository(call.region, name)
        wanted = call.params.get("filter", {}).get("tagStatus", "ANY")
        ids: list[Record] = []
        for image in self.registry.images(call.region, name):
            if image["tags"] and wanted != "UNTAGGED":
                ids += [{"imageDigest": image["digest"], "imageTag": tag} for tag in image["tags"]]
            elif not image["tags"] and wanted != "TAGGED":
                ids.append({"imageDigest": image["digest"]})
        return _page(call, ids, "imageIds")

    def describe_images(self, call: Call) -> dict[str, Any]:
        name = call.params["repositoryName"]
        self.registry.repository(call.region, name)
        asked = call.params.get("imageIds")
        images = [self._image(call.region, name, each) for each in asked] if asked else self.registry.images(call.region, name)
        wanted = call.params.get("filter", {}).get("tagStatus", "ANY")
        images = [image for image in images if wanted == "ANY" or bool(image["tags"]) == (wanted == "TAGGED")]
        return _page(call, [self._detail(name, image) for image in images], "imageDetails")

    def _detail(self, name: str, image: Record) -> Record:
        detail = {
            "registryId": self.registry.account,
            "repositoryName": name,
            "imageDigest": image["digest"],
            "imageSizeInBytes": image["size"],
            "imagePushedAt": image["pushedAt"],
            "imageManifestMediaType": image["mediaType"],
            "artifactMediaType": "application/vnd.docker.container.image.v1+json",
        }
        return {**detail, **({"imageTags": image["tags"]} if image["tags"] else {})}

    def _image(self, region: str, name: str, asked: Record) -> Record:
        image = self._find(region, name, asked)
        if image is None:
            shown = ", ".join(f"{key}:'{asked.get(key, 'null')}'" for key in ("imageDigest", "imageTag"))
            message = (
                f"The image with imageId {{{shown}}} does not exist within the repository with name '{name}' "
                f"in the registry with id '{self.registry.account}'"
            )
            raise AwsError("ImageNotFoundException", message)
        return image

    def _find(self, region: str, name: str, asked: Record) -> Record | None:
        digest, tag = asked.get("imageDigest"), asked.get("imageTag")
        if digest is None and tag is None:
            raise AwsError("InvalidParameterException", "Invalid parameter at 'imageIds': imageDigest or imageTag is needed")
        return self.registry.image(region, name, digest=digest, tag=tag)

    def batch_get_image(self, call: Call) -> dict[str, Any]:
        name = call.params["repositoryName"]
        self.registry.repository(call.region, name)
        images, failures = [], []
        for asked in call.params["imageIds"]:
            image = self._find(call.region, name, asked)
            if image is None:
                failures.append(_not_found(asked))
            else:
                images.append(self._shown(name, image, asked.get("imageTag")))
        return {"images": images, "failures": failures}

    def _shown(self, name: str, image: Record, tag: str | None) -> Record:
        image_id = {"imageDigest": image["digest"], **({"imageTag": tag} if tag else {})}
        return {"registryId": self.registry.account, "repositoryName": name, "imageId": image_id,
                "imageManifest": image["manifest"], "imageManifestMediaType": image["mediaType"]}  # fmt: skip

    def put_image(self, call: Call) -> dict[str, Any]:
        params, name = call.params, call.params["repositoryName"]
        tag = params.get("imageTag")
        before = self.registry.image(call.region, name, tag=tag) if tag else None
        media_type = params.get("imageManifestMediaType", DEFAULT_MEDIA_TYPE)
        image = self.registry.put_image(call.region, name, params["imageManifest"], media_type=media_type, tag=tag)
        if before and before["digest"] == image["digest"]:
            message = (
                f"Image with digest '{image['digest']}' and tag '{tag}' already exists in the repository "
                f"with name '{name}' in registry with id '{self.registry.account}'"
            )
            raise AwsError("ImageAlreadyExistsException", message)
        return {"image": self._shown(name, image, tag)}

    def batch_delete_image(self, call: Call) -> dict[str, Any]:
        name = call.params["repositoryName"]
        self.registry.repository(call.region, name)
        deleted: list[Record] = []
        failures: list[Record] = []
        for asked in call.params["imageIds"]:
            gone = self.registry.delete_image(call.region, name, digest=asked.get("imageDigest"), tag=asked.get("imageTag"))
            if gone is None:
                failures.append(_not_found(asked))
            else:
                deleted += gone
        return {"imageIds": deleted, "failures": failures}

    def batch_check_layer_availability(self, call: Call) -> dict[str, Any]:
        name = call.params["repositoryName"]
        self.registry.repository(call.region, name)
        layers, failures = [], []
        for digest in call.params["layerDigests"]:
            layer = self.registry.layer(call.region, name, digest)
            if layer is None:
                failures.append({"layerDigest": digest, "failureCode": "MissingLayerDigest", "failureReason": "Layer not found"})
            else:
                layers.append({"layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": layer["size"]})
        return {"layers": layers, "failures": failures}

    def get_authorization_token(self, call: Call) -> dict[str, Any]:
        token = base64.b64encode(f"AWS:{registry_password(call.region)}".encode()).decode()
        host = f"{self.registry.account}.dkr.ecr.{call.region}.amazonaws.com"
        data = {"authorizationToken": token, "expiresAt": time.time() + _TOKEN_SECONDS, "proxyEndpoint": f"https://{host}"}
        return {"authorizationData": [data]}


def _not_found(asked: Record) -> Record:
    return {"imageId": asked, "failureCode": "ImageNotFound", "failureReason": "Requested image not found"}


def _page(call: Call, items: list[Record], key: str) -> dict[str, Any]:
    """One page of a list; the token is the index of the next page's first item."""
    start = int(call.params.get("nextToken", "0"))
    end = start + call.params.get("maxResults", 1000)
    return {key: items[start:end], **({"nextToken": str(end)} if end < len(items) else {})}
