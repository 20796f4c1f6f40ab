"""The endpoints of one process: who opens them, who runs a stage on them, and who always cleans."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.errors import ClaimRefused, LeftoversError, MlccError, StageError
from pytest_mlcc.lifecycle.blueprint import Blueprint
from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.lifecycle.ports import Answer, Context, Deadline, Resource
from pytest_mlcc.lifecycle.run import Progress
from pytest_mlcc.lifecycle.stage import CLEAN
from pytest_mlcc.plugin.cells import Cells
from pytest_mlcc.plugin.deadline import Deadlines
from pytest_mlcc.plugin.site import Site
from pytest_mlcc.results.journal import Journal
from pytest_mlcc.results.redact import Redactor, secrets_in

__all__ = ["Endpoint", "Endpoints"]


class Endpoint:
    """One entry's endpoint, as its stages and a team's own tests see it.

    ``facts`` holds what earlier stages learned, by stage: ``endpoint.facts["deploy"]["endpoint_name"]``.
    """

    def __init__(self, entry: Entry, progress: Progress, site: Callable[[], Site], blueprint: Blueprint, deadlines: Deadlines) -> None:
        self.entry = entry
        self.progress = progress
        self.opened = False  # whether anything may have been created
        self._site = site
        self._blueprint = blueprint
        self._deadlines = deadlines
        self._stage = ""
        self._logged: set[str] = set()
        self._deadline = Deadline(entry.timeout)

    @property
    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        """What the stages so far learned (names, digests, losses), by stage."""
        return self.progress.facts

    @property
    def log_path(self) -> Path:
        """The log file of the stage that runs now."""
        return self._blueprint.run_dir / "logs" / self.entry.id / f"{self._stage}.log"

    def run(self, stage: str) -> Mapping[str, Any]:
        """Carry out a stage of the catalog and return its facts. Raises StageError if it fails."""
        if stage == CLEAN:
            self.clean()
            return {}
        facts = self._carry_out(stage)
        self._learn(stage, facts)
        return facts

    def _carry_out(self, stage: str) -> Mapping[str, Any]:
        """Let the driver do a stage; what it had learned before a failure is not lost."""
        try:
            return self._site().driver.run(stage, self._context())
        except StageError as error:
            self._learn(stage, error.facts)
            raise

    def _learn(self, stage: str, facts: Mapping[str, Any]) -> None:
        self.progress.facts[stage] = {**self.progress.facts.get(stage, {}), **facts}

    def ask(self, prompt: str, *, adapter: bool = False, max_tokens: int = 64) -> Answer:
        """One question to the model, or to its adapter, under greedy decoding."""
        return self._site().driver.ask(prompt, self._context(), adapter=adapter, max_tokens=max_tokens)

    def note(self, **facts: Any) -> None:
        """Put figures of a team's own stage (JSON values) into the record."""
        self._learn(self._stage, facts)

    def log(self, line: str) -> None:
        """Write a line to the stage's log, without secrets; ``--mlcc-verbose`` shows it live."""
        path = self.log_path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._logged.add(self._stage)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {self.progress.redact(line)}\n")

    def clean(self) -> None:
        """Delete everything the ledger names and prove that it is gone. Raises LeftoversError; safe to call twice."""
        if not self.opened:
            self.log("nothing was created, nothing to clean")
            return
        try:
            self._learn(CLEAN, self._carry_out(CLEAN))
        finally:  # what a driver's own clean could not do is the cleaner's
            left, said = self._sweep()
        if left:
            raise LeftoversError(f"still alive after clean: {_names(left)}", output="\n".join(said))

    def _sweep(self) -> tuple[Sequence[Resource], list[str]]:
        """Delete what the ledger still names; what is left of it, and what the cleaner said, which tells why."""
        said: list[str] = []

        def log(line: str) -> None:
            said.append(line)
            self.log(line)

        return self._site().cleaner.clean(self._site().ledger(self.entry), log=log), said

    def enter(self, stage: str) -> None:
        """From now on this is the stage: its log takes what fixtures and the test function write."""
        self._stage = stage

    @contextmanager
    def stage(self, name: str, seconds: float, *, hard: bool) -> Iterator[None]:
        """Be in a stage: its log, its time limit (interrupting if ``hard``), and its outcome."""
        from _pytest.outcomes import Exit, Skipped, XFailed  # the types behind pytest.skip(), pytest.exit() and pytest.xfail()

        self.enter(name)
        self._deadline = Deadline(seconds)
        try:
            with self.progress.step(name, log=self._written_log, passing=(Skipped, XFailed, Exit, KeyboardInterrupt)):
                if hard:
                    with self._deadlines.limit(seconds, name):
                        yield
                else:
                    yield
        except Skipped as skip:
            self.progress.skip(name, str(skip))
            raise

    def _written_log(self) -> str:
        return str(self.log_path) if self._stage in self._logged else ""

    def _context(self) -> Context:
        return Context(
            entry=self.entry,
            run=self._blueprint.run,
            workspace=self._blueprint.run_dir / "work" / self.entry.id,
            ledger=self._site().ledger(self.entry),
            deadline=self._deadline,
            log=self.log,
            facts=self.progress.facts,
        )


