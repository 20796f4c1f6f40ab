"""Child side: runs a build's commands one by one, and ends with every process they left when its input ends.

The server holds the other end of the input, so its death, even by SIGKILL, is the build's end too. On Linux orphans become
children of this process, so that one which made a session of its own is found as well. Run as a script with nothing but the
standard library. Input: JSON lines ``{"shell", "script", "cwd", "env"}``. Output of the commands: stdout. Exit status of each
command: a line on the descriptor named in the first argument.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time

__all__ = ["main"]

_ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER, see prctl(2)
_END_SECONDS = 5.0
_POLL_SECONDS = 0.002


def main(status: int) -> None:
    """Run commands until the input ends, then kill every process of the build, this one too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, 1, 0, 0, 0)
    for line in sys.stdin:
        request = json.loads(line)
        process = subprocess.Popen(
            [request["shell"], "-c", request["script"]], cwd=request["cwd"], env=request["env"], stdin=subprocess.DEVNULL, stderr=1
        )
        # in a thread, so that the end of the input is seen while a command runs
        threading.Thread(target=_report, args=(process, status), daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), status)  # who waits for a command learns that no status will come
    if sys.platform == "linux":
        _end_descendants()
    os.killpg(0, signal.SIGKILL)


def _report(process: subprocess.Popen[bytes], status: int) -> None:
    os.write(status, b"%d\n" % process.wait())


def _end_descendants() -> None:
    """Kill the children until there are none: the orphans that one round makes are the children of the next."""
    deadline = time.monotonic() + _END_SECONDS
    with contextlib.suppress(ChildProcessError):  # no child is left
        while time.monotonic() < deadline:
            for pid in _children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
            time.sleep(_POLL_SECONDS)


def _children() -> list[int]:
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == os.getpid()]  # noqa: PTH208 - see below


def _parent(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as stat:  # noqa: PTH123 - pathlib would take longer to load than all of this
            # the name, in brackets, may hold anything; state and parent follow
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:  # it ended while we looked
        return None


if __name__ == "__main__":
    main(int(sys.argv[1]))
