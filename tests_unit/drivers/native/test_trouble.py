"""What AWS does to a run that a quiet local AWS does not: it throttles, refuses in odd words, and is short of what the SDK would make."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pytest_mlcc.aws.deletion import delete, state_of
from pytest_mlcc.aws.kind import GONE
from pytest_mlcc.aws.session import Aws
from pytest_mlcc.aws.tags import Tags
from pytest_mlcc.drivers.native import Native
from pytest_mlcc.drivers.native.build import ensure_bucket
from pytest_mlcc.drivers.native.deploy import component_environment
from pytest_mlcc.drivers.native.names import Names
from pytest_mlcc.drivers.native.push import push
from pytest_mlcc.drivers.native.work import Options, Work
from pytest_mlcc.errors import StageError
from pytest_mlcc.lifecycle.ports import Deadline

REGION = "us-west-2"
ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"
CREATING = {
    "EndpointName": "n", "EndpointArn": "arn:aws:sagemaker:us-west-2:123456789012:endpoint/n", "EndpointStatus": "Creating",
    "CreationTime": 0, "LastModifiedTime": 0,
}  # fmt: skip


def endpoint(aws: Aws, name: str) -> Any:
    variant = {"VariantName": "AllTraffic", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}
    sagemaker, tags = aws.client("sagemaker"), Tags(run="r", entry="e", owner="o", expires=0).pairs()
    sagemaker.create_endpoint_config(EndpointConfigName=name, ExecutionRoleArn=ROLE, ProductionVariants=[variant], Tags=tags)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=tags)
    return sagemaker


def gone(aws: Aws, kind: str, name: str, *, seconds: float = 30) -> bool:
    return delete(aws, kind, name, REGION, deadline=Deadline(seconds), log=lambda line: None)


def work_of(life: Any) -> Work:
    return Work(life.aws, life.context(), Options(), Names(life.entry.id, life.run.run_id, life.aws.account(), REGION))


@pytest.mark.parametrize("status", [("ThrottlingException", 400), ("InternalFailure", 500)])
@pytest.mark.parametrize("operation", ["DescribeEndpoint", "DeleteEndpoint"])
def test_an_endpoint_is_deleted_though_aws_throttles_longer_than_a_client_tries(
    lives: Any, instead: Any, operation: str, status: tuple[str, int]
) -> None:
    """Given up, it would cost money by the hour."""
    name = f"throttled-{operation}-{status[1]}"
    sagemaker = endpoint(lives.aws, name)
    answered = instead.of(sagemaker, operation, status[1], status[0], "Rate exceeded", times=4)  # a client tries three times
    assert gone(lives.aws, "endpoint", name)
    assert len(answered) == 4
    assert state_of(lives.aws, "endpoint", name, REGION) == GONE
    assert gone(lives.aws, "endpoint-config", name)


def test_what_is_being_created_is_deleted_later_whatever_words_aws_refuses_in(lives: Any, instead: Any) -> None:
    sagemaker = endpoint(lives.aws, "creating")
    instead.of(sagemaker, "DescribeEndpoint", 200, "", then=CREATING, times=2)
    refused = instead.of(sagemaker, "DeleteEndpoint", 400, "ValidationException", "Words that no document has.", times=2)
    assert gone(lives.aws, "endpoint", "creating")
    assert len(refused) == 2
    assert gone(lives.aws, "endpoint-config", "creating")


def test_what_may_not_be_deleted_is_said_at_once(lives: Any, instead: Any) -> None:
    """Missing permission does not pass: to try for an hour would only hide it."""
    sagemaker = endpoint(lives.aws, "forbidden")
    instead.of(sagemaker, "DeleteEndpoint", 400, "AccessDeniedException", "not authorized to perform: sagemaker:DeleteEndpoint")
    with pytest.raises(StageError, match="sagemaker:DeleteEndpoint"):
        gone(lives.aws, "endpoint", "forbidden")
    assert gone(lives.aws, "endpoint", "forbidden")
    assert gone(lives.aws, "endpoint-config", "forbidden")


def test_a_prefix_goes_with_its_versions_and_its_unfinished_uploads(lives: Any) -> None:
    """Neither shows in a listing of objects, and both cost as objects do."""
    s3 = lives.aws.client("s3")
    s3.create_bucket(Bucket="versioned-bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket="versioned-bucket", VersioningConfiguration={"Status": "Enabled"})
    for prefix in ("run/entry/", "run/entry-2/"):
        s3.put_object(Bucket="versioned-bucket", Key=prefix + "a", Body=b"1")
        s3.put_object(Bucket="versioned-bucket", Key=prefix + "a", Body=b"2")
        s3.create_multipart_upload(Bucket="versioned-bucket", Key=prefix + "big")
    s3.delete_object(Bucket="versioned-bucket", Key="run/entry/a")
    assert state_of(lives.aws, "s3-prefix", "s3://versioned-bucket/run/entry/", REGION) == "holds objects"
    assert gone(lives.aws, "s3-prefix", "s3://versioned-bucket/run/entry/")
    kept = s3.list_object_versions(Bucket="versioned-bucket")
    assert [one["Key"] for one in kept["Versions"]] == ["run/entry-2/a"] * 2
    assert not kept.get("DeleteMarkers")
    assert [one["Key"] for one in s3.list_multipart_uploads(Bucket="versioned-bucket")["Uploads"]] == ["run/entry-2/big"]


def test_a_prefix_without_its_slash_is_refused(lives: Any) -> None:
    """``run/rt-qwen3-4b`` would take ``run/rt-qwen3-4b-gated/`` with it."""
    with pytest.raises(ValueError, match="does not end in a slash"):
        gone(lives.aws, "s3-prefix", "s3://some-bucket/run/rt-qwen3-4b")


def test_a_bucket_of_our_name_that_another_account_owns_gets_nothing(lives: Any, instead: Any) -> None:
    work = work_of(lives.begin())
    asked: list[Any] = []
    s3 = lives.aws.client("s3")
    s3.meta.events.register("provide-client-params.s3.HeadBucket", lambda params, **_: asked.append(params["ExpectedBucketOwner"]))
    instead.of(s3, "HeadBucket", 403, "403", "Forbidden")
    with pytest.raises(StageError, match="403"):
        ensure_bucket(work)
    assert asked == [lives.aws.account()]


def test_a_bucket_that_another_entry_is_just_creating_is_waited_for(lives: Any, instead: Any) -> None:
    """The first run in a fresh account, with two workers."""
    work, s3 = work_of(lives.begin()), lives.aws.client("s3")
    looked = instead.of(s3, "HeadBucket", 404, "404", "Not Found", times=3)
    instead.of(s3, "CreateBucket", 409, "OperationAborted", "A conflicting conditional operation is currently in progress")
    ensure_bucket(work)
    assert len(looked) == 3


def test_a_failure_is_told_though_its_log_may_not_be_read(lives: Any, instead: Any) -> None:
    life = lives.begin()
    instead.of(lives.aws.client("logs"), "DescribeLogStreams", 400, "AccessDeniedException", "not authorized: logs:DescribeLogStreams")
    assert work_of(life).log_tail("/aws/sagemaker/Endpoints/x") == ""
    assert "logs:DescribeLogStreams" in life.lines[-1]


def test_a_re_run_of_build_builds_again(lives: Any) -> None:
    """CodeBuild answers a request that it has seen in the last five minutes with the old, perhaps failed, build."""
    life = lives.begin()
    told: list[str] = []
    events = lives.aws.client("codebuild").meta.events
    events.register("provide-client-params.codebuild.StartBuild", lambda params, **_: told.append(params["idempotencyToken"]))
    life.go("generate", "build", "push")
    first = life.facts["build"]["build_id"]
    life.go("build")
    assert life.facts["build"]["build_id"] != first
    assert len(set(told)) == 2
    assert life.clean() == ()
    assert life.alive() == []


def test_push_twice_into_a_repository_of_immutable_tags(lives: Any, instead: Any) -> None:
    life = lives.begin()
    life.go("generate", "build", "push")
    instead.of(lives.aws.client("ecr"), "PutImage", 400, "ImageTagAlreadyExistsException", "immutable")
    assert push(work_of(life)) == life.facts["push"]
    assert life.clean() == ()


def test_only_the_image_that_the_build_reported_is_released(lives: Any, instead: Any) -> None:
    """Somebody pushed another one under the build's tag: what would be tested is not what was built."""
    life = lives.begin()
    life.go("generate", "build")
    built = life.facts["build"]["digest"]
    life.facts["build"]["digest"] = other = "sha256:" + "0" * 64
    with pytest.raises(StageError, match=f"under the build's tag, but the build pushed {other}"):
        life.go("push")
    assert not [one for one in life.alive() if one == Names(life.entry.id, life.run.run_id, "", REGION).release_tag]
    life.facts["build"]["digest"] = built
    details = {"imageDetails": [{"imageDigest": other, "imageSizeInBytes": 1}]}
    instead.of(lives.aws.client("ecr"), "DescribeImages", 200, "", then=details)
    with pytest.raises(StageError, match=f"is {other} in ECR, but the build pushed {built}"):
        life.go("push")
    assert life.clean() == ()
    assert life.alive() == []


