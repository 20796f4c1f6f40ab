"""What the plugin needs of the world behind it: one Protocol, kept beside its consumer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.lifecycle.ports import Cleaner, Driver, Ledger
from pytest_mlcc.reporting.summary import Planned

__all__ = ["Site"]


class Site(Protocol):
    """Where stages run and what remembers them. Workers use the first half, the controller the second."""

    @property
    def driver(self) -> Driver:
        """Who carries stages out."""
        ...

    @property
    def secrets(self) -> Sequence[str]:
        """Values that must not be written down anywhere, beyond those of the environment, where every process finds them itself."""
        ...

    @property
    def cleaner(self) -> Cleaner:
        """Who deletes what a ledger names."""
        ...

    def ledger(self, entry: Entry) -> Ledger:
        """The ledger of one entry in this run."""
        ...

    def begin(self, entry: Entry) -> None:
        """Claim the configuration and put its ledger under the guardian's watch, before anything is created.

        Raises ClaimRefused where another run holds it.
        """
        ...

    def end(self, entry: Entry) -> None:
        """The entry is clean: the guardian may forget it."""
        ...

    def record(self, planned: Planned) -> str:
        """Write the one record of an entry; return a warning to show, or an empty text."""
        ...

    def publish(self, planned: Sequence[Planned], seconds: float) -> Sequence[str]:
        """Save reports and logs where people look for them; return the lines to show (places and warnings)."""
        ...

    def close(self) -> None:
        """Let go of what this process holds: everything of it is clean, so the guardian may end."""
        ...

    def shut_down(self) -> None:
        """The run is over and everything is written: stop what was started for it."""
        ...
