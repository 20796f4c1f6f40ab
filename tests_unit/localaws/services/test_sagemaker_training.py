"""Fine-tuning jobs on the real engine, by real boto3 and by the sagemaker SDK's own trainer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"
HUB = "arn:aws:sagemaker:us-west-2:aws:hub-content/SageMakerPublicHub/Model"
MODEL = "huggingface-reasoning-qwen3-06b"
ROWS = [{"prompt": f"Key {number}?", "completion": f"Value {number * 7}"} for number in range(4)]
LOG_GROUP = "/aws/sagemaker/TrainingJobs"

_SFT = {"BaseModelArn": f"{HUB}/{MODEL}/1.0.0", "JobType": "FineTuning", "CustomizationTechnique": "SFT", "Peft": "LORA"}


class Tuning:
    """A bucket and group for jobs, and the shortest way to start one."""

    def __init__(self, local_aws: Any) -> None:
        self.aws = local_aws
        self.sagemaker, self.s3, self.logs = (local_aws.client(name) for name in ("sagemaker", "s3", "logs"))
        self.bucket = f"tune-{uuid.uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": local_aws.region})
        self.group = f"group-{uuid.uuid4().hex[:8]}"
        self.sagemaker.create_model_package_group(ModelPackageGroupName=self.group)

    def dataset(self, name: str, text: str) -> str:
        self.s3.put_object(Bucket=self.bucket, Key=f"{name}/train.jsonl", Body=text.encode())
        return f"s3://{self.bucket}/{name}/train.jsonl"

    def start(self, dataset: str = "", *, name: str = "", config: dict[str, Any] | None = None, **changes: Any) -> str:
        name = name or f"job-{uuid.uuid4().hex[:8]}"
        source = {"S3DataType": "S3Prefix", "S3Uri": dataset or self.rows()}
        request = {
            "TrainingJobName": name, "RoleArn": ROLE,
            "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
            "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/out/"},
            "ServerlessJobConfig": {**_SFT, **(config or {})},
            **changes,
        }  # fmt: skip
        self.sagemaker.create_training_job(**{key: value for key, value in request.items() if value is not None})
        return name

    def rows(self) -> str:
        return self.dataset("rows", "".join(json.dumps(row) + "\n" for row in ROWS))

    def describe(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.sagemaker.describe_training_job(TrainingJobName=name)
        return answer

    def until(self, name: str, done: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while not done(job := self.describe(name)):
            assert time.monotonic() < deadline, f"still {job['SecondaryStatus']}"
            time.sleep(0.03)
        return job

    def end(self, name: str) -> dict[str, Any]:
        return self.until(name, lambda job: job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"))

    def log(self, name: str) -> list[str]:
        streams = self.logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=name)["logStreams"]
        assert len(streams) == 1
        events = self.logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=streams[0]["logStreamName"], startFromHead=True)
        return [event["message"] for event in events["events"]]


@pytest.fixture(scope="module")
def tuning(local_aws: Any) -> Tuning:
    return Tuning(local_aws)


def test_a_job_trains_and_its_adapter_log_figures_and_package_are_where_aws_puts_them(tuning: Tuning) -> None:
    arn = tuning.sagemaker.describe_model_package_group(ModelPackageGroupName=tuning.group)["ModelPackageGroupArn"]
    name = tuning.start(ModelPackageConfig={"ModelPackageGroupArn": arn}, HyperParameters={"max_epochs": "1"})
    tuning.sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig={"Delay": 1})
    job = tuning.describe(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    artifacts = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert artifacts == f"s3://{tuning.bucket}/out/{name}/output/model"
    listed = tuning.s3.list_objects_v2(Bucket=tuning.bucket, Prefix=f"out/{name}/output/model/checkpoints/hf/")["Contents"]
    files = {item["Key"].rpartition("/")[2]: item["Size"] for item in listed}
    assert files.keys() >= {"adapter_config.json", "adapter_model.safetensors"}
    assert files["adapter_model.safetensors"] > 10_000
    steps = [transition["Status"] for transition in job["SecondaryStatusTransitions"]]
    assert steps == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all("EndTime" in transition for transition in job["SecondaryStatusTransitions"])
    assert job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"]
    assert job["BillableTimeInSeconds"] >= 1
    figures = {metric["MetricName"]: metric["Value"] for metric in job["FinalMetricDataList"]}
    assert figures["train_loss"] < figures["train_loss_first"]
    assert any("loss=" in line for line in tuning.log(name))
    packages = tuning.sagemaker.list_model_packages(ModelPackageGroupName=tuning.group)["ModelPackageSummaryList"]
    assert [package["ModelPackageArn"] for package in packages] == [job["OutputModelPackageArn"]]
    package = tuning.sagemaker.describe_model_package(ModelPackageName=job["OutputModelPackageArn"])
    container = package["InferenceSpecification"]["Containers"][0]
    assert container["ModelDataSource"]["S3DataSource"]["S3Uri"] == artifacts + "/"
    assert container["BaseModel"]["HubContentName"] == MODEL


def test_a_bad_row_fails_the_job_and_names_the_row(tuning: Tuning) -> None:
    rows = [json.dumps(ROWS[0]), '{"prompt": "no completion"}']
    job = tuning.end(tuning.start(tuning.dataset("bad", "\n".join(rows))))
    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ")
    assert "row 2" in job["FailureReason"]
    assert "ModelArtifacts" not in job or not job["ModelArtifacts"].get("S3ModelArtifacts")
    assert any("row 2" in line for line in tuning.log(job["TrainingJobName"]))


def test_data_that_is_not_there_is_refused_before_there_is_a_job(tuning: Tuning) -> None:
    """As on AWS, where nobody waits for a machine to hear it."""
    with pytest.raises(ClientError, match="No S3 objects found") as caught:
        tuning.start(f"s3://{tuning.bucket}/nowhere/")
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert f'that the role "{ROLE}" has "s3:ListBucket" permissions on bucket "{tuning.bucket}"' in str(caught.value)


def test_a_data_set_of_a_hub_is_what_a_job_trains_on(tuning: Tuning) -> None:
    """The SDK's trainers name data that was registered by its ARN, not by where it lies."""
    hub, rows = f"Hub-{uuid.uuid4().hex[:8]}", tuning.dataset("in-hub", json.dumps(ROWS[0]))
    tuning.sagemaker.create_hub(HubName=hub, HubDescription="ours")
    bucket, _, prefix = rows.removeprefix("s3://").partition("/")

    def arn(**document: str) -> str:
        asked = {"HubName": hub, "HubContentType": "DataSet", "HubContentName": "Rows", "DocumentSchemaVersion": "2.0.0"}
        return str(tuning.sagemaker.import_hub_content(**asked, HubContentDocument=json.dumps(document))["HubContentArn"])

    def channels(dataset: str) -> list[dict[str, Any]]:
        return [{"ChannelName": "train", "DataSource": {"DatasetSource": {"DatasetArn": dataset}}}]

    good, empty, absent = arn(DatasetS3Bucket=bucket, DatasetS3Prefix=prefix), arn(), arn(DatasetS3Bucket=bucket, DatasetS3Prefix="no/")
    job = tuning.end(tuning.start(InputDataConfig=channels(good), HyperParameters={"max_epochs": "1"}))
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["InputDataConfig"] == channels(good)
    for wrong, words in ((f"{good}1", "does not exist"), (empty, "must have DatasetS3Bucket"), (absent, "No S3 objects found")):
        with pytest.raises(ClientError, match=words) as caught:
            tuning.start(InputDataConfig=channels(wrong))
        assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_output_that_can_not_be_written_fails_the_job(tuning: Tuning) -> None:
    job = tuning.end(tuning.start(OutputDataConfig={"S3OutputPath": "s3://no-such-bucket-of-ours/out"}))
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Failed to upload model artifacts")


