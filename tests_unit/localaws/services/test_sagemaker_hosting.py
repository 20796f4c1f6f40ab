"""Endpoints, inference components and invocations, by real boto3 against a real server and real container processes."""

from __future__ import annotations

import io
import os
import signal
import tarfile
import time
import urllib.request
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError

from pytest_mlcc.localaws import launch

ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"

#: The ``Stage`` of conftest.py; test modules can't import it.
Stage = Any
Wait = Callable[..., str]


def _code(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, str]:
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


@pytest.fixture(scope="module")
def bucket(local_aws: Any) -> str:
    name = f"adapters-{uuid.uuid4().hex[:8]}"
    local_aws.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": local_aws.region})
    return name


def _tar(*names: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return packed.getvalue()


def test_a_component_serves_with_its_environment_and_leaves_no_process_behind(stage: Stage) -> None:
    stage.endpoint()
    stage.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=stage.name, WaiterConfig={"Delay": 1})
    base = stage.component(GREETING="hello")
    described = stage.sagemaker.describe_inference_component(InferenceComponentName=base)
    assert described["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}
    assert described["Specification"]["Container"]["DeployedImage"]["SpecifiedImage"] == stage.image
    answer = stage.ask(base, CustomAttributes="trace-1")
    assert (answer["env"], answer["adapter"], answer["attributes"]) == ("hello", None, "trace-1")
    assert psutil.pid_exists(answer["pid"])
    stage.remove(base)
    assert not psutil.pid_exists(answer["pid"])
    stage.sagemaker.delete_endpoint(EndpointName=stage.name)
    stage.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=stage.name, WaiterConfig={"Delay": 1})
    stage.sagemaker.delete_endpoint_config(EndpointConfigName=stage.name)


def test_what_is_made_is_last_modified_when_it_is_in_service(stage: Stage) -> None:
    """How long a deployment took is the one time less the other, for many a report."""
    stage.endpoint()
    base = stage.component(DELAY="0.7")
    shown = stage.sagemaker.describe_inference_component(InferenceComponentName=base)
    assert (shown["LastModifiedTime"] - shown["CreationTime"]).total_seconds() >= 0.7
    before = shown["LastModifiedTime"] - timedelta(seconds=60)
    listed = stage.sagemaker.list_inference_components(EndpointNameEquals=stage.name, LastModifiedTimeAfter=before)["InferenceComponents"]
    assert [one["LastModifiedTime"] for one in listed] == [shown["LastModifiedTime"]]
    assert stage.sagemaker.describe_inference_component(InferenceComponentName=base)["LastModifiedTime"] == shown["LastModifiedTime"]


def test_the_containers_environment_holds_nothing_of_the_server(stage: Stage, local_aws: Any) -> None:
    stage.endpoint()
    environment = psutil.Process(stage.ask(stage.component())["pid"]).environ()
    assert environment["AWS_ENDPOINT_URL"] == local_aws.endpoint_url
    assert environment["AWS_REGION"] == local_aws.region
    assert not {name for name in environment if name.startswith(("MINISTACK", "STATE_DIR", "COVERAGE", "PYTEST"))}


def test_an_adapter_is_loaded_from_s3_chosen_by_its_component_and_unloaded(stage: Stage, local_aws: Any, bucket: str) -> None:
    local_aws.client("s3").put_object(Bucket=bucket, Key="a/adapter.tar.gz", Body=_tar("adapter_config.json", "weights"))
    stage.endpoint()
    base = stage.component()
    adapter = stage.adapter(f"s3://{bucket}/a/adapter.tar.gz")
    answer = stage.ask(adapter)
    assert answer["adapter"] == adapter
    assert answer["adapters"] == {adapter: ["adapter_config.json", "weights"]}
    assert stage.ask(base)["adapter"] is None
    with pytest.raises(ClientError) as caught:
        stage.sagemaker.delete_inference_component(InferenceComponentName=base)
    assert "is a base inference component for one or more associated" in _code(caught)[1]
    stage.remove(adapter)
    assert stage.ask(base)["adapters"] == {}


