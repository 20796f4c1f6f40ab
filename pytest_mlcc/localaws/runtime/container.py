"""One container that serves: from its start over its first /ping to its last process."""

from __future__ import annotations

import dataclasses
import http.client
import logging
import shutil
import threading
import time
from collections.abc import Callable
from enum import StrEnum

from pytest_mlcc.localaws.runtime.command import free_port
from pytest_mlcc.localaws.runtime.connections import Connections
from pytest_mlcc.localaws.runtime.ports import CommandError, ImageError, Program, RunRequest, Runtime

__all__ = ["Container", "ContainerState"]

_PING_SECONDS = 2.0  # AWS: the container must answer /ping within 2 s
_SAFE_PORTS = "32000-32767"
_ARGUMENTS = ("serve",)  # AWS: ``docker run <image> serve``, in place of the image's CMD
_NOT_STARTED = (
    "CannotStartContainerError. Please ensure the model container for {label} starts correctly when invoked with "
    "'docker run {image} serve': {error}"
)
_STOP_GRACE_SECONDS = 30.0  # AWS: SIGTERM, and SIGKILL 30 s later
_TAIL_BYTES = 16384

log = logging.getLogger(__name__)


class ContainerState(StrEnum):
    """Where a container stands; FAILED and STOPPED are final."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


class Container:
    """A container and the thread that watches it.

    ``state``, ``failure`` and ``exit_code`` follow the process; nothing else sets them. ``on_end`` is called once,
    from the watching thread, after the last process of a container that was not asked to stop is gone.
    """

    def __init__(
        self, request: RunRequest, *, runtime: Runtime, on_end: Callable[[Container], None], health_seconds: float = 300.0,
        dies_after: int = 0,
    ) -> None:  # fmt: skip
        self.port = free_port()
        served = {"SAGEMAKER_BIND_TO_PORT": str(self.port), "SAGEMAKER_SAFE_PORT_RANGE": _SAFE_PORTS}
        environment = {**request.environment, **served}
        self.request = dataclasses.replace(request, port=self.port, environment=environment, arguments=_ARGUMENTS)
        self.state = ContainerState.STARTING
        self.failure = ""
        self.ready_at = 0.0
        """When it first answered /ping, in seconds since the epoch; 0 before."""
        self.exit_code: int | None = None
        self.connections = Connections(self.port)
        self._runtime, self._on_end, self._health_seconds = runtime, on_end, health_seconds
        self._dies_after, self._answered = dies_after, 0
        self._stopping = threading.Event()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._program: Program | None = None
        self._thread = threading.Thread(target=self._watch, name=f"container {request.label}", daemon=True)

    @property
    def was_ready(self) -> bool:
        """Whether it has ever answered /ping."""
        return self.ready_at > 0

    @property
    def pid(self) -> int | None:
        """Its first process on this machine, once there is one and the engine tells."""
        return self._program.pid if self._program else None

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self, *, grace: float = _STOP_GRACE_SECONDS) -> None:
        """End it and wait until its last process is gone. Safe in every state, and from several threads."""
        with self._lock:
            self._stopping.set()
            program = self._program
        # Once the watcher is done the number of the process may belong to others.
        if program is not None and not self._over.is_set():
            program.end(grace=grace)
        if self._thread.ident is not None:
            self._over.wait()
        self.state = ContainerState.STOPPED
        self.connections.close()
        shutil.rmtree(self.request.work, ignore_errors=True)

    def answered(self) -> None:
        """One more invocation was answered. A container that is fated to die after so many (``dies_after``) is killed now."""
        if not self._dies_after:
            return
        with self._lock:
            self._answered += 1
            program = self._program if self._answered == self._dies_after else None
        if program is not None:  # in a thread: who tells us may be the event loop
            threading.Thread(target=program.end, kwargs={"grace": 0}, name=f"end of {self.request.label}").start()

    def tail(self) -> str:
        """The last output, at most 16 KiB."""
        log_file = self.request.log
        if not log_file.exists():
            return ""
        with log_file.open("rb") as file:
            file.seek(max(0, log_file.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")

    def _watch(self) -> None:
        try:
            self._run()
        except CommandError as error:
            self._fail(_NOT_STARTED.format(label=self.request.label, image=self.request.image, error=error))
        except (ImageError, OSError) as error:
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
        program = self._spawn()
        if program is None:
            return
        healthy = self._await_ping(program)
        if healthy:
            self.ready_at = time.time()
            self.state = ContainerState.READY
            program.wait()
        if not self._stopping.is_set():
            timed_out = not healthy and program.poll() is None
            program.end(grace=2.0)  # what the first process leaves behind, or all of it when it never got healthy
            self.exit_code = program.poll()
            self._fail(self._reason(timed_out=timed_out))
        program.wait()

    def _spawn(self) -> Program | None:
        program = self._runtime.start(self.request, cancelled=self._stopping.is_set)
        with self._lock:
            self._program = program
            stopped = self._stopping.is_set()
        if program is not None and stopped:  # the stop came after the runtime had asked
            program.end(grace=0)
            return None
        return program

    def _await_ping(self, program: Program) -> bool:
        deadline = time.monotonic() + self._health_seconds
        attempt = 0
        while time.monotonic() < deadline and not self._stopping.is_set():
            if self._answers_ping():
                return True
            if program.poll() is not None:
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
            how = f"in {self._health_seconds:g} seconds" if timed_out else f"and ended with exit code {self.exit_code}"
            text = f"The container for {label} did not pass the ping health check {how}. Please check CloudWatch logs for this endpoint."
        last = [line for line in self.tail().splitlines() if line.strip()][-4:]
        return f"{text} Last output: {' | '.join(last)}" if last else text
