"""Stages: their order, and what a chosen one brings along."""

from __future__ import annotations

from pytest_mlcc.lifecycle.stage import ExtraStage, Group, closure, plan

GOLDEN = ["build", "push", "deploy", "test", "tune-sft", "adapter-add", "test-adapter", "clean"]


def names(lifecycle: list[str], *extras: ExtraStage) -> list[str]:
    return [stage.name for stage in plan(lifecycle, extras)]


def test_generate_comes_first_and_clean_last_without_being_asked_for() -> None:
    assert names(GOLDEN) == ["generate", *GOLDEN]


def test_a_team_stage_stands_right_after_the_stage_it_names_and_shares_its_fate() -> None:
    stages = plan(GOLDEN, [ExtraStage("latency", after="test"), ExtraStage("judge", after="test-adapter")])
    by_name = {stage.name: stage for stage in stages}
    assert [stage.name for stage in stages][4:6] == ["test", "latency"]
    assert by_name["latency"].group is Group.SERVE
    assert by_name["judge"].group is Group.ADAPTER


def test_a_team_stage_after_a_stage_that_the_entry_lacks_is_left_out() -> None:
    assert "judge" not in names(["build", "deploy", "clean"], ExtraStage("judge", after="test-adapter"))


def test_a_stage_chosen_alone_brings_what_it_needs_and_the_clean() -> None:
    stages = plan(GOLDEN)
    assert closure(stages, ["deploy"]) == {"generate", "build", "push", "deploy", "clean"}
    assert closure(stages, ["test-adapter"]) == {"generate", "build", "push", "deploy", "tune-sft", "adapter-add", "test-adapter", "clean"}
    assert closure(stages, ["clean"]) == {"clean"}
    assert closure(stages, []) == frozenset()


def test_a_check_after_the_tuning_brings_the_tuning() -> None:
    stages = plan(GOLDEN, [ExtraStage("loss-curve", after="tune-sft")])
    assert "tune-sft" in closure(stages, ["loss-curve"])
