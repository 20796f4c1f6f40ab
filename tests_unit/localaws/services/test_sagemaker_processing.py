"""Processing jobs: commands over data in S3, with the paths and files that the documents promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from image_push import push_image

ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"
LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
DLC = "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.2.0-cpu-py310-ubuntu20.04-sagemaker"

_PROCESS = """\
#!/usr/bin/env python3
import json, os, pathlib, shutil, sys
ml = pathlib.Path("/opt/ml")
config = {path.stem: json.loads(path.read_text()) for path in (ml / "config").iterdir()}
(ml / "output/message").write_text("processed " + " ".join(sys.argv[1:]))
out = ml / "processing/out"
(out / "seen.json").write_text(json.dumps({"config": config, "mine": os.environ.get("MINE")}))
for path in sorted((ml / "processing/in").rglob("*")):
    if path.is_file():
        shutil.copy(path, out / path.name)
print("done", flush=True)
sys.exit(int(os.environ.get("EXIT", "0")))
"""


class Processing:
    """A bucket, an image, and the shortest way to a job."""

    def __init__(self, aws: Any, directory: Path) -> None:
        self.aws = aws
        self.sagemaker, self.s3, self.logs = (aws.client(name) for name in ("sagemaker", "s3", "logs"))
        self.bucket = f"process-{uuid.uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": aws.region})
        self.image = push_image(aws, f"process-{uuid.uuid4().hex[:6]}", _PROCESS, directory / "files", command="process")

    def put(self, key: str, body: str) -> str:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body.encode())
        return f"s3://{self.bucket}/{key}"

    def source(self, uri: str) -> dict[str, Any]:
        where = {"S3Uri": uri, "LocalPath": "/opt/ml/processing/in", "S3DataType": "S3Prefix", "S3InputMode": "File"}
        return {"InputName": "data", "S3Input": where}

    def output(self, prefix: str, *, mode: str = "EndOfJob") -> dict[str, Any]:
        where = {"S3Uri": f"s3://{self.bucket}/{prefix}", "LocalPath": "/opt/ml/processing/out", "S3UploadMode": mode}
        return {"Outputs": [{"OutputName": "out", "S3Output": where}]}

    def start(self, app: dict[str, Any] | None = None, *, name: str = "", hosts: int = 1, **changes: Any) -> str:
        name = name or f"job-{uuid.uuid4().hex[:8]}"
        cluster = {"InstanceCount": hosts, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
        request = {
            "ProcessingJobName": name, "RoleArn": ROLE, "ProcessingResources": {"ClusterConfig": cluster},
            "AppSpecification": app or {"ImageUri": self.image}, **changes,
        }  # fmt: skip
        self.sagemaker.create_processing_job(**request)
        return name

    def shell(self, script: str, **changes: Any) -> str:
        return self.start({"ImageUri": self.image, "ContainerEntrypoint": ["/bin/sh", "-c", script]}, **changes)

    def describe(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.sagemaker.describe_processing_job(ProcessingJobName=name)
        return answer

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 40
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.03)

    def end(self, name: str) -> dict[str, Any]:
        self.until(lambda: self.describe(name)["ProcessingJobStatus"] in ("Completed", "Failed", "Stopped"))
        return self.describe(name)

    def content(self, prefix: str) -> Mapping[str, bytes]:
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        keys = [item["Key"] for item in listed]
        return {key.removeprefix(prefix): self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}


@pytest.fixture(scope="module")
def processing(local_aws: Any, tmp_path_factory: pytest.TempPathFactory) -> Processing:
    return Processing(local_aws, tmp_path_factory.mktemp("process"))


def test_a_job_reads_and_writes_where_it_was_told_and_says_what_it_has_to_say(processing: Processing) -> None:
    uri = processing.put("in/a.txt", "a").removesuffix("a.txt")
    processing.put("in/deep/b.txt", "b")
    name = processing.start(
        {"ImageUri": processing.image, "ContainerArguments": ["--fast", "yes"]}, ProcessingInputs=[processing.source(uri)],
        ProcessingOutputConfig=processing.output("out/one"), Environment={"MINE": "yes"},
    )  # fmt: skip
    processing.sagemaker.get_waiter("processing_job_completed_or_stopped").wait(ProcessingJobName=name, WaiterConfig={"Delay": 1})
    job = processing.describe(name)
    assert job["ProcessingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["ExitMessage"] == "processed --fast yes"
    assert job["ProcessingStartTime"] <= job["ProcessingEndTime"]
    content = processing.content("out/one/")
    assert (content["a.txt"], content["b.txt"]) == (b"a", b"b")
    seen = json.loads(content["seen.json"])
    assert seen["mine"] == "yes"
    assert seen["config"]["resourceconfig"] == {"current_host": "algo-1", "hosts": ["algo-1"]}
    assert seen["config"]["processingjobconfig"]["ProcessingJobArn"] == job["ProcessingJobArn"]
    streams = processing.logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{name}/algo-1-")["logStreams"]
    events = processing.logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=streams[0]["logStreamName"])["events"]
    assert [event["message"] for event in events] == ["done"]


def test_a_deep_learning_container_of_awss_runs_its_command_here(processing: Processing) -> None:
    """As adapters are staged: a script from S3 by the AWS CLI, run in AWS's own image, which nobody can fetch here."""
    script = processing.put("stage/entrypoint.sh", "#!/bin/bash\nset -e\ncp -r /opt/ml/processing/in/. /opt/ml/processing/out/\n")
    uri = processing.put("tuned/adapter.bin", "weights").removesuffix("adapter.bin")
    copy = f"/tmp/entrypoint-{uuid.uuid4()}.sh"
    command = f"aws s3 cp {script} {copy} && chmod +x {copy} && {copy}"
    name = processing.start(
        {"ImageUri": DLC, "ContainerEntrypoint": ["bash", "-c", command]}, ProcessingInputs=[processing.source(uri)],
        ProcessingOutputConfig=processing.output("adapters/one/"),
    )  # fmt: skip
    job = processing.end(name)
    assert job["ProcessingJobStatus"] == "Completed", job.get("FailureReason")
    assert processing.content("adapters/one/") == {"adapter.bin": b"weights"}
    assert not Path(copy).exists()  # the job has a /tmp of its own


