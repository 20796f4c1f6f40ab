"""What the plugin costs: 10,000 items through it, against items of the same shape (ids, marks, fixtures) without it, in the same run."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

STAGES = 9
ENTRIES = 1_112  # x 9 stages = 10,008 items
ROUNDS = 3
ROOT = Path(__file__).resolve().parents[2]

LIFECYCLE = "def test_stage(stage, endpoint): pass\n"
PLAIN = f"""
import pytest

@pytest.fixture(scope="session")
def endpoints(): yield {{}}

@pytest.fixture
def stage(cell): return cell

@pytest.fixture
def endpoint(endpoints, cell): return endpoints

marks = [pytest.mark.ci, pytest.mark.timeout(0)]
more = [[*marks, pytest.mark.entry(name=n), pytest.mark.stage(name=n)] for n in range({ENTRIES * STAGES})]
cells = [pytest.param(n, id=f"rt-{{n}}-deploy", marks=more[n]) for n in range({ENTRIES * STAGES})]

@pytest.mark.parametrize("cell", cells)
def test_stage(stage, endpoint): pass
"""
CONFTEST = """
from pathlib import Path

class Nothing:
    secrets = ()

    def __getattr__(self, name): return lambda *args, **kwargs: ()

def pytest_mlcc_make_site(config, blueprint): return Nothing()
"""


def main() -> None:
    """Print processor seconds of both (a busy machine changes them little), the ratio, and milliseconds per item."""
    with tempfile.TemporaryDirectory(prefix="mlcc-bench-") as folder:
        project = Path(folder)
        _write(project)
        times: dict[str, list[float]] = {"plain": [], "plugin": []}
        for _ in range(ROUNDS):
            times["plain"].append(_run(project, "test_plain.py", "-p", "no:mlcc", "--noconftest", "-c", "plain.ini"))
            times["plugin"].append(_run(project, "test_lifecycle.py"))
        _show(times)


def _write(project: Path) -> None:
    one = json.loads((ROOT / "catalog" / "e2e.json").read_text())["configs"][0]
    (project / "e2e.json").write_text(json.dumps({"configs": [{**one, "id": f"rt-{number}"} for number in range(ENTRIES)]}))
    (project / "pytest.ini").write_text("[pytest]\nmlcc_catalog = e2e.json\n")
    (project / "plain.ini").write_text("[pytest]\nmarkers =\n    ci\n    entry\n    stage\n    timeout\n")
    (project / "conftest.py").write_text(CONFTEST)
    (project / "test_lifecycle.py").write_text(LIFECYCLE)
    (project / "test_plain.py").write_text(PLAIN)


def _run(project: Path, *args: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:rerunfailures", *args]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-2000:])
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _show(times: dict[str, list[float]]) -> None:
    plain, plugin = (statistics.median(times[name]) for name in ("plain", "plugin"))
    items = ENTRIES * STAGES
    each = (plugin - plain) / items * 1000
    print(f"overhead of the plugin at {items:,} items (processor seconds, median of {ROUNDS})")
    print(f"  plain pytest      {plain:6.2f} s")
    print(f"  with pytest-mlcc  {plugin:6.2f} s   ratio {plugin / plain:.2f}, {each:.2f} ms per item (goal: at most 0.30)")


if __name__ == "__main__":
    main()
