"""A fault plan at work on real jobs: what is to fail at a step really stops there, and nothing of it is left."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config
from image_push import push_image

from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.rehearsal.scenario import read_scenario

ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"
BASE = "arn:aws:sagemaker:us-west-2:aws:hub-content/SageMakerPublicHub/Model/huggingface-reasoning-qwen3-06b/1.0.0"
DLC = "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.2.0-cpu-py310-ubuntu20.04-sagemaker"
PLAN = """
rules:
  - {operation: "sagemaker:CreateTrainingJob", resource: "full-*", fault: insufficient-instance-capacity}
  - {operation: "sagemaker:CreateTrainingJob", resource: "tuning-*", fault: job-fails, step: 4, message: "loss is nan"}
  - {operation: "sagemaker:CreateTrainingJob", resource: "image-*", fault: job-fails, step: 20}
  - {operation: "sagemaker:CreateProcessingJob", fault: insufficient-instance-capacity}
  - {operation: "sagemaker:CreateTransformJob", fault: stuck, seconds: 0.3}
"""
_STEPS = """\
#!/usr/bin/env python3
import time
for step in range(1, 10_000):
    print(f"step {step}", flush=True)
    time.sleep(0.02)
"""


class Faulty:
    """A local AWS that plays the plan, and clients of it."""

    def __init__(self, started: Any, project: Path, *, bucket: str = "faults") -> None:
        self.endpoint_url, self.account, self.region = started.endpoint_url, started.account, started.region
        self.jobs_dir = launch.local_dir(project) / "jobs"
        self.sagemaker, self.s3, self.logs = (self.client(name) for name in ("sagemaker", "s3", "logs"))
        if bucket:
            self.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": self.region})

    def client(self, service: str) -> Any:
        return boto3.client(
            service, region_name=self.region, endpoint_url=self.endpoint_url, aws_access_key_id=self.account,
            aws_secret_access_key="local", config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip

    def train(self, prefix: str, **how: Any) -> dict[str, Any]:
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        self.sagemaker.create_training_job(
            TrainingJobName=name, RoleArn=ROLE, OutputDataConfig={"S3OutputPath": "s3://faults/out"},
            StoppingCondition={"MaxRuntimeInSeconds": 60}, **how,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while (job := self.sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] not in ("Completed", "Failed"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return dict(job)

    def steps(self, name: str) -> list[int]:
        """The steps that the log tells."""
        streams = self.logs.describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=name)["logStreams"]
        stream = streams[0]["logStreamName"]
        events = self.logs.get_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=stream, startFromHead=True)["events"]
        return [int(match[1]) for event in events if (match := re.match(r"step (\d+)", event["message"]))]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    project = tmp_path_factory.mktemp("faults")
    plan = project / "plan.yaml"
    plan.write_text(PLAN)
    started = launch.ensure(project, rehearsal=read_scenario("instant", 1, plan), runtime="process")
    yield Faulty(started, project)
    assert launch.release(project, os.getpid())


def test_a_tuning_really_stops_at_the_step(faulty: Faulty) -> None:
    rows = "".join(json.dumps({"prompt": f"Question {n}?", "completion": f"Answer {n * 37} " * 20}) + "\n" for n in range(64))
    faulty.s3.put_object(Bucket="faults", Key="rows.jsonl", Body=rows.encode())
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://faults/rows.jsonl"}}
    job = faulty.train(
        "tuning", InputDataConfig=[{"ChannelName": "train", "DataSource": source}],
        ServerlessJobConfig={"BaseModelArn": BASE, "JobType": "FineTuning", "CustomizationTechnique": "SFT", "Peft": "LORA"},
    )  # fmt: skip
    assert job["FailureReason"] == "AlgorithmError: loss is nan, exit code: 1"
    steps = faulty.steps(job["TrainingJobName"])
    assert 4 <= max(steps) < 40  # a step takes some milliseconds, and it has to be noticed
    assert not list(faulty.jobs_dir.glob(f"*{job['TrainingJobName']}*"))


def test_an_image_really_stops_at_the_step_and_nothing_of_it_is_left(faulty: Faulty, tmp_path: Path) -> None:
    image = push_image(faulty, "steps", _STEPS, tmp_path / "files", command="train")
    mark = uuid.uuid4().hex
    job = faulty.train(
        "image", AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"}, Environment={"MARK": mark},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    )  # fmt: skip
    assert job["FailureReason"] == "AlgorithmError: The fault plan ended the job at step 20, exit code: 1"
    assert 20 <= max(faulty.steps(job["TrainingJobName"])) < 200
    assert not [one for one in psutil.process_iter(["environ"]) if (one.info["environ"] or {}).get("MARK") == mark]


def test_a_job_without_capacity_fails_before_it_starts(faulty: Faulty) -> None:
    job = faulty.train(
        "full", AlgorithmSpecification={"TrainingImage": DLC, "TrainingInputMode": "File"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    )  # fmt: skip
    assert job["FailureReason"].startswith("CapacityError: ")
    assert "TrainingStartTime" not in job


def test_jobs_of_a_server_that_was_killed_have_failed_and_their_processes_are_gone(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    started = launch.ensure(project, engine=False, runtime="process")
    first = Faulty(started, project)
    image, mark = push_image(first, "steps", _STEPS, tmp_path / "files", command="train"), uuid.uuid4().hex
    first.sagemaker.create_training_job(
        TrainingJobName="one", RoleArn=ROLE, OutputDataConfig={"S3OutputPath": "s3://faults/out"}, Environment={"MARK": mark},
        AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"}, StoppingCondition={"MaxRuntimeInSeconds": 60},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while not _marked(mark) or "one" not in _saved(project):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(started.pid, signal.SIGKILL)
    while _marked(mark):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    again = Faulty(launch.ensure(project, engine=False, runtime="process"), project, bucket="")
    job = again.sagemaker.describe_training_job(TrainingJobName="one")
    assert job["TrainingJobStatus"] == "Failed"
    assert "was stopped while the training job ran" in job["FailureReason"]
    assert launch.release(project, os.getpid())


def test_the_end_of_the_server_ends_jobs_that_do_not_want_to_stop(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    aws = Faulty(launch.ensure(project, engine=False, runtime="process"), project)
    mark = uuid.uuid4().hex
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1}
    stubborn = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]
    aws.sagemaker.create_processing_job(
        ProcessingJobName="stubborn", RoleArn=ROLE, AppSpecification={"ImageUri": DLC, "ContainerEntrypoint": stubborn},
        ProcessingResources={"ClusterConfig": cluster}, Environment={"MARK": mark},
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while not _marked(mark):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    aws.sagemaker.stop_processing_job(ProcessingJobName="stubborn")
    assert launch.release(project, os.getpid())
    assert not _marked(mark)
    assert not list(aws.jobs_dir.glob("*"))


def _marked(mark: str) -> bool:
    return any((one.info["environ"] or {}).get("MARK") == mark for one in psutil.process_iter(["environ"]))


def _saved(project: Path) -> dict[str, Any]:
    """The training jobs that the server has written to disk."""
    path = launch.local_dir(project) / "state" / "services" / "sagemaker.json"
    regions = json.loads(path.read_text())["regions"] if path.exists() else {}
    return dict(regions.get("us-west-2", {}).get("training-job", {}))


def test_processing_and_transform_jobs_meet_their_faults_too(faulty: Faulty) -> None:
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 1}
    faulty.sagemaker.create_processing_job(
        ProcessingJobName="one", RoleArn=ROLE, AppSpecification={"ImageUri": DLC},
        ProcessingResources={"ClusterConfig": {**resources, "VolumeSizeInGB": 1}},
    )  # fmt: skip
    faulty.sagemaker.create_model(ModelName="one", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": DLC})
    source = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://faults/in"}}}
    faulty.sagemaker.create_transform_job(
        TransformJobName="one", ModelName="one", TransformInput=source, TransformOutput={"S3OutputPath": "s3://faults/out"},
        TransformResources=resources,
    )  # fmt: skip
    assert faulty.sagemaker.describe_transform_job(TransformJobName="one")["TransformJobStatus"] == "InProgress"
    deadline = time.monotonic() + 20
    while (stuck := faulty.sagemaker.describe_transform_job(TransformJobName="one"))["TransformJobStatus"] == "InProgress":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    processed = faulty.sagemaker.describe_processing_job(ProcessingJobName="one")
    assert processed["FailureReason"].startswith("CapacityError: ")
    assert (stuck["TransformJobStatus"], "TransformStartTime" in stuck) == ("Failed", False)


def test_the_server_ends_although_a_helper_of_it_does_not(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    started = launch.ensure(project, engine=False, runtime="process")
    aws = Faulty(started, project)
    aws.sagemaker.create_processing_job(
        ProcessingJobName="short", RoleArn=ROLE, AppSpecification={"ImageUri": DLC, "ContainerEntrypoint": ["/bin/true"]},
        ProcessingResources={"ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}},
    )  # fmt: skip
    helpers: list[psutil.Process] = []
    deadline = time.monotonic() + 20
    while not helpers:
        assert time.monotonic() < deadline
        ours = [one for one in psutil.process_iter(["ppid", "cmdline"]) if one.info["ppid"] == started.pid]
        helpers = [one for one in ours if "warden_child" in " ".join(one.info["cmdline"] or ())]
    helpers[0].suspend()
    try:
        assert launch.release(project, os.getpid())
    finally:
        helpers[0].resume()
    helpers[0].wait(10)
