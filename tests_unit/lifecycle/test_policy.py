"""What a failure stops: for every lifecycle and every failing stage."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_mlcc.lifecycle import policy
from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.lifecycle.stage import CLEAN, ExtraStage, Group, Stage, plan

SERVING = ["validate", "build", "push", "stage", "deploy", "test", "benchmark", "register"]
TUNING = ["tune-sft", "tune-dpo"]
ADAPTING = ["adapter-add", "test-adapter"]


@st.composite
def lifecycles(draw: st.DrawFn) -> tuple[Stage, ...]:
    """Any lifecycle a catalog may hold, with any stage of a team's own."""
    serving = [name for name in SERVING if draw(st.booleans())]
    tuning = draw(st.lists(st.sampled_from(TUNING), unique=True))
    adapting = ADAPTING[: draw(st.integers(0, 2))] if tuning else []
    lifecycle = [*serving, *tuning, *adapting, CLEAN]
    after = draw(st.sampled_from(["generate", *lifecycle[:-1]]))
    return plan(lifecycle, [ExtraStage("own-check", after)] if draw(st.booleans()) else [])


def play(stages: tuple[Stage, ...], failing: set[str]) -> dict[str, Outcome]:
    """Run a lifecycle in which the named stages fail if they are reached."""
    outcomes: dict[str, Outcome] = {}
    for stage in stages:
        block = policy.blocked_by(stage, stages, outcomes)
        if block:
            outcomes[stage.name] = Outcome("e", stage.name, Result.SKIP, reason=block.reason)
        elif stage.name in failing:
            outcomes[stage.name] = Outcome("e", stage.name, Result.FAIL, error=f"boom in {stage.name}")
        else:
            outcomes[stage.name] = Outcome("e", stage.name, Result.PASS)
    return outcomes


@given(lifecycles(), st.data())
def test_a_failing_stage_stops_just_what_depends_on_it(stages: tuple[Stage, ...], data: st.DataObject) -> None:
    failing = data.draw(st.sampled_from(stages))
    outcomes = play(stages, {failing.name})
    later = stages[stages.index(failing) + 1 :]
    for stage in later:
        stopped = stage.group is not Group.CLEAN and (failing.group is Group.SERVE or stage.group is Group.ADAPTER)
        assert (outcomes[stage.name].result is Result.SKIP) == stopped, stage
        if stopped:
            assert failing.name in outcomes[stage.name].reason
            assert f"boom in {failing.name}" in outcomes[stage.name].reason
    assert all(outcomes[stage.name].result is Result.PASS for stage in stages[: stages.index(failing)])
    assert policy.status(stages, outcomes) == f"fail-{failing.name}"


@given(lifecycles(), st.data())
def test_clean_always_runs_and_the_first_failure_is_the_status(stages: tuple[Stage, ...], data: st.DataObject) -> None:
    failing = set(data.draw(st.lists(st.sampled_from([stage.name for stage in stages]), min_size=1)))
    outcomes = play(stages, failing)
    assert outcomes[CLEAN].result is not Result.SKIP
    first = next(stage.name for stage in stages if outcomes[stage.name].result is Result.FAIL)
    assert policy.status(stages, outcomes) == f"fail-{first}"


@given(lifecycles(), st.data())
def test_a_partial_selection_is_never_a_pass(stages: tuple[Stage, ...], data: st.DataObject) -> None:
    outcomes = play(stages, set())
    assert policy.status(stages, outcomes) == policy.PASS
    del outcomes[data.draw(st.sampled_from(stages)).name]
    assert policy.status(stages, outcomes) == policy.INCOMPLETE


def test_a_failed_clean_makes_fail_clean() -> None:
    stages = plan(["build", "clean"])
    assert policy.status(stages, play(stages, {"clean"})) == "fail-clean"
