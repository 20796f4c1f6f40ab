"""What runs in the local AWS, with what it costs this machine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["memory_of", "what_runs"]

_ORDER = ("endpoint", "inference component", "training job", "processing job", "transform job", "build")


def what_runs(services: Iterable[Any]) -> list[dict[str, Any]]:
    """Everything that the services say they run: kind, name, status, pid, memory (bytes) and age (seconds), by kind and name."""
    found = [one for service in services if hasattr(service, "running") for one in service.running()]
    order = {kind: place for place, kind in enumerate(_ORDER)}
    return sorted((_measured(one) for one in found), key=lambda one: (order.get(one["kind"], len(order)), one["name"]))


def memory_of(pid: int) -> int | None:
    """Resident bytes of a process and of all that it started; None where it is gone. Pages that they share are counted for each."""
    import psutil

    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return None
    return sum(_resident(family))


def _resident(family: Iterable[Any]) -> Iterator[int]:
    import psutil

    for one in family:
        try:
            yield one.memory_info().rss
        except psutil.Error:  # it ended while we looked
            continue


def _measured(one: dict[str, Any]) -> dict[str, Any]:
    pid, started = one.get("pid"), one.get("started")
    return {
        "kind": one["kind"],
        "name": one["name"],
        "status": one["status"],
        "pid": pid,
        "memory": memory_of(pid) if pid else None,
        "age": round(max(0.0, time.time() - started), 1) if started else None,
        "log": one.get("log"),
    }
