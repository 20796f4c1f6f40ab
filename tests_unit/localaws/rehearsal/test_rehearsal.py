"""What a plan strikes must be the same each time, or nobody can repeat what went wrong."""

from __future__ import annotations

import threading
from pathlib import Path
from types import MappingProxyType

import pytest

from pytest_mlcc.errors import FailureClass
from pytest_mlcc.lifecycle.failures import classify_text
from pytest_mlcc.localaws.rehearsal.latency import Profile, profile
from pytest_mlcc.localaws.rehearsal.plan import FaultPlan
from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal
from pytest_mlcc.localaws.rehearsal.scenario import Scenario, read_scenario
from pytest_mlcc.localaws.rehearsal.vocabulary import Delay, Fate, Fault, Trouble


def playing(*rules: dict[str, object], seed: int = 7, scale: float = 1.0) -> Rehearsal:
    rehearsal = Rehearsal()
    plan = FaultPlan.parse({"name": "plan.yaml", "seed": seed, "rules": rules})
    rehearsal.play(Scenario(profile("instant"), scale, plan))
    return rehearsal


def struck(rehearsal: Rehearsal, count: int, *names: str, operation: str = "dynamodb:PutItem") -> list[int]:
    return [number for number in range(1, count + 1) if rehearsal.trouble(operation, names)]


def test_without_a_scenario_nothing_waits_and_nothing_fails() -> None:
    rehearsal = Rehearsal()
    assert {rehearsal.delay(one) for one in Delay} == {0.0}
    assert rehearsal.fate("sagemaker:CreateEndpoint", "e") is None
    assert rehearsal.meddles is False


def test_delays_are_scaled() -> None:
    rehearsal = Rehearsal()
    rehearsal.play(Scenario(Profile("p", MappingProxyType({Delay.BUILD: 90.0}), MappingProxyType({})), 60))
    assert (rehearsal.delay(Delay.BUILD), rehearsal.delay(Delay.TRAINING)) == (1.5, 0.0)


@pytest.mark.parametrize(
    ("calls", "expected"),
    [(None, [1, 2, 3, 4, 5, 6]), (2, [2]), ([1, 3], [1, 3]), ("2-4", [2, 3, 4]), ("5-", [5, 6]), ([1, "4-5"], [1, 4, 5])],
)
def test_the_nth_calls_are_struck(calls: object, expected: list[int]) -> None:
    rule = {"operation": "dynamodb:*", "fault": "throttling", **({} if calls is None else {"calls": calls})}
    assert struck(playing(rule), 6) == expected


def test_only_matching_calls_are_counted() -> None:
    rehearsal = playing({"operation": "dynamodb:PutItem", "resource": "mlcc-*", "fault": "throttling", "calls": 2})
    assert struck(rehearsal, 3, "other") == []
    assert struck(rehearsal, 3, operation="dynamodb:GetItem") == []
    assert struck(rehearsal, 3, "x", "mlcc-ci-table") == [2]


def test_chance_is_the_seeds() -> None:
    rule = {"operation": "dynamodb:*", "fault": "throttling", "probability": 0.3}
    first = struck(playing(rule), 200)
    assert 30 < len(first) < 90
    assert struck(playing(rule), 200) == first
    assert struck(playing(rule, seed=8), 200) != first


def test_what_chance_does_to_a_model_depends_on_no_other_and_on_no_runs_name() -> None:
    """Two workers make their endpoints in another order each time, and each run has names of its own."""
    rule = {"operation": "sagemaker:*", "fault": "insufficient-instance-capacity", "probability": 0.5}

    def struck_models(run: str, order: str) -> set[str]:
        rehearsal = playing(rule)
        return {name for name in order if rehearsal.fate("sagemaker:CreateEndpoint", f"rt-{name}-{run}-endpoint")}

    first = struck_models("20261128t040824-1a78", "abcdefgh")
    assert 0 < len(first) < 8
    assert struck_models("20270101t235959-beef", "hgfedcba") == first
    jobs = [playing(rule).fate("sagemaker:CreateTrainingJob", f"rt-a-sft-{made}") for made in ("20261128041718", "20270101000000")]
    assert jobs[0] == jobs[1]


def test_the_same_resource_has_another_chance_each_time() -> None:
    rehearsal = playing({"operation": "sagemaker:CreateEndpoint", "fault": "insufficient-instance-capacity", "probability": 0.5})
    assert {rehearsal.fate("sagemaker:CreateEndpoint", "e") is None for _ in range(20)} == {True, False}


