"""A stage's time limit: it interrupts the main thread, again and again until it is heard, and ends what the stage started."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from pytest_mlcc.errors import StageTimeout

__all__ = ["Deadlines"]

_TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds
_IDLE = 3600.0  # seconds between two looks when there is no limit; a new one wakes the thread
_COURTESY = 0.5  # seconds after its limit that a stage which keeps it by itself has to say so: its words tell more than ours
_AGAIN = 1.0  # seconds between two interrupts: the first may be swallowed by code that joins a thread


class _OutOfTime(BaseException):
    """Raised in the main thread; a BaseException, so that a stage's own ``except Exception: retry`` can't swallow it."""


class Deadlines:
    """Time limits of one process, one at a time. Its one thread starts with the first limit and is a daemon.

    SIGUSR2 from a thread of our own instead of an interval timer: any other user of ``setitimer`` in a stage would silently
    disarm that one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: float | None = None  # time.monotonic() of the next interrupt
        self._heard = False  # whether the body was interrupted
        self._wakes = 0.0  # when the thread looks again; it is not woken for a later limit, since waking costs more than most stages
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, seconds: float, what: str) -> Iterator[None]:
        """Give the body ``seconds``; raise StageTimeout if it takes longer, even if it swallows the interrupt and returns or breaks.

        Off the main thread, where no signal can be raised, only the check at the end is left.
        """
        born = time.clock_gettime(time.CLOCK_BOOTTIME)
        begin = time.monotonic()
        try:
            with self._interrupting(begin + seconds + _COURTESY):
                yield
        except (Exception, _OutOfTime) as error:
            if isinstance(error, StageTimeout) or not self._heard:
                raise
            _end_children(born)  # the sagemaker SDK loses an interrupt in a ``finally: return``; what fails then is no cause
            raise StageTimeout(f"{what} timed out after {seconds:g} s") from None
        if time.monotonic() - begin > seconds:
            _end_children(born)
            raise StageTimeout(f"{what} took {time.monotonic() - begin:.1f} s, more than its {seconds:g} s")

    @contextmanager
    def _interrupting(self, due: float) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._heard = False
        former = signal.signal(signal.SIGUSR2, self._raise)
        self._set(due)
        try:
            yield
        finally:
            self._set(None)
            signal.signal(signal.SIGUSR2, former)

    def _raise(self, _signum: int, _frame: FrameType | None) -> None:
        if self._due is not None:  # a signal that comes after the stage's end is late, not wrong
            self._heard = True
            raise _OutOfTime

    def _set(self, due: float | None) -> None:
        with self._changed:
            self._due = due
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="mlcc-deadlines", daemon=True)
                self._thread.start()
            elif due is not None and due < self._wakes:
                self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while True:
                patience = _IDLE if self._due is None else self._due - time.monotonic()
                if patience > 0:
                    self._wakes = time.monotonic() + patience
                    self._changed.wait(patience)
                else:
                    self._due = time.monotonic() + _AGAIN
                    os.kill(os.getpid(), signal.SIGUSR2)


def _end_children(since: float) -> None:
    """Kill what came into being since then (seconds since boot), down to the last grandchild, with its process groups."""
    import psutil

    family: list[psutil.Process] = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess, OSError):
            if _born(child.pid) >= since - _TICK:
                family += [child, *child.children(recursive=True)]
    own = os.getpgrp()
    for one in family:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            group = os.getpgid(one.pid)
            one.kill() if group == own else os.killpg(group, signal.SIGKILL)
    psutil.wait_procs(family, timeout=5)


def _born(pid: int) -> float:
    """When a process began, in seconds since boot: field 22 of /proc/<pid>/stat (proc(5)), exact to a clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return int(fields[19]) * _TICK
