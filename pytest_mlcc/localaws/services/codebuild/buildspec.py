"""Buildspec version 0.2: the file that says what a build does.

https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import yaml

__all__ = ["PHASES", "Artifacts", "Buildspec", "BuildspecError", "FailureAction", "OnFailure", "Phase", "parse"]

#: The phases a buildspec may fill, in their order.
PHASES = ("install", "pre_build", "build", "post_build")

_TOP = {"version", "run-as", "env", "proxy", "batch", "phases", "reports", "artifacts", "cache"}
_ENV = {"shell", "variables", "parameter-store", "secrets-manager", "exported-variables", "git-credential-helper"}
_PHASE = {"run-as", "on-failure", "runtime-versions", "commands", "finally", "steps"}
_ARTIFACTS = {
    "files", "name", "discard-paths", "base-directory", "exclude-paths", "enable-symlinks", "s3-prefix", "secondary-artifacts",
}  # fmt: skip
_SHELLS = ("bash", "sh", "/bin/sh")
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_RETRY = re.compile(r"^RETRY(?:-(?P<count>\d+))?(?:-(?P<pattern>.+))?$", re.IGNORECASE | re.DOTALL)
_RETRIES = 3
_MOST_RETRIES = 100


class BuildspecError(ValueError):
    """The buildspec can't be used; the message names every mistake."""


class FailureAction(StrEnum):
    """What a failed phase does."""

    DEFAULT = ""
    ABORT = "ABORT"
    CONTINUE = "CONTINUE"
    RETRY = "RETRY"


@dataclass(frozen=True, slots=True)
class OnFailure:
    """``on-failure``: ABORT, CONTINUE, RETRY, RETRY-<count>, RETRY-<regex> or RETRY-<count>-<regex>."""

    action: FailureAction = FailureAction.DEFAULT
    retries: int = 0
    pattern: str = ".*"
    """What the failed phase must have said, to be tried again."""

    @classmethod
    def parse(cls, text: str) -> OnFailure:
        """Read the value. Raises ValueError that says what is allowed."""
        if text in ("", FailureAction.ABORT, FailureAction.CONTINUE):
            return cls(FailureAction(text))
        match = _RETRY.match(text)
        if match is None:
            raise ValueError(f"must be ABORT, CONTINUE, RETRY, RETRY-count, RETRY-regex or RETRY-count-regex, not {text!r}")
        retries = int(match["count"]) if match["count"] else _RETRIES
        if retries > _MOST_RETRIES:
            raise ValueError(f"a phase is tried again 0 to {_MOST_RETRIES} times, not {retries}")
        pattern = match["pattern"] or ".*"
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return cls(FailureAction.RETRY, retries, pattern)


