"""State reaches the disk a moment after it changed, so that a killed server loses at most that moment."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.emulator import write_atomically

__all__ = ["DEBOUNCE_SECONDS", "Saver", "restore_services", "save_services"]

#: Changes that follow each other faster than this are written together.
DEBOUNCE_SECONDS = 0.15
#: A save that took a second is followed by ten without one: state grows, and saving it must not become the server's work.
REST_FACTOR = 10.0
#: Step functions, schedules and Lambdas change state without a request; this is how long such a change may wait.
UNASKED_SECONDS = 5.0

log = logging.getLogger(__name__)


class Saver:
    """Runs ``save`` in a thread soon after ``mark``, one at a time."""

    def __init__(self, save: Callable[[], None], *, loop: asyncio.AbstractEventLoop) -> None:
        self._save = save
        self._loop = loop
        self._marked = asyncio.Event()
        self._lock = asyncio.Lock()
        self._changes = 0
        self._saved = 0

    @property
    def unsaved(self) -> bool:
        """Whether something changed that is not on disk yet."""
        return self._saved < self._changes

    def mark(self) -> None:
        """Something changed. Callable from any thread."""
        self._changes += 1
        self._loop.call_soon_threadsafe(self._marked.set)

    async def flush(self) -> None:
        """Write now; returns when everything that changed before the call is on disk."""
        async with self._lock:
            seen = self._changes
            await asyncio.to_thread(self._save)
            self._saved = seen

    async def run(self) -> None:
        """Save after each change, until cancelled. A failed save is logged and tried again with the next."""
        rest = 0.0
        while True:
            try:
                async with asyncio.timeout(UNASKED_SECONDS):
                    await self._marked.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(max(DEBOUNCE_SECONDS, rest))
            self._marked.clear()
            began = self._loop.time()
            try:
                await self.flush()
            except Exception:
                log.exception("state could not be saved")
            rest = REST_FACTOR * (self._loop.time() - began)


def save_services(services: Mapping[str, Any], *, directory: Path) -> None:
    """Write the snapshot of each service that gives one to ``<directory>/<name>.json``."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, service in services.items():
        if hasattr(service, "snapshot"):
            path, text = directory / f"{name}.json", json.dumps(service.snapshot())
            if not path.exists() or path.read_text() != text:
                write_atomically(path, text)


def restore_services(services: Mapping[str, Any], *, directory: Path) -> None:
    """Hand each service what its snapshot held last; one without a file starts empty.

    Raises LocalAwsError for a damaged file: to go on without it would lose the rest at the next save.
    """
    for name, service in services.items():
        path = directory / f"{name}.json"
        if hasattr(service, "restore") and path.exists():
            try:
                service.restore(json.loads(path.read_text()))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise LocalAwsError(f"{path} is damaged ({error}); 'mlcc local reset' forgets all state and starts anew") from error
