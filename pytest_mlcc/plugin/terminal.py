"""What the terminal shows: the header, a line per finished entry, and the summary."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import pytest

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.lifecycle.blueprint import Blueprint
from pytest_mlcc.lifecycle.outcome import Result
from pytest_mlcc.lifecycle.policy import PASS, first_failure, status
from pytest_mlcc.plugin import keys
from pytest_mlcc.reporting.summary import Planned
from pytest_mlcc.settings import Source

__all__ = ["Screen", "header"]

_PROCESSES = "as processes on this machine's Python"
_RUNTIMES = {
    "auto": f"{_PROCESSES} (those that only a container engine can build: in containers)",
    "process": _PROCESSES,
    "container": "in containers",
}


def header(config: pytest.Config) -> Sequence[str]:
    """Target, driver, catalog and run id, and where each setting came from; nothing where no catalog is configured."""
    if keys.CATALOG not in config.stash:
        return []
    settings, catalog = config.stash[keys.SETTINGS], config.stash[keys.CATALOG]
    path = os.path.relpath(settings.catalog or "", config.rootpath)
    own = [entry for entry in catalog.entries if settings.driver_for(entry.driver) != settings.driver]
    lines = [
        f"mlcc: target {settings.shown('target')}, driver {settings.shown('driver')}{_but(own)}, run {config.stash[keys.RUN].run_id}",
        f"mlcc: catalog {path} ({settings.sources['catalog']}): {catalog.summary}",
    ]
    if catalog.packaged:
        lines.append(f"mlcc: {', '.join(catalog.packaged)} of the package, because the catalog's folder has none")
    if settings.dry_run:
        lines.append("mlcc: dry run; nothing is called or created")
    elif settings.target == "local":
        how = _RUNTIMES[settings.runtime]
        lines.append(f"mlcc: no AWS account is touched; images are real, their entry points run {how}")
    else:
        lines.append(f"mlcc: this run creates resources in your AWS account that cost money; role {settings.shown('role')}")
    if (
        settings.target == "local"
        and not settings.dry_run
        and (settings.driver == "scripts" or any(one.driver == "scripts" for one in own))
    ):
        from pytest_mlcc.drivers.scripts.waits import told

        lines.append(f"mlcc: {told()}; scripts and files of the generated projects stay as they are")
    if rehearsal := config.stash[keys.RUN].rehearsal:
        lines.append(f"mlcc: rehearsal: {rehearsal}")
    elif settings.sources["time_scale"] is Source.FLAG:
        lines.append("mlcc: nothing is rehearsed: --mlcc-time-scale divides the waits of --mlcc-latency, which is instant")
    dist, workers = config.getoption("dist", "no"), config.getoption("numprocesses", None)
    if workers and dist not in ("no", "load"):
        lines.append(f"mlcc: --dist {dist} is replaced by our own scheduler: an entry never splits over workers")
    return lines


def _but(own: Sequence[Entry]) -> str:
    """Which entries have another driver than the rest, by the catalog's word."""
    named = ", ".join(f"{entry.driver} for {entry.id}" for entry in own) if len(own) <= 3 else f"another for {len(own)} entries"
    return f" but {named} (catalog)" if own else ""


class Screen:
    """Writes to pytest's terminal reporter, if there is one."""

    def __init__(self, config: pytest.Config, blueprint: Blueprint) -> None:
        self._config = config
        self._blueprint = blueprint

    @property
    def _reporter(self) -> Any:
        return self._config.pluginmanager.get_plugin("terminalreporter")

    def open(self) -> None:
        """Let what is written while an item runs reach the terminal: meanwhile the capture has the descriptor that pytest writes to."""
        if self._reporter is None or self._config.getoption("capture", "no") != "fd":
            return
        writer = self._config.get_terminal_writer()
        former = writer._file
        try:
            number = os.dup(former.fileno())
        except (AttributeError, OSError):  # no descriptor, as in a pytest inside a pytest: nothing that the capture could take
            return
        former.flush()
        writer._file = os.fdopen(number, "w", 1, encoding=former.encoding, errors=former.errors)
        self._config.add_cleanup(lambda: _give_back(writer, former))

    def _line(self, text: str, **markup: bool) -> None:
        reporter = self._reporter
        if reporter is None or self._config.option.verbose < 0:
            return
        if self._config.option.verbose:
            reporter.ensure_newline()  # pytest then names the item anew beside its outcome
        writer = self._config.get_terminal_writer()
        if writer.width_of_current_line:  # the file's name, or letters of other tests
            writer.line()
        writer.line(text, **markup)
        writer.flush()

    def brought_along(self, planned: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Say which stages run although nobody chose them, and for whose sake."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, stages in planned.items():
            if set(stages["pulled"]) - {"clean"}:
                groups.setdefault(tuple(stages["pulled"]), []).append(name)
        for pulled, names in groups.items():
            whose = ", ".join(names) if len(names) <= 3 else f"{len(names)} entries"
            self._line(f"mlcc: brought along what the chosen stages of {whose} need: {', '.join(pulled)}")

    def failed(self, entry: str, stage: str, report: pytest.TestReport) -> None:
        """A stage failed: say so now, not only in the summary."""
        lines = str(report.longrepr).strip().splitlines() or ["failed"]
        words = next((line[1:].strip() for line in reversed(lines) if line.startswith("E ")), lines[0])
        self._line(f"{entry}: {stage} failed: {words.removeprefix(f'{entry}: {stage} failed: ')[:200]}", red=True)

    def live(self, entry: str, stage: str, line: str) -> None:
        """One line of a stage's output."""
        self._line(f"[{entry} {stage}] {line}")

    def still_running(self, entry: str, stage: str, seconds: float, last_line: str) -> None:
        """A long stage is still at work."""
        self._line(f"{entry}  {stage} runs for {seconds:.0f} s: {last_line}", cyan=True)

    def concluded(self, verdict: Planned) -> None:
        """An entry is through."""
        seconds = sum(outcome.seconds for outcome in verdict.outcomes.values())
        failure = first_failure(verdict.stages, verdict.outcomes)
        word = status(verdict.stages, verdict.outcomes)
        good = word == PASS
        passed = sum(outcome.result is Result.PASS for outcome in verdict.outcomes.values())
        count = f"{passed}/{len(verdict.stages)} stages"
        words = f"{verdict.entry.id:<24} {word:<18} {count:<12} {seconds:7.1f} s"
        if failure is not None and failure.failure_class is not None:
            words += f"  ({failure.failure_class})"
        self._line(words, green=good, red=not good and failure is not None, yellow=not good and failure is None)

    def summary(self, reporter: Any, verdicts: Sequence[Planned], notes: Sequence[str], seconds: float) -> None:
        """The table of entries, the failures with their re-run commands, and where everything was saved."""
        if not verdicts and not notes:
            return
        from pytest_mlcc.assemble import summary_of
        from pytest_mlcc.reporting.terminal import render

        reporter.write_sep("=", "mlcc lifecycle summary")
        if verdicts:
            writer = self._config.get_terminal_writer()
            unicode = "utf" in (getattr(writer._file, "encoding", None) or "ascii").lower()
            summary = summary_of(self._blueprint, verdicts, seconds)
            for line in render(summary, width=writer.fullwidth, color=writer.hasmarkup, unicode=unicode):
                reporter.write_line(line)
        for note in notes:
            reporter.write_line(note)


def _give_back(writer: Any, former: TextIO) -> None:
    writer._file.close()
    writer._file = former
