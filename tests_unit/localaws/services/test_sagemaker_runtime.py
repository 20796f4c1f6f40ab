"""Invocations: what reaches the container, what comes back, and what is refused - by real boto3 and real containers."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError, EventStreamError

ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"

#: The ``Stage`` of conftest.py; test modules can't import it.
Stage = Any
Wait = Callable[..., str]


def _error(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, str]:
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


@pytest.fixture(scope="module")
def served(local_aws: Any, image: str, wait_until: Wait) -> Iterator[Any]:
    """One endpoint of two variants with a model each, for all tests that do it no harm: its name and a client."""
    sagemaker, name = local_aws.client("sagemaker"), f"rt-{uuid.uuid4().hex[:8]}"
    variants = []
    for variant in ("One", "Two"):
        container = {"Image": image, "Environment": {"GREETING": variant}}
        sagemaker.create_model(ModelName=f"{name}-{variant}", PrimaryContainer=container, ExecutionRoleArn=ROLE)
        variants.append(
            {"VariantName": variant, "ModelName": f"{name}-{variant}", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        )
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def status() -> str:
        return str(sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])

    assert wait_until(status, "InService", "Failed") == "InService"
    yield _Served(local_aws.client("sagemaker-runtime"), name)
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig={"Delay": 1})


class _Served:
    def __init__(self, runtime: Any, name: str) -> None:
        self.runtime, self.name = runtime, name

    def ask(self, body: dict[str, Any] | bytes, **more: Any) -> dict[str, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer: dict[str, Any] = self.runtime.invoke_endpoint(EndpointName=self.name, Body=raw, **more)
        answer["Body"] = json.loads(answer["Body"].read())
        return answer

    def stream(self, body: dict[str, Any], **more: Any) -> Any:
        return self.runtime.invoke_endpoint_with_response_stream(EndpointName=self.name, Body=json.dumps(body).encode(), **more)


def test_headers_reach_the_container_and_come_back(served: Any) -> None:
    answer = served.ask(
        {"echo": True}, ContentType="application/x-mine", Accept="application/x-yours", CustomAttributes="trace=1, b", InferenceId="id-1",
        TargetVariant="Two", SessionId="NEW_SESSION",
    )  # fmt: skip
    seen = answer["Body"]["headers"]
    assert (seen["content-type"], seen["accept"]) == ("application/x-mine", "application/x-yours")
    assert seen["x-amzn-sagemaker-custom-attributes"] == "trace=1, b"
    assert seen["x-amzn-sagemaker-inference-id"] == "id-1"
    assert seen["x-amzn-sagemaker-session-id"] == "NEW_SESSION"
    assert (answer["ContentType"], answer["CustomAttributes"]) == ("application/x-echo", "from=container")
    assert (answer["InvokedProductionVariant"], answer["NewSessionId"][:9]) == ("Two", "session-1")
    assert not {name for name in seen if name.startswith(("authorization", "x-amz-date", "amz-sdk"))}, "AWS strips these"


def test_variants_share_the_traffic_unless_one_is_asked_for(served: Any) -> None:
    assert {served.ask({}, TargetVariant="One")["Body"]["env"] for _ in range(8)} == {"One"}
    assert {served.ask({})["InvokedProductionVariant"] for _ in range(60)} == {"One", "Two"}
    with pytest.raises(ClientError, match="Three") as caught:
        served.ask({}, TargetVariant="Three")
    assert _error(caught)[0] == "ValidationError"


@pytest.mark.parametrize(
    "asked",
    [{"TargetModel": "a.tar.gz"}, {"TargetContainerHostname": "second"}, {"EnableExplanations": "`true`"}, {"CustomAttributes": "größe"}],
)
def test_what_the_endpoint_is_not_made_for_is_a_validation_error(served: Any, asked: dict[str, str]) -> None:
    with pytest.raises(served.runtime.exceptions.ValidationError):
        served.ask({}, **asked)


def test_a_payload_as_large_as_aws_allows_passes_and_one_byte_more_does_not(served: Any) -> None:
    most = 6 * 1024 * 1024
    body = json.dumps({"echo": True}).encode()
    assert served.ask(body + b" " * (most - len(body)))["Body"]["length"] == most
    with pytest.raises(served.runtime.exceptions.ValidationError, match=f"length less than or equal to {most}"):
        served.ask(body + b" " * (most + 1 - len(body)))


@pytest.mark.parametrize(("status", "told"), [(200, "server error (500)"), (413, "client error (413)")])
def test_an_answer_that_is_larger_than_aws_passes_on_is_a_model_error(served: Any, status: int, told: str) -> None:
    most = 6 * 1024 * 1024
    whole = served.runtime.invoke_endpoint(EndpointName=served.name, Body=json.dumps({"large": most}).encode())
    assert len(whole["Body"].read()) == most
    with pytest.raises(
        served.runtime.exceptions.ModelError, match=re.escape(told) + " from primary and could not load the entire response"
    ):
        served.ask({"large": most + 1, "status": status})
    assert served.ask({"echo": True})["Body"]["length"] > 0


def test_a_component_is_asked_for_where_there_are_components_alone(served: Any) -> None:
    """In AWS's words, by which clients tell their users what to leave out, and what to add."""
    with pytest.raises(served.runtime.exceptions.ValidationError, match="Inference Component Name header is not allowed for endpoints to"):
        served.ask({}, InferenceComponentName="base")


