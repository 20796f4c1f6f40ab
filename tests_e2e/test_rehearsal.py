"""Every fault that can be rehearsed, in one run with a plan of a rule for each: the record blames the right stage and the right cause,
what the SDK's retries can bridge is bridged, and everything is cleaned."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from pytest_mlcc.localaws import launch

LIMIT = 20  # seconds: more than twice what any stage takes on a busy machine
SLOW = 600  # longer than anybody waits
BUILD, SERVE, TUNE = ["build", "clean"], ["build", "push", "deploy", "test", "clean"], ["tune-sft", "clean"]


class Case(NamedTuple):
    """One entry: its lifecycle, its instance (which makes it a configuration of its own), its rule, and what its record has to say."""

    lifecycle: list[str]
    instance: str
    rule: str
    status: str
    failure_class: str | None = None
    words: str = ""


SOURCE = 'operation: "s3:PutObject", resource: "*/rt-{name}/source.zip"'
# No name has a word in it that a failure class is told by.
CASES = {
    "slow": Case(BUILD, "ml.g6.4xlarge", f"{SOURCE}, fault: slow-answer, seconds: {SLOW}", "fail-build", "timeout", f"{LIMIT} s"),
    "stuck": Case(
        SERVE, "ml.g5.2xlarge", 'operation: "sagemaker:CreateEndpoint", resource: "rt-{name}-*", fault: stuck, seconds: 2',
        "fail-deploy", "timeout", "timed out",
    ),
    "full": Case(
        SERVE, "ml.g5.xlarge", 'operation: "sagemaker:CreateEndpoint", resource: "rt-{name}-*", fault: insufficient-instance-capacity',
        "fail-deploy", "capacity", "apacity",
    ),
    "limits": Case(
        SERVE, "ml.g5.4xlarge", 'operation: "sagemaker:CreateEndpoint", resource: "rt-{name}-*", fault: resource-limit-exceeded',
        "fail-deploy", "quota", "ResourceLimitExceeded: The account-level service limit",
    ),
    "dies": Case(
        SERVE, "ml.g5.8xlarge",
        'operation: "sagemaker:CreateInferenceComponent", resource: "rt-{name}-*", fault: container-dies, requests: 1',
        "fail-ask-again", "unknown",
    ),
    "job-memory": Case(
        TUNE, "ml.g6.xlarge",
        'operation: "sagemaker:CreateTrainingJob", resource: "rt-{name}-*", fault: job-fails, step: 2, message: "CUDA out of memory"',
        "fail-tune-sft", "oom", "CUDA out of memory",
    ),
    "job-fails": Case(
        TUNE, "ml.g6.2xlarge", 'operation: "sagemaker:CreateTrainingJob", resource: "rt-{name}-*", fault: job-fails, step: 2',
        "fail-tune-sft", "unknown", "AlgorithmError",
    ),
    "job-full": Case(
        TUNE, "ml.g6.16xlarge",
        'operation: "sagemaker:CreateTrainingJob", resource: "rt-{name}-*", fault: insufficient-instance-capacity',
        "fail-tune-sft", "capacity", "apacity",
    ),
    "job-denied": Case(
        TUNE, "ml.g6e.2xlarge", 'operation: "sagemaker:CreateTrainingJob", resource: "rt-{name}-*", fault: access-denied',
        "fail-tune-sft", "credentials", "is not authorized to perform: sagemaker:CreateTrainingJob",
    ),
    "busy": Case(BUILD, "ml.g6e.xlarge", f"{SOURCE}, fault: throttling", "fail-build", "throttle", "SlowDown"),
    "busy-once": Case(BUILD, "ml.g6.8xlarge", f"{SOURCE}, fault: throttling, calls: 1", "pass"),
    "denied": Case(BUILD, "ml.g6e.4xlarge", f"{SOURCE}, fault: access-denied", "fail-build", "credentials", "AccessDenied"),
    "stale": Case(
        BUILD, "ml.g6e.8xlarge", 'operation: "codebuild:StartBuild", resource: "*/rt-{name}/*", fault: expired-token',
        "fail-build", "credentials", "ExpiredTokenException",
    ),
    "reset": Case(BUILD, "ml.g4dn.xlarge", f"{SOURCE}, fault: connection-reset", "fail-build", "timeout", "closed before"),
    "late": Case(BUILD, "ml.g5.16xlarge", f"{SOURCE}, fault: slow-answer, seconds: 0.3", "pass"),
}  # fmt: skip
PLAN = "seed: 7\nrules:\n" + "".join(f"  - {{{case.rule.replace('{name}', name)}}}\n" for name, case in CASES.items())
TESTS = """
import boto3, pytest
from botocore.exceptions import ClientError

