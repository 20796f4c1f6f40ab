"""Slow imports in the background, which a process that ends meanwhile breaks off."""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Preload"]


class Preload:
    """Runs a function of many imports once, in a thread of its own, while the process waits for something else.

    What goes wrong in it is not the fault of the stage that runs meanwhile: the one that needs the imports tries again and says why.
    An interpreter that ends under a thread in an extension's C++ code aborts the process with SIGABRT, and waiting for all imports
    would hold a short run up for seconds: so at exit the next import breaks the thread off.
    """

    def __init__(self, load: Callable[[], object]) -> None:
        self._load = load
        self._thread = threading.Thread(target=self._run, name="mlcc-preload", daemon=True)

    def start(self) -> None:
        """Begin; asked again, do nothing."""
        if self._thread.ident is None:
            self._thread.start()
            atexit.register(self.stop)

    def stop(self) -> None:
        """Break the imports off, and return when the thread has ended."""
        sys.meta_path.insert(0, self)
        try:
            self._thread.join()
        finally:
            sys.meta_path.remove(self)

    def find_spec(self, *_: object) -> None:
        """Asked by the import system for each module that is not loaded: end our thread, leave the others alone."""
        if threading.current_thread() is self._thread:
            raise SystemExit

    def _run(self) -> None:
        with suppress(Exception):
            self._load()
