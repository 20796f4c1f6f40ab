"""A project's own quotas: ``.mlcc/quotas.yaml``, which chooses an account and changes single numbers of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_mlcc.errors import LocalAwsError
from pytest_mlcc.localaws.services.service_quotas.catalog import ACCOUNTS, DEFAULT_ACCOUNT, quotas

__all__ = ["FILE_NAME", "ProjectQuotas", "read"]

FILE_NAME = "quotas.yaml"
_LIMIT = 10_000_000_000  # AWS: the largest value of a quota


@dataclass(frozen=True, slots=True)
class ProjectQuotas:
    """Which packaged account a project starts from, and its own numbers by quota name (``*`` stands for anything)."""

    account: str = DEFAULT_ACCOUNT
    numbers: dict[str, float] = field(default_factory=dict)


def read(path: Path) -> ProjectQuotas:
    """The file; its absence means the default account.

    Raises LocalAwsError, one message with every mistake, where the file is not what it should be.
    """
    if not path.exists():
        return ProjectQuotas()
    found = _parsed(path)
    mistakes = list(_mistakes(found))
    if mistakes:
        raise LocalAwsError(f"{path}: {'; '.join(mistakes)}")
    numbers = {str(name): float(number) for name, number in (found.get("quotas") or {}).items()}
    return ProjectQuotas(found.get("account", DEFAULT_ACCOUNT), numbers)


def _parsed(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LocalAwsError(f"{path}: can't be read as YAML: {' '.join(str(error).split())}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise LocalAwsError(f"{path}: must hold 'account' (one of {', '.join(ACCOUNTS)}) and 'quotas' (a number by quota name)")
    return found


def _mistakes(found: dict[str, Any]) -> Iterator[str]:
    for key in found.keys() - {"account", "quotas"}:
        yield f"unknown key {key!r}; there are 'account' and 'quotas'"
    account, numbers = found.get("account", DEFAULT_ACCOUNT), found.get("quotas") or {}
    if account not in ACCOUNTS:
        yield f"unknown account {account!r}; there are {', '.join(ACCOUNTS)}"
    if not isinstance(numbers, dict):
        yield "'quotas' must be a number by quota name"
        return
    for name, number in numbers.items():
        yield from _mistake(str(name), number)


def _mistake(name: str, number: object) -> Iterator[str]:
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= _LIMIT:
        yield f"{name!r} must be a number from 0 to {_LIMIT}, not {number!r}"
    if "*" not in name and name not in quotas():
        near = difflib.get_close_matches(name, quotas(), n=1)
        yield f"there is no quota {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    elif "*" in name and not _fits(name):
        yield f"no quota's name fits {name!r}"


def _fits(pattern: str) -> bool:
    import fnmatch

    return bool(fnmatch.filter(quotas(), pattern.replace("[", "[[]").replace("?", "[?]")))