class Endpoints:
    """Every endpoint of this process. The session fixture ``endpoints`` owns it, and its end always cleans."""

    def __init__(self, blueprint: Blueprint, cells: Cells, make_site: Callable[[Blueprint], Site]) -> None:
        self.blueprint = blueprint
        self._cells = cells
        self._make_site = make_site
        self._journal = Journal(blueprint.run_dir)
        self._site: Site | None = None
        self._known: dict[str, Endpoint] = {}
        self._deadlines = Deadlines()
        self._asked: set[str] = set()
        self._closed: set[str] = set()
        self.redact = Redactor(secrets_in(os.environ))

    def of(self, entry: Entry) -> Endpoint:
        """The entry's endpoint. Opens nothing."""
        if entry.id not in self._known:
            progress = Progress(entry, self._cells.plan(entry), listeners=[self._journal.listener], redact=self.redact)
            self._take_over(progress)
            self._known[entry.id] = Endpoint(entry, progress, self.site, self.blueprint, self._deadlines)
        return self._known[entry.id]

    def properties(self, entry: Entry, stage: str, outcome: Outcome) -> list[tuple[str, str]]:
        """What JUnit and JSON say about a stage; the cost is the entry's so far."""
        from pytest_mlcc.reporting.junit import properties
        from pytest_mlcc.reporting.summary import Planned, cost_of
        from pytest_mlcc.results.status import of_outcome

        progress, run = self.of(entry).progress, self.blueprint.run
        cost = cost_of(run, Planned(entry, progress.stages, progress.outcomes))
        status = of_outcome(outcome) if outcome.result is Result.FAIL else str(outcome.result)
        return properties(entry, stage, outcome, run, status=status, cost=cost)

    def _take_over(self, progress: Progress) -> None:
        """Another worker died inside this entry: the stage it was in failed, and is never run again."""
        before = self._journal.read(progress.entry.id)
        progress.outcomes.update(before.outcomes)
        progress.facts.update({name: outcome.facts for name, outcome in before.outcomes.items()})
        if before.in_flight is not None:
            progress.fail(before.in_flight, StageError("the worker process died while this stage ran"))

    def site(self) -> Site:
        """What stands behind this process's endpoints; made when first asked for."""
        if self._site is None:
            self._site = self._make_site(self.blueprint)
            self.redact.learn(self._site.secrets)
        return self._site

    def open(self, entry: Entry) -> Endpoint:
        """Claim the entry's configuration and watch its ledger, once, before its first stage.

        Raises ClaimRefused, or whatever kept the site from being made; asked again for the same entry, it stays silent.
        """
        endpoint = self.of(entry)
        if entry.id not in self._asked:
            self._asked.add(entry.id)
            try:
                self.site().begin(entry)
            except ClaimRefused as refusal:
                self._journal.note(entry.id, "refused", reason=str(refusal))
                raise
            endpoint.opened = True
        return endpoint

    def seconds(self, entry: Entry, stage: str) -> float:
        """How long a stage may take: the catalog's figure, unless ``--mlcc-stage-timeout`` names one. Clean keeps its own."""
        return (None if stage == CLEAN else self.blueprint.settings.stage_timeout) or entry.stage_timeout(stage)

    def finish(self, entry: Entry) -> None:
        """Clean the entry if its clean stage did not do it, and let it go. Raises what the clean raises, unless reported already."""
        if entry.id in self._closed:
            return
        endpoint = self.of(entry)
        outcome = endpoint.progress.outcomes.get(CLEAN)
        try:
            if endpoint.opened and (outcome is None or outcome.result is not Result.PASS):
                self._clean_at_last(endpoint, reported=outcome is not None)
        finally:
            self._closed.add(entry.id)
            if endpoint.opened:
                self.site().end(entry)

    def _clean_at_last(self, endpoint: Endpoint, *, reported: bool) -> None:
        try:
            with endpoint.stage(CLEAN, endpoint.entry.stage_timeout(CLEAN), hard=False):
                endpoint.clean()
        except MlccError:
            if not reported:
                raise

    def close(self) -> None:
        """Finish every open entry, then let the site go. Raises the first error, after all had their turn."""
        errors: list[BaseException] = []
        for name in sorted(self._asked - self._closed):
            try:
                self.finish(self._known[name].entry)
            except Exception as error:
                errors.append(error)
        if self._site is not None:
            self._site.close()
            self._site = None
        if errors:
            raise errors[0]


def _names(left: Sequence[Resource]) -> str:
    return ", ".join(f"{one.kind} {one.name}" for one in left)
