"""CloudFormation's resource types that are made by our services, so that a stack's project, repository or endpoint is a real one.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/ says of each type what ``Ref`` gives and which
properties replace the resource when they change.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_mlcc.localaws.inside import InsideCalls, ServiceError, fitted, operation_model

__all__ = ["ResourceType", "StackResources"]

_POLL_SECONDS = 0.1
Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One type: whose it is, which property names it, and the properties whose change makes a new one."""

    name: str
    service: str
    named_by: str
    replacing: tuple[str, ...]
    lowercase: bool = True
    """Names that are made up are in small letters: so are ARNs of SageMaker's, whatever the name, and repositories must be."""
    longest_name: int = 63


_TYPES = (
    ResourceType("AWS::CodeBuild::Project", "codebuild", "Name", ("Name",), lowercase=False, longest_name=255),
    ResourceType("AWS::ECR::Repository", "ecr", "RepositoryName", ("RepositoryName", "EncryptionConfiguration"), longest_name=256),
    ResourceType("AWS::SageMaker::ModelPackageGroup", "sagemaker", "ModelPackageGroupName",
                 ("ModelPackageGroupName", "ModelPackageGroupDescription")),
    ResourceType("AWS::SageMaker::Model", "sagemaker", "ModelName",
                 ("ModelName", "PrimaryContainer", "Containers", "ExecutionRoleArn", "EnableNetworkIsolation", "VpcConfig",
                  "InferenceExecutionConfig")),
    ResourceType("AWS::SageMaker::EndpointConfig", "sagemaker", "EndpointConfigName",
                 ("EndpointConfigName", "ProductionVariants", "AsyncInferenceConfig", "DataCaptureConfig", "KmsKeyId",
                  "ShadowProductionVariants", "ExplainerConfig", "ExecutionRoleArn", "EnableNetworkIsolation", "VpcConfig")),
    ResourceType("AWS::SageMaker::Endpoint", "sagemaker", "EndpointName", ("EndpointName",)),
)  # fmt: skip