def test_a_failed_command_keeps_its_message_and_uploads_nothing(processing: Processing) -> None:
    name = processing.start(Environment={"EXIT": "7"}, ProcessingOutputConfig=processing.output("out/failed"))
    job = processing.end(name)
    assert (job["ProcessingJobStatus"], job["FailureReason"]) == ("Failed", "AlgorithmError: , exit code: 7")
    assert job["ExitMessage"] == "processed "
    assert not processing.content("out/failed/")


def test_outputs_can_be_uploaded_while_the_job_runs_and_a_job_can_be_stopped(processing: Processing) -> None:
    name = processing.shell(
        "echo early > /opt/ml/processing/out/file; exec sleep 60", ProcessingOutputConfig=processing.output("steady/", mode="Continuous")
    )
    processing.until(lambda: processing.content("steady/") == {"file": b"early\n"})
    assert processing.describe(name)["ProcessingJobStatus"] == "InProgress"
    processing.sagemaker.stop_processing_job(ProcessingJobName=name)
    assert processing.describe(name)["ProcessingJobStatus"] in ("Stopping", "Stopped")
    assert processing.end(name)["ProcessingJobStatus"] == "Stopped"
    with pytest.raises(ClientError, match="processing job is in status Stopped"):
        processing.sagemaker.stop_processing_job(ProcessingJobName=name)
    processing.sagemaker.delete_processing_job(ProcessingJobName=name)
    with pytest.raises(ClientError, match="Could not find requested job with name"):
        processing.describe(name)


