"""The generator's flags, as people write them."""

from __future__ import annotations

import pytest

from pytest_mlcc.catalog import Args
from pytest_mlcc.errors import CatalogError

BASE = "--deployment-config=http-flask --instance-type=ml.m5.large --region=us-west-2 --deployment-target=realtime-inference"


def test_values_may_follow_a_space_or_an_equals_sign() -> None:
    spaced = Args.parse(BASE.replace("=", " ") + " --model-name Qwen/Qwen3-4B --enable-lora")
    assert (spaced.region, spaced.model_name, spaced.enable_lora) == ("us-west-2", "Qwen/Qwen3-4B", True)


def test_a_switch_does_not_swallow_the_next_flag() -> None:
    assert Args.parse("--enable-lora " + BASE).deployment_config == "http-flask"


@pytest.mark.parametrize(("switch", "on"), [("--enable-lora", True), ("--enable-lora=true", True), ("--enable-lora false", False)])
def test_a_switch_can_be_turned_off(switch: str, on: bool) -> None:
    assert Args.parse(f"{BASE} {switch}").enable_lora is on


def test_quotes_keep_a_value_together() -> None:
    assert Args.parse(f"{BASE} --model-name='my model'").model_name == "my model"


def test_repeatable_flags_are_all_kept() -> None:
    flags = Args.parse(f"{BASE} --model-env=A=1 --model-env=B=2").flags
    assert [value for name, value in flags.pairs if name == "model-env"] == ["A=1", "B=2"]


def test_the_alias_of_the_target_is_read_under_its_own_name() -> None:
    assert Args.parse(BASE).deployment_target == "managed-inference"


@pytest.mark.parametrize(
    ("more", "message", "hint"),
    [
        ("--instanse-type=x", 'unknown flag "--instanse-type"', 'did you mean "--instance-type"?'),
        ("stray", '"stray" belongs to no flag', "--name=value"),
        ("--region=us-east-1", "--region is given twice", "keep one"),
        ("--model-name", "--model-name has no value", "--model-name=<value>"),
        ("--model-name=", "--model-name has no value", "--model-name=<value>"),
        ("--enable-lora=yes", '--enable-lora is a switch, not "yes"', "alone"),
        ("--model-name='x", "cannot be split into flags: No closing quotation", "pairs"),
    ],
)
def test_mistakes_are_answered(more: str, message: str, hint: str) -> None:
    with pytest.raises(CatalogError) as caught:
        Args.parse(f"{BASE} {more}")
    (problem,) = caught.value.problems
    assert problem.message == message
    assert hint in problem.hint


def test_every_missing_flag_is_named_at_once() -> None:
    with pytest.raises(CatalogError) as caught:
        Args.parse("--enable-lora")
    assert [problem.message for problem in caught.value.problems] == [
        "--deployment-config is missing",
        "--instance-type is missing",
        "--region is missing",
        "--deployment-target is missing",
    ]


def test_a_token_in_a_catalog_is_refused_and_never_repeated() -> None:
    with pytest.raises(CatalogError) as caught:
        Args.parse(f"{BASE} --hf-token=hf_abcdef")
    assert "hf_abcdef" not in str(caught.value)
    assert "--hf-token-arn" in str(caught.value)
    assert Args.parse(f"{BASE} --hf-token=$HF_TOKEN").region == "us-west-2"
