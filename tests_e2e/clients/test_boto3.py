"""boto3 as it comes: its waiters, its paginators over every list, its parsers. A team's own scripts are built of these."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, WaiterError

CLIENT = "boto3"
QUICK = {"Delay": 0.1, "MaxAttempts": 600}  # as a user may; the stock delays are up to two minutes


@pytest.fixture
def sagemaker() -> Any:
    return boto3.client("sagemaker")


@pytest.fixture
def endpoint(sagemaker: Any, account: Any, name: str) -> Iterator[str]:
    """An endpoint with a model, in service."""
    sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": account.image}, ExecutionRoleArn=account.role)
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=[{"Key": "suite", "Value": CLIENT}])
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=QUICK)
    yield name
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=QUICK)
    sagemaker.delete_endpoint_config(EndpointConfigName=name)
    sagemaker.delete_model(ModelName=name)


def training(account: Any, name: str, **parameters: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": account.put(f"{name}/train/rows.txt", "one\ntwo\n")}
    return {
        "TrainingJobName": name, "RoleArn": account.role, "HyperParameters": parameters,
        "AlgorithmSpecification": {
            "TrainingImage": account.image, "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*?);"}],
        },
        "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": f"s3://{account.bucket}/{name}/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }  # fmt: skip


def test_an_endpoint_is_waited_for_invoked_streamed_and_gone(sagemaker: Any, endpoint: str) -> None:
    runtime = boto3.client("sagemaker-runtime")
    answer = runtime.invoke_endpoint(EndpointName=endpoint, Body=b"hello", ContentType="text/plain", CustomAttributes="a=b")
    assert (answer["Body"].read(), answer["ContentType"], answer["CustomAttributes"]) == (b"HELLO", "text/plain", "a=b")
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    events = runtime.invoke_endpoint_with_response_stream(EndpointName=endpoint, Body=b"stream")["Body"]
    assert b"".join(event["PayloadPart"]["Bytes"] for event in events) == b"STREAM"
    with pytest.raises(runtime.exceptions.ModelError) as failed:
        runtime.invoke_endpoint(EndpointName=endpoint, Body=b"fail")
    assert failed.value.response["OriginalStatusCode"] == 500
    assert failed.value.response["OriginalMessage"] == "as asked"
    with pytest.raises(ClientError, match="Could not find endpoint"):
        sagemaker.describe_endpoint(EndpointName=f"{endpoint}-other")


def test_an_update_of_an_endpoint_is_waited_for(sagemaker: Any, account: Any, endpoint: str) -> None:
    second = f"{endpoint}-2"
    variant = {"VariantName": "AllTraffic", "ModelName": endpoint, "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=second, ProductionVariants=[variant])
    sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=second)
    assert sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] in ("Updating", "InService")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=endpoint, WaiterConfig=QUICK)
    assert sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"] == second
    weights = [{"VariantName": "AllTraffic", "DesiredWeight": 0.5, "DesiredInstanceCount": 1}]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName=endpoint, DesiredWeightsAndCapacities=weights)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=endpoint, WaiterConfig=QUICK)
    assert sagemaker.describe_endpoint(EndpointName=endpoint)["ProductionVariants"][0]["CurrentWeight"] == 0.5
    sagemaker.delete_endpoint_config(EndpointConfigName=second)


def test_an_endpoint_that_fails_ends_the_waiter(sagemaker: Any, account: Any, name: str) -> None:
    broken = {"Image": account.image, "ModelDataUrl": account.put(f"{name}/model.tar.gz", "no archive")}
    sagemaker.create_model(ModelName=name, PrimaryContainer=broken, ExecutionRoleArn=account.role)
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    with pytest.raises(WaiterError, match="terminal failure"):
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=QUICK)
    assert sagemaker.describe_endpoint(EndpointName=name)["FailureReason"]
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=QUICK)


def test_an_asynchronous_invocation_lands_in_s3(sagemaker: Any, account: Any, name: str) -> None:
    sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": account.image}, ExecutionRoleArn=account.role)
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    output = {"S3OutputPath": f"s3://{account.bucket}/{name}/out", "S3FailurePath": f"s3://{account.bucket}/{name}/failed"}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], AsyncInferenceConfig={"OutputConfig": output})
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=QUICK)
    runtime, s3 = boto3.client("sagemaker-runtime"), boto3.client("s3")
    good = runtime.invoke_endpoint_async(EndpointName=name, InputLocation=account.put(f"{name}/in", "later"), ContentType="text/plain")
    bad = runtime.invoke_endpoint_async(EndpointName=name, InputLocation=account.put(f"{name}/bad", "fail"), InferenceId="i-1")
    for uri, text in ((good["OutputLocation"], "LATER"), (bad["FailureLocation"], "as asked")):
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        s3.get_waiter("object_exists").wait(Bucket=bucket, Key=key, WaiterConfig=QUICK)
        assert text in account.text(uri)
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=QUICK)


def test_components_come_change_and_go(sagemaker: Any, account: Any, name: str) -> None:
    variant = {"VariantName": "AllTraffic", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], ExecutionRoleArn=account.role)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=QUICK)
    base = f"{name}-base"
    specification = {"Container": {"Image": account.image}, "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 512}}
    sagemaker.create_inference_component(
        InferenceComponentName=base, EndpointName=name, VariantName="AllTraffic", Specification=specification,
        RuntimeConfig={"CopyCount": 1},
    )  # fmt: skip
    _component(sagemaker, base, "InService")
    answer = boto3.client("sagemaker-runtime").invoke_endpoint(EndpointName=name, InferenceComponentName=base, Body=b"part")
    assert answer["Body"].read() == b"PART"
    with pytest.raises(ClientError, match=r"ValidationException|inference component"):
        sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.update_inference_component_runtime_config(InferenceComponentName=base, DesiredRuntimeConfig={"CopyCount": 0})
    _component(sagemaker, base, "InService")
    assert sagemaker.describe_inference_component(InferenceComponentName=base)["RuntimeConfig"]["CurrentCopyCount"] == 0
    sagemaker.update_inference_component(InferenceComponentName=base, RuntimeConfig={"CopyCount": 1})
    _component(sagemaker, base, "InService")
    sagemaker.delete_inference_component(InferenceComponentName=base)
    _component(sagemaker, base, "")
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=QUICK)


def _component(sagemaker: Any, name: str, wanted: str) -> None:
    """Wait for a component's status; botocore has no waiter for components."""
    deadline = time.monotonic() + 30
    while True:
        try:
            status = sagemaker.describe_inference_component(InferenceComponentName=name)["InferenceComponentStatus"]
        except ClientError as error:
            if "Could not find" not in str(error):
                raise
            status = ""
        if status == wanted:
            return
        assert time.monotonic() < deadline, f"{name} is {status}"
        assert status != "Failed"
        time.sleep(0.1)


