"""The variables a build's commands see, and nothing of the server's own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from pytest_mlcc.localaws.services.codebuild.buildspec import Buildspec
from pytest_mlcc.localaws.store import Record

__all__ = ["Environment", "ResolveError"]


class ResolveError(Exception):
    """A secret or parameter that a build names can't be read."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Environment:
    """How builds are equipped: the local AWS with keys that are worth nothing elsewhere, and our commands first on PATH.

    ``guard`` is a directory whose ``sitecustomize.py`` refuses every call of a build's Python that would leave the machine.
    """

    endpoint_url: str
    account: str
    region: str
    commands: Path
    guard: Path | None = None

    def variables(self, record: Record, spec: Buildspec, *, sources: Mapping[str, Path], work: Path) -> dict[str, str]:
        """Everything a command sees; what StartBuild says beats the project, the project beats the buildspec.

        ``sources`` are the directories of the sources by their identifiers; the primary one's is empty.
        """
        plain = {
            variable["name"]: variable["value"]
            for variable in record["environment"].get("environmentVariables", [])
            if variable.get("type", "PLAINTEXT") == "PLAINTEXT"
        }
        resolved = record.get("_resolved", {})
        return {**self._base(work), **self._codebuild(record, sources), **spec.variables, **plain, **resolved}

    def _base(self, work: Path) -> dict[str, str]:
        path = os.pathsep.join([str(self.commands), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ") if name in os.environ}
        guard = {"PYTHONPATH": str(self.guard), "MLCC_PINNED_ENDPOINT": self.endpoint_url} if self.guard else {}
        return {
            **kept,
            **guard,
            "PATH": path,
            "HOME": str(work / "home"),
            "TMPDIR": str(work / "tmp"),
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.account,
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def _codebuild(self, record: Record, sources: Mapping[str, Path]) -> dict[str, str]:
        directories = {f"CODEBUILD_SRC_DIR_{identifier}": str(path) for identifier, path in sources.items() if identifier}
        return {
            **directories,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "CODEBUILD_CI": "true",
            "CODEBUILD_BUILD_ID": record["id"],
            "CODEBUILD_BUILD_ARN": record["arn"],
            "CODEBUILD_BUILD_NUMBER": str(record["buildNumber"]),
            "CODEBUILD_BUILD_IMAGE": record["environment"].get("image", ""),
            "CODEBUILD_BUILD_SUCCEEDING": "1",
            "CODEBUILD_INITIATOR": record["initiator"],
            "CODEBUILD_KMS_KEY_ID": record.get("encryptionKey", ""),
            "CODEBUILD_LOG_PATH": record["logs"].get("streamName", ""),
            "CODEBUILD_PROJECT_ARN": record["arn"].replace(":build/", ":project/").rpartition(":")[0],
            "CODEBUILD_RESOLVED_SOURCE_VERSION": record.get("sourceVersion", ""),
            "CODEBUILD_SOURCE_REPO_URL": record["source"].get("location", ""),
            "CODEBUILD_SOURCE_VERSION": record.get("sourceVersion", ""),
            "CODEBUILD_SRC_DIR": str(sources[""]),
            "CODEBUILD_START_TIME": str(int(record["startTime"] * 1000)),
        }

    def resolve(self, record: Record, spec: Buildspec, *, client: Callable[[str], Any]) -> None:
        """Read the secrets and parameters a build names; they stay in memory, never in the record on disk.

        Those of the buildspec are not read where the project or StartBuild has another value. Raises ResolveError.
        """
        given = record["environment"].get("environmentVariables", [])
        others = {variable["name"] for variable in given}
        named = {
            kind: {name: source for name, source in sources.items() if name not in others}
            for kind, sources in (("SECRETS_MANAGER", spec.secrets_manager), ("PARAMETER_STORE", spec.parameter_store))
        }
        for variable in given:
            if variable.get("type", "PLAINTEXT") != "PLAINTEXT":
                named[variable["type"]][variable["name"]] = variable["value"]
        secrets = {name: _secret(client, source) for name, source in named["SECRETS_MANAGER"].items()}
        parameters = {name: _parameter(client, source) for name, source in named["PARAMETER_STORE"].items()}
        record["_resolved"] = {**parameters, **secrets}


def _secret(client: Callable[[str], Any], source: str) -> str:
    """``secret-id:json-key:version-stage:version-id``; the id may be an ARN, which has six colons of its own."""
    head, parts = "", source.split(":")
    if source.startswith("arn:"):
        head, parts = ":".join(parts[:7]), ["", *parts[7:]]
    secret_id, key, stage, version = [head or parts[0], *parts[1:], "", "", ""][:4]
    asked = {"VersionStage": stage, "VersionId": version}
    value = _read(
        "Secrets Manager", lambda: client("secretsmanager").get_secret_value(SecretId=secret_id, **{k: v for k, v in asked.items() if v})
    ).get("SecretString")
    if value is None:
        raise ResolveError("SECRET_NOT_FOUND", f"Secrets Manager: {secret_id} holds no text")
    if not key:
        return str(value)
    try:
        found = json.loads(value)[key]
        return found if isinstance(found, str) else json.dumps(found)
    except (ValueError, KeyError, TypeError) as error:
        raise ResolveError("SECRET_NOT_FOUND", f"Secrets Manager: {secret_id} has no JSON key {key}") from error


def _parameter(client: Callable[[str], Any], name: str) -> str:
    answer = _read("Parameter Store", lambda: client("ssm").get_parameter(Name=name, WithDecryption=True))
    return str(answer["Parameter"]["Value"])


def _read(service: str, call: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        return call()
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        raise ResolveError(code, f"{service} Error Message: {code}: {message}") from error
