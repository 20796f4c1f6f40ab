"""One container: an image's command as a process group, from its start to its last process."""

from __future__ import annotations

import http.client
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.runtime.command import CommandError, Sandbox, free_port
from pytest_mlcc.localaws.runtime.connections import Connections
from pytest_mlcc.localaws.runtime.images import ImageError, unpack
from pytest_mlcc.localaws.runtime.processes import Warden, end_group

__all__ = ["Container", "ContainerRequest", "ContainerState"]

_PING_SECONDS = 2.0  # AWS: the container must answer /ping within 2 s
_SAFE_PORTS = "32000-32767"
_STOP_GRACE_SECONDS = 30.0  # AWS: SIGTERM, and SIGKILL 30 s later
_TAIL_BYTES = 16384

log = logging.getLogger(__name__)


class ContainerState(StrEnum):
    """Where a container stands; FAILED and STOPPED are final."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ContainerRequest:
    """What to run. ``label`` is how failures name it; ``prepare`` puts model files into ``<work>/opt/ml`` before the start."""

    image: str
    environment: Mapping[str, str]
    work: Path
    label: str
    region: str
    health_seconds: float = 300.0
    prepare: Callable[[Path], None] | None = field(default=None)


class Container:
    """A container and the thread that watches it.

    ``state``, ``failure`` and ``exit_code`` follow the process; nothing else sets them. ``on_end`` is called once,
    from the watching thread, after the last process of a container that was not asked to stop is gone.
    """

    def __init__(self, request: ContainerRequest, *, context: ServerContext, warden: Warden, on_end: Callable[[Container], None]) -> None:
        self.request = request
        self.state = ContainerState.STARTING
        self.failure = ""
        self.was_ready = False
        self.exit_code: int | None = None
        self.pid: int | None = None
        self.port = free_port()
        self.connections = Connections(self.port)
        self.log = request.work / "container.log"
        self._context, self._warden, self._on_end = context, warden, on_end
        self._stopping = threading.Event()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name=f"container {request.label}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self, *, grace: float = _STOP_GRACE_SECONDS) -> None:
        """End it and wait until its last process is gone. Safe in every state, and from several threads."""
        with self._lock:
            self._stopping.set()
            process = self._process
        # Once the watcher is done the number of the group may belong to others.
        if process is not None and not self._over.is_set():
            end_group(process, grace=grace)
        if self._thread.ident is not None:
            self._over.wait()
        self.state = ContainerState.STOPPED
        self.connections.close()
        shutil.rmtree(self.request.work, ignore_errors=True)

    def tail(self) -> str:
        """The last output, at most 16 KiB."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")

    def _watch(self) -> None:
        try:
            self._run()
        except (ImageError, CommandError, OSError) as error:
            self._fail(str(error))
        except Exception as error:  # a container must end with a reason, whatever its watcher died of
            log.exception("the container for %s could not be watched", self.request.label)
            self._fail(f"The container for {self.request.label} failed inside the local AWS: {type(error).__name__}: {error}")
        finally:
            stopping = self._stopping.is_set()
            self._over.set()
            if not stopping:
                self._on_end(self)

    def _fail(self, why: str) -> None:
        self.failure = why
        self.state = ContainerState.FAILED

    def _run(self) -> None:
        process = self._spawn()
        if process is None:
            return
        healthy = self._await_ping(process)
        if healthy:
            self.was_ready = True
            self.state = ContainerState.READY
            process.wait()
        if not self._stopping.is_set():
            timed_out = not healthy and process.poll() is None
            end_group(process, grace=2.0)  # what the first process leaves behind, or all of it when it never got healthy
            self.exit_code = process.returncode
            self._fail(self._reason(timed_out=timed_out))
        process.wait()
        self._warden.forget(process.pid)

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        request = self.request
        request.work.mkdir(parents=True, exist_ok=True)
        image = unpack(request.image, context=self._context)
        sandbox = Sandbox(image.rootfs, request.work, image.workdir or "/")
        start_in = sandbox.prepare()
        if request.prepare:
            request.prepare(request.work / "opt" / "ml")
        command = sandbox.command(image.entrypoint, image.cmd)
        environment = sandbox.environment(image.env, request.environment, self._platform_environment(image.rootfs))
        with self._lock, self.log.open("ab") as output:
            if self._stopping.is_set():
                return None
            self._process = self._warden.spawn(command, env=environment, cwd=start_in, output=output)
        self.pid = self._process.pid
        return self._process

    def _platform_environment(self, rootfs: Path) -> dict[str, str]:
        context, model = self._context, str(self.request.work / "opt" / "ml" / "model")
        return {
            "SAGEMAKER_BIND_TO_PORT": str(self.port), "SAGEMAKER_SAFE_PORT_RANGE": _SAFE_PORTS,
            "SM_MODEL_DIR": model, "SAGEMAKER_MODEL_DIR": model, "MLCC_ROOTFS": str(rootfs),
            "MLCC_ENGINE_SOCKET": str(context.engine_socket), "MLCC_TWINS_DIR": str(context.twins_dir),
            "AWS_REGION": self.request.region, "AWS_DEFAULT_REGION": self.request.region,
            "AWS_ENDPOINT_URL": context.endpoint_url, "AWS_ACCESS_KEY_ID": context.account,
            "AWS_SECRET_ACCESS_KEY": "local", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def _await_ping(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + self.request.health_seconds
        attempt = 0
        while time.monotonic() < deadline and not self._stopping.is_set():
            if self._answers_ping():
                return True
            if process.poll() is not None:
                return False
            self._stopping.wait(min(0.25, 0.005 * 1.02**attempt))
            attempt += 1
        return False

    def _answers_ping(self) -> bool:
        try:
            return self.connections.request("GET", "/ping", timeout=_PING_SECONDS).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _reason(self, *, timed_out: bool) -> str:
        label = self.request.label
        if self.was_ready:
            text = f"The container for {label} ended with exit code {self.exit_code}."
        else:
            how = f"in {self.request.health_seconds:g} seconds" if timed_out else f"and ended with exit code {self.exit_code}"
            text = f"The container for {label} did not pass the ping health check {how}. Please check CloudWatch logs for this endpoint."
        last = [line for line in self.tail().splitlines() if line.strip()][-4:]
        return f"{text} Last output: {' | '.join(last)}" if last else text
