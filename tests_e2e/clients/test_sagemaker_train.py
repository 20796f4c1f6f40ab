"""``sagemaker.train`` as it comes: fine-tuning without a script, and a script on an image; both waited for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest

CLIENT = "sagemaker.train"
MODEL = "huggingface-reasoning-qwen3-06b"

pytestmark = pytest.mark.filterwarnings("ignore")  # the SDK warns of itself while it is imported

SCRIPT = """
import json, os, pathlib
asked = json.loads(os.environ["SM_HPS"])
rows = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"], "rows.txt").read_text().split()
print(f"epochs={asked['epochs']} rows={len(rows)} instance={os.environ['SM_CURRENT_INSTANCE_TYPE']}", flush=True)
pathlib.Path(os.environ["SM_MODEL_DIR"], "sum.json").write_text(json.dumps(sum(map(int, rows))))
"""


@pytest.fixture(scope="module")
def session(account: Any) -> Any:
    """The SDK's session, made as a user's notebook makes it."""
    from sagemaker.core.helper.session_helper import Session

    return Session()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK leaves files in the working and the temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_fine_tuning_is_started_and_waited_for(session: Any, account: Any, name: str) -> None:
    from sagemaker.train import SFTTrainer
    from sagemaker.train.common import TrainingType

    rows = [{"prompt": f"Key {number}?", "completion": f"Value {number * 7}"} for number in range(4)]
    group = name
    boto3.client("sagemaker").create_model_package_group(ModelPackageGroupName=group)
    trainer = SFTTrainer(
        model=MODEL, training_type=TrainingType.LORA, model_package_group=group, role=account.role, sagemaker_session=session,
        training_dataset=account.put(f"{name}/rows/train.jsonl", "".join(json.dumps(row) + "\n" for row in rows)),
        s3_output_path=f"s3://{account.bucket}/{name}/", accept_eula=True, base_job_name=name,
    )  # fmt: skip
    job = trainer.train(wait=True, poll=1, wait_timeout=120)
    found = boto3.client("sagemaker").describe_training_job(TrainingJobName=job.training_job_name)
    assert found["TrainingJobStatus"] == "Completed"
    assert all(one["Value"] > 0 for one in found["FinalMetricDataList"])
    assert found["FinalMetricDataList"]
    packages = boto3.client("sagemaker").list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
    assert len(packages) == 1


def test_fine_tuning_reads_a_data_set_that_was_registered(session: Any, account: Any, name: str, tmp_path: Path) -> None:
    """From a local file, and again as the second version of the data set; the trainer names it by its ARN."""
    from sagemaker.ai_registry.dataset import DataSet
    from sagemaker.train import SFTTrainer
    from sagemaker.train.common import TrainingType

    session.default_bucket()  # the SDK uploads to it, and makes it only so
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"Key {number}?", "completion": f"Value {number}"}) + "\n" for number in range(4)))
    dataset = DataSet.create(name=name, source=str(rows), role=account.role, sagemaker_session=session)
    assert (dataset.version, dataset.status) == ("1.0.0", "Available")
    again = DataSet.create(name=name, source=str(rows), role=account.role, sagemaker_session=session)
    assert [version.version for version in again.get_versions()] == ["2.0.0", "1.0.0"]
    boto3.client("sagemaker").create_model_package_group(ModelPackageGroupName=name)
    trainer = SFTTrainer(
        model=MODEL, training_type=TrainingType.LORA, model_package_group=name, role=account.role, sagemaker_session=session,
        training_dataset=again, s3_output_path=f"s3://{account.bucket}/{name}/", accept_eula=True, base_job_name=name,
    )  # fmt: skip
    job = trainer.train(wait=True, poll=1, wait_timeout=120)
    found = boto3.client("sagemaker").describe_training_job(TrainingJobName=job.training_job_name)
    assert found["TrainingJobStatus"] == "Completed"
    assert found["InputDataConfig"][0]["DataSource"] == {"DatasetSource": {"DatasetArn": again.arn}}
    assert DataSet.get(name, sagemaker_session=session).arn == again.arn
    assert again.delete()
    assert name not in [each.name for each in DataSet.get_all(sagemaker_session=session)]


def test_a_script_runs_on_an_image_and_is_waited_for(session: Any, account: Any, name: str, tmp_path: Path) -> None:
    from sagemaker.core.training.configs import Compute, InputData, SourceCode, StoppingCondition
    from sagemaker.train import ModelTrainer

    source = tmp_path / "source"
    source.mkdir()
    (source / "train.py").write_text(SCRIPT)
    trainer = ModelTrainer(
        sagemaker_session=session, role=account.role, training_image=account.image, base_job_name=name,
        source_code=SourceCode(source_dir=str(source), entry_script="train.py"), hyperparameters={"epochs": 3},
        compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=1),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=60),
    )  # fmt: skip
    data = InputData(channel_name="train", data_source=account.put(f"{name}/data/rows.txt", "1\n2\n3\n"))
    trainer.train(input_data_config=[data], wait=True, logs=True)
    job = trainer._latest_training_job.refresh()
    assert job.training_job_status == "Completed"
    events = boto3.client("logs").filter_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=job.training_job_name)[
        "events"
    ]
    assert "epochs=3 rows=3 instance=ml.m5.large" in [event["message"].strip() for event in events]


def test_a_script_that_fails_raises_with_its_exit_code(session: Any, account: Any, name: str, tmp_path: Path) -> None:
    from sagemaker.core.training.configs import Compute, SourceCode
    from sagemaker.core.utils.exceptions import FailedStatusError
    from sagemaker.train import ModelTrainer

    source = tmp_path / "source"
    source.mkdir()
    (source / "train.py").write_text("raise SystemExit(7)\n")
    trainer = ModelTrainer(
        sagemaker_session=session, role=account.role, training_image=account.image, base_job_name=name,
        source_code=SourceCode(source_dir=str(source), entry_script="train.py"),
        compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=1),
    )  # fmt: skip
    with pytest.raises(FailedStatusError, match=r"[Ee]xit code|ExitCode|ExecuteUserScriptError"):
        trainer.train(wait=True, logs=False)
