"""From a script's exit status and its last words to the error of its stage.

Statuses: do/* of ml-container-creator 1.6.0. Its contract has 0 to 3; what the scripts really use is wider.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pytest_mlcc.drivers.scripts.process import Finished
from pytest_mlcc.errors import FailureClass, StageError
from pytest_mlcc.lifecycle.failures import classify_text

__all__ = ["check", "complaints", "failure_class"]

_MEANING: Mapping[int, str] = {
    1: "it failed",
    2: "wrong usage, a missing tool, or a tuning job that failed",
    3: "its contract is violated: something that must be there first is not",
    4: "AWS, credentials, a deployment or a wait failed",
    5: "docker could not tag the image",
    126: "it, or a command that it calls, can't be executed",
    127: "it, or a command that it calls, is not there",
    130: "it was interrupted",
}

_CLASSES: Mapping[int, FailureClass] = {
    3: FailureClass.CODE_BUG,
    5: FailureClass.CODE_BUG,
    126: FailureClass.CODE_BUG,
    127: FailureClass.CODE_BUG,
    137: FailureClass.OOM,  # SIGKILL that was not ours: the kernel's, for want of memory
}
"""Where the words say nothing, the status does."""

_CROSS = "❌"
_LONGEST = 200  # characters of a complaint that the message quotes; the log has all of it
_COMPLAINT = re.compile(r"❌|\bAn error occurred \(|\b[Ee]rror\b|\bERROR\b|\bReason:|\b[Ff]ailed\b")
_HINT = re.compile(r"^\s*(?:•|→|\d+\.|Check |Possible causes|Usage:|Run[ :]|If this times out)")
"""The scripts end in advice ("sufficient service quota", "network connectivity"): words that name no cause."""


def check(finished: Finished, shown: str) -> None:
    """Return where a script ended well. Raises StageError: its status in words, its own complaint, and what it wrote last."""
    if finished.status == 0:
        return
    meaning = _MEANING.get(finished.status) or (f"signal {finished.status - 128}" if finished.status > 128 else "it failed")
    said = [line for line in finished.stdout if _CROSS in line]
    quoted = f": {said[-1].strip()[:_LONGEST]}" if said else ""
    raise StageError(
        f"{shown} exited with {finished.status} ({meaning}){quoted}",
        failure_class=failure_class(finished),
        output="\n".join(finished.stderr or _end_of(finished.stdout)),
    )


def _end_of(lines: Sequence[str]) -> Sequence[str]:
    """What a script printed from its last complaint on; the scripts write theirs to stdout."""
    crosses = [place for place, line in enumerate(lines) if _CROSS in line]
    return lines[crosses[-1] :] if crosses else lines[-10:]


def complaints(lines: Sequence[str]) -> list[str]:
    """Of what a script printed, the lines that say what went wrong."""
    return [line for line in lines if _COMPLAINT.search(line) and not _HINT.match(line)]


def failure_class(finished: Finished) -> FailureClass:
    """Why it failed: the words of stderr, then those of its complaints, then the status."""
    for words in (finished.stderr, complaints(finished.stdout)):
        found = classify_text("\n".join(words))
        if found is not FailureClass.UNKNOWN:
            return found
    return _CLASSES.get(finished.status, FailureClass.UNKNOWN)
