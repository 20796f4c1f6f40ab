from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from pytest_mlcc.catalog.entry import Entry, Technique, TrainingType, TuneConfig
from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.lifecycle.stage import plan
from pytest_mlcc.results.record import NEVER, Record, identity, timestamp

STAGES = ("generate", "build", "push", "deploy", "test", "tune-sft", "adapter-add", "test-adapter", "clean")


def test_a_passed_run_has_every_documented_attribute(entry: Entry, make: Any) -> None:
    """The scanner, the coverage report and the dashboard of others read these very names."""
    record = make.record(entry, make.run())
    attributes = record.attributes()
    assert record.config_id == "94dd91353c8b20ca"
    assert attributes["schemaVersion"] == 2
    assert attributes["testStatus"] == "pass"
    assert attributes["lastTestTimestamp"] == "2027-01-15T08:00:17Z"  # the end of clean, which began 16 s after the start
    assert attributes["lastTestDuration"] == 11  # whole seconds: 9 x 1.25
    assert attributes["e2eCatalogId"] == "rt-qwen3-4b"
    assert attributes["tier"] == "ci"
    assert attributes["deploymentConfig"] == "transformers-vllm"
    assert attributes["buildStrategy"] == "codebuild-submit"
    assert attributes["cost"] == 0.41
    assert attributes["costComplete"] is True
    assert tuple(attributes["stageResults"]) == STAGES
    assert attributes["stageResults"]["build"] == {
        "status": "pass",
        "durationSeconds": 1.25,
        "errorSummary": "",
        "logPointer": "/logs/build.log",
    }
    assert "errorMessage" not in attributes
    assert set(record.outdated()) == {"errorMessage", "failureClass", "rehearsal"}


def test_a_rehearsal_is_never_taken_for_the_real_thing(entry: Entry, make: Any) -> None:
    """Faults and delays that were played explain a failure, and a later run without them must take the words away."""
    run = dataclasses.replace(make.run(), rehearsal="aws latency at scale 60, faults capacity.yaml (3 rules, seed 7)")
    record = make.record(entry, run)
    assert record.attributes()["rehearsal"] == run.rehearsal
    assert "rehearsal" not in record.outdated()
    assert "rehearsal" not in make.record(entry, make.run()).attributes()


def test_the_first_failure_gives_status_message_and_class(entry: Entry, make: Any) -> None:
    outcomes = make.outcomes(entry, fail="tune-sft", error="row 7 has no completion")
    outcomes["adapter-add"] = Outcome(entry.id, "adapter-add", Result.SKIP, reason="tune-sft failed (row 7); stage not run")
    outcomes["clean"] = dataclasses.replace(outcomes["clean"], result=Result.FAIL, error="2 alive")
    attributes = Record.of(entry, make.run(), plan(entry.lifecycle), outcomes).attributes()
    assert attributes["testStatus"] == "fail-tune-sft"
    assert attributes["errorMessage"] == "row 7 has no completion"
    assert attributes["failureClass"] == "oom"
    assert attributes["stageResults"]["tune-sft"]["failureClass"] == "oom"
    assert attributes["stageResults"]["adapter-add"]["skipReason"] == "tune-sft failed (row 7); stage not run"
    assert attributes["stageResults"]["clean"]["status"] == "fail"
    assert attributes["cost"] is None
    assert attributes["costComplete"] is False


def test_a_partial_selection_is_incomplete_and_says_which_stages_are_missing(entry: Entry, make: Any) -> None:
    record = make.record(entry, make.run(), only=("generate", "build", "clean"))
    assert record.test_status == "incomplete"
    assert not record.is_complete
    assert record.stage_results["deploy"].status == "skip"
    assert "not selected" in record.stage_results["deploy"].skip_reason


def test_a_partial_selection_that_fails_is_a_failure(entry: Entry, make: Any) -> None:
    record = make.record(entry, make.run(), only=("generate", "build", "clean"), fail="build")
    assert (record.test_status, record.is_complete) == ("fail-build", True)


