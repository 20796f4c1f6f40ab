"""Failure classes: typed errors first, words last, and words only at their boundaries."""

from __future__ import annotations

import pytest

from pytest_mlcc.errors import FailureClass, StageError, StageTimeout
from pytest_mlcc.lifecycle.failures import classify, classify_text

TEXTS = [
    ("bigscience/bloom-560m answered in the room next door", "unknown"),
    ("CUDA out of memory. Tried to allocate 20.00 MiB", "oom"),
    ("health check timed out: torch.OutOfMemoryError", "oom"),
    ("the container was OOMKilled", "oom"),
    ("timed out waiting for endpoint", "timeout"),
    ("ResourceLimitExceeded: The account-level service limit 'ml.g5.xlarge for endpoint usage' is 0 Instances", "quota"),
    ("InsufficientInstanceCapacity: unable to provision", "capacity"),
    ("Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error", "capacity"),
    ("ThrottlingException: Rate exceeded", "throttle"),
    ("ExpiredTokenException: The security token included in the request is expired", "credentials"),
    ("An error occurred (ExpiredToken): The provided token has expired.", "credentials"),
    ("An error occurred (AccessDeniedException) when calling CreateTrainingJob", "credentials"),
    ("User: arn:aws:iam::1:user/x is not authorized to perform: sagemaker:CreateEndpoint", "credentials"),
    ("unexpected token in JSON: the invalid value has expired", "unknown"),
    ("CapacityError: Unable to provision requested ML compute capacity.", "capacity"),
    ("TypeError: unsupported operand", "code_bug"),
    ("Unsupported model architecture: FooForCausalLM", "model_incompatibility"),
    ("ml.p5.48xlarge is not available in this region", "service_limitation"),
    ("something odd", "unknown"),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_words_decide_only_where_they_stand_alone(text: str, expected: str) -> None:
    assert classify_text(text) == expected


def test_a_typed_error_beats_its_words() -> None:
    assert classify(StageError("timed out", failure_class=FailureClass.CAPACITY)) is FailureClass.CAPACITY
    assert classify(StageTimeout("CUDA out of memory")) is FailureClass.TIMEOUT
    assert classify(MemoryError()) is FailureClass.OOM
    assert classify(TimeoutError()) is FailureClass.TIMEOUT


def test_the_failed_programs_output_is_read_too() -> None:
    assert classify(StageError("build failed", output="No space... Cannot allocate memory")) is FailureClass.OOM


def test_a_failed_assertion_of_a_team_is_a_code_bug_and_an_unknown_error_stays_unknown() -> None:
    assert classify(AssertionError("slow")) is FailureClass.CODE_BUG
    assert classify(RuntimeError("odd")) is FailureClass.UNKNOWN


def test_the_clouds_fault_is_no_regression() -> None:
    assert {one for one in FailureClass if one.is_cloud} == {"capacity", "quota", "throttle", "credentials"}
