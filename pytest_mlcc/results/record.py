"""The record of one configuration and run, with the attributes of the CI table's documents (schema version 2)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.errors import FailureClass
from pytest_mlcc.lifecycle import policy
from pytest_mlcc.lifecycle.outcome import SUMMARY_CHARACTERS, Outcome, Result
from pytest_mlcc.lifecycle.ports import RunInfo
from pytest_mlcc.lifecycle.stage import Stage
from pytest_mlcc.results.facts import finite, small
from pytest_mlcc.results.redact import Redactor, error_summary
from pytest_mlcc.results.status import is_finished

__all__ = [
    "DEFAULT_BUILD_STRATEGY",
    "NEVER",
    "SCHEMA_VERSION",
    "Record",
    "StageResult",
    "identity",
    "timestamp",
]

SCHEMA_VERSION = 2
NEVER = "1970-01-01T00:00:00Z"
"""``lastTestTimestamp`` of a configuration that was never tested: it sorts before every real one."""

DEFAULT_BUILD_STRATEGY = "codebuild-submit"

_PROMOTED = ("projectName", "baseImage", "buildStrategy")


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage in ``stageResults``. ``facts`` are the driver's, as far as they are small."""

    status: str
    duration_seconds: float = 0.0
    error_summary: str = ""
    log_pointer: str = ""
    failure_class: FailureClass | None = None
    skip_reason: str = ""
    facts: Mapping[str, Any] | None = None

    def attributes(self) -> dict[str, Any]:
        """The map that the table stores; the four documented keys always, the others where they say something."""
        optional = {
            "failureClass": str(self.failure_class) if self.failure_class else None,
            "skipReason": self.skip_reason,
            "facts": self.facts,
        }
        return {
            "status": self.status,
            "durationSeconds": round(self.duration_seconds, 3),
            "errorSummary": self.error_summary,
            "logPointer": self.log_pointer,
            **{name: value for name, value in optional.items() if value},
        }


@dataclass(frozen=True, slots=True)
class Record:
    """What one run found out about one configuration.

    ``test_status`` is ``pass``, ``fail-<stage>`` or, for a run that did not take every stage, ``incomplete``.
    ``last_test_duration`` is whole seconds, ``cost`` US dollars (None where unknown), ``last_test_timestamp`` the
    end of the last stage. ``project_name`` and ``base_image`` are None where the run never got to know them.
    ``cost_complete`` is False where ``cost`` is only the part that is known. ``rehearsal`` names the delays and faults that were
    played; None for none.
    """

    config_id: str
    config_json: str
    test_status: str
    last_test_timestamp: str
    last_test_duration: int
    e2e_catalog_id: str
    tier: str
    stage_results: Mapping[str, StageResult]
    deployment_config: str
    last_run_id: str
    target: str
    driver: str
    build_strategy: str
    error_message: str | None = None
    failure_class: FailureClass | None = None
    project_name: str | None = None
    base_image: str | None = None
    cost: float | None = None
    cost_complete: bool = True
    rehearsal: str | None = None
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def of(
        cls,
        entry: Entry,
        run: RunInfo,
        stages: Sequence[Stage],
        outcomes: Mapping[str, Outcome],
        *,
        cost: float | None = None,
        cost_complete: bool = True,
        log_pointer: Callable[[Outcome], str] = lambda outcome: outcome.log,
        redactor: Redactor | None = None,
    ) -> Record:
        """The record of ``entry`` in ``run``. ``outcomes`` are by stage; ``log_pointer`` says where a stage's log is kept.

        A stage's facts ``projectName``, ``baseImage`` and ``buildStrategy`` become attributes of the record.
        """
        redactor = redactor or Redactor()
        failure = policy.first_failure(stages, outcomes)
        known = _promoted(outcomes.values())
        return cls(
            config_id=entry.config_id,
            config_json=_config_json(entry, known, redactor),
            test_status=policy.status(stages, outcomes),
            last_test_timestamp=timestamp(_end(run, outcomes.values())),
            last_test_duration=round(sum(outcome.seconds for outcome in outcomes.values())),
            e2e_catalog_id=entry.id,
            tier=entry.tier,
            stage_results={stage.name: _stage_result(outcomes.get(stage.name), log_pointer, redactor) for stage in stages},
            deployment_config=entry.args.deployment_config,
            last_run_id=run.run_id,
            target=run.target,
            driver=run.driver,
            build_strategy=known["buildStrategy"] or DEFAULT_BUILD_STRATEGY,
            error_message=error_summary(failure.error, redactor=redactor) if failure else None,
            failure_class=failure.failure_class if failure else None,
            project_name=known["projectName"],
            base_image=known["baseImage"],
            cost=cost,
            cost_complete=cost_complete and cost is not None,
            rehearsal=run.rehearsal or None,
        )

    @property
    def is_complete(self) -> bool:
        """True where the status stands for a whole run, or for a failure: only then may it become the record's status."""
        return is_finished(self.test_status)

    def attributes(self) -> dict[str, Any]:
        """Every attribute but ``configId``, in the table's spelling. None is written as NULL for ``cost``, else left out."""
        optional = {
            "errorMessage": self.error_message,
            "failureClass": str(self.failure_class) if self.failure_class else None,
            "projectName": self.project_name,
            "baseImage": self.base_image,
            "rehearsal": self.rehearsal,
        }
        return {
            "schemaVersion": self.schema_version,
            "configJson": self.config_json,
            "testStatus": self.test_status,
            "lastTestTimestamp": self.last_test_timestamp,
            "lastTestDuration": self.last_test_duration,
            "e2eCatalogId": self.e2e_catalog_id,
            "tier": self.tier,
            "stageResults": {name: result.attributes() for name, result in self.stage_results.items()},
            "deploymentConfig": self.deployment_config,
            "buildStrategy": self.build_strategy,
            "lastRunId": self.last_run_id,
            "target": self.target,
            "driver": self.driver,
            "cost": self.cost,
            "costComplete": self.cost_complete,
            **{name: value for name, value in optional.items() if value is not None},
        }

    def outdated(self) -> tuple[str, ...]:
        """Attributes of an earlier failure or rehearsal that must not outlive this record."""
        gone = {"errorMessage": self.error_message, "failureClass": self.failure_class, "rehearsal": self.rehearsal}
        return tuple(name for name, value in gone.items() if value is None)


