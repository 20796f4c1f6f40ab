"""Training jobs with an image of one's own: the documented ``/opt/ml``, data and models in S3, stops, failures and limits."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError
from image_push import push_image

ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"
MODEL = "arn:aws:sagemaker:us-west-2:aws:hub-content/SageMakerPublicHub/Model/huggingface-reasoning-qwen3-06b/1.0.0"
DLC = "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.2.0-cpu-py310-ubuntu20.04-sagemaker"
LOG_GROUP = "/aws/sagemaker/TrainingJobs"

# An algorithm that does what its hyperparameters say, and leaves what it saw in its model.
_ALGORITHM = """\
#!/usr/bin/env python3
import json, os, pathlib, signal, sys, time
ml = pathlib.Path("/opt/ml")
asked = json.loads((ml / "input/config/hyperparameters.json").read_text())
print("arguments", sys.argv[1:], flush=True)
def stop(*_):
    (ml / "model/stopped").write_text("in time")
    sys.exit(0)
if asked.get("stop") == "well":
    signal.signal(signal.SIGTERM, stop)
seen = {
    "files": sorted(str(path.relative_to(ml)) for path in ml.rglob("*") if path.is_file()),
    "environment": {name: value for name, value in os.environ.items() if name.startswith(("SM_", "TRAINING_", "MINE"))},
    "config": {path.stem: json.loads(path.read_text()) for path in (ml / "input/config").iterdir()},
    "directories": sorted(path.name for path in ml.iterdir()),
}
(ml / "model/seen.json").write_text(json.dumps(seen))
os.symlink("/etc/passwd", ml / "model/outside")
for epoch in range(int(asked.get("epochs", "3"))):
    print("epoch %d; train loss=%.3f; broken=none" % (epoch, 1 / (epoch + 1)), flush=True)
(ml / "checkpoints/state").write_text(((ml / "checkpoints/state").read_text() if (ml / "checkpoints/state").exists() else "") + "x")
if "output" in asked:
    (ml / "output/data/report.txt").write_text(asked["output"])
if "failure" in asked:
    (ml / "output/failure").write_text(asked["failure"])
for step in range(1, 1 + int(asked.get("steps", "0"))):
    print("step %d" % step, flush=True)
    time.sleep(0.02)
