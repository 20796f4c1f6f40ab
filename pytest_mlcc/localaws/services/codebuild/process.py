"""Parent side of a build's process: run a command, hear its lines, stop it with all it started."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["BuildProcess", "OutOfTimeError", "StoppedError"]

_SUPERVISE = Path(__file__).with_name("supervise.py")
_END_SECONDS = 10.0
_LINE_BYTES = 128 << 10  # a longer line becomes several, which CloudWatch Logs takes for events


class OutOfTimeError(Exception):
    """The build's time is over; its processes were told to end."""


class StoppedError(Exception):
    """The build was stopped while a command ran; its processes were told to end."""


class BuildProcess:
    """The processes of one build: what its commands start, and what that starts."""

    def __init__(self, *, deadline: float, on_line: Callable[[str], None]) -> None:
        """Nothing runs before the first ``run``. ``deadline`` is on the clock of ``time.monotonic``."""
        self._deadline, self._on_line = deadline, on_line
        self._partial = b""
        status_out, status_in = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-ISE", str(_SUPERVISE), str(status_in)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True, pass_fds=(status_in,), env={"PATH": os.environ.get("PATH", os.defpath)},
        )  # fmt: skip
        os.close(status_in)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout.fileno()
        self._status = os.fdopen(status_out, "rb", buffering=0)
        os.set_blocking(self._output, False)

    @property
    def pid(self) -> int:
        """The process that all others of the build descend from."""
        return self._process.pid

    def run(self, shell: str, script: str, *, cwd: Path, env: Mapping[str, str]) -> int:
        """Run one script with ``shell`` (``bash`` or ``sh``); its exit status.

        Raises OutOfTimeError or StoppedError, after which everything is on its way out.
        """
        request = json.dumps({"shell": shell, "script": script, "cwd": str(cwd), "env": dict(env)})
        try:
            self._input.write(request.encode() + b"\n")
            self._input.flush()
        except (OSError, ValueError):
            raise StoppedError from None
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            selector.register(self._status, selectors.EVENT_READ)
            return self._until_status(selector)

    def _until_status(self, selector: selectors.BaseSelector) -> int:
        while True:
            ready = {key.fd for key, _ in selector.select(max(0.0, self._deadline - time.monotonic()))}
            if time.monotonic() >= self._deadline and self._status.fileno() not in ready:
                self.kill()
                raise OutOfTimeError
            if self._output in ready and not self._read_output():
                selector.unregister(self._output)
            if self._status.fileno() in ready:
                word = self._status.read(64)
                while self._read_output():  # what the command wrote before it ended comes before what follows
                    pass
                self._end_line()
                if not word:
                    self.kill()
                    raise StoppedError
                return int(word)

    def _read_output(self) -> bool:
        """Take what is there; False where nothing is."""
        try:
            chunk = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return False
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            self._on_line(line.decode(errors="replace").rstrip("\r"))
        if len(self._partial) > _LINE_BYTES:
            self._end_line()
        return bool(chunk)

    def _end_line(self) -> None:
        if self._partial:
            self._on_line(self._partial.decode(errors="replace"))
            self._partial = b""

    def kill(self) -> None:
        """Tell every process of the build to end; callable from another thread, and more than once. ``close`` waits for them."""
        with suppress(OSError):
            self._input.close()

    def close(self) -> None:
        """End what is left, wait for its end and free the pipes."""
        self.kill()
        if self._process.returncode is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
            with suppress(ProcessLookupError):  # the group is empty, unless a command has killed who should have seen to it
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._status.close()
