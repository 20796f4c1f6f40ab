"""The engine dies by accident (out of memory, a careless kill): what comes next must work again, or say why not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pytest_mlcc.localaws.engine.keep import KeptEngine
from pytest_mlcc.localaws.engine.launch import EngineProcess


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[KeptEngine]:
    def start() -> EngineProcess:
        return EngineProcess.start(socket_path=tmp_path / "e.sock", cache_dir=tmp_path, log_path=tmp_path / "engine.log")

    engine = KeptEngine(start)
    yield engine
    engine.stop(5.0)


def _kill(engine: KeptEngine) -> int:
    _until(lambda: engine.pid is not None)
    pid = engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    _until(lambda: engine.pid != pid)
    return pid


def test_a_killed_engine_is_started_again_and_a_stopped_one_is_not(kept: KeptEngine) -> None:
    first = _kill(kept)
    _until(lambda: kept.pid is not None)
    second = kept.pid
    assert second != first
    kept.stop(5.0)
    assert second is not None
    assert not psutil.pid_exists(second)


def test_one_that_keeps_dying_is_given_up_with_the_reason(kept: KeptEngine) -> None:
    for _ in range(3):
        _kill(kept)
    _until(lambda: kept.state.startswith("unavailable"))
    assert "died 3 times" in kept.state
    assert "engine.log" in kept.state
    assert kept.pid is None
