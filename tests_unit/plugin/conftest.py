"""A whole project for each test: a small catalog, the few lines of a lifecycle test, and a site on the file system."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SHORT = ["build", "deploy", "test", "clean"]
FULL = ["build", "push", "deploy", "test", "tune-sft", "adapter-add", "test-adapter", "clean"]
MODELS = ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-1.7B", "Qwen/Qwen3-4B", "meta-llama/Llama-3.2-1B-Instruct")
TUNE_IDS = (
    "huggingface-reasoning-qwen3-06b",
    "huggingface-reasoning-qwen3-1-7b",
    "huggingface-reasoning-qwen3-4b",
    "meta-textgeneration-llama-3-2-1b-instruct",
)
CONFTEST = """
import sys
sys.path.insert(0, {here!r})
from fake_site import FakeSite

def pytest_mlcc_make_site(config, blueprint):
    return FakeSite(blueprint)
"""
LIFECYCLE = """
def test_stage(stage, endpoint):
    endpoint.run(stage)
"""


def entry(name: str, number: int = 0, *, tier: str = "ci", lifecycle: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """A catalog entry; ``number`` chooses its model."""
    args = (
        f"--deployment-config=transformers-vllm --model-name={MODELS[number]} --instance-type=ml.g5.xlarge"
        " --region=us-west-2 --deployment-target=managed-inference --enable-lora"
    )
    tune = {
        "tuneId": TUNE_IDS[number],
        "technique": "sft",
        "trainingType": "lora",
        "dataset": "s3://mlcc-e2e-datasets/sft-small/train.jsonl",
    }
    return {
        "id": name,
        "tier": tier,
        "track": "realtime",
        "args": args,
        "lifecycle": lifecycle or FULL,
        "timeout": 60,
        "tuneTimeout": 60,
        **({"tuneConfig": tune} if "tune-sft" in (lifecycle or FULL) else {}),
        **more,
    }


@dataclass
class Project:
    """A project in a temporary folder, and what a run of it left behind."""

    pytester: pytest.Pytester

    @property
    def path(self) -> Path:
        return self.pytester.path

    def run(self, *args: str, **environment: str) -> pytest.RunResult:
        """Run pytest in a process of its own, as a user would."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            return self.pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:random_order", *args, timeout=60)

    def faults(self, **faults: dict[str, str]) -> None:
        """What goes wrong: entry (underscores for hyphens) -> stage -> fault."""
        (self.path / "faults.json").write_text(json.dumps({name.replace("_", "-"): stages for name, stages in faults.items()}))

    @property
    def events(self) -> list[str]:
        """Every stage the driver was asked for, in order."""
        path = self.path / "events.log"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def records(self) -> list[dict[str, Any]]:
        """Every record that was written."""
        path = self.path / "records.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def record(self, name: str) -> dict[str, Any]:
        """The one record of an entry."""
        (one,) = [record for record in self.records if record["entry"] == name]
        return one

    @property
    def cloud(self) -> list[str]:
        """What is still alive."""
        folder = self.path / "cloud"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def make_project(pytester: pytest.Pytester) -> Callable[..., Project]:
    """Build a project from catalog entries."""

    def make(*entries: dict[str, Any], tests: str = LIFECYCLE, ini: str = "") -> Project:
        (pytester.path / "catalog").mkdir()
        (pytester.path / "catalog" / "e2e.json").write_text(json.dumps({"configs": list(entries)}))
        pytester.makeini(f"[pytest]\nmlcc_catalog = catalog/e2e.json\n{ini}")
        pytester.makeconftest(CONFTEST.format(here=str(HERE)))
        pytester.makepyfile(test_lifecycle=tests)
        return Project(pytester)

    return make


@pytest.fixture(name="entry")
def entry_maker() -> Callable[..., dict[str, Any]]:
    """Builds catalog entries."""
    return entry


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    """Three entries: two of tier ci, one nightly; one id is a prefix of another."""
    return make_project(entry("rt-a", 0), entry("rt-a-fp8", 1), entry("rt-b", 2, tier="nightly"))
