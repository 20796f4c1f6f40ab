"""Shared by every test of this project: pytester, so that the plugin is tested as its users run it."""

from __future__ import annotations

pytest_plugins = ["pytester"]
