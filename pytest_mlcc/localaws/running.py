"""What runs in the local AWS, with what it costs this machine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["memory_of", "what_runs"]

_ORDER = ("endpoint", "inference component", "training job", "processing job", "transform job", "build")


def what_runs(services: Iterable[Any]) -> list[dict[str, Any]]:
    """Everything that the services say they run: kind, name, status, pid, memory (bytes) and age (seconds), by kind and name."""
    found = [one for service in services if hasattr(service, "running") for one in service.running()]
    order = {kind: place for place, kind in enumerate(_ORDER)}
    listeners = _listeners({one["port"] for one in found if one.get("port")})
    return sorted((_measured(one, listeners) for one in found), key=lambda one: (order.get(one["kind"], len(order)), one["name"]))


def memory_of(pid: int, *others: int) -> int | None:
    """Resident bytes of a process and of all that it started, and of the ``others`` that work for it, which the engine started.

    None where it is gone. Pages that they share are counted for each.
    """
    import psutil

    family: set[Any] = set()
    for one in (pid, *others):
        try:
            family |= {psutil.Process(one), *psutil.Process(one).children(recursive=True)}
        except psutil.Error:
            if one == pid:
                return None
    return sum(_resident(family))


def _listeners(ports: set[int]) -> dict[int, int]:
    """Who listens on each of these ports, as far as this process may know."""
    import psutil

    if not ports:
        return {}
    found = ((one.laddr.port, one.pid) for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN)
    return {port: pid for port, pid in found if port in ports and pid}


def _resident(family: Iterable[Any]) -> Iterator[int]:
    import psutil

    for one in family:
        try:
            yield one.memory_info().rss
        except psutil.Error:  # it ended while we looked
            continue


def _measured(one: dict[str, Any], listeners: Mapping[int, int]) -> dict[str, Any]:
    pid, started, serving = one.get("pid"), one.get("started"), listeners.get(one.get("port") or 0)
    return {
        "kind": one["kind"],
        "name": one["name"],
        "status": one["status"],
        "pid": pid,
        "memory": memory_of(pid, *([serving] if serving else [])) if pid else None,
        "age": round(max(0.0, time.time() - started), 1) if started else None,
        "log": one.get("log"),
    }
