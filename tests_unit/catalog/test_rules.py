"""One mistake each: the place, the words and the remedy that a user gets, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.catalog import check

Edit = Callable[[dict[str, Any]], Any]


def steps(*names: str) -> Edit:
    return lambda entry: entry.update(lifecycle=list(names))


def untuned(*names: str, **changes: Any) -> Edit:
    def edit(entry: dict[str, Any]) -> None:
        del entry["tuneConfig"], entry["tuneTimeout"]
        entry.update(lifecycle=list(names), **changes)

    return edit


def swap(old: str, new: str) -> Edit:
    return lambda entry: entry.update(args=entry["args"].replace(old, new))


def tune(**changes: str) -> Edit:
    return lambda entry: entry["tuneConfig"].update(changes)


def put(**changes: Any) -> Edit:
    return lambda entry: entry.update(changes)


def drop(key: str) -> Edit:
    return lambda entry: entry.pop(key)


SCHEMA = [
    (drop("timeout"), "", '"timeout" is missing', ""),
    (put(tuneTimout=3600), "/tuneTimout", 'unknown key "tuneTimout"', 'did you mean "tuneTimeout"?'),
    (put(id="RT_Qwen3.4B"), "/id", '"RT_Qwen3.4B" cannot be an id', '"rt-qwen3-4b"'),
    (put(id=7), "/id", "must be a string, not 7", ""),
    (put(tier="nightley"), "/tier", '"nightley" is not allowed here', 'did you mean "nightly"? one of: ci, nightly, weekly'),
    (put(track="real-time"), "/track", '"real-time" is not allowed here', 'did you mean "realtime"?'),
    (put(args=""), "/args", "is an empty string", ""),
    (put(lifecycle=[]), "/lifecycle", "is empty", "at least one"),
    (put(lifecycle="build clean"), "/lifecycle", 'must be a list, not "build clean"', ""),
    (steps("Build", "clean"), "/lifecycle/0", '"Build" does not look right', "^[a-z][a-z0-9-]*$"),
    (put(timeout="1800"), "/timeout", 'must be a whole number of seconds, not "1800"', "write 1800 without quotes"),
    (put(timeout=True), "/timeout", "must be a whole number of seconds, not true", ""),
    (put(timeout=59), "/timeout", "must be at least 60 seconds, not 59", ""),
    (put(tuneTimeout=1), "/tuneTimeout", "must be at least 60 seconds, not 1", ""),
    (put(tuneTimeout=None), "/tuneTimeout", "must be a whole number of seconds, not null", ""),
    (put(tuneConfig=[]), "/tuneConfig", "must be an object, not []", ""),
    (lambda entry: entry["tuneConfig"].pop("dataset"), "/tuneConfig", '"dataset" is missing', ""),
    (tune(technique="stf"), "/tuneConfig/technique", '"stf" is not allowed here', 'did you mean "sft"?'),
    (tune(trainingType="lorra"), "/tuneConfig/trainingType", '"lorra" is not allowed here', 'did you mean "lora"?'),
    (tune(tunId="x"), "/tuneConfig/tunId", 'unknown key "tunId"', 'did you mean "tuneId"?'),
]

LIFECYCLE = [
    (untuned("build", "deploy", "test"), "/lifecycle", '"clean" is missing: what the entry creates would stay', "end the list"),
    (untuned("build", "deploy", "claen"), "/lifecycle", '"clean" is missing: what the entry creates would stay', 'is "claen" meant?'),
    (untuned("build", "clean", "test"), "/lifecycle/1", '"clean" is not the last step', "to the end"),
    (untuned("build", "deploy", "deploy", "clean"), "/lifecycle/2", 'step "deploy" stands 2 times', "keep one"),
    (untuned("deploy", "clean", "clean"), "/lifecycle/2", 'step "clean" stands 2 times', "keep one"),
    (untuned("build", "generate", "clean"), "/lifecycle/1", '"generate" is not the first step', "leave it out"),
    (untuned("build", "depoy", "clean"), "/lifecycle/1", 'there is no step "depoy"', 'did you mean "deploy"?'),
    (untuned("deploy", "test", "adapter-add", "clean"), "/lifecycle/2", '"adapter-add" needs a tune step', 'add "tune-sft"'),
    (steps("deploy", "test", "adapter-add", "tune-sft", "clean"), "/lifecycle/2", '"adapter-add" stands before "tune-sft"', "behind"),
    (steps("deploy", "test", "tune-sft", "test-adapter", "clean"), "/lifecycle/3", '"test-adapter" needs "adapter-add" before it', "add"),
    (steps("deploy", "tune-sft", "test", "clean"), "/lifecycle/1", '"tune-sft" stands before "test"', 'between "test" and "clean"'),
]

TUNE = [
    (drop("tuneConfig"), "", '"tune-sft" needs "tuneConfig"', "tuneId, technique"),
    (steps("build", "deploy", "test", "clean"), "/tuneConfig", "there is no tune step that would use it", 'add "tune-sft"'),
    (steps("test", "tune-dpo", "clean"), "/lifecycle/1", '"tune-dpo" does not agree with technique "sft"', '"tune-sft"'),
    (steps("test", "tune-sftt", "clean"), "/lifecycle/1", '"tune-sftt" names no technique', 'did you mean "tune-sft"?'),
    (swap(" --enable-lora", ""), "/args", '"tune-sft" needs --enable-lora', "add --enable-lora"),
    (swap("--enable-lora", "--enable-lora=false"), "/args", '"tune-sft" needs --enable-lora', "add --enable-lora"),
    (tune(dataset="data/train.jsonl"), "/tuneConfig/dataset", '"data/train.jsonl" is not an s3 URI', "s3://<bucket>/<key>"),
    (tune(dataset="s3://mlcc-e2e-datasets"), "/tuneConfig/dataset", '"s3://mlcc-e2e-datasets" is not an s3 URI', "<key>"),
    (tune(tuneId="qwen3-4b"), "/tuneConfig/tuneId", '"qwen3-4b" is not a model of tune.json', '"huggingface-reasoning-qwen3-4b"'),
    (
        tune(tuneId="huggingface-reasoning-qwen3-8b"),
        "/tuneConfig/tuneId",
        '"huggingface-reasoning-qwen3-8b" is Qwen/Qwen3-8B, but args deploy "Qwen/Qwen3-4B"',
        'did you mean "huggingface-reasoning-qwen3-4b"? It is the one for Qwen/Qwen3-4B',
    ),
    (
        swap("Qwen/Qwen3-4B", "my-team/my-model"),
        "/tuneConfig/tuneId",
        '"huggingface-reasoning-qwen3-4b" is Qwen/Qwen3-4B, but args deploy "my-team/my-model"',
        "no model of tune.json",
    ),
    (tune(trainingType="full-rank"), "/tuneConfig/trainingType", "does not support full-rank for sft", "one of: lora"),
    (swap("us-west-2", "eu-central-1"), "/args", "open-weight models cannot be tuned in eu-central-1", "ap-northeast-1, eu-west-1"),
]

ARGS = [
    (swap("--region", "--regoin"), "/args", 'unknown flag "--regoin"', 'did you mean "--region"?'),
    (swap("ml.g5.xlarge", "ml.g5.xlagre"), "/args", '"ml.g5.xlagre" is not a known instance type', 'did you mean "ml.g5.xlarge"?'),
    (swap("us-west-2", "us-wset-2"), "/args", '"us-wset-2" is not a known region', 'did you mean "us-west-2"?'),
    (swap("transformers-vllm", "transformer-vlm"), "/args", '"transformer-vlm" is not a deployment', '"transformers-vllm"'),
    (swap("--model-name=Qwen/Qwen3-4B", ""), "/args", "transformers-vllm needs --model-name", "--model-name=<value>"),
    (swap("managed-inference", "managed-inferense"), "/args", '"managed-inferense" is not a deployment target', '"managed-inference"'),
    (
        swap("managed-inference", "hyperpod-eks"),
        "/track",
        'track "realtime" does not agree with --deployment-target=hyperpod-eks',
        'make the track "hyperpod" or the target managed-inference',
    ),
    (
        untuned("deploy", "test", "clean", track="batch"),
        "/track",
        'track "batch" does not agree with --deployment-target=managed-inference',
        'make the track "realtime" or the target batch-transform',
    ),
]


@pytest.mark.parametrize(("edit", "place", "message", "hint"), SCHEMA + LIFECYCLE + TUNE + ARGS)
def test_a_mistake_has_a_place_and_a_remedy(
    entry: dict[str, Any], write: Callable[..., Path], edit: Edit, place: str, message: str, hint: str
) -> None:
    edit(entry)
    result = check(write(entry))
    assert result.usable
    assert result.catalog is None
    told = {(mistake.path, mistake.message, mistake.hint) for mistake in result.mistakes}
    matching = [one for one in told if one[0] == f"/configs/0{place}" and message in one[1] and hint in one[2]]
    assert matching, told
    # an unknown --regoin leaves --region missing, a misspelt "clean" is told once: no other mistake has company
    assert len(told) == (2 if "regoin" in message else 1), told


def test_a_sound_entry_passes(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    assert check(write(entry)).mistakes == ()


@pytest.mark.parametrize(
    ("track", "target"),
    [
        ("realtime", "realtime-inference"),
        ("async", "async-inference"),
        ("batch", "batch-transform"),
        ("hyperpod", "hyperpod-eks"),
    ],
)
def test_every_track_has_its_target(entry: dict[str, Any], write: Callable[..., Path], track: str, target: str) -> None:
    untuned("build", "push", "deploy", "test", "clean", track=track)(entry)
    swap("managed-inference", target)(entry)
    assert check(write(entry)).mistakes == ()


def test_adapters_are_refused_where_there_are_no_inference_components(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    entry["track"] = "async"
    swap("managed-inference", "async-inference")(entry)
    assert {mistake.message for mistake in check(write(entry)).mistakes} == {
        '"adapter-add" is impossible on track "async"',
        '"test-adapter" is impossible on track "async"',
    }


def test_a_short_tune_id_finds_the_real_one_even_without_the_model(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    entry["tuneConfig"]["tuneId"] = "llama-3-2-1b-instruct"
    swap("Qwen/Qwen3-4B", "my-team/llama")(entry)
    (mistake,) = check(write(entry)).mistakes
    assert mistake.hint == 'did you mean "meta-textgeneration-llama-3-2-1b-instruct"?'


def test_a_step_of_ones_own_is_only_a_warning(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    entry["lifecycle"].insert(4, "rebuild")
    result = check(write(entry))
    assert result.mistakes == ()
    assert [warning.message for warning in result.warnings] == ['no driver knows step "rebuild"']


def test_an_unused_tune_timeout_is_only_a_warning(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    untuned("build", "deploy", "clean", tuneTimeout=3600)(entry)
    result = check(write(entry))
    assert result.mistakes == ()
    assert [(warning.path, warning.message) for warning in result.warnings] == [("/configs/0/tuneTimeout", "no tune step uses it")]
