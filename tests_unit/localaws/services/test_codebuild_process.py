"""A build that runs out of time must leave nothing running, and its last words must not be lost."""

from __future__ import annotations

import os
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


def test_out_of_time_kills_the_whole_group(lines: list[str], tmp_path: Path) -> None:
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


def test_background_processes_end_with_the_build(process: BuildProcess, lines: list[str], tmp_path: Path) -> None:
    assert process.run("bash", "sleep 300 & echo $!", cwd=tmp_path, env={"PATH": os.environ["PATH"]}) == 0
    assert start_ticks(int(lines[0])) is not None
    process.kill()
    _gone(int(lines[0]))


def _gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while start_ticks(pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
