"""One thing is broken at a time: the record blames that stage, what needs it is skipped and says why, and nothing stays behind."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

BROKEN = {
    "rt-exits": "deploy",
    "rt-hangs": "build",
    "rt-no-build": "build",
    "rt-bad-row": "tune-sft",
    "rt-idle-adapter": "test-adapter",
}
LIMIT = 20  # seconds: more than twice what any stage takes on a busy machine
SKIPPED = {
    "rt-exits": ["test", "tune-sft", "deaden", "adapter-add", "test-adapter"],
    "rt-hangs": ["push", "deploy", "test", "tune-sft", "deaden", "adapter-add", "test-adapter"],
    "rt-no-build": ["push", "deploy", "test", "tune-sft", "deaden", "adapter-add", "test-adapter"],
    "rt-bad-row": ["adapter-add", "test-adapter"],
    "rt-idle-adapter": [],
}
TESTS = """
import io, json, pathlib, boto3, pytest

def test_stage(stage, endpoint):
    endpoint.run(stage)

@pytest.mark.stage(after="generate")
def test_break(endpoint):
    project, name = pathlib.Path(endpoint.facts["generate"]["project"]), endpoint.entry.id
    if name == "rt-exits":
        (project / "serve").write_text("#!/usr/bin/env python3\\nraise SystemExit('no GPU was found')\\n")
    checks = {"rt-no-build": 'raise SystemExit("licence check failed")', "rt-hangs": "import signal; signal.pause()"}
    if name in checks:
        buildspec = project / "buildspec.yml"
        buildspec.write_text(buildspec.read_text().replace("- docker build", f"- python3 -c '{checks[name]}'\\n      - docker build"))
    if name == "rt-bad-row":
        rows = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(6)]
        del rows[3]["completion"]
        body = "\\n".join(json.dumps(row) for row in rows)
        boto3.client("s3").put_object(Bucket="mlcc-e2e-datasets", Key="bad/train.jsonl", Body=body.encode())

