"""Whose rehearsal it is: a scenario holds as long as the process lives that asked for it, and there is one at a time."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Any

from pytest_mlcc.localaws.holders import USER, Holder
from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal
from pytest_mlcc.localaws.rehearsal.scenario import Scenario

__all__ = ["Director", "RehearsalTakenError"]


class RehearsalTakenError(Exception):
    """Another holder's scenario is being played, and it is another one."""


class Director:
    """Chooses what the rehearsal plays: what its one asking holder wants, or nothing."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = rehearsal
        self._lock = threading.Lock()
        self._asking: dict[Holder, Scenario] = {}

    def ask(self, holder: Holder, wish: Mapping[str, Any]) -> None:
        """Play this scenario for as long as ``holder`` lives; one that is being played goes on, its calls counted as they are.

        Raises RehearsalTakenError where another living holder has asked for another one, and ValueError where this is none.
        """
        scenario = Scenario.parse(wish)
        with self._lock:
            others = {one: theirs for one, theirs in self._asking.items() if one != holder and theirs != scenario}
            if others:
                raise RehearsalTakenError(_refusal(scenario, *next(iter(others.items()))))
            self._asking[holder] = scenario
            if self._rehearsal.scenario != scenario:
                self._rehearsal.play(scenario)

    def keep(self, living: Collection[Holder]) -> None:
        """Forget what holders asked for that are gone; with the last of them the rehearsal ends."""
        if not self._asking:  # looked at some times a second
            return
        with self._lock:
            self._asking = {holder: scenario for holder, scenario in self._asking.items() if holder in living}
            if not self._asking:
                self._rehearsal.play(Scenario.instant())

    def to_json(self) -> dict[str, Any] | None:
        """What is played, for whom, and how often each rule has struck; None for nothing."""
        if not self._asking:
            return None
        holders = [holder.name for holder in self._asking]
        return {"scenario": str(self._rehearsal.scenario), "holders": holders, "rules": self._rehearsal.strikes()}


def _refusal(wanted: Scenario, holder: Holder, playing: Scenario) -> str:
    who = "mlcc local up" if holder.name == USER else f"process {holder.name}"
    remedy = "mlcc local down, then up again" if holder.name == USER else "wait until it has ended, or run in another project folder"
    return (
        f"it rehearses something else for {who} ({playing or 'instant'}), so it can't rehearse {wanted or 'instant'}: "
        f"both would see the other's waits and faults; {remedy}"
    )
