"""What happens during a run, as values. The step emits them; journals, records and the terminal listen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_mlcc.lifecycle.outcome import Outcome

__all__ = ["Event", "Listener", "StageFinished", "StageStarted"]


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage is about to run; ``at`` is seconds since the epoch."""

    entry: str
    stage: str
    at: float


@dataclass(frozen=True, slots=True)
class StageFinished:
    """A stage has an outcome, be it pass, fail or skip."""

    outcome: Outcome


Event = StageStarted | StageFinished
Listener = Callable[[Event], None]
