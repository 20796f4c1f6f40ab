"""A job's output on its way to CloudWatch Logs, while the job runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from pytest_mlcc.localaws.services.sagemaker.clients import Clients

__all__ = ["JobLog"]

_SHIP_SECONDS = 0.5
_MOST_BYTES = 4 << 20

_log = logging.getLogger(__name__)


class JobLog:
    """One file that grows, and its log stream. Used by one thread."""

    def __init__(self, path: Path, clients: Clients, *, group: str, stream: str, region: str) -> None:
        self.path = path
        self._clients, self._group, self._stream, self._region = clients, group, stream, region
        self._shipped = 0
        self._next = time.monotonic() + _SHIP_SECONDS

    def ship_now_and_then(self) -> bool:
        """What has come since half a second, where it is time; whether it was."""
        if time.monotonic() < self._next:
            return False
        self.ship()
        self._next = time.monotonic() + _SHIP_SECONDS
        return True

    def ship(self, *, last: bool = False) -> None:
        """What has come; a line that is not finished waits, unless nothing more will come (``last``)."""
        while data := self._grown(last=last):
            self._shipped += len(data)
            self.write(data.decode(errors="replace").splitlines())

    def write(self, lines: Sequence[str]) -> None:
        """Lines of one's own."""
        try:
            self._clients.log(lines, group=self._group, stream=self._stream, region=self._region)
        except (BotoCoreError, ClientError):  # a job does not fail because its log could not be kept
            _log.warning("the log %s could not be written", self._stream, exc_info=True)

    def _grown(self, *, last: bool) -> bytes:
        try:
            with self.path.open("rb") as log:
                log.seek(self._shipped)
                data = log.read(_MOST_BYTES)
        except FileNotFoundError:
            return b""
        whole = data.rfind(b"\n") + 1
        return data if last or (not whole and len(data) == _MOST_BYTES) else data[:whole]
