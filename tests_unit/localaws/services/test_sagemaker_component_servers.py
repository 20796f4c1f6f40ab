"""Inference components on servers of their own: one that is killed, and one that rehearses waits and troubles."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError
from component_scene import Scene, tar

from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.rehearsal.scenario import Scenario, read_scenario

#: The ``Stage`` of conftest.py; test modules can't import it.
Stage = Any
Wait = Callable[..., str]

_LATENCY = """\
inference-component.create: 0.4
inference-component.update: 0.6
inference-component.delete: 0.4
adapter.create: 0.4
adapter.delete: 0.4
"""
_FAULTS = """\
seed: 1
rules:
  - {operation: "sagemaker:CreateInferenceComponent", resource: "*-full-adapter", fault: insufficient-instance-capacity}
  - {operation: "sagemaker:CreateInferenceComponent", resource: "*-stuck-adapter", fault: stuck, seconds: 1, message: "no answer"}
"""


@pytest.fixture
def other_aws(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """``other_aws()`` starts, or starts again, a local AWS of this test's own."""

    def start(rehearsal: Scenario | None = None) -> Any:
        aws = launch.ensure(tmp_path, engine=False, runtime="process", rehearsal=rehearsal)
        keys = {"aws_access_key_id": aws.account, "aws_secret_access_key": "x"}

        def client(service: str) -> Any:
            return boto3.client(service, endpoint_url=aws.endpoint_url, region_name=aws.region, **keys)  # type: ignore[call-overload]  # any

        return SimpleNamespace(client=client, endpoint_url=aws.endpoint_url, account=aws.account, region=aws.region, pid=aws.pid)

    yield start
    launch.release(tmp_path)


def _kill(aws: Any, wait: Wait, *pids: int) -> None:
    import urllib.request

    flush = urllib.request.Request(f"{aws.endpoint_url}/_mlcc/flush", data=b"{}", method="POST")
    urllib.request.urlopen(flush, timeout=10).read()
    os.kill(aws.pid, signal.SIGKILL)
    wait(lambda: "alive" if any(psutil.pid_exists(pid) for pid in (aws.pid, *pids)) else "gone", "gone")


def test_after_a_crash_an_update_is_over_and_what_had_no_copies_is_as_it_was(
    other_aws: Callable[..., Any], make_stage: Callable[..., Stage], wait_until: Wait
) -> None:
    aws = other_aws()
    scene = Scene(make_stage(aws), wait_until)
    served_by = scene.stage.ask(scene.base)["pid"]
    empty = scene.stage.component("empty")
    scene.sagemaker.update_inference_component_runtime_config(InferenceComponentName=empty, DesiredRuntimeConfig={"CopyCount": 0})
    scene.settle(empty)
    scene.update(Specification=scene.specification(DELAY="30"), wait=False)
    assert scene.stage.status(scene.base) == "Updating"
    _kill(aws, wait_until, served_by)

    again = make_stage(other_aws(), image=scene.stage.image, name=scene.stage.name)
    described = again.sagemaker.describe_inference_component(InferenceComponentName=scene.base)
    assert (described["InferenceComponentStatus"], described["RuntimeConfig"]["CurrentCopyCount"]) == ("Failed", 0)
    assert "The local AWS was stopped" in described["FailureReason"]
    assert described["Specification"]["Container"]["Environment"] == {"GREETING": "one"}
    assert again.status(empty) == "InService"
    with pytest.raises(ClientError, match="no capacity"):
        again.ask(empty)
    again.sagemaker.update_inference_component_runtime_config(InferenceComponentName=empty, DesiredRuntimeConfig={"CopyCount": 1})
    assert wait_until(lambda: again.status(empty), "InService", "Failed") == "InService"
    assert psutil.pid_exists(again.ask(empty)["pid"])
    again.remove(scene.base)
    assert again.endpoint_status() == "InService"


def test_a_rehearsal_makes_components_and_adapters_take_their_time(
    other_aws: Callable[..., Any], make_stage: Callable[..., Stage], wait_until: Wait, tmp_path: Path
) -> None:
    for name, text in (("mine.yaml", _LATENCY), ("plan.yaml", _FAULTS)):
        (tmp_path / name).write_text(text)
    aws = other_aws(read_scenario(str(tmp_path / "mine.yaml"), 1, tmp_path / "plan.yaml"))
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="adapters", CreateBucketConfiguration={"LocationConstraint": aws.region})
    s3.put_object(Bucket="adapters", Key="a.tar.gz", Body=tar("adapter_config.json"))
    taken: dict[str, float] = {}

    def timed(what: str, work: Callable[[], object]) -> None:
        began = time.monotonic()
        work()
        taken[what] = time.monotonic() - began

    stage = make_stage(aws)
    scene = Scene(stage, wait_until)
    timed("adapter", lambda: stage.adapter("s3://adapters/a.tar.gz"))
    timed("scale up", lambda: scene.scale(2))
    timed("scale down", lambda: scene.scale(1))
    stage.adapter("s3://adapters/a.tar.gz", "full-adapter", wait="Failed")
    assert "InsufficientInstanceCapacity" in scene.described(f"{stage.name}-full-adapter")["FailureReason"]
    timed("stuck", lambda: stage.adapter("s3://adapters/a.tar.gz", "stuck-adapter", wait="Failed"))
    assert scene.described(f"{stage.name}-stuck-adapter")["FailureReason"] == "no answer"
    for adapter in ("full-adapter", "stuck-adapter"):
        stage.remove(f"{stage.name}-{adapter}")
    timed("adapter gone", lambda: stage.remove(f"{stage.name}-adapter"))
    timed("component gone", lambda: stage.remove(scene.base))
    least = {"adapter": 0.4, "scale up": 0.6, "scale down": 0.6, "stuck": 1, "adapter gone": 0.4, "component gone": 0.4}
    assert {what for what, seconds in least.items() if taken[what] < seconds} == set()