def test_a_training_job_is_waited_for_to_its_end(sagemaker: Any, account: Any, name: str) -> None:
    sagemaker.create_training_job(**training(account, name))
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=QUICK)
    found = sagemaker.describe_training_job(TrainingJobName=name)
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    assert found["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{account.bucket}/{name}/out/{name}/output/model.tar.gz"
    assert [(one["MetricName"], round(one["Value"], 2)) for one in found["FinalMetricDataList"]] == [("loss", 0.5)]
    streams = boto3.client("logs").describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=name)
    assert streams["logStreams"]


def test_a_training_job_that_fails_ends_the_waiter_with_its_own_words(sagemaker: Any, account: Any, name: str) -> None:
    sagemaker.create_training_job(**training(account, name, fail="no such luck"))
    with pytest.raises(WaiterError, match="terminal failure"):
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=QUICK)
    assert "no such luck" in sagemaker.describe_training_job(TrainingJobName=name)["FailureReason"]


def test_a_training_job_is_stopped_and_waited_for(sagemaker: Any, account: Any, name: str) -> None:
    sagemaker.create_training_job(**training(account, name, seconds="50"))
    sagemaker.stop_training_job(TrainingJobName=name)
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=QUICK)
    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Stopped"


def processing(account: Any, name: str, seconds: int = 0) -> dict[str, Any]:
    source = account.put(f"{name}/in/a.txt", "text")
    return {
        "ProcessingJobName": name, "RoleArn": account.role, "Environment": {"SECONDS": str(seconds)},
        "AppSpecification": {"ImageUri": account.image, "ContainerArguments": ["process"]},
        "ProcessingResources": {"ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}},
        "ProcessingInputs": [{"InputName": "in", "S3Input": {
            "S3Uri": source, "LocalPath": "/opt/ml/processing/input", "S3DataType": "S3Prefix", "S3InputMode": "File"}}],
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "out", "S3Output": {
            "S3Uri": f"s3://{account.bucket}/{name}/out", "LocalPath": "/opt/ml/processing/output", "S3UploadMode": "EndOfJob"}}]},
    }  # fmt: skip


