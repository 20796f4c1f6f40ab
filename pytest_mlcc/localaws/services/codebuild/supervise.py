"""Child side: runs a build's commands one by one, and ends with every process they left when its input ends.

The server holds the other end of the input, so its death, even by SIGKILL, is the build's end too. Run as a script with
nothing but the standard library. Input: JSON lines ``{"shell", "script", "cwd", "env"}``. Output of the commands: stdout. Exit
status of each command: a line on the descriptor named in the first argument.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

__all__ = ["main"]


def main(status: int) -> None:
    """Run commands until the input ends, then kill the whole process group, which this process leads."""
    for line in sys.stdin:
        request = json.loads(line)
        process = subprocess.Popen(
            [request["shell"], "-c", request["script"]], cwd=request["cwd"], env=request["env"], stdin=subprocess.DEVNULL, stderr=1
        )
        # in a thread, so that the end of the input is seen while a command runs
        threading.Thread(target=_report, args=(process, status), daemon=True).start()
    os.killpg(0, signal.SIGKILL)


def _report(process: subprocess.Popen[bytes], status: int) -> None:
    os.write(status, b"%d\n" % process.wait())


if __name__ == "__main__":
    main(int(sys.argv[1]))
