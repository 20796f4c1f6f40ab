"""results.json: the whole run for programs. Times are seconds, costs US dollars, unknown is null."""

from __future__ import annotations

import json
from typing import Any

from pytest_mlcc.lifecycle.outcome import Result
from pytest_mlcc.reporting.summary import Row, StageRow, Summary
from pytest_mlcc.results.facts import finite
from pytest_mlcc.results.record import timestamp
from pytest_mlcc.results.status import KnownStatus

__all__ = ["SCHEMA_VERSION", "document", "render"]

SCHEMA_VERSION = 2


def render(summary: Summary) -> str:
    """The document as JSON text that every parser takes: no NaN, with a line end at the end."""
    return json.dumps(document(summary), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def document(summary: Summary) -> dict[str, Any]:
    """The document. ``tier`` is null where the run touched several; ``passed + failed + incomplete + untested == total``."""
    tiers = list(summary.tiers)
    return {
        "schemaVersion": SCHEMA_VERSION,
        "runId": summary.run_id,
        "tier": tiers[0] if len(tiers) == 1 else None,
        "tiers": tiers,
        "target": summary.target,
        "driver": summary.driver,
        **({"rehearsal": summary.rehearsal} if summary.rehearsal else {}),
        "timestamp": timestamp(summary.started),
        "durationSeconds": round(summary.seconds, 3),
        "total": len(summary.rows),
        "passed": summary.passing,
        "failed": summary.failing,
        "incomplete": summary.count(KnownStatus.INCOMPLETE),
        "untested": summary.count(KnownStatus.UNTESTED),
        "cost": summary.cost.known,
        "costComplete": summary.cost.complete,
        "results": [_result(row) for row in summary.rows],
    }


def _result(row: Row) -> dict[str, Any]:
    return {
        "id": row.entry,
        "configId": row.config_id,
        "tier": row.tier,
        "modelName": row.model,
        "instanceType": row.instance,
        "status": row.status,
        "failureClass": str(row.failure_class) if row.failure_class else None,
        "durationSeconds": round(row.seconds, 3),
        "cost": row.cost.known,
        "costComplete": row.cost.complete,
        "errorMessage": row.error or None,
        "driver": row.driver,
        "rerun": row.rerun,
        "leftByTheScripts": list(row.left_by_scripts),
        "stages": [_stage(stage) for stage in row.stages],
    }


def _stage(stage: StageRow) -> dict[str, Any]:
    outcome = stage.outcome
    if outcome is None:
        return {"name": stage.name, "status": None}
    fields: dict[str, Any] = {
        "name": stage.name,
        "status": outcome.result.value,
        "durationSeconds": round(outcome.seconds, 3),
        "startedAt": timestamp(outcome.started) if outcome.started else None,
    }
    if outcome.result is Result.FAIL:
        fields |= {
            "errorSummary": outcome.error,
            "failureClass": str(outcome.failure_class) if outcome.failure_class else None,
        }
    if outcome.reason:
        fields["skipReason"] = outcome.reason
    return {**fields, "log": outcome.log or None, "facts": finite(outcome.facts)}
