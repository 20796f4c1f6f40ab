"""Where a service keeps its resources: JSON-able records by region, kind and name."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["DuplicateRecordError", "Record", "Store"]

Record = dict[str, Any]


class DuplicateRecordError(KeyError):
    """A record of that kind and name exists already in the region."""


class Store:
    """Records by (region, kind, name); safe to use from any thread.

    Records go in and out as copies, so what a caller holds never changes under it. A record that is kept is never changed,
    only replaced: a snapshot holds the records themselves, and is never torn.
    ``changed`` is called after every mutation, outside the lock.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._lock = threading.RLock()
        self._regions: dict[str, dict[str, dict[str, Record]]] = {}

    def _rows(self, region: str, kind: str) -> dict[str, Record]:
        return self._regions.setdefault(region, {}).setdefault(kind, {})

    def add(self, region: str, kind: str, name: str, record: Mapping[str, Any]) -> None:
        """Keep a new record. Raises DuplicateRecordError when the name is taken; two racing callers never both succeed."""
        with self._lock:
            rows = self._rows(region, kind)
            if name in rows:
                raise DuplicateRecordError(name)
            rows[name] = copy.deepcopy(dict(record))
        self._changed()

    def get(self, region: str, kind: str, name: str) -> Record | None:
        """A copy of the record, or None."""
        with self._lock:
            record = self._regions.get(region, {}).get(kind, {}).get(name)
        return copy.deepcopy(record)

    def update(self, region: str, kind: str, name: str, **changes: Any) -> Record | None:
        """Change members of a record; a copy of the new record, or None when it is gone (nothing is created)."""
        with self._lock:
            record = self._regions.get(region, {}).get(kind, {}).get(name)
            if record is None:
                return None
            record = copy.deepcopy({**record, **changes})
            self._regions[region][kind][name] = record
        self._changed()
        return copy.deepcopy(record)

    def change(self, region: str, kind: str, name: str, edit: Callable[[Record], None]) -> Record | None:
        """Let ``edit`` change the record in place under the lock (read, decide, write as one); a copy, or None when gone.

        What ``edit`` raises travels to the caller and leaves the record as it was.
        """
        with self._lock:
            rows = self._regions.get(region, {}).get(kind, {})
            if name not in rows:
                return None
            draft = copy.deepcopy(rows[name])
            edit(draft)
            rows[name] = draft
        self._changed()
        return copy.deepcopy(draft)

    def remove(self, region: str, kind: str, name: str) -> Record | None:
        """Forget a record and hand it out, or None when there was none."""
        with self._lock:
            record = self._regions.get(region, {}).get(kind, {}).pop(name, None)
        if record is not None:
            self._changed()
        return record

    def rows(self, region: str, kind: str) -> list[Record]:
        """Copies of every record of a kind, in the order they were added."""
        with self._lock:
            records = list(self._regions.get(region, {}).get(kind, {}).values())
        return copy.deepcopy(records)

    def regions(self) -> list[str]:
        """Every region in which something was ever kept."""
        with self._lock:
            return list(self._regions)

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain JSON data that nobody mutates afterwards."""
        with self._lock:
            return {"regions": {region: {kind: dict(rows) for kind, rows in kinds.items()} for region, kinds in self._regions.items()}}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Replace everything by what ``snapshot`` gave."""
        with self._lock:
            self._regions = copy.deepcopy(dict(data.get("regions", {})))
