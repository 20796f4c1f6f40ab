"""A sound entry, and a way to write a catalog that differs from it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ENTRY: dict[str, Any] = {
    "id": "rt-qwen3-4b",
    "tier": "ci",
    "track": "realtime",
    "args": "--deployment-config=transformers-vllm --model-name=Qwen/Qwen3-4B --instance-type=ml.g5.xlarge"
    " --region=us-west-2 --deployment-target=managed-inference --enable-lora",
    "lifecycle": ["build", "push", "deploy", "test", "tune-sft", "adapter-add", "test-adapter", "clean"],
    "timeout": 1800,
    "tuneTimeout": 3600,
    "tuneConfig": {
        "tuneId": "huggingface-reasoning-qwen3-4b",
        "technique": "sft",
        "trainingType": "lora",
        "dataset": "s3://mlcc-e2e-datasets/sft-small/train.jsonl",
    },
}


@pytest.fixture
def entry() -> dict[str, Any]:
    """A sound entry to change."""
    return copy.deepcopy(ENTRY)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write entries (or any text) to a catalog file."""

    def write(*entries: Any, text: str | None = None, name: str = "e2e.json") -> Path:
        path = tmp_path / name
        path.write_text(json.dumps({"configs": list(entries)}) if text is None else text, encoding="utf-8")
        return path

    return write
