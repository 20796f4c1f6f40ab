"""What is made and deleted leaves nothing behind, however often; and a server that is killed comes back with the truth."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config
from image_push import push_image

from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.holders import start_ticks

PROGRAM = Path(__file__).parent / "clients" / "program.py"
ROLE = f"arn:aws:iam::{launch.ACCOUNT}:role/mlcc-sagemaker-execution-role"
BUCKET = f"mlcc-artifacts-{launch.ACCOUNT}-us-west-2"
BUILD_ROLE = f"arn:aws:iam::{launch.ACCOUNT}:role/mlcc-codebuild-role"
MEGABYTE = 1 << 20
POOLED = 8  # threads and connections that pools may still add; far below one per cycle

Until = Callable[..., Any]


class Server:
    """A local AWS of the test's own, without the engine, whose temporary files lie where no other program's do."""

    def __init__(self, folder: Path) -> None:
        self.project, self.temporary = folder / "project", folder / "tmp"
        for each in (self.project, self.temporary):
            each.mkdir()
        self.local = launch.ensure(self.project, engine=False)
        aws = SimpleNamespace(endpoint_url=self.local.endpoint_url, account=self.local.account, region="us-west-2", client=self.client)
        self.image = push_image(aws, "serve", PROGRAM.read_text(), folder / "image", command="program")

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.local.pid)

    def client(self, service: str) -> Any:
        config = Config(retries={"total_max_attempts": 1})
        return boto3.client(
            service, endpoint_url=self.local.endpoint_url, region_name="us-west-2", aws_access_key_id=launch.ACCOUNT,
            aws_secret_access_key="local", config=config,
        )  # fmt: skip

    def kill(self) -> None:
        """End it as a crash would, and start another on the same state."""
        started = start_ticks(self.local.pid)
        os.kill(self.local.pid, signal.SIGKILL)
        while start_ticks(self.local.pid) == started:
            time.sleep(0.01)
        self.local = launch.ensure(self.project, engine=False)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("l")
    monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
    made = Server(folder)
    yield made
    launch.stop(made.project)


def _is_warden(words: list[str]) -> bool:
    """The one process that stays as long as the server: it ends containers that a killed server leaves."""
    return any(word.endswith("warden_child.py") for word in words)


@dataclass(frozen=True)
class Held:
    """What a server holds of the machine."""

    resident: int
    threads: int
    descriptors: int
    processes: list[str]
    ports: int
    files: list[str]
    temporary: list[str]


def held(server: Server) -> Held:
    process = server.process
    listening = [one for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
    local = launch.local_dir(server.project)
    return Held(
        resident=process.memory_info().rss,
        threads=process.num_threads(),
        descriptors=process.num_fds(),
        processes=[" ".join(words) for one in process.children(recursive=True) if not _is_warden(words := one.cmdline())],
        ports=len(listening),
        files=sorted(str(path.relative_to(local)) for path in local.rglob("*") if path.is_file() and not path.name.endswith(".tmp")),
        temporary=sorted(str(path.relative_to(server.temporary)) for path in server.temporary.rglob("*")),
    )


def settled(server: Server, before: Held, until: Until) -> Held:
    """What is held once nothing is on its way out any more: processes end, and state is saved, a moment after the answer."""
    seen: list[list[str]] = []

    def quiet() -> bool:
        seen.append(held(server).processes)
        return seen[-1] == before.processes

    try:
        until(quiet, "the processes to end", 10)
    except AssertionError:
        pytest.fail(f"these processes stay: {seen[-1]}")  # what they are says more than that they are
    launch._call(server.local.endpoint_url, "flush", {})  # so that every service has written what it has
    return held(server)


def assert_nothing_leaked(before: Held, after: Held, *, megabytes: float) -> None:
    """``megabytes`` is what the allocator may keep; the rest is counted exactly, but for the server's pools, which fill up once."""
    assert after.processes == before.processes
    assert after.ports == before.ports
    assert after.temporary == before.temporary
    assert after.files == before.files
    assert after.threads <= before.threads + POOLED
    assert after.descriptors <= before.descriptors + POOLED
    grown = (after.resident - before.resident) / MEGABYTE
    assert grown < megabytes, f"the server grew by {grown:.1f} MB"


