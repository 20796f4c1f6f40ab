"""What a running local AWS has seen, in a line each for the end of a run and for ``mlcc local status``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_mlcc.localaws.holders import USER
from pytest_mlcc.localaws.launch import status, unserved

__all__ = ["holes", "holes_met", "played", "rules_played"]

_SHOWN = 6


def holes_met(project_dir: Path, *, since: float) -> str:
    """The operations that were asked for since then and that the local AWS does not have; empty where there are none."""
    return holes(unserved(project_dir, since=since))


def holes(counts: Mapping[str, int]) -> str:
    """``the local AWS does not have: codecommit:ListRepositories (3 times), ...``; empty for none."""
    if not counts:
        return ""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{name} ({_times(count)})" for name, count in most[:_SHOWN]]
    words += [f"and {len(most) - _SHOWN} more"] if len(most) > _SHOWN else []
    return f"asked for, but the local AWS does not have it: {', '.join(words)}"


def rules_played(project_dir: Path) -> str:
    """How often the rules of the fault plan that is played have struck; empty where none is."""
    found = status(project_dir)
    playing = found.rehearsal if found else None
    if not playing or not playing["rules"]:
        return ""
    since = " since mlcc local up" if USER in playing["holders"] else ""
    return f"faults played{since}: {'; '.join(played(playing['rules']))}"


def played(rules: Iterable[Mapping[str, Any]]) -> list[str]:
    """``rule 1 (throttling) struck twice``, for each rule; one that no call ever matched is likely mistyped, and says so."""
    return [f"rule {number} ({rule['fault']}) {_what_came(rule)}" for number, rule in enumerate(rules, 1)]


def _what_came(rule: Mapping[str, Any]) -> str:
    if not rule["matched"]:
        return f"met no call ({rule['operation']} on {rule['resource']})"
    return f"struck {_times(rule['struck'])} of {rule['matched']}"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
