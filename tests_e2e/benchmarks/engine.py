"""The engine's children: seconds to the first answer and private memory per endpoint, forked against a fresh process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from pytest_mlcc.localaws.engine.launch import CACHE_VARIABLE, EngineProcess, spawn
from pytest_mlcc.localaws.runtime.command import free_port

MODEL = "Qwen/Qwen3-4B"
ENDPOINTS = 4
STANDIN = Path(__file__).resolve().parents[2] / "pytest_mlcc" / "localaws" / "engine" / "standin"


def main() -> None:
    """Print both ways side by side."""
    with tempfile.TemporaryDirectory(prefix="mlcc-bench-") as folder:
        place = Path(folder)
        with (place / "log").open("wb") as log:
            forked = _forked(place, log.fileno())
            fresh = _fresh(place, log.fileno())
    print(f"an endpoint of {MODEL} (median of {ENDPOINTS})")
    print(f"  fresh process   {fresh[0]:5.2f} s to /ping, {fresh[1]:4.0f} MB private")
    print(f"  forked          {forked[0]:5.2f} s to /ping, {forked[1]:4.0f} MB private   {fresh[0] / forked[0]:.0f} times as fast")
    print(f"  (the warm parent behind it: {forked[2]:.1f} s once, {forked[3]:.0f} MB)")


def _forked(place: Path, log: int) -> tuple[float, float, float, float]:
    socket = place / "e.sock"
    begin = time.perf_counter()
    with EngineProcess.start(socket_path=socket, cache_dir=place / "twins", log_path=place / "engine.log") as parent:
        parent.wait_ready(60)
        warm = time.perf_counter() - begin
        built = spawn(socket, "twin", {"model": MODEL}, stdout=log)
        built.wait(120)
        found = []
        for _ in range(ENDPOINTS):
            port = free_port()
            begin = time.perf_counter()
            child = spawn(socket, "serve", {"model": MODEL, "port": port}, stdout=log)
            _answers(port)
            found.append((time.perf_counter() - begin, _private(child.pid)))
            child.close()
        return (*_medians(found), warm, _private(parent.pid))


def _fresh(place: Path, log: int) -> tuple[float, float]:
    environment = {**os.environ, CACHE_VARIABLE: str(place / "twins"), "PYTHONPATH": str(STANDIN), "OMP_NUM_THREADS": "1"}
    found = []
    for _ in range(ENDPOINTS):
        port = free_port()
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", MODEL, "--port", str(port)]
        begin = time.perf_counter()
        with subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
            _answers(port)
            found.append((time.perf_counter() - begin, _private(process.pid)))
            process.kill()
    return _medians(found)


def _answers(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.005)
    raise SystemExit(f"nothing answers on port {port}")


def _private(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


def _medians(found: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(one for one, _ in found), statistics.median(two for _, two in found)


if __name__ == "__main__":
    main()
