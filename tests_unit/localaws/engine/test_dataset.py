"""A bad data set is answered with the row and the column at fault, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_mlcc.localaws.engine.dataset import DatasetError, read

GOOD = b'{"prompt": "a", "completion": "b"}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"prompt": "a"}', "row 2: column 'completion' is missing (it has: prompt)"),
        (b'{"question": "a"}', "row 2: column 'prompt' is missing (it has: question), column 'completion' is missing"),
        (b'{"prompt": 5, "completion": "b"}', "row 2: column 'prompt' must be a string, it is a number (5)"),
        (b'{"prompt": "a", "completion": null}', "row 2: column 'completion' must be a string, it is null"),
        (b'{"prompt": "a", "completion": " "}', "row 2: column 'completion' is empty"),
        (b'{"prompt": "a",}', "row 2: not valid JSON"),
        (b"[" * 99_999, "row 2: not valid JSON"),
        (b'["a", "b"]', "row 2: expected a JSON object, it is a list"),
        (b'"\xff"', "not UTF-8: row 2 has byte 0xff (offset 36)"),
        (b'{"messages": "hi"}', "row 2: column 'messages' must be a non-empty list, it is a string"),
        (b'{"messages": [{"role": "user"}]}', "row 2: column 'messages': turn 1 needs a role"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "row 2: column 'messages': the last turn must be an answer"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}', "row 2: column 'messages': there is no turn before"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "train.jsonl").write_bytes(GOOD + line + b"\n" + GOOD)
    with pytest.raises(DatasetError) as caught:
        read(tmp_path / "train.jsonl")
    assert message in str(caught.value)
    assert "train.jsonl" in str(caught.value)


def test_the_first_five_bad_rows_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(b"{}\n" * 8 + GOOD)
    with pytest.raises(DatasetError, match=r"8 bad rows: row 1: .*; row 5: .*; and 3 more") as caught:
        read(tmp_path / "train.jsonl")
    assert "row 6" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n\n \n"])
def test_a_data_set_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.jsonl").write_bytes(content)
    with pytest.raises(DatasetError, match="has no rows"):
        read(tmp_path / "train.jsonl")


def test_a_missing_data_set_or_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no data set at"):
        read(tmp_path / "nothing")
    with pytest.raises(DatasetError, match=r"no \.jsonl file"):
        read(tmp_path)


def test_blank_lines_count_but_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD + b"\n" + GOOD.replace(b"\n", b"\r\n"))
    assert [row.number for row in read(tmp_path / "train.jsonl")] == [1, 3]


def test_a_directory_gives_all_its_files_and_names_the_bad_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    (tmp_path / "b.jsonl").write_text(json.dumps({"messages": [{"role": r, "content": "x"} for r in ("user", "assistant")]}))
    assert len(read(tmp_path)) == 2
    (tmp_path / "b.jsonl").write_bytes(b"{}")
    with pytest.raises(DatasetError, match=r"b\.jsonl row 1"):
        read(tmp_path)


@pytest.mark.parametrize(("name", "rows"), [("sft-small", 16), ("sft-medium", 24), ("sft-large", 32)])
def test_the_data_sets_that_ship_are_sound_and_unambiguous(name: str, rows: int) -> None:
    source = Path(__file__).parents[3] / "pytest_mlcc" / "localaws" / "datasets" / name / "train.jsonl"
    loaded = read(source)
    assert len({row.messages[0]["content"] for row in loaded}) == len(loaded) == rows
    assert all(4 <= len(row.messages[1]["content"].split()) <= 8 for row in loaded)
