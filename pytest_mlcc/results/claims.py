"""How a record may change: who may claim it, and what a run may write. Pure rules over the attributes last read.

A claim is three attributes beside ``testStatus: running``: ``claimRunId``, ``claimExpires`` (seconds since the epoch) and
``statusBeforeClaim``, which comes back when the claim ends without a complete run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.errors import ClaimRefused
from pytest_mlcc.lifecycle.outcome import Result
from pytest_mlcc.lifecycle.ports import RunInfo
from pytest_mlcc.results.record import NEVER, Record, identity, timestamp
from pytest_mlcc.results.status import KnownStatus, is_failure

__all__ = ["WATCHED", "Change", "claim", "release", "status_before", "write"]

Item = Mapping[str, Any]

WATCHED = ("testStatus", "claimRunId", "claimExpires", "lastRunId", "lastPartialRunId")
"""What a rule looks at; a change is written only if these still are as they were read."""

_CLAIM = ("claimRunId", "claimExpires", "claimOwner", "statusBeforeClaim")


@dataclass(frozen=True, slots=True)
class Change:
    """Attributes to set and to remove, in one write."""

    set: Mapping[str, Any]
    remove: tuple[str, ...] = ()


def claim(old: Item, entry: Entry, run: RunInfo, *, seconds: float, now: float) -> Change:
    """Take the configuration for ``run``. Free is what does not run, what this run holds, and what a run held too long.

    A ``running`` without a claim (other tools write that, and never time it out) holds nobody up.
    Raises ClaimRefused with the run that holds it and until when.
    """
    if _is_held_by_other(old, run.run_id, now):
        until = timestamp(float(old["claimExpires"]))
        raise ClaimRefused(
            f"{entry.id} ({entry.config_id}) is being tested by run {old['claimRunId']} of {old.get('claimOwner', 'unknown')}"
            f" until {until} at the latest; run it again when that has ended"
        )
    return Change(
        {
            **_first_attributes(old, identity(entry), now),
            "testStatus": str(KnownStatus.RUNNING),
            "statusBeforeClaim": status_before(old),
            "claimRunId": run.run_id,
            "claimOwner": run.owner,
            "claimExpires": math.ceil(now + seconds),
        }
    )


def release(old: Item, run_id: str) -> Change | None:
    """Give a claim back: the status becomes what it was. None where this run holds no claim."""
    if old.get("claimRunId") != run_id:
        return None
    return Change({"testStatus": status_before(old)}, _CLAIM)


def write(old: Item, record: Record, *, now: float) -> Change | None:
    """What ``record`` changes; None where another run holds the configuration or a newer one has written it.

    A partial run leaves a note and gives the former status back. Within one run the first failure stands.
    """
    run_id = record.last_run_id
    if not _may_write(old, run_id, now):
        return None
    if not record.is_complete:
        return _partial(old, record, now)
    before = status_before(old)
    again = old.get("lastRunId") == run_id
    if again and is_failure(before) and not is_failure(record.test_status):
        return release(old, run_id)
    previous = {} if again or not old else {"previousTestStatus": before}
    new = record.attributes()
    merged = {"configJson": _merged(old.get("configJson"), record.config_json)}
    remove = tuple(name for name in (*_CLAIM, *record.outdated()) if name in old)
    return Change({**_first_attributes(old, new, now), **new, **merged, **previous}, remove)


def status_before(old: Item) -> str:
    """The status that a claim covers; the present one where there is no claim, ``untested`` where there is neither."""
    status = str(old.get("statusBeforeClaim") or old.get("testStatus") or KnownStatus.UNTESTED)
    return str(KnownStatus.UNTESTED) if status == KnownStatus.RUNNING else status


def _partial(old: Item, record: Record, now: float) -> Change:
    ran = [name for name, result in record.stage_results.items() if result.status != Result.SKIP]
    note = {
        "lastPartialRunId": record.last_run_id,
        "lastPartialTimestamp": record.last_test_timestamp,
        "lastPartialStages": ran,
    }
    first = _first_attributes(old, record.attributes(), now)
    back = release(old, record.last_run_id)
    if back is None:
        return Change(
            {
                **first,
                **note,
                "testStatus": str(old.get("testStatus") or KnownStatus.UNTESTED),
            }
        )
    return Change({**first, **note, **back.set}, back.remove)


def _first_attributes(old: Item, known: Item, now: float) -> dict[str, Any]:
    """What every item has from its first write on, as far as ``old`` lacks it; never the outcome of a run."""
    names = ("schemaVersion", "configJson", "e2eCatalogId", "tier", "deploymentConfig")
    always = {
        **{name: known[name] for name in names},
        "createdAt": timestamp(now),
        "lastTestTimestamp": NEVER,
    }
    return {name: value for name, value in always.items() if name not in old}


def _is_held_by_other(old: Item, run_id: str, now: float) -> bool:
    if old.get("testStatus") != KnownStatus.RUNNING or old.get("claimRunId") in (
        None,
        run_id,
    ):
        return False
    return float(old.get("claimExpires", 0)) > now


def _may_write(old: Item, run_id: str, now: float) -> bool:
    if old.get("claimRunId") == run_id:
        return True
    # Run ids sort by time: a late record of an old run goes to the history only.
    return not _is_held_by_other(old, run_id, now) and str(old.get("lastRunId", "")) <= run_id


def _merged(old: object, new: str) -> str:
    """Our parameters over those that another tool has written, so that nothing it needs is lost."""
    try:
        former = json.loads(old) if isinstance(old, str) else {}
    except ValueError:
        return new
    return json.dumps({**former, **json.loads(new)}, separators=(",", ":")) if isinstance(former, dict) else new
