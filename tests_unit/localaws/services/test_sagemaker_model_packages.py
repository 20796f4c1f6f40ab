"""The registry of models: groups, versions, approval, life cycle, policies."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

IMAGE = "123456789012.dkr.ecr.us-west-2.amazonaws.com/absent:v1"
SPECIFICATION = {"Containers": [{"Image": IMAGE}], "SupportedContentTypes": ["application/json"]}


@pytest.fixture(scope="module")
def sagemaker(local_aws: Any) -> Any:
    return local_aws.client("sagemaker")


@pytest.fixture
def name() -> str:
    return f"r-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def group(sagemaker: Any, name: str) -> str:
    """The name of a new group."""
    sagemaker.create_model_package_group(ModelPackageGroupName=name)
    return name


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


def test_a_version_is_approved_described_and_moved_through_its_life_cycle(sagemaker: Any, group: str) -> None:
    arn = sagemaker.create_model_package(
        ModelPackageGroupName=group, InferenceSpecification=SPECIFICATION, CustomerMetadataProperties={"kept": "1", "gone": "1"},
        ModelPackageDescription="first",
    )["ModelPackageArn"]  # fmt: skip
    before = sagemaker.describe_model_package(ModelPackageName=arn)
    assert (before["ModelApprovalStatus"], before["ModelPackageGroupName"], before["ModelPackageVersion"]) == (
        "PendingManualApproval", group, 1,
    )  # fmt: skip
    assert "ModelPackageName" not in before, "a version has none on AWS; clients that get one ask for the group by it"
    cycle = {"Stage": "Production", "StageStatus": "Approved", "StageDescription": "runs"}
    answer = sagemaker.update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus="Approved", ApprovalDescription="looks good", ModelLifeCycle=cycle,
        CustomerMetadataProperties={"kept": "2", "new": "3"}, CustomerMetadataPropertiesToRemove=["gone", "never there"],
        AdditionalInferenceSpecificationsToAdd=[{"Name": "small", **SPECIFICATION}],
    )  # fmt: skip
    assert answer["ModelPackageArn"] == arn
    after = sagemaker.describe_model_package(ModelPackageName=arn)
    assert (after["ModelApprovalStatus"], after["ApprovalDescription"], after["ModelLifeCycle"]) == ("Approved", "looks good", cycle)
    assert after["CustomerMetadataProperties"] == {"kept": "2", "new": "3"}
    assert [each["Name"] for each in after["AdditionalInferenceSpecifications"]] == ["small"]
    assert (after["ModelPackageDescription"], after["InferenceSpecification"]) == ("first", SPECIFICATION)
    assert after["LastModifiedTime"] > before["LastModifiedTime"]
    (listed,) = sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
    assert (listed["ModelApprovalStatus"], listed["ModelLifeCycle"]) == ("Approved", cycle)


def test_updates_that_would_hold_too_much_change_nothing(sagemaker: Any, group: str) -> None:
    arn = sagemaker.create_model_package(ModelPackageGroupName=group)["ModelPackageArn"]
    many = [{"Name": f"n{number}", **SPECIFICATION} for number in range(15)]
    sagemaker.update_model_package(ModelPackageArn=arn, AdditionalInferenceSpecificationsToAdd=many)
    for change, words in (
        ({"AdditionalInferenceSpecificationsToAdd": [{"Name": "one-more", **SPECIFICATION}]}, "can not exceed 15"),
        ({"AdditionalInferenceSpecificationsToAdd": many[:1]}, "must be unique"),
        ({"ModelApprovalStatus": "Perhaps"}, "enum value set"),
    ):
        with pytest.raises(ClientError, match=words) as caught:
            sagemaker.update_model_package(ModelPackageArn=arn, ApprovalDescription="not kept", **change)
        assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert "ApprovalDescription" not in sagemaker.describe_model_package(ModelPackageName=arn)
    with pytest.raises(ClientError, match="does not exist"):
        sagemaker.update_model_package(ModelPackageArn=f"{arn}0", ModelApprovalStatus="Approved")


def test_a_package_without_versions_has_a_name_of_its_own_and_is_never_approved(sagemaker: Any, name: str) -> None:
    arn = sagemaker.create_model_package(ModelPackageName=name, ModelApprovalStatus="Approved")["ModelPackageArn"]
    described = sagemaker.describe_model_package(ModelPackageName=name)
    assert described["ModelPackageArn"] == arn
    assert described.keys().isdisjoint({"ModelApprovalStatus", "ModelPackageVersion", "ModelPackageGroupName"})
    with pytest.raises(ClientError, match="already exists"):
        sagemaker.create_model_package(ModelPackageName=name)
    with pytest.raises(ClientError, match="not versioned"):
        sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")


def test_a_package_is_named_by_its_group_or_by_itself_and_has_only_what_its_kind_has(sagemaker: Any, group: str) -> None:
    container = {"Image": "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-inference:2.6.0", "Environment": {"A": "1"}}
    specification = {**SPECIFICATION, "Containers": [container]}
    versioned, named = {"ModelPackageGroupName": group}, {"ModelPackageName": f"{group}-alone"}
    refused: list[tuple[dict[str, Any], str]] = [
        ({**named, **versioned}, "Both ModelPackageName and ModelPackageGroupName are provided"),
        ({}, r"Missing ARN\."),
        ({**versioned, "Tags": [{"Key": "team", "Value": "a"}]}, "Tags are not supported in Model Package versions"),
        ({**named, "InferenceSpecification": specification}, "Environment variable map cannot be specified"),
    ]
    for asked, words in refused:
        with pytest.raises(ClientError, match=words) as caught:
            sagemaker.create_model_package(**asked)
        assert caught.value.response["Error"]["Code"] == "ValidationException"
    sagemaker.create_model_package(**named, Tags=[{"Key": "team", "Value": "a"}])
    sagemaker.create_model_package(**versioned, InferenceSpecification=specification)


def test_a_repeated_request_makes_one_version(sagemaker: Any, group: str) -> None:
    """A client repeats a request whose answer got lost; the second must not count as a version."""
    token = uuid.uuid4().hex
    arns = {sagemaker.create_model_package(ModelPackageGroupName=group, ClientToken=token)["ModelPackageArn"] for _ in range(3)}
    assert len(arns) == 1
    assert len(sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]) == 1


def test_packages_are_listed_by_type_name_and_approval_page_by_page(sagemaker: Any, group: str) -> None:
    versions = [sagemaker.create_model_package(ModelPackageGroupName=group)["ModelPackageArn"] for _ in range(5)]
    sagemaker.create_model_package(ModelPackageName=f"{group}-alone")
    sagemaker.update_model_package(ModelPackageArn=versions[3], ModelApprovalStatus="Rejected")
    pages = list(
        sagemaker.get_paginator("list_model_packages").paginate(
            ModelPackageGroupName=group, SortBy="CreationTime", SortOrder="Descending", PaginationConfig={"PageSize": 2}
        )
    )
    assert [package["ModelPackageArn"] for page in pages for package in page["ModelPackageSummaryList"]] == versions[::-1]

    def listed(**asked: str) -> list[int | None]:
        found = sagemaker.list_model_packages(NameContains=group, **asked)["ModelPackageSummaryList"]
        return [package.get("ModelPackageVersion") for package in found]

    assert listed() == [None]
    assert listed(ModelPackageType="Versioned") == [1, 2, 3, 4, 5]
    assert listed(ModelPackageType="Both") == [1, 2, 3, 4, 5, None]
    assert listed(ModelPackageGroupName=group, ModelApprovalStatus="Rejected") == [4]
    with pytest.raises(ClientError, match="does not exist"):
        listed(ModelPackageGroupName="absent")


def test_many_packages_are_described_at_once_with_an_error_for_each_missing_one(sagemaker: Any, group: str) -> None:
    arn = sagemaker.create_model_package(ModelPackageGroupName=group, InferenceSpecification=SPECIFICATION)["ModelPackageArn"]
    answer = sagemaker.batch_describe_model_package(ModelPackageArnList=[arn, f"{arn}0"])
    assert list(answer["ModelPackageSummaries"]) == [arn]
    assert answer["ModelPackageSummaries"][arn]["InferenceSpecification"] == SPECIFICATION
    assert list(answer["BatchDescribeModelPackageErrorMap"]) == [f"{arn}0"]
    assert "does not exist" in answer["BatchDescribeModelPackageErrorMap"][f"{arn}0"]["ErrorResponse"]


def test_a_groups_policy_is_kept_until_it_is_deleted(sagemaker: Any, group: str) -> None:
    asked = {"ModelPackageGroupName": group}
    with pytest.raises(ClientError, match="Cannot find resource policy"):
        sagemaker.get_model_package_group_policy(**asked)
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]})
    assert sagemaker.put_model_package_group_policy(**asked, ResourcePolicy=policy)["ModelPackageGroupArn"].endswith(f"/{group}")
    assert sagemaker.get_model_package_group_policy(**asked)["ResourcePolicy"] == policy
    for wrong in ("no json", "[]", "{}"):
        with pytest.raises(ClientError, match="not valid"):
            sagemaker.put_model_package_group_policy(**asked, ResourcePolicy=wrong)
    sagemaker.delete_model_package_group_policy(**asked)
    with pytest.raises(ClientError, match="Cannot find resource policy"):
        sagemaker.delete_model_package_group_policy(**asked)
    with pytest.raises(ClientError, match="Cannot find Model Package Group"):
        sagemaker.get_model_package_group_policy(ModelPackageGroupName="absent")


def test_groups_of_other_accounts_are_none(sagemaker: Any, group: str) -> None:
    assert (
        sagemaker.list_model_package_groups(NameContains=group, CrossAccountFilterOption="CrossAccount")["ModelPackageGroupSummaryList"]
        == []
    )
    (own,) = sagemaker.list_model_package_groups(NameContains=group, CrossAccountFilterOption="SameAccount")["ModelPackageGroupSummaryList"]
    assert own["ModelPackageGroupName"] == group


def test_the_sdks_resources_read_groups_and_packages(sagemaker: Any, local_aws: Any, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """sagemaker.core builds typed objects from the answers; a missing or odd member breaks it.

    Its own ``ModelPackage.create`` reads a member that AWS does not answer, so the package is made by boto3.
    """
    import boto3
    from sagemaker.core.resources import ModelPackage, ModelPackageGroup

    monkeypatch.setenv("AWS_ENDPOINT_URL", local_aws.endpoint_url)
    session = boto3.Session(aws_access_key_id=local_aws.account, aws_secret_access_key="local", region_name=local_aws.region)
    arn = sagemaker.create_model_package(ModelPackageGroupName=group, InferenceSpecification=SPECIFICATION)["ModelPackageArn"]
    made = ModelPackage.get(arn, session=session, region=local_aws.region)
    made.update(model_approval_status="Approved", approval_description="by the SDK")
    found = ModelPackage.get(arn, session=session, region=local_aws.region)
    assert (found.model_approval_status, found.approval_description) == ("Approved", "by the SDK")
    described = ModelPackageGroup.get(group, session=session, region=local_aws.region)
    assert described.model_package_group_status == "Completed"
    versions = list(ModelPackage.get_all(model_package_group_name=group, session=session, region=local_aws.region))
    assert len(versions) == 1
