from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlcc.results.attributes import from_attribute, to_attribute

SCALARS = st.none() | st.booleans() | st.text() | st.integers(-(10**37), 10**37) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12)


@given(VALUES)
def test_every_json_value_comes_back(value: Any) -> None:
    assert from_attribute(to_attribute(value)) == value


@given(SCALARS.filter(lambda value: not isinstance(value, float)))
def test_the_form_is_the_sdks_own(value: Any) -> None:
    """A record written here must be readable by boto3's resource, the console and the CLI."""
    assert to_attribute(value) == TypeSerializer().serialize(value)
    assert TypeDeserializer().deserialize(to_attribute(value)) == value


def test_truth_is_no_number() -> None:
    assert to_attribute(True) == {"BOOL": True}
    assert from_attribute({"BOOL": False}) is False


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("312", 312),
        ("0.41", 0.41),
        ("-7", -7),
        ("1E+2", 100.0),
        ("1.50", 1.5),
        ("12345678901234567890123456789012345678", 12345678901234567890123456789012345678),
    ],
)
def test_numbers_of_other_writers(text: str, value: float) -> None:
    read = from_attribute({"N": text})
    assert read == value
    assert type(read) is type(value)


def test_sets_and_decimals() -> None:
    assert from_attribute({"NS": ["2", "1"]}) == [1, 2]
    assert from_attribute({"SS": ["b", "a"]}) == ["a", "b"]
    assert to_attribute(Decimal("0.10")) == {"N": "0.10"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_dynamodb_has_no_number_for_is_refused_here(value: float) -> None:
    with pytest.raises(ValueError, match="no number"):
        to_attribute(value)
    with pytest.raises(TypeError, match="set is no attribute value"):
        to_attribute({1})
