"""What came of a stage: one frozen fact that crosses processes as one JSON string."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from pytest_mlcc.errors import FailureClass

__all__ = ["SUMMARY_CHARACTERS", "Outcome", "Result"]

SUMMARY_CHARACTERS = 500


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

    def to_json(self) -> str:
        """One line of ASCII JSON: what execnet, a journal and a report can all carry."""
        return json.dumps(asdict(self), ensure_ascii=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """The outcome that :meth:`to_json` wrote."""
        data = json.loads(text)
        cause = data.pop("failure_class")
        return cls(
            **{**data, "result": Result(data["result"])},
            failure_class=FailureClass(cause) if cause else None,
        )
