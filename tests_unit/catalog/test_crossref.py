"""Warnings about what will surely hurt on AWS, though no rule forbids it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.catalog import check, packaged_catalog


def deployed(entry: dict[str, Any], model: str, instance: str, server: str = "transformers-vllm") -> dict[str, Any]:
    entry["args"] = entry["args"].replace("Qwen/Qwen3-4B", model).replace("ml.g5.xlarge", instance).replace("transformers-vllm", server)
    entry["lifecycle"] = ["build", "push", "deploy", "test", "clean"]
    del entry["tuneConfig"], entry["tuneTimeout"]
    return entry


@pytest.mark.parametrize(
    ("model", "instance", "message"),
    [
        ("Qwen/Qwen3-8B", "ml.g5.xlarge", "16.4 GB of weights leave little of the 24 GB of GPU memory of ml.g5.xlarge"),
        ("Qwen/Qwen3-14B", "ml.g5.2xlarge", "29.5 GB of weights do not fit into the 24 GB of GPU memory of ml.g5.2xlarge"),
    ],
)
def test_a_model_too_large_for_its_gpus_is_a_warning_only(
    entry: dict[str, Any], write: Callable[..., Path], model: str, instance: str, message: str
) -> None:
    result = check(write(deployed(entry, model, instance)))
    assert result.mistakes == ()
    assert [warning.message for warning in result.warnings] == [message]


@pytest.mark.parametrize("model", ["Qwen/Qwen3-4B", "my-team/a-model-of-unknown-size"])
def test_a_model_that_fits_or_is_unknown_is_not_warned_about(entry: dict[str, Any], write: Callable[..., Path], model: str) -> None:
    assert check(write(deployed(entry, model, "ml.g5.xlarge"))).warnings == ()


def test_a_gpu_server_on_a_cpu_instance_is_a_warning(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    result = check(write(deployed(entry, "Qwen/Qwen3-4B", "ml.m5.large")))
    assert [warning.message for warning in result.warnings] == ["transformers-vllm needs a GPU; ml.m5.large has none"]


def test_a_server_that_the_generator_refuses_is_a_warning(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    result = check(write(deployed(entry, "Qwen/Qwen3-4B", "ml.g5.xlarge", "diffusors-vllm")))
    assert [warning.message for warning in result.warnings] == ["ml-container-creator refuses to generate diffusors-vllm"]


def test_a_technique_that_the_model_lacks_is_a_mistake(entry: dict[str, Any], write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(entry)
    tune = (packaged_catalog().parent / "tune.json").read_text()
    (tmp_path / "tune.json").write_text(_without_sft(tune))
    (mistake,) = check(path).mistakes
    assert mistake.message == "huggingface-reasoning-qwen3-4b cannot be tuned by sft"
    assert mistake.hint == "one of: dpo, rlaif, rlvr"


def _without_sft(text: str) -> str:
    document = json.loads(text)
    del document["models"]["huggingface-reasoning-qwen3-4b"]["techniques"]["sft"]
    return json.dumps(document)
