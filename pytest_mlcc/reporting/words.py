"""How figures and foreign texts are written in every report."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from pytest_mlcc.reporting.cost import Cost
from pytest_mlcc.reporting.summary import Summary
from pytest_mlcc.results.status import KnownStatus

__all__ = ["counted", "duration", "printable", "totals"]

_MINUTE, _HOUR = 60, 3600

# Escape sequences (colours, cursor movements, titles) and control characters, which would act instead of being shown.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff]")


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> [duration(s) for s in (0.04, 3.44, 59.96, 534, 5234)]
    ['0.0s', '3.4s', '1m00s', '8m54s', '1h27m']
    """
    if round(seconds, 1) < _MINUTE:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"


def counted(names: Sequence[str]) -> str:
    """How many there are of each kind, of names that begin with their kind.

    >>> counted(["s3-prefix s3://b/x/", "iam-role r", "s3-prefix s3://b/y/"])
    '3: 2 s3-prefix, 1 iam-role'
    """
    kinds = Counter(name.partition(" ")[0] for name in names)
    return f"{len(names)}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def printable(text: str) -> str:
    """``text`` without anything that a terminal, a browser or an XML parser would obey instead of showing; lines stay lines."""
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _CONTROLS.sub("", text)


def totals(summary: Summary) -> str:
    """The one line that says it all: ``Summary: 11 total | 10 passing | 1 failing | 0 untested | 91% coverage | ...``."""
    incomplete = summary.count(KnownStatus.INCOMPLETE)
    parts = [
        f"{len(summary.rows)} total",
        f"{summary.passing} passing",
        f"{summary.failing} failing",
        *([f"{incomplete} incomplete"] if incomplete else []),
        f"{summary.count(KnownStatus.UNTESTED)} untested",
        f"{summary.coverage_percent}% coverage",
        duration(summary.seconds),
        *([str(summary.cost)] if summary.cost != Cost() else []),
    ]
    return "Summary: " + " | ".join(parts)
