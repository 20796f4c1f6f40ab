"""A whole file: everything that is wrong with it at once, in the order of the file."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.catalog import Tier, check, default_catalog, load, packaged_catalog
from pytest_mlcc.errors import CatalogError


def test_all_mistakes_of_a_file_come_at_once(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    second, third = copy.deepcopy(entry), copy.deepcopy(entry)
    second.update(id="rt-b", tier="nightley", timeout=5)
    second["args"] = second["args"].replace("ml.g5.xlarge", "ml.g5.xlagre")
    third["id"] = "rt-c"
    third["tuneConfig"].update(tuneId="qwen3-4b", dataset="train.jsonl")
    third["tuneConfig"].pop("technique")
    with pytest.raises(CatalogError) as caught:
        load(write(entry, second, third))
    assert [(problem.where.split(": ")[1], problem.message) for problem in caught.value.problems] == [
        ("/configs/1/args [rt-b]", '"ml.g5.xlagre" is not a known instance type'),
        ("/configs/1/tier [rt-b]", '"nightley" is not allowed here'),
        ("/configs/1/timeout [rt-b]", "must be at least 60 seconds, not 5"),
        ("/configs/2/tuneConfig [rt-c]", '"technique" is missing'),
        ("/configs/2/tuneConfig/dataset [rt-c]", '"train.jsonl" is not an s3 URI'),
        ("/configs/2/tuneConfig/tuneId [rt-c]", '"qwen3-4b" is not a model of tune.json'),
    ]


def test_a_problem_names_file_place_entry_and_remedy(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    path = write({**entry, "timeout": "1800"})
    with pytest.raises(CatalogError) as caught:
        load(path)
    expected = f'{path}: /configs/0/timeout [rt-qwen3-4b]: must be a whole number of seconds, not "1800" (write 1800 without quotes)'
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ('{"configs": []}', "/configs", "the catalog is empty", "add an entry"),
        ("[]", "", "must be an object, not []", 'wrap the list: {"configs": [...]}'),
        ("{}", "", '"configs" is missing', ""),
        ('{"config": []}', "/config", 'unknown key "config"', 'did you mean "configs"?'),
        ('{"configs": {}}', "/configs", "must be a list, not {}", ""),
        ('{"configs": ["rt-a"]}', "/configs/0", 'must be an object, not "rt-a"', ""),
    ],
)
def test_a_file_of_the_wrong_shape_is_answered(write: Callable[..., Path], text: str, place: str, message: str, hint: str) -> None:
    result = check(write(text=text))
    assert result.usable
    assert (place, message, hint) in [(one.path, one.message, one.hint) for one in result.mistakes]


def test_control_characters_of_a_file_never_reach_the_terminal(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    entry["args"] = entry["args"].replace("us-west-2", "\x1b[31mred")
    entry["tuneConfig"]["dataset"] = "a\nb"
    assert [mistake.message for mistake in check(write(entry)).mistakes] == [
        '"\\u001b[31mred" is not a known region',
        '"a\\nb" is not an s3 URI',
    ]


def test_a_schema_reference_for_editors_is_allowed(write: Callable[..., Path]) -> None:
    assert check(write(text='{"$schema": "catalog.schema.json", "configs": []}')).mistakes[0].message == "the catalog is empty"


def test_an_entry_is_found_by_id_or_the_nearest_is_named() -> None:
    catalog = load(packaged_catalog())
    assert catalog.entry("rt-qwen3-4b").args.model_name == "Qwen/Qwen3-4B"
    with pytest.raises(CatalogError, match='did you mean "rt-llama-32-1b"'):
        catalog.entry("rt-llama32-1b")


def test_the_golden_path_stands_in_three_tiers() -> None:
    catalog = load(packaged_catalog())
    assert catalog.summary == "22 entries (ci 11, nightly 7, weekly 4)"
    assert [len(catalog.of_tier(tier)) for tier in Tier] == [11, 7, 4]


def test_the_working_folder_decides_which_catalog_is_the_default(
    entry: dict[str, Any], write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_catalog() == packaged_catalog()
    (tmp_path / "catalog").mkdir()
    write(entry, name="catalog/e2e.json")
    assert default_catalog() == Path("catalog/e2e.json")


def test_reading_costs_grow_with_the_entries_and_not_with_their_square(entry: dict[str, Any], write: Callable[..., Path]) -> None:
    def calls(count: int) -> int:
        entries = [{**entry, "id": f"rt-{number}"} for number in range(count)]
        entries[-1] = {**entries[-1], "timeout": 1, "tier": "nope"}
        path, seen = write(*entries), 0

        def count_call(_frame: object, event: str, _arg: object) -> None:
            nonlocal seen
            seen += event == "call"

        sys.setprofile(count_call)
        try:
            check(path)
        finally:
            sys.setprofile(None)
        return seen

    calls(1)  # first-time imports
    small, large = calls(100), calls(400)
    assert large < small * 4.4


def test_importing_the_catalog_loads_no_pydantic() -> None:
    """The pytest plugin imports it in every session, also in those that never use it."""
    code = "import sys, pytest_mlcc.catalog; sys.exit('pydantic' in sys.modules or 'difflib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
