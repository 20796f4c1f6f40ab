"""The scripts driver: a project of the real generator, taken through its own ``do/*`` scripts, none of them changed."""

from __future__ import annotations

from pytest_mlcc.drivers.scripts.driver import Scripts
from pytest_mlcc.drivers.scripts.options import ScriptOptions, Strategy

__all__ = ["ScriptOptions", "Scripts", "Strategy"]
