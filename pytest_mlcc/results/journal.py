"""What a run did so far, on disk, one file per entry: the truth that survives the process which wrote it.

Each line is one JSON object with an ``event``: ``start`` and ``outcome`` of a stage, or a note such as ``claim``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from pytest_mlcc.lifecycle.events import Event, StageStarted
from pytest_mlcc.lifecycle.outcome import Outcome, Result

__all__ = ["EntryJournal", "Journal"]

_START = "start"
_OUTCOME = "outcome"


@dataclass(frozen=True, slots=True)
class EntryJournal:
    """What a journal says of one entry.

    ``outcomes`` by stage, in the order of the file; a failure stands, whatever a later line says of the same stage.
    ``in_flight`` is the stage that was started and has no outcome: it runs now, or its process died in it, and
    ``in_flight_since`` (seconds since the epoch) is when it was started. ``notes`` are all other events, ``torn`` the
    number of lines that could not be read; a last line without its end, which is being written or never will be, is none.
    """

    outcomes: Mapping[str, Outcome]
    in_flight: str | None
    in_flight_since: float | None
    notes: Sequence[Mapping[str, Any]]
    torn: int

    def noted(self, event: str) -> Mapping[str, Any] | None:
        """The last note of that kind, None where there is none."""
        return next((note for note in reversed(self.notes) if note["event"] == event), None)


class Journal:
    """The journals of one run, below ``<run folder>/journal``.

    Several processes may write at once, as long as each entry has one writer at a time. A line is one ``write`` to a
    file opened for appending: it survives the death of its process (not a power cut), and readers see whole lines.
    """

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / "journal"
        self._entry: str | None = None
        self._descriptor = -1

    def path(self, entry: str) -> Path:
        """The file of one entry."""
        return self.folder / f"{quote(entry, safe='')}.jsonl"

    def listener(self, event: Event) -> None:
        """Write one event of the lifecycle down; hand this method to whatever emits events."""
        if isinstance(event, StageStarted):
            self._append(event.entry, {"event": _START, "stage": event.stage, "at": event.at})
        else:
            self._append(event.outcome.entry, {"event": _OUTCOME, "outcome": event.outcome.to_data()})

    def note(self, entry: str, event: str, **facts: Any) -> None:
        """Write down something else that happened: a claim, a release, a written record."""
        if event in (_START, _OUTCOME):
            raise ValueError(f'"{event}" is written by the listener alone')
        self._append(entry, {"event": event, **facts})

    def read(self, entry: str) -> EntryJournal:
        """What is written of ``entry``, also while it is being written and after a crash; empty if nothing is."""
        lines, torn = self._lines(entry)
        outcomes: dict[str, Outcome] = {}
        started: dict[str, float] = {}
        notes: list[Mapping[str, Any]] = []
        for line in lines:
            if line["event"] == _START:
                started.pop(line["stage"], None)
                started[line["stage"]] = line["at"]
            elif line["event"] == _OUTCOME:
                outcome = Outcome.from_data(line["outcome"])
                started.pop(outcome.stage, None)
                _keep(outcomes, outcome)
            else:
                notes.append(line)
        stage, since = next(reversed(started.items())) if started else (None, None)
        return EntryJournal(outcomes, stage, since, tuple(notes), torn)

    def entries(self) -> tuple[str, ...]:
        """The entries that have a journal, sorted."""
        return tuple(sorted(unquote(path.stem) for path in self.folder.glob("*.jsonl")))

    def _lines(self, entry: str) -> tuple[list[dict[str, Any]], int]:
        try:
            raw = self.path(entry).read_bytes()
        except FileNotFoundError:
            return [], 0
        *ended, last = raw.split(b"\n")
        parsed = [_parse(line) for line in ended if line.strip()]
        whole = [line for line in (*parsed, _parse(last)) if line is not None]
        return whole, parsed.count(None)

    def _append(self, entry: str, line: Mapping[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        if entry != self._entry:
            self._turn_to(entry)
            # A writer that died in the middle of a line left no end of line; ours must not be glued to it.
            data = b"\n" + data if _is_torn(self._descriptor) else data
        written = os.write(self._descriptor, data)
        if written != len(data):
            raise OSError(f"{self.path(entry)}: {written} of {len(data)} bytes written; is the disk full?")

    def _turn_to(self, entry: str) -> None:
        """Keep the file of the entry at work open: a process works on one entry at a time, and opening costs more than writing."""
        if self._entry is not None:
            os.close(self._descriptor)
            self._entry = None
        self.folder.mkdir(parents=True, exist_ok=True)
        self._descriptor = _open(self.path(entry))
        self._entry = entry


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def _is_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except ValueError:
        return None
    return data if isinstance(data, dict) and "event" in data and _is_whole(data) else None


def _is_whole(data: Mapping[str, Any]) -> bool:
    if data["event"] == _START:
        return "stage" in data and "at" in data
    return data["event"] != _OUTCOME or isinstance(data.get("outcome"), dict)


def _keep(outcomes: dict[str, Outcome], outcome: Outcome) -> None:
    former = outcomes.get(outcome.stage)
    if former is None or former.result is not Result.FAIL:
        outcomes[outcome.stage] = outcome
