"""The table against a real DynamoDB API: conditions, expressions and indexes as the service evaluates them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from boto3.dynamodb.conditions import Key

from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.errors import ClaimRefused, MlccError
from pytest_mlcc.lifecycle.outcome import Outcome, Result
from pytest_mlcc.results.record import NEVER
from pytest_mlcc.results.table import Table, Written

EARLY, LATE = "20261120T110203-4f2a", "20261121T110203-0000"
CONFIG_ID = "94dd91353c8b20ca"


@pytest.fixture
def table(dynamodb: Any, tables: tuple[str, str]) -> Table:
    return Table(dynamodb, *tables)


def test_a_table_that_is_not_provisioned_is_told_from_one_that_is(dynamodb: Any, table: Table) -> None:
    assert table.exists()
    assert not Table(dynamodb, "no-such-table", table.history_name).exists()


def test_a_table_that_can_not_be_asked_is_an_error_not_an_absence() -> None:
    """A network fault must not silently send a night's results to a local folder."""
    from botocore.config import Config

    nobody = boto3.client(
        "dynamodb",
        endpoint_url="http://127.0.0.1:9",
        region_name="us-west-2",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=1),
    )
    table = Table(nobody, "mlcc-ci-table", "mlcc-ci-history")
    with pytest.raises(MlccError, match="can't look for table mlcc-ci-table"):
        table.exists()
    with pytest.raises(MlccError, match="can't read 94dd"):
        table.get(CONFIG_ID)


def test_claim_write_and_read_back(table: Table, entry: Entry, make: Any) -> None:
    assert table.get(CONFIG_ID) is None
    table.claim(entry, make.run(EARLY), seconds=600)
    running = table.get(CONFIG_ID)
    assert running is not None
    assert (running["testStatus"], running["claimRunId"], running["lastTestTimestamp"]) == ("running", EARLY, NEVER)
    record = make.record(entry, make.run(EARLY))
    assert table.write(record) == Written(updated=True, appended=True)
    item = table.get(CONFIG_ID)
    assert item is not None
    assert {name: item[name] for name in record.attributes()} == record.attributes()
    assert (item["previousTestStatus"], "claimRunId" in item) == ("untested", False)


def test_boto3_and_the_index_read_what_we_wrote(endpoint_url: str, tables: tuple[str, str], table: Table, entry: Entry, make: Any) -> None:
    """A scanner, a dashboard and people's scripts use boto3's resource and the status index, not our reader."""
    table.claim(entry, make.run(EARLY), seconds=600)
    table.write(make.record(entry, make.run(EARLY), fail="tune-sft", error="row 7"))
    resource = boto3.resource(
        "dynamodb", endpoint_url=endpoint_url, region_name="us-west-2", aws_access_key_id="123456789012", aws_secret_access_key="local"
    ).Table(tables[0])
    failed = Key("testStatus").eq("fail-tune-sft")
    found = resource.query(IndexName="testStatus-lastTestTimestamp-index", KeyConditionExpression=failed)["Items"]
    assert [item["configId"] for item in found] == [CONFIG_ID]
    assert found[0]["lastTestDuration"] == 11
    assert float(found[0]["cost"]) == 0.41
    assert found[0]["stageResults"]["tune-sft"]["errorSummary"] == "row 7"
    assert found[0]["errorMessage"] == "row 7"


def test_a_claim_holds_off_another_run_until_it_is_given_back(table: Table, entry: Entry, make: Any) -> None:
    table.claim(entry, make.run(EARLY), seconds=600)
    with pytest.raises(ClaimRefused, match=EARLY):
        table.claim(entry, make.run(LATE), seconds=600)
    assert not table.release(entry, make.run(LATE))
    assert table.release(entry, make.run(EARLY))
    table.claim(entry, make.run(LATE), seconds=600)