def test_stage(stage, endpoint):
    endpoint.run(stage)

@pytest.mark.stage(after="test")
def test_ask_again(endpoint):
    endpoint.ask("What is the capital of France?")

@pytest.mark.stage(after="build")
def test_look_elsewhere(endpoint):
    if endpoint.entry.id == "rt-late":
        with pytest.raises(ClientError):
            boto3.client("codecommit").list_repositories()
"""


class Rehearsed:
    """The run, and every entry's record."""

    def __init__(self, project: Any) -> None:
        self.project = project
        (project.path / "plan.yaml").write_text(PLAN)
        # In the order of the plan: those that wait for their time to be up first, so that the others use it
        options = ("--mlcc-faults=plan.yaml", "--mlcc-latency=aws", "--mlcc-time-scale=6000", f"--mlcc-stage-timeout={LIMIT}")
        self.run = project.run("-p", "no:randomly", "-n", "2", *options)
        self.leftovers = project.leftovers()
        with project.cloud() as cloud:
            self.alive = cloud.alive()
            self.records = {name: cloud.record(project.config_id(f"rt-{name}")) for name in CASES}
            results = json.loads(cloud.text(cloud.results, next(key for key in cloud.keys(cloud.results) if key.endswith("results.json"))))
        self.results = results


@pytest.fixture(scope="module")
def rehearsed(make_project, entry) -> Rehearsed:
    entries = [entry(f"rt-{name}", instance=case.instance, lifecycle=case.lifecycle) for name, case in CASES.items()]
    return Rehearsed(make_project(*entries, tests=TESTS))


@pytest.mark.parametrize("name", CASES)
def test_the_record_names_the_stage_and_the_cause(rehearsed, name) -> None:
    case, record = CASES[name], rehearsed.records[name]
    assert (record["testStatus"], record.get("failureClass")) == (case.status, case.failure_class), record.get("errorMessage")
    assert case.words in record.get("errorMessage", "")


def test_a_cause_that_is_the_clouds_fault_is_told_from_the_others() -> None:
    """Of each kind there is a case, or this file proves less than it says."""
    from pytest_mlcc.localaws.rehearsal.vocabulary import Fault

    assert [fault for fault in Fault if f"fault: {fault}" not in PLAN] == []


def test_clean_passes_for_every_one_and_nothing_is_alive(rehearsed) -> None:
    assert {name: rehearsed.records[name]["stageResults"]["clean"]["status"] for name in CASES} == dict.fromkeys(CASES, "pass")
    for name in CASES:
        assert rehearsed.project.ledger(rehearsed.run.run_id, f"rt-{name}").open() == ()
    assert rehearsed.alive == []


def test_no_process_stays(rehearsed) -> None:
    assert [one for one in rehearsed.leftovers if one.startswith("process")] == []


def test_header_record_and_report_name_what_was_rehearsed(rehearsed) -> None:
    words = f"aws latency at scale 6000, faults plan.yaml ({len(CASES)} rules, seed 7)"
    assert f"mlcc: rehearsal: {words}" in rehearsed.run.output
    assert {record["rehearsal"] for record in rehearsed.records.values()} == {words}
    assert rehearsed.results["rehearsal"] == words


def test_the_end_of_the_run_tells_what_struck_and_which_hole_was_met(rehearsed) -> None:
    assert "mlcc: faults played: rule 1 (slow-answer) struck once of 1" in rehearsed.run.output
    assert "met no call" not in rehearsed.run.output
    assert "mlcc: asked for, but the local AWS does not have it: codecommit:ListRepositories (once)" in rehearsed.run.output


def test_the_next_run_meets_no_fault(rehearsed) -> None:
    run = rehearsed.project.run("--mlcc-entry=rt-busy")
    assert run.code == 0, run
    with rehearsed.project.cloud() as cloud:
        record = cloud.record(rehearsed.project.config_id("rt-busy"))
    assert (record["testStatus"], "rehearsal" in record) == ("pass", False)


