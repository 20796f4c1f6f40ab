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


@pytest.mark.parametrize(
    "text",
    [
        "(trap '' TERM; {me}; sleep 300; sleep 300) & wait",
        "setsid bash -c '{me}; sleep 300' & wait",
        "(setsid bash -c '({me}; exec sleep 300) & ' & ); wait; sleep 300",
        "trap '' TERM; setsid bash -c 'trap \"\" TERM HUP; {me}; while :; do sleep 300; done' & while :; do sleep 300; done",
    ],
    ids=["alone-heeds-no-end", "own-session", "daemon", "own-session-heeds-no-end"],
)
def test_nothing_escapes_the_end_of_its_time(script: Callable[..., Finished], tmp_path: Path, text: str) -> None:
    with pytest.raises(StageTimeout):
        script(text.replace("{me}", f"echo $BASHPID > {tmp_path}/pid"), seconds=1)
    assert _gone(int((tmp_path / "pid").read_text()))


def test_interrupts_while_a_script_is_ended_let_nothing_of_it_live(tmp_path: Path) -> None:
    """A limit that strikes every second, or a person at Ctrl-C: the script heeds no signal and takes five seconds to go."""
    owner = _owner(tmp_path, f"trap '' TERM; echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; while :; do sleep 300; done")
    _until((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(8):
        owner.send_signal(signal.SIGINT)
        time.sleep(0.2)
    _, said = owner.communicate(timeout=20)
    assert _gone(pid)
    assert "KeyboardInterrupt" in said
    assert "is still running" not in said


def test_what_speaks_on_after_its_end_is_not_heard_in_the_next_stage(script: Callable[..., Finished], tmp_path: Path) -> None:
    log: list[str] = []
    script(
        f"setsid bash -c 'echo $$ > {tmp_path}/pid; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done; echo late; echo late' & exit 0",
        log=log,
    )
    before = list(log)
    (tmp_path / "go").touch()
    _until(lambda: _gone(int((tmp_path / "pid").read_text())))
    assert log == before


def test_what_it_leaves_in_the_background_ends_with_it(script: Callable[..., Finished], tmp_path: Path) -> None:
    assert script(f"sleep 300 & echo $! > {tmp_path}/pid; exit 0").status == 0
    _until(lambda: _gone(int((tmp_path / "pid").read_text())))


def test_a_script_that_a_signal_ended_says_which(script: Callable[..., Finished]) -> None:
    assert script("kill -KILL $$").status == 137


def test_what_is_no_program_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="nowhere") as caught:
        run(["./do/deploy"], cwd=tmp_path / "nowhere", environment=_ENVIRONMENT, log=lambda _: None, deadline=Deadline(5))
    assert caught.value.failure_class is FailureClass.CODE_BUG


@pytest.mark.parametrize(
    ("spoil", "status", "words"),
    [
        (lambda path: path.unlink(), 127, "./script: No such file or directory"),
        (lambda path: path.chmod(0o644), 126, "./script: Permission denied"),
        (lambda path: path.write_text("#!/no/such/bash\n"), 127, "./script: the interpreter that its first line names is not there"),
        (lambda path: path.write_bytes(b"\x7fELF\0"), 126, "./script: ./script: cannot execute binary file"),
    ],
    ids=["missing", "no-x", "no-interpreter", "no-program"],
)
def test_a_script_that_cant_be_run_says_why_as_a_shell_would(
    tmp_path: Path, spoil: Callable[[Path], object], status: int, words: str
) -> None:
    path = tmp_path / "script"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    spoil(path)
    finished = run(["./script"], cwd=tmp_path, environment=_ENVIRONMENT, log=lambda _: None, deadline=Deadline(20))
    assert (finished.status, finished.stderr) == (status, (words,))


def test_a_script_without_an_interpreter_line_runs_as_when_it_is_typed(tmp_path: Path) -> None:
    """``do/benchmark`` of 1.6.0 is one."""
    (tmp_path / "script").write_text('# no interpreter\n[[ $0 == ./script ]] && echo "bash $1"\n')
    (tmp_path / "script").chmod(0o755)
    finished = run(["./script", "it is"], cwd=tmp_path, environment=_ENVIRONMENT, log=lambda _: None, deadline=Deadline(20))
    assert (finished.status, finished.stdout) == (0, ("bash it is",))


def test_the_death_of_the_run_is_the_scripts_end_too(tmp_path: Path) -> None:
    """SIGKILL, so that nothing of the run's own can do it; and a daemon, so that no group does it."""
    owner = _owner(
        tmp_path, f"(setsid bash -c '(echo $BASHPID > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 300) &' &); sleep 300"
    )
    _until((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    _until(lambda: _gone(pid))


def _owner(folder: Path, text: str) -> subprocess.Popen[str]:
    """A process that runs a script of this text."""
    script = folder / "script"
    script.write_text(f"#!/bin/bash\n{text}\n")
    script.chmod(0o755)
    program = (
        "import pathlib, sys\nfrom pytest_mlcc.drivers.scripts.process import run\nfrom pytest_mlcc.lifecycle.ports import Deadline\n"
        "run([sys.argv[1]], cwd=pathlib.Path.cwd(), environment={'PATH': sys.argv[2]}, log=print, deadline=Deadline(60))"
    )
    words = [sys.executable, "-Wd", "-c", program, str(script), os.environ["PATH"]]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)


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
