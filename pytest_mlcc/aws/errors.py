"""From an error of boto3 to a StageError that says what was being done, in AWS's words, with a failure class where the type tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_mlcc.errors import FailureClass, StageError, StageTimeout

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

__all__ = ["attempt", "code_of", "is_busy", "is_missing", "is_passing", "message_of", "translate", "translated"]

_CODES: Mapping[FailureClass, tuple[str, ...]] = MappingProxyType({
    FailureClass.CAPACITY: (
        "InsufficientInstanceCapacity", "InsufficientCapacityException", "CapacityError", "InsufficientHostCapacity",
    ),
    FailureClass.QUOTA: (
        "ResourceLimitExceeded", "LimitExceededException", "AccountLimitExceededException",
        "ServiceQuotaExceededException", "LimitExceeded", "ExecutionLimitExceeded", "CodeStorageExceededException",
        "ResourceNumberLimitExceededException", "TooManyBuckets",
    ),
    FailureClass.THROTTLE: (
        "ThrottlingException", "Throttling", "ThrottledException", "RequestThrottled", "RequestThrottledException", "SlowDown",
        "TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded", "ProvisionedThroughputExceededException",
        "PriorRequestNotComplete", "EC2ThrottledException",
        "503",  # a HEAD request's answer has no body: S3's SlowDown
    ),
    FailureClass.CREDENTIALS: (
        "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch",
        "InvalidAccessKeyId", "AuthFailure", "MissingAuthenticationToken", "AccessDenied", "AccessDeniedException",
        "UnauthorizedOperation", "RequestExpired", "InvalidSignatureException",
        "403",  # a HEAD request's answer has no body: S3's AccessDenied
    ),
    FailureClass.SERVICE_LIMITATION: (
        "UnknownOperation", "UnknownOperationException", "InvalidAction", "UnsupportedOperation", "OptInRequired",
    ),
    FailureClass.TIMEOUT: ("RequestTimeout", "RequestTimeoutException", "ModelNotReadyException"),
})  # fmt: skip
_BY_CODE: Mapping[str, FailureClass] = MappingProxyType({code: cause for cause, codes in _CODES.items() for code in codes})

_MISSING_CODES = frozenset(
    ("ResourceNotFound", "ResourceNotFoundException", "ImageNotFoundException", "RepositoryNotFoundException",
     "NoSuchBucket", "NoSuchKey", "404", "NotFound")
)  # fmt: skip
_MISSING_WORDS = ("could not find", "does not exist", "requested resource not found", "not found")
_BUSY_WORDS = (
    "in-progress",
    "in progress",
    "delete_in_progress",
    "is a base inference component for",
    "currently being",
    "is being",
    "still has",
    "is creating",
)
_BUSY_CODES = frozenset({"ResourceInUse", "ResourceInUseException", "ConflictException"})


def code_of(error: ClientError) -> str:
    """The error code of an AWS answer."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    """The text of an AWS answer; for a model's own error, what the container said."""
    answer = error.response
    return str(answer.get("OriginalMessage") or answer.get("Error", {}).get("Message", ""))


def is_missing(error: ClientError) -> bool:
    """True where AWS says that the thing does not exist. SageMaker says so by ValidationException and words."""
    text = message_of(error).lower()
    return code_of(error) in _MISSING_CODES or (code_of(error) == "ValidationException" and any(words in text for words in _MISSING_WORDS))


def is_busy(error: ClientError) -> bool:
    """True where AWS refuses only for now: the thing is being created or deleted, or another still hangs on it."""
    text = message_of(error).lower()
    return code_of(error) in _BUSY_CODES or (code_of(error) == "ValidationException" and any(words in text for words in _BUSY_WORDS))


def is_passing(error: BaseException | None, *, network: bool) -> bool:
    """True for trouble that ends without anybody's doing: throttling, an error of the server, and with ``network`` a lost connection."""
    from botocore import exceptions as boto

    if isinstance(error, boto.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return _BY_CODE.get(code_of(error)) is FailureClass.THROTTLE or status >= 500
    return network and isinstance(error, boto.HTTPClientError)


def translate(error: Exception, doing: str) -> Exception:
    """The StageError that an error of boto3 amounts to; any other error as it is.

    ``failure_class`` stays None where only the words could tell: the lifecycle reads them.
    """
    from botocore import exceptions as boto

    if isinstance(error, boto.ClientError):
        return _from_answer(error, doing)
    no_keys = (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.TokenRetrievalError,
        boto.SSOError,
        boto.CredentialRetrievalError,
    )
    if isinstance(error, no_keys):
        return StageError(f"{doing}: {error}", failure_class=FailureClass.CREDENTIALS)
    if isinstance(error, boto.ConnectTimeoutError | boto.ReadTimeoutError):
        return StageTimeout(f"{doing}: {error}")
    if isinstance(error, boto.ConnectionClosedError):  # the retries are used up: nobody answers
        return StageError(f"{doing}: {error}", failure_class=FailureClass.TIMEOUT)
    if isinstance(error, boto.ParamValidationError):
        return StageError(f"{doing}: {error}", failure_class=FailureClass.CODE_BUG)
    return StageError(f"{doing}: {error}") if isinstance(error, boto.BotoCoreError) else error


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise what boto3 raises inside as a StageError; ``doing`` says what was tried ("create endpoint x")."""
    try:
        yield
    except Exception as error:
        found = translate(error, doing)
        if found is error:
            raise
        raise found from error


def attempt(call: Callable[..., Any], *, refusals: tuple[str, ...], **arguments: Any) -> Any:
    """The answer of a boto3 call, or None where AWS refuses it with one of the codes ``refusals``: it is there, or it is not."""
    from botocore.exceptions import ClientError

    try:
        return call(**arguments)
    except ClientError as error:
        if code_of(error) in refusals:
            return None
        raise


def _from_answer(error: ClientError, doing: str) -> StageError:
    code = code_of(error)
    status = error.response.get("OriginalStatusCode")
    container = f" (the container answered {status})" if status else ""
    return StageError(f"{doing}: {code}: {message_of(error)}{container}", failure_class=_BY_CODE.get(code))
