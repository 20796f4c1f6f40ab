"""A file that holds no catalog says why, with line and column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlcc.catalog import check


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ('{\n  "configs": [\n    {"id": "a",}\n  ]\n}', "3:16", "invalid JSON"),
        ("", "1:1", "invalid JSON"),
        ('{"configs": [NaN]}', "", "NaN is not a JSON number"),
        ("[" * 100_000, "", "nested too deeply"),
        ('{"configs": ["\\ud800"]}', "", "half of a character"),
        ('{"configs": []} trailing', "1:17", "Extra data"),
    ],
)
def test_broken_json_is_unusable_and_its_place_is_told(write: Callable[..., Path], text: str, place: str, message: str) -> None:
    result = check(write(text=text))
    assert not result.usable
    (mistake,) = result.mistakes
    assert mistake.path == place
    assert message in mistake.message


def test_a_missing_file_suggests_its_neighbour(write: Callable[..., Path], tmp_path: Path) -> None:
    write(name="e2e.json")
    (mistake,) = check(tmp_path / "e2.json").mistakes
    assert mistake.message == "no such file"
    assert mistake.hint == f'did you mean "{tmp_path / "e2e.json"}"?'


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    (mistake,) = check(tmp_path / "nowhere" / "e2e.json").mistakes
    assert mistake.hint == f"there is no folder {tmp_path / 'nowhere'}"


def test_a_folder_and_a_binary_file_are_answered(tmp_path: Path) -> None:
    assert check(tmp_path).mistakes[0].message == "is a folder, not a file"
    (tmp_path / "e2e.json").write_bytes(b"\xff\xfe{")
    assert check(tmp_path / "e2e.json").mistakes[0].message.startswith("is not UTF-8 text")


def test_a_byte_order_mark_is_no_mistake(write: Callable[..., Path], entry: dict[str, object]) -> None:
    path = write(entry)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert check(path).catalog is not None


def test_a_key_that_stands_twice_is_not_dropped_in_silence(write: Callable[..., Path], entry: dict[str, object]) -> None:
    path = write(entry)
    path.write_text(path.read_text().replace('"timeout": 1800', '"timeout": 1800, "timeout": 60'))
    (mistake,) = check(path).mistakes
    assert (mistake.path, mistake.message) == ("/configs/0/timeout", '"timeout" stands twice in the same object')