def test_an_adapter_may_be_a_prefix_of_files(stage: Stage, local_aws: Any, bucket: str) -> None:
    """A tuning job leaves plain files; they need not be packed first."""
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        local_aws.client("s3").put_object(Bucket=bucket, Key=f"plain/hf/{name}", Body=b"x")
    stage.endpoint()
    stage.component()
    adapter = stage.adapter(f"s3://{bucket}/plain/hf/")
    assert stage.ask(adapter)["adapters"][adapter] == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("key", "body", "reason"),
    [
        ("none.tar.gz", None, "No S3 objects found"),
        ("text.tar.gz", b"plain", "not a readable .tar.gz"),
        ("evil.tar.gz", _tar("../../evil"), "not a readable .tar.gz"),
        ("empty.tar.gz", _tar("other"), "no adapter_config.json"),
    ],
    ids=["missing", "text", "evil", "empty"],  # an archive's bytes hold the time it was made: not the same in two workers
)
def test_an_adapter_that_can_not_be_loaded_fails_with_the_reason(
    stage: Stage, local_aws: Any, bucket: str, key: str, body: bytes | None, reason: str
) -> None:
    if body is not None:
        local_aws.client("s3").put_object(Bucket=bucket, Key=key, Body=body)
    stage.endpoint()
    base = stage.component()
    adapter = stage.adapter(f"s3://{bucket}/{key}", wait="Failed")
    assert reason in stage.sagemaker.describe_inference_component(InferenceComponentName=adapter)["FailureReason"]
    assert stage.ask(base)["adapters"] == {}
    with pytest.raises(ClientError) as caught:
        stage.ask(adapter)
    assert _code(caught)[0] == "ValidationError"


def test_a_container_that_exits_fails_its_component_with_code_and_log(wait_until: Wait, stage: Stage, local_aws: Any) -> None:
    stage.endpoint()
    base = stage.component(wait="Failed", EXIT="3")
    reason = stage.sagemaker.describe_inference_component(InferenceComponentName=base)["FailureReason"]
    assert "exit code 3" in reason
    assert "refusing to serve" in reason
    assert stage.endpoint_status() == "InService"
    logs, group = local_aws.client("logs"), f"/aws/sagemaker/InferenceComponents/{base}"

    def written() -> str:
        try:
            events = logs.filter_log_events(logGroupName=group)["events"]
        except logs.exceptions.ResourceNotFoundException:
            return "no group"
        return "written" if any("refusing to serve" in event["message"] for event in events) else "no event"

    assert wait_until(written, "written") == "written"


def test_an_image_that_is_not_there_fails_the_component(stage: Stage) -> None:
    stage.image = stage.image.replace(":v1", ":v2")
    stage.endpoint()
    base = stage.component(wait="Failed")
    assert ":v2" in stage.sagemaker.describe_inference_component(InferenceComponentName=base)["FailureReason"]


def test_a_server_that_dies_makes_component_and_endpoint_failed(wait_until: Wait, stage: Stage) -> None:
    stage.endpoint()
    base = stage.component()
    os.kill(stage.ask(base)["pid"], signal.SIGKILL)
    assert wait_until(lambda: stage.status(base), "Failed") == "Failed"
    described = stage.sagemaker.describe_endpoint(EndpointName=stage.name)
    assert described["EndpointStatus"] == "Failed"
    assert "exit code -9" in described["FailureReason"]
    with pytest.raises(ClientError) as caught:
        stage.ask(base)
    assert _code(caught)[0] == "ValidationError"


@pytest.mark.parametrize("status", [418, 500])
def test_a_containers_error_comes_back_as_model_error(stage: Stage, status: int) -> None:
    stage.endpoint()
    base = stage.component()
    with pytest.raises(stage.runtime.exceptions.ModelError) as caught:
        stage.ask(base, {"status": status})
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == status
    assert response["OriginalMessage"] == '{"error": "as asked"}'
    assert f"log-group:/aws/sagemaker/InferenceComponents/{base}" in response["LogStreamArn"]


