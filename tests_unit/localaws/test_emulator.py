"""A ministack whose insides moved must be named as the cause, not fail somewhere in the middle of a run."""

from __future__ import annotations

import importlib
import types
from importlib.metadata import version

from pytest_mlcc.localaws import emulator


def _modules() -> dict[str, types.ModuleType]:
    return {name: importlib.import_module(name) for name in emulator._NEEDED}


def test_the_installed_ministack_is_the_pinned_one_and_has_every_name_we_use() -> None:
    assert version("ministack") == emulator.PINNED_VERSION
    assert emulator.missing_names(_modules()) == []


def test_a_name_that_is_gone_is_told() -> None:
    modules = _modules()
    modules["ministack.core.router"] = types.ModuleType("ministack.core.router")
    assert "ministack.core.router.detect_service" in emulator.missing_names(modules)
