"""``mlcc local``: the local AWS of the project around the current directory."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from pytest_mlcc.cli.main import LazyGroup
from pytest_mlcc.cli.project import PROJECT, fail
from pytest_mlcc.cli.status import lines, table
from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws import launch

__all__ = ["local"]

_REHEARSING = (
    click.option(
        "--latency", default="instant", show_default=True, metavar="{instant,aws,FILE}", help="How long things take, as --mlcc-latency."
    ),
    click.option(
        "--time-scale", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Divide those delays by it."
    ),
    click.option("--faults", type=click.Path(path_type=Path), help="A fault plan, as --mlcc-faults."),
)


@click.group(
    cls=LazyGroup,
    lazy={
        "logs": "Print the log of an endpoint, a component, a job or a build.",
        "shell": "Open a shell in which clients talk to the local AWS.",
    },
)
def local() -> None:
    """The local AWS of this project: start it, look at it, stop it, forget it.

    Test runs start it by themselves and end it when they end. `up` keeps it running for your own clients.
    """


@local.command()
@PROJECT
@click.option("--region", default="us-west-2", show_default=True, help="The region your clients use.")
@_REHEARSING[0]
@_REHEARSING[1]
@_REHEARSING[2]
@click.option(
    "--runtime", type=click.Choice(["auto", "process", "container"]), default="auto", show_default=True, help="As --mlcc-runtime."
)
def up(*, project: Path, region: str, latency: str, time_scale: float, faults: Path | None, runtime: str) -> None:
    """Start the local AWS, or keep the one that runs, until `down`; with delays, faults and a runtime as you like."""
    from pytest_mlcc.localaws.rehearsal.scenario import read_scenario

    scenario = read_scenario(latency, time_scale, faults)
    try:
        running = launch.hold_for_user(project, region=region, rehearsal=scenario, runtime=runtime)
    except LocalAwsError as error:
        fail(error)
    click.echo(f"The local AWS {'is up' if running.started_here else 'was up already'}: {running.endpoint_url}")
    if scenario is not None:
        click.echo(f"It rehearses {scenario or 'nothing'}.")
    click.echo(f"\n  export AWS_ENDPOINT_URL={running.endpoint_url}")
    click.echo(f"  export AWS_REGION={region} AWS_DEFAULT_REGION={region}")
    click.echo(f"  export AWS_ACCESS_KEY_ID={running.account} AWS_SECRET_ACCESS_KEY=local")
    click.echo("\nStop it with: mlcc local down")


@local.command()
@PROJECT
@click.option("--force", is_flag=True, help="Stop it even while a test run uses it.")
def down(project: Path, force: bool) -> None:
    """Stop the local AWS; its state stays. A test run that uses it keeps it until it ends."""
    try:
        ended = launch.stop(project) if force else launch.release_user(project)
        still = None if ended else launch.status(project)
    except LocalAwsError as error:
        fail(error)
    if still is not None:
        users = ", ".join(holder.partition(":")[0] for holder in still.holders)
        click.echo(f"The local AWS at {still.endpoint_url} is still used by process {users}, and ends with it (--force ends it now).")
    else:
        click.echo("The local AWS has ended; its state is kept." if ended else "No local AWS runs for this project.")


@local.command()
@PROJECT
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(project: Path, as_json: bool) -> None:
    """Show whether the local AWS runs, where, and what runs in it. Exit 1 where it doesn't."""
    try:
        found = launch.status(project)
        resources = launch.running(project) if found else ()
    except LocalAwsError as error:
        fail(error)
    if as_json:
        more = {**asdict(found), "resources": [asdict(one) for one in resources]} if found else {}
        click.echo(json.dumps({"running": found is not None, **more}))
    elif found is None:
        click.echo("No local AWS runs for this project. Start one with: mlcc local up")
    else:
        click.echo("\n".join(lines(found)))
        if resources:
            click.echo(table(resources))
    sys.exit(0 if found else 1)


@local.command()
@PROJECT
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
        fail(error)
    click.echo(f"All state in {directory} is forgotten.")
