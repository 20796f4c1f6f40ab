"""Endpoints in a rehearsal, in a crash, within an account's quotas, and what they leave behind; on servers of their own."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError

from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.rehearsal.scenario import Scenario, read_scenario

ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"

#: The ``Stage`` of conftest.py; test modules can't import it.
Stage = Any
Wait = Callable[..., str]


#: The ``Served`` of conftest.py.
Served = Any


PLAN = """\
seed: 1
rules:
  - {operation: "sagemaker:CreateEndpoint", resource: "full", fault: insufficient-instance-capacity}
  - {operation: "sagemaker:CreateEndpoint", resource: "stuck", fault: stuck, seconds: 0.5}
  - {operation: "sagemaker:CreateEndpoint", resource: "dying", fault: container-dies, requests: 2}
  - {operation: "sagemaker:UpdateEndpoint", resource: "bare", fault: insufficient-instance-capacity, calls: [1]}
  - {operation: "sagemaker:UpdateEndpoint", resource: "model", fault: insufficient-instance-capacity, calls: [1]}
"""
WAITS = "endpoint.create: 0.4\nendpoint.update: 0.5\nendpoint.delete: 0.4\n"


class Server:
    """A local AWS of one test's own, with real clients."""

    def __init__(self, project: Path) -> None:
        self.project = project

    def start(self, scenario: Scenario | None = None) -> Any:
        aws = launch.ensure(self.project, runtime="process", rehearsal=scenario)
        keys = {"aws_access_key_id": aws.account, "aws_secret_access_key": "x"}

        def client(service: str) -> Any:
            return boto3.client(service, endpoint_url=aws.endpoint_url, region_name=aws.region, **keys)  # type: ignore[call-overload]  # any

        return SimpleNamespace(client=client, endpoint_url=aws.endpoint_url, account=aws.account, region=aws.region, pid=aws.pid)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    yield Server(tmp_path)
    launch.release(tmp_path)


def _bare(sagemaker: Any, *names: str) -> None:
    """Configurations without models."""
    variant = {"VariantName": "A", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    for name in names:
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], ExecutionRoleArn=ROLE)


def test_waits_and_faults_of_a_rehearsal_hold_for_endpoints_with_and_without_models(
    server: Server, make_stage: Callable[..., Stage], make_served: Callable[[Stage], Served], wait_until: Wait
) -> None:
    """One server for all of them, as each takes its time."""
    plan, waits = server.project / "plan.yaml", server.project / "waits.yaml"
    plan.write_text(PLAN)
    waits.write_text(WAITS)
    stage = make_stage(server.start(read_scenario(str(waits), 1, plan)), name="model")
    served, sagemaker = make_served(stage), stage.sagemaker
    _bare(sagemaker, "one", "two", "three")

    def status(name: str) -> str:
        found: str = sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]
        return found

    dying = served.config("dying", served.variant("dying"))
    began = time.monotonic()
    for name, config in (("full", "one"), ("stuck", "one"), ("dying", dying), ("bare", "one")):
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        assert status(name) == "Creating"
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        sagemaker.delete_endpoint(EndpointName="bare")
    served.create(served.config("one", served.variant("one")))
    assert wait_until(lambda: status("bare"), "InService", "Failed") == "InService"
    assert time.monotonic() - began >= 0.4
    assert wait_until(lambda: status("full"), "InService", "Failed") == "Failed"
    assert "InsufficientInstanceCapacity" in sagemaker.describe_endpoint(EndpointName="full")["FailureReason"]
    assert wait_until(lambda: status("stuck"), "InService", "Failed") == "Failed"
    assert time.monotonic() - began >= 0.5
    assert wait_until(lambda: status("dying"), "InService", "Failed") == "InService"
    for _ in range(2):
        stage.runtime.invoke_endpoint(EndpointName="dying", Body=b"{}")
    assert wait_until(lambda: status("dying"), "Failed") == "Failed"

    for name in ("bare", "model"):  # the first update of each finds no machines, the second does
        again = name if name == "bare" else served.config("two", served.variant("two"))
        target = "two" if name == "bare" else again
        for outcome in (True, False):
            before = time.monotonic()
            sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=target)
            assert status(name) == "Updating"
            assert wait_until(lambda each=name: status(each), "InService", "Failed") == "InService"
            described = sagemaker.describe_endpoint(EndpointName=name)
            assert ("InsufficientInstanceCapacity" in described.get("FailureReason", "")) is outcome
            assert (described["EndpointConfigName"] == target) is not outcome
            assert time.monotonic() - before >= 0.5 or outcome

    wanted = [{"VariantName": "A", "DesiredWeight": 3.0}]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName="bare", DesiredWeightsAndCapacities=wanted)
    (during,) = sagemaker.describe_endpoint(EndpointName="bare")["ProductionVariants"]
    assert (status("bare"), during["CurrentWeight"], during["DesiredWeight"]) == ("Updating", 1.0, 3.0)
    assert wait_until(lambda: status("bare"), "InService") == "InService"
    sagemaker.delete_endpoint(EndpointName="bare")
    assert status("bare") == "Deleting"
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="bare", WaiterConfig={"Delay": 1})


def _flush(aws: Any) -> None:
    flush = urllib.request.Request(f"{aws.endpoint_url}/_mlcc/flush", data=b"{}", method="POST")
    urllib.request.urlopen(flush, timeout=10).read()


