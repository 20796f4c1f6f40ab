"""How the making of a resource goes in a rehearsal: how long it lasts at least, and whether it is doomed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_mlcc.localaws.rehearsal.rehearsal import Rehearsal
from pytest_mlcc.localaws.rehearsal.vocabulary import Delay, Fault

__all__ = ["REASON_LIMIT", "Outcome", "doom", "last_change", "outcome", "pending"]

REASON_LIMIT = 1024
"""AWS: characters of a FailureReason."""

_NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. Please retry using a different ML "
    "instance type or after some time. Consider configuring InstancePools in your EndpointConfig with multiple instance types for "
    "priority-based fallback to improve capacity availability."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided when a resource was asked for.

    ``members`` go into its record, so that a restart forgets nothing: ``_ready_at`` (seconds since the epoch, where it is not
    ready at once) and ``_doom`` (when it fails, and why). ``seconds`` are those from now to the end.
    """

    members: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0
    dies_after: int = 0


def outcome(rehearsal: Rehearsal, operation: str, name: str, delay: Delay) -> Outcome:
    """Ask the rehearsal, once, about the resource that ``operation`` makes or changes."""
    seconds, now = rehearsal.delay(delay), time.time()
    members: dict[str, Any] = {"_ready_at": now + seconds} if seconds else {}
    fate = rehearsal.fate(operation, name)
    if fate is None:
        return Outcome(members, seconds=seconds)
    if fate.fault is Fault.CONTAINER_DIES:
        return Outcome(members, seconds=seconds, dies_after=fate.requests)
    stuck = fate.fault is Fault.STUCK
    seconds = fate.seconds if stuck else seconds
    reason = (fate.message or ("" if stuck else _NO_CAPACITY))[:REASON_LIMIT]
    return Outcome({"_doom": {"at": now + seconds, "reason": reason}}, reason=reason, seconds=seconds)


def pending(record: Mapping[str, Any]) -> bool:
    """Whether its time to get ready has not come yet."""
    return time.time() < float(record.get("_ready_at") or 0.0)


def last_change(record: Mapping[str, Any], since: float) -> float:
    """When the resource became what it is now: as it was written, or later, when its time came or what runs was up (``since``)."""
    doomed = (record.get("_doom") or {}).get("at") or 0.0
    times = (float(record["LastModifiedTime"]), float(record.get("_ready_at") or 0.0), float(doomed), since)
    now = time.time()
    return max(one for one in times if one <= now)


def doom(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """Status and reason of a doomed resource; None for all others."""
    found = record.get("_doom")
    if not found:
        return None
    return ("Failed", str(found["reason"])) if time.time() >= found["at"] else ("Creating", "")
