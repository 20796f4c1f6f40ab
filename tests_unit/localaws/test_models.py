"""The table of models: a catalog entry and a training job must find the same model, whichever name they use."""

from __future__ import annotations

import pytest

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.models import MODELS, Family, find


def test_there_are_22_models_with_unique_names() -> None:
    names = [name for spec in MODELS for name in (spec.hf_id, spec.hub_name)]
    assert len(MODELS) == 22
    assert len(set(names)) == 44


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.hub_name)
def test_a_model_is_found_by_both_of_its_names(spec) -> None:
    assert find(spec.hf_id) is spec
    assert find(spec.hub_name) is spec


def test_every_family_is_used() -> None:
    assert {spec.family for spec in MODELS} == set(Family)


def test_exactly_metas_models_are_gated() -> None:
    assert {spec.hf_id for spec in MODELS if spec.gated} == {spec.hf_id for spec in MODELS if "meta-llama/" in spec.hf_id}


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("Qwen/Qwen3-4b", "Qwen/Qwen3-4B"),
        ("qwen3-4B", "Qwen/Qwen3-4B"),
        ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct"),
        ("huggingface-reasoning-qwen3-4", "huggingface-reasoning-qwen3-4b"),
    ],
)
def test_a_mistyped_model_is_answered_with_the_one_meant(typo: str, meant: str) -> None:
    with pytest.raises(LocalAwsError, match="Did you mean") as caught:
        find(typo)
    assert meant in str(caught.value)


def test_a_model_unlike_any_other_is_refused_without_a_guess() -> None:
    with pytest.raises(LocalAwsError, match="It knows 22 models"):
        find("zzz")
