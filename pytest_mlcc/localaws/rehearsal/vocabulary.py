"""The words of a rehearsal: which waits there are, which trouble, and what becomes of a resource that trouble found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

__all__ = ["FATED", "Delay", "Fate", "Fault", "Trouble"]


class Delay(StrEnum):
    """A wait of AWS's that a laptop has no reason for; a latency profile gives each its seconds."""

    ENDPOINT_CREATE = "endpoint.create"
    ENDPOINT_UPDATE = "endpoint.update"
    ENDPOINT_DELETE = "endpoint.delete"
    COMPONENT_CREATE = "inference-component.create"
    COMPONENT_UPDATE = "inference-component.update"
    COMPONENT_DELETE = "inference-component.delete"
    ADAPTER_CREATE = "adapter.create"
    ADAPTER_DELETE = "adapter.delete"
    TRAINING_START = "training-job.start"
    """From the request to the first step: finding an instance, fetching the image."""
    TRAINING = "training-job.train"
    """The training itself lasts at least so long."""
    TRAINING_UPLOAD = "training-job.upload"
    PROCESSING_START = "processing-job.start"
    TRANSFORM_START = "transform-job.start"
    JOB_STOP = "job.stop"
    BUILD_QUEUE = "build.queue"
    BUILD_PROVISIONING = "build.provisioning"
    BUILD = "build.build"
    """The BUILD phase lasts at least so long."""


class Fault(StrEnum):
    """A kind of trouble. The first block meets one call; the second decides what becomes of the resource that a call makes."""

    THROTTLING = "throttling"
    RESOURCE_LIMIT_EXCEEDED = "resource-limit-exceeded"
    ACCESS_DENIED = "access-denied"
    EXPIRED_TOKEN = "expired-token"
    SLOW_ANSWER = "slow-answer"
    CONNECTION_RESET = "connection-reset"

    INSUFFICIENT_CAPACITY = "insufficient-instance-capacity"
    STUCK = "stuck"
    JOB_FAILS = "job-fails"
    CONTAINER_DIES = "container-dies"


_ENDPOINTS = ("sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint")
_COMPONENTS = ("sagemaker:CreateInferenceComponent",)
_JOBS = ("sagemaker:CreateTrainingJob", "sagemaker:CreateProcessingJob", "sagemaker:CreateTransformJob")

#: The faults that decide about a resource, and the operations that make such a resource; all others meet a single call.
FATED: Mapping[Fault, tuple[str, ...]] = MappingProxyType({
    Fault.INSUFFICIENT_CAPACITY: (*_ENDPOINTS, *_COMPONENTS, *_JOBS),
    Fault.STUCK: (*_ENDPOINTS, *_COMPONENTS, *_JOBS),
    Fault.JOB_FAILS: ("sagemaker:CreateTrainingJob",),
    Fault.CONTAINER_DIES: (*_ENDPOINTS, *_COMPONENTS),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one resource. ``seconds``: how long it is stuck before it fails; ``step``: the training step at
    which a job fails; ``requests``: how many invocations a container answers before it is killed; ``message``: the reason
    that it fails for, empty for the one that AWS would give."""

    fault: Fault
    seconds: float = 0.0
    step: int = 0
    requests: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What one call meets. ``seconds``: how long a slow answer takes; ``message``: the error's text, where the plan gives one."""

    fault: Fault
    seconds: float = 0.0
    message: str = ""
