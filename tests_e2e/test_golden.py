"""A model that passes, as a newcomer sees it: an empty project, ``pytest``, and everything there to read when it is over."""

from __future__ import annotations

import json
import socket
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest

STAGES = ["generate", "build", "push", "deploy", "test", "tune-sft", "adapter-add", "test-adapter", "clean"]
REMEMBERS_THE_ADDRESS = """
import os, pathlib, pytest

@pytest.fixture
def endpoint(endpoint):
    pathlib.Path(__file__).with_name("address").write_text(os.environ["AWS_ENDPOINT_URL"])
    return endpoint
"""


@dataclass
class Seen:
    """Two runs of one project, and what its AWS and the machine held after each."""

    project: Any
    config_id: str
    runs: list[Any] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    histories: list[list[dict[str, Any]]] = field(default_factory=list)
    leftovers: list[list[str]] = field(default_factory=list)
    alive: list[list[str]] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    objects: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def seen(make_project, entry) -> Seen:
    """The first run is of one entry; the second, with two workers, of the same one and another."""
    project = make_project(entry("rt-one"), conftest=REMEMBERS_THE_ADDRESS)
    found = Seen(project, project.config_id("rt-one"))
    look(found, project.run("--junitxml=junit.xml", "--json-report", "--json-report-file=report.json"))
    project.write(entry("rt-one"), entry("rt-two", instance="ml.g5.2xlarge"), conftest=REMEMBERS_THE_ADDRESS)
    look(found, project.run("-m", "ci", "-n", "2", "--junitxml=junit-two.xml"))
    return found


def look(found: Seen, run: Any) -> None:
    project = found.project
    found.runs.append(run)
    found.leftovers.append(project.leftovers())
    found.addresses.append((project.path / "address").read_text())
    with project.cloud() as cloud:
        found.records.append(cloud.record(found.config_id))
        found.histories.append(cloud.history(found.config_id))
        found.alive.append(cloud.alive())
        found.objects |= {key: cloud.text(cloud.results, key) for key in cloud.keys(cloud.results)}


def test_every_stage_passes_and_the_run_says_so(seen) -> None:
    first, second = seen.runs
    assert first.code == 0, first
    assert second.code == 0, second
    assert "9 passed" in first.output
    assert "18 passed" in second.output
    assert "warnings summary" not in first.output + second.output


def test_the_header_says_where_it_runs_and_why(seen) -> None:
    output = seen.runs[0].output
    assert "mlcc: target local (default), driver native (default for local), run " + seen.runs[0].run_id in output
    assert "mlcc: catalog catalog.json (ini): 1 entry (ci 1)" in output
    assert "no AWS account is touched" in output
    assert "entry points run as processes on this machine's Python" in output


def test_the_record_is_there_for_any_client_after_the_run(seen) -> None:
    record = seen.records[0]
    assert record["testStatus"] == "pass"
    assert record["e2eCatalogId"] == "rt-one"
    assert record["schemaVersion"] == 2
    assert record["lastRunId"] == seen.runs[0].run_id
    assert {"errorMessage", "claimRunId", "claimExpires"}.isdisjoint(record)
    assert json.loads(record["configJson"])["modelName"] == "Qwen/Qwen3-0.6B"


def test_the_record_tells_each_stage_with_its_seconds_and_its_log(seen) -> None:
    stages = seen.records[0]["stageResults"]
    assert sorted(stages) == sorted(STAGES)
    assert {stage: result["status"] for stage, result in stages.items()} == dict.fromkeys(STAGES, "pass")
    assert all(result["durationSeconds"] > 0 for result in stages.values())
    total = sum(result["durationSeconds"] for result in stages.values())
    assert abs(total - seen.records[0]["lastTestDuration"]) <= 1
    for result in stages.values():
        key = urlsplit(result["logPointer"]).path.lstrip("/")
        assert key in seen.objects, f"{result['logPointer']} is not there"
    assert "InService" in seen.objects[f"reports/{seen.runs[0].run_id}/rt-one/deploy.log"]


