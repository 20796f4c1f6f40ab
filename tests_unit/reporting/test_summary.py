from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_mlcc.reporting.cost import Cost
from pytest_mlcc.reporting.summary import _merged, summarize
from pytest_mlcc.settings import DriverName


def test_each_kind_of_end_has_its_status(make: Any) -> None:
    summary = make.mixed()
    assert [row.status for row in summary.rows] == ["pass", "fail-deploy", "incomplete", "untested", "fail-tune-sft"]
    assert (summary.passing, summary.failing) == (1, 2)
    assert summary.tiers == ("ci", "nightly")
    assert [row.entry for row in summary.of_tier("nightly").rows] == ["rt-qwen3-14b"]


def test_a_failed_entry_tells_all_its_failures_and_what_did_not_run(make: Any) -> None:
    row = make.mixed().rows[1]
    assert [outcome.stage for outcome in row.failures] == ["deploy", "clean"]
    assert (row.failure_class, row.error) == ("capacity", "InsufficientInstanceCapacity")
    assert row.not_run == ("test", "tune-sft", "adapter-add", "test-adapter")


@pytest.mark.parametrize(
    ("target", "driver", "options", "line"),
    [
        ("local", "native", (), "pytest --mlcc-entry rt-qwen3-4b"),
        ("aws", "scripts", (), "pytest --mlcc-entry rt-qwen3-4b --mlcc-target aws"),
        ("aws", "native", (), "pytest --mlcc-entry rt-qwen3-4b --mlcc-target aws --mlcc-driver native"),
        ("local", "scripts", (), "pytest --mlcc-entry rt-qwen3-4b --mlcc-driver scripts"),
        ("local", "native", ("--mlcc-catalog=my models.json",), "pytest --mlcc-entry rt-qwen3-4b '--mlcc-catalog=my models.json'"),
    ],
)
def test_the_rerun_line_can_be_pasted(make: Any, target: str, driver: str, options: tuple[str, ...], line: str) -> None:
    summary = summarize(make.run(target, driver), [make.planned(make.entry())], seconds=1, options=options)
    assert summary.rows[0].rerun == line


def test_a_local_run_costs_nothing_whatever_aws_would_charge(make: Any) -> None:
    assert make.summary(make.planned(make.entry())).cost == Cost()
    assert make.summary(make.planned(make.entry()), target="aws").cost.usd > 0


def test_a_run_on_aws_without_a_price_is_partial(make: Any) -> None:
    summary = make.summary(make.planned(make.entry(price=None)), make.planned(make.entry("rt-b")), target="aws")
    assert (summary.rows[0].cost.known, summary.cost.complete) == (None, False)
    assert summary.cost.usd == summary.rows[1].cost.usd > 0


@pytest.mark.parametrize(("passing", "total", "percent"), [(20, 22, 91), (11, 11, 100), (299, 300, 99), (0, 3, 0)])
def test_coverage_is_passing_over_total_and_100_only_if_all_pass(make: Any, passing: int, total: int, percent: int) -> None:
    """20 of 22 is the documented 91 %; 299 of 300 must not read as 100 %."""
    entry = make.entry(lifecycle=("build", "clean"))
    good, bad = make.planned(entry), make.planned(entry, fail={"build": "x"})
    assert make.summary(*[good] * passing, *[bad] * (total - passing)).coverage_percent == percent


def test_a_run_of_nothing_is_no_division_by_zero(make: Any) -> None:
    summary = make.summary()
    assert (summary.coverage_percent, summary.stage_names, summary.cost) == (0, (), Cost())


@pytest.mark.parametrize(
    ("orders", "merged"),
    [
        ([["a", "b", "c"]], ("a", "b", "c")),
        ([["a", "c"], ["a", "b", "c"]], ("a", "b", "c")),
        ([["a", "b", "z"], ["a", "c", "z"]], ("a", "c", "b", "z")),
        ([["b"], ["a", "b"]], ("a", "b")),
        ([[], ["a"]], ("a",)),
    ],
)
def test_stage_columns_agree_with_every_lifecycle(orders: list[list[str]], merged: tuple[str, ...]) -> None:
    assert _merged(orders) == merged


def test_entries_of_one_run_may_have_different_drivers(make: Any) -> None:
    """A re-run needs no word for a driver that the catalog names, and one for a driver that overruled it."""
    own, other = replace(make.entry(), driver=DriverName.SCRIPTS), make.entry("rt-b")
    by_catalog = summarize(
        make.run(), [make.planned(own), make.planned(other)], seconds=1, run_of=lambda e: make.run(driver=e.driver or "native")
    )
    assert (by_catalog.driver, [row.driver for row in by_catalog.rows]) == ("scripts and native", ["scripts", "native"])
    assert by_catalog.rows[0].rerun == "pytest --mlcc-entry rt-qwen3-4b"
    overruled = summarize(make.run(), [make.planned(own)], seconds=1)
    assert overruled.rows[0].rerun == "pytest --mlcc-entry rt-qwen3-4b --mlcc-driver native"
