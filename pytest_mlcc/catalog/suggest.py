"""Answers to mistyped words."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

__all__ = ["closest", "did_you_mean"]

_LISTED = 8


@lru_cache(maxsize=4096)
def _closest(word: str, choices: tuple[str, ...], cutoff: float = 0.6) -> str | None:
    from difflib import get_close_matches  # only a mistake needs it

    lowered = {choice.lower(): choice for choice in choices}
    found = get_close_matches(word.lower(), lowered, n=1, cutoff=cutoff)
    return lowered[found[0]] if found else None


def closest(word: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The one choice that looks most like ``word``, whatever its case; None where nothing is as like as ``cutoff`` (0 to 1)."""
    return _closest(word, choices if isinstance(choices, tuple) else tuple(choices), cutoff)


def did_you_mean(word: str, choices: Iterable[str], *, prefix: str = "") -> str:
    """A hint: the closest choice, or all of them where they are few; empty where neither helps."""
    known = choices if isinstance(choices, tuple) else tuple(choices)
    best = _closest(word, known)
    if best is not None:
        return f'did you mean "{prefix}{best}"?'
    if len(known) <= _LISTED:
        return "one of: " + ", ".join(prefix + choice for choice in known)
    return ""
