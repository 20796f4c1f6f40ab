"""The rehearsal of one running server: how long things take, and what happens to them."""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_mlcc.localaws.rehearsal.scenario import Scenario
from pytest_mlcc.localaws.rehearsal.vocabulary import FATED, Delay, Fate, Trouble

if TYPE_CHECKING:
    from pytest_mlcc.localaws.rehearsal.rules import Rule

__all__ = ["Rehearsal"]

#: What differs in a resource's name from run to run: the time it was made, a run's id, a build's number.
_VARYING = re.compile(r"\d{8}t?\d{6}(?:-[0-9a-f]{4})?|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Rehearsal:
    """What services ask of the rehearsal; safe from any thread. Without a profile nothing waits, without a plan nothing fails.

    ``meddles`` is True while the plan has rules about single calls: only then does the door look at calls at all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.play(Scenario.instant())

    def play(self, scenario: Scenario) -> None:
        """Go by another scenario from now on; calls are counted anew."""
        plan = scenario.faults
        live = [_Live.of(rule, number, plan.seed) for number, rule in enumerate(plan.rules)] if plan else []
        with self._lock:
            self.scenario = scenario
            self._all = live
            self._fates = [one for one in live if one.rule.fault in FATED]
            self._troubles = [one for one in live if one.rule.fault not in FATED]
            self.meddles = bool(self._troubles)

    def delay(self, what: Delay) -> float:
        """How many seconds this wait lasts here, scaled; 0 for none. The caller waits, on its own stop event."""
        scenario = self.scenario
        return scenario.latency.seconds.get(what, 0.0) / scenario.scale

    def fate(self, operation: str, name: str) -> Fate | None:
        """What the plan has in store for the resource ``name`` that ``operation`` (``sagemaker:CreateEndpoint``) is about to make.

        Asked once for each resource, when it is made: the asking counts as the n-th call of a rule.
        """
        with self._lock:
            struck = self._struck(self._fates, operation, (name,))
            return struck.fate(scale=self.scenario.scale) if struck else None

    def trouble(self, operation: str, names: tuple[str, ...]) -> Trouble | None:
        """What a call meets that carries these names; for the door, once for each call."""
        with self._lock:
            struck = self._struck(self._troubles, operation, names)
            return struck.trouble() if struck else None

    def concerning(self, operation: str) -> Iterator[Rule]:
        """The rules about single calls of this operation."""
        return (one.rule for one in self._troubles if one.rule.is_about(operation))

    def strikes(self) -> list[dict[str, Any]]:
        """How often each rule has matched a call and struck, in the plan's order."""
        with self._lock:
            return [
                {"operation": one.rule.operation, "resource": one.rule.resource, "fault": str(one.rule.fault),
                 "matched": one.matched, "struck": one.struck}
                for one in self._all
            ]  # fmt: skip

    def _struck(self, rules: list[_Live], operation: str, names: tuple[str, ...]) -> Rule | None:
        """The first rule that strikes. Every rule counts every call of its own, so that none depends on what another does."""
        matching = [one for one in rules if one.rule.is_about(operation) and one.rule.names(names)]
        striking = [one for one in matching if one.would_strike(operation, names)]
        if not striking:
            return None
        striking[0].struck += 1
        return striking[0].rule


@dataclass(slots=True)
class _Live:
    """A rule at work, with a chance of its own.

    Each resource draws for itself: what happens to it depends neither on who else calls meanwhile nor on the run's id in its
    name, so that a seed strikes the same models again, however many workers there are.
    """

    rule: Rule
    seed: str
    matched: int = field(default=0)
    struck: int = field(default=0)
    drawn: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, rule: Rule, number: int, seed: int) -> _Live:
        return cls(rule, f"{seed}:{number}")

    def would_strike(self, operation: str, names: tuple[str, ...]) -> bool:
        self.matched += 1
        if self.rule.probability is not None:
            return self._draw(operation, names) < self.rule.probability
        calls = self.rule.calls
        return calls is None or any(first <= self.matched and (last is None or self.matched <= last) for first, last in calls)

    def _draw(self, operation: str, names: tuple[str, ...]) -> float:
        who = "\0".join((operation, *(_VARYING.sub("", name) for name in names)))
        self.drawn[who] += 1
        return random.Random(f"{self.seed}:{who}:{self.drawn[who]}").random()  # noqa: S311 - to be repeatable is its purpose
