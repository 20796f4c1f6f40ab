"""``mlcc catalog``: what a person sees and what a script reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pytest_mlcc.catalog import packaged_catalog
from pytest_mlcc.cli import main

SHIPPED = packaged_catalog()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a catalog, and no setting from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLCC_CATALOG", raising=False)
    return tmp_path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """The shipped catalog with two mistakes."""
    document = json.loads(SHIPPED.read_text())
    document["configs"][0]["tier"] = "nightley"
    document["configs"][2]["tuneConfig"]["tuneId"] = "qwen3-4b"
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(document))
    return path


def mlcc(*args: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["catalog", *map(str, args)], env=env)


def test_a_sound_catalog_is_one_line_and_exit_zero() -> None:
    result = mlcc("check", SHIPPED)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{SHIPPED}: 22 entries (ci 11, nightly 7, weekly 4) ok",
        "14 warnings; list with --warnings",
    ]


def test_warnings_are_listed_on_request_and_change_no_exit_code() -> None:
    result = mlcc("check", SHIPPED, "--warnings")
    assert result.exit_code == 0
    assert "[rt-qwen3-14b]: 29.5 GB of weights do not fit into the 24 GB" in result.stdout


def test_every_mistake_is_printed_with_its_remedy_and_exit_one(broken: Path) -> None:
    result = mlcc("check", broken)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:5] == [
        f'{broken}: /configs/0/tier [rt-qwen3-06b]: "nightley" is not allowed here',
        '    did you mean "nightly"? one of: ci, nightly, weekly',
        f'{broken}: /configs/2/tuneConfig/tuneId [rt-qwen3-4b]: "qwen3-4b" is not a model of tune.json',
        '    did you mean "huggingface-reasoning-qwen3-4b"? It is the one for Qwen/Qwen3-4B',
        f"{broken}: 2 mistakes",
    ]


@pytest.mark.parametrize("text", [None, "{ not json"])
def test_a_file_that_holds_no_catalog_is_exit_two(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "none.json"
    if text is not None:
        path.write_text(text)
    result = mlcc("check", path)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert str(path) in result.stderr


def test_an_unknown_option_is_exit_two() -> None:
    assert mlcc("check", "--jsn").exit_code == 2


def test_json_is_pure_and_complete(broken: Path) -> None:
    result = mlcc("check", broken, "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["ok"], told["file"]) == (False, str(broken))
    assert told["mistakes"][0] == {
        "file": str(broken),
        "path": "/configs/0/tier",
        "entry": "rt-qwen3-06b",
        "message": '"nightley" is not allowed here',
        "hint": 'did you mean "nightly"? one of: ci, nightly, weekly',
    }


def test_json_of_a_sound_catalog_counts_and_names_the_companions() -> None:
    told = json.loads(mlcc("check", SHIPPED, "--json").stdout)
    assert (told["ok"], told["entries"], told["tiers"]) == (True, 22, {"ci": 11, "nightly": 7, "weekly": 4})
    assert told["companions"]["tune"] == str(SHIPPED.parent / "tune.json")
    assert (told["packaged"], told["mistakes"], len(told["warnings"])) == ([], [], 14)


def test_lent_companions_are_said_to_be_lent(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(SHIPPED.read_text())
    lines = mlcc("check", path).stdout.splitlines()
    assert f"tune: none beside the catalog, checked against the packaged {SHIPPED.parent / 'tune.json'}" in lines


def test_the_default_is_the_folders_catalog_then_the_packaged_one(tmp_path: Path) -> None:
    packaged = mlcc("check")
    assert packaged.stdout.startswith(f"{SHIPPED}: 22 entries")
    assert "this is the packaged catalog" in packaged.stderr
    (tmp_path / "catalog").mkdir()
    document = json.loads(SHIPPED.read_text())
    (tmp_path / "catalog" / "e2e.json").write_text(json.dumps({"configs": document["configs"][:1]}))
    own = mlcc("check")
    assert own.stdout.startswith("catalog/e2e.json: 1 entry (ci 1) ok")
    assert own.stderr == ""


def test_the_environment_names_the_file_as_it_does_for_pytest(broken: Path) -> None:
    assert mlcc("check", env={"MLCC_CATALOG": str(broken)}).exit_code == 1


def test_the_list_shows_one_row_per_entry_with_its_price() -> None:
    lines = mlcc("list", SHIPPED, "--tier", "weekly").stdout.splitlines()
    rows = [line.split() for line in lines if line.strip().startswith("rt-")]
    assert rows[1] == ["rt-llama-33-70b", "weekly", "meta-llama/Llama-3.3-70B-Instruct", "ml.g5.48xlarge", "20.09"]
    assert len(rows) == 4
    assert "prices of 2026-11-20: price table of ml-container-creator 1.6.0's path prover, not read from AWS" in lines


def test_an_unknown_price_is_shown_as_unknown(tmp_path: Path) -> None:
    path = tmp_path / "e2e.json"
    path.write_text(SHIPPED.read_text().replace("ml.g5.xlarge", "ml.g6.xlarge"))
    result = mlcc("list", path, "--tier", "ci")
    assert [line.split()[-1] for line in result.stdout.splitlines() if line.strip().startswith("rt-")] == ["unknown"] * 11


def test_the_list_as_json_has_what_a_script_needs() -> None:
    rows: list[dict[str, Any]] = json.loads(mlcc("list", SHIPPED, "--json").stdout)
    assert len(rows) == 22
    assert rows[2] == {
        "id": "rt-qwen3-4b",
        "tier": "ci",
        "track": "realtime",
        "model": "Qwen/Qwen3-4B",
        "deploymentConfig": "transformers-vllm",
        "instance": "ml.g5.xlarge",
        "region": "us-west-2",
        "configId": "94dd91353c8b20ca",
        "gated": False,
        "driver": None,
        "usdPerHour": 1.21,
        "priceAsOf": "2026-11-20",
    }
    assert [row["id"] for row in rows if row["gated"]] == ["rt-llama-32-1b", "rt-llama-32-3b", "rt-llama-31-8b", "rt-llama-33-70b"]


def test_a_broken_catalog_is_not_listed(broken: Path) -> None:
    result = mlcc("list", broken)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "2 mistakes" in result.stderr


@pytest.mark.parametrize("kind", ["catalog", "tune", "instances", "deployment-configs"])
def test_the_schema_of_each_file_can_be_printed(kind: str) -> None:
    assert json.loads(mlcc("schema", kind).stdout)["type"] == "object"


def test_the_installed_command_works_without_colours_in_a_pipe(broken: Path) -> None:
    command = Path(sys.executable).with_name("mlcc")
    done = subprocess.run([command, "catalog", "check", broken], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "\x1b[" not in done.stdout
    assert '"nightley" is not allowed here' in done.stdout


def test_the_packaged_catalog_can_be_copied() -> None:
    assert Path(mlcc("path").stdout.strip()).is_file()
    assert mlcc("path", "mine.json").stdout == "mine.json\n"
