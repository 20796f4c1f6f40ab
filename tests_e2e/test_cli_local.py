"""``mlcc local``: a local AWS that a user keeps running between runs, and what survives when it dies."""

from __future__ import annotations

import json
import os
import signal
from urllib.parse import urlsplit

import boto3
import psutil
import pytest

LIFECYCLE = ["clean"]  # after generate, which is always there: a run of two quick stages


@pytest.fixture
def project(make_project, entry):
    made = make_project(entry("rt-one", lifecycle=LIFECYCLE))
    yield made
    made.mlcc("local", "down", "--force")


def told(project) -> dict[str, object]:
    return dict(json.loads(project.mlcc("local", "status", "--json").stdout))


def test_a_run_uses_the_local_aws_that_is_up_and_leaves_it_up(project) -> None:
    up = project.mlcc("local", "up")
    assert up.returncode == 0, up.stderr
    before = told(project)
    assert f"export AWS_ENDPOINT_URL={before['endpoint_url']}" in up.stdout
    assert project.run().code == 0
    after = told(project)
    assert (after["pid"], after["endpoint_url"]) == (before["pid"], before["endpoint_url"])
    assert after["held_by_user"] is True
    assert after["holders"] == ["user"]


def test_its_words_are_enough_to_read_the_records_with_any_client(project) -> None:
    assert project.run().code == 0
    words = dict(pair.split("=", 1) for line in project.mlcc("local", "up").stdout.splitlines() for pair in line.split() if "=" in pair)
    client = boto3.client(
        "dynamodb",
        endpoint_url=words["AWS_ENDPOINT_URL"], region_name=words["AWS_REGION"],
        aws_access_key_id=words["AWS_ACCESS_KEY_ID"], aws_secret_access_key=words["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    assert [item["testStatus"]["S"] for item in client.scan(TableName="mlcc-ci-table")["Items"]] == ["pass"]


def test_status_says_whether_it_runs_by_words_and_exit_code(project) -> None:
    assert project.mlcc("local", "status").returncode == 1
    assert "No local AWS runs for this project" in project.mlcc("local", "status").stdout
    project.mlcc("local", "up")
    status = project.mlcc("local", "status")
    assert status.returncode == 0
    assert "Kept by  mlcc local up" in status.stdout
    assert project.mlcc("local", "up").stdout.startswith("The local AWS was up already")


def test_down_ends_it_and_every_process_of_it_but_keeps_what_it_holds(project) -> None:
    project.mlcc("local", "up")
    assert project.run().code == 0
    port = urlsplit(str(told(project)["endpoint_url"])).port
    assert "state is kept" in project.mlcc("local", "down").stdout
    assert [one for one in project.leftovers() if one.startswith("process")] == []
    assert port not in {one.laddr.port for one in psutil.net_connections("inet") if one.status == psutil.CONN_LISTEN}
    with project.cloud() as cloud:
        assert cloud.record(project.config_id("rt-one"))["testStatus"] == "pass"


def test_records_survive_when_the_server_is_killed_outright(project, until) -> None:
    project.mlcc("local", "up")
    assert project.run().code == 0
    before = told(project)
    os.kill(int(str(before["pid"])), signal.SIGKILL)
    until(lambda: project.mlcc("local", "status").returncode == 1, "the server to be gone")
    assert project.mlcc("local", "up").stdout.startswith("The local AWS is up")
    with project.cloud() as cloud:
        assert cloud.record(project.config_id("rt-one"))["testStatus"] == "pass"
        assert len(cloud.history(project.config_id("rt-one"))) == 1
        assert any(key.endswith("results.json") for key in cloud.keys(cloud.results))
    assert project.run().code == 0


def test_reset_forgets_everything_and_asks_first(project) -> None:
    assert project.run().code == 0
    refused = project.mlcc("local", "reset")
    assert refused.returncode == 1
    assert "Forget all state" in refused.stdout + refused.stderr
    assert project.mlcc("local", "reset", "--yes").returncode == 0
    with project.cloud() as cloud:
        assert cloud.table("mlcc-ci-table").scan()["Items"] == []
        assert cloud.keys(cloud.results) == []
