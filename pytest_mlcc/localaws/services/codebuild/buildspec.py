"""Buildspec version 0.2: the file that says what a build does.

https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import yaml

__all__ = ["PHASES", "Artifacts", "Buildspec", "BuildspecError", "OnFailure", "Phase", "parse"]

#: The phases a buildspec may fill, in their order.
PHASES = ("install", "pre_build", "build", "post_build")

_TOP = {"version", "run-as", "env", "proxy", "batch", "phases", "reports", "artifacts", "cache"}
_PHASE = {"run-as", "on-failure", "runtime-versions", "commands", "finally", "steps"}


class BuildspecError(ValueError):
    """The buildspec can't be used; the message names every mistake."""


class OnFailure(StrEnum):
    """What a failed phase does to the phases after it."""

    DEFAULT = ""
    ABORT = "ABORT"
    CONTINUE = "CONTINUE"


@dataclass(frozen=True, slots=True)
class Phase:
    """The commands of one phase; ``finally_`` run whatever became of ``commands``."""

    name: str
    commands: tuple[str, ...] = ()
    finally_: tuple[str, ...] = ()
    on_failure: OnFailure = OnFailure.DEFAULT


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Which files a build hands out, relative to the base directory."""

    files: tuple[str, ...] = ()
    base_directory: str = ""
    discard_paths: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Buildspec:
    """A checked buildspec. Secrets and parameters are named by their sources, not resolved."""

    phases: tuple[Phase, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    parameter_store: Mapping[str, str] = field(default_factory=dict)
    secrets_manager: Mapping[str, str] = field(default_factory=dict)
    exported: tuple[str, ...] = ()
    artifacts: Artifacts | None = None


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
        env = self._mapping(document, "env", "env")
        phases = self._mapping(document, "phases", "phases")
        self._only(phases, set(PHASES), "phases.")
        if not phases:
            self.mistakes.append("phases: at least one of " + ", ".join(PHASES) + " is needed")
        return Buildspec(
            phases=tuple(self._phase(name, phases) for name in PHASES),
            variables=self._strings(env, "variables"),
            parameter_store=self._strings(env, "parameter-store"),
            secrets_manager=self._strings(env, "secrets-manager"),
            exported=self._commands(env, "exported-variables", "env"),
            artifacts=self._artifacts(),
        )

    def _phase(self, name: str, phases: Mapping[str, Any]) -> Phase:
        where = f"phases.{name}"
        phase = self._mapping(phases, name, where)
        self._only(phase, _PHASE, f"{where}.")
        try:
            on_failure = OnFailure(str(phase.get("on-failure") or ""))
        except ValueError:
            self.mistakes.append(f"{where}.on-failure: must be ABORT or CONTINUE, not {phase['on-failure']!r}")
            on_failure = OnFailure.DEFAULT
        return Phase(name, self._commands(phase, "commands", where), self._commands(phase, "finally", where), on_failure)

    def _artifacts(self) -> Artifacts | None:
        if "artifacts" not in self._document:
            return None
        given = self._mapping(self._document, "artifacts", "artifacts")
        return Artifacts(
            files=self._commands(given, "files", "artifacts"),
            base_directory=str(given.get("base-directory") or ""),
            discard_paths=str(given.get("discard-paths")).lower() in ("yes", "true"),
            name=str(given.get("name") or ""),
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
