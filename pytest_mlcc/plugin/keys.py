"""The plugin's state on pytest's objects: typed stash keys, never loose attributes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_mlcc.catalog.load import Catalog
    from pytest_mlcc.lifecycle.ports import RunInfo
    from pytest_mlcc.plugin.cells import Cells
    from pytest_mlcc.plugin.endpoints import Endpoints
    from pytest_mlcc.settings import Settings

__all__ = ["CATALOG", "CELLS", "ENDPOINTS", "LAST", "PULLED", "RUN", "RUN_DIR", "RUN_TEXT", "SETTINGS", "WORKER_INPUT"]

SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
CATALOG: pytest.StashKey[Catalog] = pytest.StashKey()
RUN: pytest.StashKey[RunInfo] = pytest.StashKey()
RUN_TEXT: pytest.StashKey[str] = pytest.StashKey()
RUN_DIR: pytest.StashKey[Path] = pytest.StashKey()
CELLS: pytest.StashKey[Cells] = pytest.StashKey()
ENDPOINTS: pytest.StashKey[Endpoints] = pytest.StashKey()
PULLED: pytest.StashKey[bool] = pytest.StashKey()
LAST: pytest.StashKey[bool] = pytest.StashKey()

WORKER_INPUT = "mlcc_run"
