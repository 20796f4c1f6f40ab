"""Records of the local AWS: what is lost or torn here is lost to every user of it."""

from __future__ import annotations

import json
import threading

import pytest

from pytest_mlcc.localaws.store import DuplicateRecordError, Store


@pytest.fixture
def changes() -> list[int]:
    return []


@pytest.fixture
def store(changes: list[int]) -> Store:
    return Store(lambda: changes.append(1))


def test_records_are_kept_apart_by_region_and_kind(store: Store) -> None:
    store.add("us-west-2", "model", "a", {"x": 1})
    assert store.get("us-east-1", "model", "a") is None
    assert store.get("us-west-2", "endpoint", "a") is None
    assert store.get("us-west-2", "model", "a") == {"x": 1}


def test_a_duplicate_name_is_refused_and_the_first_record_stays(store: Store) -> None:
    store.add("r", "model", "a", {"x": 1})
    with pytest.raises(DuplicateRecordError):
        store.add("r", "model", "a", {"x": 2})
    assert store.get("r", "model", "a") == {"x": 1}


def test_what_callers_hold_never_changes_the_store(store: Store) -> None:
    given = {"list": [1]}
    store.add("r", "model", "a", given)
    given["list"].append(2)
    taken = store.get("r", "model", "a")
    assert taken is not None
    taken["list"].append(3)
    store.rows("r", "model")[0]["list"].append(4)
    assert store.get("r", "model", "a") == {"list": [1]}


def test_update_of_a_missing_record_creates_nothing(store: Store) -> None:
    assert store.update("r", "model", "gone", x=1) is None
    assert store.rows("r", "model") == []


def test_an_edit_that_fails_leaves_the_record_as_it_was(store: Store) -> None:
    store.add("r", "model", "a", {"x": 1})

    def edit(record: dict[str, int]) -> None:
        record["x"] = 2
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.change("r", "model", "a", edit)
    assert store.get("r", "model", "a") == {"x": 1}


def test_concurrent_edits_are_all_counted(store: Store) -> None:
    """Two jobs that register a model package at once must not get the same version."""
    store.add("r", "group", "g", {"n": 0})

    def add_hundred() -> None:
        for _ in range(100):
            store.change("r", "group", "g", lambda record: record.update(n=record["n"] + 1))

    threads = [threading.Thread(target=add_hundred) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("r", "group", "g") == {"n": 400}


def test_state_survives_a_trip_through_json(store: Store) -> None:
    store.add("r", "model", "a", {"x": [1, {"y": None}]})
    other = Store(lambda: None)
    other.restore(json.loads(json.dumps(store.snapshot())))
    assert other.get("r", "model", "a") == {"x": [1, {"y": None}]}
    assert other.regions() == ["r"]


def test_each_change_asks_for_a_flush_and_reading_does_not(store: Store, changes: list[int]) -> None:
    store.add("r", "model", "a", {})
    store.update("r", "model", "a", x=1)
    store.remove("r", "model", "a")
    assert len(changes) == 3
    store.get("r", "model", "a")
    store.rows("r", "model")
    store.remove("r", "model", "a")
    assert len(changes) == 3
