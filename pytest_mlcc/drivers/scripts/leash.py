"""Runs one command and ends it with everything it started when the standard input ends. Standard library only.

The driver holds the other end of the input, so its death, even by SIGKILL, is the command's end too. This process leads the
group, and on Linux it also adopts what left the group and lost its parent (``setsid``, a daemon's two forks). Its exit status is
the command's: 128 and the signal where a signal ended it, 126 or 127 where it could not be run, as a shell has it.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

__all__ = ["main"]

_GRACE = 5.0
_PAUSE = 0.05
_PR_SET_CHILD_SUBREAPER = 36
_NOT_THERE, _NOT_RUNNABLE = 127, 126


def main(command: list[str]) -> int:
    """Run it with a closed input; the status."""
    _adopt_orphans()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is meant for the others of the group
    try:
        process = _start(command)
    except OSError as error:
        return _refused(command[0], error)
    over = threading.Event()
    watch = threading.Thread(target=_end_with_input, args=(over,), daemon=True)
    watch.start()
    code = process.wait()
    if over.is_set():
        watch.join()  # what heeds no signal may outlive the command
    return code if code >= 0 else 128 - code


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    """A script without an interpreter line runs as it does when it is typed: by bash."""
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_take_signals)  # noqa: PLW1509 - a single thread yet
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return _start(["bash", *command])


def _adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends. Where that is not possible, the group has to do."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return


def _take_signals() -> None:
    """What is ignored stays ignored in a child, unless it is told otherwise."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _refused(name: str, error: OSError) -> int:
    no_interpreter = isinstance(error, FileNotFoundError) and os.path.exists(name)  # noqa: PTH110 - pathlib costs this process 4 ms
    why = "the interpreter that its first line names is not there" if no_interpreter else error.strerror
    sys.stderr.write(f"{name}: {why}\n")
    return _NOT_THERE if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE


def _end_with_input(over: threading.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin: a thread that waits in its buffer would keep Python from ending
        pass
    over.set()
    os.killpg(0, signal.SIGTERM)
    _tell(signal.SIGTERM)
    if not _all_end_within(_GRACE):
        while _tell(signal.SIGKILL):  # until nobody has started another meanwhile
            time.sleep(_PAUSE)


def _tell(number: signal.Signals) -> bool:
    """Send a signal to everything that descends from this process; whether there was anything."""
    found = list(_descendants())
    for pid in found:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue
    return bool(found)


def _all_end_within(seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(_descendants()):
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE)
    return True


def _descendants() -> Iterator[int]:
    """Every living process below this one, in whatever group or session. Nothing where there is no ``/proc``."""
    children: dict[int, list[int]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):  # noqa: PTH112, PTH208 - as above
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:  # it ended while we looked
            continue
        if state != b"Z":
            children.setdefault(int(parent), []).append(int(pid))
    waiting = [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        yield from below
        waiting += below


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
