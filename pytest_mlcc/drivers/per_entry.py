"""The driver of a catalog whose entries may each have their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.lifecycle.ports import Answer, Context, Driver, RunInfo, Step

__all__ = ["PerEntry"]


class PerEntry:
    """Implements :class:`~pytest_mlcc.lifecycle.ports.Driver` by the one that each entry has."""

    name = "per entry"

    def __init__(self, driver_of: Callable[[Entry], Driver]) -> None:
        self._of = driver_of

    def run(self, stage: str, context: Context) -> Mapping[str, Any]:
        """Do one stage as the entry's driver does it."""
        return self._of(context.entry).run(stage, context)

    def ask(self, prompt: str, context: Context, *, adapter: bool = False, max_tokens: int = 64) -> Answer:
        """One question, by the entry's driver."""
        return self._of(context.entry).ask(prompt, context, adapter=adapter, max_tokens=max_tokens)

    def steps(self, stage: str, entry: Entry, run: RunInfo) -> Sequence[Step]:
        """What the entry's driver would do."""
        return self._of(entry).steps(stage, entry, run)
