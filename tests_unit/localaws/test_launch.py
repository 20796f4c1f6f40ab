"""Starting, sharing, ending: a server too many or too few is a run on the wrong state, or a process left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.holders import start_ticks
from pytest_mlcc.localaws.launch import LocalAws


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    launch.stop(tmp_path)


def _ensure(project: Path, **options: Any) -> LocalAws:
    return launch.ensure(project, engine=False, **options)


def _until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _client(aws: LocalAws, service: str) -> Any:
    return boto3.client(
        service, endpoint_url=aws.endpoint_url, region_name=aws.region, aws_access_key_id=aws.account, aws_secret_access_key="x"
    )


def _health(aws: LocalAws) -> dict[str, Any]:
    return launch._call(aws.endpoint_url, "health")[1]


def _sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "120"])


def test_a_second_start_finds_the_first_and_the_last_holder_ends_it(project: Path) -> None:
    first = _ensure(project)
    assert first.started_here
    other = _sleeper()
    try:
        again = _ensure(project, holder_pid=other.pid)
        assert (again.pid, again.endpoint_url, again.started_here) == (first.pid, first.endpoint_url, False)
        assert launch.release(project) is False, "another holder was forgotten"
        assert start_ticks(first.pid) is not None
    finally:
        other.kill()
        other.wait()
    _until(lambda: start_ticks(first.pid) is None, seconds=5)
    assert launch.status(project) is None
    assert not (launch.local_dir(project) / "server.json").exists()


def test_release_waits_until_the_server_is_gone(project: Path) -> None:
    started = _ensure(project)
    assert launch.release(project) is True
    assert start_ticks(started.pid) is None
    assert launch.release(project) is False


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1])
def test_a_start_while_the_last_server_is_ending_gets_a_new_one(project: Path, after: float) -> None:
    ending = _ensure(project)
    os.kill(ending.pid, signal.SIGTERM)
    time.sleep(after)  # no moment of the end may be a wrong one; which one it is does not matter
    started = _ensure(project)
    assert (started.pid != ending.pid) is started.started_here
    if started.started_here:
        assert start_ticks(ending.pid) is None
        assert _health(started)["pid"] == started.pid


def test_a_directory_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / ".mlcc").write_text("a file in the way")
    with pytest.raises(LocalAwsError, match=r"can't use .*\.mlcc.local, where it keeps its state"):
        launch.ensure(tmp_path)


def test_the_user_keeps_it_after_a_run_has_ended(project: Path) -> None:
    run = _sleeper()
    started = _ensure(project, holder_pid=run.pid)
    launch.hold_for_user(project)
    run.kill()
    run.wait()
    _until(lambda: _health(started)["holders"] == ["user"])
    found = launch.status(project)
    assert found is not None
    assert found.held_by_user
    assert launch.release_user(project) is True


def test_two_processes_that_start_at_once_share_one_server(project: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from pytest_mlcc.localaws import launch\n"
        "aws = launch.ensure(Path(sys.argv[1]), holder_pid=int(sys.argv[2]), engine=False)\n"
        "print(aws.pid, aws.started_here)"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", program, str(project), str(os.getpid())], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [start.communicate(timeout=60)[0].split() for start in starts]
    assert len({pid for pid, _ in answers}) == 1
    assert sorted(here for _, here in answers) == ["False", "False", "True"]


def test_what_was_saved_survives_a_killed_server_and_its_ready_file_fools_nobody(project: Path) -> None:
    first = _ensure(project)
    _client(first, "dynamodb").put_item(TableName="mlcc-ci-table", Item={"configId": {"S": "c1"}, "testStatus": {"S": "pass"}})
    _client(first, "s3").put_object(Bucket="mlcc-e2e-datasets", Key="mine/train.jsonl", Body=b"{}")
    _client(first, "ecr").create_repository(repositoryName="mine")
    _until(lambda: not _health(first)["unsaved"])
    os.kill(first.pid, signal.SIGKILL)
    _until(lambda: start_ticks(first.pid) is None)

    second = _ensure(project)

    assert second.started_here
    assert second.pid != first.pid
    item = _client(second, "dynamodb").get_item(TableName="mlcc-ci-table", Key={"configId": {"S": "c1"}})["Item"]
    assert item["testStatus"] == {"S": "pass"}
    assert _client(second, "s3").get_object(Bucket="mlcc-e2e-datasets", Key="mine/train.jsonl")["Body"].read() == b"{}"
    assert "mine" in {r["repositoryName"] for r in _client(second, "ecr").describe_repositories()["repositories"]}


def test_no_process_of_a_killed_server_lives_on(project: Path) -> None:
    aws = _ensure(project)
    codebuild = _client(aws, "codebuild")
    marker = f"sleep {4000 + os.getpid() % 1000}.25"
    codebuild.create_project(
        name="proj",
        source={"type": "NO_SOURCE", "buildspec": f"version: 0.2\nphases:\n  build:\n    commands:\n      - {marker} & {marker}\n"},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_SMALL"},
        serviceRole="arn:aws:iam::123456789012:role/mlcc-codebuild-role",
    )
    build = codebuild.start_build(projectName="proj")["build"]

    def running() -> list[str]:
        listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        return [line for line in listed.splitlines() if line == marker]

    _until(lambda: len(running()) == 2)
    _until(lambda: not _health(aws)["unsaved"])
    os.kill(aws.pid, signal.SIGKILL)
    _until(lambda: not running())
    restarted = _ensure(project)
    found = _client(restarted, "codebuild").batch_get_builds(ids=[build["id"]])["builds"][0]
    assert (found["buildStatus"], found["buildComplete"]) == ("FAULT", True), "a build without a process is shown as running"


def test_a_server_that_dies_while_starting_says_why(project: Path) -> None:
    damaged = launch.local_dir(project) / "state" / "services"
    damaged.mkdir(parents=True)
    (damaged / "ecr.json").write_text("{")
    with pytest.raises(LocalAwsError, match=r"(?s)ended while starting.*ecr\.json is damaged"):
        _ensure(project)
    launch.reset(project)
    assert _ensure(project).started_here


def test_reset_forgets_everything(project: Path) -> None:
    aws = _ensure(project)
    _client(aws, "dynamodb").put_item(TableName="mlcc-ci-table", Item={"configId": {"S": "c1"}})
    assert launch.reset(project) is True
    fresh = _ensure(project)
    assert "Item" not in _client(fresh, "dynamodb").get_item(TableName="mlcc-ci-table", Key={"configId": {"S": "c1"}})
    assert launch.stop(project) is True
    assert launch.reset(project) is False


def test_the_server_sees_no_credentials_of_ours(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real-secret")
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("SERVICES", "sqs")
    aws = _ensure(project)
    monkeypatch.delenv("AWS_PROFILE")
    seen = Path(f"/proc/{aws.pid}/environ").read_bytes()
    assert b"real-secret" not in seen
    assert b"AWS_PROFILE" not in seen
    assert _client(aws, "dynamodb").list_tables()["TableNames"]


def test_a_long_project_path_still_gets_an_engine_socket_and_leaves_no_temporary_directory(tmp_path: Path) -> None:
    project = tmp_path / ("long-" * 20)
    project.mkdir()
    aws = launch.ensure(project)
    listening: list[Path] = []

    def socket_is_there() -> bool:
        listed = subprocess.run(["ps", "-ww", "-o", "args=", "--ppid", str(aws.pid)], capture_output=True, text=True, check=False).stdout
        listening[:] = [Path(word) for word in listed.split() if word.endswith("engine.sock")]
        return bool(listening)

    _until(socket_is_there)
    assert len(os.fsencode(listening[0])) < 100
    first = listening[0].parent
    assert first.is_dir()
    os.kill(aws.pid, signal.SIGKILL)
    _until(lambda: start_ticks(aws.pid) is None)
    aws = launch.ensure(project)
    assert not first.exists(), "a killed server's directory stays until the next start, and no longer"
    _until(socket_is_there)
    launch.stop(project)
    assert not listening[0].parent.exists()


def test_a_server_that_hangs_is_ended_all_the_same(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aws = _ensure(project)
    os.kill(aws.pid, signal.SIGSTOP)
    monkeypatch.setattr(launch, "_ANSWER_SECONDS", 0.3)
    with pytest.raises(LocalAwsError, match="does not answer"):
        launch.status(project)
    assert launch.stop(project) is True
    assert start_ticks(aws.pid) is None


def test_the_ready_file_holds_the_agreed_facts(project: Path) -> None:
    aws = _ensure(project)
    facts = json.loads((launch.local_dir(project) / "server.json").read_text())
    assert {"pid", "port", "endpoint_url", "account", "region", "started_at"} <= set(facts)
    assert facts["endpoint_url"] == aws.endpoint_url == f"http://127.0.0.1:{facts['port']}"


@pytest.mark.parametrize("text", ["", "[]", '{"pid": 1}', "{"])
def test_a_ready_file_that_is_none_of_ours_is_as_good_as_none(project: Path, text: str) -> None:
    (launch.local_dir(project)).mkdir(parents=True)
    (launch.local_dir(project) / "server.json").write_text(text)
    assert launch.status(project) is None
    assert launch.stop(project) is False


def test_a_run_in_another_region_finds_an_account_that_is_set_up_there_too(project: Path) -> None:
    _ensure(project)
    east = _ensure(project, region="us-east-1")
    assert _client(east, "ecr").describe_repositories(repositoryNames=["ml-container-creator"])["repositories"]
    assert "mlcc-ci-table" in _client(east, "dynamodb").list_tables()["TableNames"]
    s3 = _client(east, "s3")
    assert s3.list_objects_v2(Bucket="jumpstart-cache-prod-us-east-1")["KeyCount"] > 0
    assert "LocationConstraint" in s3.get_bucket_location(Bucket="mlcc-artifacts-123456789012-us-east-1")


def test_a_users_own_version_of_a_data_set_stays(project: Path) -> None:
    place = {"Bucket": "mlcc-e2e-datasets", "Key": "sft-small/train.jsonl"}
    _client(_ensure(project), "s3").put_object(**place, Body=b"mine")
    launch.stop(project)
    s3 = _client(_ensure(project), "s3")
    assert s3.get_object(**place)["Body"].read() == b"mine"
    assert s3.head_object(Bucket=place["Bucket"], Key="sft-medium/train.jsonl")["ContentLength"] > 1000
