"""The shipped catalog says what the golden path is; a slip in it costs GPU hours."""

from __future__ import annotations

from collections import Counter

import pytest

from pytest_mlcc.catalog import Catalog, Technique, Tier, TrainingType, load, packaged_catalog


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load(packaged_catalog())


def test_every_id_is_there(catalog: Catalog) -> None:
    ids = (
        "rt-qwen3-06b rt-qwen3-17b rt-qwen3-4b rt-qwen3-8b rt-qwen25-7b rt-llama-32-1b rt-llama-32-3b rt-llama-31-8b "
        "rt-dsr1-qwen-15b rt-dsr1-qwen-7b rt-dsr1-llama-8b "
        "rt-qwen3-14b rt-qwen25-14b rt-dsr1-qwen-14b rt-gpt-oss-20b rt-qwen3-32b rt-qwen25-32b rt-dsr1-qwen-32b "
        "rt-qwen25-72b rt-llama-33-70b rt-dsr1-llama-70b rt-gpt-oss-120b"
    )
    assert [entry.id for entry in catalog.entries] == ids.split()


def test_instances_and_times_follow_the_tier(catalog: Catalog) -> None:
    instances = Counter((entry.tier, entry.args.instance_type) for entry in catalog.entries)
    assert instances == {
        (Tier.CI, "ml.g5.xlarge"): 11,
        (Tier.NIGHTLY, "ml.g5.2xlarge"): 3,
        (Tier.NIGHTLY, "ml.g5.12xlarge"): 4,
        (Tier.WEEKLY, "ml.g5.48xlarge"): 4,
    }
    times = {(entry.tier, entry.timeout, entry.tune_timeout, entry.tune and entry.tune.dataset) for entry in catalog.entries}
    assert times == {
        (Tier.CI, 1800, 3600, "s3://mlcc-e2e-datasets/sft-small/train.jsonl"),
        (Tier.NIGHTLY, 2700, 5400, "s3://mlcc-e2e-datasets/sft-medium/train.jsonl"),
        (Tier.WEEKLY, 3600, 10800, "s3://mlcc-e2e-datasets/sft-large/train.jsonl"),
    }


def test_every_entry_goes_the_whole_way_in_the_same_region(catalog: Catalog) -> None:
    whole = ("build", "push", "deploy", "test", "tune-sft", "adapter-add", "test-adapter", "clean")
    assert {entry.lifecycle for entry in catalog.entries} == {whole}
    assert {(entry.args.deployment_config, entry.args.region) for entry in catalog.entries} == {("transformers-vllm", "us-west-2")}


def test_every_entry_is_a_configuration_of_its_own(catalog: Catalog) -> None:
    assert len({entry.config_id for entry in catalog.entries}) == 22


def test_every_model_can_be_tuned_in_four_ways_by_lora_only(catalog: Catalog) -> None:
    assert len(catalog.tune_models) == 22
    for model in catalog.tune_models.values():
        assert set(model.techniques) == set(Technique)
        assert {support.training_types for support in model.techniques.values()} == {(TrainingType.LORA,)}
        assert model.eula is (model.provider == "meta")


def test_datasets_have_the_columns_that_the_service_wants(catalog: Catalog) -> None:
    techniques = catalog.tune_models["huggingface-reasoning-qwen3-4b"].techniques
    columns = {name: support.dataset_schema.types for name, support in techniques.items()}
    assert columns == {
        "sft": {"prompt": "string", "completion": "string"},
        "dpo": {"prompt": "string", "chosen": "string", "rejected": "string"},
        "rlaif": {"prompt": "array"},
        "rlvr": {"prompt": "array"},
    }


def test_the_instances_in_use_have_a_price_with_day_and_source(catalog: Catalog) -> None:
    prices = {entry.args.instance_type: entry.instance and entry.instance.usd_per_hour for entry in catalog.entries}
    assert prices == {"ml.g5.xlarge": 1.21, "ml.g5.2xlarge": 1.52, "ml.g5.12xlarge": 7.09, "ml.g5.48xlarge": 20.09}
    known = [instance.price for instance in catalog.instances.values() if instance.price]
    assert all(price.as_of.isoformat() == "2026-11-20" and price.source for price in known)


@pytest.mark.parametrize("name", ["ml.m5.large", "ml.g4dn.xlarge", "ml.g6e.xlarge"])
def test_an_unknown_price_stays_unknown(catalog: Catalog, name: str) -> None:
    assert catalog.instances[name].usd_per_hour is None


def test_the_fifteen_deployment_configurations_are_there(catalog: Catalog) -> None:
    families = Counter(config.family for config in catalog.deployment_configs.values())
    assert families == {"transformers": 5, "http": 3, "triton": 4, "diffusors": 3}
    refused = {name for name, config in catalog.deployment_configs.items() if not config.accepted_by_generator}
    assert refused == {"http-nginx", "triton-onnx", "triton-tensorrt", "diffusors-vllm", "diffusors-sglang", "diffusors-comfyui"}


def test_models_that_will_not_fit_are_said_so(catalog: Catalog) -> None:
    too_large = {warning.entry for warning in catalog.warnings if "do not fit" in warning.message}
    assert too_large == {"rt-qwen3-14b", "rt-qwen25-14b", "rt-dsr1-qwen-14b"}
