"""What batch transform does to records: splitting, choosing by JSONPath, and putting answers beside what they answer."""

from __future__ import annotations

import io
from typing import Any

import pytest

from pytest_mlcc.localaws.services.sagemaker.jobs.json_path import JsonPath, JsonPathError
from pytest_mlcc.localaws.services.sagemaker.jobs.records import DataProcessing, RecordError, batches

DOCUMENT = {"a": {"b": [10, 20, 30]}, "id": 7, "odd name": 1, "rows": [{"x": 1}, {"x": 2}]}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", DOCUMENT),
        ("$.a.b", [10, 20, 30]),
        ("$.a.b[0]", 10),
        ("$.a.b[-1]", 30),
        ("$.a.b[1:]", [20, 30]),
        ("$.a.b[0,2]", [10, 30]),
        ("$.a['b'][0,1:]", [10, 20, 30]),
        ("$['odd name']", 1),
        ("$['id','odd name']", {"id": 7, "odd name": 1}),
        ("$.rows[*].x", [1, 2]),
        ("$.a.*", [[10, 20, 30]]),
    ],
)
def test_paths_choose_what_the_guide_says(path: str, expected: Any) -> None:
    assert JsonPath.parse(path).select(DOCUMENT) == expected


@pytest.mark.parametrize("path", ["a", "$..a", "$.a[?(@.x)]", "$[", "$.", "$['a'", "$[a]", "$['a' 'b']"])
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(JsonPathError):
        JsonPath.parse(path)


@pytest.mark.parametrize("path", ["$.none", "$.a.b[3]", "$.id[0]", "$['id','none']", "$.a.b.c"])
def test_a_path_that_leads_nowhere_is_an_error(path: str) -> None:
    with pytest.raises(JsonPathError):
        JsonPath.parse(path).select(DOCUMENT)


def _split(content: bytes, *, by_line: bool = True, several: bool = True, limit: int = 100) -> list[list[bytes]]:
    return list(batches(io.BytesIO(content), by_line=by_line, several=several, limit=limit))


def test_requests_are_as_full_as_the_limit_allows() -> None:
    assert _split(b"aa\nbb\ncc\n", limit=6) == [[b"aa\n", b"bb\n"], [b"cc\n"]]
    assert _split(b"aa\nbb", several=False) == [[b"aa\n"], [b"bb"]]
    assert _split(b"aa\nbb\n", by_line=False) == [[b"aa\nbb\n"]]
    assert _split(b"\r\n\n") == []


@pytest.mark.parametrize("by_line", [True, False])
def test_a_record_beyond_the_limit_is_an_error(by_line: bool) -> None:
    with pytest.raises(RecordError, match="Too much data"):
        _split(b"x" * 101, by_line=by_line)


def _processing(content: str, *, incoming: str = "$", outgoing: str = "$", join: bool = True) -> DataProcessing:
    return DataProcessing(content, content, JsonPath.parse(incoming), JsonPath.parse(outgoing), join)


def test_what_is_no_object_is_joined_under_a_name_of_its_own() -> None:
    processing = _processing("application/json")
    assert processing.results([b"[1,2]"], b"3") == [b'{"SageMakerInput":[1,2],"SageMakerOutput":3}']
    assert processing.results([b'{"id":1}'], b"[3]") == [b'{"id":1,"SageMakerOutput":[3]}']


def test_cells_with_commas_stay_one_cell() -> None:
    assert _processing("text/csv", outgoing="$[0,2]").results([b'"a,b",c\n'], b"0.5\n") == [b'"a,b",0.5']
    assert _processing("text/csv", incoming="$[1:]").request([b"id,1,2\n", b"jd,3,4\n"]) == b"1,2\n3,4\n"


def test_answers_that_do_not_match_the_records_are_an_error() -> None:
    with pytest.raises(RecordError, match="answered 1 records for 2"):
        _processing("text/csv").results([b"1\n", b"2\n"], b"1")
    with pytest.raises(RecordError, match="not JSON"):
        _processing("application/json").results([b"{}"], b"oops")