def test_a_processing_job_is_waited_for(sagemaker: Any, account: Any, name: str) -> None:
    sagemaker.create_processing_job(**processing(account, name))
    sagemaker.get_waiter("processing_job_completed_or_stopped").wait(ProcessingJobName=name, WaiterConfig=QUICK)
    assert sagemaker.describe_processing_job(ProcessingJobName=name)["ProcessingJobStatus"] == "Completed"
    assert account.text(f"s3://{account.bucket}/{name}/out/a.txt") == "TEXT"


def test_a_processing_job_is_stopped_and_waited_for(sagemaker: Any, account: Any, name: str) -> None:
    sagemaker.create_processing_job(**processing(account, name, seconds=50))
    sagemaker.stop_processing_job(ProcessingJobName=name)
    sagemaker.get_waiter("processing_job_completed_or_stopped").wait(ProcessingJobName=name, WaiterConfig=QUICK)
    assert sagemaker.describe_processing_job(ProcessingJobName=name)["ProcessingJobStatus"] == "Stopped"


def transform(account: Any, name: str, **data: Any) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": account.put(f"{name}/in/rows.csv", "a\nb\nc\n")}
    return {
        "TransformJobName": name, "ModelName": name, "BatchStrategy": "SingleRecord", **data,
        "TransformInput": {"DataSource": {"S3DataSource": source}, "ContentType": "text/csv", "SplitType": "Line"},
        "TransformOutput": {"S3OutputPath": f"s3://{account.bucket}/{name}/out", "AssembleWith": "Line"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }  # fmt: skip


def test_a_transform_job_is_waited_for(sagemaker: Any, account: Any, name: str) -> None:
    sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": account.image}, ExecutionRoleArn=account.role)
    sagemaker.create_transform_job(**transform(account, name))
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName=name, WaiterConfig=QUICK)
    found = sagemaker.describe_transform_job(TransformJobName=name)
    assert found["TransformJobStatus"] == "Completed", found.get("FailureReason")
    assert account.text(f"s3://{account.bucket}/{name}/out/rows.csv.out").split() == ["A", "B", "C"]
    with pytest.raises(ClientError):
        sagemaker.stop_transform_job(TransformJobName=name)
    sagemaker.delete_model(ModelName=name)


def test_an_operation_that_is_not_there_says_so_and_is_counted(sagemaker: Any, account: Any, name: str) -> None:
    from pytest_mlcc.localaws import launch

    with pytest.raises(ClientError) as refused:
        sagemaker.create_image(ImageName=name, RoleArn=account.role)
    assert refused.value.response["Error"]["Code"] == "UnknownOperationException"
    assert launch.unserved(account.project_dir)["sagemaker:CreateImage"] >= 1


# --- every list pages ------------------------------------------------------------------------------------------------


def _models(client: Any, account: Any, name: str) -> None:
    client.create_model(ModelName=name, PrimaryContainer={"Image": account.image}, ExecutionRoleArn=account.role)


