"""A user's YAML file as plain data, and the answers to what is mistyped in it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pytest_mlcc.errors import ConfigurationError, Problem

__all__ = ["did_you_mean", "read_mapping"]

_LISTED = 12


def read_mapping(path: Path, *, what: str) -> dict[str, Any]:
    """The mapping that a YAML file holds; ``what`` says what the file should be.

    Raises ConfigurationError where the file is missing, unreadable, no YAML, no mapping, or gives a key twice.
    """
    try:
        import yaml
    except ImportError as error:
        problem = Problem(str(path), f"this {what} is YAML, which nothing here reads", "pip install 'pytest-mlcc[local]'")
        raise ConfigurationError([problem]) from error

    try:
        with path.open(encoding="utf-8") as stream:
            document = yaml.load(stream, Loader=_loader())  # noqa: S506 - a SafeLoader that is stricter
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigurationError([Problem(str(path), f"this {what} can't be read: {reason}")]) from error
    except yaml.YAMLError as error:
        raise ConfigurationError([_syntax(path, error)]) from error
    if not isinstance(document, dict):
        found = "is empty" if document is None else f"holds a {type(document).__name__}"
        raise ConfigurationError([Problem(str(path), f"this {what} {found}, but has to be a mapping (key: value)")])
    return {str(key): value for key, value in document.items()}


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint: the choice that looks most like ``word``, or all of them where they are few; empty where neither helps."""
    known = tuple(map(str, choices))
    near = get_close_matches(word.lower(), [choice.lower() for choice in known], n=1)
    if near:
        return f"did you mean {next(choice for choice in known if choice.lower() == near[0])!r}?"
    return f"one of: {', '.join(known)}" if len(known) <= _LISTED else ""


def _syntax(path: Path, error: Any) -> Problem:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
    said = [getattr(error, name, None) for name in ("context", "problem")]
    return Problem(where, ", ".join(filter(None, said)) or " ".join(str(error).split()))


def _loader() -> Any:
    """YAML's safe loader, which would let the last of two equal keys win without a word."""
    import yaml

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key_node, _ in node.value:
                if not isinstance(key_node, yaml.ScalarNode):
                    raise yaml.constructor.ConstructorError(None, None, "a key has to be a word", key_node.start_mark)
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key_node.value!r} is given twice", key_node.start_mark)
                seen.add(key_node.value)
            return super().construct_mapping(node, deep)

    return Strict
