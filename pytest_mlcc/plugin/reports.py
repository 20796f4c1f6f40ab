"""What a report of ours carries: whose report it is, the properties of JUnit, and no secrets."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_mlcc.errors import MlccError
from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.plugin import keys
from pytest_mlcc.plugin.cells import Cell, cell_of

__all__ = ["complete", "payload"]

_ATTRIBUTE = "mlcc"


def complete(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Put the outcome of the item's stage into its report, and take secrets out."""
    cell = cell_of(item)
    if cell is None:
        return
    endpoints = item.config.stash[keys.ENDPOINTS]
    outcome = endpoints.of(cell.entry).progress.outcomes.get(cell.stage)
    _explain(report, call, outcome, cell)
    _redact(report, endpoints.redact)
    if outcome is not None and not any(name == "entry" for name, _ in item.user_properties):
        properties = endpoints.properties(cell.entry, cell.stage, outcome)
        item.user_properties.extend(properties)
        report.user_properties.extend(properties)
    _time(report, outcome)
    closed = report.when == "teardown" and item.stash.get(keys.LAST, False)
    # One string, because execnet carries no enum, path or date, and ends a worker that tries.
    setattr(report, _ATTRIBUTE, f"{cell.entry.id} {cell.stage}{' closed' if closed else ''}")


def payload(report: Any) -> list[str]:
    """Entry, stage and, with the last report of an entry, ``closed``, on whichever side of xdist; empty for any other report."""
    return str(getattr(report, _ATTRIBUTE, "")).split()


def _time(report: pytest.TestReport, outcome: Outcome | None) -> None:
    """JUnit adds up set-up, call and teardown; a testcase of ours takes as long as its stage."""
    if report.when == "call" and outcome is not None:
        report.duration = outcome.seconds
    elif report.when != "call":
        report.duration = 0.0


def _explain(report: pytest.TestReport, call: pytest.CallInfo[None], outcome: Outcome | None, cell: Cell) -> None:
    """An error that we raised on purpose speaks for itself; our own traceback would only hide it."""
    if not report.failed or call.excinfo is None or not isinstance(call.excinfo.value, MlccError):
        return
    error = call.excinfo.value
    lines = [f"{cell.entry.id}: {cell.stage} failed: {error}"]
    if output := str(getattr(error, "output", "")).strip():
        lines += ["", "last output:", *("  " + line for line in output.splitlines()[-30:])]
    if outcome is not None and outcome.result is Result.FAIL:
        lines += ["", f"failure class: {outcome.failure_class}", f"log: {outcome.log}" if outcome.log else ""]
    report.longrepr = "\n".join(lines).rstrip()


def _redact(report: pytest.TestReport, redact: Any) -> None:
    report.sections = [(name, redact(text)) for name, text in report.sections]
    if isinstance(report.longrepr, str):
        report.longrepr = redact(report.longrepr)
    elif isinstance(report.longrepr, tuple):
        path, line, reason = report.longrepr
        report.longrepr = (path, line, redact(reason))
    elif report.longrepr is not None:
        _redact_tree(report.longrepr, redact, set())


def _redact_tree(node: Any, redact: Any, seen: set[int]) -> None:
    """Every text in a traceback: source lines, locals, messages, chained exceptions."""
    if id(node) in seen or not hasattr(node, "__dict__"):
        return
    seen.add(id(node))
    for name, value in vars(node).items():
        if isinstance(value, str):
            object.__setattr__(node, name, redact(value))
        elif isinstance(value, list):
            object.__setattr__(node, name, [redact(one) if isinstance(one, str) else one for one in value])
            for one in value:
                _redact_tree(one, redact, seen)
        elif isinstance(value, tuple):
            for one in value:
                _redact_tree(one, redact, seen)
        else:
            _redact_tree(value, redact, seen)
