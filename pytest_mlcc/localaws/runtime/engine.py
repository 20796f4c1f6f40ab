"""Images in containers: pulled by digest from the local ECR and run by podman or docker, with limits, and with nothing left."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws import engine as local_engine
from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.images import pull, standin
from pytest_mlcc.localaws.images.engine import Engine, EngineError, Kind
from pytest_mlcc.localaws.images.engine_base import ensure_base
from pytest_mlcc.localaws.images.engine_clean import remove_containers
from pytest_mlcc.localaws.runtime.images import is_stand_in
from pytest_mlcc.localaws.runtime.mounts import mounts_of, places_of
from pytest_mlcc.localaws.runtime.platform import PLACES_VARIABLE, platform_environment
from pytest_mlcc.localaws.runtime.ports import ImageError, RunRequest
from pytest_mlcc.localaws.runtime.processes import Started, Warden, end_group

__all__ = ["ContainerRuntime"]

_PULL_SECONDS = 900.0
_END_SECONDS = 15.0
_POLL_SECONDS = 0.05
# Variables that the engine itself reads: a container's values for them must not reach it.
_ENGINES_OWN = ("PATH", "HOME", "TMPDIR", "XDG_", "CONTAINERS_", "DOCKER_", "BUILDAH_", "REGISTRY_", "LD_", "STORAGE_", "DBUS_")
_PACKAGE = Path(local_engine.__file__).parents[3]
_INSIDE = "/opt/pytest-mlcc"

log = logging.getLogger(__name__)


class _ContainerProgram(Started):
    """A container and the engine's command that waits for it; obeys ``ports.Program``."""

    def __init__(self, process: subprocess.Popen[bytes], *, name: str, pid_file: Path | None, engine: Engine, warden: Warden) -> None:
        super().__init__(process, warden, label=f"container {name}")
        self._name, self._pid_file, self._engine = name, pid_file, engine

    @property
    def pid(self) -> int | None:
        """The container's first process, as this machine numbers it."""
        with contextlib.suppress(OSError, ValueError):
            return int(self._pid_file.read_text()) if self._pid_file else None
        return None

    def end(self, *, grace: float) -> None:
        deadline = time.monotonic() + grace + _END_SECONDS
        while self._process.poll() is None and not self._stopped(grace) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)  # the engine is still making it
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._remove()
        end_group(self._process, grace=0)
        self._warden.forget(self._process.pid)
        self._warden.forget_command(self._name)

    def _stopped(self, grace: float) -> bool:
        try:
            self._engine.ask("stop", "-t", str(round(grace)), self._name, seconds=grace + _END_SECONDS)
        except EngineError:
            return False
        return True

    def _remove(self) -> None:
        """It is removed at its end; this makes sure of it, also where its end was not its own."""
        try:
            self._engine.ask("rm", "--force", self._name)
        except EngineError as error:
            if "no such container" not in str(error).lower() and "no container with" not in str(error).lower():
                log.warning("container %s could not be removed: %s", self._name, error)


