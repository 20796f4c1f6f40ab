"""A run that is stopped, in whatever way and at the worst moment, leaves nothing behind that costs money."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

REMEMBERS_ITS_PROCESS = """
import os, pathlib, pytest

@pytest.fixture
def endpoint(endpoint):
    pathlib.Path(__file__).with_name("worker").write_text(str(os.getpid()))
    return endpoint
"""
FAILS_AFTER_DEPLOY = """
import pytest

def test_stage(stage, endpoint):
    endpoint.run(stage)

@pytest.mark.stage(after="deploy")
def test_manners(endpoint):
    assert "please" in endpoint.ask("How are you?").text
"""


@pytest.fixture
def stopped(make_project, entry) -> Any:
    """A project of one entry, ready to be stopped."""
    return make_project(entry("rt-stopped"), conftest=REMEMBERS_ITS_PROCESS)


def assert_clean(project: Any, run_id: str, name: str = "rt-stopped") -> dict[str, Any]:
    """Nothing of the run is alive: not by its ledger, not in its AWS, not on this machine. The record, as it is now."""
    ledger = project.ledger(run_id, name)
    assert ledger.named()
    assert ledger.open() == ()
    assert [one for one in project.leftovers() if one.startswith("process")] == []
    with project.cloud() as cloud:
        assert cloud.alive() == []
        return dict(cloud.record(project.config_id(name)))


def test_ctrl_c_while_it_deploys_cleans_before_pytest_ends(stopped) -> None:
    running = stopped.start("--junitxml=junit.xml")
    running.reaches("rt-stopped", "inference-component")
    running.interrupt()
    run = running.wait()
    assert run.code == pytest.ExitCode.INTERRUPTED, run
    record = assert_clean(stopped, run.run_id)
    assert record["testStatus"] == "untested"
    assert "claimRunId" not in record
    assert "interrupted: Ctrl-C" in (stopped.path / "junit.xml").read_text()


def test_ctrl_c_with_workers_while_one_tunes_cleans_too(stopped, until) -> None:
    running = stopped.start("-n", "2")
    running.reaches("rt-stopped", "training-job")
    running.interrupt()
    run = running.wait()
    assert run.code == pytest.ExitCode.INTERRUPTED, run
    until(lambda: not stopped.processes(), "guardians to finish")
    record = assert_clean(stopped, run.run_id)
    assert record["testStatus"] == "untested"


def test_sigterm_while_it_builds_cleans_as_ctrl_c_does(stopped) -> None:
    running = stopped.start()
    running.reaches("rt-stopped", "codebuild-build")
    running.process.send_signal(signal.SIGTERM)
    run = running.wait()
    assert run.code == pytest.ExitCode.INTERRUPTED, run
    assert "SIGTERM received" in run.output
    assert_clean(stopped, run.run_id)


def test_sigkill_of_pytest_leaves_the_cleaning_to_the_guardian(stopped, until) -> None:
    running = stopped.start()
    running.reaches("rt-stopped", "inference-component")
    running.process.kill()
    run = running.wait()
    assert run.code == -signal.SIGKILL
    until(lambda: not stopped.processes(), "the guardian to clean, and the local AWS to end after it")
    assert_clean(stopped, run.run_id)
    (log,) = (stopped.path / ".mlcc" / "runs" / run.run_id / "logs").glob("guardian-*.log")
    assert "is gone without cleaning; 1 entries are open" in log.read_text()
    assert "nothing is left" in log.read_text()
    # The dead run's claim, good for hours, holds nobody up
    again = stopped.run("--mlcc-stage=generate")
    assert again.code == 0, again
    assert "is being tested by run" not in again.output


def test_sigkill_of_a_worker_while_it_tunes_fails_that_stage_once_and_cleans(stopped) -> None:
    running = stopped.start("-n", "2", "--junitxml=junit.xml")
    running.reaches("rt-stopped", "training-job")
    worker = psutil.Process(int((stopped.path / "worker").read_text()))
    assert worker.parent() == psutil.Process(running.process.pid)
    worker.kill()
    run = running.wait()
    assert run.code == pytest.ExitCode.TESTS_FAILED, run
    record = assert_clean(stopped, run.run_id)
    assert record["testStatus"] == "fail-tune-sft"
    assert record["stageResults"]["clean"]["status"] == "pass"
    assert record["stageResults"]["adapter-add"]["status"] == "skip"
    assert started(stopped.path, run.run_id).count("tune-sft") == 1


def test_stopping_at_the_first_failure_cleans_the_entry_it_stopped_in(make_project, entry) -> None:
    project = make_project(entry("rt-stopped"), entry("rt-never", instance="ml.g5.2xlarge"), tests=FAILS_AFTER_DEPLOY)
    run = project.run("-x", "-p", "no:randomly")
    assert run.code == pytest.ExitCode.TESTS_FAILED, run
    record = assert_clean(project, run.run_id)
    assert record["testStatus"] == "fail-manners"
    assert started(project.path, run.run_id) == ["generate", "build", "push", "deploy", "manners", "clean"]


def started(path: Path, run_id: str) -> list[str]:
    """The stages that an entry began, in order."""
    lines = (path / ".mlcc" / "runs" / run_id / "journal" / "rt-stopped.jsonl").read_text().splitlines()
    return [fact["stage"] for fact in map(json.loads, lines) if fact["event"] == "start"]