def test_the_configuration_can_be_generated_again_from_its_json(make: Any) -> None:
    """What the reference lost: enableLora, the tuning and flags without a key of their own."""
    entry = dataclasses.replace(
        make.entry(extra=" --max-loras=4"),
        tune=TuneConfig("qwen3-4b", Technique.SFT, TrainingType.LORA, "s3://mlcc-e2e-datasets/sft-small/train.jsonl"),
    )
    outcomes = make.outcomes(entry)
    facts = {"projectName": "rt-qwen3-4b-4f2a", "baseImage": "vllm/vllm-openai:v0.25.1"}
    outcomes["generate"] = dataclasses.replace(outcomes["generate"], facts=facts)
    record = Record.of(entry, make.run(), plan(entry.lifecycle), outcomes)
    assert json.loads(record.config_json) == {
        "projectName": "rt-qwen3-4b-4f2a",
        "deploymentConfig": "transformers-vllm",
        "architecture": "transformers",
        "backend": "vllm",
        "modelName": "Qwen/Qwen3-4B",
        "instanceType": "ml.g5.xlarge",
        "awsRegion": "us-west-2",
        "deploymentTarget": "managed-inference",
        "buildTarget": "codebuild",
        "baseImage": "vllm/vllm-openai:v0.25.1",
        "buildStrategy": "codebuild-submit",
        "enableLora": True,
        "tuneConfig": {
            "tuneId": "qwen3-4b",
            "technique": "sft",
            "trainingType": "lora",
            "dataset": "s3://mlcc-e2e-datasets/sft-small/train.jsonl",
        },
        "args": entry.args.raw,
    }
    assert record.attributes()["projectName"] == "rt-qwen3-4b-4f2a"
    assert record.attributes()["baseImage"] == "vllm/vllm-openai:v0.25.1"
    assert " " not in record.config_json.replace(entry.args.raw, "")


def test_no_secret_of_an_error_a_reason_or_a_fact_reaches_the_record(entry: Entry, make: Any) -> None:
    token = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ012345"
    outcomes = make.outcomes(entry, fail="build", error=f"{'x' * 480} denied for {token}")
    outcomes["test"] = Outcome(entry.id, "test", Result.SKIP, reason=f"because {token}")
    outcomes["push"] = dataclasses.replace(outcomes["push"], facts={"login": [{"user": token}]})
    record = Record.of(entry, make.run(), plan(entry.lifecycle), outcomes)
    assert token[4:] not in json.dumps(record.attributes())
    assert len(record.error_message or "") <= 500
    assert (record.error_message or "").endswith("denied for [redacted]")


def test_the_error_keeps_its_end_where_the_cause_stands(entry: Entry, make: Any) -> None:
    record = make.record(entry, make.run(), fail="build", error="a" * 900 + "THE CAUSE")
    assert len(record.error_message) == 500
    assert record.error_message.endswith("THE CAUSE")


def test_log_pointers_are_the_keepers(entry: Entry, make: Any) -> None:
    record = Record.of(
        entry, make.run(), plan(entry.lifecycle), make.outcomes(entry), log_pointer=lambda outcome: f"s3://b/{outcome.stage}.log"
    )
    assert record.stage_results["push"].log_pointer == "s3://b/push.log"


def test_what_is_known_before_the_first_run(entry: Entry) -> None:
    known = identity(entry)
    assert set(known) == {"schemaVersion", "configJson", "e2eCatalogId", "tier", "deploymentConfig"}
    assert json.loads(known["configJson"])["modelName"] == "Qwen/Qwen3-4B"


@pytest.mark.parametrize(("seconds", "text"), [(0, NEVER), (0.999, NEVER), (1_779_431_460.7, "2026-05-22T06:31:00Z")])
def test_timestamps_are_utc_whole_seconds_and_sort_as_text(seconds: float, text: str) -> None:
    assert timestamp(seconds) == text