def test_an_answer_without_a_length_is_passed_on_whole(served: Any) -> None:
    """Such an answer ends with its connection; the next invocation needs another one."""
    for _ in range(3):
        assert served.ask({"echo": True, "no_length": True})["Body"]["length"] > 0


def test_an_answer_that_breaks_off_is_a_model_error(served: Any) -> None:
    with pytest.raises(served.runtime.exceptions.ModelError) as caught:
        served.ask({"break_off": True})
    assert caught.value.response["OriginalStatusCode"] == 0
    assert served.ask({"echo": True})["Body"]["length"] > 0


def test_a_container_error_names_its_log(served: Any) -> None:
    with pytest.raises(served.runtime.exceptions.ModelError) as caught:
        served.ask({"status": 503}, TargetVariant="One")
    response = caught.value.response
    assert (response["OriginalStatusCode"], response["OriginalMessage"]) == (503, '{"error": "as asked"}')
    assert response["LogStreamArn"].startswith("arn:aws:logs:us-west-2:123456789012:log-group:/aws/sagemaker/Endpoints/rt-")
    assert 'Received server error (503) from primary with message "{"error": "as asked"}". See https://' in _error(caught)[1]


def test_a_stream_that_breaks_off_says_so_after_what_arrived(served: Any) -> None:
    with closing(served.stream({"break_off": True})["Body"]) as body:
        events = iter(body)
        assert next(events)["PayloadPart"]["Bytes"] == b"first"
        with pytest.raises(EventStreamError, match="reset or closed") as caught:
            next(events)
    assert caught.value.response["Error"]["Code"] == "ModelStreamError"
    assert served.ask({"echo": True})["Body"]["length"] > 0


def test_a_stream_that_the_container_refuses_is_a_model_error(served: Any) -> None:
    with pytest.raises(served.runtime.exceptions.ModelError) as caught:
        served.stream({"status": 400})
    assert caught.value.response["OriginalStatusCode"] == 400


def test_a_streams_headers_come_with_it(served: Any) -> None:
    answer = served.stream({"echo": True}, TargetVariant="One")
    assert (answer["ContentType"], answer["CustomAttributes"], answer["InvokedProductionVariant"]) == (
        "application/x-echo", "from=container", "One",
    )  # fmt: skip
    with closing(answer["Body"]) as events:
        body = b"".join(event["PayloadPart"]["Bytes"] for event in events)
    assert json.loads(body)["length"] > 0


def test_an_endpoint_that_is_not_asynchronous_says_so(served: Any) -> None:
    with pytest.raises(served.runtime.exceptions.ValidationError, match="InvokeEndpoint"):
        served.runtime.invoke_endpoint_async(EndpointName=served.name, InputLocation="s3://b/k")
    with pytest.raises(served.runtime.exceptions.ValidationError, match="not found"):
        served.runtime.invoke_endpoint_async(EndpointName="absent", InputLocation="s3://b/k")


# --- asynchronous ---------------------------------------------------------------------------------------------------


