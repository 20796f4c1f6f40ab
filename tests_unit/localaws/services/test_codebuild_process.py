"""A build that runs out of time must leave nothing running, and its last words must not be lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mlcc.localaws.holders import start_ticks
from pytest_mlcc.localaws.services.codebuild.process import BuildProcess, OutOfTimeError, StoppedError


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def process(lines: list[str]) -> Iterator[BuildProcess]:
    started = BuildProcess(deadline=time.monotonic() + 30, on_line=lines.append)
    yield started
    started.close()


def test_status_and_every_line_arrive_in_order(process: BuildProcess, lines: list[str], tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "V": "x"}
    assert process.run("bash", 'echo "a $V"; echo b >&2; printf unfinished; exit 3', cwd=tmp_path, env=env) == 3
    assert lines == ["a x", "b", "unfinished"]
    assert process.run("bash", "seq 20000", cwd=tmp_path, env=env) == 0
    assert lines[3:] == [str(number) for number in range(1, 20001)]


def test_out_of_time_ends_every_process(lines: list[str], tmp_path: Path) -> None:
    process = BuildProcess(deadline=time.monotonic() + 0.5, on_line=lines.append)
    try:
        with pytest.raises(OutOfTimeError):
            process.run("bash", "sleep 300 & echo $!; sleep 300", cwd=tmp_path, env={"PATH": os.environ["PATH"]})
        _gone(int(lines[0]))
        with pytest.raises((StoppedError, OutOfTimeError)):
            process.run("bash", "echo again", cwd=tmp_path, env={"PATH": os.environ["PATH"]})
    finally:
        process.close()
    assert start_ticks(process.pid) is None


@pytest.mark.parametrize("command", ["yes", "cat /dev/zero"], ids=["lines", "one line without end"])
def test_a_command_that_never_stops_writing_runs_out_of_time(lines: list[str], tmp_path: Path, command: str) -> None:
    process = BuildProcess(deadline=time.monotonic() + 0.3, on_line=lambda line: lines.append(line[:1]))
    try:
        with pytest.raises(OutOfTimeError):
            process.run("bash", command, cwd=tmp_path, env={"PATH": os.environ["PATH"]})
    finally:
        process.close()
    assert len(lines) > 10


_DAEMON = (
    "import os, time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); print(os.getpid(), flush=True); time.sleep(300)"
)
_BACKGROUND = [
    "sleep 300 & echo $!",
    "set -m; sleep 300 & echo $!",
    "setsid sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 1; done' &",
    f"{sys.executable} -c '{_DAEMON}'",
    f"env -i {sys.executable} -c '{_DAEMON}'",
]


@pytest.mark.parametrize("command", _BACKGROUND, ids=["job", "own group", "own session", "daemon", "daemon without environment"])
def test_background_processes_end_with_the_build(process: BuildProcess, lines: list[str], tmp_path: Path, command: str) -> None:
    env = {"PATH": os.environ["PATH"]}
    assert process.run("bash", f"({command}) > said; until [ -s said ]; do sleep 0.01; done; cat said", cwd=tmp_path, env=env) == 0
    assert start_ticks(int(lines[0])) is not None
    process.close()
    assert start_ticks(int(lines[0])) is None


def test_a_build_that_kills_its_supervisor_is_stopped_with_its_other_processes(
    process: BuildProcess, lines: list[str], tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        process.run("bash", "sleep 300 & echo $!; kill -KILL $PPID; sleep 300", cwd=tmp_path, env={"PATH": os.environ["PATH"]})
    process.close()
    _gone(int(lines[0]))


_SERVER = """
import os, sys, time
from pathlib import Path
from pytest_mlcc.localaws.services.codebuild.process import BuildProcess
process = BuildProcess(deadline=time.monotonic() + 300, on_line=lambda line: print(line, flush=True))
process.run("bash", "setsid sleep 300 & echo $!; sleep 300", cwd=Path("/"), env={"PATH": os.environ["PATH"]})
"""


def test_background_processes_end_with_a_server_that_is_killed() -> None:
    server = subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    background = int(server.stdout.readline())
    server.kill()
    server.wait()
    server.stdout.close()
    _gone(background)


def _gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while start_ticks(pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
