"""A stage's time limit: it interrupts the main thread, again and again until it is heard, and ends what the stage started."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from pytest_mlcc.errors import StageTimeout

__all__ = ["limit"]

_AGAIN = 1.0  # seconds between two interrupts: the first may be swallowed by code that joins a thread


class _OutOfTime(BaseException):
    """Raised in the main thread; a BaseException, so that a stage's own ``except Exception: retry`` can't swallow it."""


@contextmanager
def limit(seconds: float, what: str) -> Iterator[None]:
    """Give the body ``seconds``; raise StageTimeout if it takes longer, even if it swallows the interrupt and returns.

    SIGUSR2 and a thread of our own instead of an interval timer: any other user of ``setitimer`` in a stage would
    silently disarm that one. Off the main thread, where no signal can be raised, only the check at the end is left.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _children()
    begin = time.monotonic()
    try:
        with _interrupt_after(seconds):
            yield
    except _OutOfTime:
        _end_children(before)
        raise StageTimeout(f"{what} timed out after {seconds:g} s") from None
    if time.monotonic() - begin > seconds:
        _end_children(before)
        raise StageTimeout(f"{what} took {time.monotonic() - begin:.1f} s, more than its {seconds:g} s")


@contextmanager
def _interrupt_after(seconds: float) -> Iterator[None]:
    over = threading.Event()

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if not over.is_set():
            raise _OutOfTime

    def watch() -> None:
        patience = seconds
        while not over.wait(patience):
            os.kill(os.getpid(), signal.SIGUSR2)
            patience = _AGAIN

    former = signal.signal(signal.SIGUSR2, interrupt)
    watcher = threading.Thread(target=watch, name="mlcc-deadline", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGUSR2, former)


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _end_children(before: set[psutil.Process]) -> None:
    """Kill the process groups that came into being during the stage."""
    started = _children() - before
    own = os.getpgrp()
    for child in started:
        try:
            group = os.getpgid(child.pid)
            if group == own:
                child.kill()
            else:
                os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    psutil.wait_procs(list(started), timeout=5)
