from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.reporting.json_report import document, render
from pytest_mlcc.reporting.markdown import render as as_markdown


def test_the_run_in_documented_keys_and_in_seconds(make: Any) -> None:
    """The reference wrote milliseconds where its own readers took seconds."""
    report = json.loads(render(make.mixed("aws")))
    assert {name: report[name] for name in ("schemaVersion", "runId", "target", "driver", "timestamp", "durationSeconds")} == {
        "schemaVersion": 2,
        "runId": "20261120T110203-4f2a",
        "target": "aws",
        "driver": "native",
        "timestamp": "2027-01-15T08:00:00Z",
        "durationSeconds": 37.24,
    }
    assert (report["tier"], report["tiers"]) == (None, ["ci", "nightly"])
    assert report["passed"] + report["failed"] + report["incomplete"] + report["untested"] == report["total"] == 5
    assert report["costComplete"] is False


def test_what_was_rehearsed_stands_in_every_report(make: Any) -> None:
    """A failure that was played must not be read as one of AWS's, nor a time as the machine's own."""
    plain = make.mixed()
    played = dataclasses.replace(plain, rehearsal="aws latency at scale 60")
    assert "rehearsal" not in document(plain)
    assert document(played)["rehearsal"] == "aws latency at scale 60"
    assert "rehearsing aws latency at scale 60" in as_markdown(played)
    assert "rehearsing" not in as_markdown(plain)


def test_one_tier_is_named(make: Any) -> None:
    assert document(make.mixed().of_tier("ci"))["tier"] == "ci"


def test_an_entry_tells_status_class_error_and_stages(make: Any) -> None:
    result = document(make.mixed())["results"][1]
    assert (result["id"], result["status"], result["failureClass"]) == ("rt-qwen3-4b", "fail-deploy", "capacity")
    assert result["errorMessage"] == "InsufficientInstanceCapacity"
    stages = {stage["name"]: stage for stage in result["stages"]}
    assert len(stages) == 9
    assert stages["deploy"]["errorSummary"] == "InsufficientInstanceCapacity"
    assert stages["test"] == {
        "name": "test",
        "status": "skip",
        "durationSeconds": 0.0,
        "startedAt": "2027-01-15T08:00:06Z",
        "skipReason": "blocked; stage not run",
        "log": None,
        "facts": {},
    }
    assert document(make.mixed())["results"][3]["stages"][0] == {"name": "generate", "status": None}


def test_an_unknown_cost_is_null_not_zero(make: Any) -> None:
    report = document(make.summary(make.planned(make.entry(price=None)), target="aws"))
    assert (report["cost"], report["results"][0]["cost"], report["costComplete"]) == (None, None, False)


def test_every_parser_takes_it(make: Any) -> None:
    """NaN is no JSON: one diverged training would make the whole night's report unreadable."""
    one = make.planned(make.entry())
    one.outcomes["tune-sft"] = Outcome("rt-qwen3-4b", "tune-sft", Result.PASS, 1, 1, facts={"losses": (float("nan"), 1.5)})

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} in JSON")

    report = json.loads(render(make.summary(one)), parse_constant=refuse)
    assert next(stage for stage in report["results"][0]["stages"] if stage["name"] == "tune-sft")["facts"] == {"losses": ["nan", 1.5]}


def test_what_the_scripts_left_and_who_did_the_stages_stand_beside_each_entry(make: Any) -> None:
    found = document(make.summary(make.leaky(make.entry(), "iam-role r"), make.planned(make.entry("rt-b"))))
    assert [one["leftByTheScripts"] for one in found["results"]] == [["iam-role r"], []]
    assert [one["driver"] for one in found["results"]] == ["native", "native"]
