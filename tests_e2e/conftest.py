"""A project as a team has it (a catalog, a test file of a few lines, an ini file), runs of it, and a look at its AWS afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from pytest_mlcc.catalog.load import load
from pytest_mlcc.cleanup.ledger import FileLedger
from pytest_mlcc.localaws import launch

REPOSITORY = Path(__file__).resolve().parents[1]
REGION = "us-west-2"
TESTS = """
def test_stage(stage, endpoint):
    endpoint.run(stage)
"""
INI = "[pytest]\nmlcc_catalog = catalog.json\nfilterwarnings = error\n"
PATIENCE = 600.0  # seconds, many times what the longest run takes on a quiet machine; a condition that is not there by then never comes


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """The first true answer of a condition; fails where there is none in time."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)
    return answer


def entry(
    name: str, *, instance: str = "ml.g5.xlarge", lifecycle: list[str] | None = None, dataset: str = "", **changes: Any
) -> dict[str, Any]:
    """An entry like ``rt-qwen3-06b`` of the golden catalog. Another instance makes it another configuration, with the same twin."""
    (golden,) = [one for one in json.loads((REPOSITORY / "catalog" / "e2e.json").read_text())["configs"] if one["id"] == "rt-qwen3-06b"]
    made: dict[str, Any] = {**golden, "id": name, "args": golden["args"].replace("ml.g5.xlarge", instance), **changes}
    if lifecycle is not None:
        made["lifecycle"] = lifecycle
    if dataset:
        made["tuneConfig"] = {**golden["tuneConfig"], "dataset": dataset}
    if "tune-sft" not in made["lifecycle"]:
        del made["tuneConfig"]
    return made


@dataclass(frozen=True)
class Finished:
    """A run that has ended: exit code and everything it printed."""

    code: int
    output: str
    run_id: str

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.output}"


class Running:
    """A run that goes on in a process group of its own, as in a terminal."""

    def __init__(self, project: Project, process: subprocess.Popen[bytes], log: Path, before: set[str]) -> None:
        self.project, self.process = project, process
        self._log, self._before = log, before

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def run_id(self) -> str:
        new = sorted(self.project.run_ids - self._before)
        return new[-1] if new else ""

    def wait(self, seconds: float = PATIENCE) -> Finished:
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            pytest.fail(f"pytest did not end within {seconds:.0f} s:\n{self.output}")
        return Finished(code, self.output, self.run_id)

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends it to every process of the group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def reaches(self, name: str, kind: str) -> None:
        """Wait until the run is about to create a resource of this kind for an entry."""

        def created() -> bool:
            assert self.process.poll() is None, f"the run ended before it made a {kind}:\n{self.output}"
            return kind in [one.kind for one in self.project.ledger(self.run_id, name).open()] if self.run_id else False

        until(created, f"{name} to make a {kind}")


class Cloud:
    """The local AWS of a project, seen with boto3 from outside of the run."""

    def __init__(self, local: launch.LocalAws) -> None:
        self.endpoint_url = local.endpoint_url
        keys = {"aws_access_key_id": local.account, "aws_secret_access_key": "local"}
        self._session = boto3.Session(region_name=REGION, **keys)
        self.artifacts, self.results = (f"mlcc-{what}-{local.account}-{REGION}" for what in ("artifacts", "e2e-results"))

    def client(self, service: str) -> Any:
        return self._session.client(service, endpoint_url=self.endpoint_url)

    def table(self, name: str) -> Any:
        return self._session.resource("dynamodb", endpoint_url=self.endpoint_url).Table(name)

    def record(self, config_id: str) -> dict[str, Any]:
        found = self.table("mlcc-ci-table").get_item(Key={"configId": config_id}).get("Item")
        assert found is not None, f"no record of {config_id}"
        return dict(found)

    def history(self, config_id: str) -> list[dict[str, Any]]:
        return [item for item in self.table("mlcc-ci-history").scan()["Items"] if item["configId"] == config_id]

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def text(self, bucket: str, key: str) -> str:
        return str(self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())

    def alive(self) -> list[str]:
        """Everything that a run makes and must take away again, whoever made it."""
        sagemaker, builds = self.client("sagemaker"), self.client("codebuild")
        tags = [image.get("imageTag", image.get("imageDigest")) for image in self._images()]
        build_ids = builds.list_builds()["ids"]
        going = [one["id"] for one in (builds.batch_get_builds(ids=build_ids)["builds"] if build_ids else []) if not one["buildComplete"]]
        return [
            *(f"endpoint {one['EndpointName']}" for one in sagemaker.list_endpoints()["Endpoints"]),
            *(f"configuration {one['EndpointConfigName']}" for one in sagemaker.list_endpoint_configs()["EndpointConfigs"]),
            *(f"component {one['InferenceComponentName']}" for one in sagemaker.list_inference_components()["InferenceComponents"]),
            *(f"model {one['ModelName']}" for one in sagemaker.list_models()["Models"]),
            *(f"group {one['ModelPackageGroupName']}" for one in sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]),
            *(f"job {one['TrainingJobName']}" for one in sagemaker.list_training_jobs(StatusEquals="InProgress")["TrainingJobSummaries"]),
            *(f"build {one}" for one in going),
            *(f"image {tag}" for tag in tags),
            *(f"object {key}" for key in self.keys(self.artifacts)),
        ]

    def _images(self) -> list[dict[str, Any]]:
        return list(self.client("ecr").list_images(repositoryName="ml-container-creator")["imageIds"])


