"""The containers of one job: one for each of its hosts, each with files of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_mlcc.localaws.runtime.ports import CommandError, ImageError, Program, RunRequest, Runtime
from pytest_mlcc.localaws.services.sagemaker.jobs.logs import JobLog
from pytest_mlcc.localaws.services.sagemaker.jobs.story import FailedError, Job, algorithm_error

__all__ = ["Cluster", "Host", "Image", "host_names"]

_POLL_SECONDS = 0.02
_AFTER_EXIT_SECONDS = 2.0  # for what the first process has left behind
_NOT_FOUND = 127


def host_names(count: int) -> list[str]:
    """``algo-1``, ``algo-2``, ..."""
    return [f"algo-{number}" for number in range(1, count + 1)]


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of a job: its directory (``<work>/opt/ml`` is ``/opt/ml`` inside), its variables and its log."""

    name: str
    work: Path
    environment: Mapping[str, str]
    log: JobLog

    @property
    def opt_ml(self) -> Path:
        """``/opt/ml`` of this host, on this machine."""
        return self.work / "opt" / "ml"


@dataclass(frozen=True, slots=True)
class Image:
    """An image and the command that replaces its own, where there is one."""

    name: str
    entrypoint: Sequence[str] | None = None
    arguments: Sequence[str] | None = None


class Cluster:
    """Runs an image on every host until all have ended well, one has not, or the job is stopped."""

    def __init__(self, job: Job, hosts: Sequence[Host], runtime: Runtime) -> None:
        self._job, self._hosts, self._runtime = job, hosts, runtime
        self._programs: list[Program] = []

    def run(self, image: Image, *, now_and_then: Callable[[], None]) -> int:
        """The exit code: 0, or that of the first host that failed. ``now_and_then`` is called every half second or so.

        No process is left when it returns or raises. Raises StoppedError, and FailedError where the image can't be run.
        """
        self._job.log = self._hosts[0].log.path
        try:
            for host in self._hosts:
                self._start(host, image)
            return self._watch(now_and_then)
        finally:
            self._end()
            for host in self._hosts:
                host.log.ship(last=True)

    def _start(self, host: Host, image: Image) -> None:
        ticket = self._job.ticket
        request = RunRequest(
            image=image.name, environment=host.environment, work=host.work, label=f"{ticket.label} {ticket.name} on {host.name}",
            region=ticket.region, entrypoint=image.entrypoint, arguments=image.arguments,
        )  # fmt: skip
        try:
            program = self._runtime.start(request, cancelled=self._job.is_stopping)
        except CommandError as error:
            raise algorithm_error(str(error), _NOT_FOUND) from error
        except (ImageError, OSError) as error:
            raise FailedError(f"ClientError: {error}") from error
        if program is None:
            self._job.check()
            return
        self._programs.append(program)
        self._job.pid = self._job.pid or program.pid

    def _watch(self, now_and_then: Callable[[], None]) -> int:
        while True:
            codes = [program.poll() for program in self._programs]
            failed = next((code for code in codes if code), 0)
            if failed or None not in codes:
                return failed if failed >= 0 else 128 - failed
            self._job.check()
            shipped = [host.log.ship_now_and_then() for host in self._hosts]
            if any(shipped):
                now_and_then()
            self._job.wait(_POLL_SECONDS)

    def _end(self) -> None:
        """Everything that is left, all at once."""
        codes = [program.poll() for program in self._programs]
        grace = _AFTER_EXIT_SECONDS if codes and None not in codes else self._job.grace
        self._job.end([functools.partial(_end_program, program) for program in self._programs], grace=grace)
        self._job.pid = None


def _end_program(program: Program, grace: float) -> None:
    program.end(grace=grace)
