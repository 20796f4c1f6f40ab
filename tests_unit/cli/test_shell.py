"""``mlcc local shell``: whatever runs in it reaches the local AWS, and nothing but it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mlcc.localaws import launch

ASK = """
import json, os, boto3
sts = boto3.client("sts", endpoint_url="https://sts.us-west-2.amazonaws.com")  # as the sagemaker SDK does
print(json.dumps({"region": boto3.Session().region_name, "account": sts.get_caller_identity()["Account"], "endpoint": sts.meta.endpoint_url,
                  "tables": boto3.client("dynamodb").list_tables()["TableNames"], "profile": os.environ.get("AWS_PROFILE")}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose local AWS runs already, as shells open faster so."""
    path = tmp_path_factory.mktemp("shell")
    launch.ensure(path, engine=False)
    yield path
    assert launch.release(path), "a shell that is closed still holds it"


def _command(project: Path, *words: str) -> list[str]:
    return [sys.executable, "-c", "from pytest_mlcc.cli import main; main()", "local", "shell", "--project", str(project), *words]


def _run(project: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run(_command(project, *words), capture_output=True, text=True, timeout=60, check=False, env=env)


def test_clients_in_it_talk_to_the_local_aws_whatever_the_user_has_set_up(project: Path) -> None:
    found = launch.status(project)
    assert found is not None
    ran = _run(
        project, "--region", "eu-west-1", "--", sys.executable, "-c", ASK,
        AWS_PROFILE="production", AWS_SESSION_TOKEN="t", HTTPS_PROXY="http://127.0.0.1:9", AWS_ENDPOINT_URL_STS="http://127.0.0.1:9",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["region"], told["account"], told["profile"]) == ("eu-west-1", "123456789012", None)
    assert told["endpoint"] == found.endpoint_url
    assert "mlcc-ci-table" in told["tables"]


def test_its_exit_code_is_the_commands(project: Path) -> None:
    assert _run(project, "--", "sh", "-c", "exit 7").returncode == 7
    assert _run(project, "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9
    missing = _run(project, "--", "no-such-program", "x")
    assert missing.returncode == 127
    assert "no-such-program x can't be run: No such file" in missing.stderr


def test_commands_can_come_from_a_pipe_and_no_prompt_is_in_the_way(project: Path) -> None:
    found = launch.status(project)
    assert found is not None
    ran = subprocess.run(
        _command(project), input="echo endpoint=$AWS_ENDPOINT_URL\nexit 6\n", capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "SHELL": "/bin/bash"},
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (6, f"endpoint={found.endpoint_url}\n", "")


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_an_open_shell_shows_where_it_is_and_holds_the_server(project: Path, shell: str) -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "SHELL": shell, "HOME": str(project), "TERM": "dumb"}
    process = subprocess.Popen(_command(project), stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
    os.close(slave)
    try:
        os.write(master, b"echo endpoint=$AWS_ENDPOINT_URL; exit 5\n")
        seen = _read(master)
        assert process.wait(30) == 5
    finally:
        process.kill()
        os.close(master)
    found = launch.status(project)
    assert found is not None
    assert "(mlcc local) " in seen
    assert f"endpoint={found.endpoint_url}" in seen


def _read(master: int) -> str:
    seen = b""
    while True:
        try:
            seen += os.read(master, 4096)
        except OSError:  # the last process at the other end has gone
            return seen.decode()
