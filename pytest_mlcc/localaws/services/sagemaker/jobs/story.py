"""The story of a job: a thread that waits, works, is stopped or fails, and says each step when it is taken."""

from __future__ import annotations

import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal
from pytest_mlcc.localaws.rehearsal.vocabulary import Delay, Fate, Fault
from pytest_mlcc.localaws.store import Record

__all__ = ["REASON_LIMIT", "FailedError", "Job", "Progress", "StoppedError", "Ticket", "Work", "algorithm_error"]

REASON_LIMIT = 1024
"""Length of a FailureReason; a longer one is cut."""

_INTERNAL = "InternalServerError: We encountered an internal error. Please try again."
_CAPACITY = "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
_STOP_GRACE_SECONDS = 120.0  # AWS: SIGTERM, and SIGKILL 120 s later
_CLOSE_GRACE_SECONDS = 1.0
_END_POLL_SECONDS = 0.05

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a job says of itself: its status, the transition's message, and members of the record that are now known."""

    status: str
    secondary: str
    message: str
    members: Mapping[str, Any] = field(default_factory=dict)


class StoppedError(Exception):
    """The job was asked to stop, or ran out of its time; the secondary status says which. ``members`` are of its record."""

    def __init__(self, secondary: str, message: str) -> None:
        super().__init__(message)
        self.secondary, self.message = secondary, message
        self.members: dict[str, Any] = {}


class FailedError(Exception):
    """The job failed; the text is its FailureReason. ``members`` are of its record."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.members: dict[str, Any] = {}


def algorithm_error(text: str, code: int) -> FailedError:
    """AWS's form for a program that ended with another exit code than 0; a long text is cut, the code is not."""
    ending = f", exit code: {code}"
    head = f"AlgorithmError: {text}"
    return FailedError(head[: REASON_LIMIT - len(ending)] + ending)


class Work(Protocol):
    """What a kind of job does between its start and its end."""

    def run(self, job: Job) -> Mapping[str, Any]:
        """Do it; the members that the record gets with ``Completed``. Raises StoppedError (of the job's) and FailedError."""
        ...


@dataclass(frozen=True, slots=True)
class Ticket:
    """Facts of one job. ``stem`` is ``Training``, ``Processing`` or ``Transform``; ``start`` is the wait before it begins."""

    stem: str
    label: str
    name: str
    region: str
    record: Record
    scratch: Path
    start: Delay
    rehearsal: Rehearsal
    fate: Fate | None = None

    @property
    def created(self) -> str:
        """The epoch seconds of its creation, as AWS writes them into the names of its log streams."""
        return f"{self.record['CreationTime']:.0f}"


def _started(ender: Callable[[float], None], grace: float) -> threading.Thread:
    thread = threading.Thread(target=ender, args=(grace,), daemon=True)
    thread.start()
    return thread


