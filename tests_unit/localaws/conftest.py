"""One real local AWS for all tests of its services: real server process, real clients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from pytest_mlcc.localaws import launch


@dataclass(frozen=True)
class RunningLocalAws:
    """A started local AWS and how to talk to it."""

    endpoint_url: str
    account: str
    region: str
    pid: int
    project_dir: Path

    @property
    def state_dir(self) -> Path:
        return launch.local_dir(self.project_dir)

    def client(self, service: str, *, region: str | None = None, **config: Any) -> Any:
        """A boto3 client, set up as a user's would be."""
        return boto3.client(
            service,
            region_name=region or self.region,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.account,
            aws_secret_access_key="local",
            config=Config(retries={"total_max_attempts": 1}, **config),
        )


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLocalAws]:
    project = tmp_path_factory.mktemp("project")
    # whether or not this machine has a container engine: what needs one is tested in tests_e2e/test_containers.py
    started = launch.ensure(project, runtime="process")
    yield RunningLocalAws(started.endpoint_url, started.account, started.region, started.pid, project)
    assert launch.release(project, os.getpid()), "the server outlived its last holder"