time.sleep(float(asked.get("seconds", "0")))
sys.exit(int(asked.get("exit", "0")))
"""


class Training:
    """A bucket, an image, and the shortest way to a job."""

    def __init__(self, aws: Any, directory: Path) -> None:
        self.aws = aws
        self.sagemaker, self.s3, self.logs = (aws.client(name) for name in ("sagemaker", "s3", "logs"))
        self.bucket = f"train-{uuid.uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": aws.region})
        self.image = push_image(aws, f"algorithm-{uuid.uuid4().hex[:6]}", _ALGORITHM, directory / "files", command="train")

    def put(self, key: str, body: str) -> str:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body.encode())
        return f"s3://{self.bucket}/{key}"

    def channel(self, uri: str, name: str = "train", **source: str) -> dict[str, Any]:
        return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri, **source}}}

    def start(self, *, name: str = "", hosts: int = 1, algorithm: dict[str, Any] | None = None, **changes: Any) -> str:
        name = name or f"job-{uuid.uuid4().hex[:8]}"
        request = {
            "TrainingJobName": name, "RoleArn": ROLE,
            "AlgorithmSpecification": {"TrainingImage": self.image, "TrainingInputMode": "File", **(algorithm or {})},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": hosts, "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/out"},
            **changes,
        }  # fmt: skip
        self.sagemaker.create_training_job(**request)
        return name

    def describe(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.sagemaker.describe_training_job(TrainingJobName=name)
        return answer

    def until(self, name: str, done: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 40
        while not done(job := self.describe(name)):
            assert time.monotonic() < deadline, f"still {job['SecondaryStatus']}"
            time.sleep(0.03)
        return job

    def end(self, name: str) -> dict[str, Any]:
        return self.until(name, lambda job: job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"))

    def complete(self, **request: Any) -> dict[str, Any]:
        job = self.end(self.start(**request))
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        return job

    def archive(self, uri: str) -> dict[str, bytes]:
        body = self.s3.get_object(Bucket=self.bucket, Key=uri.removeprefix(f"s3://{self.bucket}/"))["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            return {member.name: file.read() for member in archive if (file := archive.extractfile(member))}

    def seen(self, job: Mapping[str, Any]) -> dict[str, Any]:
        seen: dict[str, Any] = json.loads(self.archive(job["ModelArtifacts"]["S3ModelArtifacts"])["seen.json"])
        return seen

    def keys(self, prefix: str) -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return [item["Key"].removeprefix(prefix) for item in listed]


@pytest.fixture(scope="module")
def training(local_aws: Any, tmp_path_factory: pytest.TempPathFactory) -> Training:
    return Training(local_aws, tmp_path_factory.mktemp("algorithm"))


def test_an_algorithm_finds_the_documented_files_and_variables_and_its_model_is_kept(training: Training) -> None:
    data = training.put("data/one.csv", "1").removesuffix("one.csv")
    training.put("data/deep/two.csv", "2")
    job = training.complete(
        InputDataConfig=[training.channel(data), training.channel(f"{data}one.csv", "eval")],
        HyperParameters={"learning-rate": "0.1", "output": "fine"}, Environment={"MINE": "yes"},
        algorithm={"MetricDefinitions": [{"Name": "loss", "Regex": r"loss=([0-9.]+)"}, {"Name": "broken", "Regex": r"broken=(\w+)"}]},
    )  # fmt: skip
    name, seen = job["TrainingJobName"], training.seen(job)
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{training.bucket}/out/{name}/output/model.tar.gz"
    assert {"input/data/train/one.csv", "input/data/train/deep/two.csv", "input/data/eval/one.csv"} <= set(seen["files"])
    assert seen["directories"] == ["checkpoints", "code", "input", "model", "output"]
    assert seen["config"]["inputdataconfig"]["train"] == {
        "TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None",
    }  # fmt: skip
    assert seen["config"]["resourceconfig"]["hosts"] == ["algo-1"]
    environment = seen["environment"]
    assert environment["TRAINING_JOB_NAME"] == name
    assert environment["TRAINING_JOB_ARN"] == job["TrainingJobArn"]
    assert environment["MINE"] == "yes"
    assert environment["SM_CHANNEL_TRAIN"] == "/opt/ml/input/data/train"
    assert json.loads(environment["SM_CHANNELS"]) == ["eval", "train"]
    assert json.loads(environment["SM_HPS"])["learning-rate"] == 0.1
    assert environment["SM_HP_LEARNING_RATE"] == "0.1"
    assert json.loads(environment["SM_TRAINING_ENV"])["channel_input_dirs"]["eval"] == "/opt/ml/input/data/eval"
    assert "outside" not in training.archive(job["ModelArtifacts"]["S3ModelArtifacts"])
    assert training.archive(f"s3://{training.bucket}/out/{name}/output/output.tar.gz") == {"report.txt": b"fine"}
    assert {one["MetricName"]: one["Value"] for one in job["FinalMetricDataList"]} == {"loss": pytest.approx(0.333)}
    assert job["BillableTimeInSeconds"] == job["TrainingTimeInSeconds"] >= 1
    stages = [step["Status"] for step in job["SecondaryStatusTransitions"]]
    assert stages == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    streams = training.logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{name}/algo-1-")["logStreams"]
    events = training.logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=streams[0]["logStreamName"])["events"]
    assert events[0]["message"] == "arguments ['train']"
    assert not [path for path in (training.aws.state_dir / "jobs").iterdir() if name in path.name]


def test_models_can_be_kept_as_files(training: Training) -> None:
    job = training.complete(OutputDataConfig={"S3OutputPath": f"s3://{training.bucket}/files/", "CompressionType": "NONE"})
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{training.bucket}/files/{job['TrainingJobName']}/output/model/"
    assert training.keys(f"files/{job['TrainingJobName']}/output/") == ["model/seen.json"]


def test_the_exit_code_and_the_failure_file_are_the_failure_reason(training: Training) -> None:
    with_file = training.end(training.start(HyperParameters={"exit": "3", "failure": "no more data"}))
    assert (with_file["TrainingJobStatus"], with_file["FailureReason"]) == ("Failed", "AlgorithmError: no more data, exit code: 3")
    assert training.end(training.start(HyperParameters={"exit": "4"}))["FailureReason"] == "AlgorithmError: , exit code: 4"
    long = training.end(training.start(HyperParameters={"exit": "5", "failure": "x" * 2400}))["FailureReason"]
    assert len(long) == 1024
    assert long.endswith("x, exit code: 5")


def test_hosts_share_the_data_that_is_sharded(training: Training) -> None:
    for number in range(3):
        training.put(f"shards/{number}", str(number))
    channels = [
        training.channel(f"s3://{training.bucket}/shards/", S3DataDistributionType="ShardedByS3Key"),
        training.channel(f"s3://{training.bucket}/shards/", "all"),
    ]
    job = training.complete(hosts=2, InputDataConfig=channels)
    seen = training.seen(job)
    assert [name for name in seen["files"] if name.startswith("input/data/train/")] == ["input/data/train/0", "input/data/train/2"]
    assert len([name for name in seen["files"] if name.startswith("input/data/all/")]) == 3
    assert json.loads(seen["environment"]["SM_HOSTS"]) == ["algo-1", "algo-2"]
    streams = training.logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=job["TrainingJobName"])["logStreams"]
    assert len(streams) == 2


def test_a_manifest_names_the_files(training: Training) -> None:
    training.put("many/a", "a")
    training.put("many/b/c", "c")
    training.put("many/d", "d")
    manifest = training.put("manifest.json", json.dumps([{"prefix": f"s3://{training.bucket}/many/"}, "a", "b/c"]))
    seen = training.seen(training.complete(InputDataConfig=[training.channel(manifest, S3DataType="ManifestFile")]))
    assert [name for name in seen["files"] if name.startswith("input/data/")] == ["input/data/train/a", "input/data/train/b/c"]


def test_checkpoints_outlive_the_job_and_are_there_for_the_next(training: Training) -> None:
    config = {"S3Uri": f"s3://{training.bucket}/checkpoints"}
    for expected in (b"x", b"xx"):
        training.complete(CheckpointConfig=config)
        assert training.s3.get_object(Bucket=training.bucket, Key="checkpoints/state")["Body"].read() == expected


def test_a_stopped_job_has_time_to_save_its_model(training: Training) -> None:
    name = training.start(HyperParameters={"seconds": "60", "stop": "well"})
    training.until(name, lambda job: job["SecondaryStatus"] == "Training")
    stream = training.until(name, lambda _: bool(_log_lines(training, name)))
    assert stream["TrainingJobStatus"] == "InProgress"
    training.sagemaker.stop_training_job(TrainingJobName=name)
    training.sagemaker.stop_training_job(TrainingJobName=name)  # by somebody else, too
    job = training.end(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    told = [transition["Status"] for transition in job["SecondaryStatusTransitions"]]
    assert told == ["Starting", "Downloading", "Training", "Stopping", "Stopped"]
    assert training.archive(job["ModelArtifacts"]["S3ModelArtifacts"])["stopped"] == b"in time"
    assert not [one for one in psutil.process_iter(["environ"]) if (one.info["environ"] or {}).get("TRAINING_JOB_NAME") == name]


def _log_lines(training: Training, name: str) -> list[str]:
    streams = training.logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=name)["logStreams"]
    return [stream["logStreamName"] for stream in streams]


def test_a_job_that_runs_out_of_its_time_is_stopped(training: Training) -> None:
    job = training.end(training.start(HyperParameters={"seconds": "60"}, StoppingCondition={"MaxRuntimeInSeconds": 1}))
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("{image}9", "Cannot find the requested image: {image}9 "),
        ("{host}/absent:v1", "Cannot find repository: absent in registry ID: 123456789012 Please check if your ECR repository exists"),
        ("docker.io/library/python:3.12", "Invalid training image. Please provide a valid Amazon Elastic Container Registry path"),
    ],
)
def test_an_image_that_is_not_there_is_refused_before_there_is_a_job(training: Training, image: str, words: str) -> None:
    names = {"image": training.image, "host": training.image.partition("/")[0]}
    with pytest.raises(ClientError) as caught:
        training.start(algorithm={"TrainingImage": image.format(**names)})
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert words.format(**names) in caught.value.response["Error"]["Message"]


def test_an_image_that_can_not_be_pulled_fails_the_job(training: Training) -> None:
    """One of another account: that it is not there shows only when it is pulled."""
    job = training.end(training.start(algorithm={"TrainingImage": "111122223333.dkr.ecr.us-west-2.amazonaws.com/absent:v9"}))
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: ")
    assert ":v9" in job["FailureReason"]


def test_an_entry_point_of_the_request_replaces_the_images(training: Training) -> None:
    command = {"ContainerEntrypoint": ["/bin/bash", "-c"], "ContainerArguments": ["echo hello > /opt/ml/model/said"]}
    job = training.complete(algorithm=command)
    assert training.archive(job["ModelArtifacts"]["S3ModelArtifacts"]) == {"said": b"hello\n"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"algorithm": {"TrainingInputMode": "Pipe"}, "InputDataConfig": [{}]}, "Pipe mode"),
        ({"InputDataConfig": [{}, {}]}, "unique"),
        ({"InputDataConfig": [{"ChannelName": ".."}]}, "Invalid channel name"),
        ({"algorithm": {"MetricDefinitions": [{"Name": "loss", "Regex": "("}]}}, "not a regular expression"),
        ({"CheckpointConfig": {"S3Uri": "s3://bucket/x", "LocalPath": "/opt/ml/../../etc"}}, "must begin with /opt/ml/"),
        ({"EnableManagedSpotTraining": True}, "MaxWaitTimeInSeconds"),
        ({"ServerlessJobConfig": {"BaseModelArn": MODEL, "JobType": "FineTuning"}}, "Only one of"),
    ],
)
def test_what_can_not_be_run_is_refused_before_anything_is_kept(training: Training, changes: dict[str, Any], expected: str) -> None:
    channels = [{**training.channel(f"s3://{training.bucket}/data/"), **each} for each in changes.get("InputDataConfig", [])]
    name = f"refused-{uuid.uuid4().hex[:8]}"
    with pytest.raises(ClientError, match=expected) as caught:
        training.start(name=name, **{**changes, **({"InputDataConfig": channels} if channels else {})})
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    with pytest.raises(ClientError, match=r"Requested resource not found\."):
        training.describe(name)


def test_a_job_can_be_changed_while_it_runs_and_deleted_when_it_has_ended(training: Training) -> None:
    name = training.start(HyperParameters={"seconds": "60"})
    training.sagemaker.update_training_job(TrainingJobName=name, ProfilerConfig={"DisableProfiler": True})
    assert training.describe(name)["ProfilerConfig"] == {"DisableProfiler": True}
    with pytest.raises(ClientError) as caught:
        training.sagemaker.delete_training_job(TrainingJobName=name)
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
    training.until(name, lambda job: job["SecondaryStatus"] == "Training")
    training.sagemaker.stop_training_job(TrainingJobName=name)
    training.end(name)
    with pytest.raises(ClientError, match="must be InProgress"):
        training.sagemaker.update_training_job(TrainingJobName=name, ProfilerConfig={"DisableProfiler": False})
    training.sagemaker.delete_training_job(TrainingJobName=name)
    with pytest.raises(ClientError, match=r"Requested resource not found\."):
        training.describe(name)


def test_instances_beyond_the_accounts_quota_are_refused_in_awss_words(training: Training) -> None:
    with pytest.raises(ClientError, match=r"'ml\.m5\.large for training job usage' is \d+ Instances, with current") as caught:
        training.start(hosts=5000)
    assert caught.value.response["Error"]["Code"] == "ResourceLimitExceeded"
    with pytest.raises(ClientError, match=r"'ml\.m5\.large for spot training job usage' is \d+ Instances, with current"):
        training.start(
            hosts=5000, EnableManagedSpotTraining=True, StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}
        )


# The SDK builds some STS clients for AWS's own address; here they are sent to the local AWS.
_TRAIN = """
import os, sys
import botocore.session
make = botocore.session.Session.create_client
def create_client(self, *arguments, **options):
    options["endpoint_url"] = os.environ["AWS_ENDPOINT_URL"]
    return make(self, *arguments, **options)
