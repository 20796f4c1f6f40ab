"""A hint that is wrong costs more than none."""

from __future__ import annotations

from pytest_mlcc.catalog.suggest import closest, did_you_mean


def test_the_likeliest_word_is_offered() -> None:
    assert did_you_mean("nightley", ["ci", "nightly", "weekly"]) == 'did you mean "nightly"?'


def test_case_does_not_hide_a_word() -> None:
    assert closest("NIGHTLY", ["ci", "nightly"]) == "nightly"


def test_few_choices_are_listed_where_none_is_near() -> None:
    assert did_you_mean("xyz", ["ci", "nightly"]) == "one of: ci, nightly"


def test_many_choices_are_not_listed() -> None:
    assert did_you_mean("xyz", [f"choice-{number}" for number in range(20)]) == ""
