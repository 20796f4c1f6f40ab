"""Twins: the same on every build, whole or rebuilt, and built once however many want them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

MODEL = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"


def _files(work: Callable, cache: Path, model: str = MODEL) -> dict[str, bytes]:
    code, log = work("twin", model=model, cache=str(cache))
    assert code == 0, log
    twin = Path(log.strip())
    assert twin.parent == cache
    return {path.name: path.read_bytes() for path in twin.iterdir()}


def test_a_twin_has_its_familys_class_and_the_same_bytes_on_every_build(work, cache: Path, tmp_path: Path) -> None:
    first = _files(work, cache)
    assert first == _files(work, tmp_path)
    assert json.loads(first["config.json"])["architectures"] == ["Qwen2ForCausalLM"]
    assert b"Assistant" in first["chat_template.jinja"]


@pytest.mark.parametrize("damage", ["truncated", "missing", "manifest"])
def test_a_damaged_twin_is_rebuilt(work, cache: Path, tmp_path: Path, damage: str) -> None:
    _files(work, cache)
    for twin in cache.glob("deepseek-llm-r1-distill-qwen-1-5b-*"):
        if twin.is_dir():
            shutil.copytree(twin, tmp_path / twin.name)
    whole = _files(work, tmp_path)
    (twin,) = (path for path in tmp_path.iterdir() if path.is_dir())
    if damage == "truncated":
        (twin / "model.safetensors").write_bytes(whole["model.safetensors"][:1000])
    elif damage == "missing":
        (twin / "tokenizer.json").unlink()
    else:
        (twin / "twin.json").write_text("{")
    assert _files(work, tmp_path) == whole


def test_processes_that_want_the_same_twin_build_it_once(work, tmp_path: Path) -> None:
    (tmp_path / ".leftover").mkdir()
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: _files(work, tmp_path), range(3)))
    assert found[0] == found[1] == found[2]
    directories = [path.name for path in tmp_path.iterdir() if path.is_dir() and path.name != ".leftover"]
    assert len(directories) == 1, "no scratch directory is left"


def test_two_models_of_a_family_are_not_the_same_twin(work, tmp_path: Path) -> None:
    one, other = _files(work, tmp_path), _files(work, tmp_path, "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B")
    assert one["model.safetensors"] != other["model.safetensors"]
    assert one["tokenizer.json"] == other["tokenizer.json"]


def test_an_unknown_model_is_refused_with_the_one_meant(work, tmp_path: Path) -> None:
    code, log = work("twin", model="deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5b", cache=str(tmp_path))
    assert (code, f"Did you mean {MODEL}" in log) == (1, True)
