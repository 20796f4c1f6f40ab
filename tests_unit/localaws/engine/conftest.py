"""One warm parent and one twin cache for all engine tests; everything lives under pytest's temporary directory."""

from __future__ import annotations

import json
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.localaws.engine.launch import EngineChild, EngineProcess, spawn

DATASETS = Path(__file__).parents[3] / "pytest_mlcc" / "localaws" / "datasets"
QWEN3 = "Qwen/Qwen3-4B"


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any

    @property
    def text(self) -> str:
        return self.body["choices"][0]["message"]["content"]

    @property
    def error(self) -> dict[str, Any]:
        return self.body["error"]


@dataclass(frozen=True)
class Endpoint:
    """A served twin and how to talk to it."""

    port: int
    name: str
    child: EngineChild | None = None

    def call(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Reply:
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, headers=headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return _reply(response.status, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return _reply(error.code, error.read())

    def chat(self, prompt: str, **options: Any) -> Reply:
        return self.call("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": prompt}], **options})

    def load(self, name: str, path: object) -> Reply:
        return self.call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})

    def unload(self, name: str) -> Reply:
        return self.call("POST", "/v1/unload_lora_adapter", {"lora_name": name})


def _reply(status: int, data: bytes) -> Reply:
    try:
        return Reply(status, json.loads(data))
    except ValueError:
        return Reply(status, data.decode())


def eventually(condition: Callable[[], object], timeout: float = 20.0) -> None:
    """Poll until ``condition`` holds; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.01)


def answers(port: int) -> bool:
    try:
        return Endpoint(port, "").call("GET", "/ping").status == 200
    except OSError:
        return False


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("twins")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[EngineProcess]:
    log = tmp_path_factory.mktemp("engine") / "engine.log"
    # pytest's own directories can be too long for a socket's path.
    with tempfile.TemporaryDirectory(prefix="mlcc-") as short:
        with EngineProcess.start(socket_path=Path(short) / "engine.sock", cache_dir=cache, log_path=log) as process:
            yield process
        assert log.read_text() == "", "the warm parent wrote errors"


@pytest.fixture(scope="session")
def work(engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[int, str]]:
    """Run a job to its end: its exit code and what it printed."""

    def run(op: str, **options: Any) -> tuple[int, str]:
        log = tmp_path_factory.mktemp("job") / "log"
        with log.open("wb") as stream, spawn(engine.socket_path, op, options, stdout=stream.fileno()) as child:
            code = child.wait(120)
        return code, log.read_text(encoding="utf-8")

    return run


@pytest.fixture(scope="session")
def serve(engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Endpoint]]:
    """Start endpoints on free ports; all of them end with the session."""
    children: list[EngineChild] = []

    def start(model: str, **options: Any) -> Endpoint:
        log = tmp_path_factory.mktemp("endpoint") / "log"
        with log.open("wb") as stream:
            child = spawn(engine.socket_path, "serve", {"model": model, "port": 0, **options}, stdout=stream.fileno())
        children.append(child)
        eventually(lambda: "serves on" in log.read_text() or child.poll() is not None)
        assert child.poll() is None, log.read_text()
        return Endpoint(int(log.read_text().partition("127.0.0.1:")[2].split()[0]), options.get("served_name", model), child)

    yield start
    for child in children:
        child.close()


@pytest.fixture(scope="session")
def qwen3(serve: Callable[..., Endpoint]) -> Endpoint:
    """An endpoint shared by tests that leave it as they found it."""
    return serve(QWEN3)


@pytest.fixture(scope="session")
def facts() -> list[dict[str, str]]:
    """Six rows of the data set that ships."""
    return [json.loads(line) for line in (DATASETS / "sft-small" / "train.jsonl").read_text().splitlines()][:6]


@pytest.fixture(scope="session")
def tune(
    work: Callable[..., tuple[int, str]], facts: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Fine-tune a model on the six rows; the job's output directory."""

    def run(model: str) -> Path:
        out = tmp_path_factory.mktemp("tuned")
        data = out / "train.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in facts))
        code, log = work("finetune", model=model, dataset=str(data), output=str(out))
        assert code == 0, log
        return out

    return run


@pytest.fixture(scope="session")
def qwen3_adapter(tune: Callable[[str], Path]) -> Path:
    return tune(QWEN3) / "checkpoints" / "hf"
