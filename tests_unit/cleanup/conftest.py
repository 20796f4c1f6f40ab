"""One real local AWS for the tests that delete real things."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pytest_mlcc.aws.pin import pinned
from pytest_mlcc.aws.session import Aws
from pytest_mlcc.localaws import launch


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[launch.LocalAws]:
    project = tmp_path_factory.mktemp("project")
    yield launch.ensure(project)
    launch.release(project, os.getpid())


@pytest.fixture
def aws(_server: launch.LocalAws) -> Iterator[Aws]:
    with pinned(_server.endpoint_url, _server.region, _server.account):
        yield Aws("local", _server.region, _server.endpoint_url)
