"""Progress during long stages: a thread of the controller that reads what workers write to disk."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from pytest_mlcc.lifecycle.blueprint import Blueprint
from pytest_mlcc.plugin.terminal import Screen
from pytest_mlcc.results.journal import Journal

__all__ = ["Follower"]

_LOOK = 1.0  # seconds between two looks
_PATIENCE = 10.0  # seconds after which a stage that still runs is mentioned again


class Follower:
    """Shows live output of stages (``--mlcc-verbose``) or, every ten seconds, which stages still run and what they wrote last.

    It works the same with and without xdist, whose workers have no terminal: the run's folder is what both sides share.
    """

    def __init__(self, blueprint: Blueprint, screen: Screen) -> None:
        self._run_dir = blueprint.run_dir
        self._verbose = blueprint.settings.verbose
        self._screen = screen
        self._journal = Journal(blueprint.run_dir)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._read: dict[Path, int] = {}
        self._mentions: dict[tuple[str, str], int] = {}
        self._concluded: set[str] = set()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to follow; asked again, do nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="mlcc-follow", daemon=True)
            self._thread.start()

    def conclude(self, entry: str) -> None:
        """The entry is through: show the rest of its output and forget it."""
        with self._lock:
            if self._verbose:
                self._show_new(entry)
            self._concluded.add(entry)

    def stop(self) -> None:
        """End."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(_LOOK):
            with self._lock:
                for entry in self._journal.entries():
                    if entry not in self._concluded:
                        self._show_new(entry) if self._verbose else self._remind(entry)

    def _show_new(self, entry: str) -> None:
        for path in sorted((self._run_dir / "logs" / entry).glob("*.log"), key=lambda one: one.stat().st_mtime):
            for line in self._new_lines(path):
                self._screen.live(entry, path.stem, line)

    def _new_lines(self, path: Path) -> list[str]:
        """Whole lines written since the last look."""
        start = self._read.get(path, 0)
        with path.open("rb") as file:
            file.seek(start)
            whole = file.read().rpartition(b"\n")[0]
        if not whole:
            return []
        self._read[path] = start + len(whole) + 1
        return whole.decode("utf-8", "replace").splitlines()

    def _remind(self, entry: str) -> None:
        """Mention a stage that has been running for ten seconds, twenty, thirty..."""
        journal = self._journal.read(entry)
        if journal.in_flight is None or journal.in_flight_since is None:
            return
        seconds = time.time() - journal.in_flight_since
        mentions = int(seconds // _PATIENCE)
        if mentions > self._mentions.get((entry, journal.in_flight), 0):
            self._mentions[entry, journal.in_flight] = mentions
            self._screen.still_running(entry, journal.in_flight, seconds, self._last_line(entry, journal.in_flight))

    def _last_line(self, entry: str, stage: str) -> str:
        path = self._run_dir / "logs" / entry / f"{stage}.log"
        lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        return lines[-1] if lines else ""
