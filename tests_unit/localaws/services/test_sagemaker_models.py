"""Models and endpoint configurations: what AWS takes and refuses, and what an endpoint that is made of them shows."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"
ECR = "123456789012.dkr.ecr.us-west-2.amazonaws.com"
#: One of AWS's own: none that the account could be asked for.
IMAGE = "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-inference:2.6.0-cpu-py312-ubuntu22.04-sagemaker"
OCI = "application/vnd.oci.image.manifest.v1+json"
VARIANT = {"VariantName": "A", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}

#: The ``Stage`` of conftest.py; test modules can't import it.
Stage = Any


@pytest.fixture(scope="module")
def sagemaker(local_aws: Any) -> Any:
    return local_aws.client("sagemaker")


@pytest.fixture
def name() -> str:
    return f"m-{uuid.uuid4().hex[:8]}"


def _package(sagemaker: Any, name: str, image: str, **more: Any) -> str:
    specification = {
        "Containers": [{"Image": image, "Environment": {"GREETING": "of the package", "KEPT": "1"}}],
        "SupportedContentTypes": ["application/json"], "SupportedResponseMIMETypes": ["application/json"],
    }  # fmt: skip
    sagemaker.create_model_package_group(ModelPackageGroupName=name)
    arn: str = sagemaker.create_model_package(ModelPackageGroupName=name, InferenceSpecification=specification, **more)["ModelPackageArn"]
    return arn


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "One of .PrimaryContainer, Containers. must be provided"),
        ({"PrimaryContainer": {"Image": IMAGE}, "Containers": [{"Image": IMAGE}]}, "Only one of"),
        ({"PrimaryContainer": {"Environment": {}}}, "Either Image or ModelPackageName"),
        ({"PrimaryContainer": {"ModelPackageName": "absent"}}, "ModelPackage .*absent does not exist"),
        ({"Containers": [{"Image": IMAGE, "ContainerHostname": "one"}] * 2}, "ContainerHostname must be unique"),
        ({"PrimaryContainer": {"Image": IMAGE}, "ExecutionRoleArn": None}, "ExecutionRoleArn"),
        ({"PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "s3://absent/m.tar.gz"}}, r"Could not find model data at s3://absent/m\.tar\.gz\."),
        (
            {"PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "s3://b/k.tar.gz", "ModelDataSource": {"S3DataSource": {
                "S3Uri": "s3://b/k/", "S3DataType": "S3Prefix", "CompressionType": "None"}}}},
            "Only one of ModelDataUrl and ModelDataSource",
        ),
    ],
)  # fmt: skip
def test_a_model_that_says_not_what_to_run_is_refused(sagemaker: Any, name: str, members: dict[str, Any], words: str) -> None:
    given = {"ModelName": name, "ExecutionRoleArn": ROLE, **members}
    with pytest.raises(ClientError, match=words) as caught:
        sagemaker.create_model(**{key: value for key, value in given.items() if value is not None})
    assert caught.value.response["Error"]["Code"] == "ValidationException"


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"Image": f"{ECR}/absent:v1"}, f"Requested image {ECR}/absent:v1 not found."),
        ({"Image": "vllm/vllm-openai:v0.25.1"},
         'Using non-ECR image "vllm/vllm-openai:v0.25.1" without Vpc repository access mode is not supported.'),
        ({"Image": "public.ecr.aws/docker/library/python:3.12"}, "Using non-ECR image"),
        ({"Image": "111122223333.dkr.ecr.us-west-2.amazonaws.com/app:v1"}, f"Role {ROLE} cannot pull 111122223333.dkr.ecr.us-west-2"),
        ({"Image": IMAGE, "ModelPackageName": "one"}, "Specify one of either Image and Model Data URL or ModelPackageName"),
    ],
)  # fmt: skip
def test_an_image_that_aws_does_not_take_makes_no_model(sagemaker: Any, name: str, container: dict[str, str], words: str) -> None:
    """Not minutes later, by an endpoint that failed."""
    with pytest.raises(ClientError) as caught:
        sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert words in caught.value.response["Error"]["Message"]


def test_only_a_docker_manifest_makes_a_model(local_aws: Any, sagemaker: Any, image: str, name: str) -> None:
    """BuildKit pushes OCI's, and an index where it attests: jobs run those, models can't be made of them."""
    ecr = local_aws.client("ecr")
    repository, _, tag = image.rpartition("/")[2].partition(":")
    (plain,) = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": tag}])["images"]
    manifest = {**json.loads(plain["imageManifest"]), "mediaType": OCI}
    ecr.put_image(repositoryName=repository, imageTag="oci", imageManifest=json.dumps(manifest), imageManifestMediaType=OCI)
    with pytest.raises(ClientError, match=re.escape(f"Unsupported manifest media type {OCI} for image {image.rpartition(':')[0]}@sha256:")):
        sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": image.replace(tag, "oci")}, ExecutionRoleArn=ROLE)
    sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": image}, ExecutionRoleArn=ROLE)
    sagemaker.delete_model(ModelName=name)


def test_a_pipeline_is_described_as_it_was_made_and_never_served_by_half(sagemaker: Any, name: str) -> None:
    """An answer of its first container alone would pass for one of the pipeline."""
    containers = [{"Image": IMAGE, "ContainerHostname": host} for host in ("first", "second")]
    sagemaker.create_model(ModelName=name, Containers=containers, ExecutionRoleArn=ROLE, EnableNetworkIsolation=True)
    found = sagemaker.describe_model(ModelName=name)
    assert [one["ContainerHostname"] for one in found["Containers"]] == ["first", "second"]
    assert (found["InferenceExecutionConfig"], found["EnableNetworkIsolation"]) == ({"Mode": "Serial"}, True)
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[{**VARIANT, "ModelName": name}])
    with pytest.raises(ClientError, match="pipeline of 2 containers"):
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)


def test_a_model_of_a_package_runs_the_packages_container(stage: Stage, wait_until: Callable[..., str]) -> None:
    """A registered model is deployed by its package's ARN alone."""
    arn = _package(stage.sagemaker, stage.name, stage.image)
    container = {"ModelPackageName": arn, "Environment": {"GREETING": "of the model"}}
    stage.sagemaker.create_model(ModelName=stage.name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    stage.endpoint(ModelName=stage.name)
    assert wait_until(stage.endpoint_status, "InService", "Failed") == "InService"
    assert stage.ask()["env"] == "of the model"


def test_an_endpoint_shows_the_digest_that_its_tag_stood_for(stage: Stage, local_aws: Any, wait_until: Callable[..., str]) -> None:
    """What was deployed is told by the digest: a tag moves."""
    stage.sagemaker.create_model(ModelName=stage.name, PrimaryContainer={"Image": stage.image}, ExecutionRoleArn=ROLE)
    stage.endpoint(ModelName=stage.name)
    wait_until(stage.endpoint_status, "InService")
    registry, _, rest = stage.image.partition("/")
    repository, _, tag = rest.partition(":")
    (pushed,) = local_aws.client("ecr").describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    local_aws.client("ecr").describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"][0]["imageDigest"]
    (variant,) = stage.sagemaker.describe_endpoint(EndpointName=stage.name)["ProductionVariants"]
    (image,) = variant["DeployedImages"]
    assert (image["SpecifiedImage"], image["ResolvedImage"]) == (stage.image, f"{registry}/{repository}@{pushed['imageDigest']}")
    assert (variant["CurrentWeight"], variant["DesiredInstanceCount"]) == (1.0, 1)


def test_an_endpoint_that_is_being_created_has_only_a_pending_deployment(stage: Stage, wait_until: Callable[..., str]) -> None:
    container = {"Image": stage.image, "Environment": {"DELAY": "0.4"}}
    stage.sagemaker.create_model(ModelName=stage.name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    stage.endpoint(ModelName=stage.name)
    found = stage.sagemaker.describe_endpoint(EndpointName=stage.name)
    assert (found["EndpointStatus"], "ProductionVariants" in found) == ("Creating", False)
    (variant,) = found["PendingDeploymentSummary"]["ProductionVariants"]
    assert (variant["InstanceType"], variant["VariantStatus"][0]["Status"]) == ("ml.g5.xlarge", "Creating")
    wait_until(stage.endpoint_status, "InService")
    assert "PendingDeploymentSummary" not in stage.sagemaker.describe_endpoint(EndpointName=stage.name)


def test_a_configuration_is_described_with_everything_it_was_given(sagemaker: Any, name: str) -> None:
    sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    capture = {
        "EnableCapture": True, "InitialSamplingPercentage": 20, "DestinationS3Uri": "s3://b/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }  # fmt: skip
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, KmsKeyId="alias/key", DataCaptureConfig=capture,
        ProductionVariants=[{**VARIANT, "ModelName": name, "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}}],
        ShadowProductionVariants=[{**VARIANT, "VariantName": "S", "ModelName": name}],
    )  # fmt: skip
    found = sagemaker.describe_endpoint_config(EndpointConfigName=name)
    assert (found["KmsKeyId"], found["DataCaptureConfig"]) == ("alias/key", capture)
    assert found["ProductionVariants"][0]["RoutingConfig"] == {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
    assert found["ShadowProductionVariants"][0]["VariantName"] == "S"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ProductionVariants": [{**VARIANT, "InitialVariantWeight": 0.0}]}, "weight"),
        ({"ProductionVariants": [{"VariantName": "A"}]}, "InstanceType"),
        ({"ProductionVariants": [{**VARIANT, "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1}}]}, "ServerlessConfig"),
        ({"ShadowProductionVariants": [{**VARIANT, "VariantName": "S"}]}, "ShadowProductionVariants"),
        ({"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://b/out"}}}, "AsyncInferenceConfig"),
        (
            {"ProductionVariants": [{**VARIANT, "ManagedInstanceScaling": {"MinInstanceCount": 3, "MaxInstanceCount": 2}}]},
            "MinInstanceCount must not be greater",
        ),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(sagemaker: Any, name: str, change: dict[str, Any], words: str) -> None:
    given = {"EndpointConfigName": name, "ProductionVariants": [VARIANT], "ExecutionRoleArn": ROLE, **change}
    with pytest.raises(ClientError, match=words) as caught:
        sagemaker.create_endpoint_config(**given)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_instances_are_scaled_by_aws_only_below_components(sagemaker: Any, name: str) -> None:
    sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    scaled = {**VARIANT, "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 2}}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[scaled], ExecutionRoleArn=ROLE)
    with pytest.raises(ClientError, match="ManagedInstanceScaling is only supported for inference component endpoints"):
        sagemaker.create_endpoint_config(EndpointConfigName=f"{name}-2", ProductionVariants=[{**scaled, "ModelName": name}])


def test_a_serverless_variant_is_served_by_a_container_all_the_same(stage: Stage, wait_until: Callable[..., str]) -> None:
    stage.sagemaker.create_model(ModelName=stage.name, PrimaryContainer={"Image": stage.image}, ExecutionRoleArn=ROLE)
    serverless = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    variant = {"VariantName": "AllTraffic", "ModelName": stage.name, "ServerlessConfig": serverless}
    stage.sagemaker.create_endpoint_config(EndpointConfigName=stage.name, ProductionVariants=[variant])
    stage.sagemaker.create_endpoint(EndpointName=stage.name, EndpointConfigName=stage.name)
    assert wait_until(stage.endpoint_status, "InService", "Failed") == "InService"
    assert stage.ask()["pid"]
    (shown,) = stage.sagemaker.describe_endpoint(EndpointName=stage.name)["ProductionVariants"]
    assert shown["CurrentServerlessConfig"] == serverless


def test_a_component_cannot_be_made_without_copies_and_says_so_when_it_has_none(stage: Stage, wait_until: Callable[..., str]) -> None:
    """AWS: a component is scaled to zero later. Its clients look for these words to wake it."""
    stage.endpoint()
    base = stage.component()
    with pytest.raises(ClientError, match="copy count"):
        stage.sagemaker.create_inference_component(
            InferenceComponentName=f"{stage.name}-cold", EndpointName=stage.name, VariantName="AllTraffic", RuntimeConfig={"CopyCount": 0},
            Specification={"Container": {"Image": stage.image}, "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 128}},
        )  # fmt: skip
    stage.sagemaker.update_inference_component_runtime_config(InferenceComponentName=base, DesiredRuntimeConfig={"CopyCount": 0})
    wait_until(lambda: stage.status(base), "InService")
    with pytest.raises(ClientError, match="Inference Component has no capacity to process this request") as caught:
        stage.ask(base)
    assert caught.value.response["Error"]["Code"] == "ValidationError"
