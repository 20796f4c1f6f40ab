"""Whatever stands in the file, the answer is a list of mistakes or a catalog, never a traceback."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_mlcc.catalog import check, packaged_catalog

SOUND = {"configs": json.loads(packaged_catalog().read_text())["configs"][:2]}
WORDS = st.sampled_from(
    ["", "clean", "tune-sft", "test-adapter", "rt-qwen3-06b", "--enable-lora", "--region", "s3://", "'", "\ud800", "~/"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, item in items for found in places(item, (*place, key)))]


def replaced(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at one place."""
    if not place:
        return value
    made = copy.copy(document)
    made[place[0]] = replaced(document[place[0]], place[1:], value)
    return made


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.sampled_from(places(SOUND)), VALUES), min_size=1, max_size=3))
def test_no_document_breaks_the_check(tmp_path: Path, edits: list[tuple[tuple[Any, ...], Any]]) -> None:
    document: Any = SOUND
    for place, value in sorted(edits, key=lambda edit: -len(edit[0])):
        document = replaced(document, place, value)
    path = tmp_path / "e2e.json"
    path.write_text(json.dumps(document))
    result = check(path)
    assert (result.catalog is None) == bool(result.mistakes)
    assert all(str(mistake) and mistake.message for mistake in (*result.mistakes, *result.warnings))