def test_a_claim_ends_by_itself(dynamodb: Any, tables: tuple[str, str], entry: Entry, make: Any) -> None:
    """After SIGKILL of a run nobody gives its claim back."""
    now = [1_800_000_000.0]
    table = Table(dynamodb, *tables, clock=lambda: now[0])
    table.claim(entry, make.run(EARLY), seconds=600)
    now[0] += 601
    table.claim(entry, make.run(LATE), seconds=600)
    assert (table.get(CONFIG_ID) or {})["claimRunId"] == LATE


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Results or exceptions of ``work`` done by so many threads at the same time."""
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        barrier.wait(30)
        try:
            results[number] = work(number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.parametrize("before", ["nothing", "a record", "an expired claim"])
def test_of_claims_at_the_same_moment_exactly_one_wins(
    client: Callable[[str], Any], tables: tuple[str, str], entry: Entry, make: Any, before: str
) -> None:
    """Two nightly jobs that start together must not both deploy."""
    first = Table(client("dynamodb"), *tables)
    if before == "a record":
        first.write(make.record(entry, make.run("20261119T000000-aaaa")))
    if before == "an expired claim":
        first.claim(entry, make.run("20261119T000000-aaaa"), seconds=-1)
    contenders = [Table(client("dynamodb"), *tables) for _ in range(6)]
    results = together(6, lambda number: contenders[number].claim(entry, make.run(f"20261120T110203-000{number}"), seconds=600))
    refused = [result for result in results if isinstance(result, ClaimRefused)]
    (winner,) = (number for number, result in enumerate(results) if result is None)
    assert len(refused) == 5
    assert all(f"20261120T110203-000{winner}" in str(result) for result in refused)
    assert (first.get(CONFIG_ID) or {})["claimRunId"] == f"20261120T110203-000{winner}"


def test_history_has_each_run_exactly_once(client: Callable[[str], Any], tables: tuple[str, str], entry: Entry, make: Any) -> None:
    """The controller, a guardian and a retry may all write the same record."""
    writers = [Table(client("dynamodb"), *tables) for _ in range(4)]
    writers[0].claim(entry, make.run(EARLY), seconds=600)
    record = make.record(entry, make.run(EARLY))
    results = together(4, lambda number: writers[number].write(record))
    assert sorted(result.appended for result in results) == [False, False, False, True]
    writers[0].write(make.record(entry, make.run(LATE), fail="test"))
    history = writers[0].history(CONFIG_ID)
    assert [(item["runId"], item["testStatus"], item["previousTestStatus"]) for item in history] == [
        (LATE, "fail-test", "pass"),
        (EARLY, "pass", "untested"),
    ]
    assert history[1]["stageResults"] == record.attributes()["stageResults"]


def test_a_second_write_of_a_run_leaves_table_and_history_as_they_are(table: Table, entry: Entry, make: Any) -> None:
    table.write(make.record(entry, make.run(EARLY)))
    record = make.record(entry, make.run(LATE), fail="test")
    table.write(record)
    before = table.get(CONFIG_ID), table.history(CONFIG_ID)
    assert table.write(record) == Written(updated=True, appended=False)
    assert (table.get(CONFIG_ID), table.history(CONFIG_ID)) == before


def test_a_partial_run_stands_in_the_history_and_not_in_the_status(table: Table, entry: Entry, make: Any) -> None:
    table.write(make.record(entry, make.run(EARLY), fail="test"))
    table.claim(entry, make.run(LATE), seconds=600)
    table.write(make.record(entry, make.run(LATE), only=("generate", "build", "clean")))
    item = table.get(CONFIG_ID) or {}
    assert (item["testStatus"], item["lastRunId"], item["lastPartialRunId"]) == ("fail-test", EARLY, LATE)
    assert [run["testStatus"] for run in table.history(CONFIG_ID)] == ["incomplete", "fail-test"]


def test_a_late_record_goes_to_the_history_only(table: Table, entry: Entry, make: Any) -> None:
    table.write(make.record(entry, make.run(LATE)))
    assert table.write(make.record(entry, make.run(EARLY), fail="build")) == Written(updated=False, appended=True)
    assert (table.get(CONFIG_ID) or {})["testStatus"] == "pass"


def test_without_a_history_table_the_record_is_written_and_the_lack_is_told(
    dynamodb: Any, tables: tuple[str, str], entry: Entry, make: Any
) -> None:
    table = Table(dynamodb, tables[0], "no-such-history")
    assert table.write(make.record(entry, make.run(EARLY))) == Written(updated=True, appended=False, history_missing=True)
    assert (table.get(CONFIG_ID) or {})["testStatus"] == "pass"


def test_a_record_that_can_not_be_written_gives_the_claim_back(table: Table, entry: Entry, make: Any) -> None:
    """Else one bad record leaves its model 'running', and no scanner ever tests it again."""
    table.write(make.record(entry, make.run(EARLY)))
    table.claim(entry, make.run(LATE), seconds=600)
    too_large = dataclasses.replace(make.record(entry, make.run(LATE)), config_json='{"x":"' + "y" * 420_000 + '"}')
    with pytest.raises(MlccError, match="can't append 94dd91353c8b20ca"):
        table.write(too_large)
    item = table.get(CONFIG_ID) or {}
    assert (item["testStatus"], item["lastRunId"], "claimRunId" in item) == ("pass", EARLY, False)


def test_a_diverged_training_is_still_recorded(table: Table, entry: Entry, make: Any) -> None:
    outcomes = make.outcomes(entry)
    outcomes["tune-sft"] = Outcome(entry.id, "tune-sft", Result.FAIL, 1.0, 1.0, "loss is nan", facts={"loss": float("nan")})
    from pytest_mlcc.lifecycle.stage import plan
    from pytest_mlcc.results.record import Record

    table.write(Record.of(entry, make.run(EARLY), plan(entry.lifecycle), outcomes))
    assert (table.get(CONFIG_ID) or {})["stageResults"]["tune-sft"]["facts"] == {"loss": "nan"}


def test_all_records_are_found_also_beyond_one_page(dynamodb: Any, table: Table, make: Any) -> None:
    """A scan answers at most 1 MB at a time; a report over the first page only would call the rest untested."""
    padding = '{"x":"' + "y" * 300_000 + '"}'
    for number in range(5):
        one = make.entry(name=f"rt-{number}", model=f"org/model-{number}")
        table.write(dataclasses.replace(make.record(one, make.run(EARLY)), config_json=padding))
    assert "LastEvaluatedKey" in dynamodb.scan(TableName=table.table_name)
    assert {item["e2eCatalogId"] for item in table.scan()} == {f"rt-{number}" for number in range(5)}
