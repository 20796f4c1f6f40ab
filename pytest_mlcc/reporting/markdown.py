"""summary.md: what people read in a CI job's summary, in GitHub's Markdown."""

from __future__ import annotations

import html
import re

from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.reporting.cost import Cost
from pytest_mlcc.reporting.summary import Row, StageRow, Summary
from pytest_mlcc.reporting.words import counted, duration, printable, totals
from pytest_mlcc.results.record import timestamp
from pytest_mlcc.results.status import KnownStatus

__all__ = ["code", "escape", "fenced", "render"]

_GLYPHS = {Result.PASS: "✅", Result.FAIL: "❌", Result.SKIP: "⏭️", None: "▫️"}
_MARKS = {KnownStatus.PASS: "✅", KnownStatus.INCOMPLETE: "🟡"}
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#$&])|(?<=[a-z])(:)(?=//)")


def render(summary: Summary) -> str:
    """The whole page, with a line end at the end."""
    parts = [_heading(summary), _facts(summary), *_tables(summary), *_failures(summary), *_leaks(summary), _times(summary)]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """``text`` on one line, shown as it is: no emphasis, link, HTML, formula or table border comes of it."""
    return _SPECIAL.sub(r"\\\g<0>", _one_line(text))


def code(text: str) -> str:
    """``text`` on one line as inline code, also inside a table."""
    line = _one_line(text)
    if line and not re.search(r"[`|\\]", line):
        return f"`{line}`"
    # Markdown's own inline code can't hold these inside a table; as HTML each stands for itself.
    entities = (f"&#{ord(char)};" if char in "`|\\*_[]~$" else char for char in html.escape(line, quote=False))
    return f"<code>{''.join(entities)}</code>"


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())


def fenced(text: str) -> str:
    """``text`` as a block of code, fenced so that no line of it can end the block."""
    body = printable(text).strip("\n")
    longest = max((len(run) for run in re.findall(r"`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{body}\n{fence}"


def _heading(summary: Summary) -> str:
    total = len(summary.rows)
    if summary.failing:
        return f"## ❌ mlcc: {summary.failing} of {total} failing"
    if summary.passing == total and total:
        return f"## ✅ mlcc: all {total} passing" if total > 1 else "## ✅ mlcc: passing"
    return f"## 🟡 mlcc: {summary.passing} of {total} passing, none failing"


def _facts(summary: Summary) -> str:
    where = f"Run {code(summary.run_id)}, started {timestamp(summary.started)}, on **{escape(summary.target)}**"
    rehearsed = f", rehearsing {escape(summary.rehearsal)}" if summary.rehearsal else ""
    return f"{where} with the {escape(summary.driver)} driver{rehearsed}.  \n{totals(summary)}"


def _tables(summary: Summary) -> list[str]:
    parts = []
    for tier in summary.tiers:
        if len(summary.tiers) > 1:
            parts.append(f"### {escape(tier)}")
        rows = [_row(row) for row in summary.of_tier(tier).rows]
        head = ["| | Entry | Model | Stages | Status | Time | Cost |", "|:-:|:--|:--|:--|:--|--:|--:|"]
        parts.append("\n".join([*head, *rows]))
    return parts


def _row(row: Row) -> str:
    bar = "".join(_GLYPHS[stage.result] for stage in row.stages)
    mark = "❌" if row.failed else next((mark for status, mark in _MARKS.items() if row.status == status), "▫️")
    status = escape(row.status)
    status = f"**{status}**" if row.failed else status
    status += f" ({escape(row.failure_class)})" if row.failure_class else ""
    ran = row.status != KnownStatus.UNTESTED
    figures = (duration(row.seconds), str(row.cost)) if ran else ("", "")
    cells = (mark, code(row.entry), escape(row.model), bar, status, *figures)
    return "| " + " | ".join(cells) + " |"


def _failures(summary: Summary) -> list[str]:
    if not summary.failures:
        return []
    return ["### Failures", *(_failure(row) for row in summary.failures)]


def _failure(row: Row) -> str:
    cause = f" ({row.failure_class})" if row.failure_class else ""
    # Inside HTML no Markdown is read, so HTML's own escapes hold here.
    head = f"<details open>\n<summary><b>{html.escape(_one_line(row.entry))}</b>: {html.escape(row.status)}{cause}</summary>"
    errors = [_error(outcome) for outcome in row.failures]
    skipped = [f"Not run: {', '.join(escape(name) for name in row.not_run)}"] if row.not_run else []
    again = f"Test it again:\n\n{fenced(row.rerun).replace('```text', '```sh', 1)}"
    return "\n\n".join([head, *errors, *skipped, again, "</details>"])


def _leaks(summary: Summary) -> list[str]:
    """What the generated projects' own clean left alive: their maintainers' leaks, by name."""
    return ["### Left by the scripts", *(_leak(row) for row in summary.leaking)] if summary.leaking else []


def _leak(row: Row) -> str:
    head = f"<b>{html.escape(_one_line(row.entry))}</b> {html.escape(_one_line(counted(row.left_by_scripts)))}"
    names = "\n".join(map(_one_line, row.left_by_scripts))
    log = f"Log: {code(row.clean_log)}" if row.clean_log else ""
    return "\n\n".join(part for part in (f"<details>\n<summary>{head}</summary>", fenced(names), log, "</details>") if part)


def _error(outcome: Outcome) -> str:
    log = f" Log: {code(outcome.log)}" if outcome.log else ""
    return f"{code(outcome.stage)} failed after {duration(outcome.seconds)}.{log}\n\n{fenced(outcome.error or 'no error text')}"


def _times(summary: Summary) -> str:
    """Where the time went, folded away: one column per stage."""
    names = summary.stage_names
    if not any(row.seconds for row in summary.rows):
        return ""
    head = ["| Entry | " + " | ".join(map(escape, names)) + " |", "|:--|" + "--:|" * len(names)]
    rows = ["| " + " | ".join([code(row.entry), *_seconds(row, names)]) + " |" for row in summary.rows]
    note = _glyph_words()
    if summary.cost != Cost() and not summary.cost.complete:
        note += " Costs with +? are what is known: a part has no known price."
    return "\n\n".join(["<details>\n<summary>Time of each stage</summary>", "\n".join([*head, *rows]), note, "</details>"])


def _glyph_words() -> str:
    words = {Result.PASS: "passed", Result.FAIL: "failed", Result.SKIP: "skipped", None: "not selected or not reached"}
    return ", ".join(f"{_GLYPHS[result]} {word}" for result, word in words.items()) + "."


def _seconds(row: Row, names: tuple[str, ...]) -> list[str]:
    stages = {stage.name: stage for stage in row.stages}
    return [_time(stages.get(name)) for name in names]


def _time(stage: StageRow | None) -> str:
    if stage is None or stage.outcome is None or stage.result is Result.SKIP:
        return ""
    text = duration(stage.outcome.seconds)
    return f"**{text}** ❌" if stage.result is Result.FAIL else text
