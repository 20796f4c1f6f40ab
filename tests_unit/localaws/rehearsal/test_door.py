"""What clients meet at the door while a plan is played: AWS's own codes, in each protocol's own form, seen with real clients."""

from __future__ import annotations

import asyncio
import errno
import http.client
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.front import front
from pytest_mlcc.localaws.observed import rules_played
from pytest_mlcc.localaws.rehearsal.door import Meddler
from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal
from pytest_mlcc.localaws.unserved import Unserved

Client = Callable[..., Any]
ITEM = {"TableName": "mlcc-ci-table", "Item": {"configId": {"S": "x"}}}

REFUSALS: list[tuple[str, str, dict[str, Any], str, int]] = [
    ("dynamodb", "delete_table", {"TableName": "mlcc-none"}, "LimitExceededException", 400),
    ("sagemaker", "create_endpoint", {"EndpointName": "e", "EndpointConfigName": "c"}, "ResourceLimitExceeded", 400),
    ("sagemaker", "describe_endpoint", {"EndpointName": "e"}, "AccessDeniedException", 400),
    ("sagemaker", "list_endpoints", {}, "ExpiredTokenException", 400),
    ("sagemaker-runtime", "invoke_endpoint", {"EndpointName": "slow-1", "Body": b"{}"}, "ThrottlingException", 400),
    ("s3", "put_object", {"Bucket": "mlcc-e2e-datasets", "Key": "struck/x", "Body": b"1" * 300_000}, "SlowDown", 503),
    ("s3", "head_object", {"Bucket": "mlcc-e2e-datasets", "Key": "x"}, "403", 403),
    ("s3", "list_buckets", {}, "ExpiredToken", 400),
    ("iam", "get_role", {"RoleName": "nobody-1"}, "AccessDenied", 403),
    ("iam", "list_roles", {}, "Throttling", 400),
    ("lambda", "list_functions", {}, "TooManyRequestsException", 429),
    ("lambda", "get_function", {"FunctionName": "f"}, "AccessDeniedException", 403),
    ("ec2", "describe_vpcs", {}, "RequestLimitExceeded", 503),
    ("codebuild", "start_build", {"projectName": "p"}, "AccountLimitExceededException", 400),
]


@pytest.mark.parametrize(("service", "operation", "arguments", "code", "status"), REFUSALS, ids=[f"{one[0]}-{one[3]}" for one in REFUSALS])
def test_a_refusal_has_the_code_and_status_of_the_service(
    client: Client, service: str, operation: str, arguments: dict[str, Any], code: str, status: int
) -> None:
    with pytest.raises(ClientError) as refused:
        getattr(client(service), operation)(**arguments)
    answer = refused.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
    assert answer["Error"]["Message"], "a person reads it"


def test_dynamodb_throttles_data_and_control_by_different_codes_and_the_sdk_gets_past_a_single_one(client: Client) -> None:
    with pytest.raises(ClientError, match="ThrottlingException"):
        client("dynamodb").create_table(
            TableName="t-x", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "a", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "a", "AttributeType": "S"}],
        )  # fmt: skip
    answer = client("dynamodb", attempts=3).put_item(**ITEM)
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1


def test_the_plans_own_words_are_used(client: Client) -> None:
    with pytest.raises(ClientError, match="long gone"):
        client("sagemaker").list_endpoints()


def test_what_no_rule_is_about_is_served_whole(client: Client) -> None:
    s3, body = client("s3"), bytes(range(256)) * 5_000
    s3.put_object(Bucket="mlcc-e2e-datasets", Key="free/x", Body=body)
    assert s3.get_object(Bucket="mlcc-e2e-datasets", Key="free/x")["Body"].read() == body
    assert client("iam").get_role(RoleName="mlcc-codebuild-role")["Role"]["RoleName"] == "mlcc-codebuild-role", "its body was read twice"


def test_a_reset_is_a_reset(client: Client, rehearsing: Path) -> None:
    with pytest.raises(ConnectionClosedError):
        client("ecr").describe_repositories()
    found = launch.status(rehearsing)
    assert found is not None
    raw = http.client.HTTPConnection(urlsplit(found.endpoint_url).netloc, timeout=10)
    signature = "AWS4-HMAC-SHA256 Credential=1/20260101/us-west-2/ecr/aws4_request"
    target = "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories"

    def ask() -> None:
        raw.request("POST", "/", body=b"{}", headers={"Authorization": signature, "X-Amz-Target": target})
        raw.getresponse()

    with pytest.raises(ConnectionResetError) as caught:
        ask()
    assert caught.value.errno == errno.ECONNRESET, "a closed connection is another thing"
    raw.close()


def test_a_reset_keeps_nothing_open(client: Client, rehearsing: Path) -> None:
    """A copy of a pipe that stays open keeps its reader waiting: the server would wait for its helpers for ever."""
    found = launch.status(rehearsing)
    assert found is not None
    for _ in range(3):
        with pytest.raises(ConnectionClosedError):
            client("ecr").describe_repositories()
    opened = [one.path for one in psutil.Process(found.pid).open_files()]
    log = str(launch.local_dir(rehearsing) / "server.log")
    assert opened.count(log) == 2, "the two streams that it writes to, and no copy of them"


def test_a_slow_answer_comes(client: Client) -> None:
    before = time.monotonic()
    client("codebuild").list_projects()
    assert time.monotonic() - before > 0.4


def test_a_retried_connection_is_usable_after_a_refusal(client: Client) -> None:
    iam = client("iam")
    for _ in range(3):
        with pytest.raises(ClientError, match="Throttling"):
            iam.list_roles()
        iam.get_role(RoleName="mlcc-codebuild-role")


def test_each_rule_tells_how_often_it_struck(client: Client, rehearsing: Path) -> None:
    client("iam").get_role(RoleName="mlcc-codebuild-role")
    told = rules_played(rehearsing)
    assert told.startswith("faults played: rule 1 (throttling) ")
    assert "rule 18 (slow-answer) " in told


def test_without_a_plan_nobody_looks_at_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of an InvokeEndpoint is as short as it was."""
    monkeypatch.setattr(Meddler, "meet", None)
    monkeypatch.setattr(Unserved, "watch", None)
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    door = front(app, admin={}, changed=lambda *_: None, rehearsal=Rehearsal(), unserved=Unserved(), account="1")
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/endpoints/e/invocations",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    receive, send = object(), object()
    asyncio.run(door(scope, receive, send))  # type: ignore[arg-type]
    assert seen == [(scope, receive, send)]