class StackResources:
    """Creates, updates and deletes what stacks declare. ``region()`` says where the stack at work is."""

    types = _TYPES

    def __init__(self, calls: InsideCalls, *, region: Callable[[], str], named: Callable[[ResourceType, str, str], str]) -> None:
        """``named(type, stack, logical_id)`` gives the name of a resource whose template gives none."""
        self._calls, self._region, self._named = calls, region, named

    def create(self, kind: ResourceType, logical_id: str, properties: Properties, stack: str) -> tuple[str, dict[str, Any]]:
        """Make the resource: its physical id and attributes. Raises ValueError with the service's words where it can't be made."""
        given = {**properties, kind.named_by: properties.get(kind.named_by) or self._named(kind, stack, logical_id)}
        return self._made(kind, given)

    def update(self, kind: ResourceType, physical_id: str, properties: Properties) -> tuple[str, dict[str, Any]]:
        """Change in place what need not be replaced."""
        given = {**properties, kind.named_by: _name(kind, physical_id, properties)}
        if kind.name == "AWS::CodeBuild::Project":
            answer = self._ask(kind, "UpdateProject", given)
            return physical_id, {"Arn": answer["project"]["arn"]}
        if kind.name == "AWS::ECR::Repository":
            return self._repository_updated(kind, given)
        if kind.name == "AWS::SageMaker::Endpoint":
            self._ask(kind, "UpdateEndpoint", given)
            self._await_endpoint(kind, given["EndpointName"])
        self._retag(kind, physical_id, properties)
        return physical_id, _attributes(kind, physical_id, given)

    def delete(self, kind: ResourceType, physical_id: str, properties: Properties) -> None:
        """Remove the resource; one that is gone already is fine."""
        name = _name(kind, physical_id, properties)
        try:
            if kind.name == "AWS::ECR::Repository":
                force = str(properties.get("EmptyOnDelete", False)).lower() == "true"
                self._call(kind, "DeleteRepository", {"repositoryName": name, "force": force})
            elif kind.name == "AWS::CodeBuild::Project":
                self._call(kind, "DeleteProject", {"name": name})
            else:
                self._call(kind, f"Delete{_noun(kind)}", {kind.named_by: name})
                while kind.name == "AWS::SageMaker::Endpoint":
                    self._call(kind, "DescribeEndpoint", {"EndpointName": name})
                    time.sleep(_POLL_SECONDS)
        except ServiceError as error:
            if not _is_gone(error):
                raise ValueError(f"{error.message} (Service: {kind.service}; Error Code: {error.code})") from error

    def _made(self, kind: ResourceType, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if kind.name == "AWS::CodeBuild::Project":
            # a template may leave out what the API wants
            defaults = {"Artifacts": {"Type": "NO_ARTIFACTS"}}
            answer = self._ask(kind, "CreateProject", {**defaults, **given})
            return given["Name"], {"Arn": answer["project"]["arn"]}
        if kind.name == "AWS::ECR::Repository":
            record = self._ask(kind, "CreateRepository", given)["repository"]
            self._apply_policies(kind, given)
            return given["RepositoryName"], {"Arn": record["repositoryArn"], "RepositoryUri": record["repositoryUri"]}
        answer = self._ask(kind, f"Create{_noun(kind)}", given)
        if kind.name == "AWS::SageMaker::Endpoint":
            self._await_endpoint(kind, given["EndpointName"])
        arn = str(answer[f"{_noun(kind)}Arn"])
        return arn, _attributes(kind, arn, given)

    def _repository_updated(self, kind: ResourceType, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        name = given["RepositoryName"]
        self._ask(kind, "PutImageTagMutability", {"ImageTagMutability": "MUTABLE", **given})
        self._ask(kind, "PutImageScanningConfiguration", {"ImageScanningConfiguration": {"ScanOnPush": False}, **given})
        self._apply_policies(kind, given)
        record = self._ask(kind, "DescribeRepositories", {"RepositoryNames": [name]})["repositories"][0]
        self._retag(kind, record["repositoryArn"], given)
        return name, {"Arn": record["repositoryArn"], "RepositoryUri": record["repositoryUri"]}

    def _apply_policies(self, kind: ResourceType, given: Mapping[str, Any]) -> None:
        """Both policies as the template has them; one it no longer has goes."""
        name = {"repositoryName": given["RepositoryName"]}
        lifecycle, policy = (given.get("LifecyclePolicy") or {}).get("LifecyclePolicyText"), given.get("RepositoryPolicyText")
        texts = {
            ("LifecyclePolicy", "Put", "lifecyclePolicyText"): lifecycle,
            ("RepositoryPolicy", "Set", "policyText"): policy if policy is None or isinstance(policy, str) else json.dumps(policy),
        }
        for (what, verb, member), text in texts.items():
            try:
                self._call(kind, f"{verb if text else 'Delete'}{what}", {**name, **({member: text} if text else {})})
            except ServiceError as error:
                if text or not _is_gone(error):
                    raise ValueError(error.message) from error

    def _retag(self, kind: ResourceType, arn: str, given: Mapping[str, Any]) -> None:
        tags = list(given.get("Tags") or [])
        kept = {tag["Key"] for tag in tags}
        if kind.service == "ecr":
            there = self._ask(kind, "ListTagsForResource", {"resourceArn": arn})["tags"]
            add, remove = "TagResource", "UntagResource"
        else:
            there = self._ask(kind, "ListTags", {"ResourceArn": arn})["Tags"]
            add, remove = "AddTags", "DeleteTags"
        gone = [tag["Key"] for tag in there if tag["Key"] not in kept]
        if gone:
            self._ask(kind, remove, {"ResourceArn": arn, "TagKeys": gone})
        if tags:
            self._ask(kind, add, {"ResourceArn": arn, "Tags": tags})

    def _await_endpoint(self, kind: ResourceType, name: str) -> None:
        """A stack waits for its endpoint, and fails with it."""
        while True:
            endpoint = self._ask(kind, "DescribeEndpoint", {"EndpointName": name})
            if endpoint["EndpointStatus"] == "InService":
                return
            if endpoint["EndpointStatus"] in ("Failed", "OutOfService", "UpdateRollbackFailed"):
                raise ValueError(endpoint.get("FailureReason") or f"endpoint {name} is {endpoint['EndpointStatus']}")
            time.sleep(_POLL_SECONDS)

    def _ask(self, kind: ResourceType, operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """A call in the words of a stack's event where it is refused."""
        try:
            return self._call(kind, operation, given)
        except ServiceError as error:
            raise ValueError(f"{error.message} (Service: {kind.service}; Error Code: {error.code})") from error

    def _call(self, kind: ResourceType, operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
        params = fitted(given, operation_model(kind.service, operation).input_shape)
        return self._calls(kind.service, operation, params, region=self._region())


def _noun(kind: ResourceType) -> str:
    return kind.name.rpartition("::")[2]


def _attributes(kind: ResourceType, arn: str, given: Properties) -> dict[str, Any]:
    return {kind.named_by: given[kind.named_by], "Arn": arn, f"{_noun(kind)}Arn": arn}


def _name(kind: ResourceType, physical_id: str, properties: Properties) -> str:
    """The name of a resource by its physical id, which for SageMaker's is an ARN, and has lost the name's capital letters."""
    name = physical_id.rpartition("/")[2] if physical_id.startswith("arn:") else physical_id
    declared = str(properties.get(kind.named_by) or "")
    return declared if declared.lower() == name.lower() else name


def _is_gone(error: ServiceError) -> bool:
    return "NotFound" in error.code or "Could not find" in error.message or "does not exist" in error.message
