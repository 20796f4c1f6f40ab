"""The guardian's own process: waits for its owner's last word, and cleans if there was none. Standard library only.

Run by path with ``python -I -S`` (9 ms instead of 100): it must cost nothing where all goes well. Its arguments are one JSON
object: the owner's pid and the command that cleans; ledgers come on standard input, one line each: ``begin PATH``,
``end PATH``, ``done``.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time

__all__ = ["Owner", "main", "watch"]

DONE = "done"


class Owner:
    """The process that is watched: by its pidfd where the system has one, by its end of the pipe in any case.

    The pipe alone is not enough: a forked child of the owner may hold it open for long after the owner died.
    """

    def __init__(self, pid: int) -> None:
        self.pidfd: int | None = None
        self.dead = os.getppid() != pid
        if not self.dead and hasattr(os, "pidfd_open"):
            try:
                self.pidfd = os.pidfd_open(pid)
            except OSError:  # an old kernel, or the owner died just now, which the pipe will tell
                self.pidfd = None


def watch(owner: Owner) -> list[str] | None:
    """The ledgers that were begun and not ended when the owner went without a word; None if it said ``done``."""
    ledgers: dict[str, None] = {}  # a dict keeps the order
    buffer = b""
    while True:
        readable = [0] if owner.dead or owner.pidfd is None else [0, owner.pidfd]
        ready, _, _ = select.select(readable, [], [], 0 if owner.dead else None)
        if 0 in ready:
            data = os.read(0, 65536)
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                word, _, path = line.decode("utf-8", "surrogateescape").partition(" ")
                if word == DONE:
                    return None
                if word == "begin":
                    ledgers[path] = None
                elif word == "end":
                    ledgers.pop(path, None)
            if not data:
                return list(ledgers)
        elif owner.dead:
            return list(ledgers)  # all that it wrote has been read
        else:
            owner.dead = True


def main(argument: str) -> int:
    """Watch, and clean if need be; the exit code of what cleaned."""
    orders = json.loads(argument)
    ledgers = watch(Owner(orders["owner"]))
    if not ledgers:
        return 0
    import subprocess  # not before it is needed: half of this process's start time

    _say(f"the owner, process {orders['owner']}, is gone without cleaning; {len(ledgers)} entries are open")
    code = subprocess.call([*orders["command"], *ledgers], stdin=subprocess.DEVNULL)
    _say(f"cleaning ended with exit code {code}")
    return code


def _say(text: str) -> None:
    """A line into the log file, which is our standard output."""
    sys.stdout.write(time.strftime("%Y-%m-%dT%H:%M:%S ") + text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
