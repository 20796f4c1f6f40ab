"""One entry's way through its stages: may the next stage go, what came of it, what does it add up to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.lifecycle import policy
from pytest_mlcc.lifecycle.events import Listener, StageFinished, StageStarted
from pytest_mlcc.lifecycle.failures import classify
from pytest_mlcc.lifecycle.outcome import SUMMARY_CHARACTERS, Outcome, Result
from pytest_mlcc.lifecycle.stage import Stage

__all__ = ["Progress"]

_DOTS = "... "


@dataclass(slots=True)
class Progress:
    """Where one entry stands. A stage is entered with :meth:`step`; what happens inside becomes its outcome.

    ``redact`` is applied to every text that leaves a stage; ``listeners`` hear of each start and outcome.
    """

    entry: Entry
    stages: Sequence[Stage]
    listeners: Iterable[Listener] = ()
    redact: Callable[[str], str] = str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def stage(self, name: str) -> Stage:
        """The stage of that name; KeyError if this entry has none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def blocked(self, name: str) -> str:
        """Why a stage may not go, in the words of its skip; empty if it may."""
        block = policy.blocked_by(self.stage(name), self.stages, self.outcomes)
        return f"{self.entry.id}: {block.reason}" if block else ""

    def skip(self, name: str, reason: str) -> Outcome:
        """Record that a stage was not run."""
        return self._finish(Outcome(self.entry.id, name, Result.SKIP, started=time.time(), reason=self.redact(reason)))

    def fail(self, name: str, error: BaseException, *, seconds: float = 0.0, started: float | None = None, log: str = "") -> Outcome:
        """Record that a stage failed with ``error``."""
        outcome = Outcome(
            self.entry.id,
            name,
            Result.FAIL,
            seconds=round(seconds, 3),
            started=time.time() if started is None else started,
            error=self._summary(error),
            failure_class=classify(error),
            log=log,
            facts=self.facts.get(name, {}),
        )
        return self._finish(outcome)

    @contextmanager
    def step(self, name: str, *, log: Callable[[], str] = str, passing: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
        """Run the body as the stage ``name``: time it, turn what it raises into an outcome, and raise it again.

        ``log`` is asked at the end where the stage's log is, if it wrote one.
        Exceptions of the types in ``passing`` are the caller's own control flow (a skip of pytest's) and make no outcome.
        """
        started, begin = time.time(), time.perf_counter()
        self._emit(StageStarted(self.entry.id, name, started))
        try:
            yield
        except passing:
            raise
        except BaseException as error:
            self.fail(name, error, seconds=time.perf_counter() - begin, started=started, log=log())
            raise
        seconds = round(time.perf_counter() - begin, 3)
        facts = self.facts.get(name, {})
        self._finish(Outcome(self.entry.id, name, Result.PASS, seconds=seconds, started=started, log=log(), facts=facts))

    @property
    def status(self) -> str:
        """``pass``, ``fail-<stage>`` or ``incomplete``."""
        return policy.status(self.stages, self.outcomes)

    def _summary(self, error: BaseException) -> str:
        """The error's message, then what the failed program wrote last: 500 characters at most, redacted before a cut halves a secret."""
        head = self.redact(str(error).strip() or type(error).__name__)[:SUMMARY_CHARACTERS]
        output = self.redact(str(getattr(error, "output", "")).strip())
        room = SUMMARY_CHARACTERS - len(head) - 1
        return f"{head}\n{_end(output, room)}" if output and room > 40 else head

    def _finish(self, outcome: Outcome) -> Outcome:
        former = self.outcomes.get(outcome.stage)
        if former is None or former.result is not Result.FAIL:  # the first failure of a stage stands, whatever a re-run says
            self.outcomes[outcome.stage] = outcome
        self._emit(StageFinished(self.outcomes[outcome.stage]))
        return self.outcomes[outcome.stage]

    def _emit(self, event: StageStarted | StageFinished) -> None:
        for listener in self.listeners:
            listener(event)


def _end(text: str, room: int) -> str:
    """The last ``room`` characters at most, from a whole word on; dots stand for what is missing."""
    if len(text) <= room:
        return text
    cut = text[-(room - len(_DOTS)) :]
    _, _, words = cut.partition(" ")
    return _DOTS + (words or cut)
