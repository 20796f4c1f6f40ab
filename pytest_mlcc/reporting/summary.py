"""One frozen summary of a run, which every report shows in its own form."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.errors import FailureClass
from pytest_mlcc.lifecycle import policy
from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.lifecycle.ports import RunInfo
from pytest_mlcc.lifecycle.stage import CLEAN, Stage
from pytest_mlcc.reporting.cost import Cost, of_entry, total
from pytest_mlcc.results.status import KnownStatus, is_failure
from pytest_mlcc.settings import DRIVERS

__all__ = ["LOCAL", "Planned", "Row", "StageRow", "Summary", "cost_of", "summarize"]

LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Planned:
    """An entry that a run meant to test, its stages in order, and what came of them so far."""

    entry: Entry
    stages: Sequence[Stage]
    outcomes: Mapping[str, Outcome]


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage of an entry; ``outcome`` is None where the run has none."""

    name: str
    outcome: Outcome | None

    @property
    def result(self) -> Result | None:
        """Pass, fail or skip; None where the run has no outcome."""
        return self.outcome.result if self.outcome else None


@dataclass(frozen=True, slots=True)
class Row:
    """One entry. ``seconds`` is the sum over its stages, ``rerun`` the command line that tests it again."""

    entry: str
    tier: str
    model: str
    instance: str
    config_id: str
    status: str
    seconds: float
    cost: Cost
    stages: tuple[StageRow, ...]
    rerun: str
    driver: str

    @property
    def failed(self) -> bool:
        """True for ``fail-<stage>``."""
        return is_failure(self.status)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The outcomes that failed, first one first; more than one where clean, or a later tune, failed too."""
        return tuple(stage.outcome for stage in self.stages if stage.outcome and stage.result is Result.FAIL)

    @property
    def failure_class(self) -> FailureClass | None:
        """Why the first failed stage failed."""
        return self.failures[0].failure_class if self.failures else None

    @property
    def error(self) -> str:
        """The error of the first failed stage."""
        return self.failures[0].error if self.failures else ""

    @property
    def left_by_scripts(self) -> tuple[str, ...]:
        """What the generated project's own clean left alive, each as ``kind name``."""
        return tuple(name for stage in self.stages if stage.outcome for name in stage.outcome.left_by_scripts)

    @property
    def clean_log(self) -> str:
        """Where the log of ``clean`` is; empty where it wrote none."""
        return next((stage.outcome.log for stage in self.stages if stage.name == CLEAN and stage.outcome), "")

    @property
    def not_run(self) -> tuple[str, ...]:
        """The stages that were skipped or never reached."""
        return tuple(stage.name for stage in self.stages if stage.result in (None, Result.SKIP))


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole run. ``started`` is seconds since the epoch, ``seconds`` wall time, ``rehearsal`` what delays and faults were played."""

    run_id: str
    target: str
    driver: str
    started: float
    seconds: float
    rows: tuple[Row, ...]
    rehearsal: str = ""

    def count(self, status: str) -> int:
        """How many entries have exactly this status."""
        return sum(row.status == status for row in self.rows)

    @property
    def passing(self) -> int:
        """Entries of which every stage passed."""
        return self.count(KnownStatus.PASS)

    @property
    def failing(self) -> int:
        """Entries of which a stage failed."""
        return sum(row.failed for row in self.rows)

    @property
    def coverage_percent(self) -> int:
        """Passing entries out of all, in percent, rounded as the coverage report does it; below 100 unless all pass."""
        if not self.rows:
            return 0
        percent = round(100 * self.passing / len(self.rows))
        return min(percent, 99) if self.passing < len(self.rows) else percent

    @property
    def cost(self) -> Cost:
        """What all entries cost."""
        return total(row.cost for row in self.rows)

    @property
    def failures(self) -> tuple[Row, ...]:
        """The entries that failed."""
        return tuple(row for row in self.rows if row.failed)

    @property
    def leaking(self) -> tuple[Row, ...]:
        """The entries whose generated project did not clean up after itself."""
        return tuple(row for row in self.rows if row.left_by_scripts)

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers that occur, in the order in which they do."""
        return tuple(dict.fromkeys(row.tier for row in self.rows))

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Every stage of any entry, in an order that agrees with each entry's own."""
        return _merged([stage.name for stage in row.stages] for row in self.rows)

    def of_tier(self, tier: str) -> Summary:
        """The part of the run that belongs to one tier."""
        return replace(self, rows=tuple(row for row in self.rows if row.tier == tier))


def summarize(
    run: RunInfo,
    planned: Iterable[Planned],
    *,
    seconds: float,
    tune_usd: float | None = None,
    options: Sequence[str] = (),
    run_of: Callable[[Entry], RunInfo] | None = None,
) -> Summary:
    """The summary of a run that took ``seconds`` so far.

    ``tune_usd`` is the price of one tuning job, None where unknown. ``options`` are further words of the command line
    that a re-run needs, such as ``--mlcc-catalog=mine.json``. ``run_of`` is the run as an entry knows it, where drivers differ.
    """
    rows = tuple(_row(run_of(one.entry) if run_of else run, one, tune_usd=tune_usd, options=options) for one in planned)
    drivers = " and ".join(dict.fromkeys(row.driver for row in rows)) or run.driver
    return Summary(run.run_id, run.target, drivers, run.started, seconds, rows, run.rehearsal)


def cost_of(run: RunInfo, planned: Planned, *, tune_usd: float | None = None) -> Cost:
    """What an entry cost in this run; nothing on this machine, whatever AWS would have charged."""
    if run.target == LOCAL:
        return Cost()
    price = planned.entry.instance.usd_per_hour if planned.entry.instance else None
    return of_entry(planned.stages, planned.outcomes, price_per_hour=price, tune_usd=tune_usd)


def _row(run: RunInfo, planned: Planned, *, tune_usd: float | None, options: Sequence[str]) -> Row:
    entry, outcomes = planned.entry, planned.outcomes
    reached = any(outcome.result is not Result.SKIP for outcome in outcomes.values())
    return Row(
        entry=entry.id,
        tier=str(entry.tier),
        model=entry.args.model_name or "none",
        instance=entry.args.instance_type,
        config_id=entry.config_id,
        status=policy.status(planned.stages, outcomes) if reached else str(KnownStatus.UNTESTED),
        seconds=sum(outcome.seconds for outcome in outcomes.values()),
        cost=cost_of(run, planned, tune_usd=tune_usd),
        stages=tuple(StageRow(stage.name, outcomes.get(stage.name)) for stage in planned.stages),
        rerun=_rerun(run, entry, options),
        driver=run.driver,
    )


def _rerun(run: RunInfo, entry: Entry, options: Sequence[str]) -> str:
    words = ["pytest", "--mlcc-entry", entry.id]
    words += ["--mlcc-target", run.target] if run.target != LOCAL else []
    words += ["--mlcc-driver", run.driver] if run.driver != (entry.driver or DRIVERS.get(run.target)) else []
    return shlex.join([*words, *options])


def _merged(orders: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """One order of all names: a name not seen before goes right after the one it follows in its own order."""
    merged: list[str] = []
    for order in orders:
        at = 0
        for name in order:
            if name not in merged:
                merged.insert(at, name)
            at = merged.index(name) + 1
    return tuple(merged)
