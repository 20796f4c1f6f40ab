"""Service Quotas: what the account may use, from a file, raised by request."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.services.service_quotas import catalog, project
from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas, Usage
from pytest_mlcc.localaws.wire import AwsError, service_model

REGION = "us-west-2"


@pytest.fixture
def make_quotas(tmp_path: Path) -> Callable[..., Quotas]:
    """``make_quotas(text)`` gives the quotas of a project whose file holds ``text``."""

    def make(text: str | None = None) -> Quotas:
        state_dir = tmp_path / ".mlcc" / "local"
        state_dir.mkdir(parents=True, exist_ok=True)
        if text is not None:
            (tmp_path / ".mlcc" / "quotas.yaml").write_text(text)
        context = ServerContext(
            state_dir=state_dir, endpoint_url="", account="123456789012", region=REGION, engine_socket=tmp_path, twins_dir=tmp_path,
            changed=lambda: None,
        )  # fmt: skip
        return Quotas(context)

    return make


def test_eleven_lifecycles_fit_side_by_side_where_the_project_says_nothing(make_quotas: Callable[..., Quotas]) -> None:
    """A first run on a laptop must not end at a quota; each endpoint may hold two fleets while it is updated."""
    quotas = make_quotas()
    for instance_type in service_model("sagemaker").shape_for("ProductionVariantInstanceType").enum:
        quotas.check(REGION, Usage.ENDPOINT, instance_type, 2, 20)
    for usage in Usage:
        quotas.check_total(REGION, usage, 2, 100)


def test_a_new_account_is_chosen_by_one_line_and_refuses_in_awss_words(make_quotas: Callable[..., Quotas]) -> None:
    quotas = make_quotas("account: new-account\n")
    quotas.check(REGION, Usage.ENDPOINT, "ml.g5.xlarge", 1, 1)
    with pytest.raises(AwsError) as caught:
        quotas.check(REGION, Usage.ENDPOINT, "ml.g5.xlarge", 1, 2)
    assert caught.value.code == "ResourceLimitExceeded"
    assert caught.value.message == (
        "The account-level service limit 'ml.g5.xlarge for endpoint usage' is 2 Instances, with current utilization of 2 Instances "
        "and a request delta of 1 Instances. Please use AWS Service Quotas to request an increase for this quota. If AWS Service "
        "Quotas is not available, contact AWS support to request an increase for this quota."
    )
    with pytest.raises(AwsError, match="'Number of instances across all training jobs' is 4 Instances"):
        quotas.check_total(REGION, Usage.TRAINING_JOB, 1, 4)
    quotas.check(REGION, Usage.TRAINING_JOB, "ml.p5.48xlarge", 0, 5)  # nothing more is wanted: nothing is refused


def test_a_projects_file_changes_single_quotas_by_name_or_pattern(make_quotas: Callable[..., Quotas]) -> None:
    quotas = make_quotas('quotas:\n  "ml.g5.* for endpoint usage": 3\n  ml.g5.2xlarge for endpoint usage: 0\n')
    assert quotas.value(REGION, "ml.g5.xlarge for endpoint usage") == 3
    assert quotas.value(REGION, "ml.g5.2xlarge for endpoint usage") == 0
    assert quotas.value(REGION, "ml.g6.xlarge for endpoint usage") > 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("quotas: {ml.g5.xlarge for endpoint use: 1}", ["there is no quota", "did you mean 'ml.g5.xlarge for endpoint usage'"]),
        ("quotas: {'ml.z9* for endpoint usage': 1}", ["no quota's name fits"]),
        ("quotas: {Build projects: many}", ["must be a number from 0 to", "'many'"]),
        ("quotas: {Build projects: -1}", ["must be a number from 0 to"]),
        ("quotas: {Build projects: true}", ["must be a number from 0 to"]),
        ("account: old\nquota: {}", ["unknown account 'old'; there are new-account, raised", "unknown key 'quota'"]),
        ("quotas: [1]", ["'quotas' must be a number by quota name"]),
        ("- 1", ["must hold 'account'"]),
        ("a: [", ["can't be read as YAML"]),
    ],
)
def test_a_wrong_file_is_told_in_one_message_with_every_mistake(make_quotas: Callable[..., Quotas], text: str, words: list[str]) -> None:
    with pytest.raises(LocalAwsError, match=r"quotas\.yaml") as caught:
        make_quotas(text)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_an_empty_file_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "quotas.yaml").write_text("# nothing yet\n")
    assert project.read(tmp_path / "quotas.yaml") == project.ProjectQuotas()


def test_every_quota_has_a_code_of_its_own_that_looks_like_awss() -> None:
    codes = [quota.code for quota in catalog.quotas().values()]
    assert len(set(codes)) == len(codes) > 500
    assert all(len(code) == 10 and code.startswith("L-") and set(code[2:]) <= set("0123456789ABCDEF") for code in codes)
    assert catalog.quotas()["ml.g5.xlarge for endpoint usage"].code == "L-1928E07B"


def test_the_packaged_numbers_name_only_quotas_that_exist() -> None:
    """A wrong pattern in a packaged file would silently leave a quota at 0."""
    for account in catalog.ACCOUNTS:
        lines = [text for lines in catalog._load(account).values() for text in lines]
        unused = [text for text in lines if not any(catalog._pattern(text).fullmatch(name) for name in catalog.quotas())]
        assert unused == []


@contextmanager
def _running(project_dir: Path) -> Iterator[Any]:
    started = launch.ensure(project_dir)
    try:
        yield started
    finally:
        launch.release(project_dir, os.getpid())


@pytest.fixture(scope="module")
def service_quotas(local_aws: Any) -> Any:
    return local_aws.client("service-quotas")


def test_a_client_finds_a_quota_by_name_and_reads_it(service_quotas: Any) -> None:
    services = service_quotas.list_services()["Services"]
    assert {"ServiceCode": "sagemaker", "ServiceName": "Amazon SageMaker"} in services
    listed = [
        quota for page in service_quotas.get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker") for quota in page["Quotas"]
    ]
    assert len(listed) == len({quota["QuotaCode"] for quota in listed}) > 500
    (found,) = [quota for quota in listed if quota["QuotaName"] == "ml.g6e.2xlarge for endpoint usage"]
    one = service_quotas.get_service_quota(ServiceCode="sagemaker", QuotaCode=found["QuotaCode"])["Quota"]
    assert one == found
    assert one["QuotaArn"] == f"arn:aws:servicequotas:us-west-2:123456789012:sagemaker/{found['QuotaCode']}"
    given = service_quotas.get_aws_default_service_quota(ServiceCode="sagemaker", QuotaCode=found["QuotaCode"])["Quota"]
    assert given["Value"] == 0 < one["Value"]
    defaults = service_quotas.list_aws_default_service_quotas(ServiceCode="codebuild", MaxResults=5)
    assert [quota["ServiceName"] for quota in defaults["Quotas"]] == ["AWS CodeBuild"] * 5
    assert defaults["NextToken"]


def test_what_is_not_there_is_told_by_awss_codes(service_quotas: Any) -> None:
    for call in (
        lambda: service_quotas.get_service_quota(ServiceCode="sagemaker", QuotaCode="L-00000000"),
        lambda: service_quotas.list_service_quotas(ServiceCode="absent"),
        lambda: service_quotas.get_requested_service_quota_change(RequestId="absent"),
    ):
        with pytest.raises(service_quotas.exceptions.NoSuchResourceException):
            call()
    with pytest.raises(service_quotas.exceptions.InvalidPaginationTokenException):
        service_quotas.list_services(NextToken="bm8=")


def test_a_quota_is_raised_by_request_and_the_request_can_be_followed(service_quotas: Any) -> None:
    quota = {"ServiceCode": "sagemaker", "QuotaCode": catalog.quotas()["ml.inf2.xlarge for endpoint usage"].code}
    before = service_quotas.get_service_quota(**quota)["Quota"]["Value"]
    opened = service_quotas.request_service_quota_increase(**quota, DesiredValue=before + 7)["RequestedQuota"]
    assert (opened["Status"], opened["DesiredValue"], opened["QuotaName"]) == ("PENDING", before + 7, "ml.inf2.xlarge for endpoint usage")
    followed = service_quotas.get_requested_service_quota_change(RequestId=opened["Id"])["RequestedQuota"]
    assert (followed["Status"], followed["CaseId"]) == ("APPROVED", opened["CaseId"])
    assert service_quotas.get_service_quota(**quota)["Quota"]["Value"] == before + 7
    by_quota = service_quotas.list_requested_service_quota_change_history_by_quota(**quota)["RequestedQuotas"]
    assert opened["Id"] in [each["Id"] for each in by_quota]
    everything = service_quotas.list_requested_service_quota_change_history(Status="APPROVED")["RequestedQuotas"]
    assert opened["Id"] in [each["Id"] for each in everything]
    with pytest.raises(ClientError, match="You must provide a quota value greater than the current quota value") as caught:
        service_quotas.request_service_quota_increase(**quota, DesiredValue=before + 7)
    assert caught.value.response["Error"]["Code"] == "IllegalArgumentException"


def test_a_raised_quota_outlives_the_server_and_belongs_to_its_region(tmp_path: Path) -> None:
    import boto3

    code = catalog.quotas()["Build projects"].code

    def client(started: Any, region: str) -> Any:
        return boto3.client(
            "service-quotas", endpoint_url=started.endpoint_url, region_name=region, aws_access_key_id=started.account,
            aws_secret_access_key="local",
        )  # fmt: skip

    wanted = 5000.0 + int(uuid.uuid4().hex[:4], 16) + 1
    with _running(tmp_path) as started:
        client(started, "us-west-2").request_service_quota_increase(ServiceCode="codebuild", QuotaCode=code, DesiredValue=wanted)
    with _running(tmp_path) as started:
        values = [
            client(started, region).get_service_quota(ServiceCode="codebuild", QuotaCode=code)["Quota"]["Value"]
            for region in ("us-west-2", "eu-west-1")
        ]
    assert values == [wanted, 5000.0]


def test_a_wrong_file_keeps_the_server_from_starting_and_says_why(tmp_path: Path) -> None:
    (tmp_path / ".mlcc").mkdir()
    (tmp_path / ".mlcc" / "quotas.yaml").write_text("quotas: {Build projectz: 3}\n")
    with pytest.raises(LocalAwsError, match="there is no quota 'Build projectz'; did you mean 'Build projects'"):
        launch.ensure(tmp_path)