@dataclass(frozen=True, slots=True)
class Phase:
    """The commands of one phase; ``finally_`` run whatever became of ``commands``."""

    name: str
    commands: tuple[str, ...] = ()
    finally_: tuple[str, ...] = ()
    on_failure: OnFailure = field(default_factory=OnFailure)


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Which files a build hands out, relative to the base directory."""

    files: tuple[str, ...] = ()
    base_directory: str = ""
    discard_paths: bool = False
    name: str = ""
    exclude_paths: tuple[str, ...] = ()
    s3_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Buildspec:
    """A checked buildspec. Secrets and parameters are named by their sources, not resolved."""

    phases: tuple[Phase, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    parameter_store: Mapping[str, str] = field(default_factory=dict)
    secrets_manager: Mapping[str, str] = field(default_factory=dict)
    exported: tuple[str, ...] = ()
    artifacts: Artifacts | None = None
    secondary_artifacts: Mapping[str, Artifacts] = field(default_factory=dict)
    shell: str = "sh"
    """What runs the commands: ``sh`` unless the buildspec asks for ``bash``, as on AWS."""
    keeps_state: bool = True
    """False for version 0.1, where each command begins in a shell of its own."""
    left_undone: tuple[str, ...] = ()
    """What AWS would do and the local AWS does not, a line each."""


def parse(text: str) -> Buildspec:
    """Read a buildspec. Raises BuildspecError with all mistakes."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BuildspecError(f"the buildspec is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise BuildspecError("the buildspec is empty or no mapping; it needs 'version' and 'phases'")
    reader = _Reader(document)
    spec = reader.spec()
    if reader.mistakes:
        raise BuildspecError("; ".join(reader.mistakes))
    return spec


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self.mistakes: list[str] = []

    def spec(self) -> Buildspec:
        document = self._document
        if str(document.get("version")) not in ("0.2", "0.1"):
            self.mistakes.append(f"version: must be 0.2, not {document.get('version')!r}")
        self._only(document, _TOP, "")
        for accepted in ("reports", "cache", "proxy", "batch"):
            self._mapping(document, accepted, accepted)
        env = self._env()
        phases = self._mapping(document, "phases", "phases")
        self._only(phases, set(PHASES), "phases.")
        if not phases:
            self.mistakes.append("phases: at least one of " + ", ".join(PHASES) + " is needed")
        artifacts, secondary = self._all_artifacts()
        return Buildspec(
            phases=tuple(self._phase(name, phases) for name in PHASES),
            variables=self._strings(env, "variables"),
            parameter_store=self._strings(env, "parameter-store"),
            secrets_manager=self._strings(env, "secrets-manager"),
            exported=self._exported(env),
            artifacts=artifacts,
            secondary_artifacts=secondary,
            shell="bash" if env.get("shell") == "bash" else "sh",
            keeps_state=str(document.get("version")) != "0.1",
            left_undone=tuple(self._left_undone(phases)),
        )

    def _left_undone(self, phases: Mapping[str, Any]) -> Iterator[str]:
        parts = [part for part in (self._document, *phases.values()) if isinstance(part, dict)]
        users = dict.fromkeys(str(part["run-as"]) for part in parts if part.get("run-as") not in (None, "root"))
        yield from (f"run-as {user}: commands run as the user whom the local AWS runs as" for user in users)
        if any("runtime-versions" in part for part in parts):
            yield "runtime-versions: commands find this machine's programs, whatever their versions"
        if self._document.get("reports"):
            yield "reports: the local AWS makes none"
        if self._document.get("cache"):
            yield "cache: nothing is kept from one build to the next"

    def _env(self) -> Mapping[str, Any]:
        env = self._mapping(self._document, "env", "env")
        self._only(env, _ENV, "env.")
        if env.get("shell", "bash") not in _SHELLS:
            self.mistakes.append(f"env.shell: must be bash or /bin/sh on Linux, not {env['shell']!r}")
        return env

    def _exported(self, env: Mapping[str, Any]) -> tuple[str, ...]:
        names = self._commands(env, "exported-variables", "env")
        self.mistakes += [f"env.exported-variables: {name!r} is no variable's name" for name in names if not _VARIABLE.match(name)]
        return names

    def _phase(self, name: str, phases: Mapping[str, Any]) -> Phase:
        where = f"phases.{name}"
        phase = self._mapping(phases, name, where)
        self._only(phase, _PHASE, f"{where}.")
        on_failure = OnFailure()
        try:
            on_failure = OnFailure.parse(str(phase.get("on-failure") or ""))
        except ValueError as error:
            self.mistakes.append(f"{where}.on-failure: {error}")
        return Phase(name, self._commands(phase, "commands", where), self._commands(phase, "finally", where), on_failure)

    def _all_artifacts(self) -> tuple[Artifacts | None, dict[str, Artifacts]]:
        if "artifacts" not in self._document:
            return None, {}
        given = self._mapping(self._document, "artifacts", "artifacts")
        secondary = self._mapping(given, "secondary-artifacts", "artifacts.secondary-artifacts")
        named = {
            str(name): self._artifacts(self._mapping(secondary, name, f"artifacts.secondary-artifacts.{name}"), f"artifacts.{name}")
            for name in secondary
        }
        return self._artifacts(given, "artifacts") if given.get("files") or not secondary else None, named

    def _artifacts(self, given: Mapping[str, Any], where: str) -> Artifacts:
        self._only(given, _ARTIFACTS, f"{where}.")
        return Artifacts(
            files=self._commands(given, "files", where),
            base_directory=str(given.get("base-directory") or ""),
            discard_paths=str(given.get("discard-paths")).lower() in ("yes", "true"),
            name=str(given.get("name") or ""),
            exclude_paths=self._commands(given, "exclude-paths", where),
            s3_prefix=str(given.get("s3-prefix") or ""),
        )

    def _only(self, given: Mapping[str, Any], known: set[str], where: str) -> None:
        self.mistakes += [f"{where}{key}: there is no such key" for key in given if key not in known]

    def _mapping(self, given: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
        value = given.get(key) or {}
        if not isinstance(value, dict):
            self.mistakes.append(f"{where}: must be a mapping")
            return {}
        return value

    def _strings(self, env: Mapping[str, Any], key: str) -> dict[str, str]:
        values = self._mapping(env, key, f"env.{key}")
        return {str(name): _text(value) for name, value in values.items()}

    def _commands(self, given: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
        value = given.get(key) or []
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(each, str | int | float | bool) for each in value):
            self.mistakes.append(f"{where}.{key}: must be a list of strings (a command with ': ' in it needs quotes)")
            return ()
        return tuple(_text(each) for each in value)


def _text(value: Any) -> str:
    """YAML reads ``true`` and ``1`` as other types; a shell wants them as they were written."""
    return str(value).lower() if isinstance(value, bool) else str(value)
