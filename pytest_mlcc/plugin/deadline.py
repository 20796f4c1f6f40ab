"""A stage's time limit: it interrupts the main thread, again and again until it is heard, and ends what the stage started."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from pytest_mlcc.errors import StageTimeout

__all__ = ["Deadlines"]

_TASKS = "/proc/self/task"
_IDLE = 3600.0  # seconds between two looks when there is no limit; a new one wakes the thread
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
        self._wakes = 0.0  # when the thread looks again; it is not woken for a later limit, since waking costs more than most stages
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, seconds: float, what: str) -> Iterator[None]:
        """Give the body ``seconds``; raise StageTimeout if it takes longer, even if it swallows the interrupt and returns.

        Off the main thread, where no signal can be raised, only the check at the end is left.
        """
        before = _direct_children()
        begin = time.monotonic()
        try:
            with self._interrupting(begin + seconds):
                yield
        except _OutOfTime:
            _end_children(before)
            raise StageTimeout(f"{what} timed out after {seconds:g} s") from None
        if time.monotonic() - begin > seconds:
            _end_children(before)
            raise StageTimeout(f"{what} took {time.monotonic() - begin:.1f} s, more than its {seconds:g} s")

    @contextmanager
    def _interrupting(self, due: float) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = signal.signal(signal.SIGUSR2, self._raise)
        self._set(due)
        try:
            yield
        finally:
            self._set(None)
            signal.signal(signal.SIGUSR2, former)

    def _raise(self, _signum: int, _frame: FrameType | None) -> None:
        if self._due is not None:  # a signal that comes after the stage's end is late, not wrong
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


def _direct_children() -> set[int]:
    """Pids of this process's own children: a few microseconds, where a walk over all processes takes milliseconds."""
    found: set[int] = set()
    for thread in os.listdir(_TASKS):  # noqa: PTH208  # a stage in a thousand has children, and pathlib would cost more than the look
        with suppress(OSError), open(f"{_TASKS}/{thread}/children", "rb") as file:  # noqa: PTH123  # as above
            found.update(map(int, file.read().split()))
    return found


def _end_children(before: set[int]) -> None:
    """Kill what came into being during the stage, down to the last grandchild, with its process groups."""
    import psutil

    started = [psutil.Process(pid) for pid in _direct_children() - before if psutil.pid_exists(pid)]
    own = os.getpgrp()
    family: list[psutil.Process] = []
    for child in started:
        with suppress(psutil.NoSuchProcess):
            family += [child, *child.children(recursive=True)]
    for one in family:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            group = os.getpgid(one.pid)
            one.kill() if group == own else os.killpg(group, signal.SIGKILL)
    psutil.wait_procs(family, timeout=5)
