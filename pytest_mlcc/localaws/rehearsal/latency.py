"""Latency profiles: how many seconds each of AWS's waits lasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_mlcc.errors import ConfigurationError, Problem
from pytest_mlcc.localaws.rehearsal.documents import did_you_mean, read_mapping
from pytest_mlcc.localaws.rehearsal.vocabulary import Delay

__all__ = ["AWS", "INSTANT", "Profile", "profile"]

INSTANT, AWS = "instant", "aws"

_PACKAGED = Path(__file__).with_name("aws.yaml")
_LONGEST_SECONDS = 7 * 24 * 3600.0
_BASE = "base"


@dataclass(frozen=True, slots=True)
class Profile:
    """The seconds of each wait, before any scaling; one that is not named lasts no time. ``sources`` say where a figure comes from."""

    name: str
    seconds: Mapping[Delay, float]
    sources: Mapping[Delay, str]

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Profile:
        """The profile that ``to_json`` wrote. Raises ValueError for anything else."""
        seconds = {Delay(name): float(value) for name, value in data["seconds"].items()}
        return cls(str(data["name"]), MappingProxyType(seconds), MappingProxyType({}))

    def to_json(self) -> dict[str, Any]:
        """Name and seconds, for the server."""
        return {"name": self.name, "seconds": {str(delay): seconds for delay, seconds in self.seconds.items()}}


def profile(choice: str) -> Profile:
    """The profile of this name, ``instant`` or ``aws``, or the one in this file.

    A file is YAML: ``<delay>: <seconds>``, or ``{seconds: ..., source: ...}``, and ``base: aws`` for what it does not list.
    Raises ConfigurationError with every mistake.
    """
    if choice == INSTANT:
        return Profile(INSTANT, MappingProxyType({}), MappingProxyType({}))
    if choice == AWS:
        return _packaged()
    return _from_file(Path(choice))


@cache
def _packaged() -> Profile:
    return _read(_PACKAGED, read_mapping(_PACKAGED, what="latency profile"), AWS)


def _from_file(path: Path) -> Profile:
    if not path.exists():
        hint = did_you_mean(path.name, (INSTANT, AWS))
        raise ConfigurationError([Problem("--mlcc-latency", f"{str(path)!r} is neither instant, nor aws, nor a file", hint)])
    return _read(path, read_mapping(path, what="latency profile"), path.name)


def _read(path: Path, document: dict[str, Any], name: str) -> Profile:
    problems: list[Problem] = []
    base = document.pop(_BASE, INSTANT)
    if base not in (INSTANT, AWS):
        problems.append(Problem(f"{path}, {_BASE}", f"{base!r} is not a profile", did_you_mean(str(base), (INSTANT, AWS))))
    seconds: dict[Delay, float] = dict(_packaged().seconds) if base == AWS else {}
    sources: dict[Delay, str] = dict(_packaged().sources) if base == AWS else {}
    for key, value in document.items():
        try:
            delay = Delay(key)
            seconds[delay], sources[delay] = _figure(value)
        except ValueError as error:
            known = key in list(Delay)
            hint = "" if known else did_you_mean(key, [*Delay, _BASE])
            problems.append(Problem(f"{path}, {key}", str(error) if known else "there is no such delay", hint))
    if problems:
        raise ConfigurationError(problems)
    return Profile(name, MappingProxyType(seconds), MappingProxyType(sources))


def _figure(value: Any) -> tuple[float, str]:
    given, source = value, ""
    if isinstance(value, dict):
        if not value.keys() <= {"seconds", "source"} or "seconds" not in value:
            raise ValueError("is a mapping with other keys than seconds and source")
        given, source = value["seconds"], str(value.get("source", ""))
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ValueError(f"{given!r} is not a number of seconds")
    if not 0 <= given <= _LONGEST_SECONDS:
        raise ValueError(f"{given!r} is not between 0 and {_LONGEST_SECONDS:.0f} seconds, a week")
    return float(given), source
