from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlcc.reporting.cost import Cost, endpoint_seconds, of_entry, total, usd


def test_an_unknown_price_is_never_zero() -> None:
    """A free-looking run of an unpriced p5 would be the most expensive surprise of all."""
    assert usd(3600, None) is None
    assert usd(3600, 1.21) == 1.21
    assert str(Cost(complete=False)) == "?"
    assert Cost(complete=False).known is None


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (Cost(), "$0.00"),
        (Cost(0.0004), "<$0.01"),
        (Cost(0.45123), "$0.45"),
        (Cost(1234.5), "$1,234.50"),
        (Cost(0.45, complete=False), "$0.45+?"),
        (Cost(0.001, complete=False), "<$0.01+?"),
    ],
)
def test_costs_as_people_read_them(cost: Cost, text: str) -> None:
    assert str(cost) == text


def test_an_endpoint_costs_from_the_start_of_deploy_to_the_end_of_clean(make: Any) -> None:
    one = make.planned(make.entry(lifecycle=("build", "push", "deploy", "test", "clean")), seconds=900)
    assert endpoint_seconds(one.outcomes) == 3 * 900  # deploy, test, clean
    cost = of_entry(one.stages, one.outcomes, price_per_hour=1.21)
    assert cost == Cost(pytest.approx(0.75 * 1.21), complete=True)


def test_nothing_was_deployed_nothing_is_paid(make: Any) -> None:
    one = make.planned(
        make.entry(price=None), fail={"build": "x"}, skip=("push", "deploy", "test", "tune-sft", "adapter-add", "test-adapter")
    )
    assert of_entry(one.stages, one.outcomes, price_per_hour=None) == Cost(0.0, complete=True)


def test_a_tuning_job_without_a_price_makes_the_sum_partial(make: Any) -> None:
    one = make.planned(make.entry())
    partial = of_entry(one.stages, one.outcomes, price_per_hour=1.21)
    assert (partial.complete, str(partial).endswith("+?")) == (False, True)
    assert of_entry(one.stages, one.outcomes, price_per_hour=1.21, tune_usd=5.0) == Cost(pytest.approx(partial.usd + 5), complete=True)


@pytest.mark.parametrize("clean", ["failed", "never ran"])
def test_an_endpoint_that_was_not_cleaned_may_still_cost(make: Any, clean: str) -> None:
    lifecycle = ("build", "deploy", "clean")
    entry = make.entry(lifecycle=lifecycle)
    one = make.planned(entry, fail={"clean": "alive"}) if clean == "failed" else make.planned(entry, only=("generate", "build", "deploy"))
    assert not of_entry(one.stages, one.outcomes, price_per_hour=1.21).complete


@given(st.lists(st.builds(Cost, st.floats(0, 1000), st.booleans())))
def test_a_sum_is_complete_only_if_every_part_is(costs: list[Cost]) -> None:
    assert total(costs).complete == all(cost.complete for cost in costs)
    assert total(costs).usd == pytest.approx(sum(cost.usd for cost in costs))
