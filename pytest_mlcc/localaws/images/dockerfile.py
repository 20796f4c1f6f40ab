"""Dockerfiles, read into instructions.

https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["DockerfileError", "Instruction", "heredocs", "key_values", "parse", "substitute", "words"]

_VARIABLE = re.compile(r"\\\$|\$(?:(?P<plain>\w+)|\{(?P<name>\w+)(?:(?P<kind>:?[-+])(?P<word>[^}]*))?\})")
_HEREDOC = re.compile(r"(?:^|\s)\d*<<-?(?P<quote>[\"']?)(?P<name>[A-Za-z_]\w*)(?P=quote)(?=\s|$)")
_FLAG = re.compile(r"^--([a-z]+)(?:=(\S+))?\s+")
_KNOWN = {
    "FROM", "ARG", "ENV", "COPY", "ADD", "WORKDIR", "LABEL", "EXPOSE", "ENTRYPOINT", "CMD", "USER", "RUN", "VOLUME",
    "STOPSIGNAL", "SHELL", "HEALTHCHECK", "ONBUILD", "MAINTAINER",
}  # fmt: skip


class DockerfileError(Exception):
    """A Dockerfile that can't be built here; the message names the line."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its keyword in capitals, flags such as ``chmod``, the rest of its text, and its line."""

    keyword: str
    value: str
    line: int
    flags: Mapping[str, str]

    def __str__(self) -> str:
        flags = "".join(f"--{name}={value} " for name, value in self.flags.items())
        return f"{self.keyword} {flags}{self.value}"


def parse(text: str) -> tuple[Instruction, ...]:
    """Read every instruction. Raises DockerfileError with all lines that are none."""
    instructions: list[Instruction] = []
    mistakes: list[str] = []
    for line, logical in _logical_lines(text):
        keyword, _, value = logical.partition(" ")
        if keyword.upper() not in _KNOWN:
            mistakes.append(f"dockerfile parse error on line {line}: unknown instruction: {keyword}")
        elif not value.strip():
            mistakes.append(f"dockerfile parse error on line {line}: {keyword.upper()} requires at least one argument")
        else:
            flags, rest = _flags(value.strip())
            instructions.append(Instruction(keyword.upper(), rest, line, flags))
    if not mistakes and not any(instruction.keyword == "FROM" for instruction in instructions):
        mistakes.append("no build stage in current context: the Dockerfile has no FROM")
    if mistakes:
        raise DockerfileError("\n".join(mistakes))
    return tuple(instructions)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines joined over ``\\`` at their end, with the number of the first; comments and blank lines dropped, also between, and the
    text of here-documents, whose names stay in the line."""
    parts: list[str] = []
    first = 0
    lines = enumerate(text.splitlines(), 1)
    for number, raw in lines:
        stripped = raw.strip()
        if not stripped or stripped.startswith("#"):
            continue
        first = first if parts else number
        continued = stripped.endswith("\\")
        parts.append(stripped[:-1].strip() if continued else stripped)
        if not continued:
            logical = re.sub(r"^(\S+)\s+", r"\1 ", " ".join(part for part in parts if part))
            yield first, logical
            for name in heredocs(logical):
                next((line for _, line in lines if line.strip("\t") == name), None)
            parts = []
    if parts:
        yield first, " ".join(part for part in parts if part)


def heredocs(text: str) -> list[str]:
    """The names of the here-documents that a RUN, COPY or ADD takes from the lines below it."""
    is_taker = text.split(" ", 1)[0].upper() in ("RUN", "COPY", "ADD")
    return [match["name"] for match in _HEREDOC.finditer(text)] if is_taker else []


def _flags(value: str) -> tuple[dict[str, str], str]:
    flags: dict[str, str] = {}
    while match := _FLAG.match(value):
        flags[match[1]] = match[2] or "true"
        value = value[match.end() :]
    return flags, value


def substitute(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$name``, ``${name}``, ``${name:-word}`` and ``${name:+word}``; an unknown name gives nothing."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "\\$":
            return "$"
        name, kind, word = match["plain"] or match["name"], match["kind"] or "", match["word"] or ""
        known = variables.get(name)
        present = bool(known) if kind.startswith(":") else known is not None
        if kind.endswith("+"):
            return substitute(word, variables) if present else ""
        return known or "" if present or not kind else substitute(word, variables)

    return _VARIABLE.sub(value, text)


def words(instruction: Instruction) -> list[str]:
    """The arguments of COPY, CMD or ENTRYPOINT: a JSON list, or words. Raises DockerfileError for unclosed quotes."""
    value = instruction.value
    if value.startswith("["):
        try:
            listed = json.loads(value)
        except ValueError:
            listed = None
        if isinstance(listed, list) and all(isinstance(each, str) for each in listed):
            return listed
    return _split(instruction)


def key_values(instruction: Instruction) -> dict[str, str]:
    """The pairs of ENV, ARG or LABEL: ``k=v k2="v 2"``, or the old form ``k the rest``."""
    name, _, rest = instruction.value.partition(" ")
    if "=" not in name and instruction.keyword != "ARG":
        return {name: rest.strip()}
    pairs = [word.partition("=") for word in _split(instruction)]
    wrong = [word for word, equals, _ in pairs if not equals and instruction.keyword != "ARG"]
    if wrong:
        raise DockerfileError(f"line {instruction.line}: {instruction.keyword} needs key=value, not {wrong[0]!r}")
    return {key: value for key, _, value in pairs}


def _split(instruction: Instruction) -> list[str]:
    try:
        return shlex.split(instruction.value)
    except ValueError as error:
        raise DockerfileError(f"line {instruction.line}: {instruction.keyword}: {error}") from error