@pytest.fixture(scope="module")
def small(make_project, entry) -> Any:
    return make_project(entry("rt-small", lifecycle=["build", "clean"]))


def rehearse(project: Any, *rules: str) -> Any:
    """A run of ``project`` with a plan of these rules."""
    (project.path / "plan.yaml").write_text("rules:\n" + "".join(f"  - {{{rule}}}\n" for rule in rules))
    return project.run("--mlcc-faults=plan.yaml")


def test_who_may_not_ask_for_the_table_loses_no_result_and_is_told_what_struck(small) -> None:
    run = rehearse(small, 'operation: "dynamodb:*", fault: access-denied')
    assert run.code == 1
    assert "rt-small: the record was not written: can't look for table mlcc-ci-table: AccessDeniedException" in run.output
    assert "mlcc: faults played: rule 1 (access-denied) struck" in run.output
    results = small.path / ".mlcc" / "e2e-results" / "reports" / run.run_id / "results.json"
    (told,) = json.loads(results.read_text())["results"]
    assert (told["status"], told["failureClass"]) == ("fail-generate", "credentials")


def test_a_lost_connection_to_the_table_is_no_unknown_failure(small) -> None:
    run = rehearse(small, 'operation: "dynamodb:*", fault: connection-reset')
    assert "failure class: timeout" in run.output, run


def test_a_run_that_may_not_ask_who_it_is_says_so_in_a_line_and_claims_nothing(small) -> None:
    run = rehearse(small, 'operation: "sts:*", fault: expired-token')
    assert run.code == 1
    assert "ask whose credentials these are: ExpiredToken: The security token included in the request is expired" in run.output
    assert "Traceback" not in run.output
    assert "botocore/" not in run.output
    with small.cloud() as cloud:
        records = cloud.table("mlcc-ci-table").scan()["Items"]
    assert "running" not in {one["testStatus"] for one in records}


def test_a_clean_that_is_refused_says_why(small) -> None:
    run = rehearse(small, 'operation: "s3:DeleteObject*", fault: access-denied')
    with small.cloud() as cloud:
        record = cloud.record(small.config_id("rt-small"))
    assert (record["testStatus"], record["failureClass"]) == ("fail-clean", "credentials"), run
    assert "AccessDenied" in run.output


def test_a_run_says_what_mlcc_local_up_rehearses_and_refuses_to_rehearse_something_else(make_project, entry) -> None:
    project = make_project(entry("rt-one", lifecycle=["clean"]))
    (project.path / "plan.yaml").write_text('rules: [{operation: "s3:PutObject", fault: throttling, calls: 1}]')
    words = "aws latency at scale 1000, faults plan.yaml (1 rule, seed 0)"
    up = project.mlcc("local", "up", "--latency", "aws", "--time-scale", "1000", "--faults", "plan.yaml")
    assert f"It rehearses {words}." in up.stdout
    run = project.run()
    assert run.code == 0, run
    assert f"mlcc: rehearsal: {words}" in run.output
    assert "mlcc: faults played since mlcc local up: rule 1 (throttling) struck once of " in run.output
    with project.cloud() as cloud:
        assert cloud.record(project.config_id("rt-one"))["rehearsal"] == words
    refused = project.run("--mlcc-latency=aws", "--mlcc-time-scale=60")
    assert refused.code == pytest.ExitCode.USAGE_ERROR
    assert f"plays something else now: {words}" in refused.output
    assert project.mlcc("local", "down").returncode == 0


def test_no_run_begins_a_rehearsal_under_another_that_goes_on(make_project, entry) -> None:
    project = make_project(entry("rt-one", lifecycle=["clean"]))
    launch.ensure(project.path, engine=False, told="")  # as a run does that rehearses nothing; this process stands for it
    refused = project.run("--mlcc-latency=aws", "--mlcc-time-scale=1000")
    assert refused.code == pytest.ExitCode.USAGE_ERROR
    assert "plays something else now: no delays and no faults" in refused.output
    assert project.run().code == 0, "one that rehearses nothing is welcome"
    launch.release(project.path)
    assert project.run("--mlcc-latency=aws", "--mlcc-time-scale=1000").code == 0
