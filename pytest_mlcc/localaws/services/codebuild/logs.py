"""A build's log: a stream in CloudWatch Logs, written through the real API in batches, and a file for S3, as the project asks."""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

__all__ = ["BuildLog"]

_BATCH_SECONDS = 0.25
_BATCH_LINES = 500
_BATCH_BYTES = 512 << 10
_LEAST_SECRET = 4  # characters: a shorter line of a secret of several is no secret, and may stand anywhere


class BuildLog:
    """Lines go in, events come out a moment later; the stream is made at the first line. An empty ``group`` means no stream.

    ``copy`` is a file that gets every line too, packed; ``closed`` must be called before it is read.
    """

    def __init__(self, client: Any, *, group: str, stream: str, copy: Path | None = None) -> None:
        self._client, self._group, self._stream = client, group, stream
        self._pending: list[dict[str, Any]] = []
        self._bytes = 0
        self._made = False
        self._last = 0.0
        self._hidden: list[str] = []
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._late: threading.Timer | None = None
        self._copy = gzip.open(copy, "wt", encoding="utf-8") if copy else None  # noqa: SIM115 - open as long as the build runs

    def hide(self, secrets: Collection[str]) -> None:
        """From now on, write three asterisks for each of these, as CodeBuild does; for each line of those that have several."""
        lines = {line.strip() for secret in secrets for line in secret.splitlines() if len(line.strip()) >= _LEAST_SECRET}
        self._hidden = sorted({*filter(None, secrets), *lines}, key=len, reverse=True)  # one may be part of another

    def masked(self, text: str) -> str:
        """The text without the secrets."""
        for secret in self._hidden:
            text = text.replace(secret, "***")
        return text

    def say(self, text: str) -> None:
        """Add a line of CodeBuild's own."""
        self._add(f"[Container] {dt.datetime.now(dt.UTC):%Y/%m/%d %H:%M:%S.%f} {self.masked(text)}")

    def line(self, text: str) -> None:
        """Add one line, sent with others a moment later."""
        self._add(self.masked(text))

    def _add(self, text: str) -> None:
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
            if not due and self._late is None:
                self._late = threading.Timer(_BATCH_SECONDS, self._flush_late)
                self._late.daemon = True
                self._late.start()
        if due:
            self.flush()

    def _flush_late(self) -> None:
        """Send the last lines before a silence: they say what a build is doing."""
        with self._lock:
            self._late = None
        with contextlib.suppress(Exception):  # the build itself meets what hinders it, at its next line or its end
            self.flush()

    def flush(self) -> None:
        """Send what waits; what can't be sent goes on waiting."""
        with self._sending:
            with self._lock:
                events, self._pending, self._bytes, self._last = self._pending, [], 0, time.monotonic()
            try:
                self._send(events)
            except BaseException:
                with self._lock:
                    self._pending = [*events, *self._pending]
                raise

    def _send(self, events: list[dict[str, Any]]) -> None:
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
            if self._late is not None:
                self._late.cancel()
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
