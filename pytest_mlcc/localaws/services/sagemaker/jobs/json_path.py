"""The JSONPath of batch transform: the operators that the developer guide lists, and no others.

``$``, ``.name``, ``*``, ``['name']`` and ``['one','two']``, ``[0]`` and ``[0,2]``, ``[1:]``, ``[0,5:]``. Source: "Associate Prediction
Results with Input Records". A path of single names and indexes gives a value; one that chooses several names gives an object with
them, one that chooses several indexes a list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["JsonPath", "JsonPathError"]

_NAME = re.compile(r"\.(\*|[^.\[\]*'\"\s]+)")
_BRACKET = re.compile(r"\[((?:'[^']*'|\"[^\"]*\"|[^\]'\"])*)\]")
_QUOTED = re.compile(r"\s*(?:'([^']*)'|\"([^\"]*)\")\s*(,|$)")
_INDEX = re.compile(r"-?\d+")
_SLICE = re.compile(r"(-?\d*):(-?\d*)")


class JsonPathError(ValueError):
    """The path can't be read, or it leads nowhere."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One step: names, or places (numbers and slices) in a list, or everything."""

    names: tuple[str, ...] = ()
    places: tuple[int | slice, ...] = ()
    single: bool = False

    def take(self, value: Any) -> Any:
        if self.names:
            return self._members(value)
        if not self.places:
            return list(value.values()) if isinstance(value, dict) else _a_list(value)
        if self.single and isinstance(self.places[0], int):
            return _element(_a_list(value), self.places[0])
        return [element for place in self.places for element in _elements(_a_list(value), place)]

    def _members(self, value: Any) -> Any:
        missing = [name for name in self.names if not isinstance(value, dict) or name not in value]
        if missing:
            raise JsonPathError(f"there is no {missing[0]!r}")
        return value[self.names[0]] if self.single else {name: value[name] for name in self.names}


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A path that can be followed."""

    text: str
    steps: tuple[_Step, ...]

    @classmethod
    def parse(cls, text: str) -> JsonPath:
        """Read a path. Raises JsonPathError."""
        if not text.startswith("$"):
            raise JsonPathError(f"{text!r} does not begin with $")
        steps, at = [], 1
        while at < len(text):
            step, at = _step(text, at)
            steps.append(step)
        return cls(text, tuple(steps))

    @property
    def is_everything(self) -> bool:
        """Whether it is just ``$``."""
        return not self.steps

    def select(self, value: Any) -> Any:
        """What it chooses of a value. Raises JsonPathError where that has no such part."""
        return _follow(self.steps, value)


def _follow(steps: Sequence[_Step], value: Any) -> Any:
    for number, step in enumerate(steps):
        value = step.take(value)
        if not step.single and not step.names:  # several elements: the rest of the path goes on from each
            rest = steps[number + 1 :]
            return [_follow(rest, each) for each in value] if rest else value
    return value


def _step(text: str, at: int) -> tuple[_Step, int]:
    named = _NAME.match(text, at)
    if named:
        return (_Step() if named[1] == "*" else _Step(names=(named[1],), single=True)), named.end()
    bracket = _BRACKET.match(text, at)
    if not bracket:
        raise JsonPathError(f"{text!r} is not a path that batch transform knows, from {text[at:]!r} on")
    inner = bracket[1].strip()
    if inner == "*":
        return _Step(), bracket.end()
    return (_names(inner) if inner[:1] in ("'", '"') else _places(inner)), bracket.end()


def _names(inner: str) -> _Step:
    names, at = [], 0
    while at < len(inner):
        quoted = _QUOTED.match(inner, at)
        if not quoted:
            raise JsonPathError(f"[{inner}] is not a list of quoted names")
        names.append(quoted[1] if quoted[1] is not None else quoted[2])
        at = quoted.end()
    return _Step(names=tuple(names), single=len(names) == 1)


def _places(inner: str) -> _Step:
    places: list[int | slice] = []
    for part in (part.strip() for part in inner.split(",")):
        ends = _SLICE.fullmatch(part)
        if ends:
            places.append(slice(*(int(end) if end else None for end in ends.groups())))
        elif _INDEX.fullmatch(part):
            places.append(int(part))
        else:
            raise JsonPathError(f"[{inner}] is neither an index nor a slice")
    return _Step(places=tuple(places), single=len(places) == 1 and isinstance(places[0], int))


def _a_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise JsonPathError("the value is no list")
    return value


def _element(value: list[Any], index: int) -> Any:
    try:
        return value[index]
    except IndexError:
        raise JsonPathError(f"index {index} is out of the range of {len(value)} elements") from None


def _elements(value: list[Any], place: int | slice) -> list[Any]:
    return value[place] if isinstance(place, slice) else [_element(value, place)]
