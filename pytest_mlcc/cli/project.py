"""What the commands about a project's local AWS share: which project is meant, and how a failure is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from pytest_mlcc.errors import LocalAwsError

__all__ = ["PROJECT", "fail"]

_ROOT_FILES = (".mlcc", "pytest.ini", "pyproject.toml")
"""What tells a project's folder, where pytest keeps .mlcc too."""


def _project(_context: click.Context, _option: click.Parameter, named: Path | None) -> Path:
    here = Path.cwd()
    around = (one for one in (here, *here.parents) if any((one / name).exists() for name in _ROOT_FILES))
    return named or next(around, here)


PROJECT = click.option(
    "--project",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    callback=_project,
    help="The folder that holds .mlcc; by default that of the project around the current one.",
)


def fail(error: LocalAwsError) -> NoReturn:
    """Say it and end with exit code 1."""
    click.echo(f"Error: {error}", err=True)
    sys.exit(1)
