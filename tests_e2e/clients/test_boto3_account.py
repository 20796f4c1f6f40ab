"""boto3 again: builds, quotas, and the corners of SageMaker that an account without anything there answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

CLIENT = "boto3"

SPEC = "version: 0.2\nphases:\n  build:\n    commands:\n      - {command}\n"


@pytest.fixture
def builds(account: Any, name: str) -> Iterator[Any]:
    """A client of CodeBuild, and a project of the test's name."""
    client = boto3.client("codebuild")
    client.create_project(
        name=name, source={"type": "NO_SOURCE", "buildspec": SPEC.format(command="echo built")}, artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "BUILD_GENERAL1_SMALL"},
        serviceRole=f"arn:aws:iam::{account.account}:role/mlcc-codebuild-role", tags=[{"key": "a", "value": "b"}],
    )  # fmt: skip
    yield client
    client.delete_project(name=name)


def _ended(client: Any, build_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while not (build := client.batch_get_builds(ids=[build_id])["builds"][0])["buildComplete"]:
        assert time.monotonic() < deadline, build["currentPhase"]
        time.sleep(0.05)
    return dict(build)


def test_builds_end_as_their_commands_do(builds: Any, name: str) -> None:
    good = _ended(builds, builds.start_build(projectName=name)["build"]["id"])
    bad = _ended(builds, builds.start_build(projectName=name, buildspecOverride=SPEC.format(command="exit 3"))["build"]["id"])
    assert (good["buildStatus"], bad["buildStatus"]) == ("SUCCEEDED", "FAILED")
    failed = next(phase for phase in bad["phases"] if phase["phaseType"] == "BUILD")
    assert "exit status 3" in failed["contexts"][0]["message"]
    again = _ended(builds, builds.retry_build(id=good["id"])["build"]["id"])
    assert again["buildStatus"] == "SUCCEEDED"
    listed = builds.get_paginator("list_builds_for_project").paginate(projectName=name).build_full_result()["ids"]
    assert sorted(listed) == sorted([good["id"], bad["id"], again["id"]])
    gone = builds.batch_delete_builds(ids=listed)
    assert sorted(arn.partition(":build/")[2] for arn in gone["buildsDeleted"]) == sorted(listed)


def test_a_build_is_stopped(builds: Any, name: str) -> None:
    build = builds.start_build(projectName=name, buildspecOverride=SPEC.format(command="sleep 50"))["build"]["id"]
    builds.stop_build(id=build)
    assert _ended(builds, build)["buildStatus"] == "STOPPED"


def test_a_project_is_changed_and_described(builds: Any, name: str) -> None:
    builds.update_project(name=name, description="changed", timeoutInMinutes=7)
    found = builds.batch_get_projects(names=[name, f"{name}-none"])
    assert [(one["description"], one["timeoutInMinutes"]) for one in found["projects"]] == [("changed", 7)]
    assert found["projectsNotFound"] == [f"{name}-none"]
    builds.invalidate_project_cache(projectName=name)
    arn = found["projects"][0]["arn"]
    assert builds.update_project_visibility(projectArn=arn, projectVisibility="PRIVATE")["projectVisibility"] == "PRIVATE"


def test_an_account_without_reports_batches_and_credentials_says_so(account: Any) -> None:
    client = boto3.client("codebuild")
    assert client.list_source_credentials()["sourceCredentialsInfos"] == []
    arn = f"arn:aws:codebuild:{account.region}:{account.account}:report-group/none"
    assert client.batch_get_report_groups(reportGroupArns=[arn])["reportGroupsNotFound"] == [arn]
    report = f"arn:aws:codebuild:{account.region}:{account.account}:report/none:1"
    assert client.batch_get_reports(reportArns=[report])["reportsNotFound"] == [report]
    assert client.batch_get_build_batches(ids=["none:1"])["buildBatchesNotFound"] == ["none:1"]


def test_a_quota_its_default_and_the_requests_for_more() -> None:
    client = boto3.client("service-quotas")
    quota = client.list_service_quotas(ServiceCode="codebuild")["Quotas"][0]
    code = {"ServiceCode": "codebuild", "QuotaCode": quota["QuotaCode"]}
    default = client.get_aws_default_service_quota(**code)["Quota"]["Value"]
    asked = client.request_service_quota_increase(**code, DesiredValue=quota["Value"] + 1)["RequestedQuota"]
    assert client.get_requested_service_quota_change(RequestId=asked["Id"])["RequestedQuota"]["DesiredValue"] == quota["Value"] + 1
    history = client.list_requested_service_quota_change_history_by_quota(**code)["RequestedQuotas"]
    assert asked["Id"] in [one["Id"] for one in history]
    assert client.get_aws_default_service_quota(**code)["Quota"]["Value"] == default
    with pytest.raises(client.exceptions.NoSuchResourceException):
        client.get_service_quota(ServiceCode="codebuild", QuotaCode="L-00000000")


def test_a_group_of_model_packages_has_a_policy(account: Any, name: str) -> None:
    sagemaker = boto3.client("sagemaker")
    arn = sagemaker.create_model_package_group(ModelPackageGroupName=name)["ModelPackageGroupArn"]
    policy = (
        f'{{"Version": "2012-10-17", "Statement": [{{"Sid": "s", "Effect": "Allow", "Principal": {{"AWS": "{account.account}"}}, '
        f'"Action": "sagemaker:DescribeModelPackageGroup", "Resource": "{arn}"}}]}}'
    )
    sagemaker.put_model_package_group_policy(ModelPackageGroupName=name, ResourcePolicy=policy)
    assert "DescribeModelPackageGroup" in sagemaker.get_model_package_group_policy(ModelPackageGroupName=name)["ResourcePolicy"]
    sagemaker.delete_model_package_group_policy(ModelPackageGroupName=name)
    sagemaker.delete_model_package_group(ModelPackageGroupName=name)


NOWHERE = [
    ("describe_mlflow_app", {"Arn": "arn:aws:sagemaker:us-west-2:123456789012:mlflow-app/app-AAAAAAAAAAAA"}),
    ("update_mlflow_app", {"Arn": "arn:aws:sagemaker:us-west-2:123456789012:mlflow-app/app-AAAAAAAAAAAA"}),
    ("delete_mlflow_app", {"Arn": "arn:aws:sagemaker:us-west-2:123456789012:mlflow-app/app-AAAAAAAAAAAA"}),
    ("create_presigned_mlflow_app_url", {"Arn": "arn:aws:sagemaker:us-west-2:123456789012:mlflow-app/app-AAAAAAAAAAAA"}),
    ("create_mlflow_app", {"Name": "none", "ArtifactStoreUri": "s3://none", "RoleArn": "arn:aws:iam::123456789012:role/none"}),
    (
        "create_mlflow_tracking_server",
        {"TrackingServerName": "none", "ArtifactStoreUri": "s3://none", "RoleArn": "arn:aws:iam::123456789012:role/none"},
    ),
    ("update_training_job", {"TrainingJobName": "none", "ProfilerConfig": {"DisableProfiler": True}}),
    ("delete_processing_job", {"ProcessingJobName": "none"}),
    ("describe_mlflow_tracking_server", {"TrackingServerName": "none"}),
    ("delete_mlflow_tracking_server", {"TrackingServerName": "none"}),
    ("start_mlflow_tracking_server", {"TrackingServerName": "none"}),
    ("stop_mlflow_tracking_server", {"TrackingServerName": "none"}),
    ("update_mlflow_tracking_server", {"TrackingServerName": "none"}),
    ("create_presigned_mlflow_tracking_server_url", {"TrackingServerName": "none"}),
    ("describe_ai_benchmark_job", {"AIBenchmarkJobName": "none"}),
    ("describe_ai_recommendation_job", {"AIRecommendationJobName": "none"}),
    ("describe_ai_workload_config", {"AIWorkloadConfigName": "none"}),
    ("stop_ai_benchmark_job", {"AIBenchmarkJobName": "none"}),
    ("stop_ai_recommendation_job", {"AIRecommendationJobName": "none"}),
    ("delete_ai_benchmark_job", {"AIBenchmarkJobName": "none"}),
    ("delete_ai_recommendation_job", {"AIRecommendationJobName": "none"}),
    ("delete_ai_workload_config", {"AIWorkloadConfigName": "none"}),
]


@pytest.mark.parametrize(("operation", "parameters"), NOWHERE, ids=[one for one, _ in NOWHERE])
def test_what_an_account_does_not_have_is_refused_as_missing(operation: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as refused:
        getattr(boto3.client("sagemaker"), operation)(**parameters)
    assert refused.value.response["Error"]["Code"] in ("ResourceNotFound", "ValidationException", "ResourceLimitExceeded")
    assert refused.value.response["Error"]["Message"]
