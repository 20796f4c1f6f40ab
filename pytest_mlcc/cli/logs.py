"""``mlcc local logs``: what a container, a job or a build of the local AWS writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pytest_mlcc.catalog.suggest import did_you_mean
from pytest_mlcc.cli.project import PROJECT, fail
from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws import launch

__all__ = ["logs"]

_GROUPS: Mapping[str, str] = {
    "endpoint": "/aws/sagemaker/Endpoints/",
    "inference-component": "/aws/sagemaker/InferenceComponents/",
    "build": "/aws/codebuild/",
    "training-job": "/aws/sagemaker/TrainingJobs",
    "processing-job": "/aws/sagemaker/ProcessingJobs",
    "transform-job": "/aws/sagemaker/TransformJobs",
}
"""Where each kind's log is. One that ends in a slash has a group of its own for each; jobs are streams of one group."""

_LISTED = 10
_LOOK_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Source:
    """The log of one resource: a group, and the beginning of its streams' names; or the ``path`` of a file, while it runs.

    ``newest`` is its last event, milliseconds.
    """

    kind: str
    name: str
    group: str
    stream: str = ""
    newest: int = 0
    path: str = ""

    @property
    def full_name(self) -> str:
        """``training-job/my-job``."""
        return f"{self.kind}/{self.name}"


@click.command()
@PROJECT
@click.argument("resource")
@click.option("--follow", "-f", is_flag=True, help="Go on until the resource has ended, or Ctrl-C.")
@click.option("--lines", "-n", type=click.IntRange(1), default=200, show_default=True, help="How many of the last lines to begin with.")
def logs(project: Path, resource: str, follow: bool, lines: int) -> None:
    """Print the log of an endpoint, an inference component, a job or a build.

    RESOURCE is its name, as far as it is unique; a kind may stand before it: training-job/NAME.
    """
    try:
        found = launch.status(project)
        if found is None:
            raise LocalAwsError("no local AWS runs for this project; start it with: mlcc local up")
        _print(project, found, resource, follow=follow, lines=lines)
    except LocalAwsError as error:
        fail(error)


def _print(project: Path, found: launch.Status, resource: str, *, follow: bool, lines: int) -> None:
    from pytest_mlcc.aws.errors import translated
    from pytest_mlcc.aws.pin import pinned
    from pytest_mlcc.aws.session import Aws
    from pytest_mlcc.errors import StageError

    with pinned(found.endpoint_url, found.region, found.account):
        client = Aws("local", found.region, found.endpoint_url).client("logs")
        try:
            with translated("read logs"):
                source = choose(resource, list(sources(client, launch.running(project))))
                tail = FileTail(Path(source.path)) if source.path else Tail(client, source)
                begun = tail.new()[-lines:]
                for line in begun:
                    click.echo(line)
                if not begun and not follow:
                    click.echo(f"{source.full_name} has written nothing yet.", err=True)
                if follow:
                    _follow(tail, lambda: _runs(project, source))
        except KeyboardInterrupt:
            return
        except StageError as error:
            raise LocalAwsError(str(error)) from error


def _follow(tail: Tail | FileTail, runs: Callable[[], bool]) -> None:
    going = True
    while going:
        going = runs()  # asked first: what it wrote last is still to be read
        for line in tail.new():
            click.echo(line)
        if going:
            time.sleep(_LOOK_SECONDS)


def _runs(project: Path, source: Source) -> bool:
    return any((one.kind.replace(" ", "-"), one.name) == (source.kind, source.name) for one in launch.running(project))


class FileTail:
    """Reads what is new in the file that a living container writes to."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0

    def new(self) -> list[str]:
        """The whole lines that have come since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:  # it has written nothing yet, or is gone
            return []
        if not whole:
            return []
        self._read += len(whole) + 1
        return whole.decode("utf-8", "replace").splitlines()


