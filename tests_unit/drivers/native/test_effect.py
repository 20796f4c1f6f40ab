"""An adapter counts only if it gives taught answers that the base does not, and finds them likelier."""

from __future__ import annotations

import json

import pytest

from pytest_mlcc.drivers.native.adapter import adapter_archive
from pytest_mlcc.drivers.native.ask import read_answer
from pytest_mlcc.drivers.native.effect import Effect, answer_loss, read_rows, sample
from pytest_mlcc.errors import StageError


def effect(**changes: float) -> Effect:
    values: dict[str, float] = {
        "rows": 16,
        "base_rows": 4,
        "base_exact": 0,
        "adapter_exact": 16,
        "only_adapter": 8,
        "base_loss": 4.0,
        "adapter_loss": 0.02,
    }
    return Effect(**(values | changes))  # type: ignore[arg-type]


def test_what_proves_an_effect() -> None:
    assert effect().proved
    assert not effect(only_adapter=0, adapter_exact=0).proved
    assert not effect(adapter_loss=4.0).proved
    assert not effect(base_exact=8, only_adapter=0).proved  # the base knew it all
    assert "16 taught answers the adapter gives 16" in str(effect())


def test_the_loss_is_of_the_taught_answer_s_tokens_alone() -> None:
    logprobs = [
        None,
        {"7": {"logprob": -9.0}},
        {"5": {"logprob": -2.0, "rank": 2}, "3": {"logprob": -0.1, "rank": 1}},  # the token that stands there comes first
        {"6": {"logprob": -1.0, "rank": 1}},
    ]
    assert answer_loss(logprobs, 2) == (3.0, 2)


def test_rows_of_both_shapes_and_the_number_of_a_bad_one() -> None:
    talk = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "x"}]
    text = '{"prompt": "a", "completion": "b"}\n\n' + json.dumps({"messages": talk}) + "\n"
    rows = read_rows(text)
    assert [(row.number, len(row.messages), row.answer) for row in rows] == [(1, 1, "b"), (3, 2, "x")]
    with pytest.raises(StageError, match="row 2"):
        read_rows('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n')
    with pytest.raises(StageError, match="no rows"):
        read_rows("\n")


def test_a_long_dataset_is_sampled_evenly_and_always_alike() -> None:
    rows = read_rows("\n".join('{"prompt": "a", "completion": "b"}' for _ in range(100)))
    chosen = [row.number for row in sample(rows)]
    assert len(set(chosen)) == 32
    assert chosen == sorted(chosen)
    assert chosen[0] == 1
    assert max(chosen) > 95


GOOD = {
    "choices": [{"message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}


def test_a_good_answer_is_read() -> None:
    answer = read_answer(GOOD, "base", seconds=0.5)
    assert (answer.text, answer.prompt_tokens, answer.completion_tokens, answer.finish_reason) == ("Paris", 9, 2, "stop")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"choices": []}, "no choices"),
        ({"choices": [{"message": {"role": "assistant", "content": None}, "finish_reason": "stop"}]}, "no assistant message"),
        ({"choices": [{"message": {"role": "assistant", "content": "x"}}]}, "finish_reason is None"),
        ({"usage": None}, "no usage"),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}}, "does not count tokens"),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 12}}, "does not add up: 9 \\+ 2 is not 12"),
    ],
)
def test_an_answer_of_a_wrong_shape_fails_with_the_fault(change: dict[str, object], fault: str) -> None:
    with pytest.raises(StageError, match=fault):
        read_answer(GOOD | change, "base", seconds=0.5)


def test_tuning_that_left_no_adapter_is_told_with_what_it_left() -> None:
    with pytest.raises(StageError, match=r"s3://b/p/ holds no adapter_model\.safetensors; it has: adapter_config\.json"):
        adapter_archive({"adapter_config.json": b"{}"}, "s3://b/p/")
