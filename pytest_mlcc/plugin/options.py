"""From the one table of options to pytest's flags and ini keys, and back to Settings."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from pytest_mlcc.errors import ConfigurationError
from pytest_mlcc.settings import OPTIONS, Option, Settings, read

__all__ = ["declare", "settings_of"]


def declare(parser: pytest.Parser) -> None:
    """Add every option as a flag in one group, and as an ini key."""
    group = parser.getgroup("mlcc", "mlcc: each model's lifecycle is a test session")
    for option in OPTIONS:
        group.addoption(option.flag, dest="mlcc_" + option.name, help=_help(option), **_arguments(option))
        parser.addini(option.ini, _help(option), type=_ini_type(option), default=None)


def settings_of(config: pytest.Config) -> Settings:
    """The settings of this invocation. Raises pytest.UsageError with every mistake."""
    try:
        return read(
            lambda name: config.getoption("mlcc_" + name, default=None),
            config.getini,
            base=config.inipath.parent if config.inipath else config.rootpath,
        )
    except ConfigurationError as error:
        raise pytest.UsageError("\n".join(f"mlcc: {problem}" for problem in error.problems)) from None


def _ini_type(option: Option) -> Literal["args", "string"]:
    return "args" if option.kind == "list" else "string"


def _arguments(option: Option) -> dict[str, Any]:
    if option.kind == "switch":
        return {"action": "store_true", "default": None}
    extra: dict[str, Any] = {"metavar": option.metavar} if option.metavar else {}
    if option.kind == "list":
        return {"action": "append", "default": None, **extra}
    if option.choices:
        extra["metavar"] = "{" + ",".join(option.choices) + "}"
    return {"default": None, **extra}


def _help(option: Option) -> str:
    shown = f"{option.default:g}" if isinstance(option.default, float) else option.default
    default = "" if option.default in (None, False) else f" Default: {shown}."
    return f"{option.help}{default} ({option.environment})".replace("%", "%%")  # argparse formats help texts with %
