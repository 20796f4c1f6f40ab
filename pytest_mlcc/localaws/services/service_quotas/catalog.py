"""Which quotas there are: their names, codes and numbers, from the packaged files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from pytest_mlcc.localaws.wire import service_model

__all__ = ["ACCOUNTS", "DEFAULT_ACCOUNT", "Quota", "quotas", "service_names", "values"]

#: The packaged sets of numbers: what AWS gives a new account, and an account that was raised for runs like ours.
ACCOUNTS = ("new-account", "raised")
DEFAULT_ACCOUNT = "raised"


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota of one service; its number depends on the account."""

    service: str
    name: str
    code: str


def _load(name: str) -> dict[str, Any]:
    import yaml

    text = resources.files(__package__).joinpath("data", f"{name}.yaml").read_text()
    loaded: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders
    return loaded


@cache
def _names() -> dict[str, Any]:
    return _load("names")


def service_names() -> dict[str, str]:
    """The services that have quotas here: AWS's name by service code."""
    return {service: facts["name"] for service, facts in _names().items()}


def _code(name: str) -> str:
    return f"L-{hashlib.sha256(name.encode()).hexdigest()[:8].upper()}"


def _all_names(service: str, facts: Mapping[str, Any]) -> Iterable[str]:
    for template, enum in facts.get("for each", {}).items():
        for instance_type in service_model(service).shape_for(enum).enum:
            yield template.replace("{type}", instance_type)
    yield from facts.get("single", [])


@cache
def quotas() -> Mapping[str, Quota]:
    """Every quota by name, in order of service and name. Names are unique across services."""
    found = {
        name: Quota(service, name, facts.get("codes", {}).get(name) or _code(name))
        for service, facts in _names().items()
        for name in _all_names(service, facts)
    }
    return {name: found[name] for name in sorted(found, key=lambda name: (found[name].service, name))}


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")))


def values(account: str, more: Mapping[str, float] | None = None) -> dict[str, float]:
    """The number of every quota by name for one of :data:`ACCOUNTS`; ``more`` (number by name or pattern) counts above it."""
    lines = [line for lines in _load(account).values() for line in lines.items()] + list((more or {}).items())
    found = dict.fromkeys(quotas(), 0.0)
    for text, number in lines:
        pattern = _pattern(text)
        found |= {name: float(number) for name in found if pattern.fullmatch(name)}
    return found
