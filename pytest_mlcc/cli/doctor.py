"""``mlcc doctor``: every tool that the scripts driver needs, with its version, and the command that gets what is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import click

from pytest_mlcc.cli.project import PROJECT
from pytest_mlcc.drivers.scripts.tools import Found, State, as_json, survey

__all__ = ["doctor"]

_WIDTH = 1000
"""Of the table: paths are long, and one that was cut short is of no use. A terminal folds what it has no room for."""


@click.command()
@PROJECT
@click.option("--json", "machine", is_flag=True, help="Print one JSON object.")
def doctor(project: Path, machine: bool) -> None:
    """Show the tools of the scripts driver: found, missing or too old. The native driver needs none of them.

    The exit code is 1 where one is missing or too old.
    """
    found = survey(project)
    click.echo(as_json(found) if machine else _table(found))
    wrong = [one for one in found if one.state is not State.FOUND]
    if not machine:
        click.echo("")
        for one in wrong:
            click.echo(f"{one.tool.name}: {one.tool.get}")
        click.echo("Nothing is missing." if not wrong else f"{len(wrong)} of {len(found)} are missing or too old; these commands get them.")
    sys.exit(1 if wrong else 0)


def _table(found: Sequence[Found]) -> str:
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for title in ("Tool", "State", "Version", "Where", "What for"):
        made.add_column(title, no_wrap=True)
    for one in found:
        made.add_row(one.tool.name, str(one.state), one.version, one.path, one.tool.use)
    text = StringIO()
    Console(file=text, width=_WIDTH, highlight=False, markup=False).print(made)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
