"""The engine serves from outside of a container: it must be told where on this machine a container's files lie."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from pytest_mlcc.localaws import engine


@pytest.fixture(scope="module")
def server() -> ModuleType:
    path = Path(engine.__path__[0]) / "standin/vllm/entrypoints/openai/api_server.py"
    spec = importlib.util.spec_from_file_location("standin_api_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_directories_of_the_containers_own_are_translated_and_others_are_not(
    server: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ml/model", "ml/kept/adapter", "else"):
        (tmp_path / name).mkdir(parents=True)
    places = {f"{tmp_path}/ml": "/host/work/opt/ml", f"{tmp_path}/ml/kept": "/host/kept"}
    monkeypatch.setenv("MLCC_PLACES", json.dumps(places))
    monkeypatch.setenv("MLCC_TWINS_DIR", f"{tmp_path}/else")
    words = ["--model", f"{tmp_path}/ml/model", "--lora-modules", f"one={tmp_path}/ml/kept/adapter", f"two={tmp_path}/else"]
    options = server._options(server._parser().parse_args(words))
    assert options["model"] == "/host/work/opt/ml/model"
    assert options["lora_modules"] == {"one": "/host/kept/adapter", "two": f"{tmp_path}/else"}
    assert options["cache"] == f"{tmp_path}/else"


def test_a_models_name_is_no_directory(server: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLCC_PLACES", raising=False)
    assert server._options(server._parser().parse_args(["--model", "Qwen/Qwen3-4B"]))["model"] == "Qwen/Qwen3-4B"
