"""One model through its whole life on the real local AWS, and what happens when one thing at a time is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_mlcc.errors import FailureClass, StageError, StageTimeout
from pytest_mlcc.lifecycle.failures import classify

DIALLED: list[str] = []
SERVING = ("generate", "build", "push", "deploy", "test")


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        DIALLED.append(str(arguments[0]))
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        DIALLED.append(str(arguments[1][0]))


@pytest.fixture(scope="module")
def watched() -> Iterator[list[str]]:
    """Every host that this process asks for or dials, from before the SDK is imported."""
    sys.addaudithook(_record)
    yield DIALLED
    assert set(DIALLED) == {"127.0.0.1"}


@pytest.fixture(scope="module")
def unannounced(lives: Any) -> list[str]:
    """Create calls that went out before their resource stood in a ledger. Filled by a listener on every client."""
    found: list[str] = []
    kinds = {
        "CreateEndpointConfig": ("endpoint-config", "EndpointConfigName"), "CreateEndpoint": ("endpoint", "EndpointName"),
        "CreateInferenceComponent": ("inference-component", "InferenceComponentName"),
        "CreateTrainingJob": ("training-job", "TrainingJobName"),
        "CreateModelPackageGroup": ("model-package-group", "ModelPackageGroupName"),
        "PutImage": ("image", "imageTag"), "StartBuild": ("codebuild-build", ""), "PutObject": ("s3-prefix", "Key"),
    }  # fmt: skip

    def check(params: dict[str, Any], model: Any, **_more: Any) -> None:
        if model.name not in kinds or params.get("Bucket") == "mlcc-e2e-datasets":  # the tests' own
            return
        kind, key = kinds[model.name]
        tags = {one["value"] for one in params.get("environmentVariablesOverride", []) if one["name"] == "IMAGE_TAG"}
        name = f"s3://{params['Bucket']}/{params['Key']}" if kind == "s3-prefix" else params[key] if key else tags.pop()
        named = [one.name for ledger in lives.ledgers() for one in ledger.open() if one.kind == kind]
        if not any(name.startswith(one) if kind == "s3-prefix" else one.endswith(name) for one in named):
            found.append(f"{model.name} {name}")

    lives.aws.session().events.register_last("before-parameter-build.*.*", check)
    return found


@pytest.fixture(scope="module")
def served(lives: Any, watched: list[str], unannounced: list[str]) -> Iterator[Any]:
    """A model that is served, for the tests that go on from there; afterwards nothing of it may be left."""
    life = lives.begin()
    life.go(*SERVING)
    yield life
    assert life.clean() == ()
    assert life.clean() == ()
    assert life.alive() == []
    assert unannounced == []


@pytest.fixture(scope="module")
def tuned(served: Any) -> Any:
    served.go("tune-sft")
    return served


def test_the_image_is_served_by_its_digest(served: Any) -> None:
    image = served.facts["push"]["image"]
    assert image.endswith("@" + served.facts["build"]["digest"])
    component = served.aws.client("sagemaker").describe_inference_component(InferenceComponentName=served.facts["deploy"]["component"])
    assert component["Specification"]["Container"]["DeployedImage"]["SpecifiedImage"] == image
    assert component["InferenceComponentStatus"] == "InService"
    assert served.facts["test"]["answer"].strip()


def test_everything_is_tagged_with_run_entry_owner_and_expiry(served: Any) -> None:
    sagemaker = served.aws.client("sagemaker")
    names = {"run": served.run.run_id, "entry": served.entry.id, "owner": "tests"}
    for arn in (
        sagemaker.describe_endpoint(EndpointName=served.facts["deploy"]["endpoint"])["EndpointArn"],
        sagemaker.describe_endpoint_config(EndpointConfigName=served.facts["deploy"]["endpoint_config"])["EndpointConfigArn"],
        sagemaker.describe_inference_component(InferenceComponentName=served.facts["deploy"]["component"])["InferenceComponentArn"],
    ):
        tags = {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]}
        assert {key: tags[f"mlcc:{key}"] for key in names} == names
        assert tags["mlcc:expires"].endswith("Z")


def test_a_training_job_is_tagged_and_ends_by_itself(tuned: Any) -> None:
    """If this machine is lost, the reaper finds it by its tags, and nobody pays for the day that AWS would let it run."""
    sagemaker = tuned.aws.client("sagemaker")
    job = sagemaker.describe_training_job(TrainingJobName=tuned.facts["tune-sft"]["job"])
    assert job["StoppingCondition"]["MaxRuntimeInSeconds"] == 60  # the stage's own time
    group = sagemaker.describe_model_package_group(ModelPackageGroupName=tuned.facts["tune-sft"]["model_package_group"])
    for arn in (job["TrainingJobArn"], group["ModelPackageGroupArn"]):
        tags = {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]}
        assert tags["mlcc:run"] == tuned.run.run_id
        assert tags["mlcc:expires"].endswith("Z")


def test_a_question_to_base_and_adapter_is_one_call(tuned: Any) -> None:
    life = tuned
    life.go("adapter-add", "test-adapter")
    figures = life.facts["test-adapter"]
    assert figures["rows"] == 16
    assert figures["adapter_exact"] >= 14
    assert figures["base_exact"] == 0
    assert figures["adapter_loss"] < 0.5 < figures["base_loss"]
    row = json.loads(_dataset(life).splitlines()[0])
    prompt = row["prompt"] if "prompt" in row else row["messages"][0]["content"]
    plain, taught = life.driver.ask(prompt, life.context()), life.driver.ask(prompt, life.context(), adapter=True)
    assert plain.text != taught.text
    assert taught.completion_tokens > 0


def test_an_adapter_that_changes_nothing_is_a_failure(tuned: Any, lives: Any) -> None:
    """Its second half zeroed, an adapter loads and serves, and adds exactly nothing."""
    numpy, safetensors = pytest.importorskip("numpy"), pytest.importorskip("safetensors.numpy")
    life = lives.begin(facts=tuned.facts)
    s3, (bucket, _, prefix) = life.aws.client("s3"), tuned.facts["tune-sft"]["artifacts"].removeprefix("s3://").partition("/")
    for item in s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/checkpoints/hf/")["Contents"]:
        body = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
        if item["Key"].endswith(".safetensors"):
            tensors = safetensors.load(body)
            body = safetensors.save({name: numpy.zeros_like(value) if "lora_B" in name else value for name, value in tensors.items()})
        life.aws.client("s3").put_object(
            Bucket="mlcc-e2e-datasets", Key=f"nothing/checkpoints/hf/{item['Key'].rpartition('/')[2]}", Body=body
        )
    life.facts["tune-sft"] = {**tuned.facts["tune-sft"], "artifacts": "s3://mlcc-e2e-datasets/nothing"}
    life.go("adapter-add")
    with pytest.raises(StageError, match=r"the adapter changes nothing: of 16 taught answers the adapter gives 0"):
        life.go("test-adapter")
    assert life.clean() == ()
    assert life.alive() == []


def test_a_bad_row_of_the_dataset_is_named(served: Any, lives: Any) -> None:
    good = json.dumps({"prompt": "a", "completion": "b"})
    s3 = lives.aws.client("s3")
    s3.put_object(Bucket="mlcc-e2e-datasets", Key="bad/train.jsonl", Body=f'{good}\n{good}\n{{"prompt": "only"}}\n'.encode())
    life = lives.begin(dataset="s3://mlcc-e2e-datasets/bad/train.jsonl")
    with pytest.raises(StageError, match=r"(?i)training job .* Failed: .*(row|line) 3") as caught:
        life.go("tune-sft")
    assert caught.value.failure_class is None
    assert life.clean() == ()
    assert life.alive() == []


def test_a_build_that_fails_tells_its_phase_and_its_log(served: Any, lives: Any) -> None:
    life = lives.begin()
    life.go("generate")
    (life.folder / "project" / "serve").unlink()
    with pytest.raises(StageError, match=r"build .* FAILED: phase BUILD FAILED: .*docker build") as caught:
        life.go("build")
    assert "COPY" in caught.value.output
    assert "serve" in caught.value.output
    assert life.clean() == ()
    assert life.alive() == []


def test_a_container_that_exits_fails_the_deployment_with_its_last_words(served: Any, lives: Any) -> None:
    life = lives.begin(model="nobody/no-such-model")
    life.go("generate", "build", "push")
    with pytest.raises(StageError, match=r"inference component .*-base Failed: .*") as caught:
        life.go("deploy")
    assert "no-such-model" in f"{caught.value}{caught.value.output}"
    assert not isinstance(caught.value, StageTimeout)
    assert life.clean() == ()
    assert life.alive() == []


def test_a_stage_that_runs_out_of_time_says_what_it_waited_for(served: Any, lives: Any) -> None:
    life = lives.begin(facts=served.facts)
    with pytest.raises(StageTimeout, match=r"timed out after 0.001 s waiting for inference component .*; last seen: Creating") as caught:
        life.go("deploy", seconds=0.001)
    assert classify(caught.value) is FailureClass.TIMEOUT
    assert life.clean() == ()
    assert life.alive() == []


def test_a_build_that_is_given_up_is_stopped_and_leaves_no_image(served: Any, lives: Any) -> None:
    life = lives.begin()
    life.go("generate")
    with pytest.raises(StageTimeout, match="waiting for build"):
        life.go("build", seconds=0.001)
    assert life.clean() == ()
    assert life.alive() == []
    codebuild = life.aws.client("codebuild")
    newest = codebuild.list_builds_for_project(projectName="ml-container-creator-build")["ids"][:1]
    assert codebuild.batch_get_builds(ids=newest)["builds"][0]["buildStatus"] == "STOPPED"


def test_a_tuning_that_is_given_up_is_stopped(served: Any, lives: Any) -> None:
    life = lives.begin()
    with pytest.raises(StageTimeout, match=r"waiting for training job .*; last seen: InProgress"):
        life.go("tune-sft", seconds=0.001)
    assert life.clean() == ()
    assert life.alive() == []
    jobs = life.aws.client("sagemaker").list_training_jobs(NameContains=life.run.run_id.lower())["TrainingJobSummaries"]
    assert [job["TrainingJobStatus"] for job in jobs] == ["Stopped"]


def test_a_gated_model_is_not_tuned_without_its_licence_accepted(served: Any, lives: Any) -> None:
    life = lives.begin(next(one for one in lives.ids if "llama" in one))
    with pytest.raises(StageError, match=r"(?i)EULA"):
        life.go("tune-sft")
    assert not [line for line in life.lines if "training job" in line]
    assert life.clean() == ()


def test_a_technique_that_is_not_there_says_so(served: Any, lives: Any) -> None:
    life = lives.begin()
    with pytest.raises(StageError, match="fine-tunes with sft only") as caught:
        life.go("tune-dpo")
    assert caught.value.failure_class is FailureClass.SERVICE_LIMITATION
    with pytest.raises(StageError, match="does not do the stage 'benchmark'; it does generate, build"):
        life.go("benchmark")


def test_a_dry_run_names_every_call_and_makes_none(served: Any, lives: Any) -> None:
    life = lives.begin()
    steps = {stage: life.driver.steps(stage, life.entry, life.run) for stage in life.entry.steps}
    assert "sagemaker:CreateEndpoint" in [step.call for step in steps["deploy"]]
    assert life.entry.args.instance_type in steps["deploy"][0].detail
    assert all(step.call and step.detail for found in steps.values() for step in found)
    assert life.alive() == []


CHILD = """
import json, sys
dialled = []
where = {"socket.getaddrinfo": 0, "socket.connect": 1}
def record(event, arguments):
    if event in where:
        dialled.append(arguments[0] if event == "socket.getaddrinfo" else arguments[1][0])
