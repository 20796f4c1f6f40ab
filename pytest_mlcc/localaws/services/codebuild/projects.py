"""CodeBuild's operations on projects."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from pytest_mlcc.localaws.services.codebuild.model import PROJECT
from pytest_mlcc.localaws.store import DuplicateRecordError, Record, Store
from pytest_mlcc.localaws.wire import AwsError, Call

__all__ = ["Projects", "bare", "check_project", "page"]

_PAGE = 100
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9\-_]{1,254}$")
_IDENTIFIER = re.compile(r"^[A-Za-z0-9_]{1,127}$")
_MOST_SECONDARY = 12
_SORT_KEYS = {"NAME": "name", "CREATED_TIME": "created", "LAST_MODIFIED_TIME": "lastModified"}


class Projects:
    """The project operations over one store. ``most_builds()`` is how many the account may run at once."""

    def __init__(self, store: Store, *, account: str, most_builds: Callable[[], int]) -> None:
        self._store, self._account, self._most_builds = store, account, most_builds

    def operations(self) -> dict[str, Callable[[Call], dict[str, Any]]]:
        """The operations, by AWS's name."""
        return {
            "CreateProject": self.create_project,
            "UpdateProject": self.update_project,
            "DeleteProject": self.delete_project,
            "BatchGetProjects": self.batch_get_projects,
            "ListProjects": self.list_projects,
            "InvalidateProjectCache": self.invalidate_project_cache,
            "UpdateProjectVisibility": self.update_project_visibility,
        }

    def create_project(self, call: Call) -> dict[str, Any]:
        name, now = call.params["name"], time.time()
        if not _NAME.match(name):
            raise AwsError("InvalidInputException", f"Project name {name} is invalid: it must match {_NAME.pattern}")
        check_project(call.params, most_builds=self._most_builds(), account=self._account)
        defaults = {"timeoutInMinutes": 60, "queuedTimeoutInMinutes": 480, "tags": [], "cache": {"type": "NO_CACHE"},
                    "encryptionKey": f"arn:aws:kms:{call.region}:{self._account}:alias/aws/s3",
                    "badge": {"badgeEnabled": call.params.get("badgeEnabled", False)}, "projectVisibility": "PRIVATE"}  # fmt: skip
        arn = self._arn(call.region, name)
        record = {**defaults, **call.params, "arn": arn, "created": now, "lastModified": now}
        record.pop("badgeEnabled", None)
        try:
            self._store.add(call.region, PROJECT, name, _tidied(record))
        except DuplicateRecordError:
            raise AwsError("ResourceAlreadyExistsException", f"Project already exists: {arn}") from None
        return {"project": self.project(call.region, name)}

    def update_project(self, call: Call) -> dict[str, Any]:
        name = self.project(call.region, call.params["name"])["name"]
        given = {key: value for key, value in call.params.items() if key != "name"}
        check_project(given, most_builds=self._most_builds(), account=self._account)
        if "badgeEnabled" in given:
            given["badge"] = {"badgeEnabled": given.pop("badgeEnabled")}

        def edit(record: Record) -> None:
            record.update(given, lastModified=time.time())
            record.update(_tidied(record))
            if record.get("concurrentBuildLimit", 0) < 0:  # -1 takes the limit away
                del record["concurrentBuildLimit"]

        return {"project": self._store.change(call.region, PROJECT, name, edit)}

    def delete_project(self, call: Call) -> dict[str, Any]:
        """Its builds stay, as on AWS, which answers the same for a project that is not there."""
        self._store.remove(call.region, PROJECT, bare(call.params["name"]))
        return {}

    def batch_get_projects(self, call: Call) -> dict[str, Any]:
        found = {name: self._store.get(call.region, PROJECT, bare(name)) for name in call.params["names"]}
        return {
            "projects": [project for project in found.values() if project],
            "projectsNotFound": [name for name, project in found.items() if not project],
        }

    def list_projects(self, call: Call) -> dict[str, Any]:
        key = _SORT_KEYS[call.params.get("sortBy", "NAME")]
        projects = sorted(self._store.rows(call.region, PROJECT), key=lambda project: project[key])
        if call.params.get("sortOrder") == "DESCENDING":
            projects.reverse()
        return page(call, [project["name"] for project in projects], "projects")

    def invalidate_project_cache(self, call: Call) -> dict[str, Any]:
        self.project(call.region, call.params["projectName"])  # no build keeps a cache, so there is nothing to drop
        return {}

    def update_project_visibility(self, call: Call) -> dict[str, Any]:
        project, visibility = self.project(call.region, call.params["projectArn"]), call.params["projectVisibility"]
        self._store.update(call.region, PROJECT, project["name"], projectVisibility=visibility)
        return {"projectArn": project["arn"], "projectVisibility": visibility}

    def project(self, region: str, name: str) -> Record:
        """One project by name or ARN; AWS's error where there is none."""
        record = self._store.get(region, PROJECT, bare(name))
        if record is None:
            raise AwsError("ResourceNotFoundException", f"Project cannot be found: {self._arn(region, bare(name))}")
        return record

    def _arn(self, region: str, name: str) -> str:
        return f"arn:aws:codebuild:{region}:{self._account}:project/{name}"