class Job:
    """A job and the thread that runs it. ``report`` is called from that thread at each transition."""

    def __init__(self, ticket: Ticket, work: Work, report: Callable[[Progress], None]) -> None:
        self.ticket = ticket
        self.pid: int | None = None
        """The first process of its work, while there is one and the runtime tells."""
        self.log: Path | None = None
        """The file that its output goes to, once there is one; of several hosts the first one's."""
        self._work, self._report = work, report
        self._stop, self._abandoned = threading.Event(), threading.Event()
        self._started = 0.0
        self._deadline = math.inf
        self._thread = threading.Thread(target=self._run, name=f"{ticket.label} {ticket.name}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to stop; its last word will be ``Stopped``, unless it ends by itself before it hears."""
        self._stop.set()

    def abandon(self) -> None:
        """The server ends: end the work and say nothing more."""
        self._abandoned.set()
        self._stop.set()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    # --- what its work asks and says -------------------------------------------------------------------------------

    @property
    def abandoned(self) -> bool:
        """Whether the server ends, so that nobody waits for what the job still has to say."""
        return self._abandoned.is_set()

    @property
    def grace(self) -> float:
        """How many seconds a program has between SIGTERM and SIGKILL."""
        return _CLOSE_GRACE_SECONDS if self.abandoned else _STOP_GRACE_SECONDS

    @property
    def fails_at(self) -> int | None:
        """The step at which the fault plan lets it fail; None where it does not."""
        fate = self.ticket.fate
        return fate.step if fate is not None and fate.fault is Fault.JOB_FAILS else None

    def doomed(self) -> FailedError:
        """The failure that the fault plan wants."""
        message = self.ticket.fate.message if self.ticket.fate else ""
        return algorithm_error(message or f"The fault plan ended the job at step {self.fails_at}", 1)

    def is_stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raises StoppedError where the job was asked to stop or has used up its time."""
        if self._stop.is_set():
            raise StoppedError("Stopped", f"{self.ticket.stem} job stopped")
        if time.monotonic() > self._deadline:
            raise StoppedError("MaxRuntimeExceeded", f"The {self.ticket.label} exceeded its maximum run time")

    def wait(self, seconds: float) -> None:
        """Let some time pass; shorter when the job is asked to stop."""
        self._stop.wait(seconds)

    def pause(self, seconds: float) -> None:
        """Wait that long, of the time that the job has. Raises StoppedError."""
        end = time.monotonic() + seconds
        while (left := min(end, self._deadline + 0.001) - time.monotonic()) > 0:
            self._stop.wait(left)
            self.check()
        self.check()

    def end(self, enders: Sequence[Callable[[float], None]], *, grace: float) -> None:
        """End programs, all at once: each is called with the seconds between its SIGTERM and its SIGKILL, and returns when it is gone.

        The end of the server shortens the time: then each is called once more.
        """
        for ender, thread in [(ender, _started(ender, grace)) for ender in enders]:
            while thread.is_alive() and not self.abandoned:
                thread.join(_END_POLL_SECONDS)
            thread.join(self.grace)
            if thread.is_alive():
                ender(0.0)
                thread.join()

    def delay(self, what: Delay) -> None:
        """A wait of AWS's, where the latency profile has it. Raises StoppedError."""
        self.pause(self.ticket.rehearsal.delay(what))

    def begin(self, secondary: str, message: str, *, seconds: float = math.inf) -> None:
        """The machine is there: the clock runs, for ``seconds`` at most. Raises StoppedError."""
        self._started = time.time()
        self._deadline = time.monotonic() + seconds
        self.tell(secondary, message, {f"{self.ticket.stem}StartTime": self._started})

    def tell(self, secondary: str, message: str, members: Mapping[str, Any] | None = None) -> None:
        """Say the next step. Raises StoppedError where it must not be taken."""
        self.check()
        self._report(Progress("InProgress", secondary, message, members or {}))

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        last = self._told()
        shutil.rmtree(self.ticket.scratch, ignore_errors=True)
        if not self.abandoned:
            self._report(last)

    def _told(self) -> Progress:
        stem = self.ticket.stem
        try:
            self.delay(self.ticket.start)
            self._meet_fate()
            members = self._work.run(self)
            return Progress("Completed", "Completed", f"{stem} job completed", {**members, **self._times()})
        except StoppedError as stopped:
            if self._stop.is_set():
                self._abandoned.wait(self.ticket.rehearsal.delay(Delay.JOB_STOP))
            return Progress("Stopped", stopped.secondary, stopped.message, {**stopped.members, **self._times()})
        except FailedError as failed:
            return self._failure(str(failed), failed.members)
        except Exception:
            _log.exception("%s %s failed", self.ticket.label, self.ticket.name)
            return self._failure(_INTERNAL, {})

    def _meet_fate(self) -> None:
        fate = self.ticket.fate
        if fate is not None and fate.fault is Fault.INSUFFICIENT_CAPACITY:
            raise FailedError(fate.message or _CAPACITY)
        if fate is not None and fate.fault is Fault.STUCK:
            self.pause(fate.seconds)
            raise FailedError(fate.message or _INTERNAL)

    def _failure(self, reason: str, members: Mapping[str, Any]) -> Progress:
        told = {**members, "FailureReason": reason[:REASON_LIMIT], **self._times()}
        return Progress("Failed", "Failed", f"{self.ticket.stem} job failed", told)

    def _times(self) -> dict[str, Any]:
        now, stem = time.time(), self.ticket.stem
        times: dict[str, Any] = {f"{stem}EndTime": now}
        if self._started and stem == "Training":
            seconds = math.ceil(now - self._started)
            times |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
        return times