def test_a_rules_chance_does_not_depend_on_the_other_rules() -> None:
    chance = {"operation": "dynamodb:*", "fault": "throttling", "probability": 0.5}
    alone = playing({"operation": "s3:*", "fault": "throttling"}, chance)
    beside = playing({"operation": "dynamodb:*", "fault": "access-denied", "calls": [1, 2, 3]}, chance)
    struck(alone, 50)
    struck(beside, 50)
    assert alone.strikes()[1]["matched"] == beside.strikes()[1]["matched"] == 50
    assert set(struck(alone, 50)) == set(struck(beside, 50))


def test_the_first_rule_that_strikes_decides() -> None:
    rehearsal = playing(
        {"operation": "dynamodb:*", "fault": "throttling", "calls": 2},
        {"operation": "dynamodb:PutItem", "fault": "slow-answer", "seconds": 3},
    )
    assert rehearsal.trouble("dynamodb:PutItem", ()) == Trouble(Fault.SLOW_ANSWER, seconds=3)
    assert rehearsal.trouble("dynamodb:PutItem", ()) == Trouble(Fault.THROTTLING)


def test_calls_and_fates_are_apart() -> None:
    rehearsal = playing(
        {"operation": "sagemaker:CreateEndpoint", "fault": "throttling", "calls": 1},
        {"operation": "sagemaker:CreateEndpoint", "fault": "stuck", "seconds": 1200, "calls": 1, "message": "no answer"},
        scale=60,
    )
    assert rehearsal.trouble("sagemaker:CreateEndpoint", ("e",)) == Trouble(Fault.THROTTLING)
    assert rehearsal.fate("sagemaker:CreateEndpoint", "e") == Fate(Fault.STUCK, seconds=20, message="no answer"), "AWS's seconds are scaled"
    assert rehearsal.fate("sagemaker:CreateEndpoint", "e") is None


def test_a_fate_has_its_parameters_or_their_defaults() -> None:
    rehearsal = playing(
        {"operation": "sagemaker:CreateTrainingJob", "resource": "a*", "fault": "job-fails", "step": 3, "message": "out of memory"},
        {"operation": "sagemaker:CreateInferenceComponent", "fault": "container-dies", "requests": 3},
        {"operation": "sagemaker:Create*", "fault": "stuck"},
    )
    assert rehearsal.fate("sagemaker:CreateTrainingJob", "a1") == Fate(Fault.JOB_FAILS, step=3, message="out of memory")
    assert rehearsal.fate("sagemaker:CreateInferenceComponent", "c") == Fate(Fault.CONTAINER_DIES, requests=3)
    stuck = rehearsal.fate("sagemaker:CreateTrainingJob", "b1")
    assert stuck is not None
    assert (stuck.fault, stuck.seconds) == (Fault.STUCK, 2400)
    assert classify_text(stuck.message) is FailureClass.TIMEOUT


def test_threads_share_one_count() -> None:
    rehearsal = playing({"operation": "dynamodb:*", "fault": "throttling", "calls": "500-"})
    hits: list[int] = []
    threads = [threading.Thread(target=lambda: hits.append(len(struck(rehearsal, 100)))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(hits) == 501


def test_another_scenario_counts_anew() -> None:
    rehearsal = playing({"operation": "dynamodb:*", "fault": "throttling", "calls": 1})
    assert struck(rehearsal, 2) == [1]
    rehearsal.play(rehearsal.scenario)
    assert struck(rehearsal, 2) == [1]


def test_a_scenario_in_words(tmp_path: Path) -> None:
    plan = tmp_path / "capacity.yaml"
    plan.write_text("seed: 7\nrules: [{operation: 's3:*', fault: throttling}]\n")
    assert read_scenario("instant", 60, None) is None
    assert str(read_scenario("aws", 60, None)) == "aws latency at scale 60"
    assert str(read_scenario("aws", 1, plan)) == "aws latency, faults capacity.yaml (1 rule, seed 7)"
    assert str(read_scenario("instant", 1, plan)) == "faults capacity.yaml (1 rule, seed 7)"


@pytest.mark.parametrize("wish", [{}, [], {"latency": {}, "scale": 1}, {"latency": {"name": "x", "seconds": {}}, "scale": 0}])
def test_a_senseless_scenario_is_refused(wish: object) -> None:
    with pytest.raises(ValueError, match=r"this is no rehearsal|not above zero"):
        Scenario.parse(wish)  # type: ignore[arg-type]
