"""What a rehearsal does to jobs, and what is left of them when their server ends: delays, faults, quotas, restarts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.rehearsal.latency import Profile
from pytest_mlcc.localaws.rehearsal.plan import FaultPlan
from pytest_mlcc.localaws.rehearsal.rules import Rule
from pytest_mlcc.localaws.rehearsal.scenario import Scenario
from pytest_mlcc.localaws.rehearsal.vocabulary import Delay
from pytest_mlcc.localaws.services.sagemaker.jobs.live import JobKind, LiveJobs
from pytest_mlcc.localaws.services.sagemaker.jobs.metrics import StepWatch
from pytest_mlcc.localaws.services.sagemaker.jobs.story import FailedError, Job
from pytest_mlcc.localaws.services.sagemaker.resources import TRAINING_JOB, Resources
from pytest_mlcc.localaws.services.service_quotas.quotas import Quotas, Usage
from pytest_mlcc.localaws.store import Store
from pytest_mlcc.localaws.wire import AwsError, Call

REGION = "us-west-2"
KIND = JobKind(TRAINING_JOB, "Training", Usage.TRAINING_JOB, Delay.TRAINING_START, stages=True)


class Work:
    """Work that lasts until it is let go, or stopped."""

    def __init__(self, *, go: bool = False) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        if go:
            self.go.set()

    def run(self, job: Job) -> Mapping[str, Any]:
        job.begin("Training", "Training", seconds=30)
        self.began.set()
        while not self.go.is_set():
            job.check()
            job.wait(0.005)
        if job.fails_at is not None:
            raise job.doomed()
        return {"ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/model"}}


class Stage:
    """Jobs in this process, without a server."""

    def __init__(self, directory: Path, *, store: Store | None = None) -> None:
        self.context = ServerContext(
            state_dir=directory / ".mlcc" / "local", endpoint_url="http://127.0.0.1:9", account="123456789012", region=REGION,
            engine_socket=directory / "socket", twins_dir=directory / "twins", changed=lambda: None,
        )  # fmt: skip
        self.store = store or Store(lambda: None)
        self.jobs = LiveJobs(KIND, Resources(self.store, context=self.context), Quotas(self.context))

    def play(self, *rules: dict[str, Any], **seconds: float) -> None:
        waits = MappingProxyType({Delay[name]: value for name, value in seconds.items()})
        operation = {"operation": "sagemaker:CreateTrainingJob"}
        plan = FaultPlan("plan.yaml", 0, tuple(Rule.model_validate({**operation, **rule}) for rule in rules))
        self.context.rehearsal.play(Scenario(Profile("own", waits, MappingProxyType({})), 1.0, plan if rules else None))

    def start(self, work: Work, name: str = "job", demand: Mapping[str, int] | None = None) -> None:
        call = Call("CreateTrainingJob", {"TrainingJobName": name}, REGION)
        self.jobs.create(call, {}, work=lambda _: work, demand=demand or {})

    def stop(self, name: str = "job") -> None:
        self.jobs.stop(Call("StopTrainingJob", {"TrainingJobName": name}, REGION))

    def status(self, name: str = "job") -> str:
        status: str = self.jobs.find(REGION, name)["TrainingJobStatus"]
        return status

    def end(self, name: str = "job") -> dict[str, Any]:
        deadline = time.monotonic() + 10
        while self.status(name) not in ("Completed", "Failed", "Stopped"):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return self.jobs.find(REGION, name)


@pytest.fixture
def stage(tmp_path: Path) -> Any:
    made = Stage(tmp_path)
    yield made
    made.jobs.close()


def test_a_start_takes_as_long_as_the_profile_says_and_can_be_stopped_before_its_time(stage: Stage) -> None:
    stage.play(TRAINING_START=0.2)
    began = time.monotonic()
    stage.start(Work(go=True))
    assert stage.end()["TrainingJobStatus"] == "Completed"
    assert time.monotonic() - began >= 0.2
    stage.play(TRAINING_START=60)
    stage.start(Work(), "second")
    stage.stop("second")
    ended = stage.end("second")
    assert ended["TrainingJobStatus"] == "Stopped"
    assert "TrainingStartTime" not in ended


def test_a_stop_takes_as_long_as_the_profile_says(stage: Stage) -> None:
    stage.play(JOB_STOP=0.2)
    work = Work()
    stage.start(work)
    assert work.began.wait(5)
    stage.stop()
    began = time.monotonic()
    assert stage.status() == "Stopping"
    ended = stage.end()
    assert time.monotonic() - began >= 0.15
    assert [step["Status"] for step in ended["SecondaryStatusTransitions"]] == ["Starting", "Training", "Stopping", "Stopped"]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"fault": "insufficient-instance-capacity"}, "CapacityError: Unable to provision requested ML compute capacity."),
        ({"fault": "stuck", "seconds": 0.1}, "Request to service failed: timed out"),
        ({"fault": "job-fails", "step": 3, "message": "loss is nan"}, "AlgorithmError: loss is nan, exit code: 1"),
    ],
)
def test_fates_end_in_awss_reasons(stage: Stage, rule: dict[str, Any], reason: str) -> None:
    stage.play(rule)
    stage.start(Work(go=True))
    ended = stage.end()
    assert (ended["TrainingJobStatus"], ended["SecondaryStatus"]) == ("Failed", "Failed")
    assert ended["FailureReason"].startswith(reason)
    stage.jobs.close()
    assert stage.jobs.count() == 0


def test_a_job_that_is_stuck_can_be_stopped(stage: Stage) -> None:
    stage.play({"fault": "stuck", "seconds": 60})
    stage.start(Work(go=True))
    assert stage.status() == "InProgress"
    stage.stop()
    assert stage.end()["TrainingJobStatus"] == "Stopped"


def test_instances_are_counted_until_their_job_has_ended(stage: Stage) -> None:
    limit = int(Quotas(stage.context).value(REGION, "ml.m5.large for training job usage"))
    work = Work()
    stage.start(work, demand={"ml.m5.large": limit})
    with pytest.raises(AwsError) as caught:
        stage.start(Work(go=True), "second", {"ml.m5.large": 1})
    assert caught.value.code == "ResourceLimitExceeded"
    assert f"with current utilization of {limit} Instances and a request delta of 1" in caught.value.message
    stage.start(Work(go=True), "other", {"ml.c5.xlarge": 1})
    work.go.set()
    stage.end()
    stage.start(Work(go=True), "third", {"ml.m5.large": 1})
    stage.end("third")


def test_a_job_that_ran_when_its_server_ended_has_failed_and_says_why(stage: Stage, tmp_path: Path) -> None:
    work = Work()
    stage.start(work)
    assert work.began.wait(5)
    assert [(one["kind"], one["name"], one["status"]) for one in stage.jobs.running()] == [("training job", "job", "InProgress")]
    stage.jobs.close()
    assert stage.status() == "InProgress"
    again = Stage(tmp_path, store=stage.store)
    again.jobs.recover()
    ended = again.jobs.find(REGION, "job")
    assert (ended["TrainingJobStatus"], ended["SecondaryStatus"]) == ("Failed", "Failed")
    assert "was stopped while the training job ran" in ended["FailureReason"]
    assert ended["TrainingEndTime"] >= ended["TrainingStartTime"]
    with pytest.raises(AwsError, match="in status Failed"):
        again.stop()


def test_old_jobs_are_forgotten_and_the_newest_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        stage.start(Work(go=True), f"job-{number}")
        stage.end(f"job-{number}")
    monkeypatch.setattr("pytest_mlcc.localaws.services.sagemaker.jobs.live._KEPT", 2)
    stage.jobs.recover()
    assert [row["TrainingJobName"] for row in stage.store.rows(REGION, TRAINING_JOB.path)] == ["job-2", "job-3"]


def _failing(error: Exception) -> Callable[[Job], Mapping[str, Any]]:
    def run(_: Job) -> Mapping[str, Any]:
        raise error

    return run


def test_an_error_of_ours_is_an_internal_error_and_a_long_reason_is_cut(stage: Stage) -> None:
    for name, error in (("ours", ValueError("a bug")), ("long", FailedError("x" * 3000))):
        work = Work()
        work.run = _failing(error)  # type: ignore[method-assign]
        stage.start(work, name)
    assert stage.end("ours")["FailureReason"].startswith("InternalServerError: We encountered an internal error")
    assert len(stage.end("long")["FailureReason"]) == 1024


def test_a_step_is_found_in_a_log_that_grows(tmp_path: Path) -> None:
    log = tmp_path / "log"
    watch = StepWatch(log, 12)
    assert not watch.reached()
    log.write_text("step 3/240 loss=1\nstep 1")
    assert not watch.reached()
    with log.open("a") as file:
        file.write("2/240 loss=0.5\n")
    assert watch.reached()
    assert StepWatch(log, 0).reached()
