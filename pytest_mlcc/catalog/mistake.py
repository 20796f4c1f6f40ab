"""Where a mistake stands and what it is, in the parts that reports need apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlcc.errors import Problem

__all__ = ["Mistake", "pointer", "show"]

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake or warning: the file, the JSON path in it (or ``line:column``), the entry if there is one, and the remedy."""

    file: Path
    path: str
    message: str
    hint: str = ""
    entry: str | None = None

    @property
    def problem(self) -> Problem:
        """The same for people: ``catalog/e2e.json: /configs/3/timeout [rt-qwen3-4b]``."""
        place = f"{self.file}: {self.path}" if self.path else str(self.file)
        return Problem(place + (f" [{self.entry}]" if self.entry else ""), self.message, self.hint)

    def __str__(self) -> str:
        return str(self.problem)


def pointer(location: Iterable[str | int]) -> str:
    """A JSON pointer (RFC 6901) such as ``/configs/3/timeout``; the empty string means the whole document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def show(value: Any) -> str:
    """A value of the file as the file writes it, cut where it gets long."""
    import json

    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