def test_a_running_job_can_be_stopped(tuning: Tuning) -> None:
    long = "".join(json.dumps({"prompt": f"Question {n} of many?", "completion": f"Answer {n * 37} " * 20}) + "\n" for n in range(64))
    name = tuning.start(tuning.dataset("long", long))
    tuning.until(name, lambda job: job["SecondaryStatus"] == "Training")
    tuning.sagemaker.stop_training_job(TrainingJobName=name)
    assert tuning.describe(name)["TrainingJobStatus"] in ("Stopping", "Stopped")
    job = tuning.end(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert [step["Status"] for step in job["SecondaryStatusTransitions"]][-2:] == ["Stopping", "Stopped"]
    with pytest.raises(ClientError, match="training job is in status Stopped"):
        tuning.sagemaker.stop_training_job(TrainingJobName=name)


def test_a_job_that_runs_out_of_its_time_is_stopped(tuning: Tuning) -> None:
    long = "".join(json.dumps({"prompt": f"Question {n} of many?", "completion": f"Answer {n * 37} " * 20}) + "\n" for n in range(64))
    name = tuning.start(tuning.dataset("longer", long), StoppingCondition={"MaxRuntimeInSeconds": 1})
    job = tuning.end(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


@pytest.mark.parametrize(
    ("config", "changes", "expected"),
    [
        ({"BaseModelArn": f"{HUB}/meta-textgeneration-llama-3-2-1b-instruct/1.0.0"}, {}, "EULA"),
        ({"BaseModelArn": f"{HUB}/no-such-model/1.0.0"}, {}, "no-such-model"),
        ({"CustomizationTechnique": "DPO"}, {}, "DPO"),
        ({"JobType": "Evaluation"}, {}, "Evaluation"),
        ({}, {"ServerlessJobConfig": None}, "One of [AlgorithmSpecification, ServerlessJobConfig]"),
        ({}, {"InputDataConfig": None}, "InputDataConfig"),
        (
            {},
            {"ModelPackageConfig": {"ModelPackageGroupArn": "arn:aws:sagemaker:us-west-2:123456789012:model-package-group/absent"}},
            "does not exist",
        ),
    ],
)
def test_what_can_not_be_trained_is_refused_before_anything_is_kept(
    tuning: Tuning, config: dict[str, Any], changes: dict[str, Any], expected: str
) -> None:
    name = f"refused-{uuid.uuid4().hex[:8]}"
    with pytest.raises(ClientError) as caught:
        tuning.start(name=name, config=config, **changes)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert expected in caught.value.response["Error"]["Message"]
    with pytest.raises(ClientError, match=r"Requested resource not found\."):
        tuning.describe(name)


def test_a_job_name_can_be_used_once(tuning: Tuning) -> None:
    name = tuning.start(tuning.dataset("once", "no row"))
    with pytest.raises(ClientError) as caught:
        tuning.start(name=name)
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
    tuning.end(name)


# The SDK builds some STS clients for AWS's own address; here they are sent to the local AWS.
_TRAIN = """
import os, sys
import botocore.session
make = botocore.session.Session.create_client
def create_client(self, *arguments, **options):
    options["endpoint_url"] = os.environ["AWS_ENDPOINT_URL"]
    return make(self, *arguments, **options)
botocore.session.Session.create_client = create_client
from sagemaker.train import SFTTrainer
from sagemaker.train.common import TrainingType
dataset, output, group, role, model = sys.argv[1:]
trainer = SFTTrainer(model=model, training_type=TrainingType.LORA, model_package_group=group, training_dataset=dataset,
                     s3_output_path=output, role=role, accept_eula=True)
job = trainer.train(wait=False)
print("JOB", job.training_job_name)
"""


def test_the_sdks_trainer_runs_unmodified(tuning: Tuning) -> None:
    """``SFTTrainer`` is how teams start these jobs; it asks a dozen things first, and each must be there."""
    environment = {
        **os.environ, "AWS_ENDPOINT_URL": tuning.aws.endpoint_url, "AWS_ACCESS_KEY_ID": tuning.aws.account,
        "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": tuning.aws.region, "AWS_REGION": tuning.aws.region,
    }  # fmt: skip
    model = "meta-textgeneration-llama-3-2-1b-instruct"
    arguments = [tuning.rows(), f"s3://{tuning.bucket}/sdk/", tuning.group, ROLE, model]
    run = subprocess.run(
        [sys.executable, "-c", _TRAIN, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    name = run.stdout.rpartition("JOB ")[2].strip()
    job = tuning.end(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["OutputModelPackageArn"].startswith(f"arn:aws:sagemaker:us-west-2:123456789012:model-package/{tuning.group}/")
    tags = tuning.sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
    assert {"Key": "sagemaker-studio:jumpstart-model-id", "Value": model} in tags or len(tags) >= 2
