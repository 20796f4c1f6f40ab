"""Wait for a condition: look, pause a little, look again, until it holds, can't hold any more, or the time is up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pytest_mlcc.errors import StageError

__all__ = ["CLOUD", "NEARBY", "Deadline", "Interval", "wait_until"]

State = TypeVar("State")


class Deadline(Protocol):
    """How long a stage may still take; the lifecycle's :class:`~pytest_mlcc.lifecycle.ports.Deadline` is one."""

    def remaining(self) -> float:
        """Seconds left, never below zero."""
        ...

    def check(self, waiting_for: str, last_seen: str = "") -> None:
        """Raise :class:`~pytest_mlcc.errors.StageTimeout` if the time is up."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """Pauses between looks, in seconds: the first, how each grows, the longest, and the share that chance may take off."""

    first: float
    growth: float
    longest: float
    jitter: float = 0.0

    def pauses(self) -> Iterator[float]:
        """The pauses, without an end."""
        pause = self.first
        while True:
            yield pause * (1 - random.random() * self.jitter)  # noqa: S311 - spreads pollers, hides nothing
            pause = min(self.longest, pause * self.growth)


NEARBY = Interval(first=0.02, growth=1.25, longest=0.1)
"""For a server on this machine: a look costs about 2 ms, and a stage may be over in 50."""

CLOUD = Interval(first=3.0, growth=1.4, longest=30.0, jitter=0.25)
"""For AWS: state changes take minutes, and Describe calls of a whole account share one rate limit."""


def wait_until(
    look: Callable[[], State],
    *,
    done: Callable[[State], bool],
    deadline: Deadline,
    what: str,
    interval: Interval,
    failed: Callable[[State], str | None] = lambda _: None,
    show: Callable[[State], str] = str,
    log: Callable[[str], None] | None = None,
) -> State:
    """The first state for which ``done`` holds; the first look is immediate.

    ``failed`` returns the reason why a state will never be done, or None; ``what`` names the awaited thing and ``show`` says
    a state in words: each new one goes to ``log``. Raises StageError with the reason, or StageTimeout with ``what`` and the
    state seen last.
    """
    shown = ""
    for pause in interval.pauses():
        state = look()
        if (words := show(state)) != shown:
            shown = words
            if log is not None:
                log(f"{what}: {words}")
        if done(state):
            return state
        reason = failed(state)
        if reason is not None:
            raise StageError(f"{what} failed: {reason}")
        deadline.check(what, shown)
        time.sleep(min(pause, deadline.remaining()))
    raise AssertionError("pauses() never ends")
