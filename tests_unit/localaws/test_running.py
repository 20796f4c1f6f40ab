"""What ``mlcc local status`` says of what runs: a served model whose memory is not counted hides what a laptop runs out of."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytest_mlcc.localaws.running import what_runs

_LISTEN = """
import socket, sys
held = b"x" * (64 << 20)
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""
_MEBIBYTE = 1 << 20


class Hosting:
    """A service with these resources."""

    def __init__(self, *resources: dict[str, Any]) -> None:
        self.resources = resources

    def running(self) -> list[dict[str, Any]]:
        return list(self.resources)


@contextmanager
def started(code: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-I", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def test_the_memory_of_a_served_model_is_that_of_the_process_that_serves_it_too() -> None:
    """The entry point of an image waits while the engine's child does the work; the child holds the container's port."""
    with started("import sys; sys.stdin.read()") as entry_point, started(_LISTEN) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        shown = {"kind": "endpoint", "name": "e", "status": "InService", "pid": entry_point.pid, "started": time.time() - 5}
        (alone,) = what_runs([Hosting(shown)])
        (whole,) = what_runs([Hosting({**shown, "port": port})])
        (twice,) = what_runs([Hosting({**shown, "pid": child.pid, "port": port})])
    assert 0 < alone["memory"] < 40 * _MEBIBYTE
    assert whole["memory"] > alone["memory"] + 64 * _MEBIBYTE
    assert twice["memory"] < whole["memory"], "a process is counted once"
    assert (whole["pid"], "port" in whole) == (entry_point.pid, False)
    assert 5 <= whole["age"] < 60


def test_a_process_that_is_gone_has_no_memory_and_what_has_none_is_shown_all_the_same() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    gone, none = what_runs([Hosting({"kind": "build", "name": "b", "status": "BUILD", "pid": process.pid}),
                            Hosting({"kind": "endpoint", "name": "e", "status": "Creating"})])[::-1]  # fmt: skip
    assert (gone["name"], gone["memory"]) == ("b", None)
    assert (none["name"], none["pid"], none["memory"], none["age"]) == ("e", None, None, None)
