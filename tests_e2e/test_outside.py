"""The local target never leaves this machine: not by the run, not by the SDK, not by a team's own code."""

from __future__ import annotations

import ipaddress
import json

import psutil
import pytest

WATCH = """
import json, os, sys

def watch(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
        note = {"host": address[0] if isinstance(address, tuple) else "unix"}
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        note = {"host": arguments[0].decode() if isinstance(arguments[0], bytes) else arguments[0]}
    else:
        return
    line = json.dumps({"event": event, "pid": os.getpid(), "program": " ".join(sys.orig_argv), "sdk": "sagemaker" in sys.modules, **note})
    with open(os.environ["PYTHON_E2E_SOCKETS"], "a") as file:
        file.write(line + "\\n")

if "PYTHON_E2E_SOCKETS" in os.environ:
    sys.addaudithook(watch)
"""
GOES_OUT = """
import subprocess, sys, boto3, pytest

def test_stage(stage, endpoint):
    endpoint.run(stage)

@pytest.mark.stage(after="generate")
def test_with_boto3(endpoint):
    client = boto3.client("s3", endpoint_url="https://s3.us-west-2.amazonaws.com")
    assert "mlcc-e2e-datasets" in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]

@pytest.mark.stage(after="with-boto3")
def test_with_a_child(endpoint):
    code = "import urllib.request; urllib.request.urlopen('https://sts.us-west-2.amazonaws.com', timeout=5)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode != 0
    assert "The target is 'local': nothing may leave this machine" in child.stderr

@pytest.mark.stage(after="with-a-child")
def test_with_requests(endpoint):
    import requests
    requests.get("https://s3.us-west-2.amazonaws.com", timeout=5)
"""


def is_here(host: str | None) -> bool:
    """Whether a host is this machine: a loopback address, a name of it, or a socket in the file system."""
    if host in (None, "", "unix", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def test_a_whole_run_dials_nothing_but_this_machine(make_project, entry, until) -> None:
    project = make_project(entry("rt-one"))
    (project.path / "watch").mkdir()
    (project.path / "watch" / "sitecustomize.py").write_text(WATCH)
    sockets = project.path / "sockets.jsonl"
    running = project.start(PYTHONPATH=str(project.path / "watch"), PYTHON_E2E_SOCKETS=str(sockets))
    seen, abroad = set(), set()

    def is_over() -> bool:
        """Also looks with the kernel's eyes, for whatever is not Python or has another environment."""
        for process in project.processes():
            seen.add(process.pid)
            abroad.update(one.raddr.ip for one in connections(process) if one.raddr and not is_here(one.raddr.ip))
        return running.process.poll() is not None

    until(is_over, "the run to end")
    run = running.wait()
    assert run.code == 0, run
    assert abroad == set()
    notes = [json.loads(line) for line in sockets.read_text().splitlines()]
    assert [note for note in notes if not is_here(note["host"])] == []
    # And it was really watched: the SDK in pytest's own process, the local AWS, and more than those two
    assert any(note["sdk"] and note["host"] == "127.0.0.1" for note in notes)
    assert any("localaws.server" in note["program"] for note in notes)
    assert len(seen) > 4


def connections(process: psutil.Process) -> list[psutil._common.pconn]:
    try:
        return list(process.net_connections(kind="inet"))
    except psutil.Error:
        return []


def test_a_teams_own_code_that_would_reach_aws_is_pinned_or_refused(make_project, entry) -> None:
    project = make_project(entry("rt-one", lifecycle=["clean"]), tests=GOES_OUT)
    with project.cloud() as cloud:
        run = project.run(
            AWS_ACCESS_KEY_ID="AKIAREALKEYOFAPERSON", AWS_SECRET_ACCESS_KEY="a-real-secret", AWS_PROFILE="production",
            AWS_ENDPOINT_URL_S3="https://s3.us-west-2.amazonaws.com",
        )  # fmt: skip
        assert run.code == 1, run
        record = cloud.record(project.config_id("rt-one"))
    assert record["testStatus"] == "fail-with-requests"
    assert "amazonaws.com refused. The target is 'local': nothing may leave this machine" in record["errorMessage"]
    assert "--mlcc-target aws" in record["errorMessage"]
    assert record["stageResults"]["with-boto3"]["status"] == "pass"
    assert record["stageResults"]["with-a-child"]["status"] == "pass"
    assert record["stageResults"]["clean"]["status"] == "pass"


@pytest.mark.parametrize("where", [["--mlcc-target=cloud"], ["--mlcc-target=AWS"]])
def test_a_target_that_is_neither_local_nor_aws_is_refused(make_project, entry, where) -> None:
    project = make_project(entry("rt-one"))
    run = project.run(*where)
    assert run.code == pytest.ExitCode.USAGE_ERROR, run
    assert "local, aws" in run.output
