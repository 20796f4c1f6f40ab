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
from pytest_mlcc.localaws.holders import USER

__all__ = ["local"]


def _scale(_context: click.Context, _option: click.Parameter, scale: float) -> float:
    if not 0 < scale < float("inf"):
        raise click.BadParameter(f"{scale} is not a number above zero")
    return scale


_REHEARSING = (
    click.option(
        "--latency", default="instant", show_default=True, metavar="{instant,aws,FILE}", help="How long things take, as --mlcc-latency."
    ),
    click.option(
        "--time-scale",
        type=float,
        callback=_scale,
        default=1.0,
        show_default=True,
        metavar="N",
        help="Divide those delays by it: with 60, a minute on AWS takes a second.",
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

    \b
    Examples:
      mlcc local shell -- aws sagemaker list-endpoints       one command on it
      mlcc local up --latency aws --time-scale 60            keep one that is as slow as AWS, 60 times faster
      mlcc local logs -f NAME                                what an endpoint, a job or a build writes
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
    """Start the local AWS, or keep the one that runs.

    It runs until `down`, with delays, faults and a runtime as you like: docs/rehearsing.md.
    """
    from pytest_mlcc.localaws.rehearsal.scenario import read_scenario

    scenario = read_scenario(latency, time_scale, faults)
    if scenario is None and time_scale != 1:
        raise click.UsageError("--time-scale divides the waits of --latency, which is instant: add --latency aws")
    try:
        _tell(project, launch.hold_for_user(project, region=region, rehearsal=scenario, runtime=runtime))
    except LocalAwsError as error:
        fail(error)


def _tell(project: Path, running: launch.LocalAws) -> None:
    """Where it is, what it plays, and the words that point any client at it."""
    click.echo(f"The local AWS {'is up' if running.started_here else 'was up already'}: {running.endpoint_url}")
    found = launch.status(project)
    if found is not None and found.rehearsal and found.rehearsal["scenario"]:
        click.echo(f"It rehearses {found.rehearsal['scenario']}.")
    click.echo(f"\n  export AWS_ENDPOINT_URL={running.endpoint_url}")
    click.echo(f"  export AWS_REGION={running.region} AWS_DEFAULT_REGION={running.region}")
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
        click.echo(f"The local AWS at {still.endpoint_url} is still used by {_users(still)}, and ends with that (--force ends it now).")
    else:
        click.echo("The local AWS has ended; its state is kept." if ended else "No local AWS runs for this project.")


def _users(found: launch.Status) -> str:
    """``process 17, 18``: test runs and shells; empty for none."""
    users = [holder.partition(":")[0] for holder in found.holders if holder != USER]
    return f"process {', '.join(users)}" if users else ""


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
        click.echo(f"Project  {project.resolve()}")
        click.echo("\n".join(lines(found)))
        if resources:
            click.echo(table(resources))
    sys.exit(0 if found else 1)


@local.command()
@PROJECT
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Do it even while a test run uses it, which then fails.")
def reset(project: Path, yes: bool, force: bool) -> None:
    """Forget all it holds: tables, buckets, images, endpoints.

    It is stopped for that, and started again if `up` kept it; without the delays and faults it rehearsed.
    """
    directory = launch.local_dir(project)
    try:
        before = _unused(project, force=force)
        if not yes:
            click.confirm(f"Forget all state in {directory}?", abort=True)
        launch.reset(project)
        click.echo(f"All state in {directory} is forgotten.")
        if before is not None and before.held_by_user:
            _tell(project, launch.hold_for_user(project, region=before.region, runtime=str(before.runtime["mode"])))
    except LocalAwsError as error:
        fail(error)


def _unused(project: Path, *, force: bool) -> launch.Status | None:
    """What runs, or None; one that does not answer is as good as none. Raises LocalAwsError where a run or a shell uses it."""
    try:
        found = launch.status(project)
    except LocalAwsError:
        return None
    if found is not None and _users(found) and not force:
        raise LocalAwsError(f"{_users(found)} still works with it; let that end first, or add --force")
    return found
