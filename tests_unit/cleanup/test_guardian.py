"""If pytest dies without a word, what it had created must be cleaned by somebody else, and by nobody otherwise."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlcc.cleanup.guardian import Guardian, salvage_command

# Stands in for the deletion: writes down the ledgers that it was told to clean.
CLEAN = (
    "import json, os, sys; open(sys.argv[1] + '.new', 'w').write(json.dumps(sys.argv[2:])); os.rename(sys.argv[1] + '.new', sys.argv[1])"
)

OWNER = """
import os, signal, sys, time
from pathlib import Path
from pytest_mlcc.cleanup.guardian import Guardian
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what is in the background with Ctrl-C ignored
base = Path(sys.argv[1])
guardian = Guardian.start([sys.executable, "-c", sys.argv[2], str(base / "cleaned")], log=base / "guardian.log")
guardian.begin(base / "a b.jsonl"); guardian.begin(base / "two.jsonl"); guardian.begin(base / "three.jsonl")
guardian.end(base / "two.jsonl")
exec(sys.argv[3])
"""


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def owner(base: Path, last_words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", OWNER, str(base), CLEAN, last_words])


@pytest.mark.parametrize(
    "last_words",
    [
        "os.kill(os.getpid(), 9)",
        "os._exit(9)",
        "os.kill(os.getpid(), 15)",
        # a forked child keeps the pipe open: only the pidfd tells
        "os.fork() == 0 and (time.sleep(3), os._exit(0)); os.kill(os.getpid(), 9)",
    ],
    ids=["SIGKILL", "os._exit", "SIGTERM", "child holds the pipe"],
)
def test_a_dead_owner_s_open_ledgers_are_cleaned_and_only_they(tmp_path: Path, last_words: str) -> None:
    owner(tmp_path, last_words).wait(10)
    started = time.monotonic()
    until((tmp_path / "cleaned").exists, 2.5)
    assert json.loads((tmp_path / "cleaned").read_text()) == [str(tmp_path / "a b.jsonl"), str(tmp_path / "three.jsonl")]
    assert time.monotonic() - started < 2.5
    until(lambda: "cleaning ended with exit code 0" in (tmp_path / "guardian.log").read_text())
    assert "2 entries are open" in (tmp_path / "guardian.log").read_text()


def test_ctrl_c_for_the_whole_group_does_not_reach_the_guardian(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), CLEAN, "print('up', flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    os.killpg(process.pid, signal.SIGINT)
    process.wait(10)
    process.stdout.close()
    until((tmp_path / "cleaned").exists)


def test_an_owner_that_says_done_is_left_in_peace(tmp_path: Path) -> None:
    guardian = Guardian.start([sys.executable, "-c", CLEAN, str(tmp_path / "cleaned")], log=tmp_path / "guardian.log")
    guardian.begin(tmp_path / "open.jsonl")
    assert guardian.done() == 0
    assert guardian.done() == 0
    assert not (tmp_path / "cleaned").exists()
    assert (tmp_path / "guardian.log").read_text() == ""


def test_a_guardian_that_somebody_killed_is_replaced_by_one_that_knows_what_is_open(tmp_path: Path) -> None:
    held = []
    guardian = Guardian.start([sys.executable, "-c", CLEAN, str(tmp_path / "cleaned")], log=tmp_path / "guardian.log", hold=held.append)
    guardian.begin(tmp_path / "one.jsonl")
    first = guardian.pid
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    guardian.begin(tmp_path / "two.jsonl")
    assert guardian.pid != first
    assert held == [first, guardian.pid]  # the local AWS is told whom to wait for
    process = guardian._process
    assert process.stdin is not None
    process.stdin.close()  # the pipe ends without a word
    process.wait(10)
    assert json.loads((tmp_path / "cleaned").read_text()) == [str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl")]


def test_on_a_persistent_runner_it_can_shed_the_job_s_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_TRACKING_ID", "github_123")
    guardian = Guardian.start(["true"], log=tmp_path / "guardian.log", outlive_ci_job=True)
    found = Path(f"/proc/{guardian.pid}/environ")
    until(lambda: bool(found.read_bytes()))  # empty between fork and exec
    environment = found.read_bytes().split(b"\0")
    guardian.done()
    assert b"RUNNER_TRACKING_ID=" in environment


def test_the_real_cleaning_command_starts(tmp_path: Path) -> None:
    """Its arguments must fit the program they are for, whatever lies in the current folder."""
    (tmp_path / "json.py").write_text("raise SystemExit('taken for the standard library')")
    command = salvage_command(target="local", region="us-west-2", endpoint_url="http://127.0.0.1:1")
    done = subprocess.run([*command, str(tmp_path / "empty.jsonl")], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing is left" in done.stdout
