"""The warden's own process: ends what it was told about as soon as its parent is gone.

Run as a plain script with ``python -I -S``, so it starts in a few milliseconds; standard library only. Lines on standard
input: ``+<group>`` guards a process group, ``-<group>`` forgets it; ``><name> {"command", "env"}`` keeps a command
that ends something no signal of ours reaches (a container), ``<<name>`` forgets it. End of input means that the parent is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

#: In the environment of each program, with the number of its process group: it finds those that made a group of their own.
MARK = "MLCC_GROUP"

_ROUNDS = 100
_ROUND_SECONDS = 0.01
_QUIET_ROUNDS = 2  # a process that leaves its group, or becomes another program, is not seen for a moment


def strays(groups: Collection[int]) -> list[int]:
    """The processes that programs of these groups started, and that left the group. Needs Linux; elsewhere none are found."""
    wanted = {f"{MARK}={group}".encode() for group in groups}
    return [pid for pid in _processes() if wanted.intersection(_environment(pid)) and _group_of(pid) not in groups]


def _processes() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()] if sys.platform == "linux" else []


def _environment(pid: int) -> list[bytes]:
    """What the process was started with; nothing where it is another user's, or has ended."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - pathlib would take longer to load than all the rest
            return file.read().split(b"\0")
    except OSError:
        return []


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _kill(groups: set[int]) -> None:
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # it has ended by itself, or its number is someone else's now
            continue
    quiet = 0
    for _ in range(_ROUNDS):  # one that is killed may have started another a moment before
        found = strays(groups)
        quiet = 0 if found else quiet + 1
        if quiet == _QUIET_ROUNDS:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(_ROUND_SECONDS)


def main() -> None:
    """Read until the end of input, then end what is left."""
    groups: set[int] = set()
    commands: dict[str, str] = {}
    for line in sys.stdin:
        sign, rest = line[0], line[1:].rstrip("\n")
        if sign == ">":
            name, _, command = rest.partition(" ")
            commands[name] = command
        elif sign == "<":
            commands.pop(rest, None)
        else:
            (groups.add if sign == "+" else groups.discard)(int(rest))
    if groups:
        _kill(groups)
    if commands:
        _run(list(commands.values()))


def _run(commands: list[str]) -> None:
    import json  # here, not above: what guards processes only does without them and starts sooner
    import subprocess

    started = []
    for command in map(json.loads, commands):
        try:
            started.append(
                subprocess.Popen(
                    command["command"], env=command["env"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
        except OSError:  # the engine is not there any more, so neither is what it ran
            continue
    for process in started:
        process.wait()


if __name__ == "__main__":
    main()
