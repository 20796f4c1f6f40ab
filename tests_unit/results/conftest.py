"""A real DynamoDB and S3 API on this machine, and a few makers of entries, runs and outcomes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import boto3
import pytest

from pytest_mlcc.catalog.args import Args
from pytest_mlcc.catalog.entry import Entry, Tier, Track
from pytest_mlcc.errors import FailureClass
from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.lifecycle.ports import RunInfo
from pytest_mlcc.lifecycle.stage import plan
from pytest_mlcc.results.record import Record

_START_SECONDS = 60


@pytest.fixture(scope="session")
def endpoint_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("aws")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    environment = {
        **os.environ,
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": "us-west-2",
        "MINISTACK_ACCOUNT_ID": "123456789012",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "hypercorn", "--bind", f"fd://{listener.fileno()}", "ministack.app:app"],
            pass_fds=(listener.fileno(),),
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _await(url, server, folder / "log")
        yield url
    finally:
        server.terminate()
        server.wait(30)
        listener.close()


def _await(url: str, server: subprocess.Popen[bytes], log: Any) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"no answer from {url}:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def client(endpoint_url: str) -> Callable[[str], Any]:
    """A boto3 client of the emulator, by service."""

    def make(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=endpoint_url,
            region_name="us-west-2",
            aws_access_key_id="123456789012",
            aws_secret_access_key="local",
        )

    return make


@pytest.fixture(scope="session")
def dynamodb(client: Callable[[str], Any]) -> Any:
    return client("dynamodb")


@pytest.fixture
def tables(dynamodb: Any) -> Iterator[tuple[str, str]]:
    """Names of a CI table and a history table that only this test uses."""
    names = (f"ci-{uuid.uuid4().hex[:8]}", f"history-{uuid.uuid4().hex[:8]}")
    dynamodb.create_table(**ci_table(names[0]))
    dynamodb.create_table(**history_table(names[1]))
    yield names
    for name in names:
        dynamodb.delete_table(TableName=name)


LIFECYCLE = ("build", "push", "deploy", "test", "tune-sft", "adapter-add", "test-adapter", "clean")


@pytest.fixture
def entry() -> Entry:
    return entry_of()


def entry_of(name: str = "rt-qwen3-4b", model: str = "Qwen/Qwen3-4B", extra: str = "", lifecycle: Sequence[str] = LIFECYCLE) -> Entry:
    raw = (
        f"--deployment-config=transformers-vllm --model-name={model} --instance-type=ml.g5.xlarge --region=us-west-2"
        f" --deployment-target=managed-inference --enable-lora{extra}"
    )
    return Entry(name, Tier.CI, Track.REALTIME, Args.parse(raw), tuple(lifecycle), 1800, 3600)


def run_of(run_id: str = "20261120T110203-4f2a", started: float = 1_800_000_000.0) -> RunInfo:
    return RunInfo(run_id, "local", "native", "dana", started + 43_200, started)


def outcomes_of(
    entry: Entry, *, fail: str = "", only: Sequence[str] = (), error: str = "boom", started: float = 1_800_000_000.0
) -> dict[str, Outcome]:
    """Every stage passed in 1.25 s; or ``fail`` failed; or only some stages ran."""
    outcomes = {}
    for index, stage in enumerate(plan(entry.lifecycle)):
        at = started + 2 * index
        if only and stage.name not in only:
            continue
        if stage.name == fail:
            outcomes[stage.name] = Outcome(
                entry.id, stage.name, Result.FAIL, 1.25, at, error, FailureClass.OOM, log=f"/logs/{stage.name}.log"
            )
        else:
            outcomes[stage.name] = Outcome(entry.id, stage.name, Result.PASS, 1.25, at, log=f"/logs/{stage.name}.log")
    return outcomes


def record_of(entry: Entry, run: RunInfo, **choices: Any) -> Record:
    return Record.of(entry, run, plan(entry.lifecycle), outcomes_of(entry, **choices), cost=0.41)


@pytest.fixture
def make() -> Any:
    """The makers of this file: ``make.entry()``, ``make.run()``, ``make.outcomes(entry)``, ``make.record(entry, run)``."""

    class Makers:
        entry = staticmethod(entry_of)
        run = staticmethod(run_of)
        outcomes = staticmethod(outcomes_of)
        record = staticmethod(record_of)

    return Makers


def ci_table(name: str) -> dict[str, Any]:
    """One item per configuration; the index answers "which are untested, which were tested before ..."."""
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": _strings("configId", "testStatus", "lastTestTimestamp"),
        "KeySchema": _key("configId"),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": "testStatus-lastTestTimestamp-index",
                "KeySchema": _key("testStatus", "lastTestTimestamp"),
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    }


def history_table(name: str) -> dict[str, Any]:
    """One item per configuration and run, never changed; run ids sort by time."""
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": _strings("configId", "runId"),
        "KeySchema": _key("configId", "runId"),
    }


def _strings(*names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": "S"} for name in names]


def _key(partition: str, sort: str | None = None) -> list[dict[str, str]]:
    key = [{"AttributeName": partition, "KeyType": "HASH"}]
    return [*key, {"AttributeName": sort, "KeyType": "RANGE"}] if sort else key
