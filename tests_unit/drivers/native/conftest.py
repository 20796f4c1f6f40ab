"""One real local AWS, pinned, and an entry's life on it: the driver, its ledger, and what its stages learned."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.aws.pin import pinned
from pytest_mlcc.aws.session import Aws
from pytest_mlcc.catalog import Args, Entry, load, packaged_catalog
from pytest_mlcc.cleanup.cleaner import AwsCleaner
from pytest_mlcc.cleanup.ledger import FileLedger
from pytest_mlcc.drivers.native import Native
from pytest_mlcc.lifecycle.ports import Context, Deadline, Resource, RunInfo
from pytest_mlcc.localaws import launch


@dataclass
class Life:
    """One entry in one run."""

    driver: Native
    aws: Aws
    entry: Entry
    run: RunInfo
    folder: Path
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def ledger(self) -> FileLedger:
        return FileLedger(self.folder / "ledger.jsonl")

    def context(self, seconds: float = 60) -> Context:
        return Context(self.entry, self.run, self.folder, self.ledger, Deadline(seconds), self.lines.append, self.facts)

    def go(self, *stages: str, seconds: float = 60) -> None:
        for stage in stages:
            self.facts[stage] = dict(self.driver.run(stage, self.context(seconds)))

    def clean(self) -> tuple[Resource, ...]:
        return tuple(AwsCleaner(self.aws).clean(self.ledger, log=self.lines.append))

    def alive(self) -> list[str]:
        """Everything of this run that the account still shows, by listing, not by the ledger."""
        run, mark, sagemaker = self.run.run_id, self.run.run_id.lower(), self.aws.client("sagemaker")
        bucket = f"mlcc-artifacts-{self.aws.account()}-{self.aws.region}"
        lists = [
            (sagemaker.list_endpoints, "Endpoints", "EndpointName"),
            (sagemaker.list_endpoint_configs, "EndpointConfigs", "EndpointConfigName"),
            (sagemaker.list_inference_components, "InferenceComponents", "InferenceComponentName"),
            (sagemaker.list_model_package_groups, "ModelPackageGroupSummaryList", "ModelPackageGroupName"),
        ]
        images = self.aws.client("ecr").describe_images(repositoryName="ml-container-creator")["imageDetails"]
        jobs = sagemaker.list_training_jobs(NameContains=mark, StatusEquals="InProgress")["TrainingJobSummaries"]
        return [
            *(one[name] for call, key, name in lists for one in call(NameContains=mark)[key]),
            *(one["TrainingJobName"] for one in jobs),
            *(tag for one in images for tag in one.get("imageTags", []) if mark in tag),
            *(one["Key"] for one in self.aws.client("s3").list_objects_v2(Bucket=bucket, Prefix=run).get("Contents", [])),
        ]


class Lives:
    """Starts lives on one server."""

    def __init__(self, aws: Aws, folder: Path) -> None:
        self.aws = aws
        self.driver = Native(aws, accept_eula=lambda entry: False)
        self._folder = folder
        self._entries = {entry.id: entry for entry in load(packaged_catalog()).entries}
        self._begun: list[Life] = []

    @property
    def ids(self) -> list[str]:
        return list(self._entries)

    def ledgers(self) -> list[FileLedger]:
        return [life.ledger for life in self._begun]

    def begin(self, entry_id: str = "rt-qwen3-06b", *, model: str | None = None, dataset: str | None = None, facts: Any = None) -> Life:
        number = len(self._begun)
        run = RunInfo(time.strftime("%Y%m%dT%H%M%S") + f"-{number:04x}", "local", "native", "tests", time.time() + 3600, time.time())
        entry = self._entries[entry_id]
        if model:
            entry = replace(entry, args=Args.parse(entry.args.raw.replace(str(entry.args.model_name), model)))
        if dataset:
            assert entry.tune
            entry = replace(entry, tune=replace(entry.tune, dataset=dataset))
        folder = self._folder / f"{entry_id}-{number}"
        folder.mkdir()
        self._begun.append(Life(self.driver, self.aws, entry, run, folder, facts=dict(facts or {})))
        return self._begun[-1]


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    project = tmp_path_factory.mktemp("project")
    server = launch.ensure(project)
    with pinned(server.endpoint_url, server.region, server.account):
        yield Lives(Aws("local", server.region, server.endpoint_url), tmp_path_factory.mktemp("lives"))
    launch.release(project, os.getpid())


class _Body:
    """The unread body of an answer, as botocore wants it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


class Instead:
    """Lets the next requests of an operation be answered by somebody other than the local AWS; all else goes there as ever."""

    def __init__(self) -> None:
        self._undo: list[Any] = []

    def of(self, client: Any, operation: str, status: int, code: str, message: str = "", *, times: int = 1, then: Any = None) -> list[str]:
        """The next ``times`` answers are this error; or, for status 200, the JSON object ``then``. Returns the URLs so answered."""
        from botocore.awsrequest import AWSResponse

        answered: list[str] = []
        xml = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        is_s3 = client.meta.service_model.service_name == "s3"
        text = json.dumps(then) if then is not None else xml if is_s3 else json.dumps({"__type": code, "message": message})

        def answer(request: Any, **_more: Any) -> Any:
            if len(answered) == times:
                return None
            answered.append(request.url)
            return AWSResponse(request.url, status, {}, _Body(text.encode()))

        event = f"before-send.{client.meta.service_model.service_id.hyphenize()}.{operation}"
        client.meta.events.register_first(event, answer)
        self._undo.append(lambda: client.meta.events.unregister(event, answer))
        return answered

    def end(self) -> None:
        for undo in self._undo:
            undo()


@pytest.fixture
def instead() -> Iterator[Instead]:
    answers = Instead()
    yield answers
    answers.end()