def test_a_job_that_runs_out_of_its_time_is_stopped(processing: Processing) -> None:
    job = processing.end(processing.shell("exec sleep 60", StoppingCondition={"MaxRuntimeInSeconds": 1}))
    assert job["ProcessingJobStatus"] == "Stopped"


def test_links_out_of_the_output_are_not_followed(processing: Processing) -> None:
    script = "cd /opt/ml/processing/out; echo ok > file; ln -s file same; ln -s /etc/passwd outside; ln -s /etc folder; mkfifo pipe"
    job = processing.end(processing.shell(script, ProcessingOutputConfig=processing.output("links/")))
    assert job["ProcessingJobStatus"] == "Completed", job.get("FailureReason")
    assert processing.content("links/") == {"file": b"ok\n", "same": b"ok\n"}


def test_data_that_is_not_there_is_named_in_awss_words(processing: Processing) -> None:
    job = processing.end(processing.start(ProcessingInputs=[processing.source(f"s3://{processing.bucket}/nowhere/")]))
    assert job["FailureReason"].startswith('ClientError: Failed to download data. No S3 objects found under S3 URL "s3://')


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"LocalPath": "/etc"}, "must begin with /opt/ml/processing/"),
        ({"LocalPath": "/opt/ml/processing/../../../etc"}, "must begin with /opt/ml/processing/"),
        ({"LocalPath": None}, "LocalPath is required"),
        ({"S3InputMode": "Pipe"}, "Pipe mode"),
        ({"S3CompressionType": "Gzip"}, "must be None"),
    ],
)
def test_what_can_not_be_run_is_refused(processing: Processing, change: dict[str, Any], expected: str) -> None:
    source = processing.source(f"s3://{processing.bucket}/in/")
    source["S3Input"] = {key: value for key, value in {**source["S3Input"], **change}.items() if value is not None}
    with pytest.raises(ClientError, match=expected) as caught:
        processing.start(ProcessingInputs=[source])
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_an_image_that_is_not_in_ecr_is_refused(processing: Processing) -> None:
    with pytest.raises(ClientError, match=r"Invalid image URI python:3\.12\. Please provide a valid Amazon Elastic Container Registry"):
        processing.start({"ImageUri": "python:3.12"})


def test_names_are_used_once_and_jobs_are_listed(processing: Processing) -> None:
    name = processing.shell("true")
    with pytest.raises(ClientError) as caught:
        processing.shell("true", name=name)
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
    processing.end(name)
    listed = processing.sagemaker.list_processing_jobs(NameContains=name, StatusEquals="Completed")["ProcessingJobSummaries"]
    assert [row["ProcessingJobName"] for row in listed] == [name]


_CORE = """
import sys
from sagemaker.core.resources import ProcessingJob
from sagemaker.core.shapes import AppSpecification, ProcessingClusterConfig, ProcessingResources
name, image, role = sys.argv[1:]
job = ProcessingJob.create(
    processing_job_name=name, role_arn=role,
    app_specification=AppSpecification(
        image_uri=image, container_entrypoint=["/bin/sh", "-c", "echo processed > /opt/ml/output/message"]),
    processing_resources=ProcessingResources(
        cluster_config=ProcessingClusterConfig(instance_count=1, instance_type="ml.m5.large", volume_size_in_gb=5)),
)
job.wait(poll=1)
print("ENDED", job.processing_job_status, job.exit_message)
assert any(each.processing_job_name == name for each in ProcessingJob.get_all(name_contains=name))
"""


def test_the_sdks_resource_of_a_processing_job_works_unmodified(processing: Processing) -> None:
    environment = {
        **os.environ, "AWS_ENDPOINT_URL": processing.aws.endpoint_url, "AWS_ACCESS_KEY_ID": processing.aws.account,
        "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": processing.aws.region, "AWS_REGION": processing.aws.region,
    }  # fmt: skip
    arguments = [f"core-{uuid.uuid4().hex[:8]}", processing.image, ROLE]
    run = subprocess.run(
        [sys.executable, "-c", _CORE, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert "ENDED Completed processed" in run.stdout