botocore.session.Session.create_client = create_client
from sagemaker.core.resources import TrainingJob
wait = TrainingJob.wait
TrainingJob.wait = lambda self, **options: wait(self, **{**options, "poll": 1})  # 5 seconds on AWS
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, OutputDataConfig, SourceCode
image, role, source, data, output = sys.argv[1:]
trainer = ModelTrainer(
    training_image=image, role=role, base_job_name="sdk", hyperparameters={"epochs": 2},
    source_code=SourceCode(source_dir=source, entry_script="fit.py"),
    compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=10),
    output_data_config=OutputDataConfig(s3_output_path=output),
)
trainer.train(input_data_config=[InputData(channel_name="train", data_source=data)], wait=True)
job = trainer._latest_training_job
print("ENDED", job.training_job_status, job.model_artifacts.s3_model_artifacts)
"""


def test_the_sdks_model_trainer_runs_a_script_and_waits_for_it(training: Training, tmp_path: Path) -> None:
    """``ModelTrainer`` sends its own drivers along and starts them by absolute paths below /opt/ml, mostly in an image of AWS's."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "fit.py").write_text(
        "import os, sys\n"
        "data = open(os.environ['SM_CHANNEL_TRAIN'] + '/one').read()\n"
        "open('/opt/ml/model/fitted', 'w').write(data + ' '.join(sys.argv[1:]))\n"
    )
    data = training.put("sdk/one", "data ")
    environment = {
        **os.environ, "AWS_ENDPOINT_URL": training.aws.endpoint_url, "AWS_ACCESS_KEY_ID": training.aws.account,
        "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": training.aws.region, "AWS_REGION": training.aws.region,
    }  # fmt: skip
    arguments = [DLC, ROLE, str(source), data, f"s3://{training.bucket}/sdk-out"]
    run = subprocess.run(
        [sys.executable, "-c", _TRAIN, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    status, _, model = run.stdout.rpartition("ENDED ")[2].strip().partition(" ")
    assert status == "Completed"
    assert training.archive(model) == {"fitted": b"data --epochs 2"}
