"""Models, configurations and endpoints as AWS keeps, shows and refuses them, by real boto3 against a real server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"
ACCOUNT = "arn:aws:sagemaker:us-west-2:123456789012"
#: One of AWS's own: none that the account could be asked for.
IMAGE = "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-inference:2.6.0-cpu-py312-ubuntu22.04-sagemaker"
VARIANT = {"VariantName": "A", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
ASYNC = {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}, "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 2}}
CAPTURE = {
    "EnableCapture": True, "InitialSamplingPercentage": 50, "DestinationS3Uri": "s3://bucket/captured",
    "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
}  # fmt: skip
EXPLAINER = {"ClarifyExplainerConfig": {"ShapConfig": {"ShapBaselineConfig": {"ShapBaseline": "1,2"}}}}

#: The ``Stage`` of conftest.py; test modules can't import it.
Stage = Any
Wait = Callable[..., str]


@pytest.fixture
def sagemaker(local_aws: Any) -> Any:
    return local_aws.client("sagemaker")


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def model(sagemaker: Any, name: str) -> Iterator[str]:
    """A model that nobody runs: good for configurations."""
    sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    yield name
    sagemaker.delete_model(ModelName=name)


def _refusal(ask: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as caught:
        ask()
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    return str(caught.value.response["Error"]["Message"])


# --- models --------------------------------------------------------------------------------------------------------


def test_a_model_is_shown_as_it_was_made(sagemaker: Any, name: str) -> None:
    containers = [
        {"Image": IMAGE, "ContainerHostname": "first", "Environment": {"A": "b"}},
        {"Image": IMAGE, "ContainerHostname": "second"},
    ]
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    made = {"ExecutionRoleArn": ROLE, "EnableNetworkIsolation": True, "VpcConfig": vpc, "InferenceExecutionConfig": {"Mode": "Direct"}}
    sagemaker.create_model(ModelName=name, Containers=containers, **made)
    shown = sagemaker.describe_model(ModelName=name)
    assert {key: shown[key] for key in made} == made
    assert [container["ContainerHostname"] for container in shown["Containers"]] == ["first", "second"]
    assert f'Cannot create already existing model "{ACCOUNT}:model/{name}"' in _refusal(
        lambda: sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    )
    sagemaker.delete_model(ModelName=name)
    assert _refusal(lambda: sagemaker.describe_model(ModelName=name)) == f'Could not find model "{ACCOUNT}:model/{name}".'
    assert _refusal(lambda: sagemaker.delete_model(ModelName=name)) == f'Could not find model "{ACCOUNT}:model/{name}".'


# --- configurations ------------------------------------------------------------------------------------------------


def _weighted(variants: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With the weight that counts where none is given."""
    return [{"InitialVariantWeight": 1.0, **variant} for variant in variants]


