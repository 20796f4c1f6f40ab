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
CONTAINER = {"Image": "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-inference:2.6.0-cpu-py312-ubuntu22.04-sagemaker"}


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


def test_tags_are_refused_where_aws_refuses_them(sagemaker: Any, name: str) -> None:
    arn = sagemaker.create_model(ModelName=f"{name}-Upper", PrimaryContainer=CONTAINER, ExecutionRoleArn=ROLE)["ModelArn"]
    fifty = [{"Key": f"k{number}", "Value": "v"} for number in range(50)]
    assert len(sagemaker.add_tags(ResourceArn=arn, Tags=fifty)["Tags"]) == 50
    assert [tag for page in sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn) for tag in page["Tags"]] == fifty
    for tags, words in (
        ([{"Key": "one more", "Value": ""}], "Number of tags must not exceed 50"),
        ([{"Key": "AWS:name", "Value": ""}], "reserved for system use"),
        ([{"Key": "k1", "Value": "1"}, {"Key": "k1", "Value": "2"}], "Duplicate tag keys"),
        ([{"Key": "k1", "Value": "a\tb"}], "regular expression pattern"),
    ):
        with pytest.raises(ClientError, match=words) as caught:
            sagemaker.add_tags(ResourceArn=arn, Tags=tags)
        assert caught.value.response["Error"]["Code"] == "ValidationException"
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "k1", "Value": "naïve größe 数"}])  # a key that is there does not count again
    assert len(sagemaker.list_tags(ResourceArn=arn, MaxResults=50)["Tags"]) == 50
    with pytest.raises(ClientError, match="Invalid pagination token"):
        sagemaker.list_tags(ResourceArn=arn, NextToken="bm8=")


def test_every_kind_of_resource_can_be_tagged(sagemaker: Any, name: str) -> None:
    variant = {"VariantName": "A", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}
    given = {"Tags": [{"Key": "at", "Value": "create"}]}
    config = {"EndpointConfigName": name, "ProductionVariants": [variant], "ExecutionRoleArn": ROLE}
    arns = [
        sagemaker.create_model(ModelName=name, PrimaryContainer=CONTAINER, ExecutionRoleArn=ROLE, **given)["ModelArn"],
        sagemaker.create_endpoint_config(**config, **given)["EndpointConfigArn"],
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name, **given)["EndpointArn"],
        sagemaker.create_model_package_group(ModelPackageGroupName=name, **given)["ModelPackageGroupArn"],
        sagemaker.create_model_package(ModelPackageName=name, **given)["ModelPackageArn"],
    ]
    for arn in arns:
        sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "at", "Value": "later"}, {"Key": "more", "Value": "1"}])
        sagemaker.delete_tags(ResourceArn=arn, TagKeys=["more"])
        assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "at", "Value": "later"}]
    for absent in (f"{arns[0]}x", arns[0].replace("us-west-2", "us-east-1"), arns[0].replace(":model/", ":domain/")):
        with pytest.raises(ClientError, match="Could not find resource"):
            sagemaker.add_tags(ResourceArn=absent, Tags=given["Tags"])


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
    described = sagemaker.describe_endpoint_config(EndpointConfigName=name)["ProductionVariants"]
    assert described == [{**variant, "InitialVariantWeight": 1.0}]
    sagemaker.delete_endpoint_config(EndpointConfigName=name)
    with pytest.raises(ClientError, match="Could not find endpoint configuration"):
        sagemaker.delete_endpoint_config(EndpointConfigName=name)


def test_the_public_hub_is_listed_and_described(sagemaker: Any) -> None:
    (listed,) = sagemaker.list_hubs(NameContains="public")["HubSummaries"]
    described = sagemaker.describe_hub(HubName="SageMakerPublicHub")
    assert listed["HubArn"] == described["HubArn"] == "arn:aws:sagemaker:us-west-2:aws:hub/SageMakerPublicHub"
    assert sagemaker.describe_hub(HubName=listed["HubArn"])["HubStatus"] == "InService"
    assert sagemaker.list_hubs(NameContains="mine")["HubSummaries"] == []
    with pytest.raises(sagemaker.exceptions.ResourceNotFound):
        sagemaker.describe_hub(HubName="OtherHub")


