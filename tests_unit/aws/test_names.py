"""Names must be accepted by SageMaker, tell entries and runs apart, and come out the same in every process."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_mlcc.aws.names import LIMIT, PATTERN, resource_name

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=90)


@given(entry=texts, run=texts, suffix=st.text(max_size=80))
def test_every_name_is_one_that_sagemaker_accepts(entry: str, run: str, suffix: str) -> None:
    name = resource_name(entry, run, suffix)
    assert len(name) <= LIMIT
    assert PATTERN.match(name), name


@given(one=st.tuples(texts, texts, st.text(max_size=80)), other=st.tuples(texts, texts, st.text(max_size=80)))
def test_different_things_get_different_names(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    if [part.lower() for part in one] != [part.lower() for part in other]:
        joined = "-".join(part.lower() for part in one if part) == "-".join(part.lower() for part in other if part)
        assert joined or resource_name(*one) != resource_name(*other)


def test_a_cut_name_keeps_run_and_suffix_readable() -> None:
    name = resource_name("rt-" + "very-" * 20 + "long", "20261120T110203-4f2a", "adapter")
    assert name.startswith("rt-very-")
    assert name.endswith("-20261120t110203-4f2a-adapter")
    assert name == resource_name("rt-" + "very-" * 20 + "long", "20261120T110203-4f2a", "adapter")


def test_ids_that_differ_only_in_refused_characters_differ_in_name() -> None:
    assert len({resource_name(entry, "run", "x") for entry in ("a.b", "a_b", "a-b", "a b")}) == 4
