"""``mlcc local``: what a person types, what comes back, and the exit code a script uses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_mlcc.cli.local import local
from pytest_mlcc.cli.status import lines, table
from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.holders import start_ticks


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    launch.stop(tmp_path)


def _run(project: Path, *arguments: str) -> Result:
    return CliRunner().invoke(local, [*arguments, "--project", str(project)])


def test_up_status_down(project: Path) -> None:
    before = _run(project, "status")
    assert (before.exit_code, "mlcc local up" in before.output) == (1, True)
    assert json.loads(_run(project, "status", "--json").output) == {"running": False}

    up = _run(project, "up")
    assert up.exit_code == 0
    found = launch.status(project)
    assert found is not None
    assert f"export AWS_ENDPOINT_URL={found.endpoint_url}" in up.output
    assert "was up already" in _run(project, "up").output

    shown = _run(project, "status")
    assert shown.exit_code == 0
    for part in (found.endpoint_url, "123456789012", "us-west-2", str(found.pid), "mlcc local up", "nothing"):
        assert part in shown.output
    as_json = json.loads(_run(project, "status", "--json").output)
    assert (as_json["running"], as_json["pid"], as_json["held_by_user"]) == (True, found.pid, True)

    assert "state is kept" in _run(project, "down").output
    assert start_ticks(found.pid) is None
    assert "No local AWS runs" in _run(project, "down").output


def test_up_rehearses_until_down(project: Path) -> None:
    plan = project / "plan.yaml"
    plan.write_text("seed: 7\nrules: [{operation: 's3:ListBuckets', fault: throttling}]\n")
    up = _run(project, "up", "--latency", "aws", "--time-scale", "60", "--faults", str(plan))
    assert "It rehearses aws latency at scale 60, faults plan.yaml (1 rule, seed 7)." in up.output
    shown = _run(project, "status").output
    assert "Plays    aws latency at scale 60, faults plan.yaml (1 rule, seed 7) (for mlcc local up)" in shown
    assert "rule 1 (throttling) met no call (s3:ListBuckets on *)" in shown
    assert json.loads(_run(project, "status", "--json").output)["rehearsal"]["holders"] == ["user"]

    assert "It rehearses aws latency at scale 60, faults plan.yaml" in _run(project, "up").output, "who looks again is told"
    again = _run(project, "up", "--latency", "aws")
    assert "It rehearses aws latency." in again.output, "the same holder may change its mind"
    launch.ensure(project)
    _run(project, "down")
    assert "Plays    no delays and no faults" in _run(project, "status").output


@pytest.mark.parametrize("scale", ["0", "-1", "inf", "nan", "fast"])
def test_a_senseless_time_scale_is_refused_and_starts_nothing(project: Path, scale: str) -> None:
    refused = _run(project, "up", "--latency", "aws", "--time-scale", scale)
    assert refused.exit_code == 2
    assert "--time-scale" in refused.output
    assert launch.status(project) is None


def test_a_time_scale_that_scales_nothing_is_refused(project: Path) -> None:
    refused = _run(project, "up", "--time-scale", "60")
    assert refused.exit_code == 2
    assert "add --latency aws" in refused.output


def test_up_tells_every_mistake_of_a_plan_and_starts_nothing(project: Path) -> None:
    plan = project / "plan.yaml"
    plan.write_text("rules: [{operation: 's3:ListBucket', fault: throttle}, {operation: 's3:ListBucket', fault: throttling}]\n")
    refused = _run(project, "up", "--latency", "asw", "--faults", str(plan))
    assert refused.exit_code == 2
    for words in (
        "'asw' is neither instant",
        "rule 1, fault: 'throttle' is no fault",
        "rule 2, operation: s3 has no operation 'ListBucket'",
    ):
        assert words in refused.output
    assert launch.status(project) is None


def test_status_shows_what_runs_and_what_was_missed() -> None:
    found = launch.Status(
        "http://127.0.0.1:1", 7, "123456789012", "us-west-2", 65.0, ("user",), True, {"endpoints": 1}, "ready",
        save_failure="No space left on device", unserved={"codecommit:ListRepositories": 2},
        runtime={"mode": "process", "installed": [], "engine": "", "reason": "", "shares_opt_ml": ""},
    )  # fmt: skip
    shown = "\n".join(lines(found))
    assert "Unsaved  No space left on device" in shown
    assert "codecommit:ListRepositories (twice)" in shown
    rows = table([
        launch.Running("endpoint", "a-" + "x" * 60, "InService", None, None, 3700.0),
        launch.Running("inference component", "a-base", "InService", 4711, 300 << 20, 12.0),
    ]).splitlines()  # fmt: skip
    assert rows[0].split() == ["Kind", "Name", "Status", "PID", "Memory", "Age"]
    assert rows[1].split()[1:] == ["a-" + "x" * 60, "InService", "1", "h", "1", "min"]
    assert rows[2].split()[2:] == ["a-base", "InService", "4711", "300", "MiB", "12", "s"]


def test_down_leaves_it_to_a_run_that_uses_it(project: Path) -> None:
    running = launch.ensure(project, engine=False)
    launch.hold_for_user(project)
    down = _run(project, "down")
    assert f"still used by process {os.getpid()}" in down.output
    assert start_ticks(running.pid) is not None
    assert "has ended" in _run(project, "down", "--force").output
    assert start_ticks(running.pid) is None


def test_reset_asks_and_forgets(project: Path) -> None:
    _run(project, "up")
    marker = launch.local_dir(project) / "state" / "marker"
    marker.touch()
    refused = CliRunner().invoke(local, ["reset", "--project", str(project)], input="n\n")
    assert refused.exit_code == 1
    assert marker.exists()
    assert _run(project, "reset", "--yes").exit_code == 0
    assert not marker.exists()
    found = launch.status(project)
    assert found is not None, "the user had asked for it to be up"
    assert found.held_by_user


def test_reset_tells_where_it_is_now_and_takes_nothing_from_a_run(project: Path) -> None:
    launch.ensure(project, engine=False)
    launch.hold_for_user(project)
    refused = _run(project, "reset", "--yes")
    assert refused.exit_code == 1
    assert f"process {os.getpid()} still works with it" in refused.output
    before = launch.status(project)
    assert before is not None, "a run lost what it works on"
    forced = _run(project, "reset", "--yes", "--force")
    after = launch.status(project)
    assert after is not None
    assert after.pid != before.pid
    assert f"export AWS_ENDPOINT_URL={after.endpoint_url}" in forced.output


def test_a_server_that_can_not_start_is_exit_1_with_the_reason(project: Path) -> None:
    damaged = launch.local_dir(project) / "state" / "services"
    damaged.mkdir(parents=True)
    (damaged / "ecr.json").write_text("{")
    up = _run(project, "up")
    assert up.exit_code == 1
    assert "ecr.json is damaged" in up.output


def test_a_subfolder_belongs_to_the_project_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pytest.ini").touch()
    below = tmp_path / "tests" / "more"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    asked = CliRunner().invoke(local, ["reset"], input="n\n")
    assert f"Forget all state in {tmp_path / '.mlcc' / 'local'}?" in asked.output