def test_hub_contents_can_be_searched_and_their_versions_listed(sagemaker: Any) -> None:
    of_models = {"HubName": "SageMakerPublicHub", "HubContentType": "Model"}
    pages = sagemaker.get_paginator("list_hub_contents") if sagemaker.can_paginate("list_hub_contents") else None
    assert pages is None, "botocore pages this by itself now: use it here"
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = sagemaker.list_hub_contents(
            **of_models, NameContains="QWEN3", SortBy="HubContentName", SortOrder="Ascending", MaxResults=2, **token
        )
        found += [content["HubContentName"] for content in page["HubContentSummaries"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert found == sorted(spec.hub_name for spec in MODELS if "qwen3" in spec.hub_name)
    assert sagemaker.list_hub_contents(**of_models, MaxSchemaVersion="1.0.0")["HubContentSummaries"] == []
    assert sagemaker.list_hub_contents(**{**of_models, "HubContentType": "Notebook"})["HubContentSummaries"] == []
    (version,) = sagemaker.list_hub_content_versions(**of_models, HubContentName=found[0])["HubContentSummaries"]
    described = sagemaker.describe_hub_content(**of_models, HubContentName=found[0], HubContentVersion=version["HubContentVersion"])
    assert described["HubContentArn"] == version["HubContentArn"]
    assert sagemaker.list_hub_content_versions(**of_models, HubContentName=found[0], MinVersion="9.0.0")["HubContentSummaries"] == []
    with pytest.raises(sagemaker.exceptions.ResourceNotFound):
        sagemaker.list_hub_content_versions(**of_models, HubContentName="absent")


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


LISTS = ["ListAIBenchmarkJobs", "ListAIRecommendationJobs", "ListAIWorkloadConfigs", "ListMlflowApps", "ListMlflowTrackingServers"]


@pytest.mark.parametrize("operation", LISTS)
def test_an_account_has_none_of_what_is_not_offered(sagemaker: Any, operation: str) -> None:
    answer = getattr(sagemaker, xform_name(operation))()
    (rows,) = [value for key, value in answer.items() if key != "ResponseMetadata"]
    assert rows == []


@pytest.mark.parametrize("noun", [operation.removeprefix("List").removesuffix("s") for operation in LISTS])
def test_one_of_what_is_not_offered_is_missing(sagemaker: Any, noun: str) -> None:
    """do/benchmark and do/clean tell by the code that there is nothing to wait for or to delete."""
    model = sagemaker.meta.service_model
    operations = [name for name in model.operation_names if name in (f"Describe{noun}", f"Delete{noun}", f"Stop{noun}")]
    assert len(operations) >= 2
    for operation in operations:
        (identifier,) = model.operation_model(operation).input_shape.required_members
        value = "arn:aws:sagemaker:us-west-2:123456789012:mlflow-app/app-ABCDEFGHIJKL" if identifier == "Arn" else "absent"
        with pytest.raises(sagemaker.exceptions.ResourceNotFound, match="does not exist"):
            getattr(sagemaker, xform_name(operation))(**{identifier: value})


def test_mlflow_apps_are_refused_so_that_no_trainer_waits_for_one(sagemaker: Any) -> None:
    with pytest.raises(sagemaker.exceptions.ResourceLimitExceeded):
        sagemaker.create_mlflow_app(Name="app", ArtifactStoreUri="s3://b/p", RoleArn=ROLE)


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
    component = {"InferenceComponentName": name, "EndpointName": name, "VariantName": "A"}
    specification = {"Container": CONTAINER, "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 128}}
    sagemaker.create_inference_component(**component, Specification=specification, RuntimeConfig={"CopyCount": 1})
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
        "DescribeHub": {"HubName": "SageMakerPublicHub"}, "ListHubs": {},
        "ListHubContentVersions": {**hub, "HubContentName": MODELS[0].hub_name},
        "BatchDescribeModelPackage": {"ModelPackageArnList": [package, f"{package}0"]}, "ListTags": {"ResourceArn": package},
    }  # fmt: skip
    lacking: list[str] = []
    for operation, parameters in calls.items():
        answer = getattr(sagemaker, xform_name(operation))(**parameters)
        answer.pop("ResponseMetadata")
        shape = sagemaker.meta.service_model.operation_model(operation).output_shape
        lacking += _missing(shape, answer, operation)
    assert lacking == ["DescribeModelPackage.ModelPackageName"]  # AWS answers none for a version, whatever its model says
