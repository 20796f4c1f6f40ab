from __future__ import annotations

import json
import math

from pytest_mlcc.results.facts import finite, small


def test_a_diverged_training_still_gives_valid_json() -> None:
    assert json.loads(json.dumps(finite({"losses": (1.0, math.nan, -math.inf)}), allow_nan=False)) == {"losses": [1.0, "nan", "-inf"]}


def test_large_facts_are_named_not_silently_lost() -> None:
    kept = small({"digest": "sha256:1", "losses": list(range(500))})
    assert kept == {"digest": "sha256:1", "omitted": ["losses"]}


def test_many_small_facts_stay_below_the_limit() -> None:
    kept = small({f"fact-{number}": "x" * 300 for number in range(100)})
    assert len(json.dumps(kept)) < 8000
    assert len(kept["omitted"]) + len(kept) - 1 == 100


def test_small_facts_are_left_as_they_are() -> None:
    assert small({"tokens": 12}) == {"tokens": 12}