class _Later:
    """An asynchronous endpoint with a bucket, and what to do to it."""

    def __init__(self, local_aws: Any, image: str, wait_until: Wait, **output: Any) -> None:
        self.s3, self.sagemaker, self.runtime = (local_aws.client(each) for each in ("s3", "sagemaker", "sagemaker-runtime"))
        self.name, self._wait = f"later-{uuid.uuid4().hex[:8]}", wait_until
        self.s3.create_bucket(Bucket=self.name, CreateBucketConfiguration={"LocationConstraint": local_aws.region})
        self.sagemaker.create_model(ModelName=self.name, PrimaryContainer={"Image": image}, ExecutionRoleArn=ROLE)
        paths = {"S3OutputPath": f"s3://{self.name}/out/", "S3FailurePath": f"s3://{self.name}/failed"}
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=self.name,
            ProductionVariants=[{"VariantName": "A", "ModelName": self.name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}],
            AsyncInferenceConfig={
                "OutputConfig": {**paths, **output}, "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 2},
            },
        )  # fmt: skip
        self.sagemaker.create_endpoint(EndpointName=self.name, EndpointConfigName=self.name)
        assert wait_until(self._status, "InService", "Failed") == "InService"

    def _status(self) -> str:
        return str(self.sagemaker.describe_endpoint(EndpointName=self.name)["EndpointStatus"])

    def ask(self, body: dict[str, Any], **more: Any) -> Any:
        key = f"in/{uuid.uuid4().hex}"
        self.s3.put_object(Bucket=self.name, Key=key, Body=json.dumps(body).encode())
        return self.runtime.invoke_endpoint_async(EndpointName=self.name, InputLocation=f"s3://{self.name}/{key}", **more)

    def result(self, uri: str) -> Any:
        """The object, once it is there."""
        key = uri.removeprefix(f"s3://{self.name}/")

        def there() -> str:
            return "there" if self.s3.list_objects_v2(Bucket=self.name, Prefix=key).get("KeyCount") else "not yet"

        self._wait(there, "there", seconds=15)
        return self.s3.get_object(Bucket=self.name, Key=key)

    def remove(self) -> None:
        self.sagemaker.delete_endpoint(EndpointName=self.name)
        self.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=self.name, WaiterConfig={"Delay": 1})


@pytest.fixture(scope="module")
def later(local_aws: Any, image: str, wait_until: Wait) -> Iterator[_Later]:
    made = _Later(local_aws, image, wait_until)
    yield made
    made.remove()


def test_an_asynchronous_result_is_an_object_named_by_its_id(later: _Later) -> None:
    answer = later.ask({"echo": True}, ContentType="application/json", CustomAttributes="c=1", Accept="x/y")
    identifier = answer["InferenceId"]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["OutputLocation"] == f"s3://{later.name}/out/{identifier}.out"
    assert answer["FailureLocation"] == f"s3://{later.name}/failed/{identifier}-error.out"
    found = later.result(answer["OutputLocation"])
    seen = json.loads(found["Body"].read())["headers"]
    assert found["ContentType"] == "application/x-echo"
    assert (seen["content-type"], seen["accept"], seen["x-amzn-sagemaker-custom-attributes"]) == ("application/json", "x/y", "c=1")
    assert seen["x-amzn-sagemaker-inference-id"] == identifier


def test_the_caller_may_name_the_result_and_send_its_input_along(later: _Later) -> None:
    answer = later.runtime.invoke_endpoint_async(
        EndpointName=later.name, Body=b'{"echo": true}', InferenceId="mine-1", Filename="answer.json", S3OutputPathExtension="run/7"
    )
    assert (answer["InferenceId"], answer["OutputLocation"]) == ("mine-1", f"s3://{later.name}/out/run/7/answer.json")
    assert json.loads(later.result(answer["OutputLocation"])["Body"].read())["length"] == 14


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"status": 500}, 'Received server error (500) from primary with message "{"error": "as asked"}"'),
        ({"break_off": True}, "Received server error (0) from primary"),
        ({"echo": True, "no_length": True}, "did not specify the required Content-Length header"),
    ],
)
def test_an_asynchronous_failure_is_an_object_with_the_reason(later: _Later, body: dict[str, Any], words: str) -> None:
    answer = later.ask(body)
    assert words in later.result(answer["FailureLocation"])["Body"].read().decode()
    assert not later.s3.list_objects_v2(Bucket=later.name, Prefix=answer["OutputLocation"].partition(f"{later.name}/")[2]).get("KeyCount")


def test_an_input_that_is_not_there_is_a_failure(later: _Later) -> None:
    answer = later.runtime.invoke_endpoint_async(EndpointName=later.name, InputLocation=f"s3://{later.name}/in/absent")
    assert "could not access S3" in later.result(answer["FailureLocation"])["Body"].read().decode()


def test_an_asynchronous_invocation_has_the_time_it_asks_for(later: _Later) -> None:
    began = time.monotonic()
    answer = later.ask({"echo": True, "sleep": 4}, InvocationTimeoutSeconds=1)
    assert "timed out while waiting" in later.result(answer["FailureLocation"])["Body"].read().decode()
    assert time.monotonic() - began < 4


