"""CodeBuild's operations: what clients ask for, in AWS's words."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.session import get_session

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.images.commands import install_commands
from pytest_mlcc.localaws.services.codebuild.environment import Environment
from pytest_mlcc.localaws.services.codebuild.model import BUILD, PROJECT, Builds, build_record, with_overrides
from pytest_mlcc.localaws.services.codebuild.run import BuildRun
from pytest_mlcc.localaws.store import DuplicateRecordError, Record, Store
from pytest_mlcc.localaws.wire import AwsError, Call, Service

__all__ = ["CodeBuild", "CodeBuildService", "service"]

_CLOSE_SECONDS = 5.0
#: Named by path, not imported: it is for the Pythons of builds, not for this one.
_GUARD = Path(__file__).parents[3] / "aws" / "site"


class CodeBuildService(Service):
    """The API service; builds that ran when the server ended are shown as ended."""

    builds: Builds

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take back what ``snapshot`` gave before the server stopped."""
        super().restore(data)
        self.builds.fault_unfinished()
        self.builds.forget_old()


def service(context: ServerContext) -> CodeBuildService:
    """CodeBuild of this server."""
    store = Store(context.changed)
    api = CodeBuild(context, store)
    built = CodeBuildService("codebuild", api.operations(), region=context.region, store=store,
                             count_activity=api.activity, on_close=api.close)  # fmt: skip
    built.builds = api.builds
    return built