class Tail:
    """Reads what is new in a resource's streams, in the order it was written."""

    def __init__(self, client: Any, source: Source) -> None:
        self._client, self._source = client, source
        self._tokens: dict[str, str] = {}

    def new(self) -> list[str]:
        """The lines that have come since the last call."""
        streams = [one["logStreamName"] for one in _streams(self._client, self._source.group, self._source.stream)]
        events = [event for stream in streams for event in self._events(stream)]
        return [str(event["message"]).rstrip("\n") for event in sorted(events, key=lambda event: event["timestamp"])]

    def _events(self, stream: str) -> Iterator[Any]:
        while True:
            token = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
            page = self._client.get_log_events(logGroupName=self._source.group, logStreamName=stream, startFromHead=True, **token)
            yield from page["events"]
            if page["nextForwardToken"] == self._tokens.get(stream):  # its end, see GetLogEvents
                return
            self._tokens[stream] = page["nextForwardToken"]


def sources(client: Any, running: Iterable[launch.Running]) -> Iterator[Source]:
    """Every resource that has a log, and those that run and have none yet."""
    alive = {source.full_name: source for source in (_source_of(one) for one in running)}
    pages = client.get_paginator("describe_log_groups").paginate()
    for group in [one["logGroupName"] for page in pages for one in page["logGroups"]]:
        for source in _sources_in(client, group):
            now = alive.pop(source.full_name, source)
            yield now if now.path else source
    yield from alive.values()


def _sources_in(client: Any, group: str) -> Iterator[Source]:
    for kind, prefix in _GROUPS.items():
        if not group.startswith(prefix):
            continue
        rest = group.removeprefix(prefix)
        streams = list(_streams(client, group))
        if kind == "build":
            for one in streams:
                yield Source(kind, f"{rest}:{one['logStreamName']}", group, one["logStreamName"], _last(one))
        elif prefix.endswith("/"):
            yield Source(kind, rest, group, newest=max(map(_last, streams), default=0))
        else:
            names = {one["logStreamName"].partition("/")[0]: _last(one) for one in streams}
            yield from (Source(kind, name, group, f"{name}/", newest) for name, newest in names.items())


def _source_of(one: launch.Running) -> Source:
    kind, name = one.kind.replace(" ", "-"), one.name
    group = _GROUPS[kind]
    if kind == "build":
        project, _, stream = name.partition(":")
        return Source(kind, name, group + project, stream)
    place = (group + name, "") if group.endswith("/") else (group, f"{name}/")
    return Source(kind, name, *place, path=one.log or "")


def _streams(client: Any, group: str, prefix: str = "") -> Iterator[Any]:
    from pytest_mlcc.aws.errors import attempt

    more = {"logStreamNamePrefix": prefix} if prefix else {}
    token: dict[str, str] = {}
    while True:
        page = attempt(client.describe_log_streams, refusals=("ResourceNotFoundException",), logGroupName=group, **more, **token)
        if page is None:  # it has written nothing yet
            return
        yield from page["logStreams"]
        if not page.get("nextToken"):
            return
        token = {"nextToken": page["nextToken"]}


def _last(stream: Mapping[str, Any]) -> int:
    return int(stream.get("lastEventTimestamp") or stream.get("creationTime") or 0)


def choose(resource: str, known: Sequence[Source]) -> Source:
    """The one source that is meant: by its name, by kind and name, by its beginning, or the newest build of a project.

    Raises LocalAwsError where several or none are.
    """
    exact = [one for one in known if resource in (one.name, one.full_name)]
    builds = [one for one in known if one.kind == "build" and resource in (*one.name.split(":"), f"build/{one.name.partition(':')[0]}")]
    if not exact and builds:
        return max(builds, key=lambda one: one.newest)
    meant = exact or [one for one in known if one.name.startswith(resource) or one.full_name.startswith(resource)]
    if len(meant) == 1:
        return meant[0]
    if meant:
        names = sorted(one.full_name for one in meant)
        more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        raise LocalAwsError(f"{resource!r} may be any of: {', '.join(names[:_LISTED])}{more}; say which")
    if not known:
        raise LocalAwsError(f"there is no log of {resource!r}: nothing has written a log here yet")
    projects = {one.name.partition(":")[0] for one in known if one.kind == "build"}
    hint = did_you_mean(resource, [*(one.name for one in known), *sorted(projects)]) or "`mlcc local status` shows what runs"
    raise LocalAwsError(f"nothing of the name {resource!r} has a log here; {hint}")