def _configs(client: Any, account: Any, name: str) -> None:
    variant = {"VariantName": "AllTraffic", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], ExecutionRoleArn=account.role)


def _groups(client: Any, account: Any, name: str) -> None:
    client.create_model_package_group(ModelPackageGroupName=name)


LISTS: dict[str, tuple[str, str, Callable[..., None], str]] = {
    "list_models": ("Models", "ModelName", _models, "delete_model"),
    "list_endpoint_configs": ("EndpointConfigs", "EndpointConfigName", _configs, "delete_endpoint_config"),
    "list_model_package_groups": ("ModelPackageGroupSummaryList", "ModelPackageGroupName", _groups, "delete_model_package_group"),
}


@pytest.mark.parametrize("operation", LISTS)
def test_pages_hold_each_resource_once_in_order(sagemaker: Any, account: Any, name: str, operation: str) -> None:
    key, member, create, delete = LISTS[operation]
    names = [f"{name}-{number}" for number in range(5)]
    for one in names:
        create(sagemaker, account, one)
    pages = list(sagemaker.get_paginator(operation).paginate(
        NameContains=name, SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 2}
    ))  # fmt: skip
    assert [len(page[key]) for page in pages] == [2, 2, 1]
    assert [one[member] for page in pages for one in page[key]] == names
    newest = sagemaker.get_paginator(operation).paginate(NameContains=name, PaginationConfig={"PageSize": 3}).build_full_result()
    assert sorted(one[member] for one in newest[key]) == names
    for one in names:
        getattr(sagemaker, delete)(**{member: one})


PAGED = {
    "sagemaker": {
        "ListModelPackages": {}, "ListEndpoints": {}, "ListInferenceComponents": {}, "ListTrainingJobs": {}, "ListProcessingJobs": {},
        "ListTransformJobs": {}, "ListMlflowApps": {}, "ListMlflowTrackingServers": {}, "ListAIBenchmarkJobs": {},
        "ListAIRecommendationJobs": {}, "ListAIWorkloadConfigs": {},
    },
    "codebuild": {
        "ListBuilds": {}, "ListProjects": {}, "ListBuildBatches": {}, "ListReportGroups": {}, "ListReports": {}, "ListSharedProjects": {},
    },
    "ecr": {"DescribeRepositories": {}},
    "service-quotas": {
        "ListServices": {}, "ListServiceQuotas": {"ServiceCode": "sagemaker"}, "ListAWSDefaultServiceQuotas": {"ServiceCode": "sagemaker"},
        "ListRequestedServiceQuotaChangeHistory": {},
    },
}  # fmt: skip


@pytest.mark.parametrize(("service", "operation"), [(service, one) for service, found in PAGED.items() for one in found])
def test_a_list_ends(service: str, operation: str) -> None:
    client = boto3.client(service)
    method = next(name for name, wire in client.meta.method_to_api_mapping.items() if wire == operation)
    pages = client.get_paginator(method).paginate(**PAGED[service][operation])
    seen = [json.dumps(page, default=str, sort_keys=True) for page in pages]
    assert seen
    assert len(set(seen)) == len(seen)


def test_hub_contents_are_listed_and_described(sagemaker: Any) -> None:
    found = sagemaker.list_hub_contents(HubName="SageMakerPublicHub", HubContentType="Model", MaxResults=5)["HubContentSummaries"]
    named = {"HubName": "SageMakerPublicHub", "HubContentType": "Model", "HubContentName": found[0]["HubContentName"]}
    assert sagemaker.describe_hub_content(**named)["HubContentArn"] == found[0]["HubContentArn"]
    assert sagemaker.list_hub_content_versions(**named)["HubContentSummaries"][0]["HubContentName"] == named["HubContentName"]
    assert sagemaker.describe_hub(HubName="SageMakerPublicHub")["HubStatus"] == "InService"
    assert isinstance(sagemaker.list_hubs(MaxResults=50)["HubSummaries"], list)


