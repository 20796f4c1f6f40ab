"""The warden's own process: ends what it was told about as soon as its parent is gone.

Run as a plain script with ``python -I -S``, so it starts in a few milliseconds; standard library only. Lines on standard
input: ``+<group>`` guards a process group, ``-<group>`` forgets it; ``><name> {"command", "env"}`` keeps a command
that ends something no signal of ours reaches (a container), ``<<name>`` forgets it. End of input means that the parent is gone.
"""

from __future__ import annotations

import os
import signal
import sys


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
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # it has ended by itself, or its number is someone else's now
            continue
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
