"""A user reads what was being done and what AWS said; regressions and retries hang on the failure class."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, NoCredentialsError, ParamValidationError, ReadTimeoutError

from pytest_mlcc.aws.errors import attempt, is_busy, is_missing, translated
from pytest_mlcc.errors import FailureClass, OutsideCallRefused, StageError, StageTimeout
from pytest_mlcc.lifecycle.failures import classify


def client_error(code: str, message: str, **more: object) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}, **more}, "CreateEndpoint")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ThrottlingException", FailureClass.THROTTLE),
        ("ProvisionedThroughputExceededException", FailureClass.THROTTLE),
        ("SlowDown", FailureClass.THROTTLE),
        ("503", FailureClass.THROTTLE),
        ("ExpiredToken", FailureClass.CREDENTIALS),
        ("403", FailureClass.CREDENTIALS),
        ("AccountLimitExceededException", FailureClass.QUOTA),
        ("AccessDeniedException", FailureClass.CREDENTIALS),
        ("ResourceLimitExceeded", FailureClass.QUOTA),
        ("InsufficientInstanceCapacity", FailureClass.CAPACITY),
        ("UnknownOperationException", FailureClass.SERVICE_LIMITATION),
        ("ValidationException", None),
    ],
)
def test_a_typed_code_gives_its_class_and_words_are_left_to_the_lifecycle(code: str, expected: FailureClass | None) -> None:
    with pytest.raises(StageError, match=f"create endpoint e: {code}: said so") as caught, translated("create endpoint e"):
        raise client_error(code, "said so")
    assert caught.value.failure_class is expected


def test_a_models_own_error_carries_the_containers_words() -> None:
    error = client_error(
        "ModelError", "Received client error (400)", OriginalStatusCode=400, OriginalMessage='{"error": "CUDA out of memory"}'
    )
    with pytest.raises(StageError, match=r"CUDA out of memory.*the container answered 400") as caught, translated("ask base"):
        raise error
    assert classify(caught.value) is FailureClass.OOM


def test_errors_without_an_answer() -> None:
    with pytest.raises(StageError) as caught, translated("look"):
        raise NoCredentialsError
    assert caught.value.failure_class is FailureClass.CREDENTIALS
    with pytest.raises(StageTimeout), translated("look"):
        raise ReadTimeoutError(endpoint_url="http://x")
    with pytest.raises(StageError) as caught, translated("look"):
        raise ConnectionClosedError(endpoint_url="http://x")
    assert caught.value.failure_class is FailureClass.TIMEOUT
    with pytest.raises(StageError) as caught, translated("look"):
        raise ParamValidationError(report="no such parameter")
    assert caught.value.failure_class is FailureClass.CODE_BUG


def test_what_is_not_aws_s_passes_unchanged() -> None:
    with pytest.raises(OutsideCallRefused), translated("look"):
        raise OutsideCallRefused("no")


def test_missing_and_busy_are_told_by_code_and_words() -> None:
    assert is_missing(client_error("ValidationException", 'Could not find endpoint "arn:aws:sagemaker:...".'))
    assert is_missing(client_error("ValidationException", "Requested resource not found."))
    assert not is_missing(client_error("ValidationException", "1 validation error detected"))
    assert is_busy(client_error("ValidationException", 'Cannot update in-progress endpoint "arn".'))
    assert is_busy(client_error("ValidationException", 'Cannot delete inference component "arn": its status is DELETE_IN_PROGRESS.'))
    assert is_busy(client_error("ValidationException", "x is a base inference component for one or more associated adapters"))
    assert not is_busy(client_error("AccessDenied", "Cannot update in-progress endpoint"))


def test_attempt_takes_only_the_named_refusals_for_an_answer() -> None:
    def refuse() -> None:
        raise client_error("RepositoryAlreadyExistsException", "there")

    assert attempt(refuse, refusals=("RepositoryAlreadyExistsException",)) is None
    with pytest.raises(ClientError):
        attempt(refuse, refusals=("Other",))
