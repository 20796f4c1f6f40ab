"""A container engine of this machine: podman, or docker. Found, described, and called by argument lists.

podman keeps all of ours in a store of our own, so nothing of the user's is seen or touched. docker has one store for
everyone: there, what is ours carries a label, and nothing else is removed.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Self

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.images.engine_files import podman_environment
from pytest_mlcc.localaws.images.reference import registry_password

__all__ = ["OWNER_LABEL", "Engine", "EngineError", "Found", "Kind", "find", "installed"]

#: On every container and image we make with an engine; its value is the state directory of the server it belongs to.
OWNER_LABEL = "pytest-mlcc.owner"

_ASK_SECONDS = 30.0
_PAUSE = 0.1
_HALFWAY = re.compile(r"(?:image|layer) not known|retrieving parent of image|locating item named")
_BUILDKIT_IS_DEFAULT = 23  # clients from this version on use it where it is installed; before, it was part of the client
_PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

# Attestations make an image an index of several manifests, which SageMaker refuses.
_ONE_MANIFEST = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}


class EngineError(LocalAwsError):
    """The engine refused; the text is its own."""


class Kind(StrEnum):
    """Which program it is; they differ in few options."""

    PODMAN = "podman"
    DOCKER = "docker"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that works. ``directory`` holds its files of ours, ``limits`` names what it can limit (``memory``, ``cpu``)."""

    kind: Kind
    program: str
    version: str
    directory: Path
    environment: Mapping[str, str]
    limits: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        """The label of what belongs to this server."""
        return f"{OWNER_LABEL}={self.directory}"

    def command(self, *arguments: str) -> list[str]:
        """The words of a call."""
        return [self.program, *arguments]

    def ask(
        self, *arguments: str, env: Mapping[str, str] | None = None, stdin: IO[bytes] | None = None, seconds: float | None = _ASK_SECONDS
    ) -> str:
        """What a call printed. Raises EngineError where it fails or does not end in ``seconds``."""
        try:
            done = subprocess.run(
                self.command(*arguments), env={**self.environment, **(env or {})}, stdin=stdin or subprocess.DEVNULL,
                capture_output=True, timeout=seconds, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineError(f"{self.kind} {arguments[0]}: {error}") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
            raise EngineError(f"{self.kind} {arguments[0]}: {said}")
        return done.stdout.decode(errors="replace").strip()

    def images(self, *words: str) -> list[str]:
        """What ``images`` lists, line by line. podman gives up where it meets one that another process writes or removes: asked again.

        Raises EngineError.
        """
        give_up = time.monotonic() + _ASK_SECONDS
        while True:
            try:
                return self.ask("images", *words).splitlines()
            except EngineError as error:
                if not _HALFWAY.search(str(error)) or time.monotonic() > give_up:
                    raise
            time.sleep(_PAUSE)

    def has(self, image: str) -> bool:
        """Whether the image is here."""
        try:
            self.ask("image", "inspect", "--format", "{{.Id}}", image)
        except EngineError:
            return False
        return True

    def plain_http(self) -> list[str]:
        """Options of push, pull and build for a registry on 127.0.0.1; docker needs none."""
        return ["--tls-verify=false"] if self.kind is Kind.PODMAN else []

    def login(self, host: str, region: str) -> dict[str, str]:
        """Variables with which calls reach the local ECR at ``host`` as its user of a region."""
        folder = self.directory / "login" / region
        folder.mkdir(parents=True, exist_ok=True)
        secret = base64.b64encode(f"AWS:{registry_password(region)}".encode()).decode()
        config = folder / "config.json"
        scratch = folder / f"config.json.{os.getpid()}"
        scratch.write_text(json.dumps({"auths": {host: {"auth": secret}}}))
        scratch.replace(config)
        return {"REGISTRY_AUTH_FILE": str(config)} if self.kind is Kind.PODMAN else {"DOCKER_CONFIG": str(folder)}

    def to_json(self) -> dict[str, Any]:
        """For another process of this machine."""
        return {
            "kind": self.kind, "program": self.program, "version": self.version, "directory": str(self.directory),
            "environment": dict(self.environment), "limits": list(self.limits),
        }  # fmt: skip

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """What ``to_json`` gave."""
        facts = {**given, "kind": Kind(given["kind"]), "directory": Path(given["directory"]), "limits": tuple(given["limits"])}
        return cls(**facts)


@dataclass(frozen=True, slots=True)
class Found:
    """The result of looking for an engine: one, or the reason why there is none."""

    engine: Engine | None
    reason: str = ""


def installed() -> list[str]:
    """The engines that are installed, whether or not they work; costs nothing."""
    return [kind for kind in Kind if shutil.which(kind)] if sys.platform == "linux" else []


def find(directory: Path) -> Found:
    """The first engine that works: podman before docker, because its store can be ours alone. Takes some tenths of a second."""
    if sys.platform != "linux":
        return Found(None, "containers of the local AWS need Linux: they share this machine's network")
    reasons: list[str] = []
    for kind in Kind:
        program = shutil.which(kind)
        if program is None:
            reasons.append(f"{kind} is not installed")
            continue
        try:
            engine = _podman(program, directory) if kind is Kind.PODMAN else _docker(program, directory)
        except (EngineError, ValueError, KeyError, OSError) as error:
            reasons.append(f"{kind} does not work: {str(error).splitlines()[-1][:300]}")
            continue
        return Found(engine)
    return Found(None, "; ".join(reasons))


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def _podman(program: str, directory: Path) -> Engine:
    bare = Engine(Kind.PODMAN, program, "", directory, {**_environment(), **podman_environment(directory)})
    facts = json.loads(bare.ask("info", "--format", "json"))
    limits = tuple(name for name in ("memory", "cpu") if name in facts["host"].get("cgroupControllers", []))
    return Engine(Kind.PODMAN, program, facts["version"]["Version"], directory, bare.environment, limits)


def _docker(program: str, directory: Path) -> Engine:
    host = os.environ.get("DOCKER_HOST") or _context_host(program, directory)
    bare = Engine(Kind.DOCKER, program, "", directory, {**_environment(), **({"DOCKER_HOST": host} if host else {}), **_ONE_MANIFEST})
    facts = json.loads(bare.ask("info", "--format", "{{json .}}"))
    if not facts.get("ServerVersion"):
        raise EngineError((facts.get("ServerErrors") or ["no docker engine answers"])[0])
    if int(bare.ask("version", "--format", "{{.Client.Version}}").partition(".")[0]) < _BUILDKIT_IS_DEFAULT:
        bare = dataclasses.replace(bare, environment={**bare.environment, "DOCKER_BUILDKIT": "1"})
    limits = tuple(name for name, key in (("memory", "MemoryLimit"), ("cpu", "CpuCfsQuota")) if facts.get(key))
    return Engine(Kind.DOCKER, program, facts["ServerVersion"], directory, bare.environment, limits)


def _context_host(program: str, directory: Path) -> str:
    """Where the user's docker talks to; our calls have a configuration of their own, which does not say."""
    bare = Engine(Kind.DOCKER, program, "", directory, _environment())
    return bare.ask("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