def test_after_a_crash_in_the_middle_of_an_update_nothing_is_said_to_serve(
    server: Server, make_stage: Callable[..., Stage], make_served: Callable[[Stage], Served], wait_until: Wait
) -> None:
    aws = server.start()
    stage = make_stage(aws)
    served = make_served(stage)
    served.create(served.config("one", served.variant("one")))
    pid = stage.ask()["pid"]
    served.update(served.config("slow", served.variant("slow", environment={"DELAY": "30"})))
    assert stage.endpoint_status() == "Updating"
    _flush(aws)
    os.kill(aws.pid, signal.SIGKILL)
    wait_until(lambda: "alive" if any(map(psutil.pid_exists, (aws.pid, pid))) else "gone", "gone")

    again = make_stage(server.start(), image=stage.image, name=stage.name)
    described = again.sagemaker.describe_endpoint(EndpointName=stage.name)
    assert described["EndpointStatus"] == "Failed"
    assert "The local AWS was stopped" in described["FailureReason"]
    assert described["EndpointConfigName"] == f"{stage.name}-one"
    with pytest.raises(ClientError, match="not in service"):
        again.ask()
    again.sagemaker.delete_endpoint(EndpointName=stage.name)
    assert wait_until(again.endpoint_status, "gone") == "gone"


def test_quotas_count_the_instances_of_endpoints_that_live(
    server: Server, make_stage: Callable[..., Stage], make_served: Callable[[Stage], Served], wait_until: Wait
) -> None:
    quotas = server.project / ".mlcc" / "quotas.yaml"
    quotas.parent.mkdir(exist_ok=True)
    quotas.write_text("quotas:\n  ml.m5.large for endpoint usage: 2\n  Number of instances across active endpoints: 3\n")
    stage = make_stage(server.start(), name="first")
    sagemaker, served = stage.sagemaker, make_served(stage)
    served.create(served.config("one", served.variant("one")))
    _bare(sagemaker, "bare")

    def refused(ask: Callable[[], Any], name: str, utilization: int, delta: int) -> None:
        with pytest.raises(ClientError) as caught:
            ask()
        error = caught.value.response["Error"]
        assert error["Code"] == "ResourceLimitExceeded"
        assert f"'{name}'" in error["Message"]
        assert f"current utilization of {utilization} Instances and a request delta of {delta} Instances" in error["Message"]

    usage = "ml.m5.large for endpoint usage"
    sagemaker.create_endpoint(EndpointName="second", EndpointConfigName="bare")
    refused(lambda: sagemaker.create_endpoint(EndpointName="third", EndpointConfigName="bare"), usage, 2, 1)
    two = served.config("two", served.variant("two"))
    refused(lambda: served.update(two), usage, 2, 1)  # an update has both fleets for a moment
    more = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 2}]
    refused(lambda: sagemaker.update_endpoint_weights_and_capacities(EndpointName="first", DesiredWeightsAndCapacities=more), usage, 2, 1)
    sagemaker.delete_endpoint(EndpointName="second")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="second", WaiterConfig={"Delay": 1})
    served.update(two)
    assert served.settled() == "InService"
    big = {"VariantName": "A", "InstanceType": "ml.c5.large", "InitialInstanceCount": 3}
    sagemaker.create_endpoint_config(EndpointConfigName="big", ProductionVariants=[big], ExecutionRoleArn=ROLE)
    total = "Number of instances across active endpoints"
    refused(lambda: sagemaker.create_endpoint(EndpointName="third", EndpointConfigName="big"), total, 1, 3)
    os.kill(stage.ask()["pid"], signal.SIGKILL)
    assert wait_until(stage.endpoint_status, "Failed") == "Failed"
    sagemaker.create_endpoint(EndpointName="third", EndpointConfigName="big")  # a failed endpoint has no instances


def test_endpoints_that_come_and_go_leave_nothing_behind(stage: Stage, served: Served, local_aws: Any, wait_until: Wait) -> None:
    """A suite that runs for nights makes thousands of them."""
    server = psutil.Process(local_aws.pid)
    one, two = served.config("one", served.variant("one")), served.config("two", served.variant("two"))
    _bare(stage.sagemaker, f"{stage.name}-bare")

    def without_models(number: int) -> None:
        name = f"{stage.name}-{number}"
        stage.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{stage.name}-bare")
        stage.sagemaker.delete_endpoint(EndpointName=name)

    def with_models() -> None:
        served.create(one)
        served.update(two)
        assert served.settled() == "InService"
        stage.sagemaker.delete_endpoint(EndpointName=stage.name)
        wait_until(stage.endpoint_status, "gone")

    def left() -> tuple[int, int, int, int]:
        scratch = list((local_aws.state_dir / "runtime").iterdir())
        return server.num_threads(), server.num_fds(), len(server.children(recursive=True)), len(scratch)

    for number in range(20):  # so that pools and caches have what they keep
        without_models(number)
    with_models()
    before, memory = left(), server.memory_info().rss
    for number in range(100):
        without_models(number)
    for _ in range(4):
        with_models()

    def settled() -> str:
        now = left()
        kept = now[0] <= before[0] + 2 and now[1] <= before[1] + 4 and now[2:] == before[2:]
        return "settled" if kept else f"{before} -> {now}"

    assert wait_until(settled, "settled") == "settled"
    assert server.memory_info().rss - memory < 16 << 20
