"""One local AWS, and the environment that ``mlcc local shell`` gives: clients that nobody here wrote find it by that alone."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from image_push import push_image

from pytest_mlcc.aws.pin import pinned
from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.seed import EXECUTION_ROLE

PROGRAM = Path(__file__).with_name("program.py")


@dataclass(frozen=True)
class Account:
    """What a suite knows of the account that it works in."""

    endpoint_url: str
    account: str
    region: str
    bucket: str
    image: str
    project_dir: Path

    @property
    def role(self) -> str:
        return f"arn:aws:iam::{self.account}:role/{EXECUTION_ROLE}"

    @property
    def registry(self) -> str:
        return f"{self.account}.dkr.ecr.{self.region}.amazonaws.com"

    def put(self, key: str, text: str) -> str:
        """An object of the suite's bucket; its URI."""
        boto3.client("s3").put_object(Bucket=self.bucket, Key=key, Body=text.encode())
        return f"s3://{self.bucket}/{key}"

    def text(self, uri: str) -> str:
        """What lies at an s3:// URI."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return str(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())


@dataclass(frozen=True)
class _Pusher:
    """How ``push_image`` sees the local AWS."""

    endpoint_url: str
    account: str
    region: str

    def client(self, service: str) -> Any:
        return boto3.client(service)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[launch.LocalAws, Path]]:
    """The server, with its engine: fine-tuning is one of the things that clients do."""
    project = tmp_path_factory.mktemp("c") / "project"
    project.mkdir()
    twins = Path(__file__).resolve().parents[2] / ".mlcc" / "twins"
    twins.mkdir(parents=True, exist_ok=True)
    (project / ".mlcc").mkdir()
    (project / ".mlcc" / "twins").symlink_to(twins)
    yield launch.ensure(project), project
    assert launch.release(project, os.getpid()), "the server outlived its last holder"
    log = (launch.local_dir(project) / "server.log").read_text()
    assert "Traceback" not in log, f"errors of our own, which a client saw as AWS's:\n{log[-8000:]}"


@pytest.fixture(scope="session")
def _pushed(running: tuple[launch.LocalAws, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A bucket and the reference of an image, for all suites."""
    local, _ = running
    with pinned(local.endpoint_url, local.region, local.account):
        bucket = f"clients-{uuid.uuid4().hex[:8]}"
        boto3.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": local.region})
        image = push_image(
            _Pusher(local.endpoint_url, local.account, local.region), f"clients-{uuid.uuid4().hex[:6]}", PROGRAM.read_text(),
            tmp_path_factory.mktemp("image") / "files", command="program",
        )  # fmt: skip
    return bucket, image


@pytest.fixture(scope="module", autouse=True)
def account(request: pytest.FixtureRequest, running: tuple[launch.LocalAws, Path], _pushed: tuple[str, str]) -> Iterator[Account]:
    """The account; while a suite runs, this process and its children are pinned to it, and say whose calls theirs are."""
    local, project = running
    with pinned(local.endpoint_url, local.region, local.account), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SDK_UA_APP_ID", request.module.CLIENT)
        _forget_clients()
        yield Account(local.endpoint_url, local.account, local.region, *_pushed, project)
        _forget_clients()


def _forget_clients() -> None:
    """The SDK keeps clients for everybody in a process; another test of this one may have made them for its own server."""
    made = sys.modules.get("sagemaker.core.utils.utils")
    if made is not None:
        type(made.SageMakerClient)._instances.clear()
    registry = sys.modules.get("sagemaker.ai_registry.air_hub")
    if registry is not None:  # it makes its own when it is imported
        registry.AIRHub._sagemaker_client, registry.AIRHub._s3_client = boto3.client("sagemaker"), boto3.client("s3")


@pytest.fixture
def name() -> str:
    """A name of its own for a test's resources."""
    return f"c-{uuid.uuid4().hex[:8]}"
