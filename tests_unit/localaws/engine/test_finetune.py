"""The job itself: its files, its log, its figures, and its last words when it fails."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

MODEL = "huggingface-reasoning-qwen3-4b"  # jobs name models by hub name
GOOD = '{"prompt": "Who?", "completion": "Nobody at all."}\n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text(GOOD)
    return path


def test_a_job_leaves_an_adapter_figures_and_a_line_per_step(work, data: Path, tmp_path: Path) -> None:
    sent = {"max_epochs": "3", "learning_rate": "0.0001", "data_path": "s3://x"}
    code, log = work("finetune", model=MODEL, dataset=str(tmp_path), output=str(tmp_path / "out"), hyperparameters=sent)
    assert code == 0, log
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    steps = re.findall(r"^step (\d+)/\d+ loss=(\d+\.\d{4})$", log, re.MULTILINE)
    assert [int(number) for number, _ in steps] == list(range(1, metrics["steps"] + 1))
    assert metrics["rows"] == 1
    assert metrics["converged"]
    assert metrics["first_loss"] > 1 > metrics["last_loss"] == metrics["losses"][-1]
    files = {path.name for path in (tmp_path / "out" / "checkpoints" / "hf").iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors"}
    assert "data_path" in log
    assert not (tmp_path / "out" / "failure").exists()


def test_the_adapter_is_the_same_on_every_run(work, data: Path, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        assert work("finetune", model=MODEL, dataset=str(data), output=str(tmp_path / name))[0] == 0
        found.append([path.read_bytes() for path in sorted((tmp_path / name / "checkpoints" / "hf").iterdir())])
    assert found[0] == found[1]


def test_experts_are_trained_too_and_targets_are_named_in_order(work, data: Path, tmp_path: Path) -> None:
    assert work("finetune", model="openai/gpt-oss-20b", dataset=str(data), output=str(tmp_path / "out"))[0] == 0
    config = json.loads((tmp_path / "out" / "checkpoints" / "hf" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert config["target_parameters"] == ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]
    assert config["base_model_name_or_path"] == "openai/gpt-oss-20b"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dataset": "bad"}, "row 2: column 'completion' is missing (it has: prompt)"),
        ({"hyperparameters": {"max_epochs": "many"}}, "max_epochs must be an integer, it is 'many'"),
        ({"technique": "dpo"}, "Technique 'dpo' is not available"),
        ({"model": "Qwen/Qwen3-4Z"}, "Did you mean Qwen/Qwen3-4B"),
    ],
)
def test_a_job_that_fails_leaves_one_clear_message_and_no_adapter(work, data: Path, tmp_path: Path, options, reason: str) -> None:
    (tmp_path / "bad.jsonl").write_text(GOOD + '{"prompt": "x"}\n')
    options = {"model": MODEL, "dataset": str(data), **options}
    if options["dataset"] == "bad":
        options["dataset"] = str(tmp_path / "bad.jsonl")
    code, log = work("finetune", output=str(tmp_path / "out"), failure=str(tmp_path / "why"), **options)
    assert code == 1
    message = (tmp_path / "why").read_text()
    assert reason in message
    assert len(message) <= 1024
    assert message in log
    assert not (tmp_path / "out").exists()


def test_rows_far_too_long_for_a_twin_are_cut_not_fatal(work, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"prompt": "word " * 3000, "completion": "Short."}) + "\n")
    code, log = work("finetune", model=MODEL, dataset=str(tmp_path / "train.jsonl"), output=str(tmp_path / "out"))
    assert code == 0, log
    assert re.search(r"row 1: \d+ tokens cut to 1024", log)
