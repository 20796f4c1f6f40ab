"""The controller's books: one record per entry, exactly once, whatever became of the workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from functools import cached_property
from typing import Any

import pytest

from pytest_mlcc.errors import MlccError
from pytest_mlcc.lifecycle import policy
from pytest_mlcc.lifecycle.blueprint import Blueprint
from pytest_mlcc.lifecycle.stage import ExtraStage, plan
from pytest_mlcc.plugin.follow import Follower
from pytest_mlcc.plugin.reports import payload
from pytest_mlcc.plugin.selection import read_plan
from pytest_mlcc.plugin.site import Site
from pytest_mlcc.plugin.terminal import Screen
from pytest_mlcc.reporting.summary import Planned
from pytest_mlcc.results.journal import Journal

__all__ = ["Records"]


class Records:
    """Registered in the controller (or the only process): reads journals, writes records, shows progress and summary."""

    def __init__(self, config: pytest.Config, blueprint: Blueprint, make_site: Callable[[], Site]) -> None:
        self._config = config
        self._blueprint = blueprint
        self._make_site = make_site
        self._site: Site | None = None
        self._journal = Journal(blueprint.run_dir)
        self._verdicts: dict[str, Planned] = {}
        self._notes: list[str] = []
        self._unrecorded: dict[str, str] = {}
        self._lost: dict[str, str] = {}
        self._live: dict[str, Any] = {}
        self._screen = Screen(config, blueprint)
        self._follower = Follower(blueprint, self._screen)
        self._began = time.monotonic()
        self._started = False

    # ------------------------------------------------------------------ while it runs

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        """An item starts, here or in a worker: from the first one on, show what is going on."""
        self._live[nodeid] = location
        if not self._started:
            self._started = True
            self._screen.open()
            self._screen.brought_along(self._plan[1])
            self._follower.start()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """The item is through."""
        self._live.pop(nodeid, None)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """When an entry is through, write its record at once: a later crash can't take it back."""
        match payload(report):
            case [entry, stage, *closed]:
                if report.failed:
                    self._screen.failed(entry, stage, report)
                if closed:
                    self._conclude(entry)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        """A stage that passed or was skipped needs no letter: the screen shows entries. With -v, pytest's own lines stay."""
        if not payload(report) or self._config.option.verbose > 0:
            return None
        if report.skipped:
            return "skipped", "", "SKIPPED"
        return ("passed", "", "PASSED") if report.when == "call" and report.passed else None

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Stages cut short get a failed report; without one JUnit shows nameless testcases and JSON says 'passed'."""
        reason = f"interrupted: {str(excinfo.value) or 'Ctrl-C'}"
        for nodeid, location in list(self._live.items()):
            for when, outcome in (("call", "failed"), ("teardown", "passed")):
                text = reason if outcome == "failed" else None
                report = pytest.TestReport(nodeid, location, {}, outcome, text, when)  # type: ignore[arg-type]  # literals of pytest's own types
                self._config.hook.pytest_runtest_logreport(report=report)

    # ------------------------------------------------------------------ at the end

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """When the workers have ended: conclude what is open, save the reports, and let the local AWS go."""
        result = yield
        self._follower.stop()
        _, planned = self._plan
        try:
            for name in planned:
                self._conclude(name)
            self._publish(session, planned)
        finally:
            self._shut_down()
        return result

    def _shut_down(self) -> None:
        """What can't be stopped is a line of the summary: the run's results stand."""
        try:
            if self._site is not None:
                self._site.shut_down()
        except MlccError as error:
            self._notes.append(f"mlcc: {error}")

    def _publish(self, session: pytest.Session, planned: Any) -> None:
        verdicts = [self._verdicts[name] for name in planned if name in self._verdicts]
        try:
            if verdicts:
                self._notes += self._owned_site().publish(verdicts, time.monotonic() - self._began)
        except Exception as error:  # as above: the run is over, its reports are not worth a traceback
            self._notes.append(f"mlcc: the reports were not saved: {error}")
        failed = any(policy.first_failure(one.stages, one.outcomes) for one in verdicts)
        if failed or self._lost or len(verdicts) < len(planned):
            session.exitstatus = max(session.exitstatus, pytest.ExitCode.TESTS_FAILED)

    def _conclude(self, name: str) -> None:
        """Write the entry's record from its journal, once."""
        if name in self._verdicts or name in self._unrecorded:
            return
        entry = self._blueprint.catalog.by_id[name]
        journal = self._journal.read(name)
        if not journal.outcomes and journal.in_flight is None:
            self._unrecorded[name] = f"mlcc: {name}: planned, but no stage of it ran; no record was written"
            return
        if refused := journal.noted("refused"):
            self._unrecorded[name] = f"mlcc: {refused['reason']}; no record was written"
            return
        stages = plan(entry.lifecycle, self._plan[0])
        verdict = Planned(entry, stages, journal.outcomes)
        self._verdicts[name] = verdict
        self._record(verdict)
        self._follower.conclude(name)
        self._screen.concluded(verdict)

    def _record(self, verdict: Planned) -> None:
        """A record that can't be written costs the run its success, never the other entries their turn."""
        try:
            if warning := self._owned_site().record(verdict):
                self._notes.append(warning)
        except Exception as error:  # whatever a database, a network or a team's own site may raise
            self._lost[verdict.entry.id] = f"mlcc: {verdict.entry.id}: the record was not written: {error}"

    @cached_property
    def _plan(self) -> tuple[list[ExtraStage], dict[str, dict[str, list[str]]]]:
        """What was collected; on disk before the first item starts, wherever it starts."""
        return read_plan(self._blueprint.run_dir)

    def _owned_site(self) -> Site:
        if self._site is None:
            self._site = self._make_site()
        return self._site

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The table of entries, the failures with their re-run commands, and where everything was saved."""
        notes = [*self._unrecorded.values(), *self._lost.values(), *self._notes]
        self._screen.summary(terminalreporter, list(self._verdicts.values()), notes, time.monotonic() - self._began)
