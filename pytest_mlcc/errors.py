"""Every error this package raises on purpose, and why a stage failed.

MlccError
├── ConfigurationError      the user can fix it: all mistakes at once, each with a place and a remedy
│   └── CatalogError        the same, for catalog files
├── StageError              a stage did not reach its goal; carries a failure class
│   ├── StageTimeout        the stage ran out of its time
│   └── LeftoversError      clean ended, yet something the ledger names is alive
├── ClaimRefused            another run holds this configuration
├── LocalAwsError           the local AWS can't start, stop or answer
└── OutsideCallRefused      a call would have left the machine while the target is local
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = [
    "CatalogError",
    "ClaimRefused",
    "ConfigurationError",
    "FailureClass",
    "LeftoversError",
    "LocalAwsError",
    "MlccError",
    "OutsideCallRefused",
    "Problem",
    "StageError",
    "StageTimeout",
]


class FailureClass(StrEnum):
    """Why a stage failed. The first four are the cloud's fault: never a regression, never proof that a path is infeasible."""

    CAPACITY = "capacity"
    QUOTA = "quota"
    THROTTLE = "throttle"
    CREDENTIALS = "credentials"
    TIMEOUT = "timeout"
    OOM = "oom"
    CODE_BUG = "code_bug"
    MODEL_INCOMPATIBILITY = "model_incompatibility"
    SERVICE_LIMITATION = "service_limitation"
    UNKNOWN = "unknown"

    @property
    def is_cloud(self) -> bool:
        """True where the cloud, not the model or the code, is at fault."""
        return self in (FailureClass.CAPACITY, FailureClass.QUOTA, FailureClass.THROTTLE, FailureClass.CREDENTIALS)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake of a user: where it is, what is wrong, and how to mend it."""

    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class MlccError(Exception):
    """Base of every error raised on purpose."""


class ConfigurationError(MlccError):
    """The user can fix it; holds every mistake found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CatalogError(ConfigurationError):
    """A catalog file is missing, unreadable, or breaks a rule."""


class StageError(MlccError):
    """A stage did not reach its goal.

    ``failure_class`` is None where the raiser can't tell; the lifecycle then classifies the text.
    ``output`` is what the failed program wrote last (stderr, a log tail), if there was one. ``facts`` are what the stage had
    learned by then (JSON values).
    """

    def __init__(self, message: str, *, failure_class: FailureClass | None = None, output: str = "") -> None:
        super().__init__(message)
        self.failure_class = failure_class
        self.output = output
        self.facts: Mapping[str, Any] = {}


class StageTimeout(StageError):
    """The stage ran out of its time."""

    def __init__(self, message: str, *, output: str = "") -> None:
        super().__init__(message, failure_class=FailureClass.TIMEOUT, output=output)


class LeftoversError(StageError):
    """Clean ended, yet something the ledger names is still alive."""


class ClaimRefused(MlccError):
    """Another run holds this configuration; its claim has not expired."""


class LocalAwsError(MlccError):
    """The local AWS can't start, stop or answer."""


class OutsideCallRefused(MlccError):
    """A call would have left the machine while the target is local."""