def test_a_container_that_dies_of_a_request_is_a_model_error_and_then_failed(wait_until: Wait, stage: Stage) -> None:
    stage.endpoint()
    base = stage.component()
    with pytest.raises(stage.runtime.exceptions.ModelError):
        stage.ask(base, {"die": True})
    assert wait_until(lambda: stage.status(base), "Failed") == "Failed"
    assert "exit code 7" in stage.sagemaker.describe_inference_component(InferenceComponentName=base)["FailureReason"]


def test_a_streamed_answer_arrives_as_it_is_written(stage: Stage) -> None:
    stage.endpoint()
    base = stage.component()
    answer = stage.runtime.invoke_endpoint_with_response_stream(
        EndpointName=stage.name, InferenceComponentName=base, Body=b'{"stream": true}', ContentType="application/json"
    )
    assert answer["ContentType"] == "text/event-stream"
    seen = [(event["PayloadPart"]["Bytes"], time.monotonic()) for event in answer["Body"]]
    assert b"".join(part for part, _ in seen) == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert seen[-1][1] - seen[0][1] > 0.2


def test_an_endpoint_of_models_serves_without_components(wait_until: Wait, stage: Stage, local_aws: Any, bucket: str) -> None:
    local_aws.client("s3").put_object(Bucket=bucket, Key="model.tar.gz", Body=_tar("config.json"))
    container = {"Image": stage.image, "ModelDataUrl": f"s3://{bucket}/model.tar.gz", "Environment": {"DELAY": "0.3"}}
    stage.sagemaker.create_model(ModelName=stage.name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    stage.endpoint(ModelName=stage.name)
    assert stage.endpoint_status() == "Creating"
    with pytest.raises(ClientError) as caught:
        stage.sagemaker.delete_endpoint(EndpointName=stage.name)
    assert _code(caught) == (
        "ValidationException",
        f'Cannot update in-progress endpoint "arn:aws:sagemaker:us-west-2:123456789012:endpoint/{stage.name}".',
    )
    assert wait_until(stage.endpoint_status, "InService", "Failed") == "InService"
    answer = stage.ask(TargetVariant="AllTraffic")
    assert answer["model"] == ["config.json"]
    stage.sagemaker.delete_endpoint(EndpointName=stage.name)
    wait_until(stage.endpoint_status, "gone")
    assert not psutil.pid_exists(answer["pid"])


def test_a_model_that_can_not_start_fails_its_endpoint(wait_until: Wait, stage: Stage) -> None:
    container = {"Image": stage.image, "Environment": {"EXIT": "4"}}
    stage.sagemaker.create_model(ModelName=stage.name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    stage.endpoint(ModelName=stage.name)
    assert wait_until(stage.endpoint_status, "InService", "Failed") == "Failed"
    assert "exit code 4" in stage.sagemaker.describe_endpoint(EndpointName=stage.name)["FailureReason"]


def test_what_aws_refuses_is_refused_in_its_words(stage: Stage) -> None:
    arn = f"arn:aws:sagemaker:us-west-2:123456789012:endpoint/{stage.name}"
    with pytest.raises(ClientError) as caught:
        stage.sagemaker.describe_endpoint(EndpointName=stage.name)
    assert _code(caught) == ("ValidationException", f'Could not find endpoint "{arn}".')
    stage.endpoint()
    with pytest.raises(ClientError) as caught:
        stage.sagemaker.create_endpoint(EndpointName=stage.name, EndpointConfigName=stage.name)
    assert _code(caught) == ("ValidationException", f'Cannot create already existing endpoint "{arn}".')
    with pytest.raises(ClientError, match='Could not find endpoint configuration "'):
        stage.sagemaker.create_endpoint(EndpointName="other", EndpointConfigName="absent")
    base = stage.component(wait="", DELAY="0.5")
    with pytest.raises(ClientError, match="Cannot update in-progress inference component"):
        stage.sagemaker.delete_inference_component(InferenceComponentName=base)
    with pytest.raises(ClientError, match="Cannot create already existing inference component"):
        stage.component(wait="")
    with pytest.raises(ClientError, match="Cannot delete endpoint"):
        stage.sagemaker.delete_endpoint(EndpointName=stage.name)
    with pytest.raises(ClientError, match="Inference Component Name header is required"):
        stage.ask()
    with pytest.raises(ClientError, match=r"Could not find inference component .*absent"):
        stage.ask("absent")
    with pytest.raises(ClientError, match="Endpoint absent of account 123456789012 not found"):
        stage.runtime.invoke_endpoint(EndpointName="absent", Body=b"")
    with pytest.raises(ClientError, match="must be InService; it is Creating"):
        stage.adapter("s3://b/k")


def test_regions_do_not_see_each_other(stage: Stage, local_aws: Any) -> None:
    stage.endpoint()
    with pytest.raises(ClientError, match="Could not find endpoint"):
        local_aws.client("sagemaker", region="eu-west-1").describe_endpoint(EndpointName=stage.name)


def test_resources_of_the_sdk_work_unmodified(stage: Stage, local_aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """sagemaker-core is what many users' own code is written in."""
    from boto3.session import Session
    from sagemaker.core.resources import Endpoint, InferenceComponent

    monkeypatch.setenv("AWS_ENDPOINT_URL", local_aws.endpoint_url)
    session = Session(aws_access_key_id=local_aws.account, aws_secret_access_key="x", region_name=local_aws.region)
    stage.endpoint()
    endpoint = Endpoint.get(stage.name, session=session, region=local_aws.region)
    endpoint.wait_for_status("InService", poll=1, timeout=20)
    base = stage.component()
    component = InferenceComponent.get(base, session=session, region=local_aws.region)
    assert component.inference_component_status == "InService"
    assert [each.inference_component_name for each in InferenceComponent.get_all(endpoint_name_equals=stage.name, session=session)] == [
        base
    ]


def _started(project: Path) -> Any:
    """The local AWS of a project, with clients as the shared one gives them."""
    aws = launch.ensure(project)
    keys = {"aws_access_key_id": aws.account, "aws_secret_access_key": "x"}

    def client(service: str) -> Any:
        return boto3.client(service, endpoint_url=aws.endpoint_url, region_name=aws.region, **keys)  # type: ignore[call-overload]  # any

    return SimpleNamespace(client=client, endpoint_url=aws.endpoint_url, account=aws.account, region=aws.region, pid=aws.pid)


def test_after_a_crash_of_the_server_nothing_runs_and_statuses_are_honest(
    wait_until: Wait, make_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    """A laptop that lost its server must not show endpoints in service that nobody serves."""
    aws = _started(tmp_path)
    before = make_stage(aws)
    before.endpoint()
    base = before.component()
    served_by = before.ask(base)["pid"]
    flush = urllib.request.Request(f"{aws.endpoint_url}/_mlcc/flush", data=b"{}", method="POST")
    urllib.request.urlopen(flush, timeout=10).read()
    os.kill(aws.pid, signal.SIGKILL)
    wait_until(lambda: "alive" if psutil.pid_exists(aws.pid) or psutil.pid_exists(served_by) else "gone", "gone")

    again = _started(tmp_path)
    try:
        after = make_stage(again, image=before.image, name=before.name)
        described = after.sagemaker.describe_inference_component(InferenceComponentName=base)
        assert described["InferenceComponentStatus"] == "Failed"
        assert "The local AWS was stopped" in described["FailureReason"]
        assert after.endpoint_status() == "Failed"
        after.remove(base)
        assert after.endpoint_status() == "InService"
        after.component("second")
        assert after.ask(f"{after.name}-second")["pid"] != served_by
    finally:
        launch.release(tmp_path)
