"""What a run asks of the local AWS: how long things take, and what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mlcc.errors import ConfigurationError, Problem
from pytest_mlcc.localaws.rehearsal.latency import INSTANT, Profile, profile

if TYPE_CHECKING:
    from pytest_mlcc.localaws.rehearsal.plan import FaultPlan

__all__ = ["Scenario", "read_scenario"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A latency profile, the factor by which its waits are shortened, and a fault plan or none."""

    latency: Profile
    scale: float = 1.0
    faults: FaultPlan | None = None

    @classmethod
    def instant(cls) -> Scenario:
        """No waits and no faults."""
        return cls(profile(INSTANT))

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Scenario:
        """The scenario that ``to_json`` wrote. Raises ValueError for anything else."""
        from pytest_mlcc.localaws.rehearsal.plan import FaultPlan

        try:
            scale = float(data["scale"])
            if not 0 < scale < float("inf"):
                raise ValueError(f"the scale {scale} is not above zero")
            faults = FaultPlan.parse(data["faults"]) if data.get("faults") else None
            return cls(Profile.parse(data["latency"]), scale, faults)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"this is no rehearsal: {type(error).__name__} {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Everything, for the server."""
        return {"latency": self.latency.to_json(), "scale": self.scale, "faults": self.faults.to_json() if self.faults else None}

    def __str__(self) -> str:
        """As the header of a run has it: ``aws latency at scale 60, faults capacity.yaml (3 rules, seed 7)``; empty for nothing at all."""
        parts = []
        if self.latency.seconds:
            parts.append(f"{self.latency.name} latency" + (f" at scale {self.scale:g}" if self.scale != 1 else ""))
        if self.faults is not None:
            parts.append(f"faults {self.faults}")
        return ", ".join(parts)


def read_scenario(latency: str, scale: float, faults: Path | None) -> Scenario | None:
    """The scenario of these settings; None where they ask for nothing special.

    ``latency`` is ``instant``, ``aws`` or a file. Raises ConfigurationError with every mistake of both files.
    """
    if latency == INSTANT and faults is None:
        return None
    problems: list[Problem] = []
    chosen = plan = None
    try:
        chosen = profile(latency)
    except ConfigurationError as error:
        problems += error.problems
    try:
        plan = _plan(faults)
    except ConfigurationError as error:
        problems += error.problems
    if chosen is None or problems:
        raise ConfigurationError(problems)
    return Scenario(chosen, scale, plan)


def _plan(path: Path | None) -> FaultPlan | None:
    if path is None:
        return None
    from pytest_mlcc.localaws.rehearsal.plan import read_plan  # pydantic and botocore's models: only who has a plan waits for them

    return read_plan(path)
