"""Whoever gets past the door can do anything, so the door must be tight; a call that is not counted as a change may be lost."""

from __future__ import annotations

import pytest

from pytest_mlcc.localaws.front import changes_state, is_local_host


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:4566", "localhost", "LOCALHOST:80", "my-bucket.localhost:4566", "a.s3.us-west-2.localhost:1", "[::1]:9"],
)
def test_this_machine_is_let_in(host: str) -> None:
    assert is_local_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:4566",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example#.localhost",
        "127.0.0.2",
        "a b.localhost",
    ],
)
def test_other_hosts_are_kept_out(host: str) -> None:
    assert not is_local_host(host)


@pytest.mark.parametrize(
    ("method", "path", "target", "changes"),
    [
        ("POST", "/", "DynamoDB_20120810.PutItem", True),
        ("POST", "/", "DynamoDB_20120810.GetItem", False),
        ("POST", "/", "SageMaker.DescribeEndpoint", False),
        ("POST", "/", "SageMaker.CreateEndpoint", True),
        ("POST", "/", "CodeBuild_20161006.BatchGetBuilds", False),
        ("POST", "/", "DynamoDB_20120810.BatchWriteItem", True),
        ("PUT", "/bucket/key", "", True),
        ("GET", "/bucket/key", "", False),
        ("POST", "/", "", True),
        ("POST", "/endpoints/e/invocations", "", False),
    ],
)
def test_what_counts_as_a_change(method: str, path: str, target: str, changes: bool) -> None:
    assert changes_state(method, path, {"x-amz-target": target} if target else {}) is changes
