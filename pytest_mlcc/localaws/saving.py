"""State reaches the disk a moment after it changed, so that a killed server loses at most that moment.

Only the services that were asked to change something are written then, and all of them every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Callable, Collection, Mapping
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
#: So may new lines of logs: each makes the largest state of all a little larger, and no result depends on the last ones.
_PATIENT = frozenset({"logs"})

log = logging.getLogger(__name__)


class Saver:
    """Runs ``save`` in a thread soon after ``mark``, one at a time; it is told which services to write, None for all."""

    def __init__(self, save: Callable[[Collection[str] | None], None], *, loop: asyncio.AbstractEventLoop) -> None:
        self._save = save
        self._loop = loop
        self._marked = asyncio.Event()
        self._lock = asyncio.Lock()
        self._marking = threading.Lock()
        self._changes = 0
        self._saved = 0
        self._dirty: set[str | None] = set()
        #: Why the last save failed; empty where it did not.
        self.failure = ""

    @property
    def unsaved(self) -> bool:
        """Whether something changed that is not on disk yet."""
        return self._saved < self._changes

    def mark(self, service: str | None = None) -> None:
        """Something changed in a service, or in who knows which. Callable from any thread."""
        with self._marking:
            self._dirty.add(service)
            self._changes += 1
        if service not in _PATIENT:
            self._loop.call_soon_threadsafe(self._marked.set)

    async def flush(self) -> None:
        """Write everything now; returns when all that changed before the call is on disk."""
        async with self._lock:
            await self._write(None)

    async def _write(self, services: Collection[str] | None) -> None:
        with self._marking:
            seen, dirty, self._dirty = self._changes, self._dirty, set()
        left = dirty - set(services) if services is not None else set()
        try:
            await asyncio.to_thread(self._save, services)
        except BaseException:
            self._put_back(dirty)
            raise
        self._put_back(left)
        if not left:
            self._saved = seen

    def _put_back(self, services: Collection[str | None]) -> None:
        with self._marking:
            self._dirty.update(services)

    async def _write_dirty(self) -> None:
        async with self._lock:
            with self._marking:
                dirty = set(self._dirty)
            await self._write(None if None in dirty else {service for service in dirty if service is not None} - _PATIENT)

    async def run(self) -> None:
        """Save after each change, until cancelled. A failed save is logged and tried again a moment later."""
        rest, everything_at = 0.0, self._loop.time() + UNASKED_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(everything_at):
                    await self._marked.wait()
                    await asyncio.sleep(max(DEBOUNCE_SECONDS, rest))
            self._marked.clear()
            began = self._loop.time()
            try:
                if began < everything_at:
                    await self._write_dirty()
                else:
                    everything_at = began + UNASKED_SECONDS
                    await self.flush()
                self.failure = ""
            except Exception as error:
                self._note(error)
            rest = REST_FACTOR * (self._loop.time() - began)

    def _note(self, error: Exception) -> None:
        """Log it once, not each time: what hinders one save (a full disk) hinders the next."""
        if not self.failure:
            log.error("state could not be saved, and is lost if this process ends now", exc_info=error)
        self.failure = str(error) or type(error).__name__


def save_services(services: Mapping[str, Any], *, directory: Path, only: Collection[str] | None = None) -> None:
    """Write the snapshot of each service that gives one (of those named in ``only``) to ``<directory>/<name>.json``."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, service in services.items():
        if hasattr(service, "snapshot") and (only is None or name in only):
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
