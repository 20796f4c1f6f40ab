"""A container's state follows its process; users read statuses and reasons from it."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.runtime import process as module
from pytest_mlcc.localaws.runtime.container import Container, ContainerState
from pytest_mlcc.localaws.runtime.ports import ImageError, RunRequest
from pytest_mlcc.localaws.runtime.process import ProcessRuntime
from pytest_mlcc.localaws.runtime.processes import group_is_alive

_SERVE = """#!/usr/bin/env python3
import http.server, os, sys
print("port", os.environ["SAGEMAKER_BIND_TO_PORT"], flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(os.environ.get("PING", "200")))
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""

Run = Callable[..., Container]


def _until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """``run(script, **request)`` starts a container whose image has ``script`` as its ENTRYPOINT ``/usr/bin/serve``."""
    context = ServerContext(
        state_dir=tmp_path / "state", endpoint_url="http://127.0.0.1:1", account="123456789012", region="us-west-2",
        engine_socket=tmp_path / "engine.sock", twins_dir=tmp_path / "twins", changed=lambda: None,
    )  # fmt: skip
    runtime, made = ProcessRuntime(context), []
    (tmp_path / "rootfs/usr/bin").mkdir(parents=True)

    def start(
        script: str = _SERVE, on_end: Callable[[Container], None] = lambda dead: None, health_seconds: float = 20,
        program: str = "usr/bin/serve", entrypoint: Sequence[str] = ("/usr/bin/serve",), cmd: Sequence[str] = (), **changes: object,
    ) -> Container:  # fmt: skip
        (tmp_path / "rootfs" / program).write_text(script)
        (tmp_path / "rootfs" / program).chmod(0o755)
        seen = {"env": {"PATH": "/usr/local/bin:/usr/bin"}, "workdir": "/", "labels": {}}
        image = SimpleNamespace(rootfs=tmp_path / "rootfs", entrypoint=entrypoint, cmd=cmd, **seen)
        monkeypatch.setattr(module, "unpack", lambda reference, *, context: image)
        work = tmp_path / f"work{len(made)}"
        work.mkdir()
        request = RunRequest(image="i", environment={}, work=work, label="variant A", region="us-west-2")
        changed = dataclasses.replace(request, **changes)  # type: ignore[arg-type]  # any field
        container = Container(changed, runtime=runtime, on_end=on_end, health_seconds=health_seconds)
        made.append(container)
        container.start()
        return container

    yield start
    for container in made:
        container.stop(grace=1)
    runtime.close()


def test_it_becomes_ready_when_ping_answers_200_and_leaves_nothing_when_stopped(run: Run) -> None:
    container = run()
    _until(lambda: container.state is not ContainerState.STARTING)
    assert container.state is ContainerState.READY
    assert container.connections.request("GET", "/ping", timeout=5).status == 200
    assert f"port {container.port}" in container.tail()
    assert container.pid is not None
    container.stop()
    assert container.state is ContainerState.STOPPED
    assert not group_is_alive(container.pid)
    assert not container.request.work.exists()
    with pytest.raises(ConnectionError):
        container.connections.request("GET", "/ping", timeout=5)


@pytest.mark.parametrize(("entrypoint", "called"), [(["/usr/bin/serve", "--quiet"], "--quiet serve"), ([], "")])
def test_an_image_is_called_with_serve_in_place_of_its_cmd(run: Run, entrypoint: list[str], called: str) -> None:
    """As on AWS: ``docker run <image> serve``; of an image without ENTRYPOINT that is the program ``serve``."""
    container = run('#!/bin/sh\necho "called with: $*."\nexit 5\n', entrypoint=entrypoint, cmd=["--model", "/opt/ml/model"])
    _until(lambda: container.state is ContainerState.FAILED)
    assert f"called with: {called}." in container.failure


def test_an_image_that_has_its_server_in_cmd_alone_can_not_start(run: Run) -> None:
    """It runs under a plain ``docker run``, and fails on AWS."""
    container = run(program="usr/bin/server", entrypoint=[], cmd=["/usr/bin/server"])
    _until(lambda: container.state is not ContainerState.STARTING)
    assert container.failure.startswith("CannotStartContainerError. Please ensure the model container for variant A starts correctly")
    assert """when invoked with 'docker run i serve': exec: "serve": executable file not found in $PATH""" in container.failure


def test_one_that_exits_at_once_fails_with_its_code_and_last_words(run: Run) -> None:
    ended: list[Container] = []
    container = run("#!/bin/sh\necho 'no such model' >&2\nexit 3\n", on_end=ended.append)
    _until(lambda: bool(ended))
    assert (container.state, container.exit_code) == (ContainerState.FAILED, 3)
    assert "did not pass the ping health check and ended with exit code 3" in container.failure
    assert "no such model" in container.failure


def test_one_that_never_answers_ping_is_ended_when_its_time_is_up(run: Run) -> None:
    container = run(environment={"PING": "503"}, health_seconds=0.6)
    _until(lambda: container.state is ContainerState.FAILED)
    assert "did not pass the ping health check in 0.6 seconds" in container.failure
    assert container.pid is not None
    assert not group_is_alive(container.pid)


def test_one_that_dies_in_service_fails_and_says_so_once(run: Run) -> None:
    ended: list[Container] = []
    container = run(on_end=ended.append)
    _until(lambda: container.state is ContainerState.READY)
    assert container.pid is not None
    os.kill(container.pid, signal.SIGKILL)
    _until(lambda: bool(ended))
    assert container.state is ContainerState.FAILED
    assert container.was_ready
    assert "ended with exit code -9" in container.failure
    container.stop()
    assert len(ended) == 1


def test_an_image_that_can_not_be_had_is_a_failure_with_the_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(reference: str, *, context: ServerContext) -> None:
        raise ImageError("Failed to pull the image 'i': not found")

    first = run()
    first.stop()
    monkeypatch.setattr(module, "unpack", refuse)
    container = Container(first.request, runtime=first._runtime, on_end=lambda dead: None)
    container.start()
    _until(lambda: container.state is ContainerState.FAILED)
    assert container.failure == "Failed to pull the image 'i': not found"
    container.stop()


def test_one_can_be_stopped_while_it_starts(run: Run) -> None:
    container = run("#!/bin/sh\nsleep 60\n")
    container.stop(grace=1)
    assert container.state is ContainerState.STOPPED
    assert container.pid is None or not group_is_alive(container.pid)
