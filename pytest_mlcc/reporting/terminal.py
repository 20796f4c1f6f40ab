"""The summary of a run as a terminal shows it: a table of entries, what failed and why, and one line of totals."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, replace

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.reporting.summary import Row, StageRow, Summary
from pytest_mlcc.reporting.words import counted, duration, printable, totals
from pytest_mlcc.results.status import KnownStatus

__all__ = ["render", "title"]

_ERROR_LINES = 10
_MOST_ROWS = 100
_NARROWEST = 60
_FIRM = "\u00a0"
"""A space at which no line is broken, until it is shown."""

# Headings of stage columns; where even these do not fit, a bar of one glyph per stage remains.
_SHORT_NAMES = {
    "generate": "gen",
    "deploy": "depl",
    "validate": "valid",
    "benchmark": "bench",
    "register": "reg",
    "adapter-add": "add",
    "test-adapter": "adapt",
}
_SHORT_LENGTH = 5

_PARTIAL_COST = "+? and more: something without a known price (an instance, a tuning job), or an endpoint that was not cleaned"

_STYLES = {Result.PASS: "green", Result.FAIL: "bold red", Result.SKIP: "yellow", None: "dim"}


@dataclass(frozen=True, slots=True)
class _Glyphs:
    """The marks of one character set."""

    result: dict[Result | None, str]
    bullet: str
    nothing: str
    box: Box


_UNICODE = _Glyphs(
    {Result.PASS: "✓", Result.FAIL: "✗", Result.SKIP: "–", None: "·"},
    "·",
    "–",
    Box("    \n    \n ── \n    \n    \n    \n    \n    \n"),
)
_ASCII = _Glyphs(
    {Result.PASS: ".", Result.FAIL: "F", Result.SKIP: "s", None: "?"},
    "-",
    "-",
    Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True),
)


def title(summary: Summary) -> str:
    """One line that names the run, for a heading: run id, target, driver."""
    return f"mlcc run {summary.run_id} ({summary.target}, {summary.driver} driver)"


def render(summary: Summary, *, width: int, color: bool, unicode: bool = True) -> list[str]:
    """The lines of the whole summary for a terminal of ``width`` columns.

    ``color`` allows escape sequences for colours; without ``unicode`` every character is ASCII.
    """
    width = max(width, _NARROWEST)
    glyphs = _UNICODE if unicode else _ASCII
    stream = io.StringIO()
    console = _console(stream, width=width, color=color, unicode=unicode)
    shown = _worth_a_row(summary)
    if shown.rows:
        console.print(_table(shown, width, glyphs))
        for line in _legend(shown, width, glyphs):
            console.print(line)
    if passed := len(summary.rows) - len(shown.rows):
        console.print(f"{passed} more passed; results.json and summary.md list them all")
    for row in summary.failures:
        console.print()
        for line in _failure(row, width, glyphs):
            console.print(line)
    if summary.leaking:
        console.print()
        for line in _leaks(summary, width):
            console.print(line)
    console.print()
    console.print(_totals(summary))
    lines = [line.rstrip() for line in stream.getvalue().rstrip().split("\n")]
    return lines if unicode else [line.encode("ascii", "backslashreplace").decode() for line in lines]


def _worth_a_row(summary: Summary) -> Summary:
    """Of a very large run only what did not pass: nobody reads a thousand rows of ticks."""
    if len(summary.rows) <= _MOST_ROWS:
        return summary
    return replace(summary, rows=tuple(row for row in summary.rows if row.status != KnownStatus.PASS))


def _console(stream: io.StringIO, *, width: int, color: bool, unicode: bool) -> Console:
    return Console(
        file=stream,
        width=width,
        color_system="standard" if color else None,
        force_terminal=color,
        no_color=not color,
        legacy_windows=False,
        safe_box=not unicode,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=True,
    )


def _table(summary: Summary, width: int, glyphs: _Glyphs) -> Table:
    names = summary.stage_names
    wide = _fits(summary, width, _SHORT_LENGTH + 2)
    gap = " " if _fits(summary, width, 2) else ""
    table = Table(box=glyphs.box, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("Entry", overflow="fold", min_width=8)
    for name in names if wide else ["Stages"]:
        table.add_column(_short(name) if wide else name, justify="right" if wide else "left", no_wrap=True)
    table.add_column("Status", no_wrap=True)
    table.add_column("Time", justify="right", no_wrap=True)
    table.add_column("Cost", justify="right", no_wrap=True)
    columns = len(table.columns)
    for tier in summary.tiers:
        if len(summary.tiers) > 1:
            table.add_row(Text(tier, style="bold dim"), *[""] * (columns - 1))
        for row in summary.of_tier(tier).rows:
            cells = _figures(row, names, glyphs) if wide else [_bar(row, names, glyphs, gap=gap)]
            ran = row.status != KnownStatus.UNTESTED
            figures = [duration(row.seconds), str(row.cost)] if ran else [Text(glyphs.nothing, style="dim")] * 2
            table.add_row(Text(printable(row.entry)), *cells, _status(row), *figures)
    return table


def _fits(summary: Summary, width: int, per_stage: int) -> bool:
    """Whether that many columns per stage have room beside everything else."""
    entry = max((len(row.entry) for row in summary.rows), default=0)
    status = max((len(row.status) for row in summary.rows), default=0)
    cost = max((len(str(row.cost)) for row in summary.rows), default=0)
    others = (max(entry, len("Entry")), max(status, len("Status")), len("59m59s"), max(cost, len("Cost")))
    return sum(others) + 2 * len(others) + per_stage * len(summary.stage_names) <= width


def _short(name: str) -> str:
    return _SHORT_NAMES.get(name, name.removeprefix("tune-"))[:_SHORT_LENGTH]


def _figures(row: Row, names: Iterable[str], glyphs: _Glyphs) -> list[Text]:
    stages = {stage.name: stage for stage in row.stages}
    return [_figure(stages[name], glyphs) if name in stages else Text("") for name in names]


def _figure(stage: StageRow, glyphs: _Glyphs) -> Text:
    mark, style = glyphs.result[stage.result], _STYLES[stage.result]
    if stage.outcome is None or stage.result is Result.SKIP:
        return Text(mark, style=style)
    text = _seconds(stage.outcome)
    return Text(f"{mark}{text}" if stage.result is Result.FAIL else text, style=style)


def _seconds(outcome: Outcome) -> str:
    """At most four characters: 0.4, 31.2, 842, 87m."""
    seconds = outcome.seconds
    if round(seconds, 1) < 100:
        return f"{seconds:.1f}"
    return f"{seconds:.0f}" if round(seconds) < 1000 else f"{seconds / 60:.0f}m"


def _bar(row: Row, names: Iterable[str], glyphs: _Glyphs, *, gap: str) -> Text:
    stages = {stage.name: stage for stage in row.stages}
    marks = []
    for name in names:
        stage = stages.get(name)
        marks.append(Text(glyphs.result[stage.result], style=_STYLES[stage.result]) if stage else Text(" "))
    return Text(gap).join(marks)


def _status(row: Row) -> Text:
    if row.failed:
        return Text(row.status, style="bold red")
    styles = {KnownStatus.PASS: "green", KnownStatus.INCOMPLETE: "yellow"}
    return Text(row.status, style=next((style for status, style in styles.items() if row.status == status), "dim"))


def _legend(summary: Summary, width: int, glyphs: _Glyphs) -> list[Text]:
    """Which glyph stands for which stage, where the table has a bar; and what the glyphs mean where not all is well."""
    if not summary.rows:
        return []
    lines: list[Text] = []
    if _fits(summary, width, _SHORT_LENGTH + 2):
        lines.append(Text("stages in seconds (m: minutes)", style="dim"))
    else:
        lines += _wrapped("stages: " + " ".join(summary.stage_names), width, indent="        ", style="dim")
    seen = {stage.result for row in summary.rows for stage in row.stages}
    words: dict[Result | None, str] = {
        Result.PASS: "passed",
        Result.FAIL: "failed",
        Result.SKIP: "skipped",
        None: "not selected or not reached",
    }
    if seen - {Result.PASS}:
        marks = "  ".join(f"{glyphs.result[result]} {word}" for result, word in words.items() if result in seen)
        lines += _wrapped(marks, width, indent="", style="dim")
    if not summary.cost.complete:
        lines += _wrapped(_PARTIAL_COST, width, indent="    ", style="dim")
    return [Text(""), *lines] if lines else []


def _failure(row: Row, width: int, glyphs: _Glyphs) -> list[Text]:
    heading = Text()
    heading.append(f"{glyphs.result[Result.FAIL]} {printable(row.entry)}", style="bold red")
    heading.append(f" {glyphs.bullet} {row.status}", style="red")
    if row.failure_class:
        heading.append(f" {glyphs.bullet} {row.failure_class}")
    lines = [heading]
    for outcome in row.failures:
        lines += _error(outcome, width, named=len(row.failures) > 1)
    lines += _field("not run", ", ".join(row.not_run), width)
    logs = [outcome.log for outcome in row.failures if outcome.log]
    for log in logs:
        lines.append(Text(f"  log      {printable(log)}"))
    lines.append(Text("  re-run   ").append(printable(row.rerun), style="bold cyan"))
    return lines


def _leaks(summary: Summary, width: int) -> list[Text]:
    """What maintainers of the scripts want to know, a line per entry; the names are in the log of clean."""
    lines = [Text("left by the scripts after their own clean:", style="yellow")]
    for row in summary.leaking:
        kinds = printable(counted(row.left_by_scripts)).replace(" ", _FIRM).replace(f",{_FIRM}", ", ")
        lines += _wrapped(f"  {printable(row.entry)}  {kinds}", width, indent="    ")
    logs = [row.clean_log.replace(f"/{row.entry}/", "/<entry>/") for row in summary.leaking if row.clean_log]
    return [*lines, *(Text(f"  names in {printable(log)}") for log in dict.fromkeys(logs))]


def _error(outcome: Outcome, width: int, *, named: bool) -> list[Text]:
    """How the error begins, which is what failed, and its end, where its cause stands. Wrapped: a cut line hides the word that counts."""
    said = printable(outcome.error).strip() or "no error text"
    wrapped = [part for line in said.expandtabs(4).split("\n") for part in _fold(line, width - 4)]
    shown = wrapped if len(wrapped) <= _ERROR_LINES else [wrapped[0], *wrapped[1 - _ERROR_LINES :]]
    head = [Text(f"  {outcome.stage} ({duration(outcome.seconds)}):", style="dim")] if named else []
    return [*head, *(Text(f"    {line}", style="red" if index == 0 else "") for index, line in enumerate(shown))]


def _field(name: str, text: str, width: int) -> list[Text]:
    return _wrapped(f"  {name:<8} {text}", width, indent=" " * 11) if text else []


def _wrapped(text: str, width: int, *, indent: str, style: str = "") -> list[Text]:
    lines = textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [Text(line.replace(_FIRM, " "), style=style) for line in lines]


def _fold(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, break_on_hyphens=False, drop_whitespace=False) or [""]


def _totals(summary: Summary) -> Text:
    good = summary.rows and summary.passing == len(summary.rows)
    return Text(totals(summary), style="bold red" if summary.failing else "bold green" if good else "bold yellow")
