"""The rules that a service model gives its parameters, checked and reported in AWS's words."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape
from botocore.validate import ParamValidator

__all__ = ["broken_rules"]


@functools.lru_cache(maxsize=2048)
def _pattern(text: str) -> re.Pattern[str] | None:
    """The compiled pattern; None for the few in Java's ``\\p{..}`` syntax, which ``re`` can't read and AWS alone checks."""
    try:
        return re.compile(text, re.DOTALL)
    except re.error:
        return None


def _broken_rules(shape: Shape, value: Any) -> Iterator[str]:
    """The rules of one scalar or container that ParamValidator does not check (it knows type, required and min)."""
    rules, kind = shape.metadata, shape.type_name
    if kind == "string" and isinstance(value, str):
        allowed = rules.get("enum")
        if allowed and value not in allowed:
            yield f"Member must satisfy enum value set: [{', '.join(allowed)}]"
        pattern = _pattern(rules["pattern"]) if "pattern" in rules else None
        if pattern and not pattern.fullmatch(value):
            yield f"Member must satisfy regular expression pattern: {rules['pattern']}"
    if "max" not in rules:
        return
    if kind in ("string", "list", "map", "blob") and isinstance(value, str | list | dict | bytes):
        if len(value) > rules["max"]:
            yield f"Member must have length less than or equal to {rules['max']}"
    elif isinstance(value, int | float) and value > rules["max"]:
        yield f"Member must have value less than or equal to {rules['max']}"


def _violations(shape: Shape, value: Any, path: str) -> Iterator[str]:
    secret = shape.metadata.get("sensitive")
    for rule in _broken_rules(shape, value):
        shown = "" if secret or isinstance(value, list | dict | bytes) else f" '{value}'"
        yield f"Value{shown} at '{path}' failed to satisfy constraint: {rule}"
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        for key, item in value.items():
            name = key[:1].lower() + key[1:]
            yield from _violations(shape.members[key], item, f"{path}.{name}" if path else name)
    elif isinstance(shape, ListShape) and isinstance(value, list):
        for index, item in enumerate(value, 1):
            yield from _violations(shape.member, item, f"{path}.{index}.member")
    elif isinstance(shape, MapShape) and isinstance(value, dict):
        for key, item in value.items():
            yield from _violations(shape.key, key, f"{path}.{key}.key")
            yield from _violations(shape.value, item, f"{path}.{key}.value")


def broken_rules(operation: OperationModel, params: dict[str, Any]) -> str:
    """Every rule of the model that the parameters break, as the text of one error; empty where they break none."""
    shape = operation.input_shape
    if shape is None:
        return ""
    report = ParamValidator().validate(params, shape)
    if report.has_errors():
        return str(report.generate_report())
    found = list(_violations(shape, params, ""))
    count = f"{len(found)} validation error{'s' if len(found) > 1 else ''} detected"
    return f"{count}: {'; '.join(found)}" if found else ""
