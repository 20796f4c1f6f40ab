"""Who keeps the local AWS alive: it lives as long as one of its holders does, and ends by itself after the last."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["USER", "Holder", "Holders", "start_ticks"]

#: The holder that no process stands for: ``mlcc local up`` adds it, ``mlcc local down`` takes it away.
USER = "user"


def start_ticks(pid: int) -> int | None:
    """When a living process started, in clock ticks since boot; None where there is none, or only its remains.

    With the pid it names a process for good: a pid that is used again comes with another start time.
    Fields 3 and 22 of ``/proc/<pid>/stat``, see proc(5).
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name, in brackets, may hold blanks and brackets
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True, slots=True)
class Holder:
    """One process that wants the server alive, or the special holder ``user``."""

    name: str
    started: int | None = None

    @classmethod
    def of(cls, pid: int | None = None) -> Holder:
        """The holder for a living process (this one by default). Raises ProcessLookupError where there is none."""
        pid = os.getpid() if pid is None else pid
        started = start_ticks(pid)
        if started is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(str(pid), started)

    @classmethod
    def parse(cls, text: str) -> Holder:
        """The holder that ``str`` wrote: ``user`` or ``<pid>:<start ticks>``."""
        name, _, started = text.partition(":")
        return cls(name, int(started) if started else None)

    def __str__(self) -> str:
        return self.name if self.started is None else f"{self.name}:{self.started}"

    @property
    def alive(self) -> bool:
        """Whether it still wants the server; the special holder always does."""
        return self.name == USER or (self.name.isdigit() and start_ticks(int(self.name)) == self.started)


class Holders:
    """The set of holders of one server."""

    def __init__(self, first: Holder) -> None:
        self._held = {first}

    def add(self, holder: Holder) -> None:
        """Keep the server alive for this holder too; adding twice is the same as once."""
        self._held.add(holder)

    def release(self, name: str) -> None:
        """Forget a holder by its pid or name; one that is not there is no mistake."""
        self._held = {holder for holder in self._held if holder.name != name}

    def living(self) -> tuple[Holder, ...]:
        """The holders that still want the server; those that have died are forgotten."""
        self._held = {holder for holder in self._held if holder.alive}
        return tuple(sorted(self._held, key=str))
