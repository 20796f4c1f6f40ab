"""The ci tier on the local AWS: the first time, with cached twins, where the time goes, and against fresh processes one by one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from engine import STANDIN, _answers

from pytest_mlcc.catalog import load
from pytest_mlcc.localaws.engine.launch import CACHE_VARIABLE
from pytest_mlcc.localaws.runtime.command import free_port

ROOT = Path(__file__).resolve().parents[2]
WORKERS = os.cpu_count() or 2
DATASET = ROOT / "pytest_mlcc" / "localaws" / "datasets" / "sft-small" / "train.jsonl"


def main() -> None:
    """Print the wall time of two runs, the share of each stage, and the ratio to the baseline."""
    with tempfile.TemporaryDirectory(prefix="mlcc-bench-") as folder:
        project = fill(Path(folder))
        first, cached = run(project, "-n", str(WORKERS)), run(project, "-n", str(WORKERS))
        baseline = _one_by_one(project)
        _show(project, first, cached, baseline)


def fill(project: Path) -> Path:
    """A project with the golden catalog and the lifecycle test."""
    shutil.copytree(ROOT / "catalog", project / "catalog")
    shutil.copy(ROOT / "tests_e2e" / "test_lifecycle.py", project)
    (project / "pytest.ini").write_text("[pytest]\nmlcc_catalog = catalog/e2e.json\n")
    return project


def run(project: Path, *options: str) -> float:
    """The wall time of the ci tier, in seconds."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-m", "ci", *options, "test_lifecycle.py"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stdout[-4000:] + done.stderr[-2000:])
    return time.perf_counter() - begin


def _one_by_one(project: Path) -> float:
    """Serve, ask, and fine-tune each model in fresh processes, one after the other: what a script would do."""
    begin = time.perf_counter()
    environment = {**os.environ, CACHE_VARIABLE: str(project / ".mlcc" / "twins"), "PYTHONPATH": str(STANDIN), "OMP_NUM_THREADS": "1"}
    for entry in load(ROOT / "catalog" / "e2e.json").entries:
        if entry.tier == "ci" and entry.args.model_name:
            _one(project, entry.args.model_name, environment)
    return time.perf_counter() - begin


def _one(project: Path, model: str, environment: dict[str, str]) -> None:
    port = free_port()
    with (project / "log").open("ab") as log:
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--port", str(port)]
        with subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
            _answers(port)
            options = {"model": model, "dataset": str(DATASET), "output": str(project / "tuned"), "cache": environment[CACHE_VARIABLE]}
            tune = [sys.executable, "-m", "pytest_mlcc.localaws.engine.ops", "finetune", json.dumps(options)]
            subprocess.run(tune, env=environment, stdout=log, stderr=log, check=True)
            server.kill()


def shares_of(project: Path, what: str) -> Counter[str]:
    """The seconds that the stages of the last run took, by ``what``: by ``stage`` or by ``entry``."""
    shares: Counter[str] = Counter()
    for path in (max((project / ".mlcc" / "runs").iterdir()) / "journal").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "outcome":
                shares[event["outcome"][what]] += event["outcome"]["seconds"]
    return shares


def _show(project: Path, first: float, cached: float, baseline: float) -> None:
    shares = shares_of(project, "stage")
    print(f"the ci tier, 11 models x 9 stages, {WORKERS} workers")
    print(f"  first time (makes the twins)   {first:6.1f} s   (at most 90)")
    print(f"  with cached twins              {cached:6.1f} s   (at most 45, goal 25)")
    print(f"  serve and tune alone, one by one in fresh processes {baseline:6.1f} s   ratio {baseline / cached:.1f}")
    print(f"  where the {WORKERS} x {cached:.1f} s of the cached run went:")
    for stage, seconds in shares.most_common():
        print(f"    {stage:<14} {seconds:6.1f} s")
    print(f"    {'all else':<14} {WORKERS * cached - sum(shares.values()):6.1f} s   start of pytest, workers, local AWS; end")


if __name__ == "__main__":
    main()
