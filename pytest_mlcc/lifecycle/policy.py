"""What a failure stops, and which status a set of outcomes adds up to. Pure rules, no state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.lifecycle.stage import Group, Stage

__all__ = ["INCOMPLETE", "PASS", "RUNNING", "UNTESTED", "Block", "blocked_by", "first_failure", "status"]

PASS = "pass"
RUNNING = "running"
UNTESTED = "untested"
INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Block:
    """The failed stage that keeps another from running, with the first line of its error."""

    stage: str
    error: str

    @property
    def reason(self) -> str:
        """The words a skipped stage carries in every report."""
        cause = self.error.strip().splitlines()[0][:160] if self.error.strip() else "no reason given"
        return f"{self.stage} failed ({cause}); stage not run"


def blocked_by(stage: Stage, stages: Sequence[Stage], outcomes: Mapping[str, Outcome]) -> Block | None:
    """The failure that stops ``stage``, or None if it may run. ``clean`` is never stopped.

    A failed serving stage stops all later ones; a failed tune stops only the adapter's stages; a failed adapter
    stage stops only the adapter's stages after it.
    """
    if stage.group is Group.CLEAN:
        return None
    for earlier in stages[: [one.name for one in stages].index(stage.name)]:
        outcome = outcomes.get(earlier.name)
        if outcome is not None and outcome.result is Result.FAIL and _stops(earlier, stage):
            return Block(earlier.name, outcome.error)
    return None


def _stops(failed: Stage, later: Stage) -> bool:
    if failed.group is Group.SERVE:
        return True
    return failed.group in (Group.TUNE, Group.ADAPTER) and later.group is Group.ADAPTER


def first_failure(stages: Sequence[Stage], outcomes: Mapping[str, Outcome]) -> Outcome | None:
    """The outcome of the first stage, in lifecycle order, that failed."""
    for stage in stages:
        outcome = outcomes.get(stage.name)
        if outcome is not None and outcome.result is Result.FAIL:
            return outcome
    return None


def status(stages: Sequence[Stage], outcomes: Mapping[str, Outcome]) -> str:
    """``pass``, ``fail-<first failed stage>``, or ``incomplete`` where a stage has no outcome or was skipped without a failure."""
    failure = first_failure(stages, outcomes)
    if failure is not None:
        return f"fail-{failure.stage}"
    complete = all(stage.name in outcomes and outcomes[stage.name].result is Result.PASS for stage in stages)
    return PASS if complete else INCOMPLETE
