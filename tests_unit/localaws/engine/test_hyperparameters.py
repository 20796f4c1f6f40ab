"""Hyperparameters come as strings; a wrong one must fail the job with its name, as the service would."""

from __future__ import annotations

import pytest

from pytest_mlcc.localaws.engine.hyperparameters import HyperparameterError, check


def test_what_the_recipes_send_is_accepted_and_unknown_names_are_reported() -> None:
    sent = {"max_epochs": "3", "learning_rate": "2e-4", "lora_rank": "16", "lora_alpha": "32", "global_batch_size": "8", "x": "?"}
    assert check(sent) == ("x",)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_epochs", "0", "max_epochs must be at least 1 and at most 1000, it is '0'"),
        ("max_epochs", "1.5", "max_epochs must be an integer, it is '1.5'"),
        ("learning_rate", "0", "learning_rate must be above 0 and at most 1"),
        ("learning_rate", "nan", "learning_rate must be above 0"),
        ("learning_rate", "fast", "learning_rate must be a number, it is 'fast'"),
        ("lora_alpha", "-1", "lora_alpha must be at least 1, it is '-1'"),
        ("weight_decay", "inf", "weight_decay must be at least 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_bounds(name: str, value: str, message: str) -> None:
    with pytest.raises(HyperparameterError) as caught:
        check({name: value})
    assert message in str(caught.value)


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(HyperparameterError, match=r"lora_rank.*max_epochs"):
        check({"max_epochs": "x", "lora_rank": "0", "learning_rate": "0.1"})
