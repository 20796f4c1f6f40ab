"""What a run is made from, before anything of it exists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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

    @property
    def run_dir(self) -> Path:
        """Where this run keeps journals, ledgers, logs and generated projects."""
        return self.project / ".mlcc" / "runs" / self.run.run_id