sys.addaudithook(record)
from sagemaker.train import SFTTrainer
group, dataset, output = sys.argv[1:]
trainer = SFTTrainer(model="huggingface-reasoning-qwen3-06b", model_package_group=group, training_dataset=dataset, s3_output_path=output,
                     role="arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role")
job = trainer.train(wait=False)
job.stop()
print(json.dumps([job.training_job_name, sorted(set(map(str, dialled)))]))
"""


def test_the_sdk_in_a_child_talks_to_the_local_aws_alone(tuned: Any) -> None:
    """A user's own script under a pinned run: SFTTrainer with its explicit STS clients and its telemetry."""
    group, output = (
        tuned.facts["tune-sft"]["model_package_group"],
        f"s3://mlcc-artifacts-123456789012-us-west-2/{tuned.run.run_id}/{tuned.entry.id}/",
    )
    command = [sys.executable, "-c", CHILD, group, tuned.entry.tune.dataset, output]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    job, hosts = json.loads(done.stdout.splitlines()[-1])
    assert hosts == ["127.0.0.1"]
    assert tuned.aws.client("sagemaker").describe_training_job(TrainingJobName=job)["TrainingJobStatus"] in (
        "Stopping",
        "Stopped",
        "Completed",
    )


def _dataset(life: Any) -> str:
    bucket, _, key = life.entry.tune.dataset.removeprefix("s3://").partition("/")
    return str(life.aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())
