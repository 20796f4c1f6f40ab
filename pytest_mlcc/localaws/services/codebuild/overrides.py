"""The project as one build sees it: what StartBuild says beats the project."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_mlcc.localaws.store import Record

__all__ = ["merged_environment", "with_overrides"]

#: StartBuild's members and the member of the project each replaces.
_OVERRIDES: dict[str, tuple[str, ...]] = {
    "buildspecOverride": ("source", "buildspec"),
    "sourceTypeOverride": ("source", "type"),
    "sourceLocationOverride": ("source", "location"),
    "sourceAuthOverride": ("source", "auth"),
    "gitCloneDepthOverride": ("source", "gitCloneDepth"),
    "gitSubmodulesConfigOverride": ("source", "gitSubmodulesConfig"),
    "insecureSslOverride": ("source", "insecureSsl"),
    "reportBuildStatusOverride": ("source", "reportBuildStatus"),
    "buildStatusConfigOverride": ("source", "buildStatusConfig"),
    "secondarySourcesOverride": ("secondarySources",),
    "secondarySourcesVersionOverride": ("secondarySourceVersions",),
    "artifactsOverride": ("artifacts",),
    "secondaryArtifactsOverride": ("secondaryArtifacts",),
    "imageOverride": ("environment", "image"),
    "computeTypeOverride": ("environment", "computeType"),
    "environmentTypeOverride": ("environment", "type"),
    "privilegedModeOverride": ("environment", "privilegedMode"),
    "certificateOverride": ("environment", "certificate"),
    "registryCredentialOverride": ("environment", "registryCredential"),
    "imagePullCredentialsTypeOverride": ("environment", "imagePullCredentialsType"),
    "fleetOverride": ("environment", "fleet"),
    "hostKernelOverride": ("environment", "hostKernel"),
    "cacheOverride": ("cache",),
    "serviceRoleOverride": ("serviceRole",),
    "timeoutInMinutesOverride": ("timeoutInMinutes",),
    "queuedTimeoutInMinutesOverride": ("queuedTimeoutInMinutes",),
    "logsConfigOverride": ("logsConfig",),
    "encryptionKeyOverride": ("encryptionKey",),
    "autoRetryLimitOverride": ("autoRetryLimit",),
    "sourceVersion": ("sourceVersion",),
}


def with_overrides(project: Record, given: Record) -> Record:
    """The project with a StartBuild request's overrides applied (``project`` is left alone)."""
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
