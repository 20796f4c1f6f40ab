"""``mlcc local``: the local AWS of the project around the current directory."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import click

from pytest_mlcc.cli.main import LazyGroup
from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.holders import USER

__all__ = ["local"]

_ROOT_FILES = (".mlcc", "pytest.ini", "pyproject.toml")
"""What tells a project's folder, where pytest keeps .mlcc too."""


def _project(_context: click.Context, _option: click.Parameter, named: Path | None) -> Path:
    here = Path.cwd()
    around = (one for one in (here, *here.parents) if any((one / name).exists() for name in _ROOT_FILES))
    return named or next(around, here)


_PROJECT = click.option(
    "--project",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    callback=_project,
    help="The folder that holds .mlcc; by default that of the project around the current one.",
)


@click.group(cls=LazyGroup)
def local() -> None:
    """The local AWS of this project: start it, look at it, stop it, forget it.

    Test runs start it by themselves and end it when they end. `up` keeps it running for your own clients.
    """


@local.command()
@_PROJECT
@click.option("--region", default="us-west-2", show_default=True, help="The region your clients use.")
def up(project: Path, region: str) -> None:
    """Start the local AWS, or keep the one that runs, until `down`."""
    try:
        running = launch.hold_for_user(project, region=region)
    except LocalAwsError as error:
        _fail(error)
    click.echo(f"The local AWS {'is up' if running.started_here else 'was up already'}: {running.endpoint_url}")
    click.echo(f"\n  export AWS_ENDPOINT_URL={running.endpoint_url}")
    click.echo(f"  export AWS_REGION={region} AWS_DEFAULT_REGION={region}")
    click.echo(f"  export AWS_ACCESS_KEY_ID={running.account} AWS_SECRET_ACCESS_KEY=local")
    click.echo("\nStop it with: mlcc local down")


@local.command()
@_PROJECT
@click.option("--force", is_flag=True, help="Stop it even while a test run uses it.")
def down(project: Path, force: bool) -> None:
    """Stop the local AWS; its state stays. A test run that uses it keeps it until it ends."""
    try:
        ended = launch.stop(project) if force else launch.release_user(project)
        still = None if ended else launch.status(project)
    except LocalAwsError as error:
        _fail(error)
    if still is not None:
        users = ", ".join(holder.partition(":")[0] for holder in still.holders)
        click.echo(f"The local AWS at {still.endpoint_url} is still used by process {users}, and ends with it (--force ends it now).")
    else:
        click.echo("The local AWS has ended; its state is kept." if ended else "No local AWS runs for this project.")


@local.command()
@_PROJECT
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(project: Path, as_json: bool) -> None:
    """Show whether the local AWS runs, where, and what runs in it. Exit 1 where it doesn't."""
    try:
        found = launch.status(project)
    except LocalAwsError as error:
        _fail(error)
    if as_json:
        click.echo(json.dumps({"running": found is not None, **(asdict(found) if found else {})}))
    elif found is None:
        click.echo("No local AWS runs for this project. Start one with: mlcc local up")
    else:
        click.echo("\n".join(_lines(found)))
    sys.exit(0 if found else 1)


@local.command()
@_PROJECT
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(project: Path, yes: bool) -> None:
    """Forget everything the local AWS holds: tables, buckets, images, endpoints. Stops it, and starts it again if `up` kept it."""
    directory = launch.local_dir(project)
    if not yes:
        click.confirm(f"Forget all state in {directory}?", abort=True)
    try:
        before = launch.status(project)
        launch.reset(project)
        if before is not None and before.held_by_user:
            launch.hold_for_user(project, region=before.region)
    except LocalAwsError as error:
        _fail(error)
    click.echo(f"All state in {directory} is forgotten.")


def _lines(found: launch.Status) -> list[str]:
    holders = [holder.partition(":")[0] for holder in found.holders if holder != USER]
    kept = [*(["mlcc local up"] if found.held_by_user else []), *(f"process {pid}" for pid in holders)]
    runs = [f"{count} {name.replace('_', ' ')}" for name, count in sorted(found.activity.items()) if count]
    return [
        f"URL      {found.endpoint_url}",
        f"Account  {found.account}",
        f"Region   {found.region}",
        f"Process  {found.pid}, up {_duration(found.uptime_seconds)}",
        f"Kept by  {', '.join(kept) or 'nobody: it is about to end'}",
        f"Runs     {', '.join(runs) or 'nothing'}",
        f"Engine   {found.engine}",
    ]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.0f} s"


def _fail(error: LocalAwsError) -> NoReturn:
    click.echo(f"Error: {error}", err=True)
    sys.exit(1)
