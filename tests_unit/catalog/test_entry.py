"""What drivers and the plugin read from an entry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.catalog import Tier, Track, load


@pytest.mark.parametrize(
    ("stage", "seconds"), [("build", 1800), ("generate", 1800), ("tune-sft", 3600), ("test-adapter", 1800), ("clean", 300)]
)
def test_each_stage_has_its_own_time(entry: dict[str, Any], write: Callable[..., Path], stage: str, seconds: int) -> None:
    assert load(write(entry)).entries[0].stage_timeout(stage) == seconds


def test_a_tune_stage_without_tune_timeout_has_the_ordinary_time(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    del entry["tuneTimeout"]
    assert load(write(entry)).entries[0].stage_timeout("tune-sft") == 1800


def test_generate_is_implied_and_not_doubled(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    implied = load(write(entry)).entries[0]
    entry["lifecycle"].insert(0, "generate")
    written = load(write(entry)).entries[0]
    assert implied.steps == written.steps == ("generate", *implied.lifecycle)


def test_an_entry_carries_everything_a_driver_needs(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    found = load(write(entry)).entry("rt-qwen3-4b")
    assert (found.tier, found.track) == (Tier.CI, Track.REALTIME)
    assert (found.args.deployment_config, found.args.model_name) == ("transformers-vllm", "Qwen/Qwen3-4B")
    assert (found.args.instance_type, found.args.region) == ("ml.g5.xlarge", "us-west-2")
    assert (found.args.deployment_target, found.args.enable_lora) == ("managed-inference", True)
    assert found.args.raw == entry["args"]
    assert found.config_id == "94dd91353c8b20ca"
    assert found.tune is not None
    assert found.tune.dataset == "s3://mlcc-e2e-datasets/sft-small/train.jsonl"
    assert found.instance is not None
    assert (found.instance.total_gpu_memory_gb, found.instance.usd_per_hour) == (24, 1.21)
    assert found.model is not None
    assert found.model.techniques[found.tune.technique].dataset_schema.required == ("prompt", "completion")


def test_only_models_of_meta_want_a_licence_accepted(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    assert not load(write(entry)).entries[0].accept_eula
    entry["args"] = entry["args"].replace("Qwen/Qwen3-4B", "meta-llama/Llama-3.2-1B-Instruct")
    entry["tuneConfig"]["tuneId"] = "meta-textgeneration-llama-3-2-1b-instruct"
    assert load(write(entry)).entries[0].accept_eula


def test_a_gated_model_is_gated_without_being_tuned(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    entry["args"] = entry["args"].replace("Qwen/Qwen3-4B", "meta-llama/Llama-3.2-1B-Instruct")
    entry["lifecycle"] = ["build", "push", "deploy", "test", "clean"]
    del entry["tuneConfig"], entry["tuneTimeout"]
    assert load(write(entry)).entries[0].accept_eula
