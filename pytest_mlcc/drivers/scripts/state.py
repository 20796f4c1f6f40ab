"""What the scripts remember in the project (``do/config`` and its kin), and whether anybody else changed it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["WRITTEN", "checksums", "defaults", "exports", "put_export", "strangers"]

_EXPORT = re.compile(r'^export ([A-Za-z_][A-Za-z0-9_]*)=(?:"([^"]*)"|\'([^\']*)\'|(\S*))\s*(?:#.*)?$')

_DEFAULT = re.compile(r"\$\{\w+:-(.*)\}")

WRITTEN = re.compile(
    r"do/config\Z|do/ic/[^/]+\.conf\Z|do/adapters/[^/]+\.conf\Z|\.mlcc/|benchmarks/|\.gitignore\Z|(?:.*/)?__pycache__/|adapters/|output/"
)
"""The files that the scripts write themselves: their memory, and what Python leaves beside modules."""


def exports(file: Path) -> Mapping[str, str]:
    """The literal ``export NAME="value"`` lines of a shell file, the last one of a name winning; nothing where there is no file."""
    if not file.is_file():
        return {}
    found = (_EXPORT.match(line) for line in file.read_text(encoding="utf-8").splitlines())
    return {match[1]: match[2] or match[3] or match[4] or "" for match in found if match}


def defaults(file: Path) -> Mapping[str, str]:
    """The same, and for ``export NAME=${NAME:-value}`` the value that holds where the environment has none."""
    found = ((name, _DEFAULT.fullmatch(value)) for name, value in exports(file).items())
    return {**exports(file), **{name: match[1] for name, match in found if match}}


def put_export(file: Path, name: str, value: str) -> bool:
    """Append ``export NAME="value"`` where the file has none that is not empty; whether it did. ``do/config`` is made to be edited."""
    if exports(file).get(name):
        return False
    with file.open("a", encoding="utf-8") as text:
        text.write(f'\nexport {name}="{value}"\n')
    return True


def checksums(folder: Path) -> Mapping[str, str]:
    """SHA-256 of every file below a folder, with its mode, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): _checksum(path) for path in files}


def strangers(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The files that were changed, added or removed although no script writes them."""
    names = sorted({*before, *after})
    return [name for name in names if before.get(name) != after.get(name) and not WRITTEN.match(name)]


def _checksum(path: Path) -> str:
    return f"{path.stat().st_mode & 0o777:o}:{hashlib.sha256(path.read_bytes()).hexdigest()}"
