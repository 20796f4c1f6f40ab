"""Training data: JSON Lines in which every bad row is found and named before anything is trained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlcc.errors import LocalAwsError

__all__ = ["DatasetError", "Row", "read"]

_SHOWN = 5
_ROLES = ("system", "developer", "user", "assistant", "tool")


class DatasetError(LocalAwsError):
    """The data set can't be trained on; the message names the rows (1-based line numbers) and columns at fault."""


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation that ends with the assistant, and the line it stands on."""

    number: int
    messages: tuple[dict[str, str], ...]


def read(source: Path) -> list[Row]:
    """All rows of a JSON Lines file, or of the ``.jsonl`` files in a directory.

    A row has ``prompt`` and ``completion`` (strings), or ``messages`` (turns with role and content, the last one the
    assistant's). Blank lines are skipped but counted. Raises DatasetError that shows the first five bad rows.
    """
    rows: list[Row] = []
    bad: list[str] = []
    files = _files(source)
    for file in files:
        prefix = f"{file.name} " if len(files) > 1 else ""
        for number, line in enumerate(_lines(file), start=1):
            if line.strip():
                messages, problem = _row(line)
                if problem:
                    bad.append(f"{prefix}row {number}: {problem}")
                else:
                    rows.append(Row(number, messages))
    if bad:
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        count = f"{len(bad)} bad row{'s' if len(bad) > 1 else ''}"
        raise DatasetError(f"The data set {source.name} has {count}: {'; '.join(bad[:_SHOWN])}{more}.")
    if not rows:
        raise DatasetError(f"The data set {source.name} has no rows.")
    return rows


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DatasetError(f"There is no data set at {source}.")
    files = sorted(path for path in source.rglob("*") if path.is_file() and path.suffix in (".jsonl", ".json"))
    if not files:
        raise DatasetError(f"There is no .jsonl file in {source}.")
    return files


def _lines(file: Path) -> list[str]:
    raw = file.read_bytes()
    try:
        return raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start) + 1
        byte = f"0x{raw[error.start]:02x}"
        raise DatasetError(f"The data set {file.name} is not UTF-8: row {row} has byte {byte} (offset {error.start}).") from None


def _row(line: str) -> tuple[tuple[dict[str, str], ...], str]:
    """The row's conversation, or what is wrong with it."""
    try:
        item = json.loads(line)
    except ValueError as error:
        return (), f"not valid JSON ({error})"
    except RecursionError:
        return (), "not valid JSON (nested too deeply)"
    if not isinstance(item, dict):
        return (), f"expected a JSON object, it is {_kind(item)}"
    if "messages" in item:
        return _conversation(item["messages"])
    problems = [problem for column in ("prompt", "completion") if (problem := _column(item, column))]
    turns = ({"role": "user", "content": item.get("prompt")}, {"role": "assistant", "content": item.get("completion")})
    return ((), ", ".join(problems)) if problems else (turns, "")  # type: ignore[return-value]  # _column proved both are strings


def _column(item: dict[str, Any], column: str) -> str:
    if column not in item:
        return f"column '{column}' is missing (it has: {', '.join(sorted(item)[:5]) or 'none'})"
    value = item[column]
    if not isinstance(value, str):
        return f"column '{column}' must be a string, it is {_kind(value)}"
    return "" if value.strip() else f"column '{column}' is empty"


def _conversation(value: object) -> tuple[tuple[dict[str, str], ...], str]:
    if not isinstance(value, list) or not value:
        return (), f"column 'messages' must be a non-empty list, it is {_kind(value)}"
    for index, turn in enumerate(value):
        if not isinstance(turn, dict) or turn.get("role") not in _ROLES or not isinstance(turn.get("content"), str):
            return (), f"column 'messages': turn {index + 1} needs a role ({', '.join(_ROLES)}) and a content string"
    if value[-1]["role"] != "assistant" or not value[-1]["content"].strip():
        return (), f"column 'messages': the last turn must be an answer of the assistant, it is of the {value[-1]['role']}"
    if len(value) == 1:
        return (), "column 'messages': there is no turn before the answer"
    return tuple({"role": turn["role"], "content": turn["content"]} for turn in value), ""


def _kind(value: object) -> str:
    """A JSON value's type in JSON's words, with a short look at it."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    if value is None:
        return "null"
    shown = json.dumps(value)
    return f"{names[type(value)]} ({shown if len(shown) <= 40 else shown[:37] + '...'})"