def check_project(given: Record, *, most_builds: int, account: str) -> None:
    """What a project or a build may not ask for. Raises InvalidInputException."""
    role = given.get("serviceRole", "")
    if role.startswith("arn:") and f":{account}:" not in role:
        raise AwsError("InvalidInputException", "Invalid service role: Service role account ID does not match caller's account")
    if "source" in given:
        _check_source(given["source"], primary=True)
    for source in given.get("secondarySources", []):
        _check_source(source, primary=False)
    _check_identifiers("source", [each.get("sourceIdentifier", "") for each in given.get("secondarySources", [])])
    _check_identifiers("artifact", [each.get("artifactIdentifier", "") for each in given.get("secondaryArtifacts", [])])
    for artifacts in [*([given["artifacts"]] if "artifacts" in given else []), *given.get("secondaryArtifacts", [])]:
        _check_artifacts(artifacts)
    limit = given.get("concurrentBuildLimit", 1)
    if limit > most_builds:
        message = f"Project-level concurrent build limit cannot exceed the account-level concurrent build limit of {most_builds}."
        raise AwsError("InvalidInputException", message)
    if limit == 0 or limit < -1:
        raise AwsError("InvalidInputException", f"Project-level concurrent build limit must be greater than 0, not {limit}")
    s3_logs = given.get("logsConfig", {}).get("s3Logs", {})
    if s3_logs.get("status") == "ENABLED" and not s3_logs.get("location"):
        raise AwsError("InvalidInputException", "S3 logs location is required when S3 logs are enabled")


def _check_source(source: Record, *, primary: bool) -> None:
    kind = source.get("type")
    if kind not in ("S3", "NO_SOURCE"):
        message = f"Source type {kind} is not offered by the local AWS; S3 and NO_SOURCE are"
        raise AwsError("InvalidInputException", message)
    if kind == "S3" and "/" not in source.get("location", "").removeprefix("arn:aws:s3:::"):
        raise AwsError(
            "InvalidInputException", "Project source location is required, as bucket/path/to/archive.zip or bucket/path/to/folder/"
        )
    if kind == "NO_SOURCE" and (not primary or not source.get("buildspec")):
        what = "buildspec is required for NO_SOURCE projects" if primary else "A secondary source can't be of type NO_SOURCE"
        raise AwsError("InvalidInputException", what)


def _check_identifiers(what: str, identifiers: list[str]) -> None:
    if len(identifiers) > _MOST_SECONDARY:
        raise AwsError("InvalidInputException", f"A project can't have more than {_MOST_SECONDARY} secondary {what}s")
    bad = [each for each in identifiers if not _IDENTIFIER.match(each)]
    if bad:
        message = f"Invalid {what} identifier {bad[0]!r}: a secondary {what} needs one of letters, digits and underscores"
        raise AwsError("InvalidInputException", message)
    if len(set(identifiers)) != len(identifiers):
        raise AwsError("InvalidInputException", f"Each secondary {what} needs an identifier of its own")


def _check_artifacts(artifacts: Record) -> None:
    kind = artifacts.get("type")
    if kind == "S3" and not artifacts.get("location"):
        raise AwsError("InvalidInputException", "Invalid artifacts: artifact location is required for type S3")
    if kind == "CODEPIPELINE":
        raise AwsError("InvalidInputException", "Artifacts type CODEPIPELINE is for builds that CodePipeline starts")


def _tidied(record: Record) -> Record:
    """Artifacts with the members AWS fills in."""
    artifacts = dict(record["artifacts"])
    if artifacts.get("type") == "S3":
        defaults = {"name": record["name"], "packaging": "NONE", "namespaceType": "NONE", "encryptionDisabled": False}
        artifacts = {**defaults, **artifacts}
    return {**record, "artifacts": artifacts}


def bare(given: str) -> str:
    """The name or id in what may be an ARN."""
    return given.split("/", 1)[1] if given.startswith("arn:") and "/" in given else given


def page(call: Call, items: Iterable[str], key: str) -> dict[str, Any]:
    """One page of a list: 100 items, or ``maxResults``; the token is the index of the next page's first item."""
    listed, token = list(items), call.params.get("nextToken", "0")
    if not token.isdigit():
        raise AwsError("InvalidInputException", "Invalid next token")
    start = int(token)
    end = start + min(_PAGE, call.params.get("maxResults", _PAGE))
    return {key: listed[start:end], **({"nextToken": str(end)} if end < len(listed) else {})}
