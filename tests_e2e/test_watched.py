"""A run that is watched from a second terminal: ``mlcc local status``, ``logs`` and ``shell`` while models are built, served and tuned."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from holding import holding_after, let_go

from pytest_mlcc.localaws import launch

KINDS = {"build", "endpoint", "inference component", "training job"}
AWS = Path(sys.executable).with_name("aws")


class Watched:
    """What was seen of each kind while it ran, and the run."""

    def __init__(self, project: Any, until: Any) -> None:
        self.project = project
        self.seen: dict[str, launch.Running] = {}
        self.table = self.log = self.endpoints = ""
        run = project.start("-p", "no:randomly", "--mlcc-latency=aws", "--mlcc-time-scale=400")
        until(lambda: self._look(run), "every kind to be seen")
        self.run = run.wait()

    def _look(self, run: Any) -> bool:
        assert run.process.poll() is None, f"the run ended before {KINDS - self.seen.keys()} was seen\n{run.output}"
        for one in launch.running(self.project.path):
            known = self.seen.get(one.kind)
            if known is None or known.pid is None or (one.memory or 0) > (known.memory or 0):  # a process just begun has little
                self.seen[one.kind] = one
            if one.kind == "inference component" and one.status == "InService" and not self.table:
                self._ask(one.name)
        return self.seen.keys() >= KINDS and bool(self.table)

    def _ask(self, component: str) -> None:
        self.table = self.project.mlcc("local", "status").stdout
        self.log = self.project.mlcc("local", "logs", component).stdout
        shell = self.project.mlcc("local", "shell", "--", str(AWS), "sagemaker", "list-endpoints", "--output", "json")
        self.endpoints = shell.stdout or shell.stderr
        let_go(self.project.path)


@pytest.fixture(scope="module")
def watched(make_project, entry, until) -> Watched:
    one = entry("rt-one", lifecycle=["build", "push", "deploy", "test", "tune-sft", "clean"])
    return Watched(make_project(one, tests=holding_after("test")), until)


def test_the_run_is_not_disturbed(watched) -> None:
    assert watched.run.code == 0, watched.run


def test_everything_that_runs_is_seen_with_its_age(watched) -> None:
    assert watched.seen.keys() == KINDS
    for one in watched.seen.values():
        assert one.age is not None
        assert 0 <= one.age < 90


def test_a_component_is_seen_with_its_process_and_memory(watched) -> None:
    """It can be ended by its pid, and what it takes can be believed: a process that has loaded torch holds tens of megabytes."""
    component = watched.seen["inference component"]
    assert component.pid is not None
    assert not psutil.pid_exists(component.pid), "the run has ended"
    assert component.memory is not None
    assert component.memory > 5 << 20


def test_the_table_is_what_a_person_sees(watched) -> None:
    lines = watched.table.splitlines()
    (head,) = [number for number, line in enumerate(lines) if line.startswith("Kind")]
    assert lines[head].split() == ["Kind", "Name", "Status", "PID", "Memory", "Age"]
    assert any(re.match(r"endpoint +rt-one-\S+-endpoint +InService ", line) for line in lines[head:])
    assert any(re.match(r"inference component +rt-one-\S+-base +InService +\d+ +\d+ MiB +\d+ s", line) for line in lines[head:])
    assert "Plays    aws latency at scale 400 (for process" in watched.table


def test_a_living_containers_log_is_printed(watched) -> None:
    assert "serves on http://127.0.0.1:" in watched.log


def test_the_aws_cli_in_a_shell_sees_the_runs_endpoint(watched) -> None:
    (endpoint,) = json.loads(watched.endpoints)["Endpoints"]
    assert endpoint["EndpointName"] == watched.seen["endpoint"].name


def test_the_log_of_a_job_stays_when_it_is_over(watched) -> None:
    with watched.project.cloud():
        told = watched.project.mlcc("local", "logs", watched.seen["training job"].name)
    assert told.returncode == 0, told.stderr
    assert len(told.stdout.splitlines()) > 3, told.stdout
