"""Which runtime the holders of a server want, and which engine there is for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from enum import StrEnum
from pathlib import Path
from typing import Any

from pytest_mlcc.localaws.holders import Holder
from pytest_mlcc.localaws.images import engine as engines
from pytest_mlcc.localaws.images.engine import Engine, Found
from pytest_mlcc.localaws.runtime import namespace

__all__ = ["Mode", "RuntimeChoice"]


class Mode(StrEnum):
    """``auto``: processes, but containers for what only an engine can build or run; the others say what they mean."""

    AUTO = "auto"
    PROCESS = "process"
    CONTAINER = "container"


class RuntimeChoice:
    """What is asked for, by whoever holds the server, and the engine of this machine, looked for when first needed."""

    def __init__(self, directory: Path | None = None, *, look: Callable[[Path], Found] = engines.find) -> None:
        self._directory, self._look = directory, look
        self._lock, self._looking = threading.Lock(), threading.Lock()  # looking may take long; nobody else waits for it
        self._asked: dict[Holder, Mode] = {}
        self._found: Found | None = None

    @property
    def mode(self) -> Mode:
        """What the holders want; ``auto`` where none wants anything in particular."""
        with self._lock:
            return next(iter(self._asked.values()), Mode.AUTO)

    def ask(self, holder: Holder, mode: str | None) -> str:
        """Note a holder's wish; why it can't be had, where another holder wants something else."""
        if mode in (None, Mode.AUTO):
            return ""
        try:
            wanted = Mode(str(mode))
        except ValueError:
            return f"{mode!r} is no runtime: auto, process and container are"
        with self._lock:
            for other, its in self._asked.items():
                if other != holder and its is not wanted:
                    return f"it runs images by --mlcc-runtime {its} for {other}; wait for that one's end, or ask for the same"
            self._asked[holder] = wanted
        return ""

    def keep(self, living: Collection[Holder]) -> None:
        """Forget the wishes of holders that are gone."""
        with self._lock:
            self._asked = {holder: mode for holder, mode in self._asked.items() if holder in living}

    @property
    def engine(self) -> Found:
        """The engine that works, or why none does. The first call takes some tenths of a second."""
        with self._looking:
            if self._found is None:
                self._found = self._look(self._directory) if self._directory else Found(None, "this server has no place for one")
            return self._found

    def engine_in_use(self) -> Engine | None:
        """The engine, if one was needed so far."""
        return self._found.engine if self._found else None

    def to_json(self) -> dict[str, Any]:
        """For ``mlcc local status``; looks for no engine. ``shares_opt_ml`` says why processes have no ``/opt/ml`` of their own, if so."""
        used = self.engine_in_use()
        return {
            "mode": self.mode, "installed": engines.installed(), "engine": f"{used.kind} {used.version}" if used else None,
            "reason": self._found.reason if self._found else "",
            "shares_opt_ml": namespace.possible() if namespace.possible.cache_info().currsize else "",
        }  # fmt: skip

    def for_builds(self, *, look: bool) -> dict[str, Any]:
        """For the ``docker`` command of builds: how Dockerfiles are built; ``look`` for one, or tell what is known so far."""
        mode = self.mode
        if mode is Mode.PROCESS:
            found = Found(None, "the local AWS was asked for processes only (--mlcc-runtime process)")
        else:
            found = self.engine if look else self._found or Found(None, "no engine was needed so far")
        return {"mode": mode, "engine": found.engine.to_json() if found.engine else None, "reason": found.reason}