@pytest.mark.parametrize(
    ("variants", "members"),
    [
        ([{**VARIANT, "ModelName": "M"}, {**VARIANT, "ModelName": "M", "VariantName": "B", "InitialVariantWeight": 0.0}], {}),
        ([{**VARIANT, "ModelName": "M"}], {"AsyncInferenceConfig": ASYNC, "DataCaptureConfig": CAPTURE, "KmsKeyId": "key-1"}),
        ([{**VARIANT, "ModelName": "M"}], {"ExplainerConfig": EXPLAINER}),
        ([{**VARIANT, "ModelName": "M"}], {"ShadowProductionVariants": [{**VARIANT, "ModelName": "M", "VariantName": "S"}]}),
        ([{"VariantName": "A", "ModelName": "M", "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}], {}),
        ([{**VARIANT, "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 2},
           "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}}],
         {"ExecutionRoleArn": ROLE, "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["s-1"]}, "EnableNetworkIsolation": True}),
    ],
)  # fmt: skip
def test_a_configuration_is_shown_as_it_was_made(
    sagemaker: Any, model: str, variants: list[dict[str, Any]], members: dict[str, Any]
) -> None:
    def named(each: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**variant, **({"ModelName": model} if "ModelName" in variant else {})} for variant in each]

    asked = {**members, "ProductionVariants": named(variants)}
    if "ShadowProductionVariants" in asked:
        asked["ShadowProductionVariants"] = named(asked["ShadowProductionVariants"])
    sagemaker.create_endpoint_config(EndpointConfigName=model, **asked)
    shown = sagemaker.describe_endpoint_config(EndpointConfigName=model)
    for key, value in asked.items():
        assert (shown[key] == _weighted(value)) if key.endswith("ProductionVariants") else (shown[key] == value)
    sagemaker.delete_endpoint_config(EndpointConfigName=model)


@pytest.mark.parametrize(
    ("variants", "members", "words"),
    [
        ([{**VARIANT, "ModelName": "absent-model"}], {}, "Could not find model"),
        ([{**VARIANT, "ModelName": "M"}, {**VARIANT, "ModelName": "M"}], {}, "unique"),
        ([{**VARIANT, "ModelName": "M", "InitialVariantWeight": 0.0}], {}, "weight"),
        ([{**VARIANT, "ModelName": "M"}, {**VARIANT, "VariantName": "B"}], {"ExecutionRoleArn": ROLE}, "ModelName"),
        ([VARIANT], {}, "ExecutionRoleArn"),
        ([{"VariantName": "A", "ModelName": "M"}], {}, "InstanceType"),
        ([{**VARIANT, "ModelName": "M", "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}], {}, "ServerlessConfig"),
        ([{"VariantName": "A", "ModelName": "M", "ServerlessConfig": {"MemorySizeInMB": 1500, "MaxConcurrency": 5}}], {}, "1024"),
        ([{**VARIANT, "ModelName": "M"}],
         {"ShadowProductionVariants": [{**VARIANT, "ModelName": "M", "VariantName": name} for name in "ST"]}, "one"),
        ([{**VARIANT, "ManagedInstanceScaling": {"MinInstanceCount": 3, "MaxInstanceCount": 2}}],
         {"ExecutionRoleArn": ROLE}, "MinInstanceCount"),
    ],
)  # fmt: skip
def test_a_configuration_that_contradicts_itself_is_refused(
    sagemaker: Any, model: str, variants: list[dict[str, Any]], members: dict[str, Any], words: str
) -> None:
    def named(each: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**variant, **({"ModelName": model} if variant.get("ModelName") == "M" else {})} for variant in each]

    asked = {**members, "ProductionVariants": named(variants)}
    if "ShadowProductionVariants" in asked:
        asked["ShadowProductionVariants"] = named(asked["ShadowProductionVariants"])
    assert words in _refusal(lambda: sagemaker.create_endpoint_config(EndpointConfigName=model, **asked))
    assert "Could not find" in _refusal(lambda: sagemaker.describe_endpoint_config(EndpointConfigName=model))


# --- endpoints -----------------------------------------------------------------------------------------------------


def test_an_endpoint_shows_what_it_runs(stage: Stage, local_aws: Any, wait_until: Wait) -> None:
    sagemaker, name = stage.sagemaker, stage.name
    sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": stage.image}, ExecutionRoleArn=ROLE)
    variants = [
        {**VARIANT, "ModelName": name, "InitialVariantWeight": 3.0, "RoutingConfig": {"RoutingStrategy": "RANDOM"}},
        {**VARIANT, "ModelName": name, "VariantName": "B", "InitialInstanceCount": 2},
    ]
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, DataCaptureConfig=CAPTURE)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert wait_until(stage.endpoint_status, "InService", "Failed") == "InService"
    shown = sagemaker.describe_endpoint(EndpointName=name)
    assert shown["LastModifiedTime"] > shown["CreationTime"], "it was being created in between"
    first, second = shown["ProductionVariants"]
    assert (first["CurrentWeight"], first["DesiredWeight"], first["CurrentInstanceCount"]) == (3.0, 3.0, 1)
    assert (second["CurrentWeight"], second["DesiredInstanceCount"]) == (1.0, 2)
    assert first["RoutingConfig"] == {"RoutingStrategy": "RANDOM"}
    repository, _, tag = stage.image.rpartition("/")[2].partition(":")
    (found,) = local_aws.client("ecr").describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    (image,) = first["DeployedImages"]
    assert image["SpecifiedImage"] == stage.image
    assert image["ResolvedImage"] == f"{stage.image.rpartition(':')[0]}@{found['imageDigest']}"
    assert image["ResolutionTime"] >= shown["CreationTime"]
    assert shown["DataCaptureConfig"]["CaptureStatus"] == "Started"
    sagemaker.delete_endpoint_config(EndpointConfigName=name)  # the endpoint is what it was made as
    again = sagemaker.describe_endpoint(EndpointName=name)
    assert (again["EndpointStatus"], again["DataCaptureConfig"]) == ("InService", shown["DataCaptureConfig"])


def test_an_endpoint_that_is_asynchronous_stays_so_without_its_configuration(stage: Stage, wait_until: Wait) -> None:
    sagemaker, name = stage.sagemaker, stage.name
    sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": stage.image}, ExecutionRoleArn=ROLE)
    variants = [{**VARIANT, "ModelName": name}]
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, AsyncInferenceConfig=ASYNC)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert wait_until(stage.endpoint_status, "InService", "Failed") == "InService"
    sagemaker.delete_endpoint_config(EndpointConfigName=name)
    assert sagemaker.describe_endpoint(EndpointName=name)["AsyncInferenceConfig"] == ASYNC
    with pytest.raises(ClientError, match="InvokeEndpointAsync"):
        stage.ask()


def test_endpoints_are_listed_by_name_time_and_status_in_pages(sagemaker: Any, name: str) -> None:
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[VARIANT], ExecutionRoleArn=ROLE)
    names = [f"{name}-{letter}" for letter in "bac"]
    for each in names:
        sagemaker.create_endpoint(EndpointName=each, EndpointConfigName=name)

    def listed(**asked: Any) -> list[str]:
        return [each["EndpointName"] for each in sagemaker.list_endpoints(NameContains=name, **asked)["Endpoints"]]

    try:
        assert listed() == names[::-1]
        assert listed(SortBy="Name", SortOrder="Ascending") == sorted(names)
        assert listed(StatusEquals="InService", SortOrder="Ascending") == names
        assert listed(StatusEquals="Failed") == []
        made = sagemaker.describe_endpoint(EndpointName=names[1])["CreationTime"]
        assert names[0] not in listed(CreationTimeAfter=made)
        pages = sagemaker.get_paginator("list_endpoints").paginate(NameContains=name, SortBy="Name", PaginationConfig={"PageSize": 2})
        assert [[each["EndpointName"] for each in page["Endpoints"]] for page in pages] == [sorted(names)[:0:-1], sorted(names)[:1]]
        assert "pagination token" in _refusal(lambda: sagemaker.list_endpoints(NextToken="bm8="))
    finally:
        for each in names:
            sagemaker.delete_endpoint(EndpointName=each)


def test_an_endpoint_without_models_is_there_at_once_and_gone_at_once(sagemaker: Any, name: str) -> None:
    """Nothing is waited for that a laptop has no reason to wait for."""
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[VARIANT], ExecutionRoleArn=ROLE)
    for _ in range(3):
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        assert sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService"
        sagemaker.delete_endpoint(EndpointName=name)
        assert "Could not find endpoint" in _refusal(lambda: sagemaker.describe_endpoint(EndpointName=name))
    arn = f"{ACCOUNT}:endpoint/{name}"
    assert _refusal(lambda: sagemaker.delete_endpoint(EndpointName=name)) == f'Could not find endpoint "{arn}".'
