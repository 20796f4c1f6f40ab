"""What a run is made from, before anything of it exists."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.catalog.load import Catalog
from pytest_mlcc.lifecycle.ports import RunInfo
from pytest_mlcc.settings import Settings

__all__ = ["Blueprint"]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """Everything a site is built from. ``owner_pid`` is the process whose end ends the run (the xdist controller)."""

    settings: Settings
    catalog: Catalog
    run: RunInfo
    project: Path
    owner_pid: int

    def driver_of(self, entry: Entry) -> str:
        """Who carries the stages of an entry out."""
        return self.settings.driver_for(entry.driver)

    def run_of(self, entry: Entry) -> RunInfo:
        """The run as the records of this entry know it."""
        return replace(self.run, driver=self.driver_of(entry))

    def surely_uses(self, driver: str) -> bool:
        """Whether this driver will be used, as far as the settings tell before anything is collected."""
        named = [self.catalog.by_id[name] for name in self.settings.entry]
        return any(self.driver_of(entry) == driver for entry in named) if named else self.settings.driver == driver

    @property
    def run_dir(self) -> Path:
        """Where this run keeps journals, ledgers, logs and generated projects."""
        return self.project / ".mlcc" / "runs" / self.run.run_id
