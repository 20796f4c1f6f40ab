"""The owner's side of the guardian: a process outside pytest that cleans what pytest could not."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["Guardian", "salvage_command"]

_WATCH = Path(__file__).with_name("watch.py")
_EXIT_SECONDS = 10.0

# Runners kill every process that carries the job's mark in its environment. An empty or foreign mark lets one live:
# GitHub's runner, and Jenkins' ProcessTreeKiller (its own documented value is "dontKillMe").
_OUTLIVE = {"RUNNER_TRACKING_ID": "", "JENKINS_NODE_COOKIE": "dontKillMe", "BUILD_ID": "dontKillMe", "HUDSON_COOKIE": "dontKillMe"}


def salvage_command(
    *, target: str, region: str, endpoint_url: str | None = None, account: str | None = None, rehearsed: bool = False
) -> Sequence[str]:
    """The command that cleans ledgers in a target, if need be only with credentials of ``account``; their paths are appended to it.

    ``rehearsed``: the local AWS plays delays that a deletion has to sit out.
    """
    command = [sys.executable, "-P", "-m", "pytest_mlcc.cleanup.salvage", "--target", target, "--region", region]
    command += ["--endpoint", endpoint_url] if endpoint_url else []
    command += ["--rehearsed"] if rehearsed else []
    return [*command, "--account", account] if account else command


class Guardian:
    """A handle on one guardian process. It cleans every ledger that was begun and not ended when this process dies silently.

    It has a session of its own, so that no Ctrl-C reaches it, and watches this process by pidfd and by a pipe. It can't
    survive the end of its container or machine: there, tags and the reaper help.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str], hold: Callable[[int], object] | None) -> None:
        self._command, self._log, self._environment, self._hold = list(command), log, environment, hold
        self._open: dict[Path, None] = {}
        self._process = self._spawn()

    @classmethod
    def start(
        cls, command: Sequence[str], *, log: Path, hold: Callable[[int], object] | None = None, outlive_ci_job: bool = False
    ) -> Guardian:
        """Start a guardian; takes a millisecond, it is ready some ten milliseconds later.

        ``command`` cleans the ledgers whose paths are appended to it (:func:`salvage_command`). ``log`` is where it writes what
        it did. ``hold`` is called with its pid: it keeps the local AWS alive while that process lives. ``outlive_ci_job`` takes
        away the marks by which CI runners find and kill what a job leaves behind: for persistent runners, opt-in, because such
        a process outlives the job for as long as cleaning takes.
        """
        environment = dict(os.environ)
        root = str(Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(part for part in (environment.get("PYTHONPATH"), root) if part)
        if outlive_ci_job:
            environment |= {name: value for name, value in _OUTLIVE.items() if name in environment}
        return cls(command, log, environment, hold)

    @property
    def pid(self) -> int:
        """The guardian's process."""
        return self._process.pid

    def begin(self, ledger: Path) -> None:
        """From now on the guardian answers for this ledger. Call it before the ledger's first line."""
        path = ledger.absolute()
        if "\n" in str(path):
            raise ValueError(f"a ledger's path must be one line: {str(path)!r}")
        self._open[path] = None
        self._tell(f"begin {path}")

    def end(self, ledger: Path) -> None:
        """This ledger is cleaned; the guardian may forget it."""
        self._open.pop(ledger.absolute(), None)
        self._tell(f"end {ledger.absolute()}")

    def done(self) -> int:
        """Send the guardian home; returns its exit code. Nothing is cleaned, whatever is open. A second call does nothing."""
        pipe = self._process.stdin
        if pipe is not None and not pipe.closed:
            with contextlib.suppress(BrokenPipeError):  # somebody ended it before us
                pipe.write(b"done\n")
            self._close_pipe()
        return self._process.wait(_EXIT_SECONDS)

    def _tell(self, line: str) -> None:
        """Write a line; a guardian that somebody ended is replaced by one that knows what is open."""
        try:
            self._write(line)
        except BrokenPipeError:
            self._close_pipe()
            self._process.wait(_EXIT_SECONDS)
            self._process = self._spawn()
            for path in self._open:
                self._write(f"begin {path}")

    def _write(self, line: str) -> None:
        pipe = self._process.stdin
        if pipe is None or pipe.closed:
            raise ValueError("the guardian was sent home; start another one")
        pipe.write(line.encode("utf-8", "surrogateescape") + b"\n")

    def _close_pipe(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        orders = json.dumps({"owner": os.getpid(), "command": self._command})
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_WATCH), orders],
                stdin=subprocess.PIPE, stdout=output, stderr=output, env=self._environment, bufsize=0, start_new_session=True,
            )  # fmt: skip
        if self._hold is not None:
            self._hold(process.pid)
        return process
