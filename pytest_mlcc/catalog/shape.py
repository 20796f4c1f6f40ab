"""What the schema says of a document, in a user's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from pytest_mlcc.catalog.mistake import show
from pytest_mlcc.catalog.suggest import closest, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

__all__ = ["Location", "ShapeError", "shape_errors"]

Location = tuple[str | int, ...]
ShapeError = tuple[Location, str, str]
"""Location, message, hint."""

_WANTED = {
    "model_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}
_IN_SECONDS = ("timeout", "tuneTimeout")


def shape_errors(document: Any, kind: str) -> list[ShapeError]:
    """Every way in which a document breaks the schema of its kind: catalog, tune, instances or deployment-configs."""
    from pydantic import ValidationError

    from pytest_mlcc.catalog.documents import DOCUMENTS

    try:
        DOCUMENTS[kind].model_validate(document)
    except ValidationError as error:
        details = error.errors(include_url=False)
        return [(_place(detail), *_in_words(detail, DOCUMENTS[kind])) for detail in details]
    return []


def _place(detail: ErrorDetails) -> Location:
    # a missing key has no place of its own, and a bad key of an object is marked by "[key]"
    place = detail["loc"][:-1] if detail["type"] == "missing" else detail["loc"]
    return place[:-1] if place and place[-1] == "[key]" else place


def _in_words(detail: ErrorDetails, shape: type[BaseModel]) -> tuple[str, str]:
    place, kind, value = detail["loc"], detail["type"], detail["input"]
    name = str(place[-1]) if place else ""
    if kind == "missing":
        return f'"{name}" is missing', ""
    if kind == "extra_forbidden":
        return f'unknown key "{name}"', did_you_mean(name, tuple(_keys_at(shape, place[:-1])))
    if kind == "enum":
        choices = tuple(re.findall(r"'([^']*)'", str(detail["ctx"]["expected"])))
        return f"{show(value)} is not allowed here", _hint_for_choice(value, choices)
    if kind in _WANTED:
        return _wrong_type(name, kind, value)
    return _out_of_bounds(name, detail)


def _hint_for_choice(value: Any, choices: tuple[str, ...]) -> str:
    best = closest(value, choices) if isinstance(value, str) else None
    listed = "one of: " + ", ".join(choices)
    return f'did you mean "{best}"? {listed}' if best else listed


def _wrong_type(name: str, kind: str, value: Any) -> tuple[str, str]:
    wanted = _WANTED[kind] + (" of seconds" if name in _IN_SECONDS else "")
    message = f"must be {wanted}, not {show(value)}"
    if kind == "int_type" and isinstance(value, str) and value.strip().isdigit():
        return message, f"write {value.strip()} without quotes"
    if kind == "model_type" and isinstance(value, list) and not name:
        return message, 'wrap the list: {"configs": [...]}'
    return message, ""


def _out_of_bounds(name: str, detail: ErrorDetails) -> tuple[str, str]:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "too_short":
        return ("the catalog is empty", "add an entry") if name == "configs" else ("is empty", "needs at least one")
    if kind == "string_too_short":
        return "is an empty string", ""
    if kind == "greater_than_equal":
        unit = " seconds" if name in _IN_SECONDS else ""
        return f"must be at least {context['ge']}{unit}, not {show(value)}", ""
    if kind == "string_pattern_mismatch" and name == "id":
        slug = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")
        letters = "lower-case letters, digits and hyphens only"
        return f"{show(value)} cannot be an id", f'{letters}; for example "{slug}"' if slug else letters
    if kind == "string_pattern_mismatch":
        return f"{show(value)} does not look right", f"must match {context['pattern']}"
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}: {show(value)}", ""


def _keys_at(shape: type[BaseModel], place: Location) -> Iterator[str]:
    """The keys that the schema allows in the object at ``place``."""
    from pydantic import BaseModel

    current: Any = shape
    for part in place:
        if isinstance(current, type) and issubclass(current, BaseModel):
            fields = {field.alias or name: field for name, field in current.model_fields.items()}
            current = fields[part].annotation if part in fields else None
        else:
            current = get_args(current)[-1] if get_args(current) else None
        current = _without_none(current)
    if isinstance(current, type) and issubclass(current, BaseModel):
        yield from (field.alias or name for name, field in current.model_fields.items())


def _without_none(annotation: Any) -> Any:
    options = get_args(annotation)
    return options[0] if type(None) in options else annotation
