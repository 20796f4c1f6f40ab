"""Metrics that a job writes into its log, found by the expressions of its request."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_mlcc.localaws.wire import AwsError

__all__ = ["StepWatch", "check_definitions", "final_metrics"]

_STEP = re.compile(rb"\bstep\W{0,3}(\d+)", re.IGNORECASE)


def check_definitions(definitions: Sequence[Mapping[str, str]]) -> None:
    """Raises AwsError for an expression that can't be read."""
    for each in definitions:
        try:
            re.compile(each["Regex"])
        except re.error as error:
            text = f"Invalid MetricDefinition: the Regex {each['Regex']!r} of {each['Name']!r} is not a regular expression: {error}."
            raise AwsError("ValidationException", text) from None


def final_metrics(definitions: Sequence[Mapping[str, str]], logs: Iterable[Path]) -> list[dict[str, Any]]:
    """The last value of each metric that the logs tell: what the first group of its expression matches, as a number."""
    expressions = {each["Name"]: re.compile(each["Regex"]) for each in definitions}
    found: dict[str, float] = {}
    for path in logs if expressions else ():
        with path.open(errors="replace") as lines:
            for line in lines:
                found |= _values(expressions, line)
    now = time.time()
    return [{"MetricName": name, "Value": found[name], "Timestamp": now} for name in expressions if name in found]


def _values(expressions: Mapping[str, re.Pattern[str]], line: str) -> dict[str, float]:
    values = {}
    for name, expression in expressions.items():
        for match in expression.finditer(line):
            try:
                values[name] = float(match[1] if expression.groups else match[0])
            except (TypeError, ValueError):  # the group took no part, or it is not a number
                continue
    return values


class StepWatch:
    """Looks for a step in a log that grows: ``step 12``, ``step=12``, ``Step: 12/240``."""

    def __init__(self, path: Path, step: int) -> None:
        self._path, self._step, self._seen, self._open = path, step, 0, b""

    def reached(self) -> bool:
        """Whether a line that is whole names this step or a later one; step 0 is reached from the start."""
        if self._step <= 0:
            return True
        try:
            with self._path.open("rb") as log:
                log.seek(self._seen)
                data = log.read()
        except FileNotFoundError:
            return False
        self._seen += len(data)
        whole, newline, self._open = (self._open + data).rpartition(b"\n")
        return bool(newline) and any(int(match[1]) >= self._step for match in _STEP.finditer(whole))