def test_no_more_run_at_once_than_the_endpoint_allows(later: _Later) -> None:
    """Two at once, half a second each: four take a second."""
    began = time.monotonic()
    answers = [later.ask({"echo": True, "sleep": 0.5}) for _ in range(4)]
    for answer in answers:
        later.result(answer["OutputLocation"])
    assert time.monotonic() - began >= 1.0


def test_an_asynchronous_endpoint_refuses_to_be_waited_for(later: _Later) -> None:
    for operation in (later.runtime.invoke_endpoint, later.runtime.invoke_endpoint_with_response_stream):
        with pytest.raises(later.runtime.exceptions.ValidationError, match="InvokeEndpointAsync"):
            operation(EndpointName=later.name, Body=b"{}")
    with pytest.raises(later.runtime.exceptions.ValidationError, match="Exactly one of InputLocation and Body"):
        later.runtime.invoke_endpoint_async(EndpointName=later.name)
    with pytest.raises(ClientError) as caught:
        later.ask({}, RequestTTLSeconds=21601)
    assert _error(caught)[0] == "ValidationError"


def test_no_connection_to_a_container_outlives_it(stage: Stage, local_aws: Any, wait_until: Wait) -> None:
    """Connections are kept between invocations; those of a container that is gone would add up over a night."""
    stage.endpoint()
    base = stage.component()
    (port,) = {each.laddr.port for each in psutil.Process(stage.ask(base)["pid"]).net_connections() if each.status == psutil.CONN_LISTEN}
    server = psutil.Process(local_aws.pid)

    def held() -> str:
        return str(sum(1 for each in server.net_connections() if each.raddr and each.raddr.port == port))

    assert int(held()) >= 1
    stage.remove(base)
    assert wait_until(held, "0") == "0"


def test_the_sdks_endpoint_resource_invokes_now_and_later(
    served: Any, later: _Later, local_aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sagemaker.core is what many users' own code is written in. Its streamed invocation reads no event stream at all, of nobody."""
    from boto3.session import Session
    from sagemaker.core.resources import Endpoint

    monkeypatch.setenv("AWS_ENDPOINT_URL", local_aws.endpoint_url)
    keys = {"aws_access_key_id": local_aws.account, "aws_secret_access_key": "x"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", local_aws.account)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", local_aws.region)
    session = Session(**keys, region_name=local_aws.region)
    endpoint = Endpoint.get(served.name, session=session, region=local_aws.region)
    whole = endpoint.invoke(body=b'{"echo": true}', target_variant="One", session=session, region=local_aws.region)
    assert json.loads(whole.body.read())["length"] == 14
    assert (whole.invoked_production_variant, whole.custom_attributes) == ("One", "from=container")
    key = f"sdk/{uuid.uuid4().hex}"
    later.s3.put_object(Bucket=later.name, Key=key, Body=b'{"echo": true}')
    asked = Endpoint.get(later.name, session=session, region=local_aws.region).invoke_async(
        input_location=f"s3://{later.name}/{key}", session=session, region=local_aws.region
    )
    assert json.loads(later.result(asked.output_location)["Body"].read())["length"] == 14


def test_topics_are_told_of_results_and_failures(local_aws: Any, image: str, wait_until: Wait) -> None:
    sns, sqs = local_aws.client("sns"), local_aws.client("sqs")
    name = f"told-{uuid.uuid4().hex[:8]}"
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topics = {kind: sns.create_topic(Name=f"{name}-{kind}")["TopicArn"] for kind in ("SuccessTopic", "ErrorTopic")}
    for topic in topics.values():
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn)
    told = _Later(local_aws, image, wait_until, NotificationConfig={**topics, "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC"]})
    try:
        answers = [told.ask({"echo": True}), told.ask({"status": 400})]
        messages: dict[str, Any] = {}

        def read() -> str:
            for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
                text = json.loads(json.loads(message["Body"])["Message"])
                messages[text["inferenceId"]] = text
            return str(len(messages))

        assert wait_until(read, "2") == "2"
    finally:
        told.remove()
    success, failure = (messages[answer["InferenceId"]] for answer in answers)
    assert (success["invocationStatus"], success["eventName"], success["awsRegion"]) == ("Completed", "InferenceResult", "us-west-2")
    assert success["responseParameters"] == {"contentType": "application/x-echo", "outputLocation": answers[0]["OutputLocation"]}
    assert json.loads(success["responseBody"]["content"])["length"] == 14
    assert success["requestParameters"]["endpointName"] == told.name
    assert failure["invocationStatus"] == "Failed"
    assert "Received client error (400)" in failure["failureReason"]
    assert "responseBody" not in failure
