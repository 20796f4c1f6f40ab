"""``mlcc local logs``: plain names are enough, and whoever mistypes one is told which are there."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result

from pytest_mlcc.cli.local import local
from pytest_mlcc.cli.logs import FileTail, Source, choose
from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws import launch

KNOWN = [
    Source("endpoint", "demo", "/aws/sagemaker/Endpoints/demo"),
    Source("inference-component", "demo", "/aws/sagemaker/InferenceComponents/demo"),
    Source("inference-component", "demo-adapter", "/aws/sagemaker/InferenceComponents/demo-adapter"),
    Source("training-job", "tune-1", "/aws/sagemaker/TrainingJobs", "tune-1/"),
    Source("build", "images:old", "/aws/codebuild/images", "old", newest=1),
    Source("build", "images:new", "/aws/codebuild/images", "new", newest=2),
]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("demo-adapter", "inference-component/demo-adapter"),
        ("endpoint/demo", "endpoint/demo"),
        ("tune-1", "training-job/tune-1"),
        ("tu", "training-job/tune-1"),
        ("training-job/tune-1", "training-job/tune-1"),
        ("images:old", "build/images:old"),
        ("old", "build/images:old"),
        ("images", "build/images:new"),
        ("build/images", "build/images:new"),
    ],
)
def test_a_name_that_fits_one_is_enough(word: str, expected: str) -> None:
    assert choose(word, KNOWN).full_name == expected


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("demo", "'demo' may be any of: endpoint/demo, inference-component/demo; say which"),
        ("d", "endpoint/demo, inference-component/demo, inference-component/demo-adapter; say which"),
        ("imgaes", 'did you mean "images"?'),
        ("demo-adaptre", "nothing of the name 'demo-adaptre' has a log here; did you mean \"demo-adapter\"?"),
    ],
)
def test_a_name_that_fits_several_or_none_is_answered_with_those_that_are_there(word: str, words: str) -> None:
    with pytest.raises(LocalAwsError) as refused:
        choose(word, KNOWN)
    assert words in str(refused.value)


def test_where_nothing_has_a_log_that_is_said() -> None:
    with pytest.raises(LocalAwsError, match="nothing has written a log here yet"):
        choose("x", [])


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """A local AWS and its logs, as jobs write them."""
    project = tmp_path_factory.mktemp("logs")
    started = launch.ensure(project, engine=False)
    logs = boto3.client(
        "logs", endpoint_url=started.endpoint_url, region_name=started.region, aws_access_key_id=started.account, aws_secret_access_key="x"
    )
    yield project, logs
    launch.release(project)


def _write(logs: Any, group: str, stream: str, *lines: str) -> None:
    for create, more in ((logs.create_log_group, {}), (logs.create_log_stream, {"logStreamName": stream})):
        try:
            create(logGroupName=group, **more)
        except logs.exceptions.ResourceAlreadyExistsException:
            continue
    now = int(time.time() * 1000)
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[{"timestamp": now, "message": line} for line in lines])


def _run(project: Path, *arguments: str) -> Result:
    return CliRunner().invoke(local, ["logs", *arguments, "--project", str(project)])


def test_a_jobs_log_is_printed_and_another_jobs_is_not(cloud: tuple[Path, Any]) -> None:
    project, logs = cloud
    _write(logs, "/aws/sagemaker/TrainingJobs", "job-a/algo-1-1", *(f"step {number}" for number in range(30)))
    _write(logs, "/aws/sagemaker/TrainingJobs", "job-ab/algo-1-1", "another's")
    shown = _run(project, "job-a")
    assert shown.exit_code == 0
    assert shown.output.splitlines() == [f"step {number}" for number in range(30)]
    assert _run(project, "job-a", "-n", "2").output.splitlines() == ["step 28", "step 29"]


def test_an_unknown_name_is_exit_1_with_a_suggestion(cloud: tuple[Path, Any]) -> None:
    project, logs = cloud
    _write(logs, "/aws/sagemaker/Endpoints/my-endpoint", "AllTraffic/i-1", "up")
    refused = _run(project, "my-endpiont")
    assert refused.exit_code == 1
    assert 'did you mean "my-endpoint"?' in refused.output


def test_a_resource_that_has_written_nothing_is_told_from_one_that_is_not_there(
    cloud: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "running", lambda _project: (launch.Running("endpoint", "silent", "InService"),))
    shown = _run(cloud[0], "silent")
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "endpoint/silent has written nothing yet" in shown.stderr


def test_following_prints_what_comes_until_the_resource_has_ended(cloud: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    project, logs = cloud
    _write(logs, "/aws/sagemaker/ProcessingJobs", "pack-1/algo-1", "begun")
    going = threading.Event()
    going.set()
    job = launch.Running("processing job", "pack-1", "InProgress")
    monkeypatch.setattr(launch, "running", lambda _project: (job,) if going.is_set() else ())

    def work() -> None:
        time.sleep(0.2)
        _write(logs, "/aws/sagemaker/ProcessingJobs", "pack-1/algo-1", "half way", "done")
        going.clear()

    worker = threading.Thread(target=work)
    worker.start()
    shown = _run(project, "pack-1", "--follow")
    worker.join()
    assert shown.output.splitlines() == ["begun", "half way", "done"]


def test_the_environment_is_as_it_was(cloud: tuple[Path, Any]) -> None:
    before = dict(os.environ)
    _run(cloud[0], "job-a")
    assert dict(os.environ) == before


def test_a_living_containers_file_is_followed_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "container.log"
    tail = FileTail(path)
    assert tail.new() == []
    with path.open("ab", buffering=0) as file:
        file.write(b"one\ntw")
        assert tail.new() == ["one"]
        assert tail.new() == []
        file.write(b"o\n\xff\n")
        assert tail.new() == ["two", "\N{REPLACEMENT CHARACTER}"]
