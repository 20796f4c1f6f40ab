"""A record is found again only if everyone computes the same id."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_mlcc.catalog import config_id

QWEN = {
    "deployment_config": "transformers-vllm",
    "model_name": "Qwen/Qwen3-4B",
    "instance_type": "ml.g5.xlarge",
    "region": "us-west-2",
    "deployment_target": "managed-inference",
}
LLAMA = {**QWEN, "model_name": "meta-llama/Llama-2-7b-chat-hf", "region": "us-east-1"}


@pytest.mark.parametrize(("parts", "expected"), [(QWEN, "94dd91353c8b20ca"), (LLAMA, "27d99a90e91450da")])
def test_ids_agree_with_the_documented_inputs(parts: dict[str, Any], expected: str) -> None:
    assert config_id(**parts) == expected


def test_the_alias_of_managed_inference_is_the_same_configuration() -> None:
    assert config_id(**{**QWEN, "deployment_target": "realtime-inference"}) == config_id(**QWEN)


def test_other_targets_are_other_configurations() -> None:
    assert config_id(**{**QWEN, "deployment_target": "async-inference"}) != config_id(**QWEN)


@pytest.mark.parametrize("absent", [None, ""])
def test_a_configuration_without_a_model_hashes_none(absent: str | None) -> None:
    others = {name: part for name, part in QWEN.items() if name != "model_name"}
    assert config_id(**others, model_name=absent) == config_id(**others, model_name="none")
