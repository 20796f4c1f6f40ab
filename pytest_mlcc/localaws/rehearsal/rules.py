"""One rule of a fault plan: which calls it is about, which of them it strikes, and with what."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from pytest_mlcc.localaws.rehearsal.vocabulary import FATED, Fate, Fault, Trouble

__all__ = ["PARAMETERS", "Rule"]

_STUCK_SECONDS = 2400.0
"""An endpoint that stayed Pending past 2,400 s is on record: aws/deep-learning-containers, issue 6299."""

_STUCK = "Request to service failed: timed out waiting for the resource to become ready. If failure persists after retry, contact support."

_CALLS = "is neither a number from 1 on, nor a range like '1-3' or '2-', nor a list of these"

#: Which of its own parameters each fault takes, with the value where none is given; None has to be given.
PARAMETERS: dict[Fault, dict[str, Any]] = {
    **{fault: {"message": ""} for fault in Fault if fault not in FATED},
    Fault.SLOW_ANSWER: {"seconds": None},
    Fault.CONNECTION_RESET: {},
    Fault.INSUFFICIENT_CAPACITY: {"message": ""},
    Fault.STUCK: {"seconds": _STUCK_SECONDS, "message": _STUCK},
    Fault.JOB_FAILS: {"step": 1, "message": ""},
    Fault.CONTAINER_DIES: {"requests": 1},
}

Range = tuple[int, int | None]


def _ranges(value: Any) -> tuple[Range, ...]:
    parts = value if isinstance(value, list | tuple) else [value]
    if not parts:
        raise ValueError(f"{value!r} {_CALLS}")
    return tuple(_range(part, value) for part in parts)


def _range(part: Any, whole: Any) -> Range:
    if isinstance(part, bool) or not isinstance(part, int | str):
        raise ValueError(f"{whole!r} {_CALLS}")
    found = re.fullmatch(r"(\d+)(?:\s*(-)\s*(\d*))?", str(part).strip())
    first = int(found[1]) if found else 0
    last = int(found[3]) if found and found[3] else None if found and found[2] else first
    if first < 1 or (last is not None and last < first):
        raise ValueError(f"{whole!r} {_CALLS}")
    return first, last


def _action(operation: str) -> str:
    if not re.fullmatch(r"[a-z0-9*?\[\]!-]+:\S+", operation):
        raise ValueError(f"{operation!r} is not <service>:<operation>, as in sagemaker:CreateEndpoint or dynamodb:*")
    return operation


def _as_written(ranges: tuple[Range, ...] | None) -> list[str] | None:
    if ranges is None:
        return None
    return [str(first) if first == last else f"{first}-{'' if last is None else last}" for first, last in ranges]


class Rule(BaseModel):
    """Which calls, which of them, and what they meet. ``operation`` and ``resource`` are globs; without ``calls`` and ``probability``
    every matching call is struck. ``calls`` holds ranges of the matching calls' numbers, from 1 on, the last one included.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    operation: Annotated[str, AfterValidator(_action)]
    resource: Annotated[str, Field(min_length=1)] = "*"
    calls: Annotated[tuple[Range, ...] | None, BeforeValidator(_ranges), PlainSerializer(_as_written)] = None
    probability: Annotated[float, Field(gt=0, le=1)] | None = None
    fault: Fault
    seconds: Annotated[float, Field(gt=0, le=7 * 24 * 3600)] | None = None
    step: Annotated[int, Field(ge=0)] | None = None
    requests: Annotated[int, Field(ge=1)] | None = None
    message: Annotated[str, Field(min_length=1, max_length=1000)] | None = None

    @model_validator(mode="after")
    def _one_choice(self) -> Rule:
        if self.calls is not None and self.probability is not None:
            raise ValueError("calls and probability exclude each other: which calls, or how many of them by chance?")
        return self

    @property
    def service(self) -> str:
        """The pattern of the service's name."""
        return self.operation.partition(":")[0]

    def is_about(self, operation: str) -> bool:
        """Whether a call of ``<service>:<operation>`` is one of the rule's, whatever its resource."""
        return fnmatchcase(operation, self.operation)

    @property
    def asks_for_names(self) -> bool:
        """Whether it depends on the names that a call carries: on which resource it is about, or on whose chance it is."""
        return self.resource != "*" or self.probability is not None

    def names(self, names: tuple[str, ...]) -> bool:
        """Whether one of these names is the rule's resource."""
        return self.resource == "*" or any(fnmatchcase(name, self.resource) for name in names)

    def value(self, parameter: str) -> Any:
        """A parameter of the fault: as given, else as it is without being given."""
        given = getattr(self, parameter)
        return PARAMETERS[self.fault].get(parameter) if given is None else given

    def trouble(self) -> Trouble:
        """What a struck call meets."""
        return Trouble(self.fault, seconds=self.value("seconds") or 0.0, message=self.value("message") or "")

    def fate(self, *, scale: float) -> Fate:
        """What becomes of a struck resource; the seconds are AWS's, so they are scaled as all of AWS's waits are."""
        return Fate(
            self.fault,
            seconds=(self.value("seconds") or 0.0) / scale,
            step=self.value("step") or 0,
            requests=self.value("requests") or 0,
            message=self.value("message") or "",
        )