def test_private_hubs_and_their_contents(sagemaker: Any, name: str) -> None:
    public = sagemaker.list_hub_contents(HubName="SageMakerPublicHub", HubContentType="Model", MaxResults=1)["HubContentSummaries"][0]
    reference = {"HubName": name, "HubContentType": "ModelReference", "HubContentName": "alias"}
    document = {"HubName": name, "HubContentType": "JsonDoc", "HubContentName": "document"}
    sagemaker.create_hub(HubName=name, HubDescription="ours", HubSearchKeywords=["a"], Tags=[{"Key": "suite", "Value": "boto3"}])
    sagemaker.update_hub(HubName=name, HubDisplayName="Ours")
    sagemaker.import_hub_content(**document, HubContentVersion="1.0.0", DocumentSchemaVersion="1.0.0", HubContentDocument="{}")
    sagemaker.update_hub_content(**document, HubContentVersion="1.0.0", HubContentDescription="changed")
    assert sagemaker.describe_hub_content(**document)["HubContentDescription"] == "changed"
    sagemaker.create_hub_content_reference(
        HubName=name, SageMakerPublicHubContentArn=public["HubContentArn"].rpartition("/")[0], HubContentName="alias"
    )
    sagemaker.update_hub_content_reference(**reference, MinVersion="1.0.0")
    assert sagemaker.describe_hub_content(**reference)["ReferenceMinVersion"] == "1.0.0"
    with pytest.raises(sagemaker.exceptions.ResourceInUse):
        sagemaker.delete_hub(HubName=name)
    sagemaker.delete_hub_content(**document, HubContentVersion="1.0.0")
    sagemaker.delete_hub_content_reference(**reference)
    sagemaker.delete_hub(HubName=name)
    with pytest.raises(sagemaker.exceptions.ResourceNotFound):
        sagemaker.describe_hub(HubName=name)


def test_tags_are_added_listed_and_deleted(sagemaker: Any, account: Any, name: str) -> None:
    sagemaker.create_model(
        ModelName=name, PrimaryContainer={"Image": account.image}, ExecutionRoleArn=account.role, Tags=[{"Key": "a", "Value": "1"}]
    )
    arn = sagemaker.describe_model(ModelName=name)["ModelArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a"])
    tags = sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn).build_full_result()["Tags"]
    assert tags == [{"Key": "b", "Value": "2"}]
    sagemaker.delete_model(ModelName=name)


def test_model_packages_have_versions_and_an_approval(sagemaker: Any, account: Any, name: str) -> None:
    sagemaker.create_model_package_group(ModelPackageGroupName=name, ModelPackageGroupDescription="of the suite")
    inference = {
        "Containers": [{"Image": account.image}],
        "SupportedContentTypes": ["text/plain"],
        "SupportedResponseMIMETypes": ["text/plain"],
    }
    arns = [
        sagemaker.create_model_package(
            ModelPackageGroupName=name, InferenceSpecification=inference, ModelApprovalStatus="PendingManualApproval"
        )["ModelPackageArn"]
        for _ in range(3)
    ]  # fmt: skip
    sagemaker.update_model_package(ModelPackageArn=arns[1], ModelApprovalStatus="Approved", ApprovalDescription="good")
    listed = sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=name, PaginationConfig={"PageSize": 2})
    found = listed.build_full_result()["ModelPackageSummaryList"]
    assert {one["ModelPackageVersion"]: one["ModelApprovalStatus"] for one in found} == {
        1: "PendingManualApproval", 2: "Approved", 3: "PendingManualApproval",
    }  # fmt: skip
    assert sagemaker.describe_model_package(ModelPackageName=arns[1])["ApprovalDescription"] == "good"
    batch = sagemaker.batch_describe_model_package(ModelPackageArnList=arns)["ModelPackageSummaries"]
    assert sorted(batch) == sorted(arns)
    for arn in arns:
        sagemaker.delete_model_package(ModelPackageName=arn)
    sagemaker.delete_model_package_group(ModelPackageGroupName=name)
