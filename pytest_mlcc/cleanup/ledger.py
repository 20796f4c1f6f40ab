"""The ledger on disk: one JSON line per fact, flushed to the disk before the call that it announces goes out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_mlcc.lifecycle.ports import Resource

__all__ = ["FileLedger"]

_INTEND = "intend"
_GONE = "gone"


class FileLedger:
    """A ledger in one append-only file; implements :class:`~pytest_mlcc.lifecycle.ports.Ledger`.

    A line that a crash cut short is skipped: it was never followed by its create call, because :meth:`intend` returns only
    after the line is on the disk. Several processes may append; each line is one write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._checked = False

    def intend(self, resource: Resource) -> None:
        """Remember ``resource``, durably, before its create call goes out. Raises OSError if the disk does not take it."""
        self._append(_INTEND, resource)

    def gone(self, resource: Resource) -> None:
        """Remember that ``resource`` does not exist (any more)."""
        self._append(_GONE, resource)

    def open(self) -> Sequence[Resource]:
        """What was intended and is not known to be gone, in the order it was intended; nothing where there is no file."""
        alive: dict[Resource, None] = {}
        for operation, resource in self._lines():
            if operation == _INTEND:
                alive.setdefault(resource)
            else:
                alive.pop(resource, None)
        return tuple(alive)

    def named(self) -> Sequence[Resource]:
        """Everything that was ever intended, in order."""
        return tuple(dict.fromkeys(resource for operation, resource in self._lines() if operation == _INTEND))

    def _lines(self) -> Iterator[tuple[str, Resource]]:
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                fact = json.loads(line)
                yield fact["op"], Resource(fact["kind"], fact["name"], fact["region"])
            except (ValueError, KeyError, TypeError):
                continue  # cut short by a crash

    def _append(self, operation: str, resource: Resource) -> None:
        fact = {"op": operation, "kind": resource.kind, "name": resource.name, "region": resource.region, "at": round(time.time(), 3)}
        line = json.dumps(fact, separators=(",", ":")).encode() + b"\n"
        is_new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _write(file, line if is_new or self._checked or _ends_whole(file) else b"\n" + line)
            os.fsync(file)
        finally:
            os.close(file)
        if is_new:
            _sync_directory(self.path.parent)
        self._checked = True


def _write(file: int, line: bytes) -> None:
    if os.write(file, line) != len(line):
        raise OSError(f"the disk took only a part of a ledger line; {len(line)} bytes were wanted")


def _ends_whole(file: int) -> bool:
    """Whether the last line is complete, so that ours does not continue a torn one."""
    size = os.fstat(file).st_size
    return size == 0 or os.pread(file, 1, size - 1) == b"\n"


def _sync_directory(directory: Path) -> None:
    """The file's name, too, has to survive a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
