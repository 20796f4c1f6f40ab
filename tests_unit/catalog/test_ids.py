"""Ids become test names, and test names must fall apart in one way only."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.catalog import check


def named(entry: dict[str, Any], name: str, *steps: str, instance: str = "ml.g5.xlarge") -> dict[str, Any]:
    made = copy.deepcopy(entry)
    made["id"] = name
    made["args"] = made["args"].replace("ml.g5.xlarge", instance)
    if steps:
        made["lifecycle"] = [*steps, "clean"]
        del made["tuneConfig"], made["tuneTimeout"]
    return made


def test_a_second_entry_of_the_same_id_names_the_first(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    other = named(entry, "rt-b", instance="ml.g5.2xlarge")
    again = named(entry, entry["id"], instance="ml.g5.4xlarge")
    (mistake,) = check(write(entry, other, again)).mistakes
    assert (mistake.path, mistake.message) == ("/configs/2/id", 'id "rt-qwen3-4b" is already that of /configs/0')


@pytest.mark.parametrize("step", ["test", "tune-sft", "generate", "clean"])
def test_an_id_may_not_read_like_a_step_of_another(entry: dict[str, Any], write: Callable[..., Path], step: str) -> None:
    long = named(entry, f"rt-qwen3-4b-{step}", instance="ml.g5.2xlarge")
    (mistake,) = check(write(long, entry)).mistakes
    assert mistake.path == "/configs/0/id"
    assert mistake.message == f'id "rt-qwen3-4b-{step}" reads like step "{step}" of entry "rt-qwen3-4b" (/configs/1)'


def test_two_ids_may_not_make_one_test_name(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    short = named(entry, "rt-a", "deploy", "warm-up")
    long = named(entry, "rt-a-warm", "deploy", "up", instance="ml.g5.2xlarge")
    (mistake,) = check(write(short, long)).mistakes
    assert mistake.message == '"rt-a-warm" and "rt-a" (/configs/0) both make a test called "rt-a-warm-up"'


def test_ids_that_begin_alike_are_fine(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    other = named(entry, "rt-qwen3-4b-large", instance="ml.g5.2xlarge")
    assert check(write(entry, other)).mistakes == ()


def test_two_entries_that_would_write_one_record_are_warned_about(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    result = check(write(entry, named(entry, "rt-b")))
    assert result.mistakes == ()
    (warning,) = result.warnings
    assert warning.message == 'is the same configuration (94dd91353c8b20ca) as "rt-qwen3-4b" (/configs/0)'
