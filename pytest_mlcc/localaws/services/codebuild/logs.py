"""A build's log stream in CloudWatch Logs, written through the real API in batches."""

from __future__ import annotations

import threading
import time
from typing import Any

from botocore.exceptions import ClientError

__all__ = ["LogStream"]

_BATCH_SECONDS = 0.25
_BATCH_LINES = 500


class LogStream:
    """Lines go in, events come out; the stream is made at the first line."""

    def __init__(self, client: Any, *, group: str, stream: str) -> None:
        self._client, self._group, self._stream = client, group, stream
        self._pending: list[dict[str, Any]] = []
        self._made = False
        self._last = 0.0
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        """Add one line, sent with others a moment later."""
        with self._lock:
            # the service refuses empty messages
            self._pending.append({"timestamp": int(time.time() * 1000), "message": text or " "})
            due = len(self._pending) >= _BATCH_LINES or time.monotonic() - self._last > _BATCH_SECONDS
        if due:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        with self._lock:
            events, self._pending, self._last = self._pending, [], time.monotonic()
        if not events:
            return
        if not self._made:
            self._make()
        self._client.put_log_events(logGroupName=self._group, logStreamName=self._stream, logEvents=events)

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