def test_the_token_of_gated_models_reaches_the_container_and_nothing_else(lives: Any) -> None:
    """Not the image, which others may pull; not a fact, a log line, an error or the ledger, which others read."""
    token = "hf_" + "secret" * 5
    life = lives.begin()
    work = replace(work_of(life), options=Options(hf_token=token))
    driver = Native(lives.aws, accept_eula=lambda entry: False, options=Options(hf_token=token))
    life.facts["generate"] = driver.run("generate", life.context())
    assert component_environment(work)["HF_TOKEN"] == token
    written = [path.read_text() for path in life.folder.rglob("*") if path.is_file()]
    life.facts["push"] = {"image": "not an image of ECR " + "x" * 300}  # refused by the client, which quotes what it refuses
    with pytest.raises(StageError) as refused:
        driver.run("deploy", life.context())
    assert token not in "\n".join([*written, *life.lines, json.dumps(life.facts), repr(driver), repr(work), str(refused.value)])
    assert token not in life.ledger.path.read_text()
    assert life.clean() == ()


def test_the_sdk_makes_no_mlflow_app_that_no_ledger_names(lives: Any, instead: Any) -> None:
    """Against an AWS that lets it, it would make one in each run that finds none, and a bucket for it."""
    life, aws = lives.begin(), Aws("aws", REGION)  # this process is pinned: it is the local AWS all the same
    instead.of(aws.client("sagemaker"), "ListMlflowApps", 200, "", then={"Summaries": []})
    driver = Native(aws, accept_eula=lambda entry: False)
    with pytest.raises(StageError, match=r"account 123456789012 has none in us-west-2 .*--mlcc-mlflow-arn"):
        driver.run("tune-sft", life.context())
    assert [one.kind for one in life.ledger.open()] == ["model-package-group", "s3-prefix"]
    assert "sagemaker-us-west-2-123456789012" not in [one["Name"] for one in lives.aws.client("s3").list_buckets()["Buckets"]]
    assert life.clean() == ()
