"""The hooks that this plugin offers to conftest files and other plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_mlcc.lifecycle.blueprint import Blueprint
    from pytest_mlcc.plugin.site import Site

__all__ = ["pytest_mlcc_make_site"]


@pytest.hookspec(firstresult=True)
def pytest_mlcc_make_site(config: pytest.Config, blueprint: Blueprint) -> Site | None:
    """Return what runs stages, keeps records and cleans; None leaves it to ``--mlcc-target`` and ``--mlcc-driver``.

    For teams with a platform of their own: implement :class:`pytest_mlcc.plugin.site.Site` and return it from a conftest.
    Called once per process, when the first lifecycle item is about to run.
    """
