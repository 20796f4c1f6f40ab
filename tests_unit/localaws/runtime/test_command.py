"""What a container runs and sees, without an engine."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_mlcc.localaws.runtime.command import Sandbox, free_port
from pytest_mlcc.localaws.runtime.ports import CommandError


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    rootfs = tmp_path / "rootfs"
    (rootfs / "usr/bin").mkdir(parents=True)
    (rootfs / "app").mkdir()
    made = Sandbox(rootfs, tmp_path / "work", "/app")
    made.prepare()
    return made


def _add(sandbox: Sandbox, path: str, text: str, mode: int = 0o755) -> Path:
    file = sandbox.rootfs / path.lstrip("/")
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_program_of_the_image_is_run_from_the_image(sandbox: Sandbox) -> None:
    serve = _add(sandbox, "/usr/bin/serve", "#!/bin/sh\necho served\n")
    assert sandbox.command(["/usr/bin/serve"], ["--port", "1"]) == [str(serve), "--port", "1"]


def test_a_bare_name_is_looked_for_on_the_images_path(sandbox: Sandbox) -> None:
    serve = _add(sandbox, "/app/serve", "#!/usr/local/bin/python3\n")
    assert sandbox.command(["serve"], ["x"], path="/usr/bin:/app") == [str(sandbox.work / "bin/python3"), str(serve), "x"]
    assert sandbox.command(["sh"], [], path="/usr/bin:/app") == ["sh"]
    with pytest.raises(CommandError, match="executable file not found"):
        sandbox.command(["serve"], [], path="/usr/bin")


def test_arguments_that_are_files_of_the_image_are_found_too(sandbox: Sandbox) -> None:
    script = _add(sandbox, "/app/main.py", "")
    assert sandbox.command(["python3"], ["/app/main.py", "/nowhere", "/"]) == ["python3", str(script), "/nowhere", "/"]


def test_python_is_this_interpreter_with_its_packages(sandbox: Sandbox) -> None:
    """The image's script says python3 and means one that can import what it needs."""
    _add(sandbox, "/usr/bin/serve", "#!/usr/bin/env python3\nimport sys, botocore\nprint(sys.prefix)\n")
    for words in (["/usr/bin/serve"], ["/usr/local/bin/python3", "/usr/bin/serve"], ["python", "/usr/bin/serve"]):
        command = sandbox.command(words, [])
        run = subprocess.run(command, env=sandbox.environment({}), capture_output=True, text=True, check=True)
        assert run.stdout.strip() == sys.prefix


def test_an_absolute_python_in_the_first_line_is_ours_too(sandbox: Sandbox) -> None:
    script = _add(sandbox, "/usr/bin/serve", "#!/opt/venv/bin/python3 -u\n")
    assert sandbox.command(["/usr/bin/serve"], []) == [str(sandbox.work / "bin/python3"), "-u", str(script)]


@pytest.mark.parametrize(
    ("entrypoint", "message"),
    [
        ([], "No command specified"),
        (["/usr/bin/absent"], "no such file or directory"),
        (["/usr/bin/plain"], "permission denied"),
    ],
)
def test_what_can_not_be_run_is_said_in_an_engines_words(sandbox: Sandbox, entrypoint: list[str], message: str) -> None:
    _add(sandbox, "/usr/bin/plain", "x", mode=0o644)
    with pytest.raises(CommandError, match=message):
        sandbox.command(entrypoint, [])


def test_no_path_leads_out_of_the_image(sandbox: Sandbox) -> None:
    inside = _add(sandbox, "/app/run", "#!/bin/sh\n")
    assert sandbox.command(["/../../app/run"], ["/../../app/../app/run"]) == [str(inside), str(inside)]


def test_nothing_of_the_servers_environment_leaks(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real credentials of the user's shell must not reach a model's container."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "secret")
    environment = sandbox.environment({"PATH": "/app/bin:/usr/bin", "A": "image"}, {"A": "component"})
    assert "AWS_SESSION_TOKEN" not in environment
    assert environment["A"] == "component"
    parts = environment["PATH"].split(":")
    assert parts[:3] == [str(sandbox.work / "bin"), str(sandbox.rootfs / "app/bin"), str(sandbox.rootfs / "usr/bin")]


def test_it_starts_in_the_images_working_directory(sandbox: Sandbox) -> None:
    assert sandbox.prepare() == sandbox.rootfs / "app"
    elsewhere = Sandbox(sandbox.rootfs, sandbox.work, "/absent")
    assert elsewhere.prepare() == sandbox.work


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
