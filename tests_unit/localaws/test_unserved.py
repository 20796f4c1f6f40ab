"""A hole in the local AWS must be seen: which operations clients asked for in vain."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.observed import holes, holes_met


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "name"),
    [
        ("codecommit", "list_repositories", {}, "codecommit:ListRepositories"),
        ("sagemaker", "list_workteams", {}, "sagemaker:ListWorkteams"),
        ("iam", "list_ssh_public_keys", {}, "iam:ListSSHPublicKeys"),
        ("ec2", "describe_coip_pools", {}, "ec2:DescribeCoipPools"),
        ("cloudformation", "list_types", {}, "cloudformation:ListTypes"),
        ("polly", "list_lexicons", {}, "polly:ListLexicons"),
        ("ecr", "start_image_scan", {"repositoryName": "not/A/name!", "imageId": {}}, "ecr:StartImageScan"),  # a hole before a mistake
        ("logs", "list_anomalies", {}, "logs:ListAnomalies"),
        ("glue", "list_blueprints", {}, "glue:ListBlueprints"),
    ],
)
def test_an_operation_that_is_not_there_is_counted_by_name(
    local_aws: Any, service: str, operation: str, arguments: dict[str, Any], name: str
) -> None:
    before = launch.unserved(local_aws.project_dir).get(name, 0)
    with pytest.raises(ClientError):
        getattr(local_aws.client(service), operation)(**arguments)
    assert launch.unserved(local_aws.project_dir)[name] == before + 1


@pytest.mark.parametrize(
    ("service", "operation"), [("logs", "list_anomalies"), ("glue", "list_blueprints"), ("ecr", "list_image_referrers")]
)
def test_every_json_service_says_so_by_the_one_code_of_aws(local_aws: Any, service: str, operation: str) -> None:
    given = {"repositoryName": "x", "subjectId": {"imageDigest": "x"}} if service == "ecr" else {}
    with pytest.raises(ClientError) as refused:
        getattr(local_aws.client(service, parameter_validation=False), operation)(**given)
    answer = refused.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("UnknownOperationException", 400)


def test_an_error_of_an_operation_that_is_there_is_none(local_aws: Any) -> None:
    began = time.time()
    with pytest.raises(ClientError):
        local_aws.client("dynamodb").describe_table(TableName="UnknownOperation")
    with pytest.raises(ClientError):
        local_aws.client("s3").get_object(Bucket="mlcc-e2e-datasets", Key="InvalidAction")
    assert "dynamodb:DescribeTable" not in launch.unserved(local_aws.project_dir, since=began)
    assert "s3:GetObject" not in launch.unserved(local_aws.project_dir, since=began)


def test_a_run_is_told_only_of_what_was_asked_in_its_time(local_aws: Any) -> None:
    with pytest.raises(ClientError):
        local_aws.client("codecommit").list_repositories()
    assert "codecommit:ListRepositories" in holes_met(local_aws.project_dir, since=0)
    assert "codecommit" not in holes_met(local_aws.project_dir, since=time.time() + 1)


def test_the_line_names_the_most_wanted_first() -> None:
    assert holes({}) == ""
    line = holes({"a:One": 1, "b:Two": 5, "c:Three": 2})
    assert line.endswith(": b:Two (5 times), c:Three (twice), a:One (once)")
    assert holes({f"a:Op{number}": 1 for number in range(9)}).endswith("and 3 more")
