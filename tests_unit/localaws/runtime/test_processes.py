"""Process groups: a container that outlives its server, or its own delete, is what users would find with ``ps`` days later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_mlcc.localaws.holders import start_ticks
from pytest_mlcc.localaws.runtime.processes import Warden, end_group, group_is_alive


def _until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def warden() -> Iterator[Warden]:
    made = Warden()
    yield made
    made.close()


def _spawn(warden: Warden, tmp_path: Path, script: str) -> subprocess.Popen[bytes]:
    with (tmp_path / "log").open("wb") as log:
        return warden.spawn(["/bin/sh", "-c", script], env={"PATH": os.environ["PATH"]}, cwd=tmp_path, output=log)


def test_a_group_is_ended_with_its_grandchildren(warden: Warden, tmp_path: Path) -> None:
    process = _spawn(warden, tmp_path, "sleep 60 & sleep 60 & echo up; wait")
    assert _until(lambda: (tmp_path / "log").read_text() == "up\n")
    assert group_is_alive(process.pid)
    end_group(process, grace=5)
    assert not group_is_alive(process.pid)
    assert process.returncode == -signal.SIGTERM


def test_a_program_that_ignores_sigterm_is_killed_after_the_grace(warden: Warden, tmp_path: Path) -> None:
    process = _spawn(warden, tmp_path, "trap '' TERM; echo up; while :; do sleep 0.05; done")
    assert _until(lambda: (tmp_path / "log").read_text() == "up\n")
    began = time.monotonic()
    end_group(process, grace=0.2)
    assert 0.2 <= time.monotonic() - began < 5
    assert process.returncode == -signal.SIGKILL


def test_what_the_first_process_leaves_behind_counts_as_alive(warden: Warden, tmp_path: Path) -> None:
    """A server that forks into the background must not pass for ended."""
    process = _spawn(warden, tmp_path, "sleep 60 & exit 0")
    assert process.wait(5) == 0
    assert group_is_alive(process.pid)
    end_group(process, grace=5)
    assert not group_is_alive(process.pid)


def test_what_leaves_the_group_is_ended_with_it(warden: Warden, tmp_path: Path) -> None:
    """As daemons and the workers of some servers do. It is asked first, and once, like the others."""
    daemon = "trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done"
    process = _spawn(warden, tmp_path, f'setsid sh -c "{daemon}" & trap "" TERM; echo $!; exit 0')
    assert _until(lambda: "up" in (tmp_path / "log").read_text())
    assert process.wait(5) == 0
    assert group_is_alive(process.pid)
    end_group(process, grace=0.3)
    assert not group_is_alive(process.pid)
    said = (tmp_path / "log").read_text().split()
    assert start_ticks(int(said[0])) is None
    assert said.count("asked") == 1


def test_the_environment_is_what_was_given_and_standard_input_is_empty(warden: Warden, tmp_path: Path) -> None:
    process = _spawn(warden, tmp_path, "env; cat")
    assert process.wait(5) == 0
    names = {line.partition("=")[0] for line in (tmp_path / "log").read_text().splitlines()}
    assert names <= {"PATH", "PWD", "OLDPWD", "SHLVL", "_", "MLCC_GROUP"}


_PARENT = """
import sys, time
from pathlib import Path
from pytest_mlcc.localaws.holders import start_ticks
from pytest_mlcc.localaws.runtime.processes import Warden
warden = Warden()
with open(sys.argv[1], "wb") as log:
    process = warden.spawn(["/bin/sh", "-c", SCRIPT], env={"PATH": "/usr/bin:/bin"}, cwd=Path("/"), output=log)
print(process.pid, flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("script", ["sleep 300 & sleep 300", "setsid sleep 300 & exit 0"], ids=["group", "daemon"])
def test_all_processes_die_with_a_parent_that_is_killed(tmp_path: Path, script: str) -> None:
    """SIGKILL of the server leaves it no time to clean up; its containers must end all the same."""
    program = _PARENT.replace("SCRIPT", repr(script))
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    group = int(parent.stdout.readline())
    assert _until(lambda: group_is_alive(group))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert _until(lambda: not group_is_alive(group))


_PARENT_OF_A_CONTAINER = """
import sys, time
from pytest_mlcc.localaws.holders import start_ticks
from pytest_mlcc.localaws.runtime.processes import Warden
warden = Warden()
for name in ("kept", "forgotten", "no-such-program"):
    program = "/nowhere/engine" if name == "no-such-program" else "/bin/sh"
    warden.run_at_the_end(name, [program, "-c", 'echo "$WHO" > "$1/$2"', "sh", sys.argv[1], name], env={"WHO": "us"})
warden.forget_command("forgotten")
print("ready", flush=True)
time.sleep(300)
"""


def test_what_ends_a_container_is_run_when_its_parent_is_killed(tmp_path: Path) -> None:
    """A container is no child of ours, so no signal of ours reaches it."""
    parent = subprocess.Popen([sys.executable, "-c", _PARENT_OF_A_CONTAINER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    assert not (tmp_path / "kept").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert _until(lambda: (tmp_path / "kept").exists() and (tmp_path / "kept").read_text() == "us\n")
    assert not (tmp_path / "forgotten").exists()
