"""Process groups that can't outlive this process, and that are really gone when we say so."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from pytest_mlcc.localaws.runtime import warden_child

__all__ = ["Started", "Warden", "end_group", "group_is_alive"]

_POLL_SECONDS = 0.005
_QUIET_LOOKS = 2  # a process that leaves its group, or becomes another program, is not seen for a moment

# The shell waits for one line before it becomes the program: if we die before the warden knows the group, it reads
# the end of its input and no program starts. Its own group and session come from Popen, and its mark is the group's number.
_GATE = f'read -r _ || exit 125; export {warden_child.MARK}=$$; exec "$@" </dev/null'


class Warden:
    """Starts programs in process groups of their own, all of which die when this process does, even by SIGKILL.

    So do the processes that leave their group, as daemons do: see ``warden_child.strays``. One small helper process watches
    a pipe from us; it is started with the first program.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watcher: subprocess.Popen[str] | None = None
        self._groups: set[int] = set()
        self._commands: dict[str, str] = {}

    def spawn(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start ``command``; its pid is also its process group and session. Raises OSError when there is no shell."""
        process = subprocess.Popen(
            ["/bin/sh", "-c", _GATE, "sh", *command],
            env=dict(env), cwd=cwd, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._tell(process.pid, guard=True)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already; its exit code says why
            process.stdin.write(b"\n")
            process.stdin.close()
        return process

    def forget(self, group: int) -> None:
        """The group has ended: its number may be used again by others."""
        self._tell(group, guard=False)

    def run_at_the_end(self, name: str, command: Sequence[str], *, env: Mapping[str, str]) -> None:
        """Run ``command`` when this process is gone: it ends what is not in a process group of ours."""
        text = f"{name} {json.dumps({'command': list(command), 'env': dict(env)})}"
        with self._lock:
            self._commands[name] = text
            if self._watcher is None or self._watcher.poll() is not None:
                self._start_watcher()
            else:
                self._write(f">{text}\n")

    def forget_command(self, name: str) -> None:
        """The command has nothing to end any more."""
        with self._lock:
            self._commands.pop(name, None)
            if self._watcher is not None and self._watcher.poll() is None:
                self._write(f"<{name}\n")

    def close(self) -> None:
        """End every group that is left, run the commands that are left, and end the helper."""
        with self._lock:
            watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                watcher.stdin.close()
            watcher.wait()

    def _tell(self, group: int, *, guard: bool) -> None:
        with self._lock:
            (self._groups.add if guard else self._groups.discard)(group)
            if self._watcher is not None and self._watcher.poll() is None:
                self._write(f"{'+' if guard else '-'}{group}\n")
            elif guard:
                self._start_watcher()

    def _start_watcher(self) -> None:
        command = [sys.executable, "-I", "-S", str(Path(warden_child.__file__))]
        self._watcher = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True, env={}
        )
        self._write("".join([*(f"+{group}\n" for group in self._groups), *(f">{text}\n" for text in self._commands.values())]))

    def _write(self, text: str) -> None:
        assert self._watcher is not None
        assert self._watcher.stdin is not None
        self._watcher.stdin.write(text)
        self._watcher.stdin.flush()


class Started:
    """A process group that was spawned, and its first process; ``label`` is how a wait that is too long names it."""

    def __init__(self, process: subprocess.Popen[bytes], warden: Warden, *, label: str) -> None:
        self._process, self._warden, self._label = process, warden, label

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one. Raises TimeoutError after ``timeout`` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{self._label} runs after {timeout:g} s") from error


def group_is_alive(group: int) -> bool:
    """Whether a process of the group, or one that left it, still runs; those that have ended but are not yet waited for do not count."""
    return _group_has_members(group) or bool(warden_child.strays([group]))


def _group_has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                return True
    return False


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
    for stray in warden_child.strays([group]):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(stray, number)


def _await_end(process: subprocess.Popen[bytes], *, seconds: float) -> bool:
    deadline, quiet = time.monotonic() + seconds, 0
    while quiet < _QUIET_LOOKS:
        quiet = 0 if process.poll() is None or group_is_alive(process.pid) else quiet + 1
        if quiet == 0 and time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def end_group(process: subprocess.Popen[bytes], *, grace: float) -> None:
    """SIGTERM to the whole group and who left it, SIGKILL after ``grace`` seconds; returns when none of these processes runs.

    Raises TimeoutError where a process survives even SIGKILL (stuck in the kernel) for 10 s.
    """
    _signal_group(process.pid, signal.SIGTERM)
    if _await_end(process, seconds=grace):
        return
    _signal_group(process.pid, signal.SIGKILL)
    if not _await_end(process, seconds=10.0):
        raise TimeoutError(f"process group {process.pid} survives SIGKILL")
