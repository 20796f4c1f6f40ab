"""The properties that each testcase carries into JUnit XML and the JSON report."""

from __future__ import annotations

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.lifecycle.outcome import Outcome
from pytest_mlcc.lifecycle.ports import RunInfo
from pytest_mlcc.reporting.cost import Cost
from pytest_mlcc.reporting.words import printable

__all__ = ["properties"]


def properties(
    entry: Entry,
    stage: str,
    outcome: Outcome | None,
    run: RunInfo,
    *,
    status: str | None = None,
    cost: Cost | None = None,
) -> list[tuple[str, str]]:
    """Names and values for one testcase, always in this order; what is not known (yet) is left out, never invented.

    ``status`` and ``cost`` are the entry's and known once its last stage has ended. A cost of which a part has no known
    price says so as ``costComplete=false``.
    """
    known: list[tuple[str, object]] = [
        ("entry", entry.id),
        ("tier", entry.tier),
        ("stage", stage),
        ("configId", entry.config_id),
        ("status", status),
        ("failureClass", outcome.failure_class if outcome else None),
        ("cost", cost.known if cost else None),
        ("costComplete", str(cost.complete).lower() if cost else None),
        ("leftByTheScripts", "; ".join(outcome.left_by_scripts) or None if outcome else None),
        ("runId", run.run_id),
        ("rehearsal", run.rehearsal or None),
    ]
    return [(name, printable(str(value))) for name, value in known if value is not None]
