"""One script as a process: closed input, a group of its own, every line into the log, the end of each stream kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pytest_mlcc.errors import FailureClass, StageError, StageTimeout
from pytest_mlcc.lifecycle.ports import Deadline

__all__ = ["Finished", "run"]

_LEASH = Path(__file__).with_name("leash.py")
_LINES = 80
_GRACE = 10.0  # more than the leash gives a script that was told to end
_DRAIN = 3.0  # seconds that output may still come in when all processes of the group are gone


@dataclass(frozen=True, slots=True)
class Finished:
    """How a script ended: its exit status (128 and the signal where one ended it), and the last lines of both streams."""

    status: int
    stdout: tuple[str, ...]
    stderr: tuple[str, ...]


def run(
    words: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Callable[[str], None], deadline: Deadline, shown: str = ""
) -> Finished:
    """Run a script to its end; nothing that it started in its group is left then, however this call ends.

    Raises StageTimeout when the deadline passes, with what the script said last, and StageError where it can't be started.
    """
    shown = shown or words[0]
    process = _start(words, cwd, environment, shown)
    readers = [_Reader(stream, log) for stream in (process.stdout, process.stderr) if stream is not None]
    over = threading.Event()
    # waitid leaves the zombie, so that the group's number stays taken until what is left of the group has been ended
    threading.Thread(target=_await_end, args=(process.pid, over), daemon=True).start()
    try:
        in_time = over.wait(deadline.remaining())
    finally:
        status = _end(process, over)
        for reader in readers:
            reader.close()
    if not in_time:
        said = "\n".join(line for reader in readers for line in reader.last()[-5:])
        raise StageTimeout(f"{shown} was ended after {deadline.seconds:g} s, with every process that it had started", output=said)
    return Finished(status, *(reader.last() for reader in readers))


def _start(words: Sequence[str], cwd: Path, environment: Mapping[str, str], shown: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable, "-ISE", str(_LEASH), *words], cwd=cwd, env=dict(environment), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise StageError(f"{shown} can't be run: {error}", failure_class=FailureClass.CODE_BUG) from error


def _await_end(pid: int, over: threading.Event) -> None:
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    over.set()


def _end(process: subprocess.Popen[bytes], over: threading.Event) -> int:
    """The end of its input lets the leash end everything; what is then left of the group is killed. The exit status."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    give_up = time.monotonic() + _GRACE
    while not over.is_set() and (patience := give_up - time.monotonic()) > 0:
        with suppress(BaseException):  # a Ctrl-C, or a limit that strikes every second: it was heard, and this is its answer
            over.wait(patience)
    _kill_group(process.pid)
    status = process.wait()
    return status if status >= 0 else 128 - status


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


class _Reader:
    """Reads one stream in a thread: each line into the log at once, the last ones kept."""

    def __init__(self, stream: IO[bytes], log: Callable[[str], None]) -> None:
        self._stream, self._log = stream, log
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._closed = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def last(self) -> tuple[str, ...]:
        """The last lines so far."""
        return tuple(self._lines)

    def close(self) -> None:
        """Wait for the stream's end. A daemon that the script left may hold it open: that one is not waited for, and not heard."""
        self._thread.join(_DRAIN)
        self._closed = True

    def _read(self) -> None:
        with self._stream:
            for raw in self._stream:
                line = raw.decode(errors="replace").rstrip("\r\n").rpartition("\r")[2]  # of a progress bar, what it ended with
                if self._closed:  # its lines would stand in the log of the next stage
                    return
                if line.strip():
                    self._lines.append(line)
                    self._log(line)
