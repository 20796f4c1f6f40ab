"""The chain of processes: quick to start, never blocked, and nothing left however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.engine.launch import EngineProcess, spawn

QWEN3 = "Qwen/Qwen3-4B"


def _gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def _soon(condition, timeout: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def endpoint(engine, tmp_path: Path):
    with (tmp_path / "log").open("wb") as log:
        child = spawn(engine.socket_path, "serve", {"model": QWEN3, "port": 0}, stdout=log.fileno())
    assert _soon(lambda: "serves on" in (tmp_path / "log").read_text())
    yield child
    child.close()


def test_importing_the_parent_side_loads_nothing_heavy() -> None:
    code = "import sys, pytest_mlcc.localaws.engine.launch; print(sorted({'torch','transformers','peft','numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_sigterm_ends_an_endpoint_cleanly_and_tells_its_code(endpoint) -> None:
    assert endpoint.poll() is None
    with pytest.raises(TimeoutError):
        endpoint.wait(0.05)
    endpoint.terminate()
    assert endpoint.wait(10) == 0
    assert endpoint.poll() == 0
    endpoint.terminate()  # no effect, no error


def test_a_killed_endpoint_tells_the_signal(endpoint) -> None:
    os.kill(endpoint.pid, signal.SIGKILL)
    assert endpoint.wait(10) == -signal.SIGKILL


def test_letting_go_of_a_child_kills_it(endpoint) -> None:
    pid = endpoint.pid
    endpoint.close()
    assert _soon(lambda: _gone(pid))
    assert endpoint.wait(1) < 0


def test_a_signal_sent_at_once_is_never_lost(engine, tmp_path: Path) -> None:
    """A stage that is stopped right after it began must stop."""
    with (tmp_path / "log").open("wb") as log:
        for _ in range(10):
            with spawn(engine.socket_path, "serve", {"model": QWEN3, "port": 0}, stdout=log.fileno()) as child:
                child.terminate()
                assert child.wait(10) in (0, -signal.SIGTERM)


def test_a_child_has_one_thread_group_of_its_own_and_few_descriptors(engine, endpoint) -> None:
    """A child that kept the parent's sockets would keep other children's life lines open."""
    assert os.getsid(endpoint.pid) == endpoint.pid
    sockets = list(psutil.Process(endpoint.pid).net_connections(kind="unix"))
    assert sockets == []


def test_a_client_that_says_nothing_or_nonsense_blocks_nobody(engine) -> None:
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(str(engine.socket_path))
    for nonsense in (b"hello\n", b"[]\n", b'{"op": "serve"}\n', b"\xff\n", b'{"signal": "x"}\n'):
        with socket.socket(socket.AF_UNIX) as odd:
            odd.connect(str(engine.socket_path))
            odd.sendall(nonsense)
            assert b"bad request" in odd.recv(1000)
    engine.wait_ready(5)
    silent.close()
    assert engine.alive


@pytest.mark.parametrize(
    ("op", "options", "code", "words"),
    [
        ("dance", {}, 2, "unknown operation 'dance'"),
        ("serve", {"model": QWEN3, "port": 0, "colour": "red"}, 2, "colour"),
        ("serve", {"model": "Qwen/Qwen3-4b", "port": 0}, 1, "Did you mean Qwen/Qwen3-4B"),
    ],
)
def test_a_wrong_order_ends_with_a_line_and_a_code(work, op: str, options, code: int, words: str) -> None:
    found, log = work(op, **options)
    assert (found, words in log) == (code, True), log


def test_a_taken_port_ends_with_a_line_and_a_code(work, qwen3) -> None:
    code, log = work("serve", model=QWEN3, port=qwen3.port)
    assert (code, f"port {qwen3.port}" in log) == (1, True)


def test_without_a_parent_spawning_says_so(tmp_path: Path) -> None:
    with pytest.raises(LocalAwsError, match="No engine listens on"):
        spawn(tmp_path / "none.sock", "serve", {}, stdout=1)


def test_a_second_parent_on_the_same_socket_and_a_long_path_are_refused(engine, cache: Path, tmp_path: Path) -> None:
    options = {"cache_dir": cache, "log_path": tmp_path / "log"}
    with pytest.raises(LocalAwsError, match="Another engine listens"):
        EngineProcess.start(socket_path=engine.socket_path, **options)
    with pytest.raises(LocalAwsError, match="longer than"):
        EngineProcess.start(socket_path=tmp_path / ("x" * 100), **options)
    engine.wait_ready(5)


OWNER = """
import sys, time
from pathlib import Path
from pytest_mlcc.localaws.engine.launch import EngineProcess, spawn
base, cache, wait = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
engine = EngineProcess.start(socket_path=base / "e.sock", cache_dir=cache, log_path=base / "engine.log")
print(engine.pid, flush=True)
if wait == "serving":
    children = [spawn(engine.socket_path, "serve", {"model": "Qwen/Qwen3-4B", "port": 0}, stdout=2) for _ in range(2)]
    print(*[child.pid for child in children], flush=True)
    if sys.argv[4] == "stop":
        engine.stop()
        print("stopped", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("wait", "how"), [("warming", "killed"), ("serving", "killed"), ("serving", "stop"), ("serving", "parent killed")])
def test_whoever_dies_no_process_and_no_socket_is_left(cache: Path, wait: str, how: str) -> None:
    with tempfile.TemporaryDirectory(prefix="mlcc-") as base:
        command = [sys.executable, "-c", OWNER, base, str(cache), wait, how]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as owner:
            try:
                assert owner.stdout is not None
                pids = [int(owner.stdout.readline())]
                if wait == "serving":
                    pids += [int(pid) for pid in owner.stdout.readline().split()]
                if how == "stop":
                    assert owner.stdout.readline() == "stopped\n"
                    assert all(_gone(pid) for pid in pids), "stop returns when nothing is left"
                elif how == "parent killed":
                    os.kill(pids[0], signal.SIGKILL)
                else:
                    owner.kill()
                assert _soon(lambda: all(_gone(pid) for pid in pids))
            finally:
                owner.kill()
        assert how == "parent killed" or _soon(lambda: not (Path(base) / "e.sock").exists())
