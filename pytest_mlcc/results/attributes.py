"""Between Python values and DynamoDB's attribute values, exact in both directions.

The client is handed in, so the serializer of the AWS SDK is not at hand here; its Decimals would not go into JSON either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

__all__ = ["from_attribute", "from_item", "to_attribute", "to_item"]


def to_attribute(value: Any) -> dict[str, Any]:
    """One attribute value. Floats are written with the digits that read back the same.

    Raises ValueError for NaN and infinity, which DynamoDB does not know, and TypeError for what is no JSON value.
    """
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):  # before int: True is an int
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": str(value)}
    if isinstance(value, int | float | Decimal):
        return {"N": _number(value)}
    if isinstance(value, Mapping):
        return {"M": to_item(value)}
    if isinstance(value, list | tuple):
        return {"L": [to_attribute(inner) for inner in value]}
    raise TypeError(f"{type(value).__name__} is no attribute value")


def to_item(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Attributes by name."""
    return {name: to_attribute(value) for name, value in values.items()}


def from_attribute(attribute: Mapping[str, Any]) -> Any:
    """The Python value of one attribute: JSON values, and sets as sorted lists."""
    ((kind, value),) = attribute.items()
    read = _READERS.get(kind)
    return read(value) if read else value


def from_item(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The Python values of an item, by name."""
    return {name: from_attribute(attribute) for name, attribute in item.items()}


def _number(value: float | Decimal) -> str:
    if not math.isfinite(value):
        raise ValueError(f"DynamoDB has no number {value}")
    return str(value)


def _from_number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "NULL": lambda _: None,
    "N": _from_number,
    "M": from_item,
    "L": lambda values: [from_attribute(value) for value in values],
    "NS": lambda values: sorted(map(_from_number, values)),
    "SS": sorted,
    "BS": sorted,
}
