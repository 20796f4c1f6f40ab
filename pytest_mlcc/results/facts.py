"""What a driver learned in a stage, made fit for JSON and for a table that holds 400 KB per item."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["finite", "small"]

_FACT_CHARACTERS = 400
_FACTS_CHARACTERS = 4000


def finite(value: Any) -> Any:
    """A JSON value in which NaN and infinity, which a diverged training reports, are texts: JSON and DynamoDB know neither.

    >>> finite({"loss": float("nan"), "steps": (1, 2)})
    {'loss': 'nan', 'steps': [1, 2]}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def small(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that fit into a record; those left out are named under ``omitted`` and stand whole in results.json."""
    kept: dict[str, Any] = {}
    omitted, total = [], 0
    for name, value in facts.items():
        size = len(json.dumps(value, default=str))
        if size <= _FACT_CHARACTERS and total + size <= _FACTS_CHARACTERS:
            kept[name] = value
            total += size
        else:
            omitted.append(name)
    return {**kept, "omitted": omitted} if omitted else kept
