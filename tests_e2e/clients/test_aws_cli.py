"""The ``aws`` command as it comes: what a shell script or a person at a terminal does."""

from __future__ import annotations

import functools
import gzip
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CLIENT = "aws-cli"
AWS = Path(sys.executable).with_name("aws")

pytestmark = pytest.mark.skipif(not AWS.exists(), reason="the AWS CLI is not installed (pip install awscli)")

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def waiters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CLI's own waiters, asking every second instead of every 30 to 120; AWS_DATA_PATH is its way to be told so."""
    folder = tmp_path_factory.mktemp("data")
    (own,) = (Path(_awscli()) / "botocore" / "data" / "sagemaker").glob("*/waiters-2.json*")
    found = json.loads(gzip.decompress(own.read_bytes()) if own.suffix == ".gz" else own.read_bytes())
    for waiter in found["waiters"].values():
        waiter.update(delay=1, maxAttempts=120)
    path = folder / "sagemaker" / own.parent.name / "waiters-2.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(found))
    return folder


@functools.cache
def _awscli() -> str:
    """Where the CLI's package lies; it is asked in a process of its own, because it brings a botocore of its own."""
    code = "import awscli, os; print(os.path.dirname(awscli.__file__))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def aws(waiters: Path) -> Cli:
    """``aws(*words)`` runs the command; its JSON, or its text where it is none. ``code`` is the exit code that must come."""

    def run(*words: str, code: int = 0, stdin: str = "") -> Any:
        environment = {**os.environ, "AWS_DATA_PATH": str(waiters), "AWS_PAGER": ""}
        done = subprocess.run([AWS, *words], input=stdin, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, f"aws {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        text = done.stdout if code == 0 else done.stderr
        return json.loads(text) if text.startswith(("{", "[")) else text

    return run


def test_an_endpoint_from_create_to_delete(aws: Cli, account: Any, name: str, tmp_path: Path) -> None:
    aws("sagemaker", "create-model", "--model-name", name, "--primary-container", f"Image={account.image}",
        "--execution-role-arn", account.role)  # fmt: skip
    aws("sagemaker", "create-endpoint-config", "--endpoint-config-name", name, "--production-variants",
        f"VariantName=AllTraffic,ModelName={name},InstanceType=ml.m5.large,InitialInstanceCount=1")  # fmt: skip
    made = aws("sagemaker", "create-endpoint", "--endpoint-name", name, "--endpoint-config-name", name, "--tags", "Key=a,Value=b")
    assert made["EndpointArn"].endswith(f":endpoint/{name}")
    aws("sagemaker", "wait", "endpoint-in-service", "--endpoint-name", name)
    status = aws("sagemaker", "describe-endpoint", "--endpoint-name", name, "--query", "EndpointStatus", "--output", "text")
    assert status.strip() == "InService"
    answer = tmp_path / "answer"
    told = aws(
        "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", name, "--body", "shell", "--content-type", "text/plain", str(answer)
    )
    assert (answer.read_text(), told["ContentType"]) == ("SHELL", "text/plain")
    listed = aws("sagemaker", "list-endpoints", "--name-contains", name, "--max-items", "1")
    assert [one["EndpointName"] for one in listed["Endpoints"]] == [name]
    aws("sagemaker", "delete-endpoint", "--endpoint-name", name)
    aws("sagemaker", "wait", "endpoint-deleted", "--endpoint-name", name)
    aws("sagemaker", "delete-endpoint-config", "--endpoint-config-name", name)
    aws("sagemaker", "delete-model", "--model-name", name)
    refused = aws("sagemaker", "describe-endpoint", "--endpoint-name", name, code=255)
    assert "An error occurred (ValidationException) when calling the DescribeEndpoint operation: Could not find endpoint" in refused


def test_a_training_job_waited_for_and_its_log(aws: Cli, account: Any, name: str) -> None:
    channel = [{"ChannelName": "train", "DataSource": {"S3DataSource": {
        "S3DataType": "S3Prefix", "S3Uri": account.put(f"{name}/train/rows.txt", "1\n2\n3\n4\n")}}}]  # fmt: skip
    aws("sagemaker", "create-training-job", "--training-job-name", name, "--role-arn", account.role,
        "--algorithm-specification", f"TrainingImage={account.image},TrainingInputMode=File",
        "--input-data-config", json.dumps(channel), "--output-data-config", f"S3OutputPath=s3://{account.bucket}/{name}",
        "--resource-config", "InstanceType=ml.m5.large,InstanceCount=1,VolumeSizeInGB=1",
        "--stopping-condition", "MaxRuntimeInSeconds=60")  # fmt: skip
    aws("sagemaker", "wait", "training-job-completed-or-stopped", "--training-job-name", name)
    found = aws("sagemaker", "describe-training-job", "--training-job-name", name)
    assert found["TrainingJobStatus"] == "Completed"
    group = "/aws/sagemaker/TrainingJobs"
    stream = aws("logs", "describe-log-streams", "--log-group-name", group, "--log-stream-name-prefix", name)["logStreams"][0]
    log = aws("logs", "get-log-events", "--log-group-name", group, "--log-stream-name", stream["logStreamName"], "--start-from-head")
    assert any("rows=4; loss=0.25" in event["message"] for event in log["events"])
    filtered = aws("logs", "filter-log-events", "--log-group-name", group, "--log-stream-name-prefix", name, "--filter-pattern", "loss")
    # the prefix is one of the few parameters that the local CloudWatch Logs takes no notice of
    assert len([event for event in filtered["events"] if event["logStreamName"].startswith(name)]) == 1


def test_files_go_to_s3_and_back(aws: Cli, account: Any, name: str, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    (source / "deep").mkdir(parents=True)
    (source / "a.txt").write_text("a")
    (source / "deep" / "b.bin").write_bytes(os.urandom(9 << 20))  # more than one part
    place = f"s3://{account.bucket}/{name}"
    aws("s3", "sync", str(source), place, "--only-show-errors")
    assert "deep/b.bin" in aws("s3", "ls", f"{place}/", "--recursive")
    aws("s3", "sync", place, str(back), "--only-show-errors")
    assert (back / "deep" / "b.bin").read_bytes() == (source / "deep" / "b.bin").read_bytes()
    aws("s3", "cp", "-", f"{place}/piped", stdin="through a pipe")
    assert aws("s3", "cp", f"{place}/piped", "-") == "through a pipe"
    aws("s3", "rm", place, "--recursive", "--only-show-errors")
    assert aws("s3", "ls", f"{place}/", "--recursive", code=1) == ""


def test_a_build_is_started_followed_and_read(aws: Cli, account: Any, name: str) -> None:
    spec = 'version: 0.2\nphases:\n  build:\n    commands:\n      - echo "built by $WHO"\n'
    aws("codebuild", "create-project", "--name", name, "--source", json.dumps({"type": "NO_SOURCE", "buildspec": spec}),
        "--artifacts", "type=NO_ARTIFACTS", "--environment",
        "type=LINUX_CONTAINER,image=aws/codebuild/standard:7.0,computeType=BUILD_GENERAL1_SMALL",
        "--service-role", f"arn:aws:iam::{account.account}:role/mlcc-codebuild-role")  # fmt: skip
    build = aws("codebuild", "start-build", "--project-name", name, "--environment-variables-override", "name=WHO,value=the CLI")["build"]
    deadline = time.monotonic() + 30
    while not (build := aws("codebuild", "batch-get-builds", "--ids", build["id"])["builds"][0])["buildComplete"]:
        assert time.monotonic() < deadline
    assert build["buildStatus"] == "SUCCEEDED"
    logs = build["logs"]
    log = aws("logs", "get-log-events", "--log-group-name", logs["groupName"], "--log-stream-name", logs["streamName"])
    assert "built by the CLI" in "".join(event["message"] for event in log["events"])
    aws("codebuild", "delete-project", "--name", name)


def test_a_repository_and_its_password(aws: Cli, account: Any, name: str) -> None:
    made = aws("ecr", "create-repository", "--repository-name", name, "--image-scanning-configuration", "scanOnPush=true")["repository"]
    assert made["repositoryUri"] == f"{account.registry}/{name}"
    assert len(aws("ecr", "get-login-password").strip()) > 10
    policy = json.dumps({"rules": [{"rulePriority": 1, "selection": {
        "tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 3}, "action": {"type": "expire"}}]})  # fmt: skip
    aws("ecr", "put-lifecycle-policy", "--repository-name", name, "--lifecycle-policy-text", policy)
    images = aws("ecr", "describe-images", "--repository-name", account.image.split("/")[1].partition(":")[0])["imageDetails"]
    assert images[0]["imageTags"] == ["v1"]
    aws("ecr", "delete-repository", "--repository-name", name, "--force")


def test_a_quota_is_read_and_raised(aws: Cli) -> None:
    listed = aws("service-quotas", "list-service-quotas", "--service-code", "sagemaker", "--max-items", "200")["Quotas"]
    quota = next(
        one for one in listed if one["QuotaName"] == "ml.m5.large for transform job usage" or "for endpoint usage" in one["QuotaName"]
    )
    code = ("--service-code", "sagemaker", "--quota-code", quota["QuotaCode"])
    asked = aws("service-quotas", "request-service-quota-increase", *code, "--desired-value", str(quota["Value"] + 1))["RequestedQuota"]
    assert asked["DesiredValue"] == quota["Value"] + 1
    assert aws("service-quotas", "get-service-quota", *code)["Quota"]["QuotaName"] == quota["QuotaName"]
    history = aws("service-quotas", "list-requested-service-quota-change-history", "--service-code", "sagemaker")["RequestedQuotas"]
    assert asked["Id"] in [one["Id"] for one in history]


def test_what_the_cli_can_not_mean_is_told_before_and_after(aws: Cli) -> None:
    assert "the following arguments are required: --endpoint-name" in aws("sagemaker", "describe-endpoint", code=2)
    refused = aws("sagemaker", "create-model-package-group", "--model-package-group-name", f"no_{uuid.uuid4().hex[:4]}_", code=255)
    assert "(ValidationException)" in refused
    assert "failed to satisfy constraint: Member must satisfy regular expression pattern" in refused