class Project:
    """A folder with a catalog and a test file. Its runs keep temporary files in a folder of their own, so that none can hide.

    Twins are cached where this repository's own runs keep them.
    """

    def __init__(self, path: Path, *entries: dict[str, Any], tests: str = TESTS, conftest: str = "", ini: str = INI) -> None:
        self.path = path.resolve()
        self.temporary = path.parent / f"{path.name}-tmp"
        self._runs = 0
        for folder in (self.path, self.temporary, self.path / ".mlcc", REPOSITORY / ".mlcc" / "twins"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.path / ".mlcc" / "twins").symlink_to(REPOSITORY / ".mlcc" / "twins")
        self.write(*entries, tests=tests, conftest=conftest, ini=ini)

    def write(self, *entries: dict[str, Any], tests: str = TESTS, conftest: str = "", ini: str = INI) -> None:
        (self.path / "catalog.json").write_text(json.dumps({"configs": list(entries)}, indent=1))
        (self.path / "test_models.py").write_text(tests)
        (self.path / "conftest.py").write_text(conftest)
        (self.path / "pytest.ini").write_text(ini)

    def start(self, *arguments: str, **environment: str) -> Running:
        """``pytest <arguments>`` in the project, with nothing of our own environment that could change it."""
        self._runs += 1
        log = self.path.parent / f"{self.path.name}-{self._runs}.log"
        before = self.run_ids
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *arguments],
                cwd=self.path, env={**self.environment, **environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        return Running(self, process, log, before)

    def run(self, *arguments: str, **environment: str) -> Finished:
        return self.start(*arguments, **environment).wait()

    def mlcc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``mlcc <arguments>`` in the project."""
        command = [sys.executable, "-c", "from pytest_mlcc.cli import main; main()", *arguments]
        return subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=PATIENCE, check=False)

    @property
    def environment(self) -> dict[str, str]:
        foreign = ("MLCC_", "AWS_", "PYTEST_", "COVERAGE_", "COV_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**kept, "TMPDIR": str(self.temporary), "COLUMNS": "200"}

    @property
    def run_ids(self) -> set[str]:
        folder = self.path / ".mlcc" / "runs"
        return {one.name for one in folder.iterdir()} if folder.exists() else set()

    def config_id(self, name: str) -> str:
        return load(self.path / "catalog.json").by_id[name].config_id

    def ledger(self, run_id: str, name: str) -> FileLedger:
        return FileLedger(self.path / ".mlcc" / "runs" / run_id / "ledger" / f"{name}.jsonl")

    def log(self, run_id: str, name: str) -> str:
        """The text of one log file of a run, by its name."""
        (path,) = (self.path / ".mlcc" / "runs" / run_id / "logs").rglob(name)
        return path.read_text(errors="replace")

    @contextmanager
    def cloud(self) -> Iterator[Cloud]:
        """The project's local AWS while we look at it; one that runs goes on running."""
        local = launch.ensure(self.path, engine=False)
        try:
            yield Cloud(local)
        finally:
            launch.release(self.path)

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this project's runs: pytest, workers, guardians, the local AWS, its engine and containers."""
        return [one for one in psutil.process_iter() if one.pid != os.getpid() and self._owns(one)]

    def leftovers(self) -> list[str]:
        """Processes with their listening ports, and temporary files."""
        found = [f"process {one.pid}: {' '.join(_quiet(one.cmdline, []))} listens on {_ports(one)}" for one in self.processes()]
        own = [path for path in sorted(self.temporary.rglob("*")) if not path.relative_to(self.temporary).parts[0].startswith("pytest-of-")]
        return found + [f"file {path}" for path in own]  # pytest keeps a folder of its own for its workers

    def _owns(self, process: psutil.Process) -> bool:
        if _quiet(process.status, psutil.STATUS_ZOMBIE) == psutil.STATUS_ZOMBIE:
            return False
        environment: Mapping[str, str] = _quiet(process.environ, {})
        places = [*_quiet(process.cmdline, []), _quiet(process.cwd, "")]
        return environment.get("TMPDIR") == str(self.temporary) or any(f"{self.path}/" in f"{place}/" for place in places)


def _quiet(ask: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return ask()
    except (psutil.Error, OSError):  # it ended while we looked
        return otherwise


def _ports(process: psutil.Process) -> list[int]:
    return [one.laddr.port for one in _quiet(process.net_connections, []) if one.status == psutil.CONN_LISTEN]


MakeProject = Callable[..., Project]


@pytest.fixture(scope="module")
def make_project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeProject]:
    """Makes projects; whatever a failed test left running is ended afterwards."""
    made: list[Project] = []

    def make(*entries: dict[str, Any], **files: str) -> Project:
        # Short: the engine's socket lies below it
        made.append(Project(tmp_path_factory.mktemp("e") / "project", *entries, **files))
        return made[-1]

    yield make
    for project in made:
        launch.stop(project.path)
        for process in project.processes():
            _quiet(process.kill, None)


@pytest.fixture(scope="session", name="entry")
def entry_maker() -> Callable[..., dict[str, Any]]:
    """Makes catalog entries."""
    return entry


@pytest.fixture(scope="session", name="until")
def until_maker() -> Callable[..., Any]:
    """Waits for a condition."""
    return until
