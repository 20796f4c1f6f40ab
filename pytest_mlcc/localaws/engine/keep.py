"""The warm parent, kept alive: one that dies is started again, so that an accident costs what ran, and not what comes next."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.engine.launch import EngineProcess

__all__ = ["KeptEngine"]

_YOUNG_SECONDS = 20.0
_YOUNG_DEATHS = 3

log = logging.getLogger(__name__)


class KeptEngine:
    """Starts the warm parent by ``start``, again and again, until it is stopped or has died young three times in a row."""

    def __init__(self, start: Callable[[], EngineProcess]) -> None:
        #: "starting", "started", or "unavailable: <why>".
        self.state = "starting"
        self._start = start
        self._process: EngineProcess | None = None
        self._lock = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._keep, name="engine keeper", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The warm parent's process id; None while there is none."""
        process = self._process
        return process.pid if process is not None else None

    def stop(self, timeout: float) -> None:
        """End the parent and all its children; it is not started again."""
        with self._lock:
            self._stopping = True
            process = self._process
        if process is not None:
            process.stop(timeout)
        self._thread.join()

    def _keep(self) -> None:
        try:
            young = 0
            while (seconds := self._live()) is not None:
                young = young + 1 if seconds < _YOUNG_SECONDS else 0
                if young == _YOUNG_DEATHS:
                    raise LocalAwsError(f"it died {young} times, each within {_YOUNG_SECONDS:g} s of its start; engine.log says why")
        except Exception as error:  # the rest of the local AWS works without: say it where status shows it
            log.exception("the engine could not be started")
            self.state = f"unavailable: {error}"

    def _live(self) -> float | None:
        """One life of the parent: how many seconds it had, or None if it was ended by us."""
        with self._lock:
            if self._stopping:
                return None
            process = self._process = self._start()
        self.state, began = "started", time.monotonic()
        code = process.wait()
        with self._lock:
            if self._stopping:
                return None
            self._process = None
            process.stop()  # it is dead; its socket goes
        log.error("the engine (pid %s) ended with code %s, and what it served or trained with it", process.pid, code)
        return time.monotonic() - began
