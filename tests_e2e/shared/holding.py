"""Runs that wait in the middle until a test has seen what it wants to see."""

from __future__ import annotations

from pathlib import Path

__all__ = ["holding_after", "let_go"]

_TESTS = """
import pathlib, time, pytest

def test_stage(stage, endpoint):
    endpoint.run(stage)

@pytest.mark.stage(after="{stage}")
def test_hold(endpoint):
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
"""


def holding_after(stage: str) -> str:
    """A test module whose lifecycles wait after that stage until :func:`let_go`."""
    return _TESTS.format(stage=stage)


def let_go(project: Path) -> None:
    """Let the runs of a project go on."""
    (project / "go").touch()
