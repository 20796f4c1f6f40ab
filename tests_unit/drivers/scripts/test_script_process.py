"""One script as a process: what it may not do, what is heard of it, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pytest_mlcc.drivers.scripts.process import Finished, run
from pytest_mlcc.errors import FailureClass, StageError, StageTimeout
from pytest_mlcc.lifecycle.ports import Deadline

_ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Finished]:
    def execute(text: str, *, log: list[str] | None = None, seconds: float = 20, **more: str) -> Finished:
        path = tmp_path / "script"
        path.write_text("#!/bin/bash\n" + text)
        path.chmod(0o755)
        lines = log if log is not None else []
        return run([str(path)], cwd=tmp_path, environment={**_ENVIRONMENT, **more}, log=lines.append, deadline=Deadline(seconds))

    return execute


def test_both_streams_go_into_the_log_and_their_ends_are_kept(script: Callable[..., Finished]) -> None:
    log: list[str] = []
    finished = script("echo one; echo two >&2; for i in $(seq 100); do echo $i; done; exit 4", log=log)
    assert finished.status == 4
    assert (finished.stdout[-1], len(finished.stdout), finished.stderr) == ("100", 80, ("two",))
    assert set(log) >= {"one", "two", "1", "100"}


def test_a_script_that_asks_gets_the_end_of_its_input_at_once(script: Callable[..., Finished]) -> None:
    assert script("read -r answer || exit 3; exit 0").status == 3
    assert script("exec 3</dev/tty || exit 3").status == 3


def test_a_script_sees_only_the_variables_it_is_given(script: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    finished = script('echo "${AWS_PROFILE:-none} ${GIVEN}"', GIVEN="given")
    assert finished.stdout == ("none given",)


def test_the_end_of_its_time_ends_everything_it_started(script: Callable[..., Finished], tmp_path: Path) -> None:
    with pytest.raises(StageTimeout, match=r"ended after 0\.5 s") as caught:
        script(f"echo waiting for a build; sleep 300 & echo $! > {tmp_path}/pid; wait", seconds=0.5)
    assert "waiting for a build" in caught.value.output
    _until(lambda: _gone(int((tmp_path / "pid").read_text())))


def test_what_heeds_no_end_is_killed(script: Callable[..., Finished], tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(StageTimeout):
        script(f"trap '' TERM; (trap '' TERM; echo $BASHPID > {tmp_path}/pid; sleep 300) & wait", seconds=0.3)
    assert time.monotonic() - begun < 15
    _until(lambda: _gone(int((tmp_path / "pid").read_text())))


def test_what_it_leaves_in_the_background_ends_with_it(script: Callable[..., Finished], tmp_path: Path) -> None:
    assert script(f"sleep 300 & echo $! > {tmp_path}/pid; exit 0").status == 0
    _until(lambda: _gone(int((tmp_path / "pid").read_text())))


def test_a_script_that_a_signal_ended_says_which(script: Callable[..., Finished]) -> None:
    assert script("kill -KILL $$").status == 137


def test_what_is_no_program_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="nowhere") as caught:
        run(["./do/deploy"], cwd=tmp_path / "nowhere", environment=_ENVIRONMENT, log=lambda _: None, deadline=Deadline(5))
    assert caught.value.failure_class is FailureClass.CODE_BUG


def test_the_death_of_the_run_is_the_scripts_end_too(tmp_path: Path) -> None:
    """SIGKILL, so that nothing of the run's own can do it."""
    script = tmp_path / "script"
    script.write_text(f"#!/bin/bash\necho $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; sleep 300\n")
    script.chmod(0o755)
    program = (
        "import pathlib, sys\nfrom pytest_mlcc.drivers.scripts.process import run\nfrom pytest_mlcc.lifecycle.ports import Deadline\n"
        "run([sys.argv[1]], cwd=pathlib.Path.cwd(), environment={'PATH': sys.argv[2]}, log=print, deadline=Deadline(60))"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, str(script), os.environ["PATH"]])
    _until(lambda: (tmp_path / "pid").exists())
    pid = int((tmp_path / "pid").read_text())
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    _until(lambda: _gone(pid))


def _gone(pid: int) -> bool:
    """Also a zombie whose new parent does not care for it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
