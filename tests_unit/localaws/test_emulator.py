"""A ministack whose insides moved must be named as the cause, not fail somewhere in the middle of a run."""

from __future__ import annotations

import importlib
import types
from importlib.metadata import version

from pytest_mlcc.localaws import emulator


def _modules() -> dict[str, types.ModuleType]:
    return {name: importlib.import_module(name) for name in emulator._NEEDED | emulator._NEEDED_LATER}


def test_the_installed_ministack_is_the_pinned_one_and_has_every_name_we_use() -> None:
    assert version("ministack") == emulator.PINNED_VERSION
    modules = _modules()
    assert emulator.missing_names(modules) == []
    later = [f"{name}.{each}" for name, names in emulator._NEEDED_LATER.items() for each in names if not hasattr(modules[name], each)]
    assert later == []


def test_a_name_that_is_gone_is_told() -> None:
    modules = _modules()
    modules["ministack.core.router"] = types.ModuleType("ministack.core.router")
    assert "ministack.core.router.detect_service" in emulator.missing_names(modules)
