"""What a run says of delays and faults that are played, and what it refuses before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

PLAN = "seed: 7\nrules: [{operation: 'sagemaker:CreateEndpoint', fault: insufficient-instance-capacity}]\n"


@pytest.fixture
def one(make_project: Any, entry: Any) -> Any:
    project = make_project(entry("rt-a", 0, lifecycle=["build", "clean"]))
    (project.path / "capacity.yaml").write_text(PLAN)
    return project


def test_the_header_names_profile_scale_and_plan(one: Any) -> None:
    run = one.run("--mlcc-latency=aws", "--mlcc-time-scale=60", "--mlcc-faults=capacity.yaml")
    assert run.ret == 0
    run.stdout.fnmatch_lines(["mlcc: rehearsal: aws latency at scale 60, faults capacity.yaml (1 rule, seed 7)"])
    run = one.run("-n", "2", MLCC_LATENCY="aws")
    run.stdout.fnmatch_lines(["mlcc: rehearsal: aws latency"])


def test_the_header_is_silent_where_nothing_is_rehearsed(one: Any) -> None:
    said = one.run(MLCC_TIME_SCALE="60").stdout.str()
    assert "mlcc: rehearsal" not in said
    assert "mlcc: nothing is rehearsed" not in said


def test_a_time_scale_that_scales_nothing_is_told(one: Any) -> None:
    one.run("--mlcc-time-scale=60").stdout.fnmatch_lines(["mlcc: nothing is rehearsed: --mlcc-time-scale divides*"])
    assert "nothing is rehearsed" not in one.run("--mlcc-time-scale=60", "--mlcc-latency=aws").stdout.str()


def test_every_mistake_of_both_files_stops_the_run_before_it_starts(one: Any) -> None:
    (one.path / "capacity.yaml").write_text(PLAN.replace("insufficient-instance-capacity", "no-capacity").replace("seed", "sed"))
    (one.path / "slow.yaml").write_text("endpoint.creat: 3\n")
    run = one.run("--mlcc-latency=slow.yaml", "--mlcc-faults=capacity.yaml")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    said = run.stderr.str()
    assert "slow.yaml, endpoint.creat: there is no such delay (did you mean 'endpoint.create'?)" in said
    assert "capacity.yaml, sed: is no key of a fault plan (did you mean 'seed'?)" in said
    assert "capacity.yaml, rule 1, fault: 'no-capacity' is no fault" in said
    assert one.events == []


def test_on_aws_nothing_can_be_rehearsed(one: Any) -> None:
    run = one.run("--mlcc-target=aws", "--mlcc-faults=capacity.yaml")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    run.stderr.fnmatch_lines(["*--mlcc-faults: is for the local AWS only, but the target is aws*"])
