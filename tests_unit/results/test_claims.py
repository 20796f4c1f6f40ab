"""The rules of the table, over every order in which runs may claim, write and release."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.errors import ClaimRefused
from pytest_mlcc.results import claims
from pytest_mlcc.results.record import NEVER

NOW = 1_800_000_000.0
EARLY, LATE = "20261120T110203-4f2a", "20261121T110203-0000"
Item = dict[str, Any]


def after(old: Item, change: claims.Change | None) -> Item:
    """The item once the change is written."""
    if change is None:
        return old
    return {name: value for name, value in {**old, **change.set}.items() if name not in change.remove}


def claimed(old: Item, entry: Entry, make: Any, run_id: str, *, now: float = NOW) -> Item:
    return after(old, claims.claim(old, entry, make.run(run_id), seconds=600, now=now))


def written(old: Item, entry: Entry, make: Any, run_id: str, *, now: float = NOW, **choices: Any) -> Item:
    return after(old, claims.write(old, make.record(entry, make.run(run_id), **choices), now=now))


def test_a_first_claim_makes_an_item_that_the_index_finds(entry: Entry, make: Any) -> None:
    item = claimed({}, entry, make, EARLY)
    assert item["testStatus"] == "running"
    assert item["lastTestTimestamp"] == NEVER
    assert (item["claimRunId"], item["claimExpires"], item["statusBeforeClaim"]) == (EARLY, 1_800_000_600, "untested")
    assert item["e2eCatalogId"] == "rt-qwen3-4b"
    assert item["createdAt"] == "2027-01-15T08:00:00Z"


def test_the_refusal_names_the_run_its_owner_and_when_it_ends(entry: Entry, make: Any) -> None:
    item = claimed({}, entry, make, EARLY)
    with pytest.raises(ClaimRefused, match=rf"rt-qwen3-4b \(94dd91353c8b20ca\).*{EARLY} of dana until 2027-01-15T08:10:00Z"):
        claimed(item, entry, make, LATE, now=NOW + 599)


def test_an_expired_claim_is_free_and_the_status_before_it_is_not_lost(entry: Entry, make: Any) -> None:
    item = claimed(written({}, entry, make, "20261119T000000-aaaa"), entry, make, EARLY)
    item = claimed(item, entry, make, LATE, now=NOW + 601)
    assert (item["claimRunId"], item["statusBeforeClaim"]) == (LATE, "pass")


def test_a_run_prolongs_its_own_claim(entry: Entry, make: Any) -> None:
    item = claimed(claimed({}, entry, make, EARLY), entry, make, EARLY, now=NOW + 100)
    assert item["claimExpires"] == 1_800_000_700


def test_running_without_a_claim_stops_nobody(entry: Entry, make: Any) -> None:
    """The cloud harness writes 'running' and never times it out: such a record would never be tested again."""
    item = claimed({"testStatus": "running", "lastTestTimestamp": NEVER}, entry, make, EARLY)
    assert (item["claimRunId"], item["statusBeforeClaim"]) == (EARLY, "untested")


def test_release_gives_the_status_back_and_leaves_no_trace(entry: Entry, make: Any) -> None:
    before = written({}, entry, make, "20261119T000000-aaaa", fail="deploy")
    item = claimed(before, entry, make, EARLY)
    assert after(item, claims.release(item, EARLY)) == before
    assert claims.release(item, LATE) is None


def test_a_pass_clears_the_error_of_the_failure_before_it(entry: Entry, make: Any) -> None:
    item = written(claimed({}, entry, make, EARLY), entry, make, EARLY, fail="deploy", error="no capacity")
    assert (item["testStatus"], item["errorMessage"]) == ("fail-deploy", "no capacity")
    item = written(claimed(item, entry, make, LATE), entry, make, LATE)
    assert (item["testStatus"], item["previousTestStatus"]) == ("pass", "fail-deploy")
    assert {"errorMessage", "failureClass", "claimRunId", "claimExpires", "claimOwner", "statusBeforeClaim"}.isdisjoint(item)


def test_a_regression_can_be_seen(entry: Entry, make: Any) -> None:
    item = written(claimed({}, entry, make, EARLY), entry, make, EARLY)
    item = written(claimed(item, entry, make, LATE), entry, make, LATE, fail="test")
    assert (item["previousTestStatus"], item["testStatus"]) == ("pass", "fail-test")


def test_writing_again_changes_nothing(entry: Entry, make: Any) -> None:
    """The controller and a guardian may both finish a run; the previous status must not become the present one."""
    item = written(claimed({}, entry, make, EARLY), entry, make, EARLY)
    item = written(claimed(item, entry, make, LATE), entry, make, LATE, fail="test")
    assert written(item, entry, make, LATE, fail="test") == item


@pytest.mark.parametrize("before", ["pass", "fail-test", "untested"])
def test_a_partial_run_keeps_the_status_and_leaves_a_note(entry: Entry, make: Any, before: str) -> None:
    """'-k build' that passes must not turn an untested or failing model green, nor make a stale one look fresh."""
    item: Item = {}
    if before != "untested":
        item = written(item, entry, make, EARLY, **({"fail": "test"} if before == "fail-test" else {}))
    formerly = dict(item)
    item = written(claimed(item, entry, make, LATE), entry, make, LATE, only=("generate", "build", "clean"))
    assert item["testStatus"] == before
    assert (item["lastPartialRunId"], item["lastPartialStages"]) == (LATE, ["generate", "build", "clean"])
    assert "claimRunId" not in item
    for name in ("lastTestTimestamp", "lastRunId", "stageResults", "previousTestStatus"):
        assert item.get(name, NEVER if name == "lastTestTimestamp" else None) == formerly.get(
            name, NEVER if name == "lastTestTimestamp" else None
        )


def test_a_late_record_of_an_old_run_does_not_overwrite_a_newer_one(entry: Entry, make: Any) -> None:
    item = written({}, entry, make, LATE)
    assert claims.write(item, make.record(entry, make.run(EARLY), fail="build"), now=NOW) is None


def test_a_late_record_does_not_end_the_claim_of_a_run_at_work(entry: Entry, make: Any) -> None:
    item = claimed(claimed({}, entry, make, EARLY), entry, make, LATE, now=NOW + 601)
    assert claims.write(item, make.record(entry, make.run(EARLY)), now=NOW + 700) is None


def test_two_entries_of_one_configuration_in_one_run_fail_if_one_fails(entry: Entry, make: Any) -> None:
    item = written(claimed({}, entry, make, EARLY), entry, make, EARLY, fail="test")
    twin = dataclasses.replace(entry, id="rt-qwen3-4b-again")
    item = written(claimed(item, twin, make, EARLY), twin, make, EARLY)
    assert item["testStatus"] == "fail-test"
    assert "claimRunId" not in item


def test_what_other_tools_keep_in_config_json_and_beside_it_stays(entry: Entry, make: Any) -> None:
    """do/register stores icConfig and benchmark settings; losing them breaks the next generation."""
    theirs = {"icConfig": {"gpuCount": 1}, "modelName": "old"}
    item = {"testStatus": "untested", "configJson": json.dumps(theirs), "benchmarkEnabled": True, "createdAt": "2026-01-01T00:00:00Z"}
    item = written(claimed(item, entry, make, EARLY), entry, make, EARLY)
    merged = json.loads(item["configJson"])
    assert (merged["icConfig"], merged["modelName"]) == ({"gpuCount": 1}, "Qwen/Qwen3-4B")
    assert (item["benchmarkEnabled"], item["createdAt"]) == (True, "2026-01-01T00:00:00Z")


@pytest.mark.parametrize("broken", ["{", "[]", "7", None])
def test_a_broken_config_json_is_replaced(entry: Entry, make: Any, broken: str | None) -> None:
    item = written({"testStatus": "pass", "configJson": broken}, entry, make, EARLY)
    assert json.loads(item["configJson"])["modelName"] == "Qwen/Qwen3-4B"


STEPS = st.lists(
    st.tuples(st.sampled_from(["claim", "release", "pass", "fail", "partial"]), st.integers(0, 3), st.integers(0, 900)), max_size=14
)


@given(steps=STEPS)
def test_whatever_the_order_of_events_the_table_stays_true(steps: list[tuple[str, int, int]]) -> None:
    """A pass is always of a complete run, a claim is never of two runs, and running always has an end."""
    from types import SimpleNamespace

    from pytest_mlcc.catalog.args import Args
    from pytest_mlcc.catalog.entry import Tier, Track
    from pytest_mlcc.lifecycle.outcome import Outcome, Result
    from pytest_mlcc.lifecycle.ports import RunInfo
    from pytest_mlcc.lifecycle.stage import plan
    from pytest_mlcc.results.record import Record

    raw = "--deployment-config=http-flask --instance-type=ml.m5.large --region=us-west-2 --deployment-target=managed-inference"
    entry = Entry("flask", Tier.CI, Track.REALTIME, Args.parse(raw), ("build", "clean"), 60)
    item: Item = {}
    now = NOW
    finished = SimpleNamespace(passed=set(), failed=set())
    for what, number, seconds in steps:
        now += seconds
        run = RunInfo(f"2026112{number}T000000-0000", "local", "native", "dana", now, NOW)
        holder = item.get("claimRunId")
        if what == "claim":
            try:
                item = after(item, claims.claim(item, entry, run, seconds=600, now=now))
            except ClaimRefused:
                assert holder != run.run_id
                assert item["claimExpires"] > now
        elif what == "release":
            item = after(item, claims.release(item, run.run_id))
        else:
            names = {"pass": ("generate", "build", "clean"), "fail": ("generate", "build", "clean"), "partial": ("generate", "clean")}[what]
            outcomes = {
                name: Outcome("flask", name, Result.FAIL if what == "fail" and name == "build" else Result.PASS, 1, now) for name in names
            }
            change = claims.write(item, Record.of(entry, run, plan(entry.lifecycle), outcomes), now=now)
            if holder not in (None, run.run_id) and item["claimExpires"] > now:
                assert change is None
            elif change is not None and what != "partial":
                (finished.passed if what == "pass" else finished.failed).add(run.run_id)
            item = after(item, change)
        status = item.get("testStatus")
        assert status in (None, "running", "pass", "fail-build", "untested")
        assert (status == "running") == ("claimRunId" in item) == ("statusBeforeClaim" in item)
        if status == "pass":
            assert item["lastRunId"] in finished.passed
        if status == "fail-build":
            assert item["errorMessage"] == ""
            assert item["lastRunId"] in finished.failed