def identity(entry: Entry) -> dict[str, Any]:
    """What is known of a configuration before it was ever tested: enough to show it, and to generate it again."""
    return {
        "schemaVersion": SCHEMA_VERSION,
        "configJson": _config_json(entry, dict.fromkeys(_PROMOTED), Redactor()),
        "e2eCatalogId": entry.id,
        "tier": str(entry.tier),
        "deploymentConfig": entry.args.deployment_config,
    }


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, whole seconds: ``2026-05-22T06:31:00Z``."""
    return datetime.fromtimestamp(math.floor(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _config_json(entry: Entry, known: Mapping[str, str | None], redactor: Redactor) -> str:
    args = entry.args
    architecture, _, backend = args.deployment_config.partition("-")
    parameters: dict[str, Any] = {
        "projectName": known["projectName"] or entry.id,
        "deploymentConfig": args.deployment_config,
        "architecture": architecture,
        "backend": backend,
        "modelName": args.model_name,
        "instanceType": args.instance_type,
        "awsRegion": args.region,
        "deploymentTarget": args.deployment_target,
        "buildTarget": args.flags.get("build-target") or "codebuild",
        "baseImage": known["baseImage"] or args.flags.get("base-image"),
        "buildStrategy": known["buildStrategy"] or DEFAULT_BUILD_STRATEGY,
        "enableLora": args.enable_lora,
        "tuneConfig": _tune_config(entry),
        "args": args.raw,
    }
    given = {name: value for name, value in parameters.items() if value is not None}
    return json.dumps(redactor.value(given), separators=(",", ":"))


def _tune_config(entry: Entry) -> dict[str, str] | None:
    if entry.tune is None:
        return None
    return {
        "tuneId": entry.tune.tune_id,
        "technique": str(entry.tune.technique),
        "trainingType": str(entry.tune.training_type),
        "dataset": entry.tune.dataset,
    }


def _promoted(outcomes: Iterable[Outcome]) -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys(_PROMOTED)
    for outcome in outcomes:
        for name in _PROMOTED:
            value = outcome.facts.get(name)
            if isinstance(value, str) and value:
                found[name] = value
    return found


def _end(run: RunInfo, outcomes: Iterable[Outcome]) -> float:
    return max(
        (outcome.started + outcome.seconds for outcome in outcomes if outcome.started),
        default=run.started,
    )


def _stage_result(outcome: Outcome | None, log_pointer: Callable[[Outcome], str], redactor: Redactor) -> StageResult:
    if outcome is None:
        return StageResult(
            Result.SKIP.value,
            skip_reason="no outcome: not selected, or the run ended before it",
        )
    return StageResult(
        status=outcome.result.value,
        duration_seconds=outcome.seconds,
        error_summary=error_summary(outcome.error, redactor=redactor),
        log_pointer=log_pointer(outcome),
        failure_class=outcome.failure_class,
        skip_reason=redactor(outcome.reason)[:SUMMARY_CHARACTERS],
        facts=small(redactor.value(finite(outcome.facts))),
    )
