"""Records without processes: listings, tags, packages, the hub."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.model import ListShape, Shape, StructureShape

from pytest_mlcc.localaws.models import MODELS

ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"
CONTAINER = {"Image": "123456789012.dkr.ecr.us-west-2.amazonaws.com/absent:v1"}


@pytest.fixture(scope="module")
def sagemaker(local_aws: Any) -> Any:
    return local_aws.client("sagemaker")


@pytest.fixture
def name() -> str:
    return f"r-{uuid.uuid4().hex[:8]}"


def test_a_listing_pages_through_everything_once_in_order(sagemaker: Any, name: str) -> None:
    """A cleaner that lists must see every resource, also while others come and go."""
    for number in range(7):
        sagemaker.create_model(ModelName=f"{name}-{number}", PrimaryContainer=CONTAINER, ExecutionRoleArn=ROLE)
    pages = list(sagemaker.get_paginator("list_models").paginate(NameContains=name, PaginationConfig={"PageSize": 3}))
    assert [len(page["Models"]) for page in pages] == [3, 3, 1]
    newest_first = [model["ModelName"] for page in pages for model in page["Models"]]
    assert newest_first == [f"{name}-{number}" for number in reversed(range(7))]
    by_name = sagemaker.list_models(NameContains=name.upper(), SortBy="Name", SortOrder="Ascending", MaxResults=2)
    assert [model["ModelName"] for model in by_name["Models"]] == [f"{name}-0", f"{name}-1"]
    sagemaker.delete_model(ModelName=f"{name}-1")
    rest = sagemaker.list_models(NameContains=name, SortBy="Name", SortOrder="Ascending", MaxResults=100, NextToken=by_name["NextToken"])
    assert [model["ModelName"] for model in rest["Models"]] == [f"{name}-{number}" for number in range(2, 7)]
    middle = sagemaker.describe_model(ModelName=f"{name}-3")["CreationTime"]
    later = sagemaker.list_models(NameContains=name, CreationTimeAfter=middle)["Models"]
    assert {model["ModelName"] for model in later} <= {f"{name}-{number}" for number in range(3, 7)}
    with pytest.raises(ClientError, match="Invalid pagination token"):
        sagemaker.list_models(NextToken="bm8=")


def test_tags_given_at_create_can_be_listed_added_and_removed(sagemaker: Any, name: str) -> None:
    """Clean-up finds what a run left behind by these tags."""
    arn = sagemaker.create_model(
        ModelName=name, PrimaryContainer=CONTAINER, ExecutionRoleArn=ROLE, Tags=[{"Key": "mlcc:run", "Value": "1"}]
    )["ModelArn"]
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "mlcc:run", "Value": "1"}]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "mlcc:run", "Value": "2"}, {"Key": "b", "Value": ""}])
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["b", "absent"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "mlcc:run", "Value": "2"}]
    sagemaker.delete_model(ModelName=name)
    with pytest.raises(ClientError, match="Could not find"):
        sagemaker.list_tags(ResourceArn=arn)


def test_configurations_are_checked_when_they_are_made(sagemaker: Any, name: str) -> None:
    variant = {"VariantName": "A", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}
    with pytest.raises(ClientError, match=f'Could not find model "arn:aws:sagemaker:us-west-2:123456789012:model/{name}"'):
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[{**variant, "ModelName": name}])
    with pytest.raises(ClientError, match="ExecutionRoleArn"):
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    with pytest.raises(ClientError, match="unique"):
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant, variant], ExecutionRoleArn=ROLE)
    wrong = {**variant, "InstanceType": "ml.g5.huge"}
    with pytest.raises(ClientError, match="enum value set"):
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[wrong], ExecutionRoleArn=ROLE)
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], ExecutionRoleArn=ROLE)
    with pytest.raises(ClientError, match="Cannot create already existing endpoint configuration"):
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], ExecutionRoleArn=ROLE)
    assert sagemaker.describe_endpoint_config(EndpointConfigName=name)["ProductionVariants"] == [variant]
    sagemaker.delete_endpoint_config(EndpointConfigName=name)
    with pytest.raises(ClientError, match="Could not find endpoint configuration"):
        sagemaker.delete_endpoint_config(EndpointConfigName=name)


def test_package_versions_count_up_and_are_never_used_again(sagemaker: Any, name: str) -> None:
    group = sagemaker.create_model_package_group(ModelPackageGroupName=name)["ModelPackageGroupArn"]
    with pytest.raises(ClientError, match="already exists"):
        sagemaker.create_model_package_group(ModelPackageGroupName=name)
    first = sagemaker.create_model_package(ModelPackageGroupName=group)["ModelPackageArn"]
    second = sagemaker.create_model_package(ModelPackageGroupName=name, ModelApprovalStatus="Approved")["ModelPackageArn"]
    assert (first, second) == tuple(f"arn:aws:sagemaker:us-west-2:123456789012:model-package/{name}/{number}" for number in (1, 2))
    approved = sagemaker.list_model_packages(ModelPackageGroupName=name, ModelApprovalStatus="Approved")
    assert [package["ModelPackageVersion"] for package in approved["ModelPackageSummaryList"]] == [2]
    assert sagemaker.describe_model_package(ModelPackageName=second)["ModelPackageStatus"] == "Completed"
    with pytest.raises(ClientError) as caught:
        sagemaker.delete_model_package_group(ModelPackageGroupName=name)
    assert caught.value.response["Error"]["Code"] == "ConflictException"
    sagemaker.delete_model_package(ModelPackageName=second)
    third = sagemaker.create_model_package(ModelPackageGroupName=name)["ModelPackageArn"]
    assert third.endswith("/3")
    for arn in (first, third):
        sagemaker.delete_model_package(ModelPackageName=arn)
    sagemaker.delete_model_package_group(ModelPackageGroupName=name)
    with pytest.raises(ClientError, match="does not exist"):
        sagemaker.describe_model_package_group(ModelPackageGroupName=name)


def test_the_hub_holds_every_model_with_recipes_that_are_really_in_s3(sagemaker: Any, local_aws: Any) -> None:
    listed = sagemaker.list_hub_contents(HubName="SageMakerPublicHub", HubContentType="Model", MaxResults=100)
    assert {content["HubContentName"] for content in listed["HubContentSummaries"]} == {spec.hub_name for spec in MODELS}
    for spec in MODELS:
        content = sagemaker.describe_hub_content(HubName="SageMakerPublicHub", HubContentType="Model", HubContentName=spec.hub_name)
        document = json.loads(content["HubContentDocument"])
        assert document["GatedBucket"] == spec.gated
        for recipe in document["RecipeCollection"]:
            for uri in (recipe["SmtjOverrideParamsS3Uri"], recipe["SmtjRecipeTemplateS3Uri"]):
                bucket, _, key = uri.removeprefix("s3://").partition("/")
                local_aws.client("s3").head_object(Bucket=bucket, Key=key)


def test_a_model_the_hub_does_not_hold_is_told_by_its_code(sagemaker: Any) -> None:
    """The SDK turns exactly this code into its message about a wrong model name."""
    with pytest.raises(ClientError) as caught:
        sagemaker.describe_hub_content(HubName="SageMakerPublicHub", HubContentType="Model", HubContentName="absent")
    assert caught.value.response["Error"]["Code"] == "ResourceNotFound"
    with pytest.raises(ClientError) as caught:
        sagemaker.list_hub_contents(HubName="OtherHub", HubContentType="Model")
    assert caught.value.response["Error"]["Code"] == "ResourceNotFound"


def test_an_operation_that_is_not_there_is_unknown_and_not_invented(sagemaker: Any) -> None:
    with pytest.raises(ClientError) as caught:
        sagemaker.list_domains()
    assert caught.value.response["Error"]["Code"] == "UnknownOperationException"


def _missing(shape: Shape, value: Any, path: str) -> list[str]:
    """Members that the service model calls required and an answer lacks."""
    if isinstance(shape, StructureShape):
        absent = [f"{path}.{name}" for name in shape.required_members if name not in value]
        return absent + [each for name in value for each in _missing(shape.members[name], value[name], f"{path}.{name}")]
    if isinstance(shape, ListShape):
        return [each for item in value for each in _missing(shape.member, item, f"{path}[]")]
    return []


def test_answers_hold_every_member_that_the_model_requires(sagemaker: Any, name: str) -> None:
    """Clients with typed answers (the SDK's resources, other languages) fail on a missing one."""
    variant = {"VariantName": "A", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}
    sagemaker.create_model(ModelName=name, PrimaryContainer=CONTAINER, ExecutionRoleArn=ROLE)
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], ExecutionRoleArn=ROLE)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    component = {"InferenceComponentName": name, "EndpointName": name}
    sagemaker.create_inference_component(**component, Specification={"Container": CONTAINER}, RuntimeConfig={"CopyCount": 1})
    sagemaker.create_model_package_group(ModelPackageGroupName=name)
    package = sagemaker.create_model_package(ModelPackageGroupName=name)["ModelPackageArn"]
    hub = {"HubName": "SageMakerPublicHub", "HubContentType": "Model"}
    calls: dict[str, dict[str, Any]] = {
        "DescribeModel": {"ModelName": name}, "ListModels": {}, "DescribeEndpointConfig": {"EndpointConfigName": name},
        "ListEndpointConfigs": {}, "DescribeEndpoint": {"EndpointName": name}, "ListEndpoints": {},
        "DescribeInferenceComponent": {"InferenceComponentName": name}, "ListInferenceComponents": {},
        "DescribeModelPackageGroup": {"ModelPackageGroupName": name}, "ListModelPackageGroups": {},
        "DescribeModelPackage": {"ModelPackageName": package}, "ListModelPackages": {"ModelPackageGroupName": name},
        "DescribeHubContent": {**hub, "HubContentName": MODELS[0].hub_name}, "ListHubContents": hub, "ListMlflowApps": {},
    }  # fmt: skip
    lacking: list[str] = []
    for operation, parameters in calls.items():
        answer = getattr(sagemaker, xform_name(operation))(**parameters)
        answer.pop("ResponseMetadata")
        shape = sagemaker.meta.service_model.operation_model(operation).output_shape
        lacking += _missing(shape, answer, operation)
    assert lacking == []
