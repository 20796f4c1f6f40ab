"""CodeBuild's operations on builds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from pytest_mlcc.localaws.services.codebuild.model import BUILD, Builds, build_record
from pytest_mlcc.localaws.services.codebuild.overrides import with_overrides
from pytest_mlcc.localaws.services.codebuild.projects import Projects, bare, check_project, page
from pytest_mlcc.localaws.services.codebuild.runner import Runner
from pytest_mlcc.localaws.store import Record, Store
from pytest_mlcc.localaws.wire import AwsError, Call

__all__ = ["BuildOperations"]

_TOKEN_SECONDS = 300.0
#: As many builds again as may run, five times over, may wait (docs: "Build queue").
_QUEUE_FACTOR = 5
#: What RetryBuild takes from the earlier build in place of the project.
_REPEATED = (
    "source", "environment", "timeoutInMinutes", "queuedTimeoutInMinutes", "serviceRole", "sourceVersion", "secondarySources",
    "secondarySourceVersions", "cache", "encryptionKey",
)  # fmt: skip
_RETRIED = ("FAILED", "FAULT", "TIMED_OUT")


class BuildOperations:
    """The build operations over one store and the builds that run."""

    def __init__(self, store: Store, builds: Builds, runner: Runner, *, account: str) -> None:
        self._store, self._builds, self._runner, self._account = store, builds, runner, account
        self.projects = Projects(store, account=account, most_builds=lambda: runner.slots.limit)
        self._tokens: dict[tuple[str, str], tuple[Record, str, float]] = {}
        self._lock = threading.Lock()

    def operations(self) -> dict[str, Callable[[Call], dict[str, Any]]]:
        """The operations, by AWS's name."""
        return {
            "StartBuild": self.start_build,
            "StopBuild": self.stop_build,
            "RetryBuild": self.retry_build,
            "BatchGetBuilds": self.batch_get_builds,
            "ListBuilds": self.list_builds,
            "ListBuildsForProject": self.list_builds_for_project,
            "BatchDeleteBuilds": self.batch_delete_builds,
        }

    def start_build(self, call: Call) -> dict[str, Any]:
        return self._once(call, lambda: with_overrides(self.projects.project(call.region, call.params["projectName"]), call.params))

    def retry_build(self, call: Call) -> dict[str, Any]:
        if not call.params.get("id"):
            raise AwsError("InvalidInputException", "Build ID is required")
        before = self._build(call.region, call.params["id"])
        if not before["buildComplete"]:
            raise AwsError("InvalidInputException", f"Build {before['id']} is still in progress and can't be retried")
        return self._once(call, lambda: self._again(call.region, before))

    def _once(self, call: Call, project: Callable[[], Record]) -> dict[str, Any]:
        """Start a build; a request that repeats another's token within five minutes gets that one's build."""
        token = call.params.get("idempotencyToken")
        with self._lock:
            known = self._tokens.get((call.region, token)) if token else None
            if known and time.monotonic() - known[2] < _TOKEN_SECONDS:
                if known[0] != call.params:
                    raise AwsError("InvalidInputException", "Idempotency token was used with other parameters before")
                return {"build": self._build(call.region, known[1])}
            record = self._start(call.region, project())
            if token:
                old = time.monotonic() - _TOKEN_SECONDS
                self._tokens = {key: value for key, value in self._tokens.items() if value[2] > old}
                self._tokens[call.region, token] = (call.params, record["id"], time.monotonic())
            return {"build": record}

    def _again(self, region: str, before: Record) -> Record:
        """The project as an earlier build saw it."""
        project = self.projects.project(region, before["projectName"])
        return {**project, **{key: before[key] for key in _REPEATED if key in before}, **before.get("_plan", {})}

    def _start(self, region: str, project: Record, *, retry_of: Record | None = None) -> Record:
        check_project(project, most_builds=self._runner.slots.limit, account=self._account)
        self._check_limits(region, project)
        record = build_record(project, number=self._builds.next_number(region, project["name"]), region=region, account=self._account)
        limit = project.get("autoRetryLimit", 0)
        if limit:
            number = retry_of["autoRetryConfig"]["autoRetryNumber"] + 1 if retry_of else 0
            previous = {"previousAutoRetry": retry_of["arn"]} if retry_of else {}
            record["autoRetryConfig"] = {"autoRetryLimit": limit, "autoRetryNumber": number, **previous}
        self._store.add(region, BUILD, record["id"], record)
        self._runner.start(record, region, ended=lambda build_id: self._auto_retry(region, build_id))
        return record

    def _check_limits(self, region: str, project: Record) -> None:
        limit, slots = project.get("concurrentBuildLimit", -1), self._runner.slots
        if 0 < limit <= self._builds.unfinished(region, project["name"]):
            raise AwsError("AccountLimitExceededException", f"Cannot have more than {limit} active builds for the project")
        if slots.waiting >= slots.limit * _QUEUE_FACTOR:
            raise AwsError(
                "AccountLimitExceededException", f"Cannot have more than {slots.limit * _QUEUE_FACTOR} builds in queue for the account"
            )

    def _auto_retry(self, region: str, build_id: str) -> None:
        """A failed build is tried again as often as its project says."""
        before = self._store.get(region, BUILD, build_id)
        config = (before or {}).get("autoRetryConfig", {})
        if before is None or before["buildStatus"] not in _RETRIED or config.get("autoRetryNumber", 0) >= config.get("autoRetryLimit", 0):
            return
        try:
            with self._lock:
                again = self._start(region, self._again(region, before), retry_of=before)
        except AwsError:  # the project is gone or full: there is no next try
            return
        self._store.update(region, BUILD, build_id, autoRetryConfig={**config, "nextAutoRetry": again["arn"]})

    def stop_build(self, call: Call) -> dict[str, Any]:
        record = self._build(call.region, call.params["id"])
        self._runner.stop(record["id"])
        return {"build": self._build(call.region, record["id"])}

    def batch_get_builds(self, call: Call) -> dict[str, Any]:
        found = {given: self._store.get(call.region, BUILD, bare(given)) for given in call.params["ids"]}
        return {
            "builds": [build for build in found.values() if build],
            "buildsNotFound": [given for given, build in found.items() if not build],
        }

    def list_builds(self, call: Call) -> dict[str, Any]:
        return self._ids(call, self._store.rows(call.region, BUILD))

    def list_builds_for_project(self, call: Call) -> dict[str, Any]:
        project = self.projects.project(call.region, call.params["projectName"])
        return self._ids(call, [row for row in self._store.rows(call.region, BUILD) if row["projectName"] == project["name"]])

    def _ids(self, call: Call, builds: list[Record]) -> dict[str, Any]:
        newest_first = call.params.get("sortOrder", "DESCENDING") == "DESCENDING"
        builds.sort(key=lambda build: build["startTime"], reverse=newest_first)
        return page(call, (build["id"] for build in builds), "ids")

    def batch_delete_builds(self, call: Call) -> dict[str, Any]:
        deleted: list[str] = []
        kept: list[Record] = []
        for given in call.params["ids"]:
            record = self._store.get(call.region, BUILD, bare(given))
            if record is None:
                kept.append({"id": given, "statusCode": "BUILD_NOT_FOUND"})
            elif not record["buildComplete"]:
                kept.append({"id": given, "statusCode": "BUILD_IN_PROGRESS"})
            else:
                self._store.remove(call.region, BUILD, record["id"])
                deleted.append(record["arn"])
        return {"buildsDeleted": deleted, "buildsNotDeleted": kept}

    def _build(self, region: str, given: str) -> Record:
        if ":" not in bare(given):  # the text is from memory
            raise AwsError("InvalidInputException", "Invalid build ID provided")
        record = self._store.get(region, BUILD, bare(given))
        if record is None:
            arn = f"arn:aws:codebuild:{region}:{self._account}:build/{bare(given)}"
            raise AwsError("ResourceNotFoundException", f"Build not found: {arn}")
        return record