def test_five_hundred_models_and_configurations_leave_nothing(server: Server, until: Until) -> None:
    sagemaker = server.client("sagemaker")

    def cycle(number: int) -> None:
        name = f"cycle-{number % 7}"
        sagemaker.create_model(
            ModelName=name, PrimaryContainer={"Image": server.image}, ExecutionRoleArn=ROLE, Tags=[{"Key": "n", "Value": str(number)}]
        )
        variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        sagemaker.delete_endpoint_config(EndpointConfigName=name)
        sagemaker.delete_model(ModelName=name)

    for number in range(60):
        cycle(number)
    before = settled(server, held(server), until)
    for number in range(500):
        cycle(number)
    assert_nothing_leaked(before, settled(server, before, until), megabytes=6)
    assert sagemaker.list_models()["Models"] == []


def test_forty_endpoints_with_containers_leave_nothing(server: Server, until: Until) -> None:
    sagemaker = server.client("sagemaker")
    runtime = server.client("sagemaker-runtime")
    sagemaker.create_model(ModelName="model", PrimaryContainer={"Image": server.image}, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "AllTraffic", "ModelName": "model", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="config", ProductionVariants=[variant])
    quick = {"Delay": 0.05, "MaxAttempts": 600}

    def cycle(name: str) -> None:
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="config")
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=quick)
        assert runtime.invoke_endpoint(EndpointName=name, Body=b"up")["Body"].read() == b"UP"
        sagemaker.delete_endpoint(EndpointName=name)
        sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=quick)

    def cycles(count: int) -> None:
        with ThreadPoolExecutor(4) as pool:  # four names, so that log groups, which stay as on AWS, are always the same
            for done in [pool.submit(lambda lane=lane: [cycle(f"lane-{lane}") for _ in range(count // 4)]) for lane in range(4)]:
                done.result()

    cycles(12)
    before = settled(server, _without_children(held(server)), until)
    cycles(40)
    assert_nothing_leaked(before, settled(server, before, until), megabytes=10)


def _without_children(found: Held) -> Held:
    return Held(**{**vars(found), "processes": []})


def _channel(server: Server) -> dict[str, Any]:
    server.client("s3").put_object(Bucket=BUCKET, Key="leaks/train/rows.txt", Body=b"1\n2\n")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/leaks/train/"}
    return {"ChannelName": "train", "DataSource": {"S3DataSource": source}}


def _train(server: Server, name: str, **parameters: str) -> None:
    server.client("sagemaker").create_training_job(
        TrainingJobName=name, RoleArn=ROLE, HyperParameters=parameters, InputDataConfig=[_channel(server)],
        AlgorithmSpecification={"TrainingImage": server.image, "TrainingInputMode": "File"},
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/leaks/out"}, StoppingCondition={"MaxRuntimeInSeconds": 60},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    )  # fmt: skip


def _process(server: Server, name: str, seconds: int = 0) -> None:
    _channel(server)
    server.client("sagemaker").create_processing_job(
        ProcessingJobName=name, RoleArn=ROLE, AppSpecification={"ImageUri": server.image, "ContainerArguments": ["process"]},
        ProcessingResources={"ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}},
        Environment={"SECONDS": str(seconds)},
        ProcessingInputs=[{"InputName": "in", "S3Input": {
            "S3Uri": f"s3://{BUCKET}/leaks/train/", "LocalPath": "/opt/ml/processing/input", "S3DataType": "S3Prefix",
            "S3InputMode": "File"}}],
        ProcessingOutputConfig={"Outputs": [{"OutputName": "out", "S3Output": {
            "S3Uri": f"s3://{BUCKET}/leaks/processed", "LocalPath": "/opt/ml/processing/output", "S3UploadMode": "EndOfJob"}}]},
    )  # fmt: skip


def _training(server: Server, name: str) -> dict[str, Any]:
    return dict(server.client("sagemaker").describe_training_job(TrainingJobName=name))


def _processing(server: Server, name: str) -> dict[str, Any]:
    return dict(server.client("sagemaker").describe_processing_job(ProcessingJobName=name))


def _project(server: Server) -> None:
    spec = "version: 0.2\nphases:\n  build:\n    commands:\n      - sleep ${SECONDS_TO_SLEEP:-0}\n"
    server.client("codebuild").create_project(
        name="project", source={"type": "NO_SOURCE", "buildspec": spec}, artifacts={"type": "NO_ARTIFACTS"}, serviceRole=BUILD_ROLE,
        environment={"type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "BUILD_GENERAL1_SMALL"},
    )  # fmt: skip


def _build(server: Server, seconds: int = 0) -> str:
    slept = [{"name": "SECONDS_TO_SLEEP", "value": str(seconds)}]
    build = server.client("codebuild").start_build(projectName="project", environmentVariablesOverride=slept)["build"]
    return str(build["id"])


def _built(server: Server, build: str) -> dict[str, Any]:
    return dict(server.client("codebuild").batch_get_builds(ids=[build])["builds"][0])


def test_jobs_and_builds_leave_records_and_logs_alone(server: Server, until: Until) -> None:
    _project(server)

    def cycle(number: int) -> None:
        name = f"job-{number}"
        _train(server, name)
        _process(server, name)
        build = _build(server)
        until(lambda: _training(server, name)["TrainingJobStatus"] == "Completed", f"training {name}")
        until(lambda: _processing(server, name)["ProcessingJobStatus"] == "Completed", f"processing {name}")
        until(lambda: _built(server, build)["buildComplete"], build)

    for number in range(3):
        cycle(number)
    before = settled(server, _without_children(held(server)), until)
    for number in range(3, 11):
        cycle(number)
    after = settled(server, before, until)
    objects = [one for one in before.files if one.startswith("s3")]  # what a job writes to S3 is its result
    kept = [one for one in after.files if not one.startswith("s3")]
    unchanged = Held(**{**vars(after), "files": sorted([*objects, *kept])})
    assert_nothing_leaked(before, unchanged, megabytes=10)


def _component(server: Server) -> None:
    sagemaker = server.client("sagemaker")
    variant = {"VariantName": "AllTraffic", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="shared", ProductionVariants=[variant], ExecutionRoleArn=ROLE)
    sagemaker.create_endpoint(EndpointName="shared", EndpointConfigName="shared")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="shared", WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})
    specification = {"Container": {"Image": server.image}, "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 512}}
    sagemaker.create_inference_component(
        InferenceComponentName="component", EndpointName="shared", VariantName="AllTraffic", Specification=specification,
        RuntimeConfig={"CopyCount": 1},
    )  # fmt: skip


def _transform(server: Server) -> None:
    source = _channel(server)["DataSource"]["S3DataSource"]
    server.client("sagemaker").create_transform_job(
        TransformJobName="finished", ModelName="model", TransformInput={"DataSource": {"S3DataSource": source}, "ContentType": "text/csv"},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/leaks/transformed"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )  # fmt: skip


def test_a_killed_server_brings_everything_back_with_an_honest_status(server: Server, until: Until) -> None:
    sagemaker = server.client("sagemaker")
    quick = {"Delay": 0.05, "MaxAttempts": 600}
    sagemaker.create_model(
        ModelName="model", PrimaryContainer={"Image": server.image}, ExecutionRoleArn=ROLE, Tags=[{"Key": "kept", "Value": "1"}]
    )
    variant = {"VariantName": "AllTraffic", "ModelName": "model", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="config", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="endpoint", EndpointConfigName="config")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="endpoint", WaiterConfig=quick)
    _component(server)
    group = sagemaker.create_model_package_group(ModelPackageGroupName="group")["ModelPackageGroupArn"]
    package = sagemaker.create_model_package(
        ModelPackageGroupName="group", ModelApprovalStatus="Approved", InferenceSpecification={"Containers": [{"Image": server.image}]}
    )["ModelPackageArn"]
    _transform(server)
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName="finished", WaiterConfig=quick)
    _train(server, "finished")
    _process(server, "finished")
    until(lambda: _training(server, "finished")["TrainingJobStatus"] == "Completed", "the finished training job")
    until(lambda: _processing(server, "finished")["ProcessingJobStatus"] == "Completed", "the finished processing job")
    _project(server)
    built = _build(server)
    until(lambda: _built(server, built)["buildComplete"], "the finished build")
    _train(server, "running", seconds="50")
    _process(server, "running", seconds=50)
    building = _build(server, seconds=50)
    quotas = server.client("service-quotas")
    quota = quotas.list_service_quotas(ServiceCode="sagemaker")["Quotas"][0]
    code = {"ServiceCode": "sagemaker", "QuotaCode": quota["QuotaCode"]}
    quotas.request_service_quota_increase(**code, DesiredValue=quota["Value"] + 5)
    server.client("dynamodb").put_item(TableName="mlcc-ci-table", Item={"configId": {"S": "c"}})
    launch._call(server.local.endpoint_url, "flush", {})
    family = server.process.children(recursive=True)
    assert family, "nothing ran"

    server.kill()

    assert [one for one in psutil.wait_procs(family, timeout=10)[1] if one.is_running()] == [], "a container outlived its server"
    sagemaker = server.client("sagemaker")
    assert sagemaker.list_tags(ResourceArn=sagemaker.describe_model(ModelName="model")["ModelArn"])["Tags"] == [
        {"Key": "kept", "Value": "1"}
    ]
    assert sagemaker.describe_endpoint_config(EndpointConfigName="config")["ProductionVariants"][0]["ModelName"] == "model"
    assert sagemaker.describe_model_package_group(ModelPackageGroupName="group")["ModelPackageGroupArn"] == group
    assert sagemaker.describe_model_package(ModelPackageName=package)["ModelApprovalStatus"] == "Approved"
    component = sagemaker.describe_inference_component(InferenceComponentName="component")
    assert (component["InferenceComponentStatus"], bool(component.get("FailureReason"))) == ("Failed", True)
    assert sagemaker.describe_transform_job(TransformJobName="finished")["TransformJobStatus"] == "Completed"
    endpoint = sagemaker.describe_endpoint(EndpointName="endpoint")
    assert (endpoint["EndpointStatus"], bool(endpoint.get("FailureReason"))) == ("Failed", True), "its container is gone, and it says so"
    assert _training(server, "finished")["TrainingJobStatus"] == "Completed"
    assert _processing(server, "finished")["ProcessingJobStatus"] == "Completed"
    assert (_training(server, "running")["TrainingJobStatus"], _processing(server, "running")["ProcessingJobStatus"]) == (
        "Failed",
        "Failed",
    )
    assert _training(server, "running")["FailureReason"]
    assert _built(server, built)["buildStatus"] == "SUCCEEDED"
    assert (_built(server, building)["buildComplete"], _built(server, building)["buildStatus"]) == (True, "FAULT")
    assert server.client("service-quotas").get_service_quota(**code)["Quota"]["Value"] == quota["Value"] + 5
    assert server.client("dynamodb").get_item(TableName="mlcc-ci-table", Key={"configId": {"S": "c"}})["Item"]
    assert server.client("ecr").describe_images(repositoryName="serve")["imageDetails"][0]["imageTags"] == ["v1"]
    assert server.client("s3").head_object(Bucket=BUCKET, Key="leaks/train/rows.txt")
    sagemaker.delete_endpoint(EndpointName="endpoint")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="endpoint", WaiterConfig=quick)
    left = held(server)
    assert (left.processes, left.temporary) == ([], [])
