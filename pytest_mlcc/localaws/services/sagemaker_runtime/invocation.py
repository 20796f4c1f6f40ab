"""What all invocations share: the headers that a container gets, and AWS's words for what goes wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_mlcc.localaws.services.sagemaker.routing import Target
from pytest_mlcc.localaws.wire import AwsError, Call

__all__ = ["Limits", "ModelErrors", "container_headers", "returned_headers"]

_LONGEST_MESSAGE = 2048  # AWS: of a ModelError
_PASSED_ON = {
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
    "InferenceId": "X-Amzn-SageMaker-Inference-Id",
    "SessionId": "X-Amzn-SageMaker-Session-Id",
    "PrefixAwareId": "X-Amzn-SageMaker-Prefix-Aware-Id",
}
_RETURNED = {
    "CustomAttributes": "x-amzn-sagemaker-custom-attributes",
    "NewSessionId": "x-amzn-sagemaker-new-session-id",
    "ClosedSessionId": "x-amzn-sagemaker-closed-session-id",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that AWS gives a container; concurrency where an asynchronous endpoint names none."""

    whole: float = 60.0
    """For an answer as a whole."""
    streamed: float = 480.0
    """For a streamed answer, to its last piece."""
    asynchronous: float = 900.0
    """For an asynchronous invocation that says nothing else."""
    in_queue: float = 21600.0
    """That an asynchronous invocation may wait before it expires."""
    answer_bytes: int = 6291456
    """Of an answer as a whole, and of a request: the service's model has it for both."""
    at_once: int = 4
    """Invocations of one instance; AWS finds a number of its own here."""


def container_headers(params: Mapping[str, Any], target: Target) -> dict[str, str]:
    """The headers of the request to the container. Raises AwsError for a value that is no header's."""
    headers = {"Content-Type": params.get("ContentType", "application/octet-stream"), "Accept": params.get("Accept", "*/*")}
    headers |= {name: params[member] for member, name in _PASSED_ON.items() if member in params}
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable():
            text = f"1 validation error detected: Value at '{name}' failed to satisfy constraint: Member must hold printable ASCII only"
            raise AwsError("ValidationError", text)
    if target.adapter:
        headers["X-Amzn-SageMaker-Adapter-Identifier"] = target.adapter
    return headers


def returned_headers(headers: Mapping[str, str]) -> dict[str, str | None]:
    """The members of an answer that a container gives by headers."""
    return {member: headers.get(name) for member, name in _RETURNED.items()}


class ModelErrors:
    """AWS's ModelError, HTTP 424, with the container's own status and words and a pointer to its log."""

    def __init__(self, account: str) -> None:
        self._account = account

    def of_answer(self, call: Call, target: Target, status: int, body: bytes) -> AwsError:
        """The container answered with an error."""
        return self._error(call, target, status, body.decode(errors="replace"))

    def of_silence(self, call: Call, target: Target, error: OSError) -> AwsError:
        """The container did not answer: in time, or at all."""
        if isinstance(error, TimeoutError):
            text = (
                "Your invocation timed out while waiting for a response from container primary. "
                "Review the latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
            )
        else:
            text = f"The container closed the connection without an answer ({type(error).__name__})."
        return self._error(call, target, 0, text)

    def of_excess(self, call: Call, target: Target, status: int) -> AwsError:
        """The container answered with more than is passed on. AWS's words; that a good answer gets them, too, is from memory."""
        return self._error(call, target, status if status >= 400 else 500, None)

    def _error(self, call: Call, target: Target, status: int, message: str | None) -> AwsError:
        """``message`` is None where it could not be loaded."""
        kind = "client error" if 400 <= status < 500 else "server error"
        region, account, group = call.region, self._account, target.log_group
        said = "and could not load the entire response body" if message is None else f'with message "{message[:_LONGEST_MESSAGE]}"'
        message = (message or "")[:_LONGEST_MESSAGE]
        console = f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#logEventViewer:group={group}"
        text = f"Received {kind} ({status}) from primary {said}. See {console} in account {account} for more information."
        stream = f"arn:aws:logs:{region}:{account}:log-group:{group}:log-stream:{target.variant}/local"
        return AwsError("ModelError", text, 424, OriginalStatusCode=status, OriginalMessage=message, LogStreamArn=stream)
