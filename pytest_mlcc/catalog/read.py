"""From a file to a JSON document, or to the mistake that prevents it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from pytest_mlcc.catalog.mistake import Mistake, pointer
from pytest_mlcc.catalog.suggest import closest

__all__ = ["UnreadableError", "read_document"]


class UnreadableError(Exception):
    """The file gives no document; carries the mistake. Never leaves this package."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(str(mistake))
        self.mistake = mistake


def read_document(path: Path) -> tuple[Any, list[Mistake]]:
    """The document, and the keys in it that stand twice (JSON parsers drop the first of them in silence).

    Raises UnreadableError where there is no such file or no JSON in it.
    """
    # the objects themselves are kept too: a dropped one would free its id for the next
    twice: dict[int, tuple[Any, list[str]]] = {}

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            keys = [key for key, _ in pairs]
            twice[id(built)] = built, [key for key in built if keys.count(key) > 1]
        return built

    document = _parse(path, _text(path), build)
    return document, list(_doubles(path, document, twice)) if twice else []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UnreadableError(Mistake(path, "", "no such file", _neighbour(path))) from None
    except IsADirectoryError:
        raise UnreadableError(Mistake(path, "", "is a folder, not a file", "name the JSON file in it")) from None
    except UnicodeDecodeError as error:
        raise UnreadableError(Mistake(path, "", f"is not UTF-8 text (byte {error.start})", "save it as UTF-8")) from None
    except OSError as error:
        raise UnreadableError(Mistake(path, "", f"cannot be read: {error.strerror}")) from None


def _neighbour(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    names = sorted(file.name for file in path.parent.glob("*.json"))
    best = closest(path.name, names)
    return f'did you mean "{path.parent / best}"?' if best else ""


def _parse(path: Path, text: str, build: Any) -> Any:
    try:
        document = json.loads(text, object_pairs_hook=build, parse_constant=_no_constant)
        if "\\ud" in text.lower():
            json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is legal JSON and no text
        return document
    except json.JSONDecodeError as error:
        hint = "the file is empty" if not text.strip() else _excerpt(text, error)
        raise UnreadableError(Mistake(path, f"{error.lineno}:{error.colno}", f"invalid JSON: {error.msg}", hint)) from None
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise UnreadableError(Mistake(path, "", f"holds {half}, half of a character", "write the character itself")) from None
    except RecursionError:
        raise UnreadableError(Mistake(path, "", "invalid JSON: nested too deeply")) from None
    except ValueError as error:
        raise UnreadableError(Mistake(path, "", f"invalid JSON: {error}")) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _excerpt(text: str, error: json.JSONDecodeError) -> str:
    line = text.splitlines()[error.lineno - 1 : error.lineno]
    return f"near: {line[0].strip()[:60]}" if line and line[0].strip() else ""


def _doubles(path: Path, document: Any, twice: dict[int, tuple[Any, list[str]]]) -> Iterator[Mistake]:
    """Find again, by identity, the objects that had a key twice; only then is the place of each known."""
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while stack:
        place, value = stack.pop()
        if isinstance(value, dict):
            for key in twice.get(id(value), (None, ()))[1]:
                yield Mistake(path, pointer((*place, key)), f'"{key}" stands twice in the same object', "keep one")
            stack.extend(((*place, key), item) for key, item in value.items())
        elif isinstance(value, list):
            stack.extend(((*place, index), item) for index, item in enumerate(value))
