"""A catalog is always held against companion files, and never against others than the ones it names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.catalog import check, load, packaged_catalog

FOLDER = packaged_catalog().parent


@pytest.fixture
def catalog(entry: dict[str, Any], write: Callable[..., Path], tmp_path: Path) -> Path:
    """A catalog with its own copies of the companions."""
    for name in ("tune.json", "instances.json", "deployment-configs.json"):
        shutil.copy(FOLDER / name, tmp_path / name)
    return write(entry)


def change(path: Path, edit: Callable[[Any], Any]) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def test_files_beside_the_catalog_are_used(catalog: Path) -> None:
    found = load(catalog)
    assert found.packaged == ()
    assert found.companions["tune"] == catalog.parent / "tune.json"


def test_the_packages_own_files_are_lent_and_said_to_be(catalog: Path) -> None:
    (catalog.parent / "tune.json").unlink()
    found = load(catalog)
    assert found.packaged == ("tune",)
    assert found.companions["tune"] == FOLDER / "tune.json"


def test_a_chosen_file_is_never_replaced(catalog: Path, tmp_path: Path) -> None:
    (mistake,) = check(catalog, companions={"tune": tmp_path / "mine.json"}).mistakes
    assert (mistake.file, mistake.message) == (tmp_path / "mine.json", "no such file")
    with pytest.raises(KeyError, match="no such companion: tunes"):
        check(catalog, companions={"tunes": tmp_path / "mine.json"})


@pytest.mark.parametrize("name", ["tune.json", "instances.json", "deployment-configs.json"])
def test_an_unreadable_companion_is_a_mistake_and_not_a_skipped_check(catalog: Path, name: str) -> None:
    (catalog.parent / name).write_text("{ not json")
    result = check(catalog)
    assert result.catalog is None
    assert [(mistake.file.name, mistake.path) for mistake in result.mistakes] == [(name, "1:3")]


def test_mistakes_of_catalog_and_companions_are_told_together(catalog: Path) -> None:
    change(catalog, lambda document: document["configs"][0].update(timeout=1))
    change(catalog.parent / "instances.json", lambda document: document["instances"]["ml.g5.xlarge"].pop("gpus"))
    result = check(catalog)
    assert [(mistake.file.name, mistake.path) for mistake in result.mistakes] == [
        ("e2e.json", "/configs/0/timeout"),
        ("instances.json", "/instances/ml.g5.xlarge"),
    ]


@pytest.mark.parametrize(
    ("file", "edit", "place", "message"),
    [
        (
            "tune.json",
            lambda d: d["models"]["openai-reasoning-gpt-oss-20b"].update(huggingFaceId="openai/gpt-oss-120b"),
            "/models/openai-reasoning-gpt-oss-20b",
            '"openai/gpt-oss-120b" is already that of /models/openai-reasoning-gpt-oss-120b',
        ),
        ("tune.json", lambda d: d["models"]["openai-reasoning-gpt-oss-20b"].pop("eula"), "/models/openai-reasoning-gpt-oss-20b", '"eula"'),
        (
            "tune.json",
            lambda d: d["models"]["openai-reasoning-gpt-oss-20b"]["techniques"].update(spo={}),
            "/models/openai-reasoning-gpt-oss-20b/techniques/spo",
            '"spo" is not allowed here',
        ),
        (
            "instances.json",
            lambda d: d["instances"]["ml.g5.xlarge"]["price"].update(asOf="2026-02-30"),
            "/instances/ml.g5.xlarge/price/asOf",
            "no such day",
        ),
        (
            "instances.json",
            lambda d: d["instances"]["ml.g5.xlarge"]["price"].pop("source"),
            "/instances/ml.g5.xlarge/price",
            '"source" is missing',
        ),
        (
            "instances.json",
            lambda d: d["instances"]["ml.g5.xlarge"]["price"].update(usdPerHour=0),
            "/instances/ml.g5.xlarge/price/usdPerHour",
            "greater than 0",
        ),
        (
            "instances.json",
            lambda d: d["instances"]["ml.g5.xlarge"].update(gpuMemoryGb=None),
            "/instances/ml.g5.xlarge/gpuMemoryGb",
            "GPU memory",
        ),
        ("deployment-configs.json", lambda d: d["configs"][1].update(name="transformers-vllm"), "/configs/1", "already that of /configs/0"),
    ],
)
def test_companions_have_rules_of_their_own(catalog: Path, file: str, edit: Callable[[Any], Any], place: str, message: str) -> None:
    change(catalog.parent / file, edit)
    told = check(catalog).mistakes
    assert any(one.file.name == file and one.path == place and message in one.message for one in told), told


def test_an_instance_of_ones_own_is_known_at_once(catalog: Path) -> None:
    own = {"gpus": 1, "gpuType": "X", "gpuMemoryGb": 96, "vcpus": 8, "memoryGb": 64, "price": None}
    change(catalog.parent / "instances.json", lambda document: document["instances"].update({"ml.x9.large": own}))
    change(catalog, lambda d: d["configs"][0].update(args=d["configs"][0]["args"].replace("ml.g5.xlarge", "ml.x9.large")))
    found = load(catalog).entries[0].instance
    assert found is not None
    assert found.usd_per_hour is None
