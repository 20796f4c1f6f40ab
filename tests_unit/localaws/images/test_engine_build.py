"""Which bases a real build needs, and under which names the engine finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlcc.localaws.images import engine_build
from pytest_mlcc.localaws.images.engine import Engine, EngineError, Kind
from pytest_mlcc.localaws.images.engine_build import bases, build

ECR = "123456789012.dkr.ecr.us-west-2.amazonaws.com"


def test_bases_are_those_of_from_and_copy_with_arguments_filled_in_and_without_stages() -> None:
    text = (
        "ARG TAG=3.11\nARG IMAGE=python:$TAG\nFROM --platform=linux/amd64 ${IMAGE} AS one\nRUN x\nFROM scratch\n"
        "COPY --from=one /a /a\nCOPY --from=0 /a /a\nCOPY --from=busybox:1 /b /b\nFROM One AS three\n"
    )
    assert bases(text, {}) == ["python:3.11", "busybox:1"]
    assert bases(text, {"TAG": "3.12"}) == ["python:3.12", "busybox:1"]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine that keeps the Dockerfile and the words it is called with; it fails where there is a file ``fail``."""
    program = tmp_path / "engine"
    keeps = f'printf "%s\\n" "$@" > {tmp_path}/words\ncp "$3" {tmp_path}/seen\n'
    program.write_text(f'#!/bin/sh\n[ "$1" = build ] || exit 1\n{keeps}[ ! -e {tmp_path}/fail ]\n')
    program.chmod(0o755)
    monkeypatch.setattr(engine_build, "ensure_base", lambda engine: "localhost/stand-in:1")
    return Engine(Kind.PODMAN, str(program), "1", tmp_path / "state", {"PATH": "/usr/bin:/bin"})


def _built(engine: Engine, text: str, tmp_path: Path, **arguments: str) -> list[str]:
    (tmp_path / "Dockerfile").write_text(text)
    build(engine, tmp_path, tmp_path / "Dockerfile", options=["--tag", "x"], arguments=arguments, registry="127.0.0.1:5000")
    return (tmp_path / "seen").read_text().splitlines()


def test_ecrs_images_come_from_the_local_registry_and_stand_ins_from_this_machine(engine: Engine, tmp_path: Path) -> None:
    text = f"FROM {ECR}/team/base:2 as a\nRUN x\nfrom \\\n  vllm/vllm-openai:v1\nCOPY --chmod=755 --from={ECR}/tools:1 /t \\\n /t\nCMD x\n"
    assert _built(engine, text, tmp_path) == [
        "FROM 127.0.0.1:5000/team/base:2 as a", "RUN x", "FROM localhost/stand-in:1", "",
        "COPY --chmod=755 --from=127.0.0.1:5000/tools:1 /t \\", " /t", "CMD x",
    ]  # fmt: skip
    words = (tmp_path / "words").read_text().splitlines()
    assert words[-3:] == ["--tag", "x", str(tmp_path)]
    assert f"{engine_build.RUN_LABEL}=container" in words


def test_other_bases_are_the_engines_business(engine: Engine, tmp_path: Path) -> None:
    assert _built(engine, "ARG B=debian\nFROM $B\nRUN x\n", tmp_path) == ["ARG B=debian", "FROM $B", "RUN x"]
    assert _built(engine, "ARG B=debian\nFROM $B\nRUN x\n", tmp_path, B="vllm/vllm-openai")[1] == "FROM localhost/stand-in:1"


def test_a_build_that_fails_says_by_whom(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "fail").touch()
    with pytest.raises(EngineError, match="podman build ended with exit code 1"):
        _built(engine, "FROM x\nRUN y\n", tmp_path)