@pytest.mark.stage(after="tune-sft")
def test_deaden(endpoint):
    if endpoint.entry.id != "rt-idle-adapter":
        pytest.skip("this adapter may live")
    import torch
    from safetensors.torch import load, save

    s3 = boto3.client("s3")
    bucket, _, prefix = endpoint.facts["tune-sft"]["artifacts"].removeprefix("s3://").partition("/")
    key = f"{prefix}/checkpoints/hf/adapter_model.safetensors"
    weights = load(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    dead = {name: torch.zeros_like(weight) if "lora_B" in name else weight for name, weight in weights.items()}
    assert dead.keys() == weights.keys() and any("lora_B" in name for name in dead)
    s3.put_object(Bucket=bucket, Key=key, Body=save(dead, metadata={"format": "pt"}))
"""


class Broken:
    """The run, and every entry's record."""

    def __init__(self, project: Any) -> None:
        self.project = project
        # In the catalog's order: the one that hangs first, so that the others use its time
        self.run = project.run("-p", "no:randomly", "-n", "2", "-rs", f"--mlcc-stage-timeout={LIMIT}", "--junitxml=junit.xml")
        self.leftovers = project.leftovers()
        with project.cloud() as cloud:
            self.alive = cloud.alive()
            self.records = {name: cloud.record(project.config_id(name)) for name in BROKEN}

    def results(self, name: str) -> dict[str, Any]:
        return dict(self.records[name]["stageResults"])


@pytest.fixture(scope="module")
def broken(make_project, entry) -> Broken:
    """Five entries, each broken in its own way, side by side in one run."""
    project = make_project(
        entry("rt-hangs", instance="ml.g5.4xlarge"),
        entry("rt-exits"),
        entry("rt-no-build", instance="ml.g5.2xlarge"),
        entry("rt-bad-row", instance="ml.g6.xlarge", dataset="s3://mlcc-e2e-datasets/bad/train.jsonl"),
        entry("rt-idle-adapter", instance="ml.g6.2xlarge"),
        tests=TESTS,
    )
    return Broken(project)


def test_a_broken_model_makes_the_exit_code_one(broken) -> None:
    assert broken.run.code == 1, broken.run
    assert "5 failed" in broken.run.output


@pytest.mark.parametrize(("name", "stage"), BROKEN.items())
def test_the_record_blames_the_stage_that_broke(broken, name, stage) -> None:
    assert broken.records[name]["testStatus"] == f"fail-{stage}"
    results = broken.results(name)
    assert [one for one, result in results.items() if result["status"] == "fail"] == [stage]
    assert broken.records[name]["errorMessage"] == results[stage]["errorSummary"]


@pytest.mark.parametrize(("name", "skipped"), SKIPPED.items())
def test_what_needs_the_broken_stage_is_skipped_and_says_why(broken, name, skipped) -> None:
    results = broken.results(name)
    reasons = {one: result["skipReason"] for one, result in results.items() if result["status"] == "skip"}
    if reasons.get("deaden") == "this adapter may live":  # the team's own skip
        del reasons["deaden"]
    assert sorted(reasons) == sorted(skipped)
    for reason in reasons.values():
        assert reason.startswith(f"{name}: {BROKEN[name]} failed (")


def test_junit_shows_the_reason_of_each_skip(broken) -> None:
    cases = {case.get("name"): case for case in ET.parse(broken.project.path / "junit.xml").getroot().iter("testcase")}
    skip = cases["test_stage[rt-no-build-deploy]"].find("skipped")
    assert skip is not None
    assert "rt-no-build: build failed (" in skip.get("message")
    failure = cases["test_stage[rt-no-build-build]"].find("failure")
    assert failure is not None
    assert "licence check failed" in failure.text


def test_a_failed_tune_leaves_the_test_of_the_base_model_alone(broken) -> None:
    for name in ("rt-bad-row", "rt-idle-adapter"):
        assert broken.results(name)["test"]["status"] == "pass"


def test_a_container_that_exits_is_told_with_its_code_and_its_last_words(broken) -> None:
    record = broken.records["rt-exits"]
    assert "exit code 1" in record["errorMessage"]
    assert "no GPU was found" in record["errorMessage"]


def test_a_build_that_hangs_runs_out_of_time(broken) -> None:
    record = broken.records["rt-hangs"]
    assert record["failureClass"] == "timeout"
    assert f"{LIMIT} s" in record["errorMessage"]
    assert LIMIT - 1 < broken.results("rt-hangs")["build"]["durationSeconds"] < LIMIT + 10


def test_a_build_that_fails_is_told_with_the_end_of_its_log(broken) -> None:
    record = broken.records["rt-no-build"]
    assert "phase BUILD FAILED" in record["errorMessage"]
    assert "licence check failed" in record["errorMessage"]


def test_a_bad_row_is_told_by_its_number(broken) -> None:
    message = broken.records["rt-bad-row"]["errorMessage"]
    assert "row 4" in message
    assert "completion" in message


def test_an_adapter_that_changes_nothing_fails_with_its_figures(broken) -> None:
    message = broken.records["rt-idle-adapter"]["errorMessage"]
    assert "the adapter changes nothing" in message
    assert "of 16 taught answers the adapter gives 0" in message


def test_clean_passes_for_every_broken_model_and_nothing_is_alive(broken) -> None:
    assert {name: broken.results(name)["clean"]["status"] for name in BROKEN} == dict.fromkeys(BROKEN, "pass")
    for name in BROKEN:
        ledger = broken.project.ledger(broken.run.run_id, name)
        assert ledger.named()
        assert ledger.open() == ()
    assert broken.alive == []


def test_broken_models_leave_no_process_behind(broken) -> None:
    assert [one for one in broken.leftovers if one.startswith("process")] == []


def test_each_failure_comes_with_the_line_that_runs_it_again(broken) -> None:
    for name in BROKEN:
        assert f"pytest --mlcc-entry {name}" in broken.run.output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"instance": "ml.g5.nano"}, "ml.g5.nano"),
        ({"args": "--deployment-config=transformers-vllm --instance-type=ml.g5.xlarge --region=us-west-2"}, "model"),
        ({"timeout": "soon"}, "timeout"),
    ],
)
def test_a_mistake_in_the_catalog_stops_everything_before_it_starts(make_project, entry, change, words) -> None:
    project = make_project(entry("rt-wrong", **change))
    run = project.run()
    assert run.code == pytest.ExitCode.USAGE_ERROR, run
    assert "rt-wrong" in run.output
    assert words in run.output
    assert not (project.path / ".mlcc" / "local").exists()
