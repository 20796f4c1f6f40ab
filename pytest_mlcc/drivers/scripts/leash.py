"""Runs one command and ends it with everything it started when the standard input ends. Standard library only.

The driver holds the other end of the input, so its death, even by SIGKILL, is the command's end too. This process leads the
group; its exit status is the command's, 128 and the signal where a signal ended it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

__all__ = ["main"]

_GRACE = 5.0


def main(command: list[str]) -> int:
    """Run it with a closed input; the status."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is meant for the others of the group
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_take_signals)  # noqa: PLW1509 - a single thread yet
    threading.Thread(target=_end_with_input, daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


def _take_signals() -> None:
    """What is ignored stays ignored in a child, unless it is told otherwise."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_with_input() -> None:
    while os.read(0, 4096):  # not sys.stdin: a thread that waits in its buffer would keep Python from ending
        pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(_GRACE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
