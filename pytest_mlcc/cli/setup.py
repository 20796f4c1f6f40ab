"""``mlcc setup``: install what a driver needs and pip can't bring, into the project's own ``.mlcc``."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_mlcc.cli.project import PROJECT
from pytest_mlcc.drivers.scripts.install import DEFAULT_VERSION, install
from pytest_mlcc.drivers.scripts.tools import State, survey

__all__ = ["setup"]


@click.group()
def setup() -> None:
    """Install what the drivers need beside Python packages."""


@setup.command()
@PROJECT
@click.option("--version", default=DEFAULT_VERSION, show_default=True, metavar="V", help="The generator's version.")
def mcc(project: Path, version: str) -> None:
    """Install Node and ml-container-creator into .mlcc, for the scripts driver. Run again, it changes nothing.

    Tools that it does not install are named, with the command that gets each.
    """
    install(project, version, say=click.echo)
    missing = [one for one in survey(project) if one.state is not State.FOUND]
    for one in missing:
        click.echo(f"Still needed: {one.problem}")
    click.echo("The scripts driver has all it needs." if not missing else "`mlcc doctor` shows all of them.")
