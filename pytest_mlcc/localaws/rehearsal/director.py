"""Whose rehearsal it is: a scenario holds as long as the process lives that asked for it, and there is one at a time."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Any

from pytest_mlcc.localaws.holders import USER, Holder
from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal
from pytest_mlcc.localaws.rehearsal.scenario import Scenario

__all__ = ["NOTHING", "Director", "RehearsalTakenError"]

#: How a scenario without delays and faults is called.
NOTHING = "no delays and no faults"


class RehearsalTakenError(Exception):
    """Another holder's scenario is being played, and it is another one."""


class Director:
    """Chooses what the rehearsal plays: what holders ask for, one scenario at a time, or nothing.

    A holder that asks has its scenario as long as it lives. One that only looks on counts on what it was told is played,
    be it nothing: nobody may begin another one under it.
    """

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

    def look_on(self, holder: Holder, told: str) -> None:
        """Keep what is played as it is for as long as ``holder`` lives, which was ``told`` so: a scenario's words, empty for nothing.

        Raises RehearsalTakenError where another one has begun since.
        """
        with self._lock:
            playing = self._rehearsal.scenario
            if str(playing) != told:
                raise RehearsalTakenError(f"it rehearses {_words(playing)} by now, and not {told or NOTHING}: start again")
            self._asking.setdefault(holder, playing)

    def keep(self, living: Collection[Holder]) -> None:
        """Forget what holders asked for that are gone; with the last of them the rehearsal ends."""
        if not self._asking:  # looked at some times a second
            return
        with self._lock:
            self._asking = {holder: scenario for holder, scenario in self._asking.items() if holder in living}
            if not self._asking:
                self._rehearsal.play(Scenario.instant())

    def to_json(self) -> dict[str, Any] | None:
        """What is played (empty for nothing), for whom, and how often each rule has struck; None where nobody counts on anything."""
        if not self._asking:
            return None
        holders = [holder.name for holder in list(self._asking)]  # others come and go meanwhile
        return {"scenario": str(self._rehearsal.scenario), "holders": holders, "rules": self._rehearsal.strikes()}


def _words(scenario: Scenario) -> str:
    return str(scenario) or NOTHING


def _refusal(wanted: Scenario, holder: Holder, playing: Scenario) -> str:
    who = "mlcc local up" if holder.name == USER else f"process {holder.name}"
    remedy = "mlcc local down, then up again" if holder.name == USER else "wait until it has ended, or run in another project folder"
    return (
        f"it rehearses something else for {who} ({_words(playing)}), so it can't rehearse {_words(wanted)}: "
        f"both would see the other's waits and faults; {remedy}"
    )