def test_the_record_proves_what_the_adapter_was_taught(seen) -> None:
    facts = seen.records[0]["stageResults"]["test-adapter"]["facts"]
    assert facts["rows"] == 16
    assert facts["base_exact"] == 0
    assert facts["adapter_exact"] >= 12
    assert facts["adapter_loss"] < facts["base_loss"] / Decimal(2)


def test_the_adapter_was_trained_on_every_step_it_tells(seen) -> None:
    metrics = seen.records[0]["stageResults"]["tune-sft"]["facts"]["metrics"]
    assert metrics["train_loss"] < metrics["train_loss_first"]
    assert metrics["train_steps"] > 1


def test_a_run_is_one_item_of_history_and_the_record_stays_one(seen) -> None:
    first, second = (run.run_id for run in seen.runs)
    assert [item["runId"] for item in seen.histories[0]] == [first]
    assert sorted(item["runId"] for item in seen.histories[1]) == [first, second]
    assert seen.records[1]["lastRunId"] == second
    assert seen.records[1]["previousTestStatus"] == "pass"
    assert seen.records[1]["createdAt"] == seen.records[0]["createdAt"]


def test_the_reports_lie_in_the_results_bucket(seen) -> None:
    run_id = seen.runs[0].run_id
    for folder in (f"reports/{run_id}", f"runs/ci/{run_id}"):
        assert "rt-one" in seen.objects[f"{folder}/summary.md"]
        assert json.loads(seen.objects[f"{folder}/results.json"])
    logs = {key for key in seen.objects if key.startswith(f"reports/{run_id}/rt-one/")}
    assert logs == {f"reports/{run_id}/rt-one/{stage}.log" for stage in STAGES}
    assert f"s3://mlcc-e2e-results-123456789012-us-west-2/reports/{run_id}/" in seen.runs[0].output


def test_junit_has_a_testcase_per_stage_with_its_facts(seen) -> None:
    cases = list(ET.parse(seen.project.path / "junit.xml").getroot().iter("testcase"))
    assert [case.get("name") for case in cases] == [f"test_stage[rt-one-{stage}]" for stage in STAGES]
    durations = {stage: result["durationSeconds"] for stage, result in seen.records[0]["stageResults"].items()}
    for stage, case in zip(STAGES, cases, strict=True):
        properties = {one.get("name"): one.get("value") for one in case.iter("property")}
        assert properties["entry"] == "rt-one"
        assert properties["tier"] == "ci"
        assert properties["stage"] == stage
        assert properties["configId"] == seen.config_id
        assert properties["status"] == "pass"
        assert properties["runId"] == seen.runs[0].run_id
        assert properties["cost"] == "0.0"
        assert abs(float(case.get("time")) - float(durations[stage])) < 0.002


def test_junit_of_two_workers_misses_no_stage_of_either_entry(seen) -> None:
    cases = [case.get("name") for case in ET.parse(seen.project.path / "junit-two.xml").getroot().iter("testcase")]
    assert sorted(cases) == sorted(f"test_stage[{name}-{stage}]" for name in ("rt-one", "rt-two") for stage in STAGES)


def test_the_json_report_carries_the_same(seen) -> None:
    report = json.loads((seen.project.path / "report.json").read_text())
    assert report["summary"] == {"passed": 9, "total": 9, "collected": 9}
    properties = [{name: value for one in test["user_properties"] for name, value in one.items()} for test in report["tests"]]
    assert [one["stage"] for one in properties] == STAGES


def test_nothing_that_the_run_made_is_alive(seen) -> None:
    assert seen.alive == [[], []]
    named = {one.kind for one in seen.project.ledger(seen.runs[0].run_id, "rt-one").named()}
    assert {"endpoint", "endpoint-config", "inference-component", "image", "model-package-group", "s3-prefix", "training-job"} <= named


def test_no_process_port_or_temporary_file_is_left(seen) -> None:
    assert seen.leftovers == [[], []]
    for address in seen.addresses:
        url = urlsplit(address)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((url.hostname, url.port), timeout=5)
