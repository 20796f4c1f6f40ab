"""The docker command's half that an engine does."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlcc.localaws.images.docker_engine import EngineImages
from pytest_mlcc.localaws.images.engine import Engine, Kind

ECR = "123456789012.dkr.ecr.us-west-2.amazonaws.com"


def test_images_are_those_that_builds_named_whether_for_ecr_or_for_no_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts look for what they built by these names, and remove it; podman calls images without a registry ``localhost/...``."""
    program = tmp_path / "engine"
    names = [f"{ECR}/app", "localhost/app", "docker.io/library/debian", "127.0.0.1:5000/app", "<none>"]
    lines = "".join(f"{name}\\t1\\tabc\\tnow\\t2 MB\\n" for name in names)
    program.write_text(f"#!/bin/sh\nprintf '{lines}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:5000")
    engine = Engine(Kind.PODMAN, str(program), "1", tmp_path / "state", {"PATH": "/usr/bin:/bin"})
    listed = EngineImages(engine, notes=tmp_path / "notes").listed()
    assert [row[:3] for row in listed] == [(f"{ECR}/app", "1", "abc"), ("app", "1", "abc")]