class CodeBuild:
    """The operations over one store of projects and builds, and the builds that run."""

    def __init__(self, context: ServerContext, store: Store) -> None:
        self._context, self._store = context, store
        self._commands = install_commands(context.state_dir / "bin")
        self._scratch = context.state_dir / "builds"
        shutil.rmtree(self._scratch, ignore_errors=True)  # what a killed server left
        self._scratch.mkdir(parents=True)
        self.builds = Builds(store)
        self._runs: dict[str, tuple[BuildRun, threading.Thread]] = {}
        self._lock = threading.Lock()
        self._session = get_session()

    def operations(self) -> dict[str, Callable[[Call], dict[str, Any]]]:
        """Every operation that is served, by AWS's name."""
        return {
            "CreateProject": self.create_project,
            "UpdateProject": self.update_project,
            "DeleteProject": self.delete_project,
            "BatchGetProjects": self.batch_get_projects,
            "ListProjects": self.list_projects,
            "StartBuild": self.start_build,
            "StopBuild": self.stop_build,
            "RetryBuild": self.retry_build,
            "BatchGetBuilds": self.batch_get_builds,
            "ListBuilds": self.list_builds,
            "ListBuildsForProject": self.list_builds_for_project,
            "BatchDeleteBuilds": self.batch_delete_builds,
        }

    def activity(self) -> dict[str, int]:
        """How many builds run."""
        with self._lock:
            return {"builds": len(self._runs)}

    def close(self) -> None:
        """End every build; their records say FAULT, because the server ended and not they."""
        with self._lock:
            running = list(self._runs.values())
        for run, _ in running:
            run.stop("FAULT")
        deadline = time.monotonic() + _CLOSE_SECONDS
        for _, thread in running:
            thread.join(max(0.0, deadline - time.monotonic()))

    # --- projects

    def create_project(self, call: Call) -> dict[str, Any]:
        name, now = call.params["name"], time.time()
        _check_source(call.params["source"])
        defaults = {"timeoutInMinutes": 60, "queuedTimeoutInMinutes": 480, "tags": [], "cache": {"type": "NO_CACHE"},
                    "badge": {"badgeEnabled": False}, "projectVisibility": "PRIVATE"}  # fmt: skip
        arn = self._project_arn(call.region, name)
        record = {**defaults, **call.params, "arn": arn, "created": now, "lastModified": now}
        record.pop("badgeEnabled", None)
        try:
            self._store.add(call.region, PROJECT, name, record)
        except DuplicateRecordError:
            raise AwsError("ResourceAlreadyExistsException", f"Project already exists: {arn}") from None
        return {"project": record}

    def update_project(self, call: Call) -> dict[str, Any]:
        self._project(call.region, call.params["name"])
        if "source" in call.params:
            _check_source(call.params["source"])
        changes = {key: value for key, value in call.params.items() if key != "name"} | {"lastModified": time.time()}
        return {"project": self._store.update(call.region, PROJECT, call.params["name"], **changes)}

    def delete_project(self, call: Call) -> dict[str, Any]:
        name = _bare(call.params["name"])
        self._store.remove(call.region, PROJECT, name)  # AWS answers the same for a project that is not there
        for record in self._store.rows(call.region, BUILD):
            if record["projectName"] == name:
                self._delete_build(call.region, record["id"])
        return {}

    def batch_get_projects(self, call: Call) -> dict[str, Any]:
        found = {name: self._store.get(call.region, PROJECT, _bare(name)) for name in call.params["names"]}
        return {
            "projects": [project for project in found.values() if project],
            "projectsNotFound": [name for name, project in found.items() if not project],
        }

    def list_projects(self, call: Call) -> dict[str, Any]:
        key = {"NAME": "name", "CREATED_TIME": "created", "LAST_MODIFIED_TIME": "lastModified"}[call.params.get("sortBy", "NAME")]
        projects = sorted(self._store.rows(call.region, PROJECT), key=lambda project: project[key])
        if call.params.get("sortOrder") == "DESCENDING":
            projects.reverse()
        return _page(call, [project["name"] for project in projects], "projects")

    # --- builds

    def start_build(self, call: Call) -> dict[str, Any]:
        project = with_overrides(self._project(call.region, call.params["projectName"]), call.params)
        return {"build": self._start(call.region, project)}

    def retry_build(self, call: Call) -> dict[str, Any]:
        before = self._build(call.region, call.params.get("id", ""))
        if not before["buildComplete"]:
            raise AwsError("InvalidInputException", f"Build {before['id']} is still in progress")
        project = self._project(call.region, before["projectName"])
        again = {key: before[key] for key in ("source", "environment", "timeoutInMinutes", "serviceRole")}
        return {"build": self._start(call.region, {**project, **again})}

    def _start(self, region: str, project: Record) -> Record:
        _check_source(project["source"])
        count = sum(record["projectName"] == project["name"] for record in self._store.rows(region, BUILD))
        record = build_record(project, number=count + 1, region=region, account=self._context.account)
        self._store.add(region, BUILD, record["id"], record)
        # what only the running build needs stays out of the record on disk
        live = {**record, "_artifacts": project.get("artifacts", {})}
        run = BuildRun(
            live, region, self.builds, self._environment(region), self._client(region), record["timeoutInMinutes"] * 60, self._scratch
        )
        thread = threading.Thread(target=self._run, args=(record["id"], run), name=f"build {record['id']}", daemon=True)
        with self._lock:
            self._runs[record["id"]] = (run, thread)
        thread.start()
        return record

    def _run(self, build_id: str, run: BuildRun) -> None:
        try:
            run()
        finally:
            with self._lock:
                self._runs.pop(build_id, None)

    def _environment(self, region: str) -> Environment:
        context = self._context
        return Environment(endpoint_url=context.endpoint_url, account=context.account, region=region, commands=self._commands, guard=_GUARD)

    def _client(self, region: str) -> Callable[[str], Any]:
        context = self._context
        config = Config(s3={"addressing_style": "path"}, connect_timeout=10, read_timeout=60)

        def client(name: str) -> Any:
            with self._lock:  # botocore builds clients from tables it fills lazily
                return self._session.create_client(
                    name, region_name=region, endpoint_url=context.endpoint_url, aws_access_key_id=context.account,
                    aws_secret_access_key="local", config=config,  # noqa: S106 - the local AWS checks no signature
                )  # fmt: skip

        return client

    def stop_build(self, call: Call) -> dict[str, Any]:
        record = self._build(call.region, call.params["id"])
        with self._lock:
            running = self._runs.get(record["id"])
        if running:
            run, thread = running
            run.stop()
            thread.join(_CLOSE_SECONDS)
        return {"build": self._build(call.region, record["id"])}

    def batch_get_builds(self, call: Call) -> dict[str, Any]:
        found = {given: self._store.get(call.region, BUILD, _bare(given)) for given in call.params["ids"]}
        return {
            "builds": [build for build in found.values() if build],
            "buildsNotFound": [given for given, build in found.items() if not build],
        }

    def list_builds(self, call: Call) -> dict[str, Any]:
        return self._build_ids(call, self._store.rows(call.region, BUILD))

    def list_builds_for_project(self, call: Call) -> dict[str, Any]:
        project = self._project(call.region, call.params["projectName"])
        return self._build_ids(call, [row for row in self._store.rows(call.region, BUILD) if row["projectName"] == project["name"]])

    def _build_ids(self, call: Call, builds: list[Record]) -> dict[str, Any]:
        newest_first = call.params.get("sortOrder", "DESCENDING") == "DESCENDING"
        builds.sort(key=lambda build: build["startTime"], reverse=newest_first)
        return _page(call, [build["id"] for build in builds], "ids")

    def batch_delete_builds(self, call: Call) -> dict[str, Any]:
        deleted: list[str] = []
        missing: list[Record] = []
        for given in call.params["ids"]:
            record = self._store.get(call.region, BUILD, _bare(given))
            if record is None:
                missing.append({"id": given, "statusCode": "BUILD_NOT_FOUND"})
            elif not record["buildComplete"]:
                missing.append({"id": given, "statusCode": "BUILD_IN_PROGRESS"})
            else:
                self._delete_build(call.region, record["id"])
                deleted.append(record["arn"])
        return {"buildsDeleted": deleted, "buildsNotDeleted": missing}

    def _delete_build(self, region: str, build_id: str) -> None:
        with self._lock:
            running = self._runs.get(build_id)
        if running:
            running[0].stop()
        self._store.remove(region, BUILD, build_id)

    def _project_arn(self, region: str, name: str) -> str:
        return f"arn:aws:codebuild:{region}:{self._context.account}:project/{name}"

    def _project(self, region: str, name: str) -> Record:
        record = self._store.get(region, PROJECT, _bare(name))
        if record is None:
            arn = self._project_arn(region, _bare(name))
            raise AwsError("ResourceNotFoundException", f"Project cannot be found: {arn}")
        return record

    def _build(self, region: str, given: str) -> Record:
        record = self._store.get(region, BUILD, _bare(given))
        if record is None:
            arn = f"arn:aws:codebuild:{region}:{self._context.account}:build/{_bare(given)}"
            raise AwsError("ResourceNotFoundException", f"Build not found: {arn}")
        return record


def _bare(given: str) -> str:
    """The name or id in what may be an ARN."""
    return given.split("/", 1)[1] if given.startswith("arn:") and "/" in given else given


def _check_source(source: Record) -> None:
    kind = source.get("type")
    if kind not in ("S3", "NO_SOURCE"):
        message = f"Source type {kind} is not offered by the local AWS; S3 and NO_SOURCE are"
        raise AwsError("InvalidInputException", message)
    if kind == "S3" and not source.get("location"):
        raise AwsError("InvalidInputException", "Project source location is required")
    if kind == "NO_SOURCE" and not source.get("buildspec"):
        raise AwsError("InvalidInputException", "buildspec is required for NO_SOURCE projects")


def _page(call: Call, items: list[str], key: str) -> dict[str, Any]:
    start = int(call.params.get("nextToken", "0"))
    end = start + 100
    return {key: items[start:end], **({"nextToken": str(end)} if end < len(items) else {})}
