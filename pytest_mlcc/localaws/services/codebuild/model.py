"""Records of projects and builds, and how a build's facts come about."""

from __future__ import annotations

import time
import uuid
from typing import Any
from urllib.parse import quote

from pytest_mlcc.localaws.services.codebuild.artifacts import planned
from pytest_mlcc.localaws.store import Record, Store

__all__ = ["BUILD", "PROJECT", "Builds", "build_record"]

PROJECT, BUILD = "project", "build"
_BUILDS_KEPT = 300
_CONSOLE = "https://console.aws.amazon.com/{service}/home?region={region}"
#: Members of the project that a build's record shows as they are.
_SHOWN = ("sourceVersion", "secondarySources", "secondarySourceVersions", "cache", "vpcConfig", "fileSystemLocations")
#: Members that a build needs, or that RetryBuild repeats, but no answer shows.
_PLANNED = ("artifacts", "secondaryArtifacts", "logsConfig", "autoRetryLimit")


def build_record(project: Record, *, number: int, region: str, account: str) -> Record:
    """A build that was just asked for. Times are seconds since 1970."""
    now, name = time.time(), project["name"]
    build_id = f"{name}:{uuid.uuid4()}"
    return {
        "id": build_id,
        "arn": f"arn:aws:codebuild:{region}:{account}:build/{build_id}",
        "buildNumber": number,
        "startTime": now,
        "currentPhase": "QUEUED",
        "buildStatus": "IN_PROGRESS",
        "buildComplete": False,
        "projectName": name,
        "phases": [
            {"phaseType": "SUBMITTED", "phaseStatus": "SUCCEEDED", "startTime": now, "endTime": now, "durationInSeconds": 0},
            {"phaseType": "QUEUED", "startTime": now},
        ],
        "source": project.get("source", {}),
        "artifacts": planned(project.get("artifacts", {}), build_id),
        "environment": project["environment"],
        "serviceRole": project.get("serviceRole", ""),
        "logs": _logs(project.get("logsConfig", {}), name, build_id.rpartition(":")[2], region=region, account=account),
        "timeoutInMinutes": project.get("timeoutInMinutes", 60),
        "queuedTimeoutInMinutes": project.get("queuedTimeoutInMinutes", 480),
        "initiator": f"{account}/user",
        "encryptionKey": project.get("encryptionKey", f"arn:aws:kms:{region}:{account}:alias/aws/s3"),
        "exportedEnvironmentVariables": [],
        **{key: project[key] for key in _SHOWN if project.get(key)},
        "_plan": {key: project[key] for key in _PLANNED if project.get(key)},
    }


def _logs(config: Record, project: str, unique: str, *, region: str, account: str) -> Record:
    """Where the build's log will be, in CloudWatch Logs and, if asked for, in S3."""
    cloudwatch, s3 = config.get("cloudWatchLogs", {}), config.get("s3Logs", {})
    shown: Record = {
        "cloudWatchLogs": {"status": "ENABLED", **cloudwatch},
        "s3Logs": {"status": "DISABLED", "encryptionDisabled": False, **s3},
    }
    if shown["cloudWatchLogs"]["status"] == "ENABLED":
        group = cloudwatch.get("groupName", f"/aws/codebuild/{project}")
        stream = f"{cloudwatch['streamName']}/{unique}" if cloudwatch.get("streamName") else unique
        link = f"#logsV2:log-groups/log-group/{_console(group)}/log-events/{_console(stream)}"
        shown |= {
            "groupName": group, "streamName": stream, "deepLink": _CONSOLE.format(service="cloudwatch", region=region) + link,
            "cloudWatchLogsArn": f"arn:aws:logs:{region}:{account}:log-group:{group}:log-stream:{stream}",
        }  # fmt: skip
    if shown["s3Logs"]["status"] == "ENABLED":
        place = f"{s3.get('location', '').removeprefix('arn:aws:s3:::').rstrip('/')}/{unique}.gz"
        shown |= {
            "s3LogsArn": f"arn:aws:s3:::{place}",
            "s3DeepLink": f"https://s3.console.aws.amazon.com/s3/object/{place}?region={region}",
        }
    return shown


def _console(name: str) -> str:
    """How the console's addresses write a name: percent-encoded twice, with ``$`` for ``%``."""
    return quote(quote(name, safe=""), safe="").replace("%", "$")


class Builds:
    """The builds on record: how a running one tells its progress, and how all end honestly."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def begin_phase(self, region: str, build_id: str, phase: str) -> None:
        """The build enters a phase; the one before must have ended."""

        def edit(record: Record) -> None:
            record["currentPhase"] = phase
            record["phases"].append({"phaseType": phase, "startTime": time.time()})

        self.store.change(region, BUILD, build_id, edit)

    def end_phase(self, region: str, build_id: str, status: str, contexts: list[dict[str, str]]) -> None:
        """The current phase ends with a status; ``contexts`` say why it failed."""

        def edit(record: Record) -> None:
            _end_last_phase(record, status, contexts)

        self.store.change(region, BUILD, build_id, edit)

    def finish(self, region: str, build_id: str, status: str, *, reason: str = "", **facts: Any) -> None:
        """The build is over; nothing changes a build that is over already. ``reason`` is told with the phase that was cut off."""
        contexts = [{"statusCode": "INTERNAL_SERVICE_ERROR" if status == "FAULT" else "", "message": reason}] if reason else []

        def edit(record: Record) -> None:
            if record["buildComplete"]:
                return
            _end_last_phase(record, status, contexts)
            record["phases"].append({"phaseType": "COMPLETED", "startTime": time.time()})
            record.update(buildStatus=status, buildComplete=True, currentPhase="COMPLETED", endTime=time.time(), **facts)

        self.store.change(region, BUILD, build_id, edit)

    def fault_unfinished(self) -> None:
        """After a restart no build runs: those that were running ended with the server, which is the service's own fault."""
        for region in self.store.regions():
            for record in self.store.rows(region, BUILD):
                if not record["buildComplete"]:
                    self.finish(region, record["id"], "FAULT", reason="The local AWS ended while this build ran.")

    def forget_old(self) -> None:
        """Keep the newest builds only, as AWS forgets those of a year ago: each run adds a dozen."""
        for region in self.store.regions():
            for record in self.store.rows(region, BUILD)[:-_BUILDS_KEPT]:
                self.store.remove(region, BUILD, record["id"])

    def next_number(self, region: str, project: str) -> int:
        """The number of a project's next build: counted up, also over builds that were deleted since."""

        def edit(record: Record) -> None:
            record["_builds"] = record.get("_builds", 0) + 1

        changed = self.store.change(region, PROJECT, project, edit)
        return int(changed["_builds"]) if changed else 1

    def unfinished(self, region: str, project: str) -> int:
        """How many builds of a project are queued or run."""
        return sum(row["projectName"] == project and not row["buildComplete"] for row in self.store.rows(region, BUILD))


def _end_last_phase(record: Record, status: str, contexts: list[dict[str, str]]) -> None:
    phase = record["phases"][-1]
    if "endTime" in phase:
        return
    now = time.time()
    phase.update(phaseStatus=status, endTime=now, durationInSeconds=int(now - phase["startTime"]))
    if contexts:
        phase["contexts"] = contexts
