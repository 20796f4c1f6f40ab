"""One stage of one entry with everything that its code needs at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_mlcc.aws.errors import attempt, translated
from pytest_mlcc.aws.session import Aws
from pytest_mlcc.aws.tags import Tags
from pytest_mlcc.aws.wait import wait_until
from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.drivers.native.names import Names
from pytest_mlcc.errors import FailureClass, StageError
from pytest_mlcc.lifecycle.ports import Context, Resource

__all__ = ["Options", "Work", "settings_of"]

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Options:
    """What the native driver is told once, beyond the entry: roles (names or ARNs) and a token for gated models.

    ``mlflow_arn`` names the MLflow app or server that tuning reports to; without one the SDK looks for the account's own.
    """

    role: str = "mlcc-sagemaker-execution-role"
    build_role: str = "mlcc-codebuild-role"
    mlflow_arn: str | None = None
    hf_token: str | None = None

    def __repr__(self) -> str:  # the token is a secret
        return f"Options(role={self.role!r}, build_role={self.build_role!r}, mlflow_arn={self.mlflow_arn!r})"


@dataclass(frozen=True, slots=True)
class Work:
    """One stage of one entry: the account, the context that the lifecycle gave, and the names in use."""

    aws: Aws
    context: Context
    options: Options
    names: Names

    @property
    def entry(self) -> Entry:
        """The model whose stage this is."""
        return self.context.entry

    @property
    def region(self) -> str:
        """The entry's region."""
        return self.entry.args.region

    @property
    def log(self) -> Callable[[str], None]:
        """Writes a line to the stage's log."""
        return self.context.log

    @property
    def tags(self) -> Tags:
        """What everything created carries."""
        run = self.context.run
        return Tags(run=run.run_id, entry=self.entry.id, owner=run.owner, expires=run.expires)

    @property
    def accelerators(self) -> int:
        """GPUs of the entry's instance. Raises StageError where the catalog does not know the instance."""
        if self.entry.instance is None:
            unknown = f"{self.entry.args.instance_type} is not in catalog/instances.json: its GPU count is unknown"
            raise StageError(unknown, failure_class=FailureClass.CODE_BUG)
        return self.entry.instance.gpus

    def client(self, service: str) -> Any:
        """A boto3 client in the entry's region."""
        return self.aws.client(service, self.region)

    def role_arn(self, role: str) -> str:
        """The ARN of a role of this account that was given by name, path or ARN."""
        return role if role.startswith("arn:") else f"arn:aws:iam::{self.names.account}:role/{role}"

    def intend(self, kind: str, name: str) -> str:
        """Write a resource into the ledger; to be called before its create call. Returns the name."""
        self.context.ledger.intend(Resource(kind, name, self.region))
        return name

    def gone(self, kind: str, name: str) -> None:
        """Write into the ledger that a resource is gone, or is known by another name now."""
        self.context.ledger.gone(Resource(kind, name, self.region))

    def fact(self, stage: str, key: str) -> Any:
        """What an earlier stage learned. Raises StageError where that stage has not been run."""
        try:
            return self.context.facts[stage][key]
        except KeyError:
            unknown = f"the stage {stage!r} of {self.entry.id} left no {key!r}: it has to pass first"
            raise StageError(unknown, failure_class=FailureClass.CODE_BUG) from None

    def wait(
        self,
        look: Callable[[], State],
        *,
        done: Callable[[State], bool],
        what: str,
        show: Callable[[State], str],
    ) -> State:
        """:func:`~pytest_mlcc.aws.wait.wait_until` with this stage's deadline, pace and log."""
        deadline, interval = self.context.deadline, self.aws.interval
        return wait_until(look, done=done, deadline=deadline, what=what, interval=interval, show=show, log=self.log)

    def watch(
        self,
        describe: Callable[..., Mapping[str, Any]],
        *,
        what: str,
        done: Callable[[Mapping[str, Any]], bool],
        show: Callable[[Mapping[str, Any]], str],
        **name: str,
    ) -> Mapping[str, Any]:
        """What a Describe call says of ``name`` once ``done`` holds for it."""

        def look() -> Mapping[str, Any]:
            with translated(f"look at {what}"):
                return describe(**name)

        return self.wait(look, done=done, what=what, show=show)

    def log_tail(self, group: str, stream: str = "", *, lines: int = 40) -> str:
        """The last lines of a CloudWatch log: of the newest stream whose name begins with ``stream``; empty if there is none yet.

        Empty too where it can't be read, and the stage's log says why: it is asked for to explain a failure, never to hide it.
        """
        try:
            return self._log_tail(group, stream, lines)
        except StageError as error:
            self.log(str(error))
            return ""

    def _log_tail(self, group: str, stream: str, lines: int) -> str:
        logs = self.client("logs")
        with translated(f"read the log {group}"):
            narrowed = {"logStreamNamePrefix": stream} if stream else {}
            found = attempt(logs.describe_log_streams, refusals=("ResourceNotFoundException",), logGroupName=group, **narrowed)
            if found is None or not found["logStreams"]:
                return ""
            newest = max(found["logStreams"], key=lambda one: one.get("lastEventTimestamp", one.get("creationTime", 0)))
            events = logs.get_log_events(logGroupName=group, logStreamName=newest["logStreamName"], limit=lines, startFromHead=False)[
                "events"
            ]
        return "\n".join(str(event["message"]).rstrip("\n") for event in events)


def settings_of(entry: Entry, flag: str) -> Mapping[str, str]:
    """The ``NAME=value`` pairs that an entry gives with a repeatable flag (``server-env``, ``model-env``, ``ic-env``)."""
    given = [value or "" for name, value in entry.args.flags.pairs if name == flag]
    return dict(pair.partition("=")[::2] for pair in given)
