"""The warden's own process: ends the process groups it was told about as soon as its parent is gone.

Run as a plain script with ``python -I -S``, so it starts in a few milliseconds; standard library only. Lines on standard
input: ``+<group>`` guards a process group, ``-<group>`` forgets it. End of input means that the parent is gone.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Read until the end of input, then kill what is left."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        (groups.add if line[0] == "+" else groups.discard)(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # it has ended by itself, or its number is someone else's now
            continue


if __name__ == "__main__":
    main()
