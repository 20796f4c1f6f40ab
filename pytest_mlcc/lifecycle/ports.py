"""What the lifecycle asks of others: who does a stage, who remembers what was created, who cleans."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.errors import StageTimeout

__all__ = ["Answer", "Cleaner", "Context", "Deadline", "Driver", "Ledger", "Resource", "RunInfo", "Step"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One invocation: what names, tags and records carry.

    ``run_id`` sorts by time (``20261120T110203-4f2a``); ``expires`` is when whatever is left may be reaped, seconds since the epoch.
    ``rehearsal`` says which of AWS's delays and faults the local AWS plays; empty for none.
    """

    run_id: str
    target: str
    driver: str
    owner: str
    expires: float
    started: float
    rehearsal: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """Something that costs money or space: a kind (``endpoint``, ``inference-component``, ...), its AWS name and region."""

    kind: str
    name: str
    region: str


@dataclass(frozen=True, slots=True)
class Step:
    """One thing a stage would do, for a dry run: the command line or the API call with its main arguments."""

    call: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one prompt, with token counts and the seconds it took."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    finish_reason: str


class Deadline:
    """How long a stage may still take; handed to everything that waits."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._end - self._clock())

    def check(self, waiting_for: str, last_seen: str = "") -> None:
        """Raise :class:`StageTimeout` if the time is up, saying what was awaited and what was seen last."""
        if self.remaining() <= 0:
            seen = f"; last seen: {last_seen}" if last_seen else ""
            raise StageTimeout(f"timed out after {self.seconds:g} s waiting for {waiting_for}{seen}")


class Ledger(Protocol):
    """What an entry is about to create, written before it is created."""

    def intend(self, resource: Resource) -> None:
        """Remember ``resource``, durably, before its create call goes out."""
        ...

    def gone(self, resource: Resource) -> None:
        """Remember that ``resource`` does not exist (any more)."""
        ...

    def open(self) -> Sequence[Resource]:
        """What was intended and is not known to be gone, in the order it was intended."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """All that a driver gets for one stage.

    ``facts`` holds what earlier stages of this entry learned, by stage; ``log`` writes a line to the stage's log (redacted
    there); ``workspace`` is the entry's own folder.
    """

    entry: Entry
    run: RunInfo
    workspace: Path
    ledger: Ledger
    deadline: Deadline
    log: Callable[[str], None]
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Driver(Protocol):
    """Carries a stage out. Raises :class:`~pytest_mlcc.errors.StageError` (or any error) if it fails."""

    @property
    def name(self) -> str:
        """``native`` or ``scripts``."""
        ...

    def run(self, stage: str, context: Context) -> Mapping[str, Any]:
        """Do one stage and return its facts (JSON values)."""
        ...

    def ask(self, prompt: str, context: Context, *, adapter: bool = False, max_tokens: int = 64) -> Answer:
        """One question to the entry's endpoint, or to its adapter, under greedy decoding."""
        ...

    def steps(self, stage: str, entry: Entry, run: RunInfo) -> Sequence[Step]:
        """What :meth:`run` would do, for a dry run; calls nothing."""
        ...


class Cleaner(Protocol):
    """Deletes what a ledger names, in the right order, and proves that it is gone."""

    def clean(self, ledger: Ledger, *, log: Callable[[str], None]) -> Sequence[Resource]:
        """Delete everything open in the ledger, waiting for each; return what is still alive. Safe to call twice."""
        ...
