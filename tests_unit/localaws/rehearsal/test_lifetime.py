"""A rehearsal of a real server: it comes with its holder, and goes with it, however the holder ends."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.holders import Holder
from pytest_mlcc.localaws.rehearsal.scenario import Scenario, read_scenario


def scenario(scale: float) -> Scenario:
    found = read_scenario("aws", scale, None)
    assert found is not None
    return found


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    launch.stop(tmp_path)


@pytest.fixture
def run() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for a run."""
    process = subprocess.Popen(["sleep", "120"])
    yield process
    process.kill()
    process.wait()


def played(project: Path) -> str:
    found = launch.status(project)
    assert found is not None
    return str(found.rehearsal["scenario"]) if found.rehearsal else ""


def test_a_run_that_is_killed_leaves_no_delays_to_the_next(project: Path, run: subprocess.Popen[bytes]) -> None:
    launch.ensure(project, engine=False)
    launch.ensure(project, holder_pid=run.pid, rehearsal=scenario(60))
    launch.ensure(project, holder_pid=run.pid)
    assert played(project) == "aws latency at scale 60", "who has no wish of its own takes none away"
    run.kill()
    run.wait()
    deadline = time.monotonic() + 10
    while played(project):
        assert time.monotonic() < deadline, "the dead run's delays go on"
        time.sleep(0.02)


def test_a_run_that_lets_go_takes_its_delays_along(project: Path, run: subprocess.Popen[bytes]) -> None:
    launch.ensure(project, holder_pid=run.pid, engine=False)
    launch.ensure(project, rehearsal=scenario(60))
    launch.release(project)
    assert played(project) == ""


def test_a_second_run_with_other_delays_is_refused_and_holds_nothing(project: Path, run: subprocess.Popen[bytes]) -> None:
    launch.ensure(project, engine=False, rehearsal=scenario(60))
    with pytest.raises(LocalAwsError, match=r"it rehearses something else for process \d+ \(aws latency at scale 60\)"):
        launch.ensure(project, holder_pid=run.pid, rehearsal=scenario(30))
    found = launch.status(project)
    assert found is not None
    assert str(run.pid) not in {holder.partition(":")[0] for holder in found.holders}
    assert launch.ensure(project, holder_pid=run.pid, rehearsal=scenario(60)).pid == found.pid, "the same delays are no quarrel"


def test_a_run_that_rehearses_nothing_is_not_struck_by_one_that_comes_later(project: Path, run: subprocess.Popen[bytes]) -> None:
    launch.ensure(project, holder_pid=run.pid, engine=False, told="")
    with pytest.raises(LocalAwsError, match=rf"it rehearses something else for process {run.pid} \(no delays and no faults\)"):
        launch.ensure(project, rehearsal=scenario(60))
    assert played(project) == ""
    run.kill()
    run.wait()
    launch.ensure(project, engine=False)
    deadline = time.monotonic() + 10
    while launch.status(project).rehearsal is not None:  # type: ignore[union-attr]  # it runs: this process holds it
        assert time.monotonic() < deadline, "the dead run still has a say"
        time.sleep(0.02)
    launch.ensure(project, rehearsal=scenario(60))
    assert played(project) == "aws latency at scale 60"


def test_a_start_whose_wish_is_refused_leaves_no_server(project: Path) -> None:
    with pytest.raises(LocalAwsError, match="no delays and no faults by now, and not aws latency: start again"):
        launch.ensure(project, engine=False, told="aws latency")
    assert launch.status(project) is None


def test_who_does_not_hold_the_server_has_no_say(project: Path, run: subprocess.Popen[bytes]) -> None:
    started = launch.ensure(project, engine=False)
    wish = {"holder": str(Holder.of(run.pid)), "rehearsal": scenario(60).to_json()}
    assert launch._call(started.endpoint_url, "rehearsal", wish)[0] == 400
    assert launch._call(started.endpoint_url, "rehearsal", {"holder": str(Holder.of()), "rehearsal": {"scale": 1}})[0] == 400
    assert launch._call(started.endpoint_url, "rehearsal", {"holder": str(Holder.of()), "rehearsal": scenario(60).to_json()})[0] == 200
    assert played(project) == "aws latency at scale 60"
