"""What came of a stage: one frozen fact that crosses processes as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pytest_mlcc.errors import FailureClass

__all__ = ["LEFT_BY_SCRIPTS", "SUMMARY_CHARACTERS", "Outcome", "Result"]

SUMMARY_CHARACTERS = 500

LEFT_BY_SCRIPTS = "left_by_the_scripts"
"""The fact of ``clean`` that names what a project's own clean left alive, each as ``kind name``."""


class Result(StrEnum):
    """The three outcomes of a stage, in the documents' spelling."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one stage of one entry.

    ``seconds`` is wall time, ``started`` seconds since the epoch, ``error`` at most 500 redacted characters,
    ``reason`` why a stage was skipped, ``log`` the stage's log file, ``facts`` what the driver learned (JSON values:
    names, digests, losses, token counts).
    """

    entry: str
    stage: str
    result: Result
    seconds: float = 0.0
    started: float = 0.0
    error: str = ""
    failure_class: FailureClass | None = None
    reason: str = ""
    log: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def left_by_scripts(self) -> tuple[str, ...]:
        """What a project's own clean left alive, each as ``kind name``; empty for a driver that has no scripts."""
        return tuple(map(str, self.facts.get(LEFT_BY_SCRIPTS, ())))

    def to_data(self) -> dict[str, Any]:
        """JSON values, for a journal or a report that crosses processes."""
        return {name: getattr(self, name) for name in self.__slots__} | {"facts": dict(self.facts)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Outcome:
        """The outcome that :meth:`to_data` gave, also after a round through JSON."""
        cause = data["failure_class"]
        return cls(**{**data, "result": Result(data["result"]), "failure_class": FailureClass(cause) if cause else None})
