from __future__ import annotations

import pytest

from pytest_mlcc.catalog.entry import Technique
from pytest_mlcc.errors import ConfigurationError
from pytest_mlcc.lifecycle import stage as stages
from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.results.status import FAIL_PREFIX, KnownStatus, failed_stage, is_failure, is_finished, of_outcome, parse

DOCUMENTED = (
    "untested",
    "running",
    "pass",
    "fail-generate",
    "fail-build",
    "fail-push",
    "fail-deploy",
    "fail-test",
    "fail-tune-sft",
    "fail-adapter-add",
    "fail-test-adapter",
    "fail-clean",
    "fail-validate",
    "fail-deploy_test",
    "fail-teardown",
    "fail-adapter_test",
    "fail-register",
)


@pytest.mark.parametrize("text", DOCUMENTED)
def test_every_documented_status_is_understood(text: str) -> None:
    """A report that does not know a status of another tool would show its record as broken."""
    assert parse(text) == text
    assert text in set(KnownStatus)


def test_every_stage_of_ours_has_its_status() -> None:
    """Adding a stage to the lifecycle without its status would make records that the scanner can't read."""
    names = {*stages._SERVE_ORDER, *stages._ADAPTER_ORDER, stages.CLEAN, *(f"tune-{technique}" for technique in Technique)}
    assert {FAIL_PREFIX + name for name in names} <= set(KnownStatus)


def test_a_stage_of_a_team_gives_a_status_too() -> None:
    assert parse("fail-latency-p99") == "fail-latency-p99"
    assert failed_stage("fail-latency-p99") == "latency-p99"


@pytest.mark.parametrize(
    ("text", "hint"),
    [("passed", 'did you mean "pass"?'), ("PASS", '"pass"'), ("fail-deplyo!", "fail-deploy"), ("fail-", "fail-"), ("", "fail-<stage>")],
)
def test_what_is_no_status_is_answered_with_the_closest(text: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, where="record 94dd91353c8b20ca")
    assert str(caught.value).startswith(f'record 94dd91353c8b20ca: "{text}" is not a test status')
    assert hint in str(caught.value)


@pytest.mark.parametrize("status", list(KnownStatus))
def test_failure_and_finished_agree_with_the_word(status: KnownStatus) -> None:
    assert is_failure(status) == status.startswith("fail-")
    assert is_finished(status) == (status == "pass" or status.startswith("fail-"))


def test_only_a_failed_stage_gives_a_failed_status() -> None:
    assert of_outcome(Outcome("e", "tune-sft", Result.FAIL)) == "fail-tune-sft"
    with pytest.raises(ValueError, match="did not fail"):
        of_outcome(Outcome("e", "tune-sft", Result.PASS))
