"""Endpoints that change while they serve, by real boto3 against a real server and real container processes."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"

#: The ``Stage`` of conftest.py; test modules can't import it.
Stage = Any
Wait = Callable[..., str]


#: The ``Served`` of conftest.py.
Served = Any


def _message(caught: pytest.ExceptionInfo[ClientError]) -> str:
    error = caught.value.response["Error"]
    assert error["Code"] == "ValidationException"
    return str(error["Message"])


# --- UpdateEndpoint ------------------------------------------------------------------------------------------------


def test_an_update_swaps_the_containers_without_dropping_a_request(served: Served) -> None:
    """What an application sees of an update is another answer, and nothing else."""
    served.create(served.config("one", served.variant("one")))
    old = served.stage.ask()["pid"]
    second = served.config("two", served.variant("two", environment={"DELAY": "0.4"}))
    answers: list[Any] = []
    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            try:
                answers.append(served.stage.ask()["env"])
            except ClientError as error:
                answers.append(str(error))

    long = threading.Thread(target=lambda: answers.append(served.stage.ask("", {"echo": True, "sleep": 1.5})["length"] > 0))
    asking = threading.Thread(target=keep_asking)
    for thread in (long, asking):
        thread.start()
    served.update(second)
    during = served.described()
    assert served.settled() == "InService"
    over.set()
    for thread in (asking, long):
        thread.join()
    assert (during["EndpointStatus"], during["EndpointConfigName"]) == ("Updating", f"{served.name}-one")
    pending = during["PendingDeploymentSummary"]
    assert (pending["EndpointConfigName"], [each["VariantName"] for each in pending["ProductionVariants"]]) == (second, ["AllTraffic"])
    assert set(answers) == {"one", "two", True}
    after = served.described()
    assert (after["EndpointConfigName"], served.stage.ask()["env"]) == (second, "two")
    assert "PendingDeploymentSummary" not in after
    assert "FailureReason" not in after
    assert after["LastModifiedTime"] > during["CreationTime"]
    served.gone(old)


def test_a_stream_that_has_begun_is_finished_by_the_container_that_began_it(served: Served) -> None:
    served.create(served.config("one", served.variant("one")))
    second, old = served.config("two", served.variant("two")), served.stage.ask()["pid"]
    answer = served.stage.runtime.invoke_endpoint_with_response_stream(EndpointName=served.name, Body=b'{"stream": true, "pause": 0.8}')
    served.update(second)
    served.until(lambda: served.stage.ask()["env"] == "two")
    parts = []
    for event in answer["Body"]:
        parts.append(event["PayloadPart"]["Bytes"])
        if len(parts) < 3:
            assert psutil.pid_exists(old), "it is needed until its last word"
    assert b"".join(parts) == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert served.settled() == "InService"
    served.gone(old)


def test_variants_come_and_go_by_an_update(served: Served) -> None:
    served.create(served.config("one", served.variant("one", "A")))
    old = served.stage.ask()["pid"]
    served.update(served.config("two", served.variant("two", "B"), served.variant("three", "C")))
    assert served.settled() == "InService"
    assert [served.stage.ask(TargetVariant=name)["env"] for name in ("B", "C")] == ["two", "three"]
    with pytest.raises(ClientError, match="Variant A"):
        served.stage.ask(TargetVariant="A")
    served.gone(old)


def test_an_update_that_fails_leaves_what_serves_and_says_why(served: Served) -> None:
    first = served.config("one", served.variant("one"))
    served.create(first)
    old = served.stage.ask()["pid"]
    served.update(served.config("bad", served.variant("bad", environment={"EXIT": "6"})))
    assert served.settled() == "InService"
    after = served.described()
    assert after["EndpointConfigName"] == first
    assert "exit code 6" in after["FailureReason"]
    assert served.stage.ask()["pid"] == old
    served.update(served.config("two", served.variant("two")))
    assert served.settled() == "InService"
    assert served.stage.ask()["env"] == "two"
    assert "FailureReason" not in served.described()


def test_one_variant_that_fails_takes_the_whole_update_back(served: Served) -> None:
    served.create(served.config("one", served.variant("one", "A")))
    served.update(served.config("two", served.variant("two", "A"), served.variant("bad", "B", environment={"EXIT": "6"})))
    assert served.settled() == "InService"
    assert list(served.variants()) == ["A"]
    assert {served.stage.ask()["env"] for _ in range(5)} == {"one"}


def test_an_update_may_be_followed_by_another_and_by_a_failure_that_counts(served: Served, wait_until: Wait) -> None:
    """A container that dies after an update fails the endpoint, as one of its making does."""
    served.create(served.config("one", served.variant("one")))
    for greeting in ("two", "three"):
        served.update(served.config(greeting, served.variant(greeting)))
        assert served.settled() == "InService"
    answer = served.stage.ask()
    assert answer["env"] == "three"
    os.kill(answer["pid"], signal.SIGKILL)
    assert wait_until(served.stage.endpoint_status, "Failed") == "Failed"
    assert "exit code -9" in served.described()["FailureReason"]


def test_counts_and_weights_are_kept_where_the_update_says_so(served: Served) -> None:
    served.create(served.config("one", served.variant("one", "A"), served.variant("two", "B")))
    served.weigh(A=0.25)
    capacity = [{"VariantName": "A", "DesiredInstanceCount": 3}]
    assert served.settled() == "InService"
    served.sagemaker.update_endpoint_weights_and_capacities(EndpointName=served.name, DesiredWeightsAndCapacities=capacity)
    assert served.settled() == "InService"
    same = [{"VariantName": name, "ModelName": f"{served.name}-{model}", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
            for name, model in (("A", "one"), ("B", "two"))]  # fmt: skip
    served.update(served.config("kept", *same), RetainAllVariantProperties=True)
    assert served.settled() == "InService"
    variant = served.variants()["A"]
    assert (variant["CurrentWeight"], variant["CurrentInstanceCount"]) == (0.25, 3)
    excluded = [{"VariantPropertyType": "DesiredInstanceCount"}]
    served.update(served.config("mixed", *same), RetainAllVariantProperties=True, ExcludeRetainedVariantProperties=excluded)
    assert served.settled() == "InService"
    variant = served.variants()["A"]
    assert (variant["CurrentWeight"], variant["CurrentInstanceCount"]) == (0.25, 1)
    served.update(served.config("new", *same))
    assert served.settled() == "InService"
    assert served.variants()["A"]["CurrentWeight"] == 1.0


def test_data_capture_is_that_of_the_configuration_or_kept(served: Served) -> None:
    def capture(prefix: str) -> dict[str, Any]:
        return {
            "EnableCapture": True, "InitialSamplingPercentage": 20, "DestinationS3Uri": f"s3://bucket/{prefix}",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        }  # fmt: skip

    variant = served.variant("one")
    served.create(served.config("one", variant, DataCaptureConfig=capture("one")))
    shown = served.described()["DataCaptureConfig"]
    assert {key: shown[key] for key in ("EnableCapture", "CaptureStatus", "CurrentSamplingPercentage", "DestinationS3Uri")} == {
        "EnableCapture": True, "CaptureStatus": "Started", "CurrentSamplingPercentage": 20, "DestinationS3Uri": "s3://bucket/one",
    }  # fmt: skip
    served.update(served.config("two", variant, DataCaptureConfig=capture("two")), RetainAllVariantProperties=True)
    assert served.settled() == "InService"
    assert served.described()["DataCaptureConfig"]["DestinationS3Uri"] == "s3://bucket/one"
    served.update(served.config("three", variant, DataCaptureConfig=capture("three")))
    assert served.settled() == "InService"
    assert served.described()["DataCaptureConfig"]["DestinationS3Uri"] == "s3://bucket/three"


def test_what_can_not_be_updated_is_refused(served: Served) -> None:
    arn = f"arn:aws:sagemaker:us-west-2:123456789012:endpoint/{served.name}"
    first = served.config("one", served.variant("one"))
    second = served.config("two", served.variant("two", environment={"DELAY": "0.5"}))
    with pytest.raises(ClientError) as caught:
        served.update(second)
    assert _message(caught) == f'Could not find endpoint "{arn}".'
    served.create(first)
    with pytest.raises(ClientError) as caught:
        served.update("absent")
    assert _message(caught).startswith('Could not find endpoint configuration "')
    served.update(second)
    for change in (
        lambda: served.update(second),
        lambda: served.weigh(AllTraffic=2),
        lambda: served.sagemaker.delete_endpoint(EndpointName=served.name),
    ):
        with pytest.raises(ClientError) as caught:
            change()
        assert _message(caught) == f'Cannot update in-progress endpoint "{arn}".'
    assert served.settled() == "InService"


def test_an_endpoint_hosts_models_or_components_for_good(served: Served) -> None:
    served.create(served.config("one", served.variant("one")))
    empty = {"VariantName": "AllTraffic", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    with pytest.raises(ClientError) as caught:
        served.update(served.config("none", empty, ExecutionRoleArn=ROLE))
    assert _message(caught)
    assert served.stage.ask()["env"] == "one"


def test_components_serve_on_while_their_endpoint_is_updated(served: Served) -> None:
    variant = {"VariantName": "AllTraffic", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}
    served.create(served.config("one", variant, ExecutionRoleArn=ROLE))
    base = served.stage.component()
    pid = served.stage.ask(base)["pid"]
    served.update(served.config("two", {**variant, "InitialInstanceCount": 2}, ExecutionRoleArn=ROLE))
    assert served.settled() == "InService"
    assert served.variants()["AllTraffic"]["CurrentInstanceCount"] == 2
    assert served.stage.ask(base)["pid"] == pid
    with pytest.raises(ClientError) as caught:
        served.update(served.config("other", {**variant, "VariantName": "Other"}, ExecutionRoleArn=ROLE))
    assert "AllTraffic" in _message(caught)


# --- UpdateEndpointWeightsAndCapacities ----------------------------------------------------------------------------


def test_weights_shift_the_traffic(served: Served) -> None:
    served.create(served.config("one", served.variant("one", "A"), served.variant("two", "B", InitialVariantWeight=0.0)))
    assert Counter(served.stage.ask()["env"] for _ in range(10)) == {"one": 10}
    served.weigh(A=0, B=2)
    assert served.settled() == "InService"
    assert Counter(served.stage.ask()["env"] for _ in range(10)) == {"two": 10}
    served.weigh(A=2)
    assert served.settled() == "InService"
    assert set(Counter(served.stage.ask()["env"] for _ in range(40))) == {"one", "two"}
    weights = {name: (each["CurrentWeight"], each["DesiredWeight"]) for name, each in served.variants().items()}
    assert weights == {"A": (2.0, 2.0), "B": (2.0, 2.0)}


def test_weights_of_what_is_not_there_are_refused(served: Served) -> None:
    served.create(served.config("one", served.variant("one", "A")))
    with pytest.raises(ClientError) as caught:
        served.weigh(B=1)
    assert "B" in _message(caught)
    with pytest.raises(ClientError, match="Could not find endpoint"):
        served.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="absent", DesiredWeightsAndCapacities=[{"VariantName": "A", "DesiredWeight": 1}]
        )
    assert served.variants()["A"]["CurrentWeight"] == 1.0


def test_the_sdks_resource_updates_an_endpoint(served: Served, local_aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """sagemaker-core is what many users' own code is written in."""
    from boto3.session import Session
    from sagemaker.core.resources import Endpoint

    monkeypatch.setenv("AWS_ENDPOINT_URL", local_aws.endpoint_url)
    session = Session(aws_access_key_id=local_aws.account, aws_secret_access_key="x", region_name=local_aws.region)
    served.create(served.config("one", served.variant("one")))
    second = served.config("two", served.variant("two"))
    endpoint = Endpoint.get(served.name, session=session, region=local_aws.region)
    endpoint.endpoint_config_name = second
    endpoint.update(retain_all_variant_properties=False)
    endpoint.wait_for_status("InService", poll=1, timeout=20)
    assert endpoint.endpoint_config_name == second
