"""A local AWS that plays a fault plan, without the engine, and clients that try once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.rehearsal.scenario import read_scenario

PLAN = """
seed: 7
rules:
  - {operation: "dynamodb:PutItem", resource: mlcc-ci-table, fault: throttling, calls: 1}
  - {operation: "dynamodb:CreateTable", fault: throttling}
  - {operation: "dynamodb:DeleteTable", fault: resource-limit-exceeded}
  - {operation: "sagemaker:CreateEndpoint", fault: resource-limit-exceeded}
  - {operation: "sagemaker:DescribeEndpoint", fault: access-denied}
  - {operation: "sagemaker:ListEndpoints", fault: expired-token, message: "long gone"}
  - {operation: "sagemaker:InvokeEndpoint", resource: slow-*, fault: throttling}
  - {operation: "s3:PutObject", resource: "mlcc-e2e-datasets/struck/*", fault: throttling}
  - {operation: "s3:HeadObject", fault: access-denied}
  - {operation: "s3:ListBuckets", fault: expired-token}
  - {operation: "iam:GetRole", resource: "nobody*", fault: access-denied}
  - {operation: "iam:ListRoles", fault: throttling}
  - {operation: "lambda:ListFunctions", fault: throttling}
  - {operation: "lambda:GetFunction", fault: access-denied}
  - {operation: "ec2:DescribeVpcs", fault: throttling}
  - {operation: "codebuild:StartBuild", fault: resource-limit-exceeded}
  - {operation: "ecr:DescribeRepositories", fault: connection-reset}
  - {operation: "codebuild:ListProjects", fault: slow-answer, seconds: 0.4}
"""


@pytest.fixture(scope="session")
def rehearsing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project of a local AWS that plays the plan."""
    project = tmp_path_factory.mktemp("rehearsal")
    plan = project / "plan.yaml"
    plan.write_text(PLAN)
    launch.ensure(project, engine=False, rehearsal=read_scenario("instant", 1, plan))
    yield project
    assert launch.release(project)


@pytest.fixture(scope="session")
def client(rehearsing: Path) -> Callable[..., Any]:
    """Makes clients of it that do not try again, or ``attempts`` times."""
    found = launch.status(rehearsing)
    assert found is not None

    def make(service: str, *, attempts: int = 1) -> Any:
        return boto3.client(
            service, region_name=found.region, endpoint_url=found.endpoint_url, aws_access_key_id=found.account,
            aws_secret_access_key="local", config=Config(retries={"mode": "standard", "total_max_attempts": attempts}),
        )  # fmt: skip

    return make
