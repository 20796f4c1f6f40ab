"""Limits, queues, retries and waits of builds: what a night's run meets when many builds come at once."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal
from pytest_mlcc.localaws.rehearsal.vocabulary import Delay
from pytest_mlcc.localaws.services.codebuild.environment import Environment
from pytest_mlcc.localaws.services.codebuild.model import BUILD, PROJECT, Builds, build_record
from pytest_mlcc.localaws.services.codebuild.run import BuildRun
from pytest_mlcc.localaws.services.codebuild.slots import Slots
from pytest_mlcc.localaws.store import Record, Store

ROLE = "arn:aws:iam::123456789012:role/mlcc-codebuild-role"
REGION = "us-west-2"
Maker = Callable[..., str]


def _spec(*commands: str, on_failure: str = "") -> str:
    lines = ["version: 0.2", "phases:", "  build:", *([f"    on-failure: {on_failure}"] if on_failure else []), "    commands:"]
    return "\n".join([*lines, *(f"      - {each!r}" for each in commands)]) + "\n"


@pytest.fixture
def make_project(local_aws: Any) -> Iterator[Maker]:
    codebuild, names = local_aws.client("codebuild"), []

    def make(*commands: str, on_failure: str = "", **more: Any) -> str:
        names.append(f"b-{uuid.uuid4().hex[:8]}")
        codebuild.create_project(
            name=names[-1],
            source={"type": "NO_SOURCE", "buildspec": _spec(*(commands or ("true",)), on_failure=on_failure)},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={"type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "BUILD_GENERAL1_SMALL"},
            serviceRole=ROLE,
            **more,
        )
        return names[-1]

    yield make
    for name in names:
        codebuild.delete_project(name=name)


def _ended(codebuild: Any, build_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        build: dict[str, Any] = codebuild.batch_get_builds(ids=[build_id])["builds"][0]
        if build["buildComplete"]:
            return build
        assert time.monotonic() < deadline, build
        time.sleep(0.02)


def _code(refused: pytest.ExceptionInfo[ClientError]) -> str:
    return str(refused.value.response["Error"]["Code"])


def test_a_phase_is_tried_again_while_its_error_matches(local_aws: Any, make_project: Maker) -> None:
    codebuild = local_aws.client("codebuild")
    flaky = "echo x >> tries; echo could not connect; test $(wc -l < tries) -ge 3"
    build = _ended(codebuild, codebuild.start_build(projectName=make_project(flaky, on_failure="RETRY-5-not connect"))["build"]["id"])
    assert build["buildStatus"] == "SUCCEEDED"
    build = _ended(codebuild, codebuild.start_build(projectName=make_project(flaky, on_failure="RETRY-1"))["build"]["id"])
    assert build["buildStatus"] == "FAILED", "one more try was not enough"
    build = _ended(codebuild, codebuild.start_build(projectName=make_project(flaky, on_failure="RETRY-other words"))["build"]["id"])
    assert build["buildStatus"] == "FAILED", "the error was another"


def test_a_full_project_takes_no_more_builds(local_aws: Any, make_project: Maker) -> None:
    codebuild = local_aws.client("codebuild")
    name = make_project("sleep 300", concurrentBuildLimit=1)
    first = codebuild.start_build(projectName=name)["build"]["id"]
    with pytest.raises(ClientError, match="Cannot have more than 1 active builds for the project") as refused:
        codebuild.start_build(projectName=name)
    assert _code(refused) == "AccountLimitExceededException"
    codebuild.stop_build(id=first)
    _ended(codebuild, first)
    codebuild.update_project(name=name, concurrentBuildLimit=-1)
    assert "concurrentBuildLimit" not in codebuild.batch_get_projects(names=[name])["projects"][0]
    with pytest.raises(ClientError, match="cannot exceed the account-level concurrent build limit of 60"):
        codebuild.update_project(name=name, concurrentBuildLimit=61)


def test_the_same_token_starts_one_build(local_aws: Any, make_project: Maker) -> None:
    codebuild, name = local_aws.client("codebuild"), make_project()
    ids = {codebuild.start_build(projectName=name, idempotencyToken="t-1")["build"]["id"] for _ in range(2)}
    assert codebuild.list_builds_for_project(projectName=name)["ids"] == list(ids)
    with pytest.raises(ClientError) as refused:
        codebuild.start_build(projectName=name, idempotencyToken="t-1", timeoutInMinutesOverride=10)
    assert _code(refused) == "InvalidInputException"


def test_retries_repeat_the_build_they_retry(local_aws: Any, make_project: Maker) -> None:
    codebuild, name = local_aws.client("codebuild"), make_project("false")
    first = codebuild.start_build(
        projectName=name, buildspecOverride=_spec('test "$A" = 1'), environmentVariablesOverride=[{"name": "A", "value": "1"}]
    )["build"]
    _ended(codebuild, first["id"])
    again = codebuild.retry_build(id=first["id"])["build"]
    assert (_ended(codebuild, again["id"])["buildStatus"], again["buildNumber"]) == ("SUCCEEDED", 2)
    codebuild.batch_delete_builds(ids=[first["id"], again["id"]])
    assert codebuild.start_build(projectName=name)["build"]["buildNumber"] == 3, "a number is never given twice"


def test_failed_builds_are_retried_as_often_as_the_project_says(local_aws: Any, make_project: Maker) -> None:
    codebuild, name = local_aws.client("codebuild"), make_project("false", autoRetryLimit=2)
    codebuild.start_build(projectName=name)
    deadline = time.monotonic() + 20
    while len(ids := codebuild.list_builds_for_project(projectName=name, sortOrder="ASCENDING")["ids"]) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    builds = [_ended(codebuild, build_id) for build_id in ids]
    assert [build["autoRetryConfig"]["autoRetryNumber"] for build in builds] == [0, 1, 2]
    assert builds[2]["autoRetryConfig"]["previousAutoRetry"] == builds[1]["arn"]


def test_mistakes_are_refused_as_invalid_input(local_aws: Any, make_project: Maker) -> None:
    codebuild, name = local_aws.client("codebuild", parameter_validation=False), make_project()
    mistakes: list[dict[str, Any]] = [
        {"timeoutInMinutesOverride": 1},
        {"computeTypeOverride": "HUGE"},
        {"sourceTypeOverride": "S3", "sourceLocationOverride": "no-key"},
        {"artifactsOverride": {"type": "S3"}},
        {"secondarySourcesOverride": [{"type": "S3", "location": "b/k.zip"}]},
        {"logsConfigOverride": {"s3Logs": {"status": "ENABLED"}}},
    ]
    for mistake in mistakes:
        with pytest.raises(ClientError) as refused:
            codebuild.start_build(projectName=name, **mistake)
        assert _code(refused) == "InvalidInputException", mistake
    with pytest.raises(ClientError, match="Invalid next token"):
        codebuild.list_projects(nextToken="nonsense")
    assert codebuild.list_builds_for_project(projectName=name)["ids"] == []


def test_projects_are_sorted_and_tagged(local_aws: Any, make_project: Maker) -> None:
    codebuild = local_aws.client("codebuild")
    first, second = make_project(tags=[{"key": "run", "value": "1"}]), make_project()
    by_time = [
        name for name in codebuild.list_projects(sortBy="CREATED_TIME", sortOrder="DESCENDING")["projects"] if name in (first, second)
    ]
    assert by_time == [second, first]
    codebuild.update_project(name=first, description="d")
    newest = codebuild.list_projects(sortBy="LAST_MODIFIED_TIME", sortOrder="DESCENDING")["projects"]
    assert newest.index(first) < newest.index(second)
    assert codebuild.batch_get_projects(names=[first])["projects"][0]["tags"] == [{"key": "run", "value": "1"}]


def test_what_runs_is_told_with_its_process(local_aws: Any, make_project: Maker) -> None:
    codebuild, name = local_aws.client("codebuild"), make_project("sleep 300")
    build_id = codebuild.start_build(projectName=name)["build"]["id"]

    def told() -> list[dict[str, Any]]:
        request = urllib.request.Request(f"{local_aws.endpoint_url}/_mlcc/running", data=b"{}", method="POST")
        with urllib.request.urlopen(request, timeout=10) as response:
            return [each for each in json.load(response)["running"] if each["name"] == build_id]

    deadline = time.monotonic() + 20
    while not (found := told()) or found[0]["status"] != "BUILD":
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    assert found[0]["kind"] == "build"
    assert Path(f"/proc/{found[0]['pid']}").exists()
    codebuild.stop_build(id=build_id)
    while told():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- below the API: times that AWS counts in minutes


class _Waits(Rehearsal):
    def __init__(self, **seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def delay(self, what: Delay) -> float:
        return self._seconds.get(what.name, 0.0)


class _Bench:
    """Runs builds of one store under a rehearsal, without the API."""

    def __init__(self, aws: Any, directory: Path) -> None:
        self.store = Store(lambda: None)
        self._aws, self._directory = aws, directory
        self._environment = Environment(endpoint_url=aws.endpoint_url, account=aws.account, region=REGION, commands=directory / "bin")

    def run(self, *, slots: Slots, rehearsal: Rehearsal | None = None, **facts: Any) -> tuple[BuildRun, threading.Thread]:
        project = {"name": "p", "source": {"type": "NO_SOURCE", "buildspec": _spec("true")}, "environment": {"environmentVariables": []}}
        record = build_record({**project, **facts}, number=1, region=REGION, account=self._aws.account)
        self.store.add(REGION, BUILD, record["id"], record)
        run = BuildRun(record, REGION, Builds(self.store), self._environment, self._aws.client, 60, self._directory, slots,
                       rehearsal or Rehearsal())  # fmt: skip
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return run, thread

    def record(self, run: BuildRun) -> Record:
        return self.store.get(REGION, BUILD, run.record["id"]) or {}

    def durations(self, run: BuildRun) -> dict[str, float]:
        return {phase["phaseType"]: phase["endTime"] - phase["startTime"] for phase in self.record(run)["phases"] if "endTime" in phase}


@pytest.fixture
def bench(local_aws: Any, tmp_path: Path) -> _Bench:
    return _Bench(local_aws, tmp_path)


def test_rehearsed_waits_are_spent_in_their_phases(bench: _Bench) -> None:
    run, thread = bench.run(slots=Slots(lambda: 1), rehearsal=_Waits(BUILD_QUEUE=0.2, BUILD_PROVISIONING=0.3, BUILD=0.4))
    thread.join(20)
    took = bench.durations(run)
    assert bench.record(run)["buildStatus"] == "SUCCEEDED"
    assert took["QUEUED"] >= 0.2
    assert took["PROVISIONING"] >= 0.3
    assert took["BUILD"] >= 0.4


@pytest.mark.parametrize("phase", ["BUILD_QUEUE", "BUILD_PROVISIONING", "BUILD"])
def test_a_build_is_stopped_while_it_waits(bench: _Bench, phase: str) -> None:
    run, thread = bench.run(slots=Slots(lambda: 1), rehearsal=_Waits(**{phase: 300.0}))
    wanted = phase.removeprefix("BUILD_").replace("QUEUE", "QUEUED")
    deadline = time.monotonic() + 10
    while bench.record(run)["currentPhase"] != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.stop()
    thread.join(5)
    ended = bench.record(run)
    assert (ended["buildStatus"], ended["buildComplete"]) == ("STOPPED", True)
    assert next(each["phaseStatus"] for each in ended["phases"] if each["phaseType"] == wanted) == "STOPPED"


def test_builds_wait_their_turn_and_give_up_in_time(bench: _Bench) -> None:
    slots = Slots(lambda: 1)
    first, first_thread = bench.run(slots=slots, rehearsal=_Waits(BUILD=300.0))
    deadline = time.monotonic() + 10
    while bench.record(first)["currentPhase"] != "BUILD":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    late, late_thread = bench.run(slots=slots, queuedTimeoutInMinutes=0.005)
    second, second_thread = bench.run(slots=slots)
    late_thread.join(10)
    ended = bench.record(late)
    assert (ended["buildStatus"], ended["phases"][1]["phaseStatus"]) == ("TIMED_OUT", "TIMED_OUT")
    assert bench.record(second)["currentPhase"] == "QUEUED"
    first.stop()
    for thread in (first_thread, second_thread):
        thread.join(10)
    assert bench.record(second)["buildStatus"] == "SUCCEEDED"


def test_a_build_whose_server_died_says_so() -> None:
    store = Store(lambda: None)
    project = {"name": "p", "source": {"type": "NO_SOURCE"}, "environment": {}}
    store.add(REGION, PROJECT, "p", project)
    record = build_record(project, number=1, region=REGION, account="123456789012")
    store.add(REGION, BUILD, record["id"], record)
    Builds(store).fault_unfinished()
    ended = store.get(REGION, BUILD, record["id"]) or {}
    assert (ended["buildStatus"], ended["buildComplete"], ended["currentPhase"]) == ("FAULT", True, "COMPLETED")
    assert ended["phases"][1]["contexts"][0]["message"] == "The local AWS ended while this build ran."
