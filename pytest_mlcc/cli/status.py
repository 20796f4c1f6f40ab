"""How ``mlcc local status`` looks: facts as lines, and what runs as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO

from pytest_mlcc.localaws import launch
from pytest_mlcc.localaws.holders import USER
from pytest_mlcc.localaws.observed import holes, played
from pytest_mlcc.localaws.rehearsal.director import NOTHING

__all__ = ["duration", "lines", "table"]

_MEBIBYTE = 1 << 20
_WIDTH = 160


def lines(found: launch.Status) -> list[str]:
    """What is known of a running local AWS, a line each."""
    holders = [holder.partition(":")[0] for holder in found.holders if holder != USER]
    kept = [*(["mlcc local up"] if found.held_by_user else []), *(f"process {pid}" for pid in holders)]
    runs = [f"{count} {name.replace('_', ' ')}" for name, count in sorted(found.activity.items()) if count]
    return [
        f"URL      {found.endpoint_url}",
        f"Account  {found.account}",
        f"Region   {found.region}",
        f"Process  {found.pid}, up {duration(found.uptime_seconds)}",
        f"Kept by  {', '.join(kept) or 'nobody: it is about to end'}",
        f"Runs     {', '.join(runs) or 'nothing'}",
        f"Engine   {found.engine}",
        f"Images   {_runtime(found)}",
        *_rehearsal(found),
        *([f"Unsaved  {found.save_failure}: what changes now is lost when it ends"] if found.save_failure else []),
        *([f"Missing  {holes(found.unserved)}"] if found.unserved else []),
    ]


def _runtime(found: launch.Status) -> str:
    """How images run, and by which container engine where one is installed."""
    facts = found.runtime
    mode, engine = facts["mode"], facts["engine"] or " or ".join(facts["installed"])
    processes = "run as processes" + (f" without an /opt/ml of their own: {facts['shares_opt_ml']}" if facts["shares_opt_ml"] else "")
    if facts["reason"] and mode != "process":
        return f"{processes}; no container engine works: {facts['reason']} ({mode})"
    if mode == "container":
        return f"run in containers of {engine or 'an engine that is not installed'} (container)"
    return f"{processes}; {engine} where one is needed (auto)" if engine and mode == "auto" else f"{processes} ({mode})"


def _rehearsal(found: launch.Status) -> Iterator[str]:
    playing = found.rehearsal
    if playing is None:
        yield f"Plays    {NOTHING}"
        return
    who = ", ".join("mlcc local up" if holder == USER else f"process {holder}" for holder in playing["holders"])
    yield f"Plays    {playing['scenario'] or NOTHING} (for {who})"
    yield from (f"         {line}" for line in played(playing["rules"]))


def table(resources: Sequence[launch.Running]) -> str:
    """Endpoints, components, jobs and builds with status, pid, memory and age."""
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for title, justify in (("Kind", "left"), ("Name", "left"), ("Status", "left"), ("PID", "right"), ("Memory", "right"), ("Age", "right")):
        made.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # rich names the five words, not str
    for one in resources:
        memory = "" if one.memory is None else f"{one.memory / _MEBIBYTE:.0f} MiB"
        made.add_row(one.kind, one.name, one.status, str(one.pid or ""), memory, "" if one.age is None else duration(one.age))
    text = StringIO()
    Console(file=text, width=_WIDTH, highlight=False, markup=False).print(made)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def duration(seconds: float) -> str:
    """``2 h 5 min``, ``3 min 4 s`` or ``12 s``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.0f} s"
