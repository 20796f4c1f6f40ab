"""A build's log: a stream in CloudWatch Logs, written through the real API in batches, and a file for S3, as the project asks."""

from __future__ import annotations

import gzip
import threading
import time
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

__all__ = ["BuildLog"]

_BATCH_SECONDS = 0.25
_BATCH_LINES = 500
_BATCH_BYTES = 512 << 10


class BuildLog:
    """Lines go in, events come out; the stream is made at the first line. An empty ``group`` means no stream.

    ``copy`` is a file that gets every line too, packed; ``closed`` must be called before it is read.
    """

    def __init__(self, client: Any, *, group: str, stream: str, copy: Path | None = None) -> None:
        self._client, self._group, self._stream = client, group, stream
        self._pending: list[dict[str, Any]] = []
        self._bytes = 0
        self._made = False
        self._last = 0.0
        self._lock = threading.Lock()
        self._copy = gzip.open(copy, "wt", encoding="utf-8") if copy else None  # noqa: SIM115 - open as long as the build runs

    def line(self, text: str) -> None:
        """Add one line, sent with others a moment later."""
        with self._lock:
            if self._copy is not None:
                self._copy.write(f"{text}\n")
            if not self._group:
                return
            # the service refuses empty messages
            self._pending.append({"timestamp": int(time.time() * 1000), "message": text or " "})
            self._bytes += len(text)
            many = len(self._pending) >= _BATCH_LINES or self._bytes >= _BATCH_BYTES
            due = many or time.monotonic() - self._last > _BATCH_SECONDS
        if due:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        with self._lock:
            events, self._pending, self._bytes, self._last = self._pending, [], 0, time.monotonic()
        if not events:
            return
        if not self._made:
            self._make()
        self._client.put_log_events(logGroupName=self._group, logStreamName=self._stream, logEvents=events)

    def closed(self) -> None:
        """Send the rest and finish the file."""
        try:
            self.flush()
        finally:
            if self._copy is not None:
                self._copy.close()

    def _make(self) -> None:
        for operation, names in (
            (self._client.create_log_group, {"logGroupName": self._group}),
            (self._client.create_log_stream, {"logGroupName": self._group, "logStreamName": self._stream}),
        ):
            try:
                operation(**names)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
                    raise
        self._made = True
