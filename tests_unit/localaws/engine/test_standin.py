"""vLLM's command line on a machine without a GPU: what a container's entry point starts, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pytest_mlcc.localaws import engine as engine_package

STANDIN = Path(engine_package.__file__).parent / "standin"
COMMAND = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]


def _environment(**extra: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLCC_", "VLLM_"))}
    return {**clean, "PYTHONPATH": str(STANDIN), **extra}


def _run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], env=_environment(**extra), capture_output=True, text=True, timeout=60, check=False)


def _until(condition, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def container(engine, cache: Path, tmp_path: Path):
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, warm: bool = True, **extra: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = tmp_path / f"log{len(started)}"
        if warm:
            extra["MLCC_ENGINE_SOCKET"] = str(engine.socket_path)
        environment = _environment(MLCC_TWINS_DIR=str(cache), **extra)
        with log.open("wb") as stream:
            command = [*COMMAND, "--model", "Qwen/Qwen3-4B", "--port", "0", *arguments]
            started.append(subprocess.Popen(command, env=environment, stdout=stream, stderr=stream))
        _until(lambda: "serves on" in log.read_text() or started[-1].poll() is not None)
        assert started[-1].poll() is None, log.read_text()
        return started[-1], log

    yield start
    for process in started:
        process.kill()
        process.wait()


def _served_by(log: Path) -> int:
    """The process that listens on the port the log names."""
    port = int(log.read_text().partition("127.0.0.1:")[2].split()[0])
    return next(c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port)


def test_help_lists_the_flags_and_unknown_ones_are_errors() -> None:
    shown = _run("--help")
    flags = (
        "--model --port --host --served-model-name --enable-lora --max-loras --max-lora-rank --max-model-len --tensor-parallel-size --dtype"
    )
    assert shown.returncode == 0
    assert all(flag in shown.stdout for flag in flags.split())
    for wrong in (["--colour", "red"], ["--port", "x"], ["--port", "99999"], ["--max-lora-rank", "0"], []):
        assert _run("--model", "Qwen/Qwen3-4B", *wrong).returncode == 2 if wrong else _run().returncode == 2


def test_an_unknown_model_ends_with_code_1_and_the_one_meant(engine, cache: Path) -> None:
    ended = _run("--model", "Qwen/Qwen3-4b", MLCC_ENGINE_SOCKET=str(engine.socket_path), MLCC_TWINS_DIR=str(cache))
    assert (ended.returncode, "Did you mean Qwen/Qwen3-4B" in ended.stderr) == (1, True)


def test_a_socket_nobody_listens_on_is_an_error_not_a_slow_start(tmp_path: Path) -> None:
    ended = _run("--model", "Qwen/Qwen3-4B", MLCC_ENGINE_SOCKET=str(tmp_path / "none"))
    assert (ended.returncode, "No engine listens" in ended.stderr) == (1, True)


def test_sagemakers_port_is_the_one_that_this_container_was_told(container) -> None:
    """Entry points name 8080 without asking; on one machine that can't be everybody's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _, log = container("--port", "8080", SAGEMAKER_BIND_TO_PORT=str(port))
    assert f"127.0.0.1:{port}" in log.read_text()
    _, other = container("--port", "0", SAGEMAKER_BIND_TO_PORT=str(port))
    assert f"127.0.0.1:{port}" not in other.read_text()


def test_sigterm_reaches_the_server_and_its_code_comes_back(container) -> None:
    process, log = container()
    server = _served_by(log)
    assert server != process.pid
    assert not any("torch" in mapped.path for mapped in psutil.Process(process.pid).memory_maps()), "the stand-in stays light"
    process.terminate()
    assert process.wait(10) == 0
    _until(lambda: not psutil.pid_exists(server))


def test_a_killed_container_takes_its_server_along(container) -> None:
    process, log = container()
    server = _served_by(log)
    process.kill()
    _until(lambda: not psutil.pid_exists(server))


def test_a_server_that_dies_ends_its_container_with_its_signal(container) -> None:
    process, log = container()
    os.kill(_served_by(log), signal.SIGKILL)
    assert process.wait(10) == 128 + signal.SIGKILL


def test_adapters_need_vllms_two_switches(container, qwen3_adapter: Path) -> None:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    def load(log: Path) -> int:
        port = log.read_text().partition("127.0.0.1:")[2].split()[0]
        body = f'{{"name": "x", "src": "{qwen3_adapter}"}}'.encode()
        try:
            with urlopen(Request(f"http://127.0.0.1:{port}/adapters", body, method="POST")) as reply:
                return reply.status
        except HTTPError as error:
            error.close()
            return error.code

    assert load(container("--enable-lora", VLLM_ALLOW_RUNTIME_LORA_UPDATING="True")[1]) == 200
    assert load(container("--enable-lora")[1]) == 404
    assert load(container(VLLM_ALLOW_RUNTIME_LORA_UPDATING="1")[1]) == 404


def test_without_a_warm_parent_it_serves_in_its_own_process(container, qwen3_adapter: Path) -> None:
    """The portable way, and a check of the fork: adapters made in a forked child fit a fresh process's twin."""
    process, log = container("--enable-lora", "--lora-modules", f"support={qwen3_adapter}", warm=False)
    assert _served_by(log) == process.pid
    process.terminate()
    assert process.wait(10) == 0
