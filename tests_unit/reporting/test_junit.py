from __future__ import annotations

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

from pytest_mlcc.errors import FailureClass
from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.reporting.cost import Cost
from pytest_mlcc.reporting.junit import properties


def test_a_failed_stage_carries_everything_that_a_ci_groups_by(make: Any) -> None:
    outcome = Outcome("rt-qwen3-4b", "deploy", Result.FAIL, 1.5, failure_class=FailureClass.QUOTA)
    found = properties(make.entry(), "deploy", outcome, make.run(), status="fail-deploy", cost=Cost(0.41))
    assert dict(found) == {
        "entry": "rt-qwen3-4b",
        "tier": "ci",
        "stage": "deploy",
        "configId": make.entry().config_id,
        "status": "fail-deploy",
        "failureClass": "quota",
        "cost": "0.41",
        "costComplete": "true",
        "runId": "20261120T110203-4f2a",
    }


def test_what_is_not_known_is_left_out(make: Any) -> None:
    names = [name for name, _ in properties(make.entry(), "deploy", Outcome("e", "deploy", Result.PASS), make.run())]
    assert names == ["entry", "tier", "stage", "configId", "runId"]
    unknown = dict(properties(make.entry(), "clean", None, make.run(), cost=Cost(complete=False)))
    assert "cost" not in unknown
    assert unknown["costComplete"] == "false"


def test_a_rehearsed_failure_is_told_from_a_real_one(make: Any) -> None:
    run = replace(make.run(), rehearsal="faults night.yaml (1 rule, seed 7)")
    assert ("rehearsal", "faults night.yaml (1 rule, seed 7)") in properties(make.entry(), "deploy", None, run)


def test_no_value_makes_the_xml_unreadable(make: Any) -> None:
    element = ET.Element("property")
    for name, value in properties(make.entry(), "a\x00b\x1b[31m\uffff", None, make.run()):
        element.set(name, value)
    assert ET.fromstring(ET.tostring(element)).get("stage") == "ab"


def test_a_ci_can_count_what_the_scripts_left(make: Any) -> None:
    clean = make.leaky(make.entry(), "iam-role r", "s3-prefix s3://b/x/").outcomes["clean"]
    assert dict(properties(make.entry(), "clean", clean, make.run()))["leftByTheScripts"] == "iam-role r; s3-prefix s3://b/x/"