class ContainerRuntime:
    """Runs an image in a container; obeys ``ports.Runtime``. Containers share this machine's network."""

    def __init__(self, context: ServerContext, engine: Engine) -> None:
        self.name = str(engine.kind)
        self._context, self._engine = context, engine
        self._warden = Warden()
        self._host = urlsplit(context.endpoint_url).netloc
        self._lock = threading.Lock()
        self._programs: dict[str, _ContainerProgram] = {}
        remove_containers(engine)  # of a server that was killed

    def start(self, request: RunRequest, *, cancelled: Callable[[], bool] = lambda: False) -> _ContainerProgram | None:
        """Pull the image by digest, unless it is here, and run it. Raises ImageError or OSError."""
        image, stand_in = self._image(request.image)
        model = request.work / "opt" / "ml" / "model"
        model.mkdir(parents=True, exist_ok=True)
        if request.prepare:
            request.prepare(request.work / "opt" / "ml")
        name = f"mlcc-{uuid.uuid4().hex[:16]}"
        pid_file = request.work / "container.pid" if self._engine.kind is Kind.PODMAN else None
        arguments, environment = self._arguments(request, name, pid_file, image=image, stand_in=stand_in)
        with request.log.open("ab") as output:
            if cancelled():
                return None
            self._warden.run_at_the_end(name, self._engine.command("rm", "--force", name), env=self._engine.environment)
            process = self._warden.spawn(self._engine.command(*arguments), env=environment, cwd=request.work, output=output)
        program = _ContainerProgram(process, name=name, pid_file=pid_file, engine=self._engine, warden=self._warden)
        with self._lock:
            self._programs = {key: each for key, each in self._programs.items() if each.poll() is None} | {name: program}
        return program

    def close(self) -> None:
        """End what is left."""
        with self._lock:
            programs, self._programs = list(self._programs.values()), {}
        for program in programs:
            program.end(grace=0)
        self._warden.close()

    # --- images

    def _image(self, reference: str) -> tuple[str, bool]:
        """The image's name in the engine, and whether it is made of this machine's files."""
        try:
            if is_stand_in(reference, context=self._context):
                return ensure_base(self._engine), True
            facts = pull.facts(reference, endpoint_url=self._context.endpoint_url)
            name = f"{self._host}/{facts.repository}@{facts.digest}"
            with self._lock:
                if not self._engine.has(name):
                    login = self._engine.login(self._host, facts.region)
                    self._engine.ask("pull", "--quiet", *self._engine.plain_http(), name, env=login, seconds=_PULL_SECONDS)
        except (LocalAwsError, OSError) as error:
            raise ImageError(f"Failed to pull the image {reference!r}: {error}") from error
        return name, standin.LABEL in facts.labels

    # --- arguments

    def _arguments(
        self, request: RunRequest, name: str, pid_file: Path | None, *, image: str, stand_in: bool
    ) -> tuple[list[str], dict[str, str]]:
        """The words of the engine's ``run``, and the environment in which it is called."""
        engine = self._engine
        words = ["run", "--rm", "--name", name, "--label", engine.owner, "--network", "host", "--log-driver", "none", "--pull", "never"]
        words += [f"--pidfile={pid_file}"] if pid_file else []
        if request.memory_bytes and "memory" in engine.limits:
            words += ["--memory", f"{request.memory_bytes}b", "--memory-swap", f"{request.memory_bytes}b"]
        if request.cpus and "cpu" in engine.limits:
            words += ["--cpus", f"{request.cpus:g}"]
        for mount in mounts_of(request, context=self._context, package=(_PACKAGE, _INSIDE) if stand_in else None):
            words += ["--mount", mount.option()]
        variables = {**request.environment, **platform_environment(request, self._context, rootfs=None)}
        if stand_in:
            variables[PLACES_VARIABLE] = places_of(request)
            standin_path = f"{_INSIDE}/pytest_mlcc/localaws/engine/standin"
            given = variables.get("PYTHONPATH")
            variables["PYTHONPATH"] = ":".join([standin_path, _INSIDE, *([given] if given else [])])
        return self._with_program(words, request, image, variables)

    def _with_program(
        self, words: list[str], request: RunRequest, image: str, variables: Mapping[str, str]
    ) -> tuple[list[str], dict[str, str]]:
        """Values go by way of the engine's own environment, where no other user of the machine reads them in a command line."""
        passed: dict[str, str] = {}
        for name, value in sorted(variables.items()):
            if name.startswith(_ENGINES_OWN):
                words += ["--env", f"{name}={value}"]
            else:
                words += ["--env", name]
                passed[name] = value
        arguments = list(request.arguments or ())
        if request.entrypoint is not None:
            words += ["--entrypoint", next(iter(request.entrypoint), "")]
            arguments = [*request.entrypoint[1:], *arguments]
        return [*words, image, *arguments], {**self._engine.environment, **passed}
