"""Who works with whom: from settings to everything plugged together. The only place that chooses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlcc.aws.secrets import secret
from pytest_mlcc.aws.session import Aws
from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.cleanup.cleaner import AwsCleaner
from pytest_mlcc.cleanup.guardian import Guardian, salvage_command
from pytest_mlcc.cleanup.ledger import FileLedger
from pytest_mlcc.drivers.per_entry import PerEntry
from pytest_mlcc.errors import ConfigurationError, LocalAwsError, MlccError, Problem, StageError
from pytest_mlcc.lifecycle.blueprint import Blueprint
from pytest_mlcc.lifecycle.ports import Cleaner, Driver, Ledger
from pytest_mlcc.localaws.holders import Holder
from pytest_mlcc.reporting.summary import Planned, Summary, cost_of, summarize
from pytest_mlcc.results.artifacts import NO_TABLE_WARNING, Artifacts, Bucket, Folder, Reports, bucket_name
from pytest_mlcc.results.record import Record
from pytest_mlcc.results.redact import Redactor, secrets_in
from pytest_mlcc.results.table import Table

if TYPE_CHECKING:
    from pytest_mlcc.drivers.native.driver import Native
    from pytest_mlcc.drivers.scripts import Scripts
    from pytest_mlcc.localaws.rehearsal.scenario import Scenario
    from pytest_mlcc.settings import Settings

__all__ = ["AwsSite", "check_tools", "connect", "driver", "rehearsal_of", "rehearsal_told", "site", "summary_of"]

LOCAL = "local"
_OWNER = "owner"


def connect(plan: Blueprint) -> Aws:
    """The AWS of a run. For the target ``local`` this starts the local AWS, or joins it, and pins this process to it."""
    settings = plan.settings
    if settings.target != LOCAL:
        return Aws(settings.target, settings.region)
    from pytest_mlcc.aws.pin import pin_to_local
    from pytest_mlcc.localaws.launch import ensure

    cloud = ensure(
        plan.project, holder_pid=plan.owner_pid, region=settings.region, runtime=settings.runtime,
        rehearsal=rehearsal_of(settings), told=plan.run.rehearsal,
    )  # fmt: skip
    pin_to_local(cloud.endpoint_url, cloud.region, cloud.account)
    return Aws(LOCAL, settings.region, cloud.endpoint_url)


def rehearsal_of(settings: Settings) -> Scenario | None:
    """The delays and faults that the settings ask for; None for none. Raises ConfigurationError with every mistake in their files."""
    from pytest_mlcc.localaws.rehearsal.scenario import read_scenario

    return read_scenario(settings.latency, settings.time_scale, settings.faults)


def rehearsal_told(settings: Settings, project: Path) -> str:
    """What a run with these settings will meet, in words: what it asks for itself, or what a local AWS that is up plays for another.

    Raises ConfigurationError for mistakes in files, and where the one that is up plays something else.
    """
    from pytest_mlcc.localaws.launch import status
    from pytest_mlcc.localaws.rehearsal.director import NOTHING

    wanted = str(rehearsal_of(settings) or "")
    with suppress(LocalAwsError):  # it is ending, or can't be reached: whoever starts it says why
        found = status(project)
        playing = found.rehearsal if found else None
        played = str(playing["scenario"]) if playing else ""
        if wanted and playing and wanted != played:
            text = f"the local AWS of this project plays something else now: {played or NOTHING}"
            raise ConfigurationError([Problem("rehearsal", text, "`mlcc local status` says for whom; let that end first")])
        return wanted or played
    return wanted


def driver(plan: Blueprint, name: str, aws: Aws | None = None, *, hf_token: str | None = None) -> Native | Scripts:
    """Who carries stages out, by name. Without ``aws`` it can only tell its steps, as for a dry run.

    A licence is accepted only by the user's word; the twins of the local AWS have none.
    """
    settings = plan.settings
    local = settings.target == LOCAL
    aws = aws or _unasked(plan)
    if name == "scripts":
        return _scripts(plan, aws)
    from pytest_mlcc.drivers.native.driver import Native
    from pytest_mlcc.drivers.native.work import Options

    options = Options(role=settings.role, build_role=settings.build_role, mlflow_arn=settings.mlflow_arn, hf_token=hf_token)
    return Native(aws, accept_eula=lambda _: local or settings.accept_eula, options=options)


def check_tools(plan: Blueprint) -> None:
    """Return where the scripts find every tool. Raises ConfigurationError with all that are missing, and what gets each."""
    _scripts(plan, _unasked(plan)).ready()


def _unasked(plan: Blueprint) -> Aws:
    """The AWS of a plan, for what asks it nothing."""
    return Aws(plan.settings.target, plan.settings.region, "http://127.0.0.1" if plan.settings.target == LOCAL else None)


def _scripts(plan: Blueprint, aws: Aws) -> Scripts:
    """The driver of a generated project's own scripts; a role that nobody chose is left to the user's own profile."""
    from pytest_mlcc.drivers.scripts import ScriptOptions, Scripts, Strategy
    from pytest_mlcc.settings import Source

    settings = plan.settings
    options = ScriptOptions(
        project=plan.project,
        strategy=Strategy(settings.build_strategy),
        role=None if settings.sources["role"] is Source.DEFAULT else settings.role,
        hf_token_secret=settings.hf_token_secret,
        mlflow_arn=settings.mlflow_arn,
    )
    return Scripts(aws, accept_eula=lambda _: aws.target == LOCAL or settings.accept_eula, options=options)


def site(plan: Blueprint) -> AwsSite:
    """Everything that a process of the run needs, on AWS or on the local AWS."""
    return AwsSite(plan, connect(plan))


def summary_of(plan: Blueprint, planned: Sequence[Planned], seconds: float) -> Summary:
    """The one model of a run that every report shows."""
    options = plan.settings.given(but=("entry", "stage", "target", "driver"))  # a re-run names the entry, and the run knows the last two
    return summarize(plan.run, planned, seconds=seconds, options=options, run_of=plan.run_of)


def _remember_owner(run_dir: Path, pid: int) -> None:
    """Which process a run stands and falls with. Every worker says the same; the rename keeps readers from half a line."""
    run_dir.mkdir(parents=True, exist_ok=True)
    scratch = run_dir / f"{_OWNER}.{os.getpid()}"
    scratch.write_text(str(Holder.of(pid)), encoding="utf-8")
    scratch.replace(run_dir / _OWNER)


def _has_died(run_dir: Path) -> bool:
    """Whether a run of this project is known to have ended; False where nothing tells, as for a run on another machine."""
    owner = run_dir / _OWNER
    return owner.exists() and not Holder.parse(owner.read_text(encoding="utf-8")).alive


class AwsSite:
    """Where stages run and what remembers them, on AWS or on the local AWS. Obeys ``plugin.site.Site``."""

    def __init__(self, plan: Blueprint, aws: Aws) -> None:
        self._plan = plan
        self._aws = aws
        self._guardian: Guardian | None = None
        self._watched: set[str] = set()
        self._carriers: dict[str, Driver] = {}
        self._warnings: list[str] = []
        self._unsent: list[str] = []

    @cached_property
    def driver(self) -> Driver:
        """Who carries stages out: for each entry the driver that it has."""
        return PerEntry(lambda entry: self._carrier(self._plan.driver_of(entry)))

    def _carrier(self, name: str) -> Driver:
        if name not in self._carriers:
            self._carriers[name] = driver(self._plan, name, self._aws, hf_token=self._hf_token if name == "native" else None)
        return self._carriers[name]

    @cached_property
    def secrets(self) -> Sequence[str]:
        """The token for gated models: a script that fetches it may print it. What these credentials may not read, no script prints."""
        with suppress(StageError):
            return [token for token in [self._hf_token] if token]
        return ()

    @cached_property
    def cleaner(self) -> Cleaner:
        """Who deletes what a ledger names."""
        return AwsCleaner(self._aws, account=self._aws.account(), rehearsed=bool(self._plan.run.rehearsal))

    def ledger(self, entry: Entry) -> Ledger:
        """The ledger of one entry in this run."""
        return FileLedger(self._ledger_path(entry))

    def begin(self, entry: Entry) -> None:
        """Claim the configuration, and put its ledger under the guardian's watch."""
        if self._guardian is None:  # first: where it can't be started, nothing stays claimed
            self._guardian = self._start_guardian()
        if self._table is not None:
            self._claim(self._table, entry)
        self._guardian.begin(self._ledger_path(entry))
        self._watched.add(entry.id)

    def _claim(self, table: Table, entry: Entry) -> None:
        """Claim a configuration; the claim of a run that died on this machine is given back first, or it would hold for hours."""
        run, folder = self._plan.run, self._plan.run_dir
        _remember_owner(folder, self._plan.owner_pid)
        holder = str((table.get(entry.config_id) or {}).get("claimRunId", ""))
        if holder and _has_died(folder.with_name(holder)):
            table.release(entry, replace(run, run_id=holder))
        table.claim(entry, run, seconds=sum(entry.stage_timeout(stage) for stage in entry.steps))

    def end(self, entry: Entry) -> None:
        """The entry is over: the guardian may forget it, unless its ledger still names something that costs money."""
        if self._guardian is not None and not self.ledger(entry).open():
            self._guardian.end(self._ledger_path(entry))
            self._watched.discard(entry.id)

    def record(self, planned: Planned) -> str:
        """Write the record of an entry; without a CI table, say so once and keep it in the local folder only."""
        name = planned.entry.id
        self._artifacts.save_logs(name, {stage: Path(outcome.log) for stage, outcome in planned.outcomes.items() if outcome.log})
        if self._table is None:
            return self._once(NO_TABLE_WARNING)
        cost = cost_of(self._plan.run, planned)
        record = Record.of(
            planned.entry,
            self._plan.run_of(planned.entry),
            planned.stages,
            planned.outcomes,
            cost=cost.known,
            cost_complete=cost.complete,
            log_pointer=lambda outcome: self._artifacts.log_pointer(name, outcome.stage, outcome.log),
            redactor=self._redactor,
        )
        written = self._table.write(record)
        missing = f"mlcc: there is no table {self._table.history_name}; the history of this run is not kept"
        return self._once(missing) if written.history_missing else ""

    def publish(self, planned: Sequence[Planned], seconds: float) -> Sequence[str]:
        """Save results.json, summary.md and the logs in every place."""
        from pytest_mlcc.reporting.json_report import render as as_json
        from pytest_mlcc.reporting.markdown import render as as_markdown

        summary = summary_of(self._plan, planned, seconds)
        parts = {tier: summary.of_tier(tier) for tier in summary.tiers}
        self._artifacts.save_reports(
            Reports(as_json(summary), as_markdown(summary)),
            {tier: Reports(as_json(part), as_markdown(part)) for tier, part in parts.items()},
        )
        return [*self._observed(), *self._unsent, *(f"mlcc: results saved in {place}" for place in self._artifacts.places)]

    def _observed(self) -> list[str]:
        """What a run on the local AWS should know of it: holes that it met, and faults that did or did not happen."""
        if self._aws.target != LOCAL:
            return []
        from pytest_mlcc.localaws.observed import holes_met, rules_played

        project, run = self._plan.project, self._plan.run
        lines = []
        with suppress(LocalAwsError):  # it has ended already; what it saw is gone with it
            lines = [holes_met(project, since=run.started), rules_played(project) if run.rehearsal else ""]
        return [f"mlcc: {line}" for line in lines if line]

    def close(self) -> None:
        """The guardian may go home; on AWS only if nothing is left, else it goes on trying when this process has ended."""
        if self._guardian is not None and (self._aws.target == LOCAL or not self._watched):
            self._guardian.done()
            self._guardian = None

    def shut_down(self) -> None:
        """Let the local AWS go; it ends when nobody else holds it."""
        self.close()
        if self._aws.target == LOCAL:
            from pytest_mlcc.localaws.launch import release

            release(self._plan.project, self._plan.owner_pid)

    @cached_property
    def _hf_token(self) -> str | None:
        return secret(self._aws, self._plan.settings.hf_token_secret)

    @cached_property
    def _redactor(self) -> Redactor:
        return Redactor([*secrets_in(os.environ), *self.secrets])

    @cached_property
    def _table(self) -> Table | None:
        table = Table(self._aws.client("dynamodb"), self._plan.settings.table, self._plan.settings.history_table)
        return table if table.exists() else None

    @cached_property
    def _artifacts(self) -> Artifacts:
        """S3 where there is a CI table; a local folder where there is none, or where the user asks for one."""
        settings = self._plan.settings
        chosen = Folder(settings.save_local) if settings.save_local else None
        fallback = Folder(self._plan.project / ".mlcc" / "e2e-results")
        return Artifacts(self._plan.run.run_id, bucket=self._bucket(), folder=chosen, fallback=fallback, warn=self._unsent.append)

    def _bucket(self) -> Bucket | None:
        """None without a CI table, or where AWS does not even say whether there is one: then the folder has what the run found out."""
        try:
            if self._table is None:
                return None
            return Bucket(self._aws.client("s3"), bucket_name(self._aws.account(), self._plan.settings.region))
        except MlccError as error:
            self._unsent.append(f"mlcc: {error}; results are saved on this machine only")
            return None

    def _ledger_path(self, entry: Entry) -> Path:
        return self._plan.run_dir / "ledger" / f"{entry.id}.jsonl"

    def _start_guardian(self) -> Guardian:
        command = salvage_command(
            target=self._aws.target, region=self._aws.region, endpoint_url=self._aws.endpoint_url, account=self._aws.account(),
            rehearsed=bool(self._plan.run.rehearsal),
        )  # fmt: skip
        log = self._plan.run_dir / "logs" / f"guardian-{os.getpid()}.log"
        return Guardian.start(command, log=log, hold=self._hold if self._aws.target == LOCAL else None)

    def _hold(self, pid: int) -> None:
        from pytest_mlcc.localaws.launch import ensure

        ensure(self._plan.project, holder_pid=pid, region=self._plan.settings.region)

    def _once(self, warning: str) -> str:
        if warning in self._warnings:
            return ""
        self._warnings.append(warning)
        return warning
