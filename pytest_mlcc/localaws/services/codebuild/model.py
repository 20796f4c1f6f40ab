"""Records of projects and builds, and how a build's facts come about."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from pytest_mlcc.localaws.store import Record, Store

__all__ = ["BUILD", "PROJECT", "Builds", "build_record", "merged_environment", "with_overrides"]

PROJECT, BUILD = "project", "build"
_BUILDS_KEPT = 300
_CONSOLE = "https://console.aws.amazon.com/cloudwatch/home?region={region}"

#: StartBuild's overrides and the member of the project each replaces.
_OVERRIDES: dict[str, tuple[str, ...]] = {
    "buildspecOverride": ("source", "buildspec"),
    "sourceTypeOverride": ("source", "type"),
    "sourceLocationOverride": ("source", "location"),
    "artifactsOverride": ("artifacts",),
    "imageOverride": ("environment", "image"),
    "computeTypeOverride": ("environment", "computeType"),
    "environmentTypeOverride": ("environment", "type"),
    "privilegedModeOverride": ("environment", "privilegedMode"),
    "certificateOverride": ("environment", "certificate"),
    "serviceRoleOverride": ("serviceRole",),
    "timeoutInMinutesOverride": ("timeoutInMinutes",),
    "queuedTimeoutInMinutesOverride": ("queuedTimeoutInMinutes",),
    "logsConfigOverride": ("logsConfig",),
    "encryptionKeyOverride": ("encryptionKey",),
    "sourceVersion": ("sourceVersion",),
}


def with_overrides(project: Record, given: Record) -> Record:
    """The project as one build sees it: a StartBuild request's overrides applied (``project`` is left alone)."""
    merged: Record = {key: dict(value) if isinstance(value, dict) else value for key, value in project.items()}
    for name, path in _OVERRIDES.items():
        if name in given:
            place = merged
            for step in path[:-1]:
                place = place.setdefault(step, {})
            place[path[-1]] = given[name]
    environment = merged.setdefault("environment", {})
    environment["environmentVariables"] = merged_environment(
        environment.get("environmentVariables", []), given.get("environmentVariablesOverride", [])
    )
    return merged


def merged_environment(base: Iterable[Record], override: Iterable[Record]) -> list[Record]:
    """Variables by name; an override replaces the whole variable, its type too."""
    return list({variable["name"]: variable for variable in [*base, *override]}.values())


def build_record(project: Record, *, number: int, region: str, account: str) -> Record:
    """A build that was just asked for. Times are seconds since 1970."""
    now, name = time.time(), project["name"]
    unique = str(uuid.uuid4())
    build_id = f"{name}:{unique}"
    cloudwatch = project.get("logsConfig", {}).get("cloudWatchLogs", {})
    group = cloudwatch.get("groupName", f"/aws/codebuild/{name}")
    stream = f"{cloudwatch['streamName']}/{unique}" if cloudwatch.get("streamName") else unique
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
        "artifacts": {"location": ""},
        "environment": project["environment"],
        "serviceRole": project.get("serviceRole", ""),
        "logs": {
            "groupName": group,
            "streamName": stream,
            "deepLink": f"{_CONSOLE.format(region=region)}#logsV2:log-groups/log-group/{_console(group)}/log-events/{_console(stream)}",
            "cloudWatchLogsArn": f"arn:aws:logs:{region}:{account}:log-group:{group}:log-stream:{stream}",
            "cloudWatchLogs": {"status": "ENABLED", "groupName": group, "streamName": stream},
        },
        "timeoutInMinutes": project.get("timeoutInMinutes", 60),
        "queuedTimeoutInMinutes": project.get("queuedTimeoutInMinutes", 480),
        "initiator": f"{account}/user",
        "encryptionKey": project.get("encryptionKey", f"arn:aws:kms:{region}:{account}:alias/aws/s3"),
        "exportedEnvironmentVariables": [],
        **({"sourceVersion": project["sourceVersion"]} if project.get("sourceVersion") else {}),
    }


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

    def finish(self, region: str, build_id: str, status: str, **facts: Any) -> None:
        """The build is over; nothing changes a build that is over already."""

        def edit(record: Record) -> None:
            if record["buildComplete"]:
                return
            _end_last_phase(record, status, [])
            record["phases"].append({"phaseType": "COMPLETED", "startTime": time.time()})
            record.update(buildStatus=status, buildComplete=True, currentPhase="COMPLETED", endTime=time.time(), **facts)

        self.store.change(region, BUILD, build_id, edit)

    def fault_unfinished(self) -> None:
        """After a restart no build runs: those that were running ended with the server."""
        for region in self.store.regions():
            for record in self.store.rows(region, BUILD):
                if not record["buildComplete"]:
                    self.finish(region, record["id"], "FAULT")

    def forget_old(self) -> None:
        """Keep the newest builds only, as AWS forgets those of a year ago: each run adds a dozen."""
        for region in self.store.regions():
            for record in self.store.rows(region, BUILD)[:-_BUILDS_KEPT]:
                self.store.remove(region, BUILD, record["id"])


def _end_last_phase(record: Record, status: str, contexts: list[dict[str, str]]) -> None:
    phase = record["phases"][-1]
    if "endTime" in phase:
        return
    now = time.time()
    phase.update(phaseStatus=status, endTime=now, durationInSeconds=int(now - phase["startTime"]))
    if contexts:
        phase["contexts"] = contexts
