"""What runs images: one small Protocol, so that hosting and jobs need not know whether a container engine is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

__all__ = ["CommandError", "ImageError", "Program", "RunRequest", "Runtime"]


class ImageError(Exception):
    """The image can't be pulled or unpacked; the text says why."""


class CommandError(Exception):
    """The image's command can't be run; the text is what an engine would say."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to run.

    ``work`` is a directory of this machine that belongs to the run alone: ``<work>/opt/ml`` is ``/opt/ml`` inside, and
    ``<work>/container.log`` receives the output. ``prepare`` puts files into ``<work>/opt/ml`` before the start.
    ``entrypoint`` and ``arguments`` replace the image's own where they are given. ``port`` is the one port of 127.0.0.1 the
    program may listen on (``SAGEMAKER_BIND_TO_PORT``), None for a job. ``memory_bytes`` and ``cpus`` limit it where the
    runtime can.
    """

    image: str
    environment: Mapping[str, str]
    work: Path
    label: str
    region: str
    entrypoint: Sequence[str] | None = None
    arguments: Sequence[str] | None = None
    port: int | None = None
    memory_bytes: int | None = None
    cpus: float | None = None
    prepare: Callable[[Path], None] | None = field(default=None)

    @property
    def log(self) -> Path:
        """Where the output goes."""
        return self.work / "container.log"


class Program(Protocol):
    """A started image. Its exit code is that of its first process; it is over when its last process is gone."""

    @property
    def pid(self) -> int | None:
        """The first process on this machine; None where the engine does not tell."""
        ...

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one. Raises TimeoutError after ``timeout`` seconds."""
        ...

    def end(self, *, grace: float) -> None:
        """SIGTERM, SIGKILL after ``grace`` seconds; returns when no process of it is left. Call it after the exit, too:
        the first process may leave others behind, and the runtime forgets the program only then."""
        ...


class Runtime(Protocol):
    """Runs images of the local ECR."""

    @property
    def name(self) -> str:
        """``process``, or the container engine's name."""
        ...

    def start(self, request: RunRequest, *, cancelled: Callable[[], bool] = lambda: False) -> Program | None:
        """Pull the image if it is not here, and run it; blocks until it runs. None where ``cancelled()`` said so just before the start.

        Raises ImageError, CommandError or OSError, with a text for the resource's FailureReason.
        """
        ...

    def close(self) -> None:
        """End what is left."""
        ...
